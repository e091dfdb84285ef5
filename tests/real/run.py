"""`make real`: ranks real products and real learning-to-rank data through a served rankd.

Prints tables and, last, one line of JSON. Exit status 2 where the data is absent, 1 where a claim fails.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real import data, icecat, letor

from rankd.cli.output import print_table
from rankd.cli.train import importance_lines
from rankd.learn.bootstrap import Difference


def main() -> int:
    """Both runs."""
    folders = {name: data.folder(name) for name in (data.ICECAT, data.LETOR)}
    absent = [name for name, folder in folders.items() if folder is None]
    if absent:
        click.echo(
            f"real data is absent: {', '.join(absent)}. Set RANKD_DATA to the directory that holds "
            "the folders (default: ../shared/data from the project's root).", err=True,
        )  # fmt: skip
        return 2
    with tempfile.TemporaryDirectory(prefix="rankd-real-") as root:
        for name in ("icecat", "letor"):
            (Path(root) / name).mkdir()
        say("search_chorus_icecat: product search")
        products = icecat.run(folders[data.ICECAT], Path(root) / "icecat", say)
        print_icecat(products)
        say("ltr_lightgbm: 300 request columns")
        columns = letor.run(folders[data.LETOR], Path(root) / "letor")
        print_letor(columns)
    result = {"bench": "real", "icecat": products.document(), "ltr_lightgbm": columns.document()}
    click.echo(json.dumps(result, separators=(",", ":")))
    return 0 if columns.good else 1


_STARTED = time.perf_counter()


def say(text: str) -> None:
    """One line of progress with the seconds so far, on standard error."""
    click.echo(f"[{time.perf_counter() - _STARTED:5.1f} s] {text}", err=True)


def print_icecat(outcome: icecat.Outcome) -> None:
    """Three orders, their differences, and what the model looks at."""
    judged, zero = outcome.judged, outcome.zero
    rows = [
        (name, outcome.interval(first).text(), outcome.interval(second).text())
        for name, first, second in (
            ("BM25", judged.bm25, zero.bm25),
            ("base expression", judged.base, zero.base),
            ("LambdaMART, out of fold", judged.model, zero.model),
            ("the same, unjudged as 0 in training", judged.model_zero, zero.model_zero),
        )
    ]
    count = outcome.interval(judged.model).count
    click.echo(
        f"\nIcecat, NDCG@{icecat.K} of {count} queries that have a relevant product ({outcome.list_count - count} have "
        f"none), 95 % intervals over queries\n"
    )
    print_table(("order", "judged candidates only", "unjudged count as 0"), rows)
    click.echo()
    pairs = (
        ("base - BM25", judged.bm25, judged.base),
        ("LambdaMART - BM25", judged.bm25, judged.model),
        ("LambdaMART - base", judged.base, judged.model),
    )
    print_table(
        ("paired difference", "mean", "better / worse / same", "reading"),
        [_difference(name, outcome.difference(first, second)) for name, first, second in pairs],
    )
    click.echo(
        f"\n{outcome.candidate_count:,} candidates of {outcome.item_count:,} products; server time per list: median "
        f"{float(sorted(outcome.rank_ms)[len(outcome.rank_ms) // 2]):.2f} ms\nShare of gain of a model of all queries:"
    )
    for line in importance_lines(outcome.trained.feature_names, outcome.trained.importances.tolist(), shown=10):
        click.echo(line)
    click.echo()


def _difference(name: str, difference: Difference) -> tuple[str, str, str, str]:
    one = difference.interval
    reading = "higher" if one.low > 0 else "lower" if one.high < 0 else "not told apart by so few queries"
    counts = f"{difference.wins} / {difference.losses} / {difference.ties}"
    return name, f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]", counts, reading


def print_letor(outcome: letor.Outcome) -> None:
    """The same number twice, if the claim holds."""
    click.echo(f"\nltr_lightgbm, NDCG@{letor.K} of {outcome.query_count} test queries\n")
    print_table(
        ("order", "NDCG@10"),
        [
            ("as in the file", f"{outcome.ndcg_input_order:.12f}"),
            ("LightGBM's own metric", f"{outcome.ndcg_lightgbm:.12f}"),
            ("rankd, through the service", f"{outcome.ndcg_rankd:.12f}"),
        ],
    )
    equal = outcome.row_count - outcome.unequal_scores
    click.echo(f"\n{equal:,} of {outcome.row_count:,} scores are equal to Booster.predict bit for bit\n")


if __name__ == "__main__":
    sys.exit(main())
