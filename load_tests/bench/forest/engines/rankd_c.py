"""rankd's forest: the library's own model file through rankd's importer, scored by its kernels."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bench.forest.clock import PythonRunner, Runner
from bench.forest.engines.peer import Job
from rankd.kernels.forest import Forest
from rankd.models import load_model
from rankd.types.profile import ModelSpec


class Rankd:
    """One model. ModelFileError if rankd cannot import it."""

    how = "Forest.score in Python, which costs a call about 1 µs; feature-major rows, made before"

    def __init__(self, job: Job, library: str) -> None:
        self._job = job
        self.scorer = load_model(ModelSpec(library, str(job.model), library)).scorer
        self.forest: Forest = self.scorer.forest

    def scores(self) -> NDArray[np.float64]:
        """Raw scores of all rows as rankd serves them, to be held against the library's."""
        return self.scorer.score(np.ascontiguousarray(self._job.rows.T), raw=True)[0]

    def sums(self) -> NDArray[np.float64]:
        """The forest's sums of all rows, to hold the timed runs against."""
        return self.forest.score(np.ascontiguousarray(self._job.rows.T))[0]

    def tier(self, batch: int) -> str:
        """The tier that scores such a batch."""
        return "auto"

    def runners(self, batch: int) -> Mapping[str, Runner]:
        """By variant, which is appended to its name."""
        blocks = self._job.blocks(batch)
        cut = np.ascontiguousarray(self._job.rows.reshape(blocks, batch, -1).transpose(0, 2, 1))
        forest = self.forest
        return {"": PythonRunner(lambda block: forest.score(cut[block])[0], blocks, batch)}

    @staticmethod
    def loading(job: Job) -> dict[str, float]:
        """Seconds from the text file to a forest that scores: median of three."""
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            Rankd(job, "lightgbm")
            seconds.append(time.perf_counter() - started)
        return {"rankd_s": round(statistics.median(seconds), 3)}
