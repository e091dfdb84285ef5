"""`rankd rank`: one list, ordered by a running server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import click
from google.protobuf import json_format
from google.protobuf.message import Message

from rankd.cli.candidates import candidate_options, read_as_of, read_candidates, read_context, read_user
from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError, console, json_option, print_json, print_table
from rankd.cli.ranked_table import Listing, print_listing
from rankd.cli.remote import connected, printable, remote_options
from rankd.cli.spans import shown_span
from rankd.client import Degradation, RankedList
from rankd.v1 import ranking_pb2

_MessageT = TypeVar("_MessageT", bound=Message)


@click.command()
@candidate_options
@click.option("--page-size", type=click.IntRange(min=1), metavar="N", help="How many to return. Default: all.")
@click.option("--page-token", default="", metavar="TOKEN", help="The next page, as the previous one named it.")
@click.option(
    "--view",
    type=click.Choice(["basic", "scores", "features"]),
    default="scores",
    show_default=True,
    help="How much of the working to print.",
)
@click.option("--timings", is_flag=True, help="Print how long each stage took.")
@click.option("--plot", is_flag=True, help="Draw a bar for each score.")
@remote_options
@json_option
def command(
    profile: str | None,
    ids: str | None,
    ids_file: IO[str] | None,
    column_texts: tuple[str, ...],
    columns_file: Path | None,
    query: str | None,
    user: str | None,
    visitor: str | None,
    session: str | None,
    context_texts: tuple[str, ...],
    surface: Literal["search", "browse", "autocomplete", "recommendation"] | None,
    as_of: str | None,
    request_file: IO[str] | None,
    page_size: int | None,
    page_token: str,
    view: Literal["basic", "scores", "features"],
    timings: bool,
    plot: bool,
    address: str,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Order candidates by a profile of a running server.

    Prints the best first. – is a missing value; (unknown) marks ids of which the server
    knows nothing.

    \b
    Examples:
      rankd rank --profile search --query "red shoes" --ids sku-1,sku-2,sku-3 --view features
      rankd rank --profile search --query "red shoes" --columns-file candidates.csv --plot
      rankd rank --request request.json --json
    """
    if request_file is not None:
        request = read_request(request_file, ranking_pb2.RankRequest())
        with connected(address, timeout_s) as client:
            ranked = client.rank_message(request)
    else:
        given = read_candidates(ids, ids_file, column_texts, columns_file)
        with connected(address, timeout_s) as client:
            ranked = client.rank(
                required_profile(profile),
                given.ids,
                base_scores=given.base_scores,
                columns=given.columns,
                query=query,
                user=read_user(user, visitor, session),
                context=read_context(context_texts),
                surface=surface,
                as_of=read_as_of(as_of),
                page_size=page_size,
                page_token=page_token,
                view=view,
                timings=timings,
            )
    if as_json:
        print_json(_document(ranked))
    else:
        _print(ranked, plot)


def required_profile(profile: str | None) -> str:
    """--profile, where there is no --request to name it."""
    if profile is None:
        raise click.UsageError("Missing option '--profile' (or '--request').")
    return profile


def read_request(file: IO[str], message: _MessageT) -> _MessageT:
    """A request as protobuf JSON."""
    try:
        return json_format.Parse(file.read(), message)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        kind = message.DESCRIPTOR.full_name
        raise CommandError(f"{file.name}: expected a {kind} as JSON: {error}", ExitCode.USAGE) from error


def _document(ranked: RankedList) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {"rank": ranked.ranks.tolist(), "id": ranked.ids, "index": ranked.indexes.tolist()}
    if len(ranked.scores):
        columns |= {"score": ranked.scores.tolist(), "base_score": ranked.base_scores.tolist()}
    features = {name: values.tolist() for name, values in ranked.features.items()}
    ages = {name: values.tolist() for name, values in ranked.signal_ages.items()}
    items = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for position, item in enumerate(items):
        if features:
            item["features"] = {name: values[position] for name, values in features.items()}
        if ages:
            item["signal_ages_s"] = {name: values[position] for name, values in ages.items()}
    return {
        "request_id": ranked.request_id,
        "versions": versions(ranked.versions),
        "total_count": ranked.total_count,
        "rescored_count": ranked.rescored_count,
        "items": items,
        "missing_ids": ranked.missing_ids,
        "next_page_token": ranked.next_page_token,
        **({"timings": ranked.timings} if ranked.timings else {}),
        **degradation_document(ranked.degradation),
    }


def versions(message: ranking_pb2.Versions) -> dict[str, str]:
    """What answered, for --json."""
    return {"profile": message.profile, "model": message.model, "schema": message.schema}


def degradation_document(degradation: Degradation | None) -> dict[str, Any]:
    """What was left out, for --json; nothing if nothing was."""
    return {} if degradation is None else {"degradation": asdict(degradation)}


def tell_degradation(degradation: Degradation | None) -> None:
    """A line on standard error if something was left out."""
    if degradation is not None:
        left_out = f"; left out: {', '.join(degradation.stages_skipped)}" if degradation.stages_skipped else ""
        text = f"degraded: {degradation.level.replace('_', ' ')} ({', '.join(degradation.reasons)}){left_out}"
        click.echo(printable(text), err=True)


def _print(ranked: RankedList, plot: bool) -> None:
    leading: dict[str, Any] = {"rank": ranked.ranks.tolist()}
    if len(ranked.scores):
        leading |= {"score": ranked.scores.tolist(), "base": ranked.base_scores.tolist()}
    features: dict[str, list[Any]] = {name: values.tolist() for name, values in ranked.features.items()}
    features |= {
        f"age of {name}": [shown_span(age) for age in values.tolist()] for name, values in ranked.signal_ages.items()
    }
    bars = ranked.scores.tolist() if plot and len(ranked.scores) else None
    listing = Listing(ranked.ids, leading, features, frozenset(ranked.missing_ids), bars)
    print_listing(console(), listing)
    if ranked.timings:
        click.echo()
        print_table(["stage", "µs"], [(s, f"{t:.0f}") for s, t in ranked.timings.items()], right=["µs"])
    model = printable(ranked.versions.model)
    rescored = f", {ranked.rescored_count} scored by {model}" if model else ""
    unknown = f", {len(ranked.missing_ids)} unknown" if ranked.missing_ids else ""
    click.echo(f"{len(ranked)} of {ranked.total_count} candidates{rescored}{unknown}", err=True)
    tell_degradation(ranked.degradation)
    if ranked.next_page_token:
        click.echo(f"next page: --page-token {ranked.next_page_token}", err=True)
