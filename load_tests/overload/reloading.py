"""A workspace that changes under load: two versions in turn, and every answer held against what it says it is."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import lightgbm
import numpy as np
from bench import processes, shop
from bench.forest.shapes import Shape
from generator.offer import BATCH_RANK, RANK, Offer, Outcome, Stream
from generator.process import Generator
from numpy.typing import NDArray

from overload.effort import Effort
from overload.shedding import Say
from rankd.v1.ranking_pb2 import VIEW_SCORES, BatchRankRequest, RankRequest, RankResponse

SHAPE = Shape(100, 31, 20)
PROFILE = "shop"
ITEMS = 1_000
CANDIDATES = 20
BATCH_LISTS = 4
DEADLINE_S = 2.0
APPLY_LIMIT_S = 10.0
"""How long a reload may take to be seen."""


@dataclass(slots=True)
class Reloads:
    """What clients saw. `mixed`: answers that are of two versions, or of none."""

    outcome: Outcome
    applied: int
    mixed: int
    apply_s: list[float]

    @property
    def failed(self) -> int:
        """Calls that failed, and answers that were wrong."""
        return self.outcome.failed + self.mixed


class Versions:
    """Two workspaces of one schema: another forest, and the first feature computed otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "models").mkdir(parents=True)
        rows = shop.item_rows(SHAPE.features, ITEMS)
        self.rows = rows
        self.scores: list[NDArray[np.float64]] = []
        """Of every item, by version: LightGBM's own."""
        for version in (0, 1):
            file = folder / "models" / f"{version}.txt"
            shop.train_forest(SHAPE, file, seed=version + 1)
            features = rows.copy()
            features[:, 0] *= version + 1  # exact
            self.scores.append(np.asarray(lightgbm.Booster(model_file=str(file)).predict(features)))

    def write(self, version: int) -> None:
        """Makes it the workspace's."""
        profile = shop.profile(SHAPE.features, "m")
        profile["features"]["s000"] = f"item.s000 * {version + 1}"
        document: dict[str, Any] = {"version": 1, "schema": {"item": dict.fromkeys(shop.signal_names(20), "f32")}}
        document |= {"models": {"m": {"file": f"models/{version}.txt"}}, "profiles": {PROFILE: profile}}
        shop.write_document(self.folder, document)

    def of(self, ids: tuple[str, ...], scores: tuple[float, ...]) -> int | None:
        """The version whose scores these are, every one of them; None: neither's."""
        numbers = [int(id.removeprefix("sku-")) for id in ids]
        for version, expected in enumerate(self.scores):
            if np.array_equal(expected[numbers], scores):
                return version
        return None


def count_mixed(versions: Versions, outcome: Outcome) -> int:
    """Answers whose scores are not all of one version, or not of the version that the answer names."""
    named: dict[tuple[str, str], int] = {}
    wrong = set()
    for number, (_, _, results) in enumerate(outcome.answers):
        found = {(names, versions.of(ids, scores)) for names, ids, scores in results}
        names, version = next(iter(found))
        if len(found) != 1 or version is None or named.setdefault(names, version) != version:
            wrong.add(number)
    answered = outcome.answer >= 0
    return int(np.isin(outcome.answer[answered], list(wrong)).sum()) + int((outcome.code == 0).sum() - answered.sum())


def _requests() -> list[Stream]:
    lists = [shop.choose_items(ITEMS, CANDIDATES, seed) for seed in range(16)]
    ranks = [shop.rank_request(PROFILE, numbers, view=VIEW_SCORES) for numbers in lists]
    batches = []
    for seed in range(4):
        batch = BatchRankRequest(common=RankRequest(profile=PROFILE, view=VIEW_SCORES))
        for one in range(BATCH_LISTS):
            numbers = shop.choose_items(ITEMS, CANDIDATES, 100 * seed + one)
            batch.lists.add().candidates.ids.extend(map(shop.item_id, numbers.tolist()))
        batches.append(batch.SerializeToString())
    return [Stream("rank", ranks, RANK, 0.8), Stream("batch", batches, BATCH_RANK, 0.2)]


class _Watch:
    """Some connections of our own, to see which version is served."""

    def __init__(self, target: str, request: bytes, stack: ExitStack, connections: int = 4) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._request = request
        self._ranks = [
            stack.enter_context(grpc.insecure_channel(target, options)).unary_unary(RANK) for _ in range(connections)
        ]

    def served(self) -> set[str]:
        """The fingerprints of models."""
        answers = [rank(self._request, timeout=5.0, wait_for_ready=True) for rank in self._ranks]
        return {RankResponse.FromString(answer).versions.model for answer in answers}


def measure(folder: Path, effort: Effort, generator: Generator, say: Say) -> Reloads:
    """`effort.reloads` times: another workspace, SIGHUP, and a look whether it is served; calls all the while."""
    versions = Versions(folder / "reloaded")
    versions.write(0)
    streams = _requests()
    with ExitStack() as stack:
        server = stack.enter_context(processes.rankd(versions.folder, workers=effort.reload_workers))
        shop.write_items(server.target, versions.rows)
        watch = _Watch(server.target, streams[0].requests[0], stack)
        seconds = effort.reloads * effort.reload_every_s + 1.0
        asked = Offer(
            server.target, streams, effort.reload_rate, seconds, DEADLINE_S, via_client=True, keep_answers=True
        )
        generator.start(asked)
        known: Mapping[int, set[str]] = {0: watch.served()}
        took = []
        for number in range(1, effort.reloads + 1):
            started = time.perf_counter()
            versions.write(number % 2)
            server.process.send_signal(signal.SIGHUP)
            if not _applied(watch, known[(number - 1) % 2], APPLY_LIMIT_S):
                break
            known = {**known, number % 2: watch.served()}
            took.append(time.perf_counter() - started)
            time.sleep(max(0.0, effort.reload_every_s - took[-1]))
        outcome = generator.result()
    mixed = count_mixed(versions, outcome)
    say(
        f"reloads: {len(took)}, {len(outcome.code):,} calls, {outcome.failed} failed, {mixed} answers of no one version"
    )
    return Reloads(outcome, len(took), mixed, took)


def _applied(watch: _Watch, old: set[str], limit_s: float) -> bool:
    end = time.perf_counter() + limit_s
    while time.perf_counter() < end:
        if not watch.served() & old:
            return True
        time.sleep(0.02)
    return False
