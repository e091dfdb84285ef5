"""Small CatBoost files made by hand, as JSON documents, for tests that change them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_BORDERS = ([0.5, 1.5], [-2.0])


def _split(index: int) -> dict[str, Any]:
    feature, border = ((0, 0.5), (0, 1.5), (1, -2.0))[index]
    return {"split_index": index, "split_type": "FloatFeature", "border": border, "float_feature_index": feature}


def _file(key: str, trees: list[Any], outputs: int, bias: Any) -> dict[str, Any]:
    features = [
        {
            "feature_index": i, "flat_feature_index": i, "feature_id": name, "borders": _BORDERS[i],
            "has_nans": True, "nan_value_treatment": "AsTrue",
        }
        for i, name in enumerate(("price", "age"))
    ]  # fmt: skip
    loss = "RMSE" if outputs == 1 else "MultiRMSE"
    return {
        "features_info": {"float_features": features},
        "model_info": {"params": {"loss_function": {"type": loss, "params": {}}}, "model_guid": "0-1-2-3"},
        key: trees,
        "scale_and_bias": [1, bias],
    }


def oblivious_file(outputs: int = 1) -> dict[str, Any]:
    """Two symmetric trees of two splits over the features price and age."""
    trees = [
        {
            "leaf_values": [(leaf + 1) * (output + 1) / 4**tree for leaf in range(4) for output in range(outputs)],
            "leaf_weights": [5, 6, 7, 8],
            "splits": [_split(tree), _split(2)],
        }
        for tree in range(2)
    ]
    return _file("oblivious_trees", trees, outputs, [0.25] * outputs)


def tree_file(outputs: int = 1) -> dict[str, Any]:
    """Two trees that are not symmetric, of two splits each."""

    def leaf(value: float) -> dict[str, Any]:
        return {"value": value if outputs == 1 else [value] * outputs, "weight": 3}

    trees = [
        {
            "split": _split(tree),
            "left": leaf(1.5),
            "right": {"split": _split(2), "left": leaf(-0.5), "right": leaf(8.25 + tree)},
        }
        for tree in range(2)
    ]
    return _file("trees", trees, outputs, [0.0] * outputs)


def nodes_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key or index) of every value inside a document."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from nodes_of(value[key])
