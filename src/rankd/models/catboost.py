"""CatBoost's JSON models (`save_model(format="json")`), read by a parser of our own: the file is untrusted input.

Must live here: the shape of the file, with its JSON path for every complaint, and how CatBoost's trees become
the forest builder's. Must not: scoring.

Follows CatBoost's writer and evaluator (json_model_helpers.cpp, quantization.h, evaluator_impl.cpp): a value goes
right if, as float32, it is above the border; sums are added in double in tree order, then scaled, then shifted by
the bias. Numbers are read exactly, so that scores are those of the model that wrote the file. (CatBoost reads its
own JSON with a parser that is off by an ulp now and then.)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rankd import limits
from rankd.errors import ModelFileError
from rankd.kernels.forest import DEFAULT_LEFT, MISSING_NAN, VECTOR_LEAVES, Forest, ForestError
from rankd.models.declared import declared_names
from rankd.models.forest import ForestScorer
from rankd.models.objective import IDENTITY, Transform

_LOSSES = {
    "MultiClass": Transform("softmax"),
    **dict.fromkeys(("Poisson", "Tweedie"), Transform("exp")),
    **dict.fromkeys(("Logloss", "CrossEntropy", "Focal"), Transform("sigmoid")),
    **dict.fromkeys(("MultiClassOneVsAll", "MultiLogloss", "MultiCrossEntropy"), Transform("sigmoid")),
    **dict.fromkeys(("RMSE", "MAE", "MAPE", "Lq", "Huber", "LogCosh", "Expectile"), IDENTITY),
    **dict.fromkeys(("Quantile", "LogLinQuantile", "GroupQuantile", "MultiQuantile"), IDENTITY),
    **dict.fromkeys(("MultiRMSE", "MultiRMSEWithMissingValues", "Cox", "SurvivalAft"), IDENTITY),
    **dict.fromkeys(("QueryRMSE", "QuerySoftMax", "QueryCrossEntropy", "PairLogit", "PairLogitPairwise"), IDENTITY),
    **dict.fromkeys(("YetiRank", "YetiRankPairwise", "LambdaMart", "StochasticRank", "StochasticFilter"), IDENTITY),
    **dict.fromkeys(("PythonUserDefinedPerObject", "PythonUserDefinedMultiTarget"), IDENTITY),
}
"""What `predict` (`predict_proba` of classifiers) of CatBoost's estimators does to raw values, by loss function."""


_NULL = msgspec.Raw(b"null")


class _Loss(msgspec.Struct):
    type: str


class _Params(msgspec.Struct):
    loss_function: _Loss | None = None


class _ClassParams(msgspec.Struct):
    classes_count: int = 0


class _ModelInfo(msgspec.Struct):
    params: _Params | None = None
    loss_function: str | None = None
    """JSON once more; in models that are sums of models."""
    class_params: _ClassParams | None = None


class _FloatFeature(msgspec.Struct, forbid_unknown_fields=True):
    feature_index: int
    flat_feature_index: int
    has_nans: bool
    nan_value_treatment: str
    borders: list[float] | None = None
    feature_id: str = ""
    feature_name: str = ""


class _FeaturesInfo(msgspec.Struct, forbid_unknown_fields=True):
    float_features: list[_FloatFeature] | None = None
    cat_features_hash: msgspec.Raw = _NULL
    categorical_features: msgspec.Raw = _NULL
    ctrs: msgspec.Raw = _NULL


class _Split(msgspec.Struct):
    split_type: str
    split_index: int
    float_feature_index: int | None = None
    border: float | None = None


class _ObliviousTree(msgspec.Struct, forbid_unknown_fields=True):
    leaf_values: list[float]
    splits: list[_Split] | None = None
    leaf_weights: list[float] | None = None


class _Node(msgspec.Struct, forbid_unknown_fields=True):
    """An inner node (split, left, right) or a leaf (value, weight) of a tree that is not symmetric."""

    split: _Split | None = None
    left: _Node | None = None
    right: _Node | None = None
    value: float | list[float] | None = None
    weight: float | None = None


class _Model(msgspec.Struct, forbid_unknown_fields=True):
    features_info: _FeaturesInfo
    oblivious_trees: list[_ObliviousTree] | None = None
    trees: list[_Node] | None = None
    model_info: _ModelInfo | None = None
    scale_and_bias: tuple[float, float | list[float]] = (1.0, 0.0)
    ctr_data: msgspec.Raw = _NULL


_UNSUPPORTED = {
    "categorical_features": "categorical features (one-hot, CTR) are not supported; train with float features only",
    "ctrs": "CTR features are not supported; train with float features only",
}
_DECODER = msgspec.json.Decoder(_Model)
_LOSS_DECODER = msgspec.json.Decoder(_Loss)


@dataclass(slots=True)
class _Conditions:
    """By `split_index`: a border of a feature, as the builder's arrays."""

    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    decision: NDArray[np.uint8]
    feature_index: NDArray[np.int64]
    """CatBoost's number of the feature among the float features."""

    def check(self, split: _Split, where: str) -> int:
        """The split's index, checked against what else the split says."""
        if split.split_type != "FloatFeature":
            raise ModelFileError(
                f"expected split_type FloatFeature, got {ascii(split.split_type)[:40]}; train with float features only",
                where,
            )
        index = split.split_index
        if not 0 <= index < len(self.feature):
            raise ModelFileError(f"expected split_index from 0 to {len(self.feature) - 1}, got {index}", where)
        if split.border is None or split.float_feature_index is None:
            raise ModelFileError("expected border and float_feature_index, one is missing", where)
        feature, border = int(self.feature_index[index]), float(self.threshold[index])
        if split.float_feature_index != feature or float(np.float32(split.border)) != border:
            raise ModelFileError(
                f"border {index} of features_info is {border!r} of feature {feature}, "
                f"the split says {split.border!r} of feature {split.float_feature_index}",
                where,
            )
        return index


@dataclass(slots=True)
class _Tree:
    """One tree as the builder takes it: `splits` are indexes of _Conditions, per node."""

    splits: NDArray[np.int64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    leaf_value: NDArray[np.float64]
    """(leaves, outputs)"""
    node_cover: NDArray[np.float64] | None
    leaf_cover: NDArray[np.float64] | None


@np.errstate(over="ignore")  # a border above float32 is infinite, and refused
def parse_catboost(data: bytes | str, where: str = "model", features: Sequence[str] | None = None) -> ForestScorer:
    """The scorer of a CatBoost JSON model with float features.

    `where` names the file in messages. `features` names the inputs if the file does not; otherwise it must equal
    the file's names. ModelFileError with where="FILE:PATH" (oblivious_trees[3].splits[0]) for anything damaged,
    not supported or above rankd.limits.
    """
    model = _decode(data, where)
    for key, reason in _UNSUPPORTED.items():
        if not _is_empty(getattr(model.features_info, key)):
            raise ModelFileError(reason, f"{where}:features_info.{key}")
    if not _is_empty(model.ctr_data):
        raise ModelFileError(_UNSUPPORTED["ctrs"], f"{where}:ctr_data")
    declared = model.features_info.float_features or []
    conditions = _conditions(declared, f"{where}:features_info.float_features")
    names = _feature_names(declared, features, f"{where}:features_info.float_features")
    key = "oblivious_trees" if model.oblivious_trees is not None else "trees"
    if (model.oblivious_trees is None) == (model.trees is None):
        raise ModelFileError("expected either oblivious_trees or trees", where)
    count = len(model.oblivious_trees or model.trees or ())
    if not 1 <= count <= limits.MAX_TREES:
        raise ModelFileError(f"expected 1 to {limits.MAX_TREES} trees, got {count}", f"{where}:{key}")
    trees = list(_trees(model, conditions, f"{where}:{key}"))
    outputs = trees[0].leaf_value.shape[1]
    transform = _transform(model.model_info, outputs, f"{where}:model_info")
    scale, bias = _scale_and_bias(model.scale_and_bias, outputs, f"{where}:scale_and_bias")
    forest = _build(trees, conditions, len(names), outputs, f"{where}:{key}")
    return ForestScorer(forest, names, transform, scale=scale, bias=bias)


def _decode(data: bytes | str, where: str) -> _Model:
    try:
        return _DECODER.decode(data)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise ModelFileError(message, f"{where}:{path.rstrip('`').lstrip('.')}" if path else where) from None
    except msgspec.DecodeError as error:
        raise ModelFileError(str(error), where) from None
    except UnicodeDecodeError as error:
        raise ModelFileError(f"expected UTF-8, got another byte: {error.reason}", where) from None
    except RecursionError:
        raise ModelFileError("expected trees of a few levels, this one is nested without end", where) from None


def _is_empty(raw: msgspec.Raw) -> bool:
    return re.fullmatch(rb"null|\[\s*\]|\{\s*\}", raw) is not None


def _conditions(declared: list[_FloatFeature], where: str) -> _Conditions:
    if not 1 <= len(declared) <= limits.MAX_MODEL_FEATURES:
        raise ModelFileError(f"expected 1 to {limits.MAX_MODEL_FEATURES} features, got {len(declared)}", where)
    for key in ("feature_index", "flat_feature_index"):
        numbers = [getattr(feature, key) for feature in declared]
        if sorted(numbers) != list(range(len(declared))):
            raise ModelFileError(f"expected {key} from 0 to {len(declared) - 1}, each once", where)
    columns: list[tuple[NDArray[np.float64], _FloatFeature, int]] = []
    for i, feature in enumerate(declared):
        if feature.nan_value_treatment not in ("AsIs", "AsFalse", "AsTrue"):
            raise ModelFileError(
                f"expected AsIs, AsFalse or AsTrue, got {ascii(feature.nan_value_treatment)[:40]}",
                f"{where}[{i}].nan_value_treatment",
            )
        borders = np.array(feature.borders or (), np.float64).astype(np.float32).astype(np.float64)
        bad = ~np.isfinite(borders)
        bad[1:] |= ~(borders[1:] > borders[:-1])
        if bad.any():
            raise ModelFileError("expected finite, rising float32 borders", f"{where}[{i}].borders[{bad.argmax()}]")
        # NaN > border is false; only AsTrue makes NaN infinite first, and only where training saw NaN.
        goes_right = feature.has_nans and feature.nan_value_treatment == "AsTrue"
        columns.append((borders, feature, MISSING_NAN | (0 if goes_right else DEFAULT_LEFT)))
    sizes = [len(borders) for borders, _, _ in columns]
    return _Conditions(
        feature=np.repeat([f.flat_feature_index for _, f, _ in columns], sizes).astype(np.int32),
        threshold=np.concatenate([borders for borders, _, _ in columns]),
        decision=np.repeat([decision for _, _, decision in columns], sizes).astype(np.uint8),
        feature_index=np.repeat([f.feature_index for _, f, _ in columns], sizes),
    )


def _feature_names(declared: list[_FloatFeature], given: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """In the order of the input's columns. CatBoost calls a feature without a name by its number."""
    ordered = sorted(declared, key=lambda feature: feature.flat_feature_index)
    numbers = tuple(map(str, range(len(ordered))))
    names = tuple(f.feature_id or f.feature_name or number for f, number in zip(ordered, numbers, strict=True))
    if len(set(names)) != len(names):
        raise ModelFileError("expected distinct feature names", where)
    return declared_names(
        names,
        numbers,
        given,
        lambda problem: ModelFileError(problem, where),
        lambda _, problem: ModelFileError(problem, where),
    )


def _trees(model: _Model, conditions: _Conditions, where: str) -> Iterator[_Tree]:
    """All trees, with the same number of outputs each."""
    outputs = 0
    sources: Sequence[_ObliviousTree | _Node] = model.oblivious_trees or model.trees or ()
    for t, source in enumerate(sources):
        at = f"{where}[{t}]"
        if isinstance(source, _ObliviousTree):
            tree = _read_oblivious(source, conditions, at)
        else:
            tree = _read_tree(source, conditions, at)
        outputs = outputs or tree.leaf_value.shape[1]
        if tree.leaf_value.shape[1] != outputs:
            raise ModelFileError(f"expected {outputs} outputs as before, got {tree.leaf_value.shape[1]}", at)
        yield tree


@functools.cache
def _complete(depth: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """The level of each node and its children in a complete tree, breadth first; leaf i is the i-th from the left."""
    nodes = np.arange(2**depth - 1)
    levels = np.repeat(np.arange(depth), 2 ** np.arange(depth))
    inner = nodes < len(nodes) // 2
    left = np.where(inner, 2 * nodes + 1, ~(2 * (nodes - len(nodes) // 2)))
    return levels, left.astype(np.int32), np.where(inner, left + 1, left - 1).astype(np.int32)


def _read_oblivious(source: _ObliviousTree, conditions: _Conditions, where: str) -> _Tree:
    """Bit i of a leaf's number is the outcome of split i: the last split is the root, the first the lowest level.

    CatBoost's SHAP values depend on the order of levels, and theirs is this one (shap_values.cpp).
    """
    splits = source.splits or []
    depth = len(splits)
    if 2**depth > limits.MAX_LEAVES_PER_TREE:
        raise ModelFileError(f"expected at most {limits.MAX_LEAVES_PER_TREE} leaves, got 2^{depth}", f"{where}.splits")
    outputs, rest = divmod(len(source.leaf_values), 2**depth)
    if rest or not 1 <= outputs <= limits.MAX_MODEL_OUTPUTS:
        raise ModelFileError(
            f"expected 1 to {limits.MAX_MODEL_OUTPUTS} values for each of 2^{depth} leaves, "
            f"got {len(source.leaf_values)} values",
            f"{where}.leaf_values",
        )
    indexes = np.array([conditions.check(s, f"{where}.splits[{i}]") for i, s in enumerate(splits)], np.int64)
    levels, left, right = _complete(depth)
    leaf_cover = node_cover = None
    if source.leaf_weights is not None:
        if len(source.leaf_weights) != 2**depth:
            raise ModelFileError(
                f"expected {2**depth} weights, got {len(source.leaf_weights)}", f"{where}.leaf_weights"
            )
        leaf_cover = _weights(source.leaf_weights, f"{where}.leaf_weights")
        sums = [leaf_cover]
        for _ in range(depth):
            sums.append(sums[-1].reshape(-1, 2).sum(1))
        node_cover = np.concatenate([np.zeros(0), *reversed(sums[1:])])
    return _Tree(
        splits=indexes[depth - 1 - levels],
        left=left,
        right=right,
        leaf_value=np.array(source.leaf_values, np.float64).reshape(-1, outputs),
        node_cover=node_cover,
        leaf_cover=leaf_cover,
    )


def _weights(values: Sequence[float], where: str) -> NDArray[np.float64]:
    weights = np.array(values, np.float64)
    if (weights < 0).any():
        raise ModelFileError("expected weights of 0 or more", f"{where}[{(weights < 0).argmax()}]")
    return weights


def _read_tree(root: _Node, conditions: _Conditions, where: str) -> _Tree:
    """Nodes and leaves are numbered as a walk meets them, left before right: CatBoost's own order of leaves."""
    splits: list[int] = []
    children: list[list[int]] = []
    values: list[list[float]] = []
    weights: list[float | None] = []
    todo: list[tuple[_Node, str, int, int]] = [(root, where, -1, 0)]
    while todo:
        node, at, parent, side = todo.pop()
        if node.value is not None:
            if node.split is not None or node.left is not None or node.right is not None:
                raise ModelFileError("expected a leaf (value) or a split, got both", at)
            number = ~len(values)
            values.append(node.value if isinstance(node.value, list) else [node.value])
            weights.append(node.weight)
            if len(values) > limits.MAX_LEAVES_PER_TREE:
                raise ModelFileError(f"expected at most {limits.MAX_LEAVES_PER_TREE} leaves", where)
            if len(values[-1]) != len(values[0]) or not 1 <= len(values[0]) <= limits.MAX_MODEL_OUTPUTS:
                expected = f"{len(values[0])} values" if values[0] else "values"
                raise ModelFileError(f"expected {expected}, got {len(values[-1])}", f"{at}.value")
        elif node.split is not None and node.left is not None and node.right is not None:
            number = len(splits)
            splits.append(conditions.check(node.split, f"{at}.split"))
            children.append([0, 0])
            todo.append((node.right, f"{at}.right", number, 1))
            todo.append((node.left, f"{at}.left", number, 0))
        else:
            raise ModelFileError("expected value, or split, left and right", at)
        if parent >= 0:
            children[parent][side] = number
    links = np.array(children, np.int32).reshape(-1, 2)
    leaf_cover = node_cover = None
    known = [weight for weight in weights if weight is not None]
    if len(known) == len(weights):
        leaf_cover = _weights(known, f"{where}: weights of leaves")
        node_cover = np.zeros(len(splits))
        for node_id in range(len(splits) - 1, -1, -1):  # children come after their parents
            node_cover[node_id] = sum(node_cover[c] if c >= 0 else leaf_cover[~c] for c in links[node_id])
    return _Tree(
        splits=np.array(splits, np.int64),
        left=links[:, 0].copy(),
        right=links[:, 1].copy(),
        leaf_value=np.array(values, np.float64),
        node_cover=node_cover,
        leaf_cover=leaf_cover,
    )


def _transform(info: _ModelInfo | None, outputs: int, where: str) -> Transform:
    """By the loss function the model was trained with; none where the file does not say, as `predict` does."""
    if info is None:
        return IDENTITY
    name = ""
    if info.params is not None and info.params.loss_function is not None:
        name = info.params.loss_function.type
    elif info.loss_function is not None:
        try:
            name = _LOSS_DECODER.decode(info.loss_function).type
        except (msgspec.DecodeError, RecursionError) as error:
            raise ModelFileError(f"expected a loss as JSON: {error}", f"{where}.loss_function") from None
    if not name:
        return IDENTITY
    if name not in _LOSSES:
        raise ModelFileError(f"the loss function {ascii(name)[:40]} is not supported", f"{where}.params.loss_function")
    if name == "MultiClass" and outputs < 2:
        raise ModelFileError("expected at least 2 outputs of loss MultiClass, got 1", f"{where}.params.loss_function")
    classes = info.class_params.classes_count if info.class_params is not None else 0
    if outputs > 1 and classes not in (0, outputs):
        raise ModelFileError(
            f"expected an output for each of {classes} classes, the trees have {outputs}", f"{where}.class_params"
        )
    return replace(_LOSSES[name], objective=name)


def _scale_and_bias(
    value: tuple[float, float | list[float]], outputs: int, where: str
) -> tuple[float, NDArray[np.float64]]:
    scale, bias = value
    given = bias if isinstance(bias, list) else [bias] * outputs
    if len(given) not in (0, outputs):
        raise ModelFileError(f"expected {outputs} biases, got {len(given)}", f"{where}[1]")
    return scale, np.array(given or [0.0] * outputs, np.float64)


def _build(trees: list[_Tree], conditions: _Conditions, features: int, outputs: int, where: str) -> Forest:
    splits = np.concatenate([t.splits for t in trees])
    nodes = len(splits)
    optional: dict[str, Any] = {}
    if all(t.leaf_cover is not None for t in trees):
        optional["node_cover"] = np.concatenate([t.node_cover for t in trees])
        optional["leaf_cover"] = np.concatenate([t.leaf_cover for t in trees])
    try:
        return Forest(
            features=features,
            outputs=outputs,
            node_begin=np.cumsum([0, *(len(t.splits) for t in trees)]).astype(np.uint32),
            split_feature=conditions.feature[splits],
            decision=conditions.decision[splits],
            threshold=conditions.threshold[splits],
            category_set=np.zeros(nodes, np.int32),
            left=np.concatenate([t.left for t in trees]),
            right=np.concatenate([t.right for t in trees]),
            leaf_value=np.concatenate([t.leaf_value.ravel() for t in trees]),
            set_begin=np.zeros(1, np.uint32),
            set_words=np.zeros(0, np.uint32),
            flags=VECTOR_LEAVES if outputs > 1 else 0,
            **optional,
        )
    except ForestError as error:
        raise ModelFileError(f"{error.array}[{error.index}] {error.reason}", f"{where}[{error.tree}]") from None
