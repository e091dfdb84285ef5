"""LightGBM's text models, read by a parser of our own: the file is untrusted input.

Must live here: the grammar of the file (keys, counts, numbers) with line numbers for every
complaint. Must not: the shape of trees (indices, cycles), which the forest builder checks once
for all importers, and scoring.

Follows what LightGBM 4 writes (gbdt_model_text.cpp, tree.cpp) and is stricter than its reader:
unknown keys, duplicate keys, wrong counts and a file that was cut are refused, not guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd import limits
from rankd.errors import ModelFileError
from rankd.kernels.forest import CATEGORICAL, DEFAULT_LEFT, FLUSH_ZERO, Forest, ForestError
from rankd.models.declared import declared_names
from rankd.models.forest import ForestScorer
from rankd.models.objective import IDENTITY, parse_objective
from rankd.models.tree_arrays import joined

VERSIONS = ("v3", "v4")

_HEADER_KEYS = frozenset(
    {"version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective"}
    | {"average_output", "feature_names", "monotone_constraints", "feature_infos", "tree_sizes"}
)
_NODE_KEYS = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_UNUSED_NODE_KEYS = ("split_gain", "internal_value", "internal_weight")
_UNUSED_LEAF_KEYS = ("leaf_weight",)
_COVER_KEYS = ("internal_count", "leaf_count")
_LINEAR_KEYS = ("leaf_const", "num_features", "leaf_features", "leaf_coeff")
_TREE_KEYS = frozenset(
    {*_NODE_KEYS, *_UNUSED_NODE_KEYS, *_UNUSED_LEAF_KEYS, *_COVER_KEYS, *_LINEAR_KEYS}
    | {"num_leaves", "num_cat", "leaf_value", "cat_boundaries", "cat_threshold", "is_linear", "shrinkage"}
)
_MAX_CATEGORY_WORDS = 2**31 // 32
"""Words of one tree's category sets; a category is an int in LightGBM."""

# No possessive quantifiers: before Python 3.11.5, fullmatch accepts more than they allow (CPython issue 106052).
# A blank, and nothing else, ends a number, so that a mismatch backtracks through each number once.
_INTEGERS = re.compile(rb"-?[0-9]{1,10}(?: -?[0-9]{1,10})*")
_NUMBER = rb"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?(?:[eE][+-]?[0-9]{1,5})?|inf)"
_NUMBERS = re.compile(_NUMBER + rb"(?: " + _NUMBER + rb")*")
_BUILDER_KEYS = {"decision": "decision_type", "left": "left_child", "right": "right_child"}
"""The file's keys for the builder's arrays, where they differ."""


@dataclass(slots=True)
class _Section:
    """The `key=value` lines of the header or of one tree, with the line each stands on."""

    where: Callable[[int], str]
    line: int
    values: dict[str, bytes] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def at(self, key: str) -> str:
        return self.where(self.lines.get(key, self.line))

    def add(self, text: bytes, line: int, known: frozenset[str], what: str) -> None:
        raw_key, _, value = text.partition(b"=")
        key = raw_key.decode("ascii", "replace")
        if key not in known:
            raise ModelFileError(f"{what} has the unknown key {key[:64]!r}", self.where(line))
        if key in self.values:
            raise ModelFileError(f"{what} has {key} twice", self.where(line))
        self.values[key] = value
        self.lines[key] = line

    def need(self, key: str) -> bytes:
        if key not in self.values:
            raise ModelFileError(f"expected a line {key}=…, it is missing", self.where(self.line))
        return self.values[key]

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.need(key)
        if not re.fullmatch(rb"-?[0-9]{1,10}", value) or not low <= int(value) <= high:
            raise ModelFileError(f"expected {key} as an integer from {low} to {high}, got {_show(value)}", self.at(key))
        return int(value)

    def count(self, key: str, count: int) -> bytes:
        """The value, checked to be `count` words before anything is allocated for them."""
        value = self.need(key)
        got = value.count(b" ") + 1 if value else 0
        if got != count:
            raise ModelFileError(f"expected {count} values of {key}, got {got}", self.at(key))
        return value

    def integers(self, key: str, count: int, low: int, high: int, value: bytes | None = None) -> NDArray[np.int64]:
        """`value`: the words, where they are not the line as it stands."""
        value = self.count(key, count) if value is None else value
        if count == 0 and value == b"":
            return np.zeros(0, np.int64)
        if not _INTEGERS.fullmatch(value):
            raise ModelFileError(f"expected {key} as integers between blanks", self.at(key))
        numbers = np.fromiter(map(int, value.split(b" ")), np.int64, count)
        self._refuse(key, numbers, (numbers < low) | (numbers > high), f"from {low} to {high}")
        return numbers

    def doubles(self, key: str, count: int, value: bytes | None = None) -> NDArray[np.float64]:
        value = self.count(key, count) if value is None else value
        if count == 0 and value == b"":
            return np.zeros(0)
        if not _NUMBERS.fullmatch(value):
            raise ModelFileError(f"expected {key} as numbers between blanks", self.at(key))
        return np.fromiter(map(float, value.split(b" ")), np.float64, count)

    def ragged(self, key: str, counts: NDArray[np.int64]) -> bytes:
        """The words of a line that has `counts[i]` of them for leaf i: a blank after each, one more after a leaf."""
        value = self.need(key)
        total = int(counts.sum())
        words = value.split() if value.count(b" ") == total + len(counts) else ()
        if len(words) != total:
            raise ModelFileError(f"expected {total} values of {key} for {len(counts)} leaves", self.at(key))
        return b" ".join(words)

    def _refuse(self, key: str, numbers: NDArray[np.int64], bad: NDArray[np.bool_], expected: str) -> None:
        if bad.any():
            i = int(bad.argmax())
            raise ModelFileError(f"expected {key}[{i}] {expected}, got {numbers[i]}", self.at(key))


@dataclass(slots=True)
class _Linear:
    """The linear terms of one tree's leaves: `counts[i]` of leaf i, one leaf after the other."""

    counts: NDArray[np.int64]
    feature: NDArray[np.int32]
    coefficient: NDArray[np.float64]
    constant: NDArray[np.float64]


@dataclass(slots=True)
class _Tree:
    """One tree's arrays as the forest builder takes them; `sets` are the words of its category sets."""

    section: _Section
    nodes: int
    leaf_value: NDArray[np.float64]
    split_feature: NDArray[np.int32]
    decision: NDArray[np.uint8]
    threshold: NDArray[np.float64]
    category_set: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    set_sizes: NDArray[np.uint32]
    set_words: NDArray[np.uint32]
    linear: _Linear | None = None
    node_cover: NDArray[np.float64] | None = None
    leaf_cover: NDArray[np.float64] | None = None


class _Lines:
    """The file line by line, without a second copy of it."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.name = where
        self.offset = 0
        self.number = 0
        """Of the line last taken, from 1."""

    def at(self, line: int) -> str:
        return f"{self.name}:{line}"

    def take(self) -> bytes:
        """The next line. ModelFileError at the end: a whole file is never read that far."""
        if self.offset >= len(self.data):
            raise ModelFileError('expected the line "end of trees", the file ends before it', self.at(self.number))
        end = self.data.find(b"\n", self.offset)
        end = len(self.data) if end < 0 else end
        line = self.data[self.offset : end]
        self.offset = end + 1
        self.number += 1
        return line


def parse_lightgbm(data: bytes | str, where: str = "model", features: Sequence[str] | None = None) -> ForestScorer:
    """The scorer of a LightGBM text model (`Booster.save_model`, `model_to_string`).

    `where` names the file in messages. `features` names the inputs if the file has only
    Column_0, Column_1 …; otherwise it must equal the file's names. ModelFileError with
    where="FILE:LINE" for anything damaged, unknown or above rankd.limits.
    """
    lines = _Lines(data.encode() if isinstance(data, str) else data, where)
    header = _read_header(lines)
    outputs = header.integer("num_tree_per_iteration", 1, limits.MAX_MODEL_OUTPUTS)
    if header.integer("num_class", 1, limits.MAX_MODEL_OUTPUTS) not in (1, outputs):
        raise ModelFileError(f"expected num_class {outputs}, as num_tree_per_iteration", header.at("num_class"))
    names = _feature_names(header, features)
    transform = IDENTITY
    if "objective" in header.values:
        objective = header.values["objective"].decode("ascii", "replace")
        transform = parse_objective(objective, outputs, header.at("objective"))
    trees = _read_trees(lines, header, len(names))
    if len(trees) % outputs:
        raise ModelFileError(f"expected a multiple of {outputs} trees, got {len(trees)}", lines.at(lines.number))
    divisor = len(trees) // outputs if "average_output" in header.values else 1
    return ForestScorer(_build(trees, len(names), outputs), names, transform, divisor)


def _read_header(lines: _Lines) -> _Section:
    if lines.data[:5] != b"tree\n":
        raise ModelFileError('expected the first line "tree" of a LightGBM text model', lines.at(1))
    lines.take()
    header = _Section(lines.at, 1)
    while (line := lines.take()) != b"":
        header.add(line, lines.number, _HEADER_KEYS, "the header")
    version = header.need("version").decode("ascii", "replace")
    if version not in VERSIONS:
        raise ModelFileError(f"expected version {' or '.join(VERSIONS)}, got {version[:64]}", header.at("version"))
    return header


def _feature_names(header: _Section, given: Sequence[str] | None) -> tuple[str, ...]:
    count = header.integer("max_feature_idx", 0, limits.MAX_MODEL_FEATURES - 1) + 1
    raw = header.count("feature_names", count)
    header.count("feature_infos", count)
    try:
        names = tuple(raw.decode().split(" "))
    except UnicodeDecodeError:
        raise ModelFileError("expected feature_names in UTF-8", header.at("feature_names")) from None
    if "" in names or len(set(names)) != count:
        raise ModelFileError("expected distinct, non-empty feature_names", header.at("feature_names"))
    return declared_names(
        names,
        tuple(f"Column_{i}" for i in range(count)),
        given,
        lambda problem: ModelFileError(problem, header.where(1)),
        lambda _, problem: ModelFileError(problem, header.at("feature_names")),
    )


def _read_trees(lines: _Lines, header: _Section, features: int) -> list[_Tree]:
    """All trees up to "end of trees". Blank lines may stand between them, nothing else."""
    trees: list[_Tree] = []
    starts: list[int] = []
    while True:
        start = lines.offset
        line = lines.take()
        if line == b"":
            continue
        starts.append(start)
        if line == b"end of trees":
            if lines.data[lines.offset - 1 : lines.offset] != b"\n":
                raise ModelFileError('expected a line break after "end of trees"', lines.at(lines.number))
            break
        if line != b"Tree=%d" % len(trees):
            raise ModelFileError(
                f'expected "Tree={len(trees)}" or "end of trees", got {_show(line)}', lines.at(lines.number)
            )
        if len(trees) == limits.MAX_TREES:
            raise ModelFileError(f"expected at most {limits.MAX_TREES} trees", lines.at(lines.number))
        trees.append(_read_tree(lines, features))
    if not trees:
        raise ModelFileError("the model has no trees", lines.at(lines.number))
    if "tree_sizes" in header.values:
        sizes = header.integers("tree_sizes", len(trees), 1, limits.MAX_MODEL_FILE_BYTES)
        if not np.array_equal(sizes, np.diff(starts)):
            i = int((sizes != np.diff(starts)).argmax())
            raise ModelFileError(
                f"expected tree {i} to be {sizes[i]} bytes long, it has {starts[i + 1] - starts[i]}: "
                "the file was changed after it was written",
                header.at("tree_sizes"),
            )
    return trees


def _read_tree(lines: _Lines, features: int) -> _Tree:
    section = _Section(lines.at, lines.number)
    while (line := lines.take()) != b"":
        section.add(line, lines.number, _TREE_KEYS, "the tree")
    leaves = section.integer("num_leaves", 1, limits.MAX_LEAVES_PER_TREE)
    nodes = leaves - 1
    sets = section.integer("num_cat", 0, nodes)
    leaf_value = section.doubles("leaf_value", leaves)
    linear = _linear_terms(section, leaves, features)
    if linear is not None:  # LightGBM does not look at the value of a leaf without terms
        leaf_value = np.where(linear.counts == 0, linear.constant, leaf_value)
    if nodes == 0:
        # LightGBM leaves the other arrays of a tree that is one leaf unread.
        empty = np.zeros(0, np.int32)
        return _Tree(
            section, 0, leaf_value, empty, np.zeros(0, np.uint8), np.zeros(0), empty, empty, empty,
            np.zeros(0, np.uint32), np.zeros(0, np.uint32), linear, np.zeros(0), np.ones(1),
        )  # fmt: skip
    for key, count in (*((k, nodes) for k in _UNUSED_NODE_KEYS), *((k, leaves) for k in _UNUSED_LEAF_KEYS)):
        if key in section.values:
            section.count(key, count)
    covers = [
        section.integers(key, count, 0, 2**31 - 1).astype(np.float64) if key in section.values else None
        for key, count in zip(_COVER_KEYS, (nodes, leaves), strict=True)
    ]
    threshold = section.doubles("threshold", nodes)
    decision = section.integers("decision_type", nodes, 0, 15).astype(np.uint8)
    category_set = _category_index(section, threshold, decision, sets)
    sizes, words = _category_sets(section, sets)
    return _Tree(
        section=section,
        nodes=nodes,
        leaf_value=leaf_value,
        split_feature=section.integers("split_feature", nodes, 0, features - 1).astype(np.int32),
        decision=decision,
        threshold=threshold,
        category_set=category_set,
        left=section.integers("left_child", nodes, -leaves, nodes - 1).astype(np.int32),
        right=section.integers("right_child", nodes, -leaves, nodes - 1).astype(np.int32),
        set_sizes=sizes,
        set_words=words,
        linear=linear,
        node_cover=covers[0],
        leaf_cover=covers[1],
    )


def _linear_terms(section: _Section, leaves: int, features: int) -> _Linear | None:
    """What a linear tree (linear_tree=true) adds up in its leaves; None where the tree is not linear."""
    if "is_linear" not in section.values or section.integer("is_linear", 0, 1) == 0:
        for key in _LINEAR_KEYS:
            if key in section.values:
                raise ModelFileError(f"expected is_linear=1 beside {key}", section.at(key))
        return None
    counts = section.integers("num_features", leaves, 0, features)
    total = int(counts.sum())
    words = [section.ragged(key, counts) for key in ("leaf_features", "leaf_coeff")]
    linear = _Linear(
        counts=counts,
        feature=section.integers("leaf_features", total, 0, features - 1, words[0]).astype(np.int32),
        coefficient=section.doubles("leaf_coeff", total, words[1]),
        constant=section.doubles("leaf_const", leaves),
    )
    for key, values in (("leaf_coeff", linear.coefficient), ("leaf_const", linear.constant)):
        if not np.isfinite(values).all():
            raise ModelFileError(f"{key}[{np.isinf(values).argmax()}] is not finite", section.at(key))
    return linear


def _category_index(
    section: _Section, threshold: NDArray[np.float64], decision: NDArray[np.uint8], sets: int
) -> NDArray[np.int32]:
    """A categorical node's threshold is the index of its set among the tree's."""
    categorical = (decision & CATEGORICAL) != 0
    index = np.where(categorical, threshold, 0.0)
    bad = categorical & ~((index >= 0) & (index < sets) & (index == np.floor(index)))
    if bad.any():
        i = int(bad.argmax())
        raise ModelFileError(
            f"expected threshold[{i}] of a categorical node below num_cat={sets}, got {threshold[i]}",
            section.at("threshold"),
        )
    return index.astype(np.int32)


def _category_sets(section: _Section, sets: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The number of words of every set of the tree, and the words of all."""
    if sets == 0:
        return np.zeros(0, np.uint32), np.zeros(0, np.uint32)
    boundaries = section.integers("cat_boundaries", sets + 1, 0, _MAX_CATEGORY_WORDS)
    sizes = np.diff(boundaries)
    if boundaries[0] != 0 or (sizes < 0).any():
        raise ModelFileError("expected cat_boundaries to start at 0 and to rise", section.at("cat_boundaries"))
    words = section.integers("cat_threshold", int(boundaries[-1]), 0, 2**32 - 1)
    return sizes.astype(np.uint32), words.astype(np.uint32)


def _build(trees: list[_Tree], features: int, outputs: int) -> Forest:
    optional = _linear_arrays(trees) | _cover_arrays(trees)
    arrays = joined(trees)
    arrays["decision"] = _missing_right(arrays["decision"])
    try:
        return Forest(
            features=features,
            outputs=outputs,
            flags=FLUSH_ZERO,
            **arrays,
            **optional,
        )
    except ForestError as error:
        section = trees[error.tree].section
        key = _BUILDER_KEYS.get(error.array, error.array)
        raise ModelFileError(f"{key}[{error.index}] of tree {error.tree} {error.reason}", section.at(key)) from None


def _missing_right(decision: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """LightGBM's predictor sends NaN right at a categorical node, whatever its default direction."""
    return np.where(decision & CATEGORICAL, decision & ~np.uint8(DEFAULT_LEFT), decision)


def _linear_arrays(trees: list[_Tree]) -> dict[str, Any]:
    """The builder's linear terms, if a tree has any."""
    if all(t.linear is None for t in trees):
        return {}
    plain = [
        t.linear or _Linear(np.zeros(t.nodes + 1, np.int64), np.zeros(0, np.int32), np.zeros(0), np.zeros(t.nodes + 1))
        for t in trees
    ]
    return {
        "linear_begin": np.cumsum([0, *np.concatenate([p.counts for p in plain])]).astype(np.uint32),
        "linear_feature": np.concatenate([p.feature for p in plain]),
        "linear_coefficient": np.concatenate([p.coefficient for p in plain]),
        "linear_constant": np.concatenate([p.constant for p in plain]),
    }


def _cover_arrays(trees: list[_Tree]) -> dict[str, Any]:
    """The counts of training rows, as LightGBM's TreeSHAP takes them, if all trees have them."""
    if any(t.node_cover is None or t.leaf_cover is None for t in trees):
        return {}
    return {
        "node_cover": np.concatenate([t.node_cover for t in trees if t.node_cover is not None]),
        "leaf_cover": np.concatenate([t.leaf_cover for t in trees if t.leaf_cover is not None]),
    }


def _show(value: bytes) -> str:
    """A piece of the file, short enough for a message."""
    text = value[:40].decode("utf-8", "replace")
    return repr(text) + ("…" if len(value) > 40 else "")
