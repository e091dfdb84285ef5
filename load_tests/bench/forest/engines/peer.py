"""What every engine is to the measurement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.forest.cache import Cache
from bench.forest.clock import Clock, Runner
from bench.forest.shapes import Shape


@dataclass(frozen=True, slots=True)
class Job:
    """One model and the rows to score."""

    shape: Shape
    model: Path
    rows: NDArray[np.float32]
    """(rows, features), C order; their number divides into every batch."""
    cache: Cache
    clock: Clock

    def blocks(self, batch: int) -> int:
        """How many calls score all rows."""
        return len(self.rows) // batch


class Peer(ABC):
    """A library that scores a model; it may refuse to be opened with any exception, which names the reason."""

    name: ClassVar[str]
    library: ClassVar[str]
    """Whose models it scores: lightgbm, xgboost or catboost."""
    how: ClassVar[str]
    """How it is called."""

    @abstractmethod
    def __init__(self, job: Job) -> None:
        """Loads or compiles the model."""

    @abstractmethod
    def runners(self, batch: int) -> Mapping[str, Runner]:
        """Its settings for that batch size; the fastest one counts."""
