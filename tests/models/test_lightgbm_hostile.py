"""Damaged and hostile LightGBM files: a ModelFileError that says where, or a scorer that scores; nothing else."""

import os
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.boosters import booster, nasty_rows

from rankd import limits
from rankd.errors import ModelFileError
from rankd.kernels.forest import TIERS
from rankd.models import parse_lightgbm

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
MODELS = ("small", "stumps", "linear", "multiclass", "many_categories", "first_leaf_then_trees")


def text_of(name: str) -> bytes:
    return booster(name).model_to_string().encode()


def without_sizes(data: bytes) -> bytes:
    """So that a change of a tree's length is judged by what it changes, not by tree_sizes."""
    return re.sub(rb"tree_sizes=.*\n", b"", data)


def body(data: bytes) -> bytes:
    return data[: data.index(b"end of trees\n") + len(b"end of trees\n")]


def error_of(data: bytes) -> str:
    with pytest.raises(ModelFileError) as caught:
        parse_lightgbm(data, "m.txt")
    return str(caught.value)


def only_refused_or_sound(data: bytes) -> None:
    try:
        scorer = parse_lightgbm(data, "m.txt")
    except ModelFileError as error:
        assert re.match(r"m\.txt:\d+$", error.where), error
        return
    matrix = np.resize(nasty_rows(booster("regression"), 70).T, (len(scorer.feature_names), 70)).copy()
    expected = scorer.forest.score(matrix, "scalar")
    for tier in filter(scorer.forest.has_tier, TIERS):
        assert np.array_equal(scorer.forest.score(matrix, tier), expected, equal_nan=True)
    assert scorer.score(matrix).shape == (len(scorer.output_names), 70)


@pytest.mark.parametrize("name", ["small", "single_leaf"])
def test_cut_at_every_offset(name: str) -> None:
    """A cut before the end of "end of trees" is refused; what follows it (importances, parameters) is not needed."""
    data = text_of(name)
    needed = len(body(data))
    for end in range(needed):
        assert re.match(r"m\.txt:\d+: ", error_of(data[:end])), end
    for end in (needed, needed + 1, len(data) // 2 + needed // 2, len(data)):
        assert parse_lightgbm(data[:end]).forest.trees == parse_lightgbm(data).forest.trees


@settings(max_examples=300 * SCALE)
@given(st.data())
def test_flipped_bytes(data: st.DataObject) -> None:
    original = body(text_of(data.draw(st.sampled_from(MODELS))))
    changed = bytearray(data.draw(st.sampled_from([original, without_sizes(original)])))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    only_refused_or_sound(bytes(changed))


NUMBERS = ["-1", "0", "1", "2", "7", "15", "-2147483648", "2147483647", "4294967296", "999999999", "9" * 30, "1e308"]
NUMBERS += ["-1e999", "nan", "inf", "-inf", "", " ", "0x10", "1_0", "٣", "1 2", "1.5", "-0"]


@settings(max_examples=600 * SCALE)
@given(st.data())
def test_substituted_numbers(data: st.DataObject) -> None:
    text = without_sizes(body(text_of(data.draw(st.sampled_from(MODELS)))))
    places = list(re.finditer(rb"-?[0-9][0-9.e+-]*", text))
    for place in sorted(data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)), key=lambda m: -m.start()):
        number = data.draw(st.sampled_from(NUMBERS)).encode()
        text = text[: place.start()] + number + text[place.end() :]
    only_refused_or_sound(text)


@settings(max_examples=300 * SCALE)
@given(st.data())
def test_lines_deleted_doubled_moved(data: st.DataObject) -> None:
    lines = without_sizes(body(text_of(data.draw(st.sampled_from(MODELS))))).split(b"\n")
    i = data.draw(st.integers(0, len(lines) - 1))
    j = data.draw(st.integers(0, len(lines) - 1))
    match data.draw(st.sampled_from(["delete", "double", "swap"])):
        case "delete":
            del lines[i]
        case "double":
            lines.insert(j, lines[i])
        case _:
            lines[i], lines[j] = lines[j], lines[i]
    only_refused_or_sound(b"\n".join(lines))


def edited(name: str, pattern: str, replacement: str) -> bytes:
    text, count = re.subn(pattern, replacement, without_sizes(text_of(name)).decode(), count=1, flags=re.MULTILINE)
    assert count == 1
    return text.encode()


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"^tree$", "tree ", 'm.txt:1: expected the first line "tree"'),
        (r"^version=v4", "version=v9", "m.txt:2: expected version v3 or v4, got v9"),
        (r"^label_index=0", "label_index=0\ncolour=red", "the header has the unknown key 'colour'"),
        (r"^num_class=1", "num_class=1\nnum_class=1", "the header has num_class twice"),
        (r"^num_class=1", "num_class=2", "expected num_class 1"),
        (
            r"^num_tree_per_iteration=1",
            "num_tree_per_iteration=0",
            "expected num_tree_per_iteration as an integer from 1",
        ),
        (r"^max_feature_idx=6", "max_feature_idx=5", "expected 6 values of feature_names, got 7"),
        (r"^max_feature_idx=6", "max_feature_idx=999999999", "expected max_feature_idx as an integer from 0 to 65535"),
        (r"Column_1 ", "Column_0 ", "expected distinct, non-empty feature_names"),
        (r"^objective=.*", "objective=astrology", "m.txt:7: objective 'astrology' is not supported"),
        (r"^objective=.*", "objective=binary", "expected the objective's sigmoid"),
        (r"^objective=.*", "objective=binary sigmoid:0", "expected a sigmoid above 0"),
        (r"^objective=.*", "objective=regression colour:red", "has the unknown word 'colour'"),
        (r"^objective=.*", "objective=multiclass num_class:3", "expected num_class:1 in objective multiclass"),
        (r"^Tree=1", "Tree=7", 'expected "Tree=1" or "end of trees"'),
        (r"^num_leaves=2", "num_leaves=999999999", "expected num_leaves as an integer from 1 to 65536"),
        (r"^num_leaves=2", "num_leaves=3", "expected 3 values of leaf_value, got 2"),
        (r"^num_leaves=2\n", "", "expected a line num_leaves=…, it is missing"),
        (r"^num_cat=0", "num_cat=5", "expected num_cat as an integer from 0 to 1"),
        (r"^split_feature=.*", "split_feature=7", "expected split_feature[0] from 0 to 6, got 7"),
        (r"^split_feature=.*", "split_feature=x", "expected split_feature as integers"),
        (r"^threshold=.*", "threshold=nan", "expected threshold as numbers"),
        (r"^threshold=.*", "threshold=1_0", "expected threshold as numbers"),
        (r"^decision_type=.*", "decision_type=16", "expected decision_type[0] from 0 to 15, got 16"),
        (r"^decision_type=.*", "decision_type=12", "decision_type[0] of tree 0 has bits of no meaning"),
        (r"^decision_type=.*", "decision_type=1", "of a categorical node below num_cat=0"),
        (r"^left_child=.*", "left_child=0", "left_child[0] of tree 0 is out of range or already the child"),
        (r"^right_child=.*", "right_child=-1", "right_child[0] of tree 0 is out of range or already the child"),
        (r"^right_child=.*", "right_child=-3", "expected right_child[0] from -2 to 0, got -3"),
        (r"^leaf_value=.*", "leaf_value=1 inf", "leaf_value[1] of tree 0 is not finite"),
        (r"^leaf_value=.*", "leaf_value=1 1e999", "leaf_value[1] of tree 0 is not finite"),
        (r"^leaf_value=.*", "leaf_value=1  2", "expected 2 values of leaf_value, got 3"),
        (r"^internal_value=.*", "internal_value=1 2", "expected 1 values of internal_value, got 2"),
        (r"^is_linear=0", "is_linear=1", "expected a line num_features=…, it is missing"),
        (r"^is_linear=0", "is_linear=2", "expected is_linear as an integer from 0 to 1"),
        (r"^is_linear=0", "is_linear=0\nleaf_const=1 2", "expected is_linear=1 beside leaf_const"),
        (r"^leaf_count=.*", "leaf_count=1 -2", "expected leaf_count[1] from 0 to 2147483647, got -2"),
        (r"^internal_count=.*", "internal_count=1.5", "expected internal_count as integers"),
        (r"^shrinkage=1", "growth=1", "the tree has the unknown key 'growth'"),
    ],
)
def test_refusals_say_what_and_where(pattern: str, replacement: str, message: str) -> None:
    assert message in error_of(edited("stumps", pattern, replacement))


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"^num_features=\d+", "num_features=9", "expected num_features[0] from 0 to 7, got 9"),
        (r"^num_features=\d+", "num_features=7", "values of leaf_features for 6 leaves"),
        (r"^num_features=", "num_features=1 ", "expected 6 values of num_features, got 7"),
        (r"^leaf_features=\d+", "leaf_features=7", "expected leaf_features[0] from 0 to 6, got 7"),
        (r"^leaf_features=\d+", "leaf_features=x", "expected leaf_features as integers"),
        (r"^leaf_features=\d+ ", "leaf_features=", "values of leaf_features for 6 leaves"),
        (r"^leaf_features=\d+", "leaf_features= ", "values of leaf_features for 6 leaves"),
        (r"^leaf_coeff=\S+", "leaf_coeff=nan", "expected leaf_coeff as numbers"),
        (r"^leaf_coeff=\S+", "leaf_coeff=inf", "leaf_coeff[0] is not finite"),
        (r"^leaf_coeff=\S+ ", "leaf_coeff=", "values of leaf_coeff for 6 leaves"),
        (r"^leaf_coeff=.*\n", "", "expected a line leaf_coeff=…, it is missing"),
        (r"^leaf_const=\S+", "leaf_const=1e999", "leaf_const[0] is not finite"),
        (r"^leaf_const=\S+ ", "leaf_const=", "expected 6 values of leaf_const, got 5"),
    ],
)
def test_refusals_of_linear_trees(pattern: str, replacement: str, message: str) -> None:
    text = without_sizes(text_of("linear")).decode()
    head, tree = text.split("Tree=1\n", 1)  # the first tree has no linear terms
    tree, count = re.subn(pattern, replacement, tree, count=1, flags=re.MULTILINE)
    assert count == 1
    assert message in error_of((head + "Tree=1\n" + tree).encode())


def test_cycles_and_shared_children_are_refused() -> None:
    data = without_sizes(text_of("regression")).decode()
    left = [int(v) for v in re.search(r"^left_child=(.*)", data, re.MULTILINE)[1].split()]
    right = [int(v) for v in re.search(r"^right_child=(.*)", data, re.MULTILINE)[1].split()]
    for i, children in enumerate((left, right)):
        for node in range(len(children)):
            for child in {*range(-len(left) - 1, len(left))} - {children[node]}:
                changed = [list(left), list(right)]
                changed[i][node] = child
                text = re.sub(r"(?m)^left_child=.*", f"left_child={' '.join(map(str, changed[0]))}", data, count=1)
                text = re.sub(r"(?m)^right_child=.*", f"right_child={' '.join(map(str, changed[1]))}", text, count=1)
                assert re.match(r"m\.txt:\d+: (left|right)_child\[\d+\] of tree 0 ", error_of(text.encode()))


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"^cat_boundaries=0", "cat_boundaries=1"),
        (r"^cat_boundaries=0 \d+", "cat_boundaries=0 99999999"),
        (r"^cat_threshold=\d+", "cat_threshold=4294967296"),
        (r"^cat_threshold=\d+", "cat_threshold=-1"),
        (r"^cat_threshold=", "cat_threshold=1 "),
        (r"^cat_threshold=.*\n", ""),
        (r"^num_cat=\d+", "num_cat=1"),
    ],
)
def test_category_sets_out_of_range(pattern: str, replacement: str) -> None:
    assert re.match(r"m\.txt:\d+: expected ", error_of(edited("many_categories", pattern, replacement)))


def test_tree_sizes_are_checked() -> None:
    text = text_of("regression")
    assert "the file was changed after it was written" in error_of(
        re.sub(rb"leaf_value=", b"leaf_value=1", text, count=1)
    )
    assert "values of tree_sizes" in error_of(re.sub(rb"tree_sizes=\d+ ", b"tree_sizes=", text))


def test_large_counts_do_not_allocate() -> None:
    data = edited("stumps", r"^num_leaves=2", f"num_leaves={limits.MAX_LEAVES_PER_TREE}")
    tracemalloc.start()
    try:
        error_of(data)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data) + 100_000
    finally:
        tracemalloc.stop()


def test_no_trees_and_too_many_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    text = without_sizes(text_of("stumps"))
    assert "the model has no trees" in error_of(text[: text.index(b"Tree=0")] + b"end of trees\n")
    monkeypatch.setattr(limits, "MAX_TREES", 3)
    assert "expected at most 3 trees" in error_of(text)


def test_trees_must_fill_iterations() -> None:
    text = without_sizes(body(text_of("multiclass")))
    cut = text[: text.rindex(b"Tree=")] + b"end of trees\n"
    assert "expected a multiple of 3 trees" in error_of(cut)


def test_declared_features_must_fit() -> None:
    text = text_of("stumps")
    assert parse_lightgbm(text, features=list("abcdefg")).feature_names == tuple("abcdefg")
    for given_names in (["a"], ["a"] * 7):
        with pytest.raises(ModelFileError, match="expected 7 distinct features"):
            parse_lightgbm(text, features=given_names)
    named = text.replace(b"Column_0 ", b"price ")
    with pytest.raises(ModelFileError, match="declared feature 0 is 'a', but the file names it 'price'"):
        parse_lightgbm(named, features=list("abcdefg"))


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((6, 3), np.float32),
        np.zeros((7, 3), np.float64),
        np.zeros(7, np.float32),
        [[0.0]],
    ],
    ids=["features", "dtype", "axes", "list"],
)
def test_a_matrix_that_does_not_fit(matrix: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_lightgbm(text_of("stumps")).score(matrix)


@pytest.mark.parametrize("key", [b"split_feature", b"decision_type", b"left_child", b"threshold", b"leaf_value"])
def test_an_empty_last_number_is_refused(key: bytes) -> None:
    """A blank in the place of the last number: as many words as expected, but one of them is empty."""
    data = re.sub(rb"(?m)^(" + key + rb"=.* )\S+$", rb"\1", without_sizes(text_of("regression")), count=1)
    assert f"expected {key.decode()} as" in error_of(data)
