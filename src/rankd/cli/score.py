"""`rankd score`: a model's outputs, in the order given."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, Literal

import click

from rankd.cli.candidates import candidate_options, read_as_of, read_candidates, read_context, read_user
from rankd.cli.output import console, json_option, print_json
from rankd.cli.rank import degradation_document, read_request, required_profile, tell_degradation, versions
from rankd.cli.ranked_table import Listing, print_listing
from rankd.cli.remote import connected, remote_options
from rankd.client import ScoredList
from rankd.v1 import ranking_pb2


@click.command()
@candidate_options
@click.option("--raw", is_flag=True, help="Before the objective's transform, such as a sigmoid.")
@click.option("--features", is_flag=True, help="Print the value of every feature.")
@click.option("--plot", is_flag=True, help="Draw a bar for the first output.")
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
    raw: bool,
    features: bool,
    plot: bool,
    address: str,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Print a model's outputs for candidates, in the order given.

    \b
    Examples:
      rankd score --profile search --query "red shoes" --ids sku-1,sku-2
      rankd score --profile search --columns-file rows.csv --raw --json
    """
    if request_file is not None:
        request = read_request(request_file, ranking_pb2.ScoreRequest())
        sent = list(request.candidates.ids)
        with connected(address, timeout_s) as client:
            scored = client.score_message(request)
    else:
        given = read_candidates(ids, ids_file, column_texts, columns_file)
        sent = given.ids
        with connected(address, timeout_s) as client:
            scored = client.score(
                required_profile(profile),
                sent,
                base_scores=given.base_scores,
                columns=given.columns,
                query=query,
                user=read_user(user, visitor, session),
                context=read_context(context_texts),
                surface=surface,
                as_of=read_as_of(as_of),
                raw=raw,
                features=features,
            )
    if as_json:
        print_json(_document(sent, scored))
        return
    outputs = {name: values.tolist() for name, values in scored.outputs.items()}
    shown = {name: values.tolist() for name, values in scored.features.items()}
    bars = next(iter(outputs.values())) if plot and outputs else None
    leading: dict[str, Any] = {"index": list(range(len(sent))), **outputs}
    print_listing(console(), Listing(sent, leading, shown, frozenset(scored.missing_ids), bars))
    tell_degradation(scored.degradation)


def _document(ids: list[str], scored: ScoredList) -> dict[str, Any]:
    outputs = {name: values.tolist() for name, values in scored.outputs.items()}
    features = {name: values.tolist() for name, values in scored.features.items()}
    items: list[dict[str, Any]] = []
    for position, entity_id in enumerate(ids):
        item: dict[str, Any] = {"id": entity_id, "outputs": {n: v[position] for n, v in outputs.items()}}
        if features:
            item["features"] = {n: v[position] for n, v in features.items()}
        items.append(item)
    return {
        "request_id": scored.request_id,
        "versions": versions(scored.versions),
        "items": items,
        "missing_ids": scored.missing_ids,
        **degradation_document(scored.degradation),
    }
