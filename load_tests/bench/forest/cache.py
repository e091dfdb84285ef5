"""What is made once and kept under build/bench-forest: rows, trained models, compiled peers.

A file's name says all that it depends on: library and version, data version, shape and settings; for
machine code also the processor. A file with the same name is the same thing and is never made again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.forest.libraries import TRAINERS, catboost_json
from bench.forest.shapes import DATA_VERSION, SCORED_ROWS, Shape, TrainingSet, make_rows, make_training_set


def say(text: str) -> None:
    """Progress, on stderr: stdout has the results."""
    print(text, file=sys.stderr, flush=True)


def cpu_key() -> str:
    """Eight hex digits for the processor and what it can do: machine code for another one may not run."""
    content = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    facts = [found[0] if (found := re.findall(rf"^{name}\s*:\s*(.+)$", content, re.MULTILINE)) else ""
             for name in ("model name", "flags", "Features")]  # fmt: skip
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def cpu_s() -> float:
    """CPU seconds of this process and the children it waited for, user and system."""
    return sum(os.times()[:4])


def file_name(maker: str, versions: list[str], subject: str, suffix: str, settings: str = "") -> str:
    """`lightgbm-4.7.0-d1-500x31x100.txt`: the maker with its versions, the data version, what it is made for."""
    parts = [maker, *versions, f"d{DATA_VERSION}", subject, *([settings] if settings else [])]
    return "-".join(parts) + "." + suffix


class Cache:
    """A folder of such files, each with a note beside it of the CPU time it took to make."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._training_sets: dict[int, TrainingSet] = {}

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file of that name, made now by `make(path)` if it is not there; half a file is never left behind."""
        path = self.folder / name
        if not path.exists():
            say(f"  making {name} …")
            partial = path.with_name(f"{path.stem}.part{os.getpid()}{path.suffix}")
            started = cpu_s()
            try:
                make(partial)
                seconds = cpu_s() - started
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            path.with_name(path.name + ".note").write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
            say(f"  made {name} in {seconds:.1f} s")
        return path

    def seconds(self, name: str) -> float | None:
        """CPU seconds it took to make; None if that is not known."""
        note = self.folder / (name + ".note")
        if not note.exists():
            return None
        found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        return float(found["seconds"])

    def rows(self, features: int, count: int = SCORED_ROWS) -> NDArray[np.float32]:
        """The rows that are scored: none of those trained on, of the same distributions."""
        name = f"rows-d{DATA_VERSION}-{features}.npy"
        path = self.made(name, lambda file: np.save(file, make_rows(features, count, seed=2)))
        return np.load(path)  # type: ignore[no-any-return]

    def model(self, library: str, shape: Shape) -> Path:
        """The library's model of that shape, in the format that rankd reads; CatBoost's .cbm lies beside it.

        ImportError if the library is not installed.
        """
        suffix, train = TRAINERS[library]
        versions = [importlib.import_module(library).__version__]
        name = file_name(library, versions, str(shape), suffix)
        trained = self.made(name, lambda file: train(shape, self._training_set(shape.features), file))
        if library != "catboost":
            return trained
        name = file_name(library, versions, str(shape), "json")
        return self.made(name, lambda file: catboost_json(trained, file))

    def _training_set(self, features: int) -> TrainingSet:
        if features not in self._training_sets:
            self._training_sets[features] = make_training_set(features)
        return self._training_sets[features]
