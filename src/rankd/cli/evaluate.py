"""`rankd evaluate`: the order a running server gives, beside its base order, against judgments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankd.cli.output import json_option, print_json, print_table
from rankd.cli.remote import connected, remote_options
from rankd.cli.train import progress_bar

if TYPE_CHECKING:
    from rankd.learn.bootstrap import Interval
    from rankd.learn.evaluation import Evaluation, Options


@click.command()
@click.option("--profile", required=True, metavar="NAME", help="The profile to measure.")
@click.option(
    "--judgments", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Judged lists: CSV, JSONL or TREC qrels (docs/learning.md).",
)  # fmt: skip
@click.option("--topics", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="With qrels: lines of topic, tab, query.")  # fmt: skip
@click.option("--k", default=10, show_default=True, type=click.IntRange(1), help="The k of NDCG@k and recall@k.")
@click.option("--least-grade", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="The least grade that counts as relevant for MRR, MAP and recall.")  # fmt: skip
@click.option("--judged-only", is_flag=True, help="Leave unjudged candidates out instead of counting them as 0.")
@click.option(
    "--no-relevant", type=click.Choice(["exclude", "zero", "one"]), default="exclude", show_default=True,
    help="What a query without a relevant candidate counts as: nothing (as trec_eval), 0, or 1 (as LightGBM).",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the bootstrap.")
@json_option
@remote_options
def command(
    profile: str, judgments: Path, topics: Path | None, k: int, least_grade: float, judged_only: bool, no_relevant: str,
    seed: int, as_json: bool, address: str, timeout_s: float,
) -> None:  # fmt: skip
    """Measure a profile of a running server against judgments.

    Prints NDCG@k, MRR, MAP and recall@k of the base order and of the order returned, with 95 %
    bootstrap intervals over queries and the paired difference.

    \b
    Examples:
      rankd evaluate --profile search --judgments judgments.csv
      rankd evaluate --profile search --judgments run.qrels --topics topics.tsv --k 20 --json
    """
    from rankd.learn.evaluation import Options, evaluate
    from rankd.learn.judgments import read_judgments
    from rankd.learn.metrics import NoRelevant

    lists = read_judgments(judgments, topics)
    options = Options(k, least_grade, judged_only, NoRelevant(no_relevant), seed)
    with connected(address, timeout_s) as client, progress_bar("lists", len(lists)) as progress:
        result = evaluate(client, profile, lists, options, progress)
    if as_json:
        print_json(_document(result, options))
    else:
        _print(result, options)


def comparison_rows(result: Evaluation) -> list[tuple[str, str, str, str, str]]:
    """Measure, base, ranked, difference, and queries better / worse / same."""
    return [
        (
            one.name,
            one.base.text(),
            one.ranked.text(),
            f"{one.difference.interval.mean:+.3f} [{one.difference.interval.low:+.3f}, "
            f"{one.difference.interval.high:+.3f}]",
            f"{one.difference.wins} / {one.difference.losses} / {one.difference.ties}",
        )
        for one in result.comparisons
    ]


def _print(result: Evaluation, options: Options) -> None:
    second = result.model_version or "ranked"
    print_table(
        ("measure", "base", second, "difference", "+ / - / ="), comparison_rows(result),
        right=("base", second, "difference", "+ / - / ="),
    )  # fmt: skip
    unjudged = "left out" if options.judged_only else "counted as not relevant"
    click.echo(
        f"\n{result.query_count:,} queries in {result.list_count:,} lists of {result.candidate_count:,} candidates, "
        f"{result.unjudged_count:,} unjudged ({unjudged}), {result.unknown_count:,} unknown to the server.\n"
        f"{result.no_relevant_count:,} queries have no relevant candidate ({_CONVENTIONS[options.no_relevant.value]}). "
        "[low, high]: 95 % over queries."
    )
    if not result.model_version:
        click.echo("The profile has no model: its order is its base order.")


_CONVENTIONS = {"exclude": "left out", "zero": "counted as 0", "one": "counted as 1"}


def _document(result: Evaluation, options: Options) -> dict[str, Any]:
    return {
        "profile_version": result.profile_version,
        "model": result.model_version,
        "lists": result.list_count,
        "queries": result.query_count,
        "queries_without_relevant": result.no_relevant_count,
        "no_relevant": options.no_relevant.value,
        "candidates": result.candidate_count,
        "unjudged": result.unjudged_count,
        "judged_only": options.judged_only,
        "unknown_candidates": result.unknown_count,
        "measures": {
            one.name: {
                "base": _interval(one.base),
                "ranked": _interval(one.ranked),
                "difference": _interval(one.difference.interval),
                "wins": one.difference.wins,
                "losses": one.difference.losses,
                "ties": one.difference.ties,
            }
            for one in result.comparisons
        },
    }


def _interval(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.mean, "ci95": [interval.low, interval.high], "queries": interval.count}
