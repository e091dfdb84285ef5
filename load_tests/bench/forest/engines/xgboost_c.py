"""XGBoost through its C API, on its own model."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping

from bench.forest.clock import CRunner, Runner, Step, address, block_addresses
from bench.forest.engines.peer import Job, Peer

_CONFIGURATION = {
    "type": 1, "training": False, "iteration_begin": 0, "iteration_end": 0, "strict_shape": False,
    "missing": float("nan"), "cache_id": 0,
}  # fmt: skip


class XgBoost(Peer):
    """XGBoosterPredictFromDense: margins, in place, without a DMatrix."""

    name = "xgboost"
    library = "xgboost"
    how = "C API PredictFromDense, in place, nthread=1, its own model"

    def __init__(self, job: Job) -> None:
        import xgboost

        self._job = job
        self._booster = xgboost.Booster({"nthread": 1}, model_file=str(job.model))
        self._c = xgboost.core._LIB

    def runners(self, batch: int) -> Mapping[str, Runner]:
        """See Peer.runners."""
        job = self._job
        configuration = ctypes.create_string_buffer(json.dumps(_CONFIGURATION).encode())
        descriptions = [
            ctypes.create_string_buffer(
                json.dumps(
                    {"data": [data, True], "shape": [batch, job.shape.features], "typestr": "<f4", "version": 3}
                ).encode()
            )
            for data in block_addresses(job.rows, job.blocks(batch))
        ]
        runner = CRunner(
            job.clock, Step.XGBOOST, address(self._c.XGBoosterPredictFromDense),
            [ctypes.addressof(text) for text in descriptions], batch, job.shape.features,
            handle=self._booster.handle.value, extra=[ctypes.addressof(configuration)],
            keep=(configuration, descriptions, job.rows, self._booster),
        )  # fmt: skip
        return {"": runner}
