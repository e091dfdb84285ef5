"""Configurations: all problems at once, models tried, and nothing loaded twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.boosters import booster
from support.configurations import configuration, model_text, replace, workspace_text, write_version
from support.fakes import FakeScorer

from rankd.errors import WorkspaceError
from rankd.models.scorer import LoadedModel
from rankd.server import configuration as module
from rankd.server.configuration import inspect_workspace, load_configuration, tried_rows
from rankd.signals.categories import ScratchCategories
from rankd.workspace import load_workspace


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_version(tmp_path, 1)
    return tmp_path


def test_versions_and_files(directory: Path) -> None:
    found = configuration(directory)
    assert list(found.versions) == ["schema", "profiles.search", "profiles.plain", "models.shop"]
    assert found.versions["models.shop"] == found.plans["search"].versions.model
    assert {path.name for path in found.files} == {"rankd.yaml", "shop.json"}


def test_all_problems_come_together(directory: Path) -> None:
    replace(directory / "shop.json", model_text(1)[:-9])
    replace(
        directory / "rankd.yaml",
        workspace_text(1, "  a: {features: {x: item.prise}}\n  b: {features: {x: 1}, model: other}").replace(
            "shop: {", "other: {file: none.json}\n  shop: {"
        ),
    )
    with pytest.raises(WorkspaceError) as caught:
        configuration(directory)
    assert {problem.path for problem in caught.value.problems} == {
        "models.shop.file", "models.other.file", "profiles.a.features.x"
    }  # fmt: skip
    assert all(problem.where.startswith("rankd.yaml:") for problem in caught.value.problems)


def test_what_has_not_changed_is_taken_over(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = configuration(directory)
    loads: list[str] = []
    monkeypatch.setattr(module, "load_model", lambda spec: loads.append(spec.name) or pytest.fail("loaded again"))
    # The same file, then the same content as another file, then that under another name.
    for change in range(3):
        if change == 1:
            replace(directory / "shop.json", model_text(1))
        if change == 2:
            replace(directory / "other.json", model_text(1))
            replace(directory / "rankd.yaml", workspace_text(1).replace("shop.json", "other.json"))
        after = inspect_workspace(load_workspace(directory, {}), ScratchCategories(), before).configuration()
        assert after.models["shop"].model is before.models["shop"].model
        assert after.plans["search"] is before.plans["search"]
    assert loads == []


def test_what_has_changed_is_not(directory: Path) -> None:
    before = configuration(directory)
    replace(directory / "shop.json", model_text(2))
    after = inspect_workspace(load_workspace(directory, {}), ScratchCategories(), before).configuration()
    assert after.models["shop"].model is not before.models["shop"].model
    assert after.plans["search"].model is after.models["shop"].model
    assert after.plans["search"] is not before.plans["search"]
    assert after.plans["plain"] is before.plans["plain"]
    replace(directory / "rankd.yaml", workspace_text(2))
    last = inspect_workspace(load_workspace(directory, {}), ScratchCategories(), after).configuration()
    assert last.models["shop"] is after.models["shop"]
    assert last.plans["plain"] is not after.plans["plain"]


def test_inputs_named_anew_make_another_model(directory: Path) -> None:
    booster("regression").save_model(directory / "shop.txt")
    names = list("abcdefg")
    text = """
version: 1
schema: {item: {price: f32}}
models: {shop: {file: shop.txt, features: [NAMES]}}
profiles: {search: {features: {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7}, model: shop}}
"""
    replace(directory / "rankd.yaml", text.replace("NAMES", ", ".join(names)))
    before = configuration(directory)
    replace(directory / "rankd.yaml", text.replace("NAMES", ", ".join(reversed(names))))
    after = inspect_workspace(load_workspace(directory, {}), ScratchCategories(), before).configuration()
    assert after.models["shop"].model.scorer.feature_names == tuple(reversed(names))


def test_a_model_that_changes_while_it_is_read_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = load_workspace(directory, {})
    real = module.load_model

    def load(spec: object) -> LoadedModel:
        found = real(spec)  # type: ignore[arg-type]
        replace(directory / "shop.json", model_text(7))
        return found

    monkeypatch.setattr(module, "load_model", load)
    with pytest.raises(WorkspaceError, match=r"models\.shop\.file: .*changed while it was being read"):
        load_configuration(workspace, ScratchCategories())


def test_a_model_without_finite_scores_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = FakeScorer(("n",), lambda matrix: np.where(np.isnan(matrix[0]), np.nan, matrix[0]))
    monkeypatch.setattr(module, "load_model", lambda spec: LoadedModel("shop", "shop@0", scorer))
    with pytest.raises(
        WorkspaceError, match=r"models\.shop\.file: .*expected finite scores of rows tried, got \[nan\]"
    ):
        configuration(directory)
    monkeypatch.undo()
    (directory / "shop.json").write_text(json.dumps({"format": "rankd.linear/1", "weights": {"n": 1e308}}))
    with pytest.raises(WorkspaceError, match=r"got \[.*inf"):
        configuration(directory)


def test_the_rows_tried_have_missing_and_ordinary_values() -> None:
    rows = tried_rows(5)
    assert rows.shape == (5, 8)
    assert rows.dtype == np.float32
    assert np.isnan(rows[:, 0]).all()
    assert np.isfinite(rows[:, 1:4]).all()
    assert np.isnan(rows[:, 4:]).any()
    assert np.isfinite(rows[:, 4:]).any()
