"""`rankd model inspect`: what a model file holds, how it would be scored here, and how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError, console, json_option, print_json, print_table

if TYPE_CHECKING:
    from rankd.models import ForestScorer, Scorer
    from rankd.models.facts import ForestFacts, TierFacts
    from rankd.models.scorer import Origin


@dataclass(slots=True)
class Inspection:
    """A file and what was found out about it; the parts of a forest are None for other models."""

    path: Path
    format: str
    scorer: Scorer
    origin: Origin
    load_ms: float
    facts: ForestFacts | None = None
    tiers: list[TierFacts] = field(default_factory=list)
    us_per_row: dict[str, dict[int, float | None]] = field(default_factory=dict)


@click.command(name="inspect")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--format", "format", help="Of FILE, where its content does not tell.")
@click.option("--top", default=12, show_default=True, type=click.IntRange(0), help="How many features to list.")
@click.option("--no-measure", is_flag=True, help="Do not time it.")
@json_option
def inspect(file: Path, format: str | None, top: int, no_measure: bool, as_json: bool) -> None:
    """Print what a model file holds, how it is scored on this machine, why so, and how fast.

    FILE is any model that rankd serves: LightGBM's text, XGBoost's JSON or UBJSON, CatBoost's JSON, rankd's
    linear or compiled models. µs per row are medians of calls from Python with one thread, on rows
    drawn around the model's own thresholds.

    \b
    Examples:
      rankd model inspect models/shop.txt
      rankd model inspect models/shop.txt --no-measure --json
    """
    found = inspect_file(file, format, measure=not no_measure)
    if as_json:
        print_json(_document(found))
        return
    _print_summary(found)
    if found.facts is not None:
        _print_features(found.facts, top)
    _print_speed(found)


def inspect_file(path: Path, format: str | None, measure: bool) -> Inspection:
    """Loads the file and looks at it. ModelFileError if it is not a valid model."""
    from rankd.cli.model_timing import rows_around, us_per_row
    from rankd.models import ForestScorer
    from rankd.models.facts import forest_facts, processor_features, tier_facts
    from rankd.models.load import FORMATS, detect_format, read_model

    format = format or detect_format(path)
    if format not in FORMATS:
        raise CommandError(f"expected --format {', '.join(FORMATS)}, got {format}", ExitCode.USAGE)
    started = time.perf_counter()
    scorer, origin = read_model(path, format)
    found = Inspection(path, format, scorer, origin, 1e3 * (time.perf_counter() - started))
    if isinstance(scorer, ForestScorer):
        found.facts = forest_facts(scorer)
        found.tiers = tier_facts(scorer.forest, processor_features())
    if measure:
        found.us_per_row = us_per_row(scorer, rows_around(scorer), [t.tier for t in found.tiers if t.available])
    return found


def _document(found: Inspection) -> dict[str, Any]:
    from rankd.models.facts import document

    result: dict[str, Any] = {
        "file": str(found.path),
        "format": found.format,
        "bytes": found.path.stat().st_size,
        "family": found.origin.family,
        "source": found.origin.source,
        "version": found.origin.sha256[:12],
        "load_ms": round(found.load_ms, 3),
        "features": len(found.scorer.feature_names),
    }
    if found.facts is not None:
        scorer = _forest_scorer(found)
        transform = scorer.transform
        result |= {
            "objective": transform.objective or None,
            "transform": transform.name,
            "parameter": transform.parameter,
            "divisor": scorer.divisor,
            "scale": scorer.scale,
            "bias": scorer.bias.tolist(),
            **document(found.facts),
            "tiers": {t.tier: {"available": t.available, "why_not": t.why or None} for t in found.tiers},
            "chosen": [{"rows": rows, "tier": tier, "why": why} for rows, tier, why in _chosen(scorer)],
        }
    return result | {"us_per_row": found.us_per_row}


def _forest_scorer(found: Inspection) -> ForestScorer:
    scorer: Any = found.scorer
    return scorer  # type: ignore[no-any-return]  # where there are facts there is a forest


def _chosen(scorer: ForestScorer) -> list[tuple[int, str, str]]:
    from rankd.cli.model_timing import BATCHES
    from rankd.models.facts import chosen_why

    forest = scorer.forest
    return [(rows, forest.chosen_tier(rows), chosen_why(forest, rows)) for rows in BATCHES]


def _print_summary(found: Inspection) -> None:
    size = found.path.stat().st_size
    loaded = "mapped" if found.format == "compiled" else "loaded"
    origin = "" if found.format != "compiled" else f", compiled from {found.origin.source}"
    lines = [
        ("file", f"{found.path}: {size:,} bytes, {loaded} in {found.load_ms:,.1f} ms"),
        ("family", f"{found.origin.family}{origin}, version {found.origin.sha256[:12]}"),
    ]
    if found.facts is None:
        lines.append(("features", f"{len(found.scorer.feature_names):,}, each with a weight; explanations: its terms"))
    else:
        lines += _forest_lines(found, found.facts)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name.ljust(width)}  {text}")


def _forest_lines(found: Inspection, facts: ForestFacts) -> list[tuple[str, str]]:
    scorer = _forest_scorer(found)
    transform = scorer.transform
    factor = f" (factor {transform.parameter:g})" if transform.name == "sigmoid" and transform.parameter != 1 else ""
    then = [f"sums divided by {scorer.divisor}"] if scorer.divisor != 1 else []
    if scorer.scale != 1 or scorer.bias.any():
        then.append(f"scale {scorer.scale:g} and bias")
    kinds = [f"{facts.oblivious_trees:,} oblivious"] if facts.oblivious_trees else []
    categorical = sum(feature.categorical_splits for feature in facts.features)
    kinds += [f"{categorical:,} categorical splits"] if categorical else []
    kinds += [f"{facts.linear_leaves:,} linear leaves"] if facts.linear_leaves else []
    used = [feature for feature in facts.features if feature.splits]
    most = max(facts.features, key=lambda feature: feature.thresholds)
    split_up = [feature for feature in facts.features if feature.axes > 1]
    axes = "" if not split_up else f"; {len(split_up):,} with more than 255 take {most.axes:,} axes at most"
    return [
        ("objective", "; ".join([f"{transform.objective or 'not named'}, transform {transform.name}{factor}", *then])),
        ("outputs", f"{len(facts.outputs):,}: {', '.join(facts.outputs[:6])}{' …' if len(facts.outputs) > 6 else ''}"),
        ("trees", "; ".join([f"{facts.trees:,}", *kinds])),
        ("leaves", f"{facts.leaves.sum():,}, {_spread(facts.leaves)} a tree"),
        ("depth", f"{_spread(facts.depth)}"),
        ("features", f"{len(used):,} used of {len(facts.features):,} declared"),
        ("thresholds", f"at most {most.thresholds:,} of a feature{axes}; {facts.conditions:,} conditions in all"),
        ("compiled", f"{facts.image_bytes:,} bytes"),
        ("explanations", f"no: {facts.unexplained}" if facts.unexplained else "yes"),
    ]


def _spread(values: Any) -> str:
    from rankd.models.facts import spread

    return "{min:,} to {max:,}, median {median:,g}".format(**spread(values))


def _print_features(facts: ForestFacts, top: int) -> None:
    from rankd.cli.ranked_table import bar
    from rankd.cli.remote import printable

    shown = sorted(facts.features, key=lambda feature: -feature.splits)[:top]
    shown = [feature for feature in shown if feature.splits]
    if not shown:
        return
    click.echo()
    most = float(shown[0].splits)
    print_table(
        ["feature", "splits", "thresholds", "axes", ""],
        [
            (printable(f.name), f"{f.splits:,}", f"{f.thresholds:,}", f.axes or "sets", bar(float(f.splits), 0.0, most))
            for f in shown
        ],
        right=["splits", "thresholds", "axes"],
    )


def _print_speed(found: Inspection) -> None:
    from rankd.cli.model_timing import BATCHES

    rows: list[list[str]] = []
    chosen = _chosen(_forest_scorer(found)) if found.facts is not None else []
    taken = {size: tier for size, tier, _ in chosen}
    for name, by_batch in found.us_per_row.items():
        rows.append([name, *(_figure(by_batch[size], taken.get(size) == name) for size in BATCHES)])
    click.echo()
    for tier in dict.fromkeys(tier for _, tier, _ in chosen):
        sizes = [size for size, other, _ in chosen if other == tier]
        why = next(why for _, other, why in chosen if other == tier)
        click.echo(f"{', '.join(f'{size:,}' for size in sizes)} rows: {tier}, {why}")
    for fact in found.tiers:
        if not fact.available:
            click.echo(f"not {fact.tier}: {fact.why}")
    if rows:
        click.echo()
        print_table(
            ["µs per row, rows in a call", *(f"{size:,}" for size in BATCHES)], rows, right=[f"{s:,}" for s in BATCHES]
        )
        if chosen:
            console(stderr=True).print("* the tier that is taken for so many rows")


def _figure(us: float | None, taken: bool) -> str:
    return ("too long" if us is None else f"{us:,.0f}" if us >= 100 else f"{us:#.3g}") + ("*" if taken else " ")
