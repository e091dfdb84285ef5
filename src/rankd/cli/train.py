"""`rankd train`: LambdaMART on judged lists, with features from the running server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankd.cli.output import console, json_option, print_json
from rankd.cli.remote import connected, remote_options

if TYPE_CHECKING:
    from rankd.learn.collect import Collected
    from rankd.learn.training import CrossValidation, Progress, Trained

SHOWN_FEATURES = 20
BAR_WIDTH = 30


@click.command()
@click.option("--profile", required=True, metavar="NAME", help="Whose features to train on.")
@click.option(
    "--judgments", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Judged lists: CSV, JSONL or TREC qrels (docs/learning.md).",
)  # fmt: skip
@click.option("--topics", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="With qrels: lines of topic, tab, query.")  # fmt: skip
@click.option("--output", required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="The model file to write; relative to --workspace if that is given.")  # fmt: skip
@click.option("--workspace", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="The workspace: where --output is relative to.")  # fmt: skip
@click.option("--trees", default=100, show_default=True, type=click.IntRange(1, 100_000), metavar="N")
@click.option("--leaves", default=31, show_default=True, type=click.IntRange(2, 65_536), metavar="N")
@click.option("--learning-rate", default=0.1, show_default=True, type=click.FloatRange(0, 10, min_open=True))
@click.option("--least-leaf-rows", default=20, show_default=True, type=click.IntRange(1), metavar="N",
              help="A leaf holds at least so many rows.")  # fmt: skip
@click.option("--folds", default=5, show_default=True, type=click.IntRange(0), metavar="N",
              help="Cross-validate by query first; 0: do not.")  # fmt: skip
@click.option("--k", default=10, show_default=True, type=click.IntRange(1), help="The k of NDCG@k.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0))
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1), metavar="N")
@json_option
@remote_options
def command(
    profile: str, judgments: Path, topics: Path | None, output: Path, workspace: Path | None, trees: int, leaves: int,
    learning_rate: float, least_leaf_rows: int, folds: int, k: int, seed: int, threads: int, as_json: bool,
    address: str, timeout_s: float,
) -> None:  # fmt: skip
    """Train a LambdaMART model on judged lists.

    Features come from the running server, computed by the profile as in service. The model is
    cross-validated by query, then trained on all lists and written whole; declare the file under
    `models` in rankd.yaml and name it in the profile. The same rows, settings and LightGBM
    give the same file. Needs LightGBM: pip install 'rankd[train]'.

    \b
    Examples:
      rankd train --profile search --judgments judgments.csv --output models/search.txt
      rankd train --profile search --judgments clicks.jsonl --output m.txt --trees 300 --learning-rate 0.05
    """
    from rankd.learn import collect, training
    from rankd.learn.judgments import read_judgments

    training.import_lightgbm()  # before the work, not after it
    lists = read_judgments(judgments, topics)
    settings = training.Settings(
        trees=trees, leaves=leaves, learning_rate=learning_rate, least_leaf_rows=least_leaf_rows, seed=seed,
        threads=threads,
    )  # fmt: skip
    with connected(address, timeout_s) as client, progress_bar("features", len(lists)) as progress:
        collected = collect.collect_rows(client, profile, lists, progress)
    rows = collected.rows
    validation = None
    if folds:
        with progress_bar("folds", folds) as progress:
            fold_of = training.assign_folds(rows.keys, folds, seed)
            validation = training.cross_validate(rows, settings, fold_of, k, progress)
    with progress_bar("trees", trees) as progress:
        trained = training.train(rows, settings, k, progress)
    path = workspace / output if workspace is not None else output
    training.write_model(path, trained.text)
    if as_json:
        print_json(_document(path, trained, validation, collected))
    else:
        _print(path, trained, validation, collected, k)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Progress]:
    """A bar on standard error where that is a terminal; nothing where it is not."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    screen = console(stderr=True)
    with Bars(
        TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=screen, transient=True, disable=not screen.is_terminal,
    ) as bars:  # fmt: skip
        task = bars.add_task(title, total=total)
        yield lambda done, whole: bars.update(task, completed=done, total=whole)


def importance_lines(names: Sequence[str], gains: Sequence[float], shown: int = SHOWN_FEATURES) -> list[str]:
    """A bar per feature, the most useful first: its share of the total gain of all splits."""
    total = sum(gains) or 1.0
    order = sorted(range(len(names)), key=lambda i: (-gains[i], names[i]))
    width = max((len(names[i]) for i in order[:shown]), default=0)
    most = max(gains, default=0.0) or 1.0
    lines = [
        f"  {names[i]:<{width}}  {gains[i] / total:6.1%}  {'█' * round(BAR_WIDTH * gains[i] / most)}".rstrip()
        for i in order[:shown]
    ]
    if len(order) > shown:
        lines.append(f"  … and {len(order) - shown} more: {sum(gains[i] for i in order[shown:]) / total:.1%}")
    return lines


def _print(path: Path, trained: Trained, validation: CrossValidation | None, collected: Collected, k: int) -> None:
    click.echo(
        f"{trained.row_count:,} judged candidates in {trained.list_count:,} lists, "
        f"{len(trained.feature_names)} features of profile version {trained.profile_version}"
    )
    if collected.unknown_count:
        share = collected.unknown_count / collected.candidate_count
        click.echo(f"warning: the server knows nothing about {share:.1%} of the candidates", err=True)
    click.echo(f"NDCG@{k} in training      {trained.training_ndcg:.4f}")
    if validation is not None:
        interval = validation.interval()
        click.echo(
            f"NDCG@{k} out of fold      {interval.text(4)}  ({len(validation.models)} folds by query, "
            f"95 % interval over {interval.count:,} queries with a relevant candidate)"
        )
    click.echo("\nShare of gain by feature")
    for line in importance_lines(trained.feature_names, trained.importances.tolist()):
        click.echo(line)
    click.echo(f"\nWrote {path}")


def _document(path: Path, trained: Trained, validation: CrossValidation | None, collected: Collected) -> dict[str, Any]:
    document: dict[str, Any] = {
        "output": str(path),
        "rows": trained.row_count,
        "lists": trained.list_count,
        "candidates": collected.candidate_count,
        "unknown_candidates": collected.unknown_count,
        "profile_version": trained.profile_version,
        "training_ndcg": trained.training_ndcg,
        "importances": dict(zip(trained.feature_names, trained.importances.tolist(), strict=True)),
    }
    if validation is not None:
        interval = validation.interval()
        document["validation"] = {
            "k": validation.k,
            "folds": len(validation.models),
            "ndcg": interval.mean,
            "ci95": [interval.low, interval.high],
            "queries": interval.count,
        }
    return document
