"""Damaged and hostile CatBoost files: a ModelFileError that says where, or a scorer that scores; nothing else."""

import copy
import json
import os
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.catboost_files import nodes_of, oblivious_file, tree_file
from support.edge_rows import edge_rows

from rankd import limits
from rankd.errors import ModelFileError
from rankd.models import parse_catboost

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
FILES = {
    "oblivious": oblivious_file(),
    "outputs": oblivious_file(outputs=3),
    "tree": tree_file(),
    "tree_outputs": tree_file(outputs=2),
}


def error_of(document: Any) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(ModelFileError) as caught:
        parse_catboost(data, "m.json")
    return str(caught.value)


def only_refused_or_sound(data: bytes) -> None:
    try:
        scorer = parse_catboost(data, "m.json")
    except ModelFileError as error:
        assert re.match(r"m\.json(:[\w. \[\]:]+)?$", error.where), error
        return
    rows = edge_rows(70, len(scorer.feature_names), {0: [0.5, 1.5]}, {}, 1)
    matrix = np.ascontiguousarray(rows.T)
    expected = scorer.forest.score(matrix, "scalar")
    assert np.array_equal(scorer.forest.score(matrix), expected)
    assert scorer.score(matrix).shape == (len(scorer.output_names), 70)


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_sound(name: str) -> None:
    assert parse_catboost(json.dumps(FILES[name]), "m.json").forest.trees == 2


@pytest.mark.parametrize("name", ["oblivious", "tree"])
def test_cut_at_every_offset(name: str) -> None:
    data = json.dumps(FILES[name]).encode()
    for end in range(len(data)):
        assert error_of(data[:end]).startswith("m.json: "), end


@settings(max_examples=400 * SCALE)
@given(st.data())
def test_flipped_bytes(data: st.DataObject) -> None:
    changed = bytearray(json.dumps(FILES[data.draw(st.sampled_from(sorted(FILES)))]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    only_refused_or_sound(bytes(changed))


VALUES = [-1, 0, 1, 2, 7, 254, 255, 2**31, 2**63, 2**64, 10**30, -(10**30), 0.5, -0.5, 1e308, 3.5e38, 1e-46, 1e-320]
VALUES += [None, True, False, "", "0", "FloatFeature", "OneHotFeature", "AsTrue", "x" * 100, "\u0000", "é"]
VALUES += [[], {}, [[]], [0], [0, 0], [None], {"value": 1}, {"split": None}, [1, [1]], [1e40], [[0] * 9]]


@settings(max_examples=1000 * SCALE)
@given(st.data())
def test_changed_values(data: st.DataObject) -> None:
    """A value anywhere is another, gone, doubled, or that of another place."""
    document = copy.deepcopy(FILES[data.draw(st.sampled_from(sorted(FILES)))])
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(nodes_of(document))
        parent, key = data.draw(st.sampled_from(places))
        match data.draw(st.sampled_from(["change", "delete", "double", "swap"])):
            case "change":
                parent[key] = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
            case "delete":
                del parent[key]
            case "double" if isinstance(parent, list):
                parent.insert(key, parent[key])
            case _:
                other, other_key = data.draw(st.sampled_from(places))
                parent[key] = copy.deepcopy(other[other_key])
        if not document:
            break
    only_refused_or_sound(json.dumps(document).encode())


def edited(path: str, value: Any, name: str = "oblivious") -> dict[str, Any]:
    """The file with the value at a path of the form a.b[0].c; `...` deletes it."""
    document = copy.deepcopy(FILES[name])
    *steps, last = [int(step) if step.isdigit() else step for step in re.findall(r"\w+", path)]
    parent = document
    for step in steps:
        parent = parent[step]
    if value is ...:
        del parent[last]
    else:
        parent[last] = value
    return document


FLOATS = "features_info.float_features"


@pytest.mark.parametrize(
    ("path", "value", "where", "message"),
    [
        ("features_info", ..., "", "missing required field `features_info`"),
        ("features_info.colour", 1, "features_info", "unknown field `colour`"),
        ("features_info.categorical_features", [{"feature_index": 0}], None, "categorical features (one-hot, CTR) are"),
        ("features_info.ctrs", [{"a": 1}], None, "CTR features are not supported"),
        ("features_info.text_features", [], "features_info", "unknown field `text_features`"),
        ("ctr_data", {"a": 1}, None, "CTR features are not supported"),
        (FLOATS, [], None, "expected 1 to 65536 features, got 0"),
        (f"{FLOATS}[0].flat_feature_index", 1, FLOATS, "expected flat_feature_index from 0 to 1, each once"),
        (f"{FLOATS}[0].flat_feature_index", -1, FLOATS, "expected flat_feature_index from 0 to 1, each once"),
        (f"{FLOATS}[0].flat_feature_index", 10**12, FLOATS, "expected flat_feature_index from 0 to 1, each once"),
        (f"{FLOATS}[1].feature_index", 5, FLOATS, "expected feature_index from 0 to 1, each once"),
        (f"{FLOATS}[1].feature_index", "0", None, "Expected `int`, got `str`"),
        (f"{FLOATS}[1].feature_id", "price", FLOATS, "expected distinct feature names"),
        (f"{FLOATS}[1].has_nans", 1, None, "Expected `bool`, got `int`"),
        (f"{FLOATS}[1].nan_value_treatment", "Maybe", None, "expected AsIs, AsFalse or AsTrue, got 'Maybe'"),
        (f"{FLOATS}[0].borders[1]", 0.5, None, "expected finite, rising float32 borders"),
        (f"{FLOATS}[0].borders[1]", 0.25, None, "expected finite, rising float32 borders"),
        (f"{FLOATS}[0].borders[1]", 1e39, None, "expected finite, rising float32 borders"),
        (f"{FLOATS}[0].borders[0]", "nan", None, "Expected `float`, got `str`"),
        ("oblivious_trees", ..., "", "expected either oblivious_trees or trees"),
        ("trees", [], "", "expected either oblivious_trees or trees"),
        ("oblivious_trees", [], None, "expected 1 to 100000 trees, got 0"),
        ("oblivious_trees[1].colour", 1, "oblivious_trees[1]", "unknown field `colour`"),
        (
            "oblivious_trees[1].splits[0].split_type",
            "OneHotFeature",
            "oblivious_trees[1].splits[0]",
            "train with float",
        ),
        ("oblivious_trees[1].splits[0].split_type", "OnlineCtr", "oblivious_trees[1].splits[0]", "got 'OnlineCtr'"),
        ("oblivious_trees[1].splits[0].split_index", 3, "oblivious_trees[1].splits[0]", "from 0 to 2, got 3"),
        ("oblivious_trees[1].splits[0].split_index", -1, "oblivious_trees[1].splits[0]", "from 0 to 2, got -1"),
        ("oblivious_trees[1].splits[0].border", 0.75, "oblivious_trees[1].splits[0]", "the split says 0.75 of feature"),
        ("oblivious_trees[1].splits[0].border", ..., "oblivious_trees[1].splits[0]", "one is missing"),
        ("oblivious_trees[1].splits[0].float_feature_index", 1, "oblivious_trees[1].splits[0]", "of feature 1"),
        ("oblivious_trees[1].leaf_values", [1, 2, 3], None, "for each of 2^2 leaves, got 3 values"),
        ("oblivious_trees[1].leaf_values", [], None, "for each of 2^2 leaves, got 0 values"),
        ("oblivious_trees[1].leaf_values", [0] * 8, "oblivious_trees[1]", "expected 1 outputs as before, got 2"),
        ("oblivious_trees[1].leaf_values", [0] * 4100, None, "expected 1 to 1024 values for each of 2^2 leaves"),
        ("oblivious_trees[1].leaf_values[2]", None, None, "Expected `float`, got `null`"),
        ("oblivious_trees[1].leaf_weights", [1, 2], None, "expected 4 weights, got 2"),
        ("oblivious_trees[1].leaf_weights[2]", -1, None, "expected weights of 0 or more"),
        ("oblivious_trees[1].splits", [{"split_type": "FloatFeature", "split_index": 0}] * 17, None, "got 2^17"),
        ("oblivious_trees[1].splits", [{"split_type": "FloatFeature", "split_index": 0}] * 90000, None, "got 2^90000"),
        ("scale_and_bias", [1, [0, 0]], "scale_and_bias[1]", "expected 1 biases, got 2"),
        ("scale_and_bias", [1], None, "Expected `array` of length 2"),
        ("scale_and_bias", ["1", 0], "scale_and_bias[0]", "Expected `float`, got `str`"),
        ("model_info.params.loss_function.type", "Astrology", "model_info.params.loss_function", "'Astrology' is not"),
        ("model_info.params.loss_function.type", "RMSEWithUncertainty", "model_info.params.loss_function", "is not"),
        ("model_info.params.loss_function.type", "MultiClass", "model_info.params.loss_function", "at least 2 outputs"),
        ("model_info", {"loss_function": "{"}, "model_info.loss_function", "expected a loss as JSON"),
    ],
)
def test_refusals_say_what_and_where(path: str, value: Any, where: str | None, message: str) -> None:
    """`where`: what the message names, if it is not the path itself."""
    error = error_of(edited(path, value))
    place = path if where is None else where
    assert error.startswith(f"m.json:{place}: " if place else "m.json: "), error
    assert message in error


@pytest.mark.parametrize(
    ("path", "value", "where", "message"),
    [
        ("trees[0].left", ..., "trees[0]", "expected value, or split, left and right"),
        ("trees[0].right.value", 1, "trees[0].right", "expected a leaf (value) or a split, got both"),
        ("trees[0].left.value", ..., "trees[0].left", "expected value, or split, left and right"),
        ("trees[0].left.value", [1, 2], "trees[0].right.left.value", "expected 2 values, got 1"),
        ("trees[0].left.value", [], "trees[0].left.value", "expected values, got 0"),
        ("trees[0].left.weight", -1, "trees[0]: weights of leaves[0]", "expected weights of 0 or more"),
        ("trees[0].right.split.split_index", 9, "trees[0].right.split", "expected split_index from 0 to 2, got 9"),
        ("trees[1]", {"value": [1, 2]}, "trees[1]", "expected 1 outputs as before, got 2"),
    ],
)
def test_refusals_of_trees_that_are_not_symmetric(path: str, value: Any, where: str, message: str) -> None:
    error = error_of(edited(path, value, "tree"))
    assert error.startswith(f"m.json:{where}: ")
    assert message in error


@pytest.mark.parametrize("text", ["[" * 100_000, '{"trees":[' + '{"left":' * 100_000, '{"x":' * 100_000])
def test_endless_nesting_is_refused(text: str) -> None:
    error_of(text.encode())


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"\xff", b'{"trees": "\xff"}', b"NaN", b'{"\xff": 1}'])
def test_what_is_no_model_is_refused(text: bytes) -> None:
    assert error_of(text).startswith("m.json: ") or error_of(text).startswith("m.json:trees: ")


def test_numbers_out_of_range_are_refused() -> None:
    data = json.dumps(FILES["oblivious"]).replace('"leaf_values": [1.0', '"leaf_values": [1e999', 1)
    assert "m.json:oblivious_trees[0].leaf_values[0]: Number out of range" in error_of(data.encode())


def test_a_deep_chain_is_scored() -> None:
    """Deeper than CatBoost grows trees; each level cuts off one leaf."""
    split = FILES["tree"]["trees"][0]["split"]
    node: dict[str, Any] = {"value": 5.0, "weight": 1}
    for level in range(100):
        node = {"split": split, "left": {"value": float(level), "weight": 1}, "right": node}
    scorer = parse_catboost(json.dumps({**FILES["tree"], "trees": [node]}), "m.json")
    above, below = np.full((2, 1), 9e9, np.float32), np.full((2, 1), -9e9, np.float32)
    assert scorer.score(above, raw=True)[0, 0] == 5.0
    assert scorer.score(below, raw=True)[0, 0] == 99.0


def test_too_many_trees_and_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TREES", 1)
    assert "m.json:oblivious_trees: expected 1 to 1 trees, got 2" in error_of(FILES["oblivious"])
    monkeypatch.setattr(limits, "MAX_TREES", 2)
    monkeypatch.setattr(limits, "MAX_LEAVES_PER_TREE", 2)
    assert "m.json:oblivious_trees[0].splits: expected at most 2 leaves, got 2^2" in error_of(FILES["oblivious"])
    assert "m.json:trees[0]: expected at most 2 leaves" in error_of(FILES["tree"])


def test_many_splits_do_not_allocate() -> None:
    data = json.dumps(edited("oblivious_trees[1].splits", FILES["oblivious"]["oblivious_trees"][0]["splits"] * 15))
    tracemalloc.start()
    try:
        error_of(data.encode())
        assert tracemalloc.get_traced_memory()[1] < 50 * len(data) + 100_000
    finally:
        tracemalloc.stop()


def test_declared_features_must_fit() -> None:
    document = FILES["oblivious"]
    assert parse_catboost(json.dumps(document)).feature_names == ("price", "age")
    for given_names in (["price"], ["price", "price"]):
        with pytest.raises(ModelFileError, match="expected 2 distinct features"):
            parse_catboost(json.dumps(document), features=given_names)
    with pytest.raises(ModelFileError, match="declared feature 1 is 'size', but the file names it 'age'"):
        parse_catboost(json.dumps(document), features=["price", "size"])
    unnamed = edited(f"{FLOATS}[0].feature_id", "")
    unnamed["features_info"]["float_features"][1]["feature_id"] = ""
    assert parse_catboost(json.dumps(unnamed)).feature_names == ("0", "1")
    assert parse_catboost(json.dumps(unnamed), features=["price", "size"]).feature_names == ("price", "size")
