"""load_model: from a declared file to a scorer, and every way a file can be unreadable."""

import hashlib
from pathlib import Path

import pytest
from support.boosters import booster
from support.xgboost_boosters import model_bytes

from rankd.errors import ModelFileError
from rankd.kernels import forest
from rankd.models import ForestScorer, LinearScorer, load, load_model
from rankd.types.profile import ModelSpec


def test_lightgbm_file(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    booster("regression").save_model(path)
    model = load_model(ModelSpec("ctr", str(path), "lightgbm"))
    assert isinstance(model.scorer, ForestScorer)
    assert (model.name, model.version) == ("ctr", "ctr@" + hashlib.sha256(path.read_bytes()).hexdigest()[:12])
    names = tuple("abcdefg")
    assert load_model(ModelSpec("ctr", str(path), "lightgbm", names)).scorer.feature_names == names


@pytest.mark.parametrize("kind", ["json", "ubj"])
def test_xgboost_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"m.{kind}"
    path.write_bytes(model_bytes("binary:logistic", kind))
    names = tuple("abcdefg")
    assert load_model(ModelSpec("ctr", str(path), "xgboost", names)).scorer.feature_names == names


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
