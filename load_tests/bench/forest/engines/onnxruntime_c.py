"""ONNX Runtime through its C API, on the model that onnxmltools makes of LightGBM's (in float32: not exact)."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.forest.cache import file_name
from bench.forest.clock import CRunner, Runner, Step, block_addresses
from bench.forest.engines.peer import Job, Peer

# Places in the struct OrtApi (onnxruntime_c_api.h): entries are only ever added at its end.
_GET_MESSAGE, _CREATE_ENV, _CREATE_SESSION, _RUN, _CREATE_OPTIONS = 2, 3, 7, 9, 10
_SET_INTRA_OP_THREADS, _SET_INTER_OP_THREADS, _CREATE_TENSOR, _CREATE_CPU_MEMORY = 24, 25, 49, 69
_API_VERSION = 1
_WARNING, _FLOAT, _ARENA, _DEFAULT_MEMORY = 2, 1, 1, 0


def convert(model: Path, features: int, file: Path) -> None:
    """LightGBM's model as an ONNX file with input `rows` and output `variable`."""
    import lightgbm
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = lightgbm.Booster(model_file=str(model))
    shape = FloatTensorType([None, features])
    onnx_model = onnxmltools.convert_lightgbm(booster, initial_types=[("rows", shape)], target_opset=15)
    file.write_bytes(onnx_model.SerializeToString())


class OnnxRuntime(Peer):
    """OrtApi.Run with tensors made before."""

    name = "onnxruntime"
    library = "lightgbm"
    how = "C API Run, ready tensors, one intra-op thread; float32 sums, not exact"

    def __init__(self, job: Job) -> None:
        found = importlib.util.find_spec("onnxruntime")
        if found is None or found.origin is None:
            raise ImportError("onnxruntime is not installed")
        versions = [version("onnxmltools")]
        name = file_name("onnx", versions, str(job.shape), "onnx")
        path = job.cache.made(name, lambda file: convert(job.model, job.shape.features, file))
        (library,) = (Path(found.origin).parent / "capi").glob("libonnxruntime.so.*")
        base = ctypes.CDLL(str(library)).OrtGetApiBase
        base.restype = ctypes.POINTER(ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32))
        self._api = ctypes.cast(base()[0](_API_VERSION), ctypes.POINTER(ctypes.c_void_p))
        self._job = job
        environment, options = ctypes.c_void_p(), ctypes.c_void_p()
        self._session, self._memory = ctypes.c_void_p(), ctypes.c_void_p()
        self._call(_CREATE_ENV, ctypes.c_int(_WARNING), b"bench", ctypes.byref(environment))
        self._call(_CREATE_OPTIONS, ctypes.byref(options))
        self._call(_SET_INTRA_OP_THREADS, options, ctypes.c_int(1))
        self._call(_SET_INTER_OP_THREADS, options, ctypes.c_int(1))
        self._call(_CREATE_SESSION, environment, str(path).encode(), options, ctypes.byref(self._session))
        self._call(_CREATE_CPU_MEMORY, ctypes.c_int(_ARENA), ctypes.c_int(_DEFAULT_MEMORY), ctypes.byref(self._memory))

    def _call(self, place: int, *arguments: object) -> None:
        status = ctypes.CFUNCTYPE(ctypes.c_void_p)(self._api[place])(*arguments)
        if status:
            message = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(self._api[_GET_MESSAGE])(status)
            raise RuntimeError((message or b"").decode())

    def _tensors(self, addresses: list[int], shape: tuple[int, int]) -> list[int]:
        """A tensor over each piece of memory."""
        dimensions = (ctypes.c_int64 * 2)(*shape)
        tensors = []
        for data in addresses:
            tensor = ctypes.c_void_p()
            size = ctypes.c_size_t(4 * shape[0] * shape[1])
            self._call(
                _CREATE_TENSOR, self._memory, ctypes.c_void_p(data), size, dimensions, ctypes.c_size_t(2),
                ctypes.c_int(_FLOAT), ctypes.byref(tensor),
            )  # fmt: skip
            tensors.append(int(tensor.value or 0))
        return tensors

    def runners(self, batch: int) -> Mapping[str, Runner]:
        """See Peer.runners."""
        job = self._job
        blocks = job.blocks(batch)
        scores = np.zeros(blocks * batch, dtype=np.float32)
        inputs = self._tensors(block_addresses(job.rows, blocks), (batch, job.shape.features))
        outputs = (ctypes.c_void_p * blocks)(*self._tensors(block_addresses(scores, blocks), (batch, 1)))
        names_in, names_out = (ctypes.c_char_p * 1)(b"rows"), (ctypes.c_char_p * 1)(b"variable")
        runner = CRunner(
            job.clock, Step.ONNXRUNTIME, int(self._api[_RUN]), inputs, batch, job.shape.features,
            handle=self._session.value, keep=(names_in, names_out, outputs, scores, job.rows),
            extra=[ctypes.addressof(part) for part in (names_in, names_out, outputs)] + [scores.ctypes.data],
        )  # fmt: skip
        return {"": runner}
