"""docs/features.md is true: every function stands in it with its signature, and every example compiles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from rankd import limits
from rankd.errors import ExpressionError
from rankd.features import FUNCTIONS, compile_base, compile_features
from rankd.types.profile import ContextFeature, ContextKind, Feature, Profile
from rankd.types.schema import Entity, Schema
from rankd.workspace.signals import SignalSection, signal_of

TEXT = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
WORKSPACE = yaml.safe_load(re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[1])


SCHEMA = Schema(
    {
        entity: Entity(
            entity,
            {n: signal_of(n, SignalSection.model_validate(s)) for n, s in signals.items()},
            tuple(WORKSPACE["entities"].get(entity, {}).get("key", ())),
        )
        for entity, signals in WORKSPACE["schema"].items()
    }
)
DECLARED = WORKSPACE["profiles"]["search"]


def profile_of(**features: str) -> Profile:
    return Profile(
        "search",
        columns=tuple(DECLARED["columns"]),
        context={n: ContextFeature(n, ContextKind(kind)) for n, kind in DECLARED["context"].items()},
        features=tuple(Feature(n, str(e)) for n, e in {**DECLARED["features"], **features}.items()),
        base=DECLARED["base"],
    )


def rows(heading: str) -> list[list[str]]:
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in section.splitlines() if line.startswith("|")]
    return cells[2:]


EXAMPLES = [row[-1].strip("|` ") for heading in ("Operators", "Functions") for row in rows(heading)]


def test_every_function_is_described_with_its_signature():
    described = [row[0].strip("`") for row in rows("Functions")]
    assert described == [FUNCTIONS[name].signature for name in (d.split("(")[0] for d in described)]
    assert sorted(d.split("(")[0] for d in described) == sorted(FUNCTIONS)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_compile(example: str):
    assert "example" in compile_features(profile_of(example=example), SCHEMA, len).output_names


@pytest.mark.parametrize("row", rows("Functions"), ids=lambda row: row[0])
def test_examples_use_their_function(row: list[str]):
    assert row[0].strip("`").split("(")[0] + "(" in row[-1]


def test_names_are_what_they_are_said_to_be():
    for name, type_, _ in rows("Names"):
        name = name.strip("`")
        if "." in name:
            program = compile_features(profile_of(example=f"is_missing({name})"), SCHEMA, len)
            source = next(i for i in program.inputs if str(i) == name)
            assert type_ in (source.type.value, "the signal's", "as declared")


def test_the_profile_compiles():
    assert compile_base(profile_of(), SCHEMA, len).output_names == ("base",)


def test_the_error_shown_is_the_error_raised():
    with pytest.raises(ExpressionError) as caught:
        compile_features(profile_of(price_log="log1p(item.prise)"), SCHEMA, len)
    assert f"    {caught.value}\n" in TEXT


def test_bounds_are_the_limits():
    section = TEXT.split("## Bounds\n")[1]
    for bound in (limits.MAX_EXPRESSION_CHARS, limits.MAX_EXPRESSION_NODES, limits.MAX_FEATURES):
        assert f"{bound:,}" in section
    assert f"at most {limits.MAX_EXPRESSION_DEPTH} deep" in section
