"""Documents: links resolve, commands exist, versions and reasons agree, nothing private stands in them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from support.repository import ROOT, sources, text, tracked

import rankd
from rankd.errors import Reason
from rankd.v1 import error_reason_pb2

DOCUMENTS = sources(".md")
TEXTS = [path for path in tracked() if path.suffix not in (".png", ".parquet", ".gz", ".zst", ".bin", ".ubj")]
THIS = Path("tests/architecture/test_documents.py")
PROJECT = tomllib.loads(text(Path("pyproject.toml")))["project"]


def test_one_version() -> None:
    assert rankd.__version__ == PROJECT["version"]


def test_changelog_has_the_current_version() -> None:
    assert re.search(rf"^## \[{re.escape(PROJECT['version'])}\]", text(Path("CHANGELOG.md")), re.MULTILINE)


def test_reasons_are_those_of_the_contract() -> None:
    published = {
        name.removeprefix("ERROR_REASON_"): number for name, number in error_reason_pb2.ErrorReason.items() if number
    }
    assert published == {reason.name: reason.value for reason in Reason}


def anchors(document: str) -> set[str]:
    """The fragments that the headings of a document make, as GitHub derives them."""
    headings = re.findall(r"^#+ +(.*?)\s*$", document, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_links_resolve(path: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", text(path), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'(?:src|href)="([^"]+)"', prose)
    broken = []
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        place = (ROOT / path.parent / name).resolve() if name else ROOT / path
        if not place.exists() or (fragment and fragment not in anchors(place.read_text(encoding="utf-8"))):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(Path("Makefile")), re.MULTILINE))
    used = re.findall(r"(?:^|[`$;&] *)make (?:[A-Z_]+=\S+ )*([a-z][a-z-]*)", text(path), re.MULTILINE)
    assert set(used) <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_paths_named_in_code_spans_exist(path: Path) -> None:
    spans = re.findall(r"`((?:src|tests|tools|docs|csrc|protos|load_tests)/[\w./-]+)`", text(path))
    assert not [name for name in spans if not (ROOT / name).exists()]


# Paths of somebody's machine have no place in a repository; the data's default place is the one exception.
_PRIVATE = re.compile(r"(?<![\w.])/(?:work|root|home)/|(?<!\.\./)(?<![\w/])shared/(?!data)")


@pytest.mark.parametrize("path", [p for p in TEXTS if p != THIS], ids=str)
def test_no_private_paths(path: Path) -> None:
    assert not [line for line in text(path).splitlines() if _PRIVATE.search(line)]


def test_every_document_is_in_the_index() -> None:
    index = text(Path("docs/README.md"))
    listed = set(re.findall(r"\]\(([\w.-]+\.md)\)", index))
    assert {path.name for path in sources(".md", under="docs")} - {"README.md"} == listed


def test_every_requirement_is_locked() -> None:
    document = tomllib.loads(text(Path("pyproject.toml")))
    sets = [document["build-system"]["requires"], PROJECT["dependencies"]]
    sets += [*PROJECT["optional-dependencies"].values(), *document["dependency-groups"].values()]
    asked = {re.match(r"[\w.-]+", line)[0] for lines in sets for line in lines}  # type: ignore[index]
    locked = {line.split("==")[0] for line in text(Path("constraints.txt")).splitlines() if "==" in line}
    assert {name.lower() for name in asked} <= locked, "run `make lock`"
