"""CatBoost in Python, on its own model: PyPI has no package with its C library (libcatboostmodel)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bench.forest.clock import PythonRunner, Runner
from bench.forest.engines.peer import Job, Peer

MAX_POOLS = 64
"""Pools are large; that many blocks are enough not to be learnt by heart."""


class CatBoost(Peer):
    """predict() of rows, and of a Pool that was made before."""

    name = "catboost"
    library = "catboost"
    how = "Python predict, thread_count=1, its own oblivious model, from rows; by columns: best of rows and ready Pool"

    def __init__(self, job: Job) -> None:
        import catboost

        self._job = job
        self._pool = catboost.Pool
        self._model = catboost.CatBoost()
        self._model.load_model(str(job.model.with_suffix(".cbm")))

    def runners(self, batch: int) -> Mapping[str, Runner]:
        """See Peer.runners."""
        blocks = min(self._job.blocks(batch), MAX_POOLS)
        cut = self._job.rows[: blocks * batch].reshape(blocks, batch, -1)
        pools = [self._pool(rows, thread_count=1) for rows in cut]

        def predict(data: object) -> NDArray[np.float64]:
            found = self._model.predict(data, prediction_type="RawFormulaVal", thread_count=1)
            return np.atleast_1d(np.asarray(found, dtype=np.float64))

        return {
            "rows": PythonRunner(lambda block: predict(cut[block]), blocks, batch),
            "pool": PythonRunner(lambda block: predict(pools[block]), blocks, batch),
        }
