"""A plan: a profile, its compiled programs and its model, immutable and ready to run.

A plan is swapped as a whole; a request uses one plan from start to end. ranking.build makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankd.features.program import Program
from rankd.models.scorer import LoadedModel
from rankd.signals.store import Categories
from rankd.types.profile import Profile

USER = "user"
"""The entity whose signals are read by the request's user or visitor id."""


class Versions(NamedTuple):
    """Which configuration answered; see Versions in ranking.proto."""

    profile: str
    model: str
    schema: str


class Read(NamedTuple):
    """Signals to fetch of one entity: the candidates', the user's or the query's."""

    entity: str
    signals: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """See the module's docstring.

    `reads[0]` is the candidates' entity, always present: it tells which ids are known.
    `model_rows`: for every model input the row of the feature matrix that holds it; None: as they are.
    """

    profile: Profile
    versions: Versions
    categories: Categories
    features: Program
    base: Program | None
    model: LoadedModel | None
    model_rows: NDArray[np.intp] | None
    reads: tuple[Read, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """In the order of the profile and of the matrix's rows."""
        return self.features.output_names

    def cost(self, length: int) -> float:
        """Estimated work of ranking `length` candidates, in tree visits (see Scorer.cost) and column values."""
        work = float(length * len(self.features.output_names))
        if self.model is not None:
            work += self.model.scorer.cost(min(length, self.profile.rerank_count or length))
        return work
