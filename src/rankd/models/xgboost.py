"""XGBoost's models, JSON or UBJSON, read by a parser of our own: the file is untrusted input.

Must live here: the learner (doc/model.schema and src/learner.cc, gbtree_model.cc, gblinear_model.cc of XGBoost)
and the forest made of its trees. Must not: syntax (json_document, ubjson), the inside of a tree
(xgboost_trees), the shape of trees, which the forest builder checks once for all importers, and scoring.

What is added up is XGBoost's own: float32, tree after tree, from the base margin. Keys that are not known
are refused, not guessed at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankd import limits
from rankd.errors import ModelFileError
from rankd.kernels.forest import FLOAT_SUMS, NEGATIVE_IN_NO_SET, VECTOR_LEAVES, Forest, ForestError
from rankd.models.declared import declared_names
from rankd.models.document import Place
from rankd.models.forest import ForestScorer
from rankd.models.json_document import read_json
from rankd.models.linear import LinearScorer
from rankd.models.objective import Transform
from rankd.models.tree_arrays import joined
from rankd.models.ubjson import read_ubjson
from rankd.models.xgboost_objective import base_margins, read_objective
from rankd.models.xgboost_trees import Tree, read_tree

MAJOR_VERSIONS = (1, 3)
"""First and last; JSON began with 1.0."""

_DOCUMENT_KEYS = ("learner", "version")
_LEARNER_KEYS = ("attributes", "feature_names", "feature_types", "gradient_booster", "learner_model_param", "objective")
_MODEL_KEYS = ("cats", "gbtree_model_param", "iteration_indptr", "tree_info", "trees")
_LINEAR_TRANSFORMS = ("identity", "sigmoid", "exp")
_FILE_ARRAYS = {"left": "left_children", "right": "right_children", "split_feature": "split_indices"}
"""The builder's arrays as the file names them, where they differ."""


def parse_xgboost(
    data: bytes | str, where: str = "model", features: Sequence[str] | None = None
) -> ForestScorer | LinearScorer:
    """The scorer of a model that `Booster.save_model` wrote to a .json or .ubj file.

    `where` names the file in messages. `features` names the inputs if the file does not, or only as f0, f1 …;
    otherwise it must equal the file's names. ModelFileError with where="FILE:PATH", such as
    learner.gradient_booster.model.trees[3].left_children[7], for anything damaged, unknown or above rankd.limits.
    """
    document = _read(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data, where)
    document.keys_in(_DOCUMENT_KEYS)
    version = document["version"].integers(3, 0, 10**6)
    if not MAJOR_VERSIONS[0] <= version[0] <= MAJOR_VERSIONS[1]:
        raise document["version"].at(0).fault(f"expected XGBoost 1 to {MAJOR_VERSIONS[1]}, got {version[0]}")
    learner = document["learner"]
    learner.keys_in(_LEARNER_KEYS)
    outputs = _outputs(learner)
    names = _feature_names(learner, features)
    transform = read_objective(learner)
    base = base_margins(learner, transform, outputs)
    booster = learner["gradient_booster"]
    match booster["name"].text():
        case "gblinear":
            return _linear(booster, names, outputs, base, transform)
        case "gbtree":
            booster.keys_in(("name", "model"))
            return _trees(booster["model"], None, names, base, transform)
        case "dart":
            booster.keys_in(("name", "gbtree", "weight_drop"))
            booster["gbtree"].keys_in(("name", "model"))
            return _trees(booster["gbtree"]["model"], booster["weight_drop"], names, base, transform)
    raise booster["name"].fault(f"expected gbtree, dart or gblinear, got {ascii(booster['name'].text())[:40]}")


def _read(data: bytes, where: str) -> Place:
    """By content: both begin with {, in UBJSON the length of a key follows."""
    if data[:1] == b"{" and data[1:2] and data[1:2] in b"iUIlL":
        return read_ubjson(data, where)
    if data.lstrip(b" \t\n\r")[:1] != b"{":
        raise ModelFileError("expected JSON or UBJSON, as Booster.save_model writes to a .json or .ubj file", where)
    return read_json(data, where)


def _outputs(learner: Place) -> int:
    param = learner["learner_model_param"]
    classes = param["num_class"].integer(0, limits.MAX_MODEL_OUTPUTS)
    targets = param["num_target"].integer(0, limits.MAX_MODEL_OUTPUTS) if "num_target" in param else 1
    if classes > 1 and targets > 1:
        raise param["num_target"].fault(f"expected 1 together with {classes} classes, got {targets}")
    return max(1, classes, targets)


def _feature_names(learner: Place, given: Sequence[str] | None) -> tuple[str, ...]:
    count = learner["learner_model_param"]["num_feature"].integer(1, limits.MAX_MODEL_FEATURES)
    numbered = tuple(f"f{i}" for i in range(count))
    names = tuple(name.text() for name in learner["feature_names"].items()) if "feature_names" in learner else ()
    names = names or numbered
    if len(names) != count or len(set(names)) != count or "" in names:
        raise learner["feature_names"].fault(f"expected {count} distinct, non-empty names, got {len(names)}")
    return declared_names(
        names,
        numbered,
        given,
        learner["learner_model_param"]["num_feature"].fault,
        lambda i, problem: learner["feature_names"].at(i).fault(problem),
    )


def _linear(
    booster: Place, names: tuple[str, ...], outputs: int, base: NDArray[np.float64], transform: Transform
) -> LinearScorer:
    """The last weight is the bias, which XGBoost adds to the base margin before all terms; a missing value has none."""
    booster.keys_in(("name", "model"))
    booster["model"].keys_in(("weights", "boosted_rounds", "param"))
    if outputs != 1:
        raise booster["name"].fault(f"gblinear is served with one output, this one has {outputs}")
    if transform.name not in _LINEAR_TRANSFORMS:
        raise booster["name"].fault(f"gblinear is served with {', '.join(_LINEAR_TRANSFORMS)}, not {transform.name}")
    place = booster["model"]["weights"]
    weights = place.floats(len(names) + 1)
    if not np.isfinite(weights).all():
        raise place.at(int((~np.isfinite(weights)).argmax())).fault("expected a finite number")
    with np.errstate(over="ignore"):
        intercept = float(weights[-1] + np.float32(base[0]))
    if not np.isfinite(intercept):
        raise place.at(len(names)).fault("expected a finite sum with the base score")
    values = dict(zip(names, weights[:-1].tolist(), strict=True))
    return LinearScorer(values, intercept, transform.name, {}, np.float32)


def _trees(
    model: Place, weights: Place | None, names: tuple[str, ...], base: NDArray[np.float64], transform: Transform
) -> ForestScorer:
    model.keys_in(_MODEL_KEYS)
    places = model["trees"].items()
    if not 1 <= len(places) <= limits.MAX_TREES:
        raise model["trees"].fault(f"expected 1 to {limits.MAX_TREES} trees, got {len(places)}")
    model["gbtree_model_param"]["num_trees"].integer(len(places), len(places))
    outputs = len(base)
    tree_output = model["tree_info"].integers(len(places), 0, outputs - 1)
    trees: list[Tree] = []
    words = 0
    for place in places:
        trees.append(read_tree(place, len(names), outputs))
        words += len(trees[-1].set_words)
        if words > limits.MAX_MODEL_CATEGORY_WORDS:
            raise place["categories"].fault(f"expected at most {limits.MAX_MODEL_CATEGORY_WORDS} words of categories")
    sizes = {tree.leaf_value.shape[1] for tree in trees}
    if len(sizes) != 1:
        raise model["trees"].fault("expected all trees, or none, with vector leaves")
    if weights is not None:
        _weigh(trees, weights)
    forest = _build(trees, len(names), base, tree_output, vector=sizes != {1})
    return ForestScorer(forest, names, transform)


def _weigh(trees: list[Tree], place: Place) -> None:
    """DART: XGBoost multiplies what a tree gives by its weight, in float32, and adds the product."""
    weights = place.floats(len(trees))
    with np.errstate(over="ignore", invalid="ignore"):
        for i, (tree, weight) in enumerate(zip(trees, weights, strict=True)):
            # A tree's prediction starts from 0: of a leaf of -0 it is 0.
            tree.leaf_value = (np.float32(0) + tree.leaf_value) * weight
            if not np.isfinite(tree.leaf_value).all():
                raise place.at(i).fault(f"expected a finite product with the leaf values, got weight {weight}")


def _build(
    trees: list[Tree], features: int, base: NDArray[np.float64], tree_output: NDArray[np.int64], vector: bool
) -> Forest:
    covers = [t.cover for t in trees if t.cover is not None]
    covered = len(covers) == len(trees)
    try:
        return Forest(
            features=features,
            outputs=len(base),
            flags=FLOAT_SUMS | NEGATIVE_IN_NO_SET | (VECTOR_LEAVES if vector else 0),
            **joined(trees),
            tree_output=None if vector else tree_output.astype(np.uint32),
            base=base,
            node_cover=np.concatenate([nodes for nodes, _ in covers]) if covered else None,
            leaf_cover=np.concatenate([leaves for _, leaves in covers]) if covered else None,
        )
    except ForestError as error:
        tree = trees[error.tree]
        place = tree.place[_FILE_ARRAYS.get(error.array, "tree_param")]
        if error.array in _FILE_ARRAYS:
            place = place.at(int(tree.nodes[error.index]))
        raise place.fault(error.reason) from None
