"""Compiled models: the same bits as their source, from a file that is mapped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from support import xgboost_boosters
from support.boosters import booster, nasty_rows
from support.catboost_boosters import catboost_model

from rankd.errors import ModelFileError
from rankd.kernels.forest import TIERS
from rankd.models import ForestScorer, load, load_model, parse_linear
from rankd.models.compiled import read_compiled, write_compiled
from rankd.models.load import FORMATS, detect_format, read_model
from rankd.types.profile import ModelSpec
from rankd.workspace.sections import MODEL_FORMATS, ModelFormat

LIGHTGBM = ("binary_sigmoid", "rf_multiclass", "linear", "many_categories", "zero_as_missing", "single_leaf", "wide")
XGBOOST = ("binary:logistic", "softprob", "vector", "dart", "partition", "named")
CATBOOST = ("scaled", "multiclass_lossguide", "nan_max", "borders_2000", "named")
NAMES = [*(("lightgbm", n) for n in LIGHTGBM), *(("xgboost", n) for n in XGBOOST), *(("catboost", n) for n in CATBOOST)]


def source(family: str, name: str, folder: Path) -> Path:
    """The model's file as its library writes it."""
    path = folder / f"model.{'txt' if family == 'lightgbm' else 'json'}"
    if family == "lightgbm":
        path.write_text(booster(name).model_to_string())
    else:
        path.write_bytes(
            catboost_model(name)[1] if family == "catboost" else xgboost_boosters.model_bytes(name, "json")
        )
    return path


def compiled(family: str, name: str, folder: Path) -> tuple[ForestScorer, Path]:
    """The scorer of the source and the compiled file."""
    scorer, origin = read_model(source(family, name, folder), family)
    assert isinstance(scorer, ForestScorer)
    size = write_compiled(folder / "model.rkmodel", scorer, origin)
    assert (folder / "model.rkmodel").stat().st_size == size
    return scorer, folder / "model.rkmodel"


def rows_for(features: int) -> np.ndarray:
    """float32 (features, rows) with NaN, infinities, zeros and categories."""
    return np.ascontiguousarray(np.resize(nasty_rows(booster("regression"), 600).T, (features, 600)))


@pytest.mark.parametrize(("family", "name"), NAMES)
def test_the_same_bits_as_its_source(family: str, name: str, tmp_path: Path) -> None:
    scorer, path = compiled(family, name, tmp_path)
    mapped, origin = read_compiled(path)
    assert (mapped.feature_names, mapped.output_names) == (scorer.feature_names, scorer.output_names)
    assert mapped.transform == scorer.transform
    assert mapped.transform.objective == scorer.transform.objective
    matrix = rows_for(len(scorer.feature_names))
    for raw in (False, True):
        assert mapped.score(matrix, raw).tobytes() == scorer.score(matrix, raw).tobytes()
    for tier in filter(scorer.forest.has_tier, TIERS):
        assert mapped.forest.score(matrix, tier).tobytes() == scorer.forest.score(matrix, tier).tobytes()
    assert (origin.family, origin.source) == (family, source(family, name, tmp_path).name)


EXPLAINED = [("lightgbm", "lambdarank"), ("xgboost", "softprob"), ("catboost", "scaled")]


@pytest.mark.parametrize(("family", "name"), EXPLAINED)
def test_explains_as_its_source(family: str, name: str, tmp_path: Path) -> None:
    scorer, path = compiled(family, name, tmp_path)
    matrix = rows_for(len(scorer.feature_names))[:, :40]
    assert read_compiled(path)[0].explain(matrix).tobytes() == scorer.explain(matrix).tobytes()


def test_version_is_that_of_the_source(tmp_path: Path) -> None:
    _, path = compiled("lightgbm", "regression", tmp_path)
    versions = {
        load_model(ModelSpec("ctr", str(file), format)).version
        for file, format in ((path, "compiled"), (tmp_path / "model.txt", "lightgbm"))
    }
    assert len(versions) == 1


def test_numbered_features_may_be_declared_under_other_names(tmp_path: Path) -> None:
    for family, name in (("lightgbm", "regression"), ("xgboost", "rank:ndcg"), ("catboost", "scaled")):
        scorer, path = compiled(family, name, tmp_path)
        names = tuple(f"signal_{i}" for i in range(len(scorer.feature_names)))
        assert read_compiled(path, names)[0].feature_names == names
        with pytest.raises(ModelFileError, match="distinct features to be declared, got 1"):
            read_compiled(path, ("one",))
    _, path = compiled("xgboost", "named", tmp_path)
    with pytest.raises(ModelFileError, match=r"features\[0\]: the declared feature 0 is 'a', but the file names it"):
        read_compiled(path, tuple("abcdefg"))


WORKER = """
import sys
import numpy as np
from rankd.models.load import load_model
from rankd.types.profile import ModelSpec
scorer = load_model(ModelSpec("m", sys.argv[1], "compiled")).scorer
print(scorer.score(np.load(sys.argv[2])).tobytes().hex(), flush=True)
sys.stdin.readline()
maps = open("/proc/self/smaps").read() if sys.platform == "linux" else ""
place = maps.find(sys.argv[1])
print(maps[place:].split("Shared_Clean:")[1].split()[0] if place >= 0 else -1)
"""


def test_two_processes_share_the_file(tmp_path: Path) -> None:
    scorer, path = compiled("lightgbm", "wide", tmp_path)
    matrix = rows_for(len(scorer.feature_names))
    np.save(tmp_path / "rows.npy", matrix)
    command = [sys.executable, "-c", WORKER, str(path), str(tmp_path / "rows.npy")]
    workers = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(2)]
    expected = scorer.score(matrix).tobytes().hex()
    assert [worker.stdout.readline().strip() for worker in workers] == [expected] * 2  # type: ignore[union-attr]
    shared = [int(worker.communicate("\n", timeout=60)[0]) for worker in workers]
    if sys.platform == "linux":
        # While both ran, every page of the first was the other's, too.
        assert shared[0] * 1024 >= path.stat().st_size - 8192


def test_a_new_file_takes_the_place_and_the_mapped_one_stays(tmp_path: Path) -> None:
    first, path = compiled("lightgbm", "wide", tmp_path)
    mapped, _ = read_compiled(path)
    compiled("lightgbm", "small", tmp_path)
    matrix = rows_for(len(first.feature_names))
    assert mapped.score(matrix).tobytes() == first.score(matrix).tobytes()
    assert read_compiled(path)[0].forest.trees == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.rkmodel", "model.txt"]


@pytest.mark.parametrize(("family", "name"), [*((f, n) for f, n in NAMES[::4]), ("xgboost", "linear")])
def test_formats_are_told_by_their_first_bytes(family: str, name: str, tmp_path: Path) -> None:
    path = source(family, name, tmp_path)
    assert detect_format(path) == family
    if family == "xgboost":
        path.write_bytes(xgboost_boosters.model_bytes(name, "ubj"))
        assert detect_format(path) == "xgboost"


def test_formats_of_other_files(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for key in ('"format": "rankd.linear/1"', '"weights": {}', '"intercept": 1'):
        path.write_text("\n { " + key + "}")
        assert detect_format(path) == "linear"
    for data in (b"", b"{", b"{}", b"PK\3\4", b'{"x": 1}', b"[1]"):
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match="say which format it has"):
            detect_format(path)
    with pytest.raises(ModelFileError, match="there is none"):
        detect_format(tmp_path / "none")


def test_formats_are_those_of_the_workspace() -> None:
    assert set(FORMATS) == set(get_args(ModelFormat)) == {*load._PARSERS, "compiled"}
    assert set(MODEL_FORMATS.values()) <= set(FORMATS)


def test_a_linear_model_has_no_forest() -> None:
    assert not isinstance(parse_linear('{"format": "rankd.linear/1", "weights": {"price": -1}}'), ForestScorer)
