"""Damaged and hostile XGBoost files: a ModelFileError that says where, or a scorer that scores; nothing else."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.xgboost_boosters import document, model_bytes, nasty_rows, trees_of

from rankd import limits
from rankd.errors import ModelFileError
from rankd.kernels.forest import TIERS
from rankd.models import ForestScorer, parse_xgboost

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
MODELS = ("depth_2", "one_hot", "exact_pruned", "dart_softprob", "vector", "single_leaf", "linear")
MODEL = "learner.gradient_booster.model"


def ubjson(value: Any) -> bytes:
    """UBJSON as XGBoost writes it: long counts, lists of float32 and of int32 with a type."""
    match value:
        case None:
            return b"Z"
        case bool():
            return b"T" if value else b"F"
        case int():
            return b"l" + struct.pack(">i", value) if -(2**31) <= value < 2**31 else b"L" + struct.pack(">q", value)
        case float():
            return b"D" + struct.pack(">d", value)
        case str():
            return b"S" + key_bytes(value)
        case dict():
            return b"{" + b"".join(key_bytes(k) + ubjson(v) for k, v in value.items()) + b"}"
    count = b"#L" + struct.pack(">q", len(value))
    if value and all(type(v) is float for v in value):
        with np.errstate(over="ignore"):
            return b"[$d" + count + np.array(value, ">f4").tobytes()
    if value and all(type(v) is int and -(2**31) <= v < 2**31 for v in value):
        return b"[$l" + count + np.array(value, ">i4").tobytes()
    return b"[" + count + b"".join(map(ubjson, value))


def key_bytes(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"L" + struct.pack(">q", len(data)) + data


def error_of(data: bytes) -> ModelFileError:
    with pytest.raises(ModelFileError) as caught:
        parse_xgboost(data, "m")
    assert re.match(r"m(:.+)?$", caught.value.where), caught.value
    assert len(str(caught.value)) < 900
    return caught.value


def only_refused_or_sound(data: bytes) -> None:
    try:
        scorer = parse_xgboost(data, "m")
    except ModelFileError as error:
        assert re.match(r"m(:.+)?$", error.where), error
        assert len(str(error)) < 900
        return
    matrix = np.resize(nasty_rows("depth_2", 70, 0, infinite=True).T, (len(scorer.feature_names), 70)).copy()
    with np.errstate(all="ignore"):
        assert scorer.score(matrix).shape == (len(scorer.output_names), 70)
    if isinstance(scorer, ForestScorer):
        expected = scorer.forest.score(matrix, "scalar")
        for tier in TIERS:
            if scorer.forest.has_tier(tier):
                assert np.array_equal(scorer.forest.score(matrix, tier), expected, equal_nan=True)


@pytest.mark.parametrize("kind", ["json", "ubj"])
@pytest.mark.parametrize("name", ["single_leaf_pruned", "linear"])
def test_every_cut_is_refused(name: str, kind: str) -> None:
    data = model_bytes(name, kind)
    for end in {*range(0, len(data), 1 + len(data) // 500), *range(len(data) - 100, len(data))}:
        error_of(data[:end])


def test_nothing_may_follow() -> None:
    assert "m: expected the end of the file at byte" in str(error_of(model_bytes("depth_2", "ubj") + b"\0"))
    assert "m: expected the end of the file at byte" in str(error_of(model_bytes("depth_2", "json") + b"{}"))
    assert parse_xgboost(b" \n" + model_bytes("depth_2", "json") + b"\r\n\t ").feature_names[0] == "f0"


@settings(max_examples=300 * SCALE)
@given(st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    original = model_bytes(data.draw(st.sampled_from(MODELS)), data.draw(st.sampled_from(["json", "ubj"])))
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["set", "set", "lose", "insert", "double"])):
            case "set":
                changed[at] = data.draw(st.integers(0, 255))
            case "lose":
                del changed[at : at + data.draw(st.integers(1, 9))]
            case "insert":
                changed[at:at] = data.draw(st.binary(min_size=1, max_size=9))
            case _:
                changed[at:at] = changed[at : at + data.draw(st.integers(1, 40))]
    only_refused_or_sound(bytes(changed))


VALUES: list[Any] = [None, True, False, -1, 0, 1, 2, 3, 7, 2**31 - 1, -(2**31), 2**32, 2**63 - 1, -(2**63), 1.5, -0.0]
VALUES += [1e30, 1e39, -1e39, 1e308, float("nan"), float("inf"), -float("inf"), "", "0", "1", "-1", "3", "9" * 18, "x"]
VALUES += ["[1,2,3]", "[", "[NaN]", "1e999", "gbtree", "\ud800", "é", "a" * 70, [], {}, [0], [[]], [{}], ["a"], [True]]
VALUES += [[1, "a"], {"a": 1}]


def places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    for key in value if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        if isinstance(value[key], dict | list):
            places(value[key], found)
    return found


def mutate(model: Any, rng: random.Random) -> None:
    """Changes one place: another value, a neighbour's, lost, doubled, or under a wrong key."""
    all_places = places(model, [])
    # An array's entries are most of the places: half of the time the key itself is taken.
    all_places = [p for p in all_places if isinstance(p[0], dict)] if rng.random() < 0.5 else all_places
    container, key = rng.choice(all_places)
    match rng.randrange(6):
        case 0 | 1:
            container[key] = copy.deepcopy(rng.choice(VALUES))
        case 2 if isinstance(container[key], int | float):
            container[key] += rng.choice([-1, 1, 2, 1000])
        case 3:
            del container[key]
        case 4 if isinstance(container, list):
            container.insert(rng.randrange(len(container) + 1), copy.deepcopy(container[key]))
        case _:
            other = rng.choice(all_places)
            container[key] = copy.deepcopy(other[0][other[1]])


@pytest.mark.parametrize("name", MODELS)
def test_changed_documents(name: str) -> None:
    """One to three changes of what the file says, written as JSON and as UBJSON."""
    rng = random.Random(f"{name} 1")
    original = document(name)
    for _ in range(60 * SCALE):
        model = copy.deepcopy(original)
        for _ in range(rng.choice((1, 1, 2, 3))):
            mutate(model, rng)
        only_refused_or_sound(json.dumps(model, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass"))
        only_refused_or_sound(ubjson(model))


def refused(name: str, path: str, value: Any) -> str:
    """The complaint about the model with another value at the path; JSON and UBJSON alike."""
    model = document(name)
    *inner, last = [int(p) if p.isdecimal() else p for p in re.findall(r"[^.\[\]]+", path)]
    place: Any = model
    for key in inner:
        place = place[key]
    if value is DELETED:
        del place[last]
    else:
        place[last] = value
    messages = {str(error_of(data)) for data in (json.dumps(model).encode(), ubjson(model))}
    assert len(messages) == 1, messages
    return messages.pop()


DELETED = object()
TREE = f"{MODEL}.trees[2]"
PARAM = "learner.learner_model_param"


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("depth_2", "learner", 1, "m:learner: expected an object, got a number"),
        ("depth_2", "Config", {}, "m: the key 'Config' is not known"),
        ("depth_2", "version", [9, 0, 0], "m:version[0]: expected XGBoost 1 to 3, got 9"),
        ("depth_2", "version", [3], "m:version: expected 3 numbers, got 1"),
        ("depth_2", "learner.objective.name", "reg:astrology", "objective 'reg:astrology' is not supported; known"),
        ("depth_2", "learner.objective.name", None, "m:learner.objective.name: expected text, got null"),
        ("depth_2", "learner.gradient_booster.name", "gbforest", "expected gbtree, dart or gblinear, got 'gbforest'"),
        ("depth_2", f"{PARAM}.num_class", "99999", "m:learner.learner_model_param.num_class: expected an integer from"),
        ("depth_2", f"{PARAM}.num_feature", "0", "num_feature: expected an integer from 1 to 65536, got '0'"),
        ("depth_2", f"{PARAM}.num_feature", "2", f"m:{MODEL}.trees[0].split_indices["),
        ("depth_2", f"{PARAM}.num_feature", True, "num_feature: expected an integer from 1 to 65536, got True"),
        ("depth_2", f"{PARAM}.base_score", "half", 'base_score: expected text such as "5E-1" or "[5E-1]", got'),
        ("depth_2", f"{PARAM}.base_score", "[1,2]", "base_score: expected 1 or 1 numbers, got 2"),
        ("depth_2", f"{PARAM}.base_score", "1e39", "base_score: expected what the objective can give"),
        ("binary:logistic", f"{PARAM}.base_score", "1.5", "base_score: expected what the objective can give, got 1.5"),
        ("count:poisson", f"{PARAM}.base_score", "-1", "base_score: expected what the objective can give, got -1"),
        ("softprob", f"{PARAM}.num_target", "2", "num_target: expected 1 together with 3 classes, got 2"),
        ("softprob", f"{PARAM}.num_class", "2", "base_score: expected 1 or 2 numbers, got 3"),
        ("softprob", f"{MODEL}.tree_info[4]", 3, f"m:{MODEL}.tree_info[4]: expected an integer from 0 to 2, got 3"),
        ("softprob", f"{MODEL}.tree_info[4]", -1, f"m:{MODEL}.tree_info[4]: expected an integer from 0 to 2, got -1"),
        ("depth_2", f"{MODEL}.tree_info", [0], f"m:{MODEL}.tree_info: expected 8 numbers, got 1"),
        ("depth_2", f"{MODEL}.gbtree_model_param.num_trees", "9", "num_trees: expected an integer from 8 to 8, got"),
        ("depth_2", f"{MODEL}.trees", [], f"m:{MODEL}.trees: expected 1 to 100000 trees, got 0"),
        ("depth_2", f"{MODEL}.trees[1]", 5, f"m:{MODEL}.trees[1]: expected an object, got a number"),
        ("depth_2", f"{TREE}.colour", 1, f"m:{TREE}: the key 'colour' is not known"),
        ("depth_2", f"{TREE}.tree_param.num_nodes", "8", f"m:{TREE}.left_children: expected 8 numbers, got 7"),
        ("depth_2", f"{TREE}.tree_param.num_nodes", "99999999999", "num_nodes: expected an integer from 1 to"),
        ("depth_2", f"{TREE}.tree_param.num_deleted", "1", "num_deleted: expected 0, the number of nodes"),
        ("depth_2", f"{TREE}.left_children", DELETED, f"m:{TREE}.left_children: it is missing"),
        ("depth_2", f"{TREE}.left_children[1]", 7, f"m:{TREE}.left_children[1]: expected an integer from -1 to 6"),
        ("depth_2", f"{TREE}.left_children[1]", 0, f"m:{TREE}.left_children[1]: expected a node below the root"),
        ("depth_2", f"{TREE}.left_children[1]", 2, f"m:{TREE}.left_children[1]: expected a node below the root"),
        ("depth_2", f"{TREE}.right_children[1]", -1, f"m:{TREE}.right_children[1]: expected a node below the root"),
        ("depth_2", f"{TREE}.left_children[0]", -1, f"m:{TREE}.left_children[1]: the root does not lead to this node"),
        ("depth_2", f"{TREE}.right_children", ["a"], f"m:{TREE}.right_children: expected a list of numbers, got"),
        ("depth_2", f"{TREE}.split_indices[0]", 7, f"m:{TREE}.split_indices[0]: expected an integer from 0 to 6"),
        ("depth_2", f"{TREE}.split_indices[0]", -1, f"m:{TREE}.split_indices[0]: expected an integer from 0 to 6"),
        ("depth_2", f"{TREE}.split_type[0]", 2, f"m:{TREE}.split_type[0]: expected an integer from 0 to 1, got 2"),
        ("depth_2", f"{TREE}.split_type[0]", 1, f"m:{TREE}.categories_nodes: expected the categorical node 0 among"),
        ("depth_2", f"{TREE}.default_left", [1], f"m:{TREE}.default_left: expected 7 numbers, got 1"),
        ("depth_2", f"{TREE}.split_conditions[1]", float("nan"), f"m:{TREE}.split_conditions[1]: expected a threshold"),
        ("depth_2", f"{TREE}.split_conditions[1]", -float("inf"), "[1]: expected a threshold above -inf, got -inf"),
        ("depth_2", f"{TREE}.split_conditions[6]", float("nan"), "[6]: expected a finite leaf value, got nan"),
        ("depth_2", f"{TREE}.split_conditions[6]", float("inf"), f"m:{TREE}.split_conditions[6]: expected a finite"),
        ("depth_2", f"{TREE}.tree_param.size_leaf_vector", "3", "size_leaf_vector: expected 1 or 1, the outputs"),
        ("vector", f"{TREE}.leaf_weights[4]", float("nan"), f"m:{TREE}.leaf_weights[4]: expected a finite leaf value"),
        ("vector", f"{TREE}.leaf_weights", [1.0], f"m:{TREE}.leaf_weights: expected"),
        ("vector", f"{TREE}.tree_param.size_leaf_vector", "1", f"m:{MODEL}.trees: expected all trees, or none, with"),
        ("depth_2", "learner.feature_names", ["a"], "m:learner.feature_names: expected 7 distinct, non-empty"),
        ("depth_2", "learner.feature_names", ["a"] * 7, "expected 7 distinct, non-empty names, got 7"),
        ("linear", f"{MODEL}.weights[2]", float("inf"), f"m:{MODEL}.weights[2]: expected a finite number"),
        ("linear", f"{MODEL}.weights", [1.0], f"m:{MODEL}.weights: expected 8 numbers, got 1"),
        ("linear", "learner.objective.name", "binary:hinge", "gblinear is served with identity, sigmoid, exp, not"),
        ("linear", f"{PARAM}.num_target", "2", "gblinear is served with one output, this one has 2"),
    ],
)  # fmt: skip
def test_refusals_say_what_and_where(name: str, path: str, value: Any, message: str) -> None:
    assert message in refused(name, path, value)


def test_dart_weights() -> None:
    path = "learner.gradient_booster.weight_drop"
    assert f"m:{path}: expected 12 numbers, got 1" in refused("dart", path, [1.0])
    assert f"m:{path}[3]: expected a finite product" in refused("dart", f"{path}[3]", float("inf"))


def categorical_tree() -> tuple[dict[str, Any], int, dict[str, Any]]:
    """A model, the number of a tree with at least two categorical nodes, and the tree."""
    model = document("partition")
    for i, tree in enumerate(trees_of(model)):
        if len(tree["categories_nodes"]) > 1:
            return model, i, tree
    raise AssertionError("no tree with two categorical nodes")


@pytest.mark.parametrize(
    ("key", "index", "value", "message"),
    [
        ("categories", 0, 2**24, "categories[0]: expected an integer from 0 to 16777215, got 16777216"),
        ("categories", 0, -1, "categories[0]: expected an integer from 0 to 16777215, got -1"),
        ("categories_nodes", 0, 10**6, "categories_nodes[0]: expected an integer from 0 to"),
        ("categories_nodes", 1, None, "categories_nodes: expected each node once"),
        ("categories_sizes", 0, 0, "categories_sizes[0]: expected an integer from 1 to"),
        ("categories_sizes", 0, 10**7, "categories: expected 1000"),
        ("categories_segments", 1, 0, "categories_segments[1]: expected"),
        ("split_type", None, 0, None),
    ],
)
def test_categories_out_of_range(key: str, index: int | None, value: int | None, message: str | None) -> None:
    model, number, tree = categorical_tree()
    if index is None:
        tree[key] = [value] * len(tree[key])
        only_refused_or_sound(json.dumps(model).encode())
        return
    tree[key][index] = tree[key][0] if value is None else value
    assert f"m:{MODEL}.trees[{number}].{message}" in str(error_of(json.dumps(model).encode()))


def test_far_categories_do_not_allocate_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set with the highest category is half a megabyte, from a few bytes of the file."""
    model, number, tree = categorical_tree()
    tree["categories"] = [2**24 - 1] * len(tree["categories"])
    only_refused_or_sound(json.dumps(model).encode())
    monkeypatch.setattr(limits, "MAX_MODEL_CATEGORY_WORDS", 2**19)
    assert f"trees[{number}].categories: expected at most 524288 words" in str(error_of(json.dumps(model).encode()))


def test_cycles_and_shared_children_are_refused() -> None:
    model = document("depth_3")
    tree = trees_of(model)[0]
    for key in ("left_children", "right_children"):
        for node, child in enumerate(list(tree[key])):
            for other in {*range(-1, len(tree[key]))} - {child}:
                tree[key][node] = other
                error = error_of(json.dumps({**model}).encode()) if not harmless(tree) else None
                assert error is None or re.match(rf"m:{MODEL}\.trees\[0\]\.", error.where)
            tree[key][node] = child


def harmless(tree: dict[str, Any]) -> bool:
    """Whether every node is still reached once from the root: a leaf's right child means nothing."""
    seen: list[int] = []
    waiting = [0]
    while waiting and len(seen) <= len(tree["left_children"]):
        node = waiting.pop()
        seen.append(node)
        left, right = tree["left_children"][node], tree["right_children"][node]
        if left != -1:
            if right == -1:
                return False
            waiting += [left, right]
    return sorted(seen) == list(range(len(tree["left_children"])))


def test_a_cycle_apart_from_the_root() -> None:
    """Two nodes that are each other's children, and no one else's: only the forest builder sees them."""
    model = document("depth_2")
    tree = trees_of(model)[0]
    assert tree["left_children"][:3] == [1, 3, 5]
    tree["left_children"] = [1, 3, 6, -1, -1, 2, -1]  # 0 -> 1, 4; 2 -> 6, 5; 5 -> 2, …
    tree["right_children"] = [4, -1, 5, -1, -1, -1, -1]
    tree["left_children"][1], tree["right_children"][5] = -1, 3
    error = error_of(json.dumps(model).encode())
    assert re.match(rf"m:{MODEL}\.trees\[0\]\.(left|right)_children\[\d\]$", error.where), error


def wrapped(inner: bytes) -> bytes:
    return b'{"learner":' + inner + b"}"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "m: expected JSON or UBJSON, as Booster.save_model writes"),
        (b"binf\0\0", "m: expected JSON or UBJSON"),
        (b"[1]", "m: expected JSON or UBJSON"),
        ("{}", "m:version: it is missing"),
        (wrapped(b"[" * 100), "expected at most 32 levels"),
        (wrapped(b'{"a":' * 100), "expected at most 32 levels"),
        (wrapped(b"[1,2"), "m:learner: expected a list that ends"),
        (wrapped(b"[1,,2]"), "m:learner: expected a list of numbers"),
        (wrapped(b"[1,]"), "m:learner: expected a list of numbers"),
        (wrapped(b"[01]"), "m:learner: expected a list of numbers"),
        (wrapped(b"[1,1e999]"), "m:learner: expected a list of numbers"),
        (wrapped(b"[1,NaN,N]"), "m:learner[2]: expected a number"),
        (wrapped(b"[1,NaN,1_0]"), "m:learner[2]: expected a number"),
        (wrapped(b"[NaN," + b"1" * 500 + b"]"), "m:learner[1]: expected a number"),
        (wrapped(b"[1,[2]]"), "m:learner: expected a list of numbers"),
        (wrapped(b'["a",1,]'), "m:learner[2]: expected a value"),
        (wrapped(b'["a" 1]'), "m:learner: expected a comma or ]"),
        (wrapped(b"tru"), "m:learner: expected a value"),
        (wrapped(b"NaN"), "m:learner: expected a value"),
        (wrapped(b"-"), "m:learner: expected a value"),
        (wrapped(b"+1"), "m:learner: expected a value"),
        (wrapped(b"1" * 500), "m: expected a comma or } at byte 411 of the JSON"),
        (wrapped(b'"\xff"'), "m:learner: expected text"),
        (wrapped(b'"\n"'), "m:learner: expected text"),
        (wrapped(b'"\\x"'), "m:learner: expected text"),
        (wrapped(b'"' + b"a" * 2**21 + b'"'), "expected text of at most 1048576 bytes that ends"),
        (b'{"learner":1,"learner":2}', "m:learner: the key stands twice"),
        (b'{"learner" 1}', "m:learner: expected a colon"),
        (b'{"learner":1,}', "m: expected a key in quotes"),
        (b"{1:1}", "m: expected a key in quotes"),
        (b'{"a\\u0020b":{}}', "m: the key 'a b' is not known"),
    ],
)
def test_json_that_is_none(data: bytes | str, message: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        parse_xgboost(data, "m")
    assert message in str(caught.value)


def ubj(inner: bytes) -> bytes:
    return b"{" + key_bytes("learner") + inner + b"}"


LONG = struct.pack(">q", 2**40)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{L", "m: expected 8 bytes, the file ends at byte 2 of the UBJSON"),
        (b"{i\xff", "m: expected a count, got -1"),
        (b"{L" + LONG, "m: expected text of at most 1048576 bytes, got 1099511627776"),
        (b"{i\x7fa", "m: expected 127 bytes, the file ends"),
        (b"{i\x01\xffZ}", "m: expected text in UTF-8"),
        (ubj(b"[$d#L" + LONG), "m:learner: expected at most 16777216 in a list"),
        (ubj(b"[$d#L" + struct.pack(">q", 2**24)), "m:learner: expected 67108864 bytes, the file ends"),
        (ubj(b"[$L#L" + struct.pack(">q", 2**61)), "m:learner: expected at most 16777216 in a list"),
        (ubj(b"[$d#i\xff"), "m:learner: expected a count, got -1"),
        (ubj(b"[$Z#i\x05"), "m:learner: expected a type of numbers"),
        (ubj(b"[$"), "m:learner: expected a type of numbers"),
        (ubj(b"[$d"), "m:learner: expected a count after the type"),
        (ubj(b"[$d#d"), "m:learner: expected the type of a count"),
        (ubj(b"[#L" + LONG), "m:learner: expected 1099511627776 entries, the file ends"),
        (ubj(b"[#i\x7f"), "m:learner: expected 127 entries, the file ends"),
        (ubj(b"[#i\x01"), "m:learner[0]: expected a value"),
        (ubj(b"[" * 100), "expected at most 32 levels"),
        (ubj(b"{i\x01a" * 100), "expected at most 32 levels"),
        (ubj(b"[i\x01"), "m:learner[1]: expected a value"),
        (ubj(b"N"), "m:learner: expected a value"),
        (ubj(b"C"), "m:learner: expected a value"),
        (ubj(b"Z") + b"}", "m: expected the end of the file"),
        (ubj(b"Z" + key_bytes("learner") + b"Z"), "m:learner: the key stands twice"),
        (b"{$i#i\x01", "m: expected a key in quotes at byte 1 of the JSON"),
        (b"{i\x01aZ", "m: expected the type of a count at byte"),
    ],
)
def test_ubjson_that_is_none(data: bytes, message: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        parse_xgboost(data, "m")
    assert message in str(caught.value)


def test_lists_of_other_ubjson_types() -> None:
    """What other writers of UBJSON may choose: bytes, shorts, doubles, no count."""
    model = document("depth_2")
    plain = ubjson(model)
    info = key_bytes("tree_info") + b"[$l#L" + struct.pack(">q", 8) + bytes(32)
    assert info in plain
    matrix = np.ascontiguousarray(nasty_rows("depth_2", 50).T)
    expected = parse_xgboost(plain).score(matrix)
    for other in (
        b"[$U#i\x08" + bytes(8),
        b"[$i#U\x08" + bytes(8),
        b"[$I#l\0\0\0\x08" + bytes(16),
        b"[$D#I\0\x08" + bytes(64),
        b"[" + b"i\0" * 8 + b"]",
        b"[#i\x08" + b"D" + bytes(8) + b"L" + bytes(8) + b"U\0" * 6,
    ):
        same = parse_xgboost(plain.replace(info, key_bytes("tree_info") + other))
        assert np.array_equal(same.score(matrix), expected)


@pytest.mark.parametrize(
    "data",
    [
        wrapped(b"[" + b"[]," * 300_000 + b"[]]"),
        wrapped(b"[" + b"{}," * 300_000 + b"{}]"),
        wrapped(b"[" + b"0," * 500_000 + b"0]"),
        ubj(b"[" + b"Z" * 1_000_000 + b"]"),
        ubj(b"[" + b"[]" * 500_000 + b"]"),
        ubj(b"[$U#l" + struct.pack(">i", 1_000_000) + bytes(1_000_000)),
    ],
    ids=["lists", "objects", "numbers", "nulls", "lists in UBJSON", "bytes in UBJSON"],
)
def test_memory_is_bounded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a megabyte; what it may grow to is bounded by its values, whatever they are."""
    monkeypatch.setattr(limits, "MAX_MODEL_VALUES", 10_000)
    tracemalloc.start()
    try:
        error_of(data)
        assert tracemalloc.get_traced_memory()[1] < 40 * len(data)
    finally:
        tracemalloc.stop()


def test_too_many_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MODEL_ARRAY", 6)
    for kind in ("json", "ubj"):
        assert "expected at most 6 in a list and" in str(error_of(model_bytes("depth_2", kind)))


def test_too_many_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LEAVES_PER_TREE", 3)
    assert f"m:{MODEL}.trees[0]: expected at most 3 leaves, got 4" in str(error_of(model_bytes("depth_2")))
    monkeypatch.setattr(limits, "MAX_TREES", 7)
    assert f"m:{MODEL}.trees: expected 1 to 7 trees, got 8" in str(error_of(model_bytes("depth_2")))


def test_declared_features_must_fit() -> None:
    data = model_bytes("depth_2")
    assert parse_xgboost(data, features=list("abcdefg")).feature_names == tuple("abcdefg")
    for given_names in (["a"], ["a"] * 7):
        with pytest.raises(ModelFileError, match="expected 7 distinct features"):
            parse_xgboost(data, features=given_names)
    with pytest.raises(
        ModelFileError, match=r"feature_names\[0\]: the declared feature 0 is 'a', but the file names it"
    ):
        parse_xgboost(model_bytes("named"), features=list("abcdefg"))
