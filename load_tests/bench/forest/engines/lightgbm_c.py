"""LightGBM through its C API."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from bench.forest.clock import CRunner, Runner, Step, address, block_addresses
from bench.forest.engines.peer import Job, Peer

_RAW_SCORE = 1
_FLOAT32 = 0


class LightGbm(Peer):
    """LGBM_BoosterPredictForMat, and LGBM_BoosterPredictForMatSingleRowFast row by row."""

    name = "lightgbm"
    library = "lightgbm"
    how = "C API, float32 rows, num_threads=1, best of PredictForMat and SingleRowFast row by row"

    def __init__(self, job: Job) -> None:
        found = importlib.util.find_spec("lightgbm")
        if found is None or found.origin is None:
            raise ImportError("lightgbm is not installed")
        self._job = job
        self._c = ctypes.CDLL(str(Path(found.origin).parent / "lib" / "lib_lightgbm.so"))
        self._c.LGBM_GetLastError.restype = ctypes.c_char_p
        self._booster = ctypes.c_void_p()
        trees = ctypes.c_int()
        path = str(job.model).encode()
        self._check(self._c.LGBM_BoosterCreateFromModelfile(path, ctypes.byref(trees), ctypes.byref(self._booster)))
        self._fast = ctypes.c_void_p()
        self._check(
            self._c.LGBM_BoosterPredictForMatSingleRowFastInit(
                self._booster, _RAW_SCORE, 0, -1, _FLOAT32, ctypes.c_int32(job.shape.features), b"num_threads=1",
                ctypes.byref(self._fast),
            )
        )  # fmt: skip

    def _check(self, status: int) -> None:
        if status:
            raise RuntimeError(self._c.LGBM_GetLastError().decode())

    def runners(self, batch: int) -> Mapping[str, Runner]:
        """See Peer.runners."""
        job = self._job
        inputs = block_addresses(job.rows, job.blocks(batch))
        ways = {
            "single rows": (Step.LIGHTGBM_ROW, self._c.LGBM_BoosterPredictForMatSingleRowFast, self._fast),
            "matrix": (Step.LIGHTGBM, self._c.LGBM_BoosterPredictForMat, self._booster),
        }
        return {
            way: CRunner(
                job.clock, step, address(function), inputs, batch, job.shape.features,
                handle=handle.value, keep=(job.rows, self),
            )
            for way, (step, function, handle) in ways.items()
        }  # fmt: skip
