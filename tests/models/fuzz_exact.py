"""`make fuzz-exact`: the whole fuzz farm. Prints how far it is and, last, one line of JSON. Exit status 1 where a
score or a leaf differs from the library's, 2 where a library is not installed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.exactness import Tally, cases, check


@click.command()
@click.option("--scores", default=10_000_000, show_default=True, help="Fuzzed scores, over all models.")
@click.option("--seed", default=0, show_default=True, help="Of the rows; the models are always the same.")
def main(scores: int, seed: int) -> None:
    """Compares leaves and raw scores with LightGBM's, CatBoost's and XGBoost's own, in every tier."""
    farm, tally, absent = cases(), Tally(), set()
    start = time.monotonic()
    for done, (name, make) in enumerate(farm, 1):
        try:
            case = make()
        except ModuleNotFoundError as error:
            if error.name not in absent:
                click.echo(f"{error.name} is not installed: its models are left out", err=True)
            absent.add(error.name)
            continue
        told = len(tally.differences)
        check(case, -(-scores // len(farm)), seed, tally)
        for line in tally.differences[told:]:
            click.echo(line, err=True)
        if done % 10 == 0 or done == len(farm):
            click.echo(
                f"{done}/{len(farm)} {name}: {tally.scores:,} scores, {time.monotonic() - start:.0f} s", err=True
            )
    result = {
        "bench": "exact", "models": tally.models, "scores": tally.scores, "leaf_differences": tally.leaf_differences,
        "score_bits_different": tally.score_bits_different, "tiers": sorted(tally.tiers),
        "models_by_tier": dict(sorted(tally.tiers.items())), "absent": sorted(absent),
    }  # fmt: skip
    click.echo(json.dumps(result))
    if tally.leaf_differences or tally.score_bits_different:
        sys.exit(1)
    sys.exit(2 if absent else 0)


if __name__ == "__main__":
    main()
