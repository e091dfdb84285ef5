"""Stand-ins for the parts ranking is built on: plain NumPy, no kernels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd.features.program import Input, Source, ValueType
from rankd.models.scorer import LoadedModel
from rankd.ranking.plan import Plan, Read, Versions
from rankd.ranking.request import Retrieved
from rankd.signals.store import SignalRows
from rankd.types.columns import Column
from rankd.types.profile import Profile


class FakeCategories:
    """A dictionary of category strings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def intern(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def code(self, text: str) -> int:
        return self.texts.index(text) if text in self.texts else -1

    def text(self, code: int) -> str:
        return self.texts[code]


@dataclass
class FakeProgram:
    """Outputs computed by a Python function of (length, columns) giving (outputs, length)."""

    inputs: tuple[Input, ...]
    output_names: tuple[str, ...]
    compute: Callable[[int, Sequence[Column]], NDArray[np.float64]]

    def run(self, length: int, columns: Sequence[Column], dtype: type = np.float32) -> NDArray[Any]:
        return np.ascontiguousarray(self.compute(length, columns), dtype)


@dataclass
class FakeScorer:
    """Scores computed by a Python function of the matrix."""

    feature_names: tuple[str, ...]
    compute: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    output_names: tuple[str, ...] = ("score",)
    calls: int = 0
    cost_per_row: float = 1.0

    def score(self, matrix: NDArray[np.float32], raw: bool = False) -> NDArray[np.float64]:
        assert matrix.shape[0] == len(self.feature_names)
        self.calls += 1
        return np.atleast_2d(self.compute(matrix)).astype(np.float64)

    def cost(self, rows: int) -> float:
        return rows * self.cost_per_row


def column_input(name: str) -> Input:
    """The input `column.NAME`."""
    return Input(Source.COLUMN, "column", name, ValueType.NUMBER, True)


def feature_input(name: str) -> Input:
    """A bare feature name in a base expression."""
    return Input(Source.FEATURE, "feature", name, ValueType.NUMBER, True)


def stacked(length: int, columns: Sequence[Column]) -> NDArray[np.float64]:
    """Every input is an output."""
    return np.array([c.values for c in columns]).reshape(len(columns), length)  # type: ignore[union-attr]


def plan(
    columns: Sequence[str] = ("a",),
    base: bool = False,
    scorer: FakeScorer | None = None,
    model_rows: Sequence[int] | None = None,
    rerank_count: int | None = None,
) -> Plan:
    """A plan whose features are the request columns named; with `base`, base is the first feature."""
    profile = Profile("p", columns=tuple(columns), rerank_count=rerank_count, model="m" if scorer else None)
    return Plan(
        profile=profile,
        versions=Versions(profile.version, "m@0" if scorer else "", "s"),
        categories=FakeCategories(),
        features=FakeProgram(tuple(column_input(c) for c in columns), tuple(columns), stacked),
        base=FakeProgram((feature_input(columns[0]),), ("base",), stacked) if base else None,
        model=LoadedModel("m", "m@0", scorer) if scorer else None,
        model_rows=None if model_rows is None else np.array(model_rows, np.intp),
        reads=(Read("item", ()),),
    )


def retrieved(found: Sequence[bool], columns: Mapping[str, Column] | None = None) -> Retrieved:
    """What a store that knows some candidates gives."""
    return Retrieved({"item": SignalRows(columns or {}, np.array(found, np.bool_))})


def ticking() -> Callable[[], int]:
    """A clock that gives 0, 1, 2 … ns."""
    return itertools.count().__next__
