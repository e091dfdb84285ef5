"""Training: it learns what there is to learn, the same way every time, and writes whole files."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rankd.errors import ConfigError
from rankd.learn import training
from rankd.learn.training import Settings, TrainingRows

SMALL = Settings(trees=15, leaves=7, least_leaf_rows=5, threads=1)


@pytest.fixture(autouse=True)
def _needs_lightgbm() -> None:
    pytest.importorskip("lightgbm", reason="LightGBM (the extra `train`) is not installed")


def rows(lists: int = 60, seed: int = 0) -> TrainingRows:
    """Lists in which the first feature decides the grade, the second is noise, and some values are missing."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(3, 15, size=lists)
    matrix = generator.normal(size=(int(sizes.sum()), 2)).astype(np.float32)
    grades = np.clip(np.round(matrix[:, 0] + 1 + generator.normal(0, 0.3, len(matrix))), 0, 3).astype(np.int64)
    matrix[generator.random(matrix.shape) < 0.05] = np.nan
    return TrainingRows(("signal", "noise"), matrix, grades, sizes, tuple(f"q{i}" for i in range(lists)))


def test_it_learns_and_names_its_features() -> None:
    trained = training.train(rows(), SMALL)
    assert trained.training_ndcg > 0.95
    assert trained.importances[0] > 5 * trained.importances[1]
    assert "feature_names=signal noise" in trained.text


def test_the_same_rows_give_the_same_bytes() -> None:
    settings = replace(SMALL, feature_fraction=0.5, row_fraction=0.8)
    assert training.train(rows(), settings).text == training.train(rows(), settings).text
    assert training.train(rows(), settings).text != training.train(rows(), replace(settings, seed=2)).text


def test_out_of_fold_values_come_from_models_that_did_not_see_the_query() -> None:
    data = rows()
    shuffled = replace(data, grades=np.random.default_rng(1).permutation(data.grades))
    folds = training.assign_folds(data.keys, 5, seed=1)
    honest = training.cross_validate(shuffled, SMALL, folds)
    # Grades without any relation to the features: training looks good, out of fold is chance.
    chance = np.nanmean(training.list_ndcg(shuffled, np.random.default_rng(2).random(len(data.grades)), 10))
    assert training.train(shuffled, SMALL).training_ndcg > chance + 0.1
    assert honest.interval().mean == pytest.approx(chance, abs=0.06)
    assert training.cross_validate(data, SMALL, folds).interval().mean > 0.9


def test_lists_of_one_query_share_a_fold() -> None:
    keys = ["a", "b", "a", "c", "b", "d"]
    folds = training.assign_folds(keys, 2, seed=3)
    assert folds[0] == folds[2]
    assert folds[1] == folds[4]
    assert sorted(np.bincount([folds[0], folds[1], folds[3], folds[5]]).tolist()) == [2, 2]
    with pytest.raises(ConfigError, match="2 to 4 folds"):
        training.assign_folds(keys, 5, seed=3)


def test_position_bias_is_allowed_for() -> None:
    """Clicks on a list shown in an order that has nothing to do with relevance: the bias must not be learnt."""
    generator = np.random.default_rng(4)
    lists, size = 400, 10
    relevance = generator.random((lists, size))
    shown = np.argsort(np.argsort(-(0.7 * relevance + generator.random((lists, size))), axis=1), axis=1)
    clicks = generator.random((lists, size)) < relevance / (1 + shown)
    features = np.stack([relevance.ravel(), (shown + generator.normal(0, 2, shown.shape)).ravel()], axis=1)
    biased = TrainingRows(
        ("relevance", "shown_high"),
        features.astype(np.float32),
        clicks.ravel().astype(np.int64),
        np.full(lists, size),
        tuple(map(str, range(lists))),
    )
    aware = replace(biased, positions=shown.ravel() + 1)
    shares = [training.train(data, SMALL).importances for data in (biased, aware)]
    assert shares[1][0] / shares[1].sum() > shares[0][0] / shares[0].sum()


def test_nothing_to_learn_is_said() -> None:
    data = rows(5)
    with pytest.raises(ConfigError, match="two different grades"):
        training.train(replace(data, grades=np.ones_like(data.grades)), SMALL)
    with pytest.raises(ConfigError, match="no features"):
        training.train(replace(data, feature_names=(), matrix=data.matrix[:, :0]), SMALL)
    with pytest.raises(ValueError, match="shape"):
        replace(data, feature_names=("one",))
    with pytest.raises(ValueError, match="sum"):
        replace(data, sizes=data.sizes + 1)


def test_without_lightgbm_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ConfigError, match=r"pip install 'rankd\[train\]'"):
        training.train(rows(), SMALL)


def test_a_model_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "models" / "m.txt"
    training.write_model(path, "first")
    assert path.read_text() == "first"
    assert path.stat().st_mode & 0o777 == 0o644

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("rankd.models.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        training.write_model(path, "second")
    assert path.read_text() == "first"
    assert [entry.name for entry in path.parent.iterdir()] == ["m.txt"]
