"""What a compiled expression wants and gives: the seam between features and ranking."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.program import ProgramKernel
from rankd.types.columns import Column


class Source(enum.Enum):
    """Where an input comes from; in expressions `namespace.name`."""

    SIGNAL = "signal"  # item.price, user.affinity, query.ctr: namespace is the entity
    COLUMN = "column"  # column.bm25: a request column
    CONTEXT = "context"  # context.hour: a context feature
    REQUEST = "request"  # request.query, .language, .surface, .segments, .now
    CANDIDATE = "candidate"  # candidate.base_score, candidate.position (1 is the first given)
    FEATURE = "feature"  # a bare name: another feature of the profile (base programs only)


class ValueType(enum.Enum):
    """The types of expressions; the first is what features must have."""

    NUMBER = "number"  # also bool (0 or 1)
    TIMESTAMP = "timestamp"  # seconds since 1970
    CATEGORY = "category"
    TEXT = "text"
    SET = "set"
    MAP = "map"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Input:
    """One column a program reads. `per_candidate`: as long as the list; else of length 1.

    `namespace` is the entity for signals, else the source's own name. `dimension` is n of embedding[n].
    """

    source: Source
    namespace: str
    name: str
    type: ValueType
    per_candidate: bool
    dimension: int = 0

    def __str__(self) -> str:
        """As expressions write it."""
        return self.name if self.source is Source.FEATURE else f"{self.namespace}.{self.name}"


class Program(Protocol):
    """Immutable; safe to run from several threads at once."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Distinct, in the order `run` takes them."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """One per output row."""

    def run(
        self, length: int, columns: Sequence[Column], dtype: type[np.float32] | type[np.float64] = np.float32
    ) -> NDArray[Any]:
        """All outputs for `length` candidates: `dtype` (len(output_names), length), C-contiguous.

        `columns[i]` answers `inputs[i]`. Releases the GIL. ValueError if a column does not fit its input.
        """


@dataclass(frozen=True, slots=True)
class CompiledProgram:
    """The Program that rankd.features compiles to."""

    inputs: tuple[Input, ...]
    output_names: tuple[str, ...]
    kernel: ProgramKernel

    def run(
        self, length: int, columns: Sequence[Column], dtype: type[np.float32] | type[np.float64] = np.float32
    ) -> NDArray[Any]:
        """See Program."""
        return self.kernel.run(length, columns, dtype)
