"""A plan: a profile, its compiled programs and its model, immutable and ready to run.

A plan is swapped as a whole; a request uses one plan from start to end. ranking.build makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankd.features.entities import IdPart
from rankd.features.program import CompiledProgram
from rankd.models.scorer import LoadedModel
from rankd.types.profile import Profile

CANDIDATE_NS: Final = 80.0
SIGNAL_NS: Final = 5.0
FEATURE_NS: Final = 5.0
"""Rough: with what the model was measured to take they decide where a call is run, on the loop or on a thread."""


class Versions(NamedTuple):
    """Which configuration answered; see Versions in ranking.proto."""

    profile: str
    model: str
    schema: str


class Read(NamedTuple):
    """Signals to read of one entity. `parts`: what the ids of its rows are joined of."""

    entity: str
    signals: tuple[str, ...]
    parts: tuple[IdPart, ...]


@dataclass(frozen=True)
class Plan:
    """See the module's docstring.

    `reads[0]` is the candidates' entity, always present: it tells which ids are known. Its signals begin with those
    that other ids are made of.
    `model_rows`: for every model input the row of the feature matrix that holds it; None: as they are.
    """

    profile: Profile
    versions: Versions
    features: CompiledProgram
    base: CompiledProgram | None
    model: LoadedModel | None
    model_rows: NDArray[np.intp] | None
    reads: tuple[Read, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """In the order of the profile and of the matrix's rows."""
        return self.features.output_names

    @property
    def candidate_cost(self) -> float:
        """Estimated work on a candidate without the model, ns."""
        programs = [self.features, *([self.base] if self.base else [])]
        signals = sum(len(read.signals) for read in self.reads)
        return CANDIDATE_NS + SIGNAL_NS * signals + FEATURE_NS * sum(len(p.output_names) for p in programs)

    @property
    def scored_cost(self) -> float:
        """Estimated work of the model on a candidate that it scores, ns."""
        return 0.0 if self.model is None else self.model.row_ns
