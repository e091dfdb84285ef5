"""rankd beside the service of load_tests/peers: the same lists, the same rows, the same model, the same ranking."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench import processes, shop
from bench.processes import Running
from generator.offer import RANK
from peers import servers

from path.callers import Block, GrpcCaller, HttpCaller
from path.effort import Effort
from rankd.v1.ranking_pb2 import VIEW_SCORES, RankResponse

SIZES = (100, 1_000)
LISTS = 4


@dataclass(frozen=True, slots=True)
class FastapiResult:
    """Medians over the rounds, in microseconds of CPU a call."""

    candidates: int
    rank_us: float
    peer_us: dict[str, float]
    """Of the service's process, by the format of its rows."""
    redis_us: dict[str, float]
    """Of redis-server; not counted in the ratio."""
    ratio: dict[str, float]
    """The service's CPU over rankd's."""


def check_same(ours: bytes, theirs: bytes) -> None:
    """The same scores in the same order, and the same ids but among equal scores. RuntimeError if not."""
    rankd, peer = RankResponse.FromString(ours), json.loads(theirs)
    same_scores = np.array_equal(np.array(rankd.scores), np.array(peer["scores"]))
    ours_by_id = dict(zip(rankd.ids, rankd.scores, strict=True))
    if not (same_scores and len(rankd.ids) and ours_by_id == dict(zip(peer["ids"], peer["scores"], strict=True))):
        raise RuntimeError("the two services rank the same list differently")


def measure(folder: Path, effort: Effort, core: int | None, say: Callable[[str], None]) -> list[FastapiResult]:
    """Every server on the servers' core, asked in turns."""
    shape, workspace = effort.peer_shape, folder / "fastapi"
    name = shop.forest_name(shape)
    shop.write_workspace(workspace, [shape])
    rows = shop.item_rows(shape.features, effort.peer_items)
    with ExitStack() as stack:
        rankd = stack.enter_context(processes.rankd(workspace, core))
        shop.write_items(rankd.target, rows)
        rank = GrpcCaller(rankd, RANK)
        stack.callback(rank.close)
        peers: dict[str, tuple[HttpCaller, Running]] = {}
        for row_format in servers.ROW_FORMATS:
            redis = stack.enter_context(servers.redis_server(folder, core))
            servers.write_rows(redis, rows, row_format)
            model = workspace / "models" / f"{name}.txt"
            service = stack.enter_context(servers.fastapi_service(model, redis.port, row_format, core))
            caller = HttpCaller(service, "/rank")
            stack.callback(caller.close)
            peers[row_format] = caller, redis
        results = []
        for size in SIZES:
            results.append(_measure(name, size, rank, peers, effort))
            r = results[-1]
            told = ", ".join(f"{name} rows {us:,.0f} ({r.ratio[name]:.1f} x)" for name, us in r.peer_us.items())
            say(f"  {size:,} candidates: rankd {r.rank_us:,.0f} µs, FastAPI with {told}")
    return results


def _measure(
    name: str, size: int, rank: GrpcCaller, peers: dict[str, tuple[HttpCaller, Running]], effort: Effort
) -> FastapiResult:
    lists = [shop.choose_items(effort.peer_items, size, seed) for seed in range(LISTS)]
    requests = [shop.rank_request(name, numbers, view=VIEW_SCORES) for numbers in lists]
    asked = [json.dumps({"ids": [shop.item_id(number) for number in numbers.tolist()]}).encode() for numbers in lists]
    for ours, theirs in zip(requests, asked, strict=True):
        for caller, _ in peers.values():
            check_same(rank.call(ours), caller.call(theirs))
    ours_block = Block(rank, requests, effort.block_s)
    blocks = {kind: Block(caller, asked, effort.block_s) for kind, (caller, _) in peers.items()}
    ours_s: list[float] = []
    theirs_s: dict[str, list[float]] = {kind: [] for kind in peers}
    redis_s: dict[str, list[float]] = {kind: [] for kind in peers}
    for _ in range(effort.peer_rounds):
        ours_s.append(ours_block.measure().cpu_s)
        for kind, (_, redis) in peers.items():
            before = redis.cpu_s()
            theirs_s[kind].append(blocks[kind].measure().cpu_s)
            redis_s[kind].append((redis.cpu_s() - before) / blocks[kind].calls)
    return FastapiResult(
        size, 1e6 * statistics.median(ours_s),
        {kind: 1e6 * statistics.median(each) for kind, each in theirs_s.items()},
        {kind: 1e6 * statistics.median(each) for kind, each in redis_s.items()},
        {kind: statistics.median(t / o for t, o in zip(each, ours_s, strict=True)) for kind, each in theirs_s.items()},
    )  # fmt: skip
