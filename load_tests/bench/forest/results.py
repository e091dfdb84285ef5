"""What was measured, and what follows from it: ratios and the line of JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bench.forest.measure import Timing

AVX2 = "@avx2"
"""Suffix of rankd held to its AVX2 tier."""
COLUMNS = "@columns"
"""Suffix of an engine given its input column by column instead of the row-major rows that all engines get: rankd,
whose own matrix is such; CatBoost, with a Pool that was made before. A ratio with it compares these."""


def rankd_name(library: str) -> str:
    """What rankd is called where it scores that library's model."""
    return "rankd" if library == "lightgbm" else f"rankd:{library}"


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One row of the table: SHAPE/BATCH/ENGINE."""

    shape: str
    batch: int
    engine: str

    def __str__(self) -> str:
        return f"{self.shape}/{self.batch}/{self.engine}"


@dataclass(slots=True)
class Results:
    """Of a whole run."""

    libraries: dict[str, str]
    """Of every peer: whose models it scores."""
    timings: dict[Case, Timing] = field(default_factory=dict)
    """The fastest setting of each engine."""
    settings: dict[str, dict[str, float]] = field(default_factory=dict)
    """SHAPE/BATCH/ENGINE: µs per row by setting, of engines that have several."""
    tiers: dict[str, str] = field(default_factory=dict)
    """SHAPE/BATCH (of models of its own: SHAPE/BATCH/LIBRARY): the tier of rankd that ran."""
    absent: dict[str, str] = field(default_factory=dict)
    """Engine: why it was not measured."""
    inexact: list[str] = field(default_factory=list)
    """Where rankd's scores were not the library's, bit for bit."""
    differences: dict[str, float] = field(default_factory=dict)
    """Engine: greatest distance of a score from the library's own."""
    load: dict[str, float | str] = field(default_factory=dict)
    """What it takes to get the largest forest ready to score."""

    def add(self, shape: str, batch: int, engine: str, by_setting: dict[str, Timing]) -> None:
        """The timings of one engine: the best one counts; of one that also takes columns, that of rows."""
        best = min(by_setting.values(), key=lambda timing: timing.us_per_row)
        case = Case(shape, batch, engine)
        self.timings[case] = by_setting.get("rows", best)
        if "rows" in by_setting:
            self.timings[Case(shape, batch, engine + COLUMNS)] = best
        if len(by_setting) > 1:
            self.settings[str(case)] = {name: round(t.us_per_row, 4) for name, t in by_setting.items()}

    def miss(self, engine: str, error: BaseException | str) -> None:
        """Names an engine that is not measured, or not everywhere, and why: the first reason is kept."""
        if isinstance(error, BaseException):
            error = f"{type(error).__name__}: {error}"
        self.absent.setdefault(engine, " ".join(error.split())[:300])

    @property
    def exact(self) -> bool:
        """Whether rankd ran and every one of its scores was the library's."""
        ran = any(case.engine == "rankd" or case.engine.startswith("rankd:") for case in self.timings)
        return ran and not self.inexact

    def ratios(self) -> dict[str, float]:
        """How many times faster rankd is: medians by medians, on the same rows and the same model."""
        found = {}
        for case, theirs in self.timings.items():
            if case.engine not in self.libraries:
                continue
            ours = rankd_name(self.libraries[case.engine])
            for suffix in ("", AVX2, COLUMNS):
                timing = self.timings.get(Case(case.shape, case.batch, ours + suffix))
                peer = self.timings.get(Case(case.shape, case.batch, case.engine + suffix), theirs)
                if timing:
                    found[f"{case}{suffix}"] = round(peer.us_per_row / timing.us_per_row, 2)
        return found

    def line(self, **more: Any) -> dict[str, Any]:
        """The last line of the run."""
        largest = max(self.tiers, key=lambda name: int(name.split("/")[1]), default=None)
        return {
            "bench": "forest",
            "ratios": self.ratios(),
            "us_per_row": {str(case): round(timing.us_per_row, 4) for case, timing in self.timings.items()},
            "exact": self.exact,
            "inexact": self.inexact,
            "tier": self.tiers[largest] if largest else None,
            "tiers": self.tiers,
            "absent": self.absent,
            "spread": {str(case): round(timing.spread, 3) for case, timing in self.timings.items()},
            "settings": self.settings,
            "differences": self.differences,
            "load": self.load,
            **more,
        }
