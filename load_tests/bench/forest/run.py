"""Opens the engines on each forest, holds rankd's scores against the library's and times everything in turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.forest import libraries, measure
from bench.forest.cache import Cache, say
from bench.forest.clock import Clock, Runner
from bench.forest.engines import Job, Peer
from bench.forest.engines.rankd_c import Rankd
from bench.forest.measure import Effort, Key
from bench.forest.results import Results, rankd_name
from bench.forest.shapes import Shape
from rankd.errors import ModelFileError

ROWS = 4_000
"""Scored rows; every batch size divides it."""


class Bench:
    """One run over some shapes, batch sizes and peers."""

    def __init__(self, cache: Cache, batches: Sequence[int], peers: Sequence[type[Peer]], effort: Effort) -> None:
        self.results = Results({peer.name: peer.library for peer in peers})
        self._cache, self._batches, self._peers, self._effort = cache, batches, peers, effort
        self._clock = Clock(cache)

    def shape(self, shape: Shape) -> None:
        """Measures one shape; what cannot be opened is named in the results."""
        say(f"{shape}")
        rankds: dict[str, Rankd] = {}
        peers: list[Peer] = []
        references = {}
        for library in dict.fromkeys(peer.library for peer in self._peers):
            mine = [peer for peer in self._peers if peer.library == library]
            try:
                job = self._job(library, shape)
                references[library] = libraries.raw_scores(library, job.model, job.rows)
            except Exception as error:
                for peer in mine:
                    self.results.miss(peer.name, error)
                continue
            peers += self._open(mine, job)
            try:
                rankds[library] = Rankd(job, library)
            except ModelFileError as error:
                for peer in mine:
                    self.results.miss(peer.name, f"timed, but rankd cannot import its model yet: {error}")
        for library, rankd in rankds.items():
            if not measure.same_bits(rankd.scores(), references[library]):
                self.results.inexact.append(f"{shape}/{library}")
        for batch in self._batches:
            self._batch(shape, batch, rankds, peers, references)

    def _job(self, library: str, shape: Shape) -> Job:
        rows = np.ascontiguousarray(self._cache.rows(shape.features)[:ROWS])
        return Job(shape, self._cache.model(library, shape), rows, self._cache, self._clock)

    def _open(self, peers: Sequence[type[Peer]], job: Job) -> list[Peer]:
        opened = []
        for peer in peers:
            try:
                opened.append(peer(job))
            except Exception as error:  # whatever a peer throws, the others go on and it is named
                say(f"  {peer.name}: {error}")
                self.results.miss(peer.name, error)
        return opened

    def _batch(
        self, shape: Shape, batch: int, rankds: dict[str, Rankd], peers: list[Peer],
        references: dict[str, np.ndarray],
    ) -> None:  # fmt: skip
        """All engines in turns; then every score that was written is looked at."""
        started = time.perf_counter()
        ours: dict[Key, Runner] = {}
        for library, rankd in rankds.items():
            name = rankd_name(library)
            ours |= {(name + variant, ""): runner for variant, runner in rankd.runners(batch).items()}
            own = "" if library == "lightgbm" else f"/{library}"
            self.results.tiers[f"{shape}/{batch}{own}"] = rankd.tier(batch)
        theirs = {(peer.name, setting): r for peer in peers for setting, r in peer.runners(batch).items()}
        for runner in ours.values():
            runner.run(0, runner.blocks)
        timings = measure.alternate(ours | theirs, self._effort)
        for engine in dict.fromkeys(engine for engine, _ in timings):
            self.results.add(str(shape), batch, engine, {s: t for (e, s), t in timings.items() if e == engine})
        for library, rankd in rankds.items():
            for (engine, _), runner in ours.items():
                mine = engine.partition("@")[0] == rankd_name(library)
                if mine and not measure.same_bits(runner.out, rankd.sums):
                    self.results.inexact.append(f"{shape}/{batch}/{engine}")
        for (engine, _), runner in theirs.items():
            expected = references[self.results.libraries[engine]][: len(runner.out)]
            off = float(np.nanmax(np.abs(runner.out - expected)))
            self.results.differences[engine] = max(off, self.results.differences.get(engine, 0.0))
        say(f"  {batch:,} rows: {time.perf_counter() - started:.1f} s")


def loading(results: Results, cache: Cache, shape: Shape, peers: Sequence[type[Peer]], clock: Clock) -> None:
    """Fills results.load: seconds from the model file to the first score, ours now and the compilers' when they ran."""
    from bench.forest.engines.lleaves_c import Lleaves
    from bench.forest.engines.tl2cgen_c import Tl2cgen

    rows = np.ascontiguousarray(cache.rows(shape.features)[:ROWS])
    job = Job(shape, cache.model("lightgbm", shape), rows, cache, clock)
    results.load["shape"] = str(shape)
    results.load |= Rankd.loading(job)
    for peer in peers:
        if peer in (Lleaves, Tl2cgen) and peer.name not in results.absent:
            seconds = peer(job).compile_s  # type: ignore[attr-defined]
            if seconds is not None:
                results.load[f"{peer.name}_compile_s"] = round(seconds, 1)


def default_cache(root: Path) -> Path:
    """Where everything is kept unless told otherwise."""
    return root / "build" / "bench-forest"
