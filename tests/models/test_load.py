"""load_model: from a declared file to a scorer, and every way a file can be unreadable."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from support.boosters import booster
from support.xgboost_boosters import model_bytes

from rankd.errors import ModelFileError
from rankd.kernels import forest
from rankd.models import ForestScorer, LinearScorer, load, load_model
from rankd.models.objective import IDENTITY
from rankd.types.profile import ModelSpec


def test_lightgbm_file(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    booster("regression").save_model(path)
    model = load_model(ModelSpec("ctr", str(path), "lightgbm"))
    assert isinstance(model.scorer, ForestScorer)
    assert 0 < model.row_ns < 1e9
    assert (model.name, model.version) == ("ctr", "ctr@" + hashlib.sha256(path.read_bytes()).hexdigest()[:12])
    names = tuple("abcdefg")
    assert load_model(ModelSpec("ctr", str(path), "lightgbm", names)).scorer.feature_names == names


@pytest.mark.parametrize("kind", ["json", "ubj"])
def test_xgboost_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"m.{kind}"
    path.write_bytes(model_bytes("binary:logistic", kind))
    names = tuple("abcdefg")
    assert load_model(ModelSpec("ctr", str(path), "xgboost", names)).scorer.feature_names == names


def test_a_forest_that_only_walks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.txt"
    booster("regression").save_model(path)
    load_model(ModelSpec("ctr", str(path), "lightgbm"))
    assert not caplog.records
    nodes = 8_191  # a chain: every left child is a leaf
    chain = forest.Forest(
        features=1, outputs=1, node_begin=np.array([0, nodes], np.uint32), split_feature=np.zeros(nodes, np.int32),
        decision=np.zeros(nodes, np.uint8), threshold=np.arange(nodes, dtype=np.float64),
        category_set=np.zeros(nodes, np.int32), left=~np.arange(nodes, dtype=np.int32),
        right=np.append(np.arange(1, nodes), ~nodes).astype(np.int32), leaf_value=np.arange(nodes + 1.0),
        set_begin=np.zeros(1, np.uint32), set_words=np.zeros(0, np.uint32),
    )  # fmt: skip
    scorer = ForestScorer(chain, ("x",), IDENTITY)
    assert scorer.score(np.float32([[3.5] * 64]))[0, 0] == 4.0
    monkeypatch.setitem(load._PARSERS, "lightgbm", (lambda data, where, features: scorer, 1 << 20))
    load_model(ModelSpec("ctr", str(path), "lightgbm"))
    assert [r.getMessage() for r in caplog.records] == [
        "model ctr: a tree has too many nodes for rows as bits; every row is walked, with the same scores"
    ]


def test_linear_file(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"format": "rankd.linear/1", "weights": {"price": -1}}')
    assert isinstance(load_model(ModelSpec("ctr", str(path), "linear")).scorer, LinearScorer)


@pytest.mark.parametrize(
    ("path", "format", "message"),
    [
        ("none.txt", "lightgbm", "none.txt: expected a file, there is none"),
        (".", "lightgbm", "expected a file"),
        ("/dev/zero", "linear", "expected a file"),
        ("nul\0.txt", "lightgbm", ""),
        (
            "none.txt",
            "onnx",
            "m.format: expected format catboost, compiled, lightgbm, linear, xgboost, got 'onnx'",
        ),
    ],
)
def test_unreadable(path: str, format: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        load_model(ModelSpec("m", path if format == "onnx" else str(tmp_path / path), format))
    assert message in str(caught.value)


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"format": "rankd.linear/1", "weights": {"price": -1}}')
    monkeypatch.setitem(load._PARSERS, "linear", (load.parse_linear, 10))
    with pytest.raises(ModelFileError, match="expected at most 10 bytes"):
        load_model(ModelSpec("m", str(path), "linear"))


def test_limits_are_the_kernels_own() -> None:
    from rankd import limits

    assert (forest.MAX_FEATURES, forest.MAX_OUTPUTS) == (limits.MAX_MODEL_FEATURES, limits.MAX_MODEL_OUTPUTS)
    assert (forest.MAX_TREES, forest.MAX_LEAVES_PER_TREE) == (limits.MAX_TREES, limits.MAX_LEAVES_PER_TREE)
