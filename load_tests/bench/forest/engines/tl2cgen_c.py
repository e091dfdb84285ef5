"""TL2cgen: C code generated from a Treelite model, compiled by gcc."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.forest.cache import cpu_key, file_name
from bench.forest.clock import CRunner, Runner, Step, address, block_addresses
from bench.forest.engines.peer import Job, Peer

TREES_PER_UNIT = 25


class Tl2cgen(Peer):
    """predict() of the generated code, a row a call, quantised; filling its entries belongs to it."""

    name = "tl2cgen"
    library = "lightgbm"
    how = "predict() of its C code in a C loop, quantize=1, gcc -O3"

    def __init__(self, job: Job) -> None:
        import tl2cgen
        import treelite

        def make(file: Path) -> None:
            model = treelite.frontend.load_lightgbm_model(str(job.model))
            parameters = {"quantize": 1, "parallel_comp": -(-job.shape.trees // TREES_PER_UNIT)}
            with tempfile.TemporaryDirectory() as folder:
                tl2cgen.generate_c_code(model, folder, parameters)
                tl2cgen.create_shared("gcc", folder, nthread=1)
                (library,) = Path(folder).glob("*.so")
                file.write_bytes(library.read_bytes())

        versions = [version("tl2cgen"), f"treelite{version('treelite')}", cpu_key()]
        name = file_name("tl2cgen", versions, str(job.shape), "so")
        self._job = job
        self._c = ctypes.CDLL(str(job.cache.made(name, make)))
        self.compile_s = job.cache.seconds(name)
        """Seconds that generating and compiling took, with one gcc at a time."""
        for function in (self._c.get_threshold_type, self._c.get_leaf_output_type):
            function.restype = ctypes.c_char_p
            if function() != b"float64":
                raise RuntimeError(f"expected code in float64, got {function()!r}")

    def runners(self, batch: int) -> Mapping[str, Runner]:
        """See Peer.runners."""
        job = self._job
        entries = np.zeros(job.shape.features)
        inputs = block_addresses(job.rows, job.blocks(batch))
        runner = CRunner(
            job.clock, Step.TL2CGEN, address(self._c.predict), inputs, batch, job.shape.features,
            extra=[entries.ctypes.data], keep=(entries, job.rows),
        )  # fmt: skip
        return {"": runner}
