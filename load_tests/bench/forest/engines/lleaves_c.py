"""lleaves: LightGBM models compiled by LLVM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.forest.cache import cpu_key, file_name, say
from bench.forest.clock import CRunner, Runner, Step, block_addresses
from bench.forest.engines.peer import Job, Peer
from bench.forest.shapes import Shape


@dataclass(frozen=True, slots=True)
class Setting:
    """lleaves' compile options."""

    block: int
    """Trees per instruction cache block (fblocksize)."""
    inline: bool
    code_model: str

    def __str__(self) -> str:
        return f"b{self.block}-{'inline' if self.inline else 'calls'}-{self.code_model}"


DEFAULT = Setting(34, True, "large")


def settings(shape: Shape) -> list[Setting]:
    """What is tried: its default, smaller and no blocks, trees inlined and not. The fastest counts."""
    calls = [Setting(block, False, "small") for block in (10, 34, shape.trees)]
    return [DEFAULT, Setting(10, True, "large"), *calls]


class Lleaves(Peer):
    """The root function of the compiled forest, which takes doubles: the conversion is not counted."""

    name = "lleaves"
    library = "lightgbm"
    how = "its C entry, rows already in double, best of its block sizes"

    def __init__(self, job: Job) -> None:
        import lleaves

        self._job = job
        self._rows = job.rows.astype(np.float64)
        self._compiled: dict[str, tuple[int, object]] = {}
        versions = [version("lleaves"), f"llvmlite{version('llvmlite')}", cpu_key()]
        for setting in settings(job.shape):
            name = file_name("lleaves", versions, str(job.shape), "o", str(setting))
            options = {
                "raw_score": True, "fblocksize": setting.block, "fcodemodel": setting.code_model,
                "finline": setting.inline,
            }  # fmt: skip

            def make(file: Path, options: dict[str, object] = options) -> None:
                say(f"    lleaves {options}")
                lleaves.Model(str(job.model)).compile(str(file), **options)

            model = lleaves.Model(str(job.model))
            model.compile(str(job.cache.made(name, make)), **options)
            entry = model._execution_engine.get_function_address("forest_root")
            self._compiled[str(setting)] = (int(entry), model)
        default = file_name("lleaves", versions, str(job.shape), "o", str(DEFAULT))
        self.compile_s = job.cache.seconds(default)
        """Seconds its default setting took to compile."""

    def runners(self, batch: int) -> Mapping[str, Runner]:
        """See Peer.runners."""
        inputs = block_addresses(self._rows, self._job.blocks(batch))
        features = self._job.shape.features
        return {
            setting: CRunner(
                self._job.clock, Step.LLEAVES, entry, inputs, batch, features, keep=(self._rows, model)
            )
            for setting, (entry, model) in self._compiled.items()
        }  # fmt: skip
