"""A Rank beside a bare grpc.aio server that answers the same bytes with the same bytes, and the forest alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench import processes, shop
from bench.forest.shapes import Shape
from generator.offer import RANK
from numpy.typing import NDArray

from path.callers import Block, Cost, GrpcCaller, thread_cpu_s
from path.effort import Effort
from rankd.kernels.forest import Forest
from rankd.models.load import load_model
from rankd.v1.ranking_pb2 import RankResponse
from rankd.workspace import load_workspace

SIZES = (10, 100, 1_000)
LISTS = 8
"""Requests of each size, sent in turn."""


@dataclass(frozen=True, slots=True)
class EchoResult:
    """Medians over the rounds, in microseconds a call."""

    candidates: int
    request_bytes: int
    response_bytes: int
    rank_us: float
    all_us: float
    """Of all of rankd's processes."""
    forest_us: float
    echo_us: float
    ratio: float
    """(rank - forest) / echo."""
    wait_us: float
    """The caller's, from call to answer."""


def load_forest(workspace: Path, name: str) -> Forest:
    """A model's forest, as the server has it."""
    return load_model(load_workspace(workspace, {}).models[name]).scorer.forest


class ForestClock:
    """The forest's own time for a list: the same rows, scored in this process on the servers' core."""

    def __init__(self, forest: Forest, rows: NDArray[np.float32], lists: list[NDArray[np.int64]], core: int | None):
        self._forest, self._core = forest, core
        self._matrices = [np.ascontiguousarray(rows[numbers]).T for numbers in lists]

    def measure(self, block_s: float) -> float:
        """Seconds of CPU a list."""

        def score(number: int) -> None:
            self._forest.score(self._matrices[number % len(self._matrices)])

        with processes.on_core(self._core):
            return thread_cpu_s(score, block_s)


def measure(folder: Path, effort: Effort, core: int | None, say: Callable[[str], None]) -> list[EchoResult]:
    """Each size in rounds that ask rankd, the echo and the forest in turns."""
    shape, workspace = effort.echo_shape, folder / "echo"
    shop.write_workspace(workspace, [shape])
    rows = shop.item_rows(shape.features, effort.items)
    forest = load_forest(workspace, shop.forest_name(shape))
    lists = {size: [shop.choose_items(effort.items, size, seed) for seed in range(LISTS)] for size in SIZES}
    requests = {size: [shop.rank_request(shop.forest_name(shape), one) for one in lists[size]] for size in SIZES}
    responses = folder / "responses"
    responses.mkdir()
    results = []
    with ExitStack() as stack:
        server = stack.enter_context(processes.rankd(workspace, core))
        shop.write_items(server.target, rows)
        rank = GrpcCaller(server, RANK)
        stack.callback(rank.close)
        for size in SIZES:
            answer = rank.call(requests[size][0])
            if len(RankResponse.FromString(answer).ids) != size:
                raise RuntimeError(f"too few of {size} candidates were answered")
            (responses / str(size)).write_bytes(answer)
        bare = stack.enter_context(processes.echo(responses, core))
        for size in SIZES:
            clock = ForestClock(forest, rows, lists[size], core)
            echo = GrpcCaller(bare, f"/bare.Echo/{size}")
            results.append(_measure(size, requests[size], rank, echo, clock, effort))
            echo.close()
            r = results[-1]
            figures = f"{r.rank_us:,.0f} µs, forest {r.forest_us:,.0f}, echo {r.echo_us:,.0f}: {r.ratio:.2f}"
            say(f"  {size:,} candidates: {figures}")
    return results


def _measure(
    size: int, requests: list[bytes], rank: GrpcCaller, echo: GrpcCaller, clock: ForestClock, effort: Effort
) -> EchoResult:
    response_bytes = len(echo.call(requests[0]))
    rank_block, echo_block = Block(rank, requests, effort.block_s), Block(echo, requests, effort.block_s)
    rounds: list[tuple[Cost, Cost, float]] = []
    for number in range(effort.rounds):
        # In turns, and each round the other way round.
        if number % 2:
            ours, forest, bare = rank_block.measure(), clock.measure(effort.block_s / 4), echo_block.measure()
        else:
            bare, forest, ours = echo_block.measure(), clock.measure(effort.block_s / 4), rank_block.measure()
        rounds.append((ours, bare, forest))
    return EchoResult(
        size, len(requests[0]), response_bytes,
        rank_us=1e6 * statistics.median(ours.cpu_s for ours, _, _ in rounds),
        all_us=1e6 * statistics.median(ours.all_cpu_s for ours, _, _ in rounds),
        forest_us=1e6 * statistics.median(forest for _, _, forest in rounds),
        echo_us=1e6 * statistics.median(bare.cpu_s for _, bare, _ in rounds),
        ratio=statistics.median((ours.cpu_s - forest) / bare.cpu_s for ours, bare, forest in rounds),
        wait_us=1e6 * statistics.median(ours.wall_s for ours, _, _ in rounds),
    )  # fmt: skip


def shape_line(shape: Shape) -> str:
    """For titles."""
    return f"{shape.trees} × {shape.leaves} forest on {shape.features} stored signals"
