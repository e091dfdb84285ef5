"""Compiles the C loop that times engines, and wraps what it times."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.forest.cache import Cache

HERE = Path(__file__).resolve().parent


class Step(IntEnum):
    """How a function is called: the index into STEPS of driver.c."""

    LLEAVES = 0
    LIGHTGBM_ROW = 1
    LIGHTGBM = 2
    TL2CGEN = 3
    XGBOOST = 4
    ONNXRUNTIME = 5
    RANKD = 6


class _Call(ctypes.Structure):
    """bench_call of driver.c."""

    _fields_ = [
        ("function", ctypes.c_void_p),
        ("handle", ctypes.c_void_p),
        ("input", ctypes.POINTER(ctypes.c_void_p)),
        ("out", ctypes.c_void_p),
        ("blocks", ctypes.c_size_t),
        ("rows", ctypes.c_size_t),
        ("features", ctypes.c_size_t),
        ("extra", ctypes.c_void_p * 4),
    ]


class Runner(Protocol):
    """One way to score blocks of rows."""

    blocks: int
    rows: int
    out: NDArray[np.float64]
    """(blocks * rows) scores; NaN where no block has been scored."""

    def run(self, first: int, calls: int) -> float:
        """Scores that many blocks from block `first` on, around; the CPU seconds it took, all threads."""


def compiled(cache: Cache, stem: str, sources: Sequence[Path], flags: Sequence[str]) -> ctypes.CDLL:
    """A shared library of C sources, made again when they, the headers beside them or the flags change."""
    digest = hashlib.sha256(" ".join(flags).encode())
    for source in sorted({*sources, *(header for s in sources for header in s.parent.glob("*.h"))}):
        digest.update(source.read_bytes())
    arguments = ["gcc", "-shared", "-fPIC", *flags, *map(str, sources), "-lm"]

    def make(file: Path) -> None:
        subprocess.run([*arguments, "-o", str(file)], check=True)

    return ctypes.CDLL(str(cache.made(f"{stem}-{digest.hexdigest()[:12]}.so", make)))


def address(function: Any) -> int:
    """Where a function of a loaded library is."""
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


class Clock:
    """The compiled loop."""

    def __init__(self, cache: Cache) -> None:
        self._run = compiled(cache, "driver", [HERE / "driver.c"], ["-std=c11", "-O2", "-Wall", "-Wextra"]).bench_run
        size, seconds = ctypes.c_size_t, ctypes.POINTER(ctypes.c_double)
        self._run.argtypes = [ctypes.c_int, ctypes.POINTER(_Call), size, size, seconds]

    def run(self, step: Step, call: _Call, first: int, calls: int) -> float:
        """Seconds. RuntimeError if the engine reports an error."""
        seconds = ctypes.c_double()
        status = self._run(step, ctypes.byref(call), first, calls, ctypes.byref(seconds))
        if status:
            raise RuntimeError(f"{step.name.lower()} answered with status {status}")
        return seconds.value


class CRunner:
    """A C function, called by the loop in C."""

    def __init__(
        self, clock: Clock, step: Step, function: int | None, inputs: Sequence[int], rows: int, features: int,
        *, handle: int | None = None, extra: Sequence[int] = (), keep: Any = None,
    ) -> None:  # fmt: skip
        """`inputs`: an address per block; `keep`: what must live as long, such as the memory behind them."""
        self.blocks, self.rows = len(inputs), rows
        self.out = np.full(self.blocks * rows, np.nan)
        self._clock, self._step = clock, step
        addresses = (ctypes.c_void_p * len(inputs))(*inputs)
        self._keep = (keep, addresses)
        pointers = ctypes.cast(addresses, ctypes.POINTER(ctypes.c_void_p))
        spare = (ctypes.c_void_p * 4)(*extra)
        self._call = _Call(function, handle, pointers, self.out.ctypes.data, self.blocks, rows, features, spare)

    def run(self, first: int, calls: int) -> float:
        """See Runner.run."""
        return self._clock.run(self._step, self._call, first, calls)


class PythonRunner:
    """A Python callable that scores block b, for what has no C function: the call costs what it costs."""

    def __init__(self, score: Callable[[int], NDArray[np.float64]], blocks: int, rows: int) -> None:
        self.blocks, self.rows = blocks, rows
        self.out = np.full(blocks * rows, np.nan)
        self._score = score

    def run(self, first: int, calls: int) -> float:
        """See Runner.run."""
        score, blocks, results = self._score, self.blocks, {}
        started = time.process_time()  # the clock of driver.c
        for number in range(first, first + calls):
            results[number % blocks] = score(number % blocks)
        seconds = time.process_time() - started
        for block, scores in results.items():
            self.out[block * self.rows : (block + 1) * self.rows] = scores
        return seconds


def block_addresses(array: NDArray[Any], blocks: int) -> list[int]:
    """Where the blocks of a C-contiguous array begin; its first axis divides into them."""
    if not array.flags.c_contiguous or len(array) % blocks:
        raise ValueError(f"cannot cut an array of shape {array.shape} into {blocks} blocks")
    step = array.nbytes // blocks
    return [array.ctypes.data + block * step for block in range(blocks)]
