"""rankd's forest: the library's own model file through rankd's importer, scored by its kernels.

What is timed is rk_forest_score and nothing of Python: the kernels are compiled as setup.py does, beside a C
entry (rankd_entry.c) that opens the image of the forest which the importer built.
"""

from __future__ import annotations

import ast
import ctypes
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.forest.cache import Cache
from bench.forest.clock import HERE, CRunner, Runner, Step, address, block_addresses, compiled
from bench.forest.engines.peer import Job
from bench.forest.results import AVX2, COLUMNS
from rankd.kernels.forest import TIERS, Forest
from rankd.models import load_model
from rankd.models.compiled import read_compiled, write_compiled
from rankd.models.load import read_model
from rankd.types.profile import ModelSpec

ROOT = HERE.parents[2]
IMAGE_ALIGNMENT = 64


def c_flags() -> list[str]:
    """C_FLAGS of setup.py, which cannot be imported without running."""
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "C_FLAGS":
            return [str(flag) for flag in ast.literal_eval(node.value)]
    raise LookupError("setup.py has no C_FLAGS")


def kernels(cache: Cache) -> ctypes.CDLL:
    """csrc with the entry, compiled anew whenever something there changes."""
    sources = [HERE / "rankd_entry.c", *sorted((ROOT / "csrc").glob("*.c"))]
    library = compiled(cache, "rankd", sources, [*c_flags(), f"-I{ROOT / 'csrc'}"])
    library.bench_rankd_open.restype = ctypes.c_void_p
    library.bench_rankd_open.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library


def aligned(image: bytes) -> NDArray[np.uint8]:
    """A copy that begins at a multiple of IMAGE_ALIGNMENT."""
    room = np.empty(len(image) + IMAGE_ALIGNMENT, dtype=np.uint8)
    start = -room.ctypes.data % IMAGE_ALIGNMENT
    room[start : start + len(image)] = np.frombuffer(image, dtype=np.uint8)
    return room[start : start + len(image)]


def median_s(work: Callable[[], object], times: int = 7) -> float:
    """CPU seconds: the clock of driver.c."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


class Rankd:
    """One model. ModelFileError if rankd cannot import it."""

    how = "rk_forest_score, from row-major rows; by columns: from a feature-major matrix, as rankd makes it"

    def __init__(self, job: Job, library: str) -> None:
        self._job = job
        names = None if library == "lightgbm" else tuple(f"f{i}" for i in range(job.shape.features))
        self.scorer = load_model(ModelSpec(library, str(job.model), library, names)).scorer
        self.forest: Forest = self.scorer.forest
        self._c = kernels(job.cache)
        self._image = aligned(self.forest.image())
        self._handle: int = self._c.bench_rankd_open(self._image.ctypes.data, len(self._image))
        if not self._handle:
            raise RuntimeError("the forest's own image is refused")

    def scores(self) -> NDArray[np.float64]:
        """Raw scores of all rows as rankd serves them, to be held against the library's."""
        return self.scorer.score(np.ascontiguousarray(self._job.rows.T), raw=True)[0]

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        """The forest's sums of all rows by the oracle, to hold the timed runs against."""
        return self.forest.score(np.ascontiguousarray(self._job.rows.T), "scalar")[0]

    def tier(self, batch: int) -> str:
        """The tier that scores such a batch."""
        return self.forest.chosen_tier(batch)

    def runners(self, batch: int) -> Mapping[str, Runner]:
        """By variant: from the peers' row-major rows, held to AVX2 where vectors score such a batch, by columns."""
        blocks, features = self._job.blocks(batch), self._job.shape.features
        rows = self._job.rows.reshape(blocks, batch, features)
        cut = np.ascontiguousarray(rows.transpose(0, 2, 1))
        found = {
            "": self._runner(rows, batch, "auto", (1, features)),
            COLUMNS: self._runner(cut, batch, "auto", (batch, 1)),
        }
        if "avx2" in TIERS and self.forest.has_tier("avx2") and self.tier(batch) in ("avx512", "avx2"):
            found[AVX2] = self._runner(rows, batch, "avx2", (1, features))
        return found

    def _runner(self, blocks: NDArray[np.float32], batch: int, tier: str, strides: tuple[int, int]) -> Runner:
        function = address(self._c.bench_rankd_score)
        inputs = block_addresses(blocks, len(blocks))
        return CRunner(
            self._job.clock, Step.RANKD, function, inputs, batch, self._job.shape.features, handle=self._handle,
            extra=[TIERS[tier], *strides], keep=(blocks, self),
        )  # fmt: skip

    @staticmethod
    def loading(job: Job) -> dict[str, float]:
        """CPU seconds from the text file to a scorer; CPU milliseconds from its compiled file, mapped, to a score."""

        def load() -> object:
            return load_model(ModelSpec("", str(job.model), "lightgbm")).scorer

        row = np.ascontiguousarray(job.rows[:1].T)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.rkmodel"
            scorer, origin = read_model(job.model, "lightgbm")
            write_compiled(path, scorer, origin)
            map_ms = 1e3 * median_s(lambda: read_compiled(path)[0].score(row))
        return {"rankd_s": round(median_s(load), 3), "rankd_map_ms": round(map_ms, 2)}
