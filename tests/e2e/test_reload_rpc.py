"""Reloads of a serving server: no call fails, and no answer is of two versions."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from support.configurations import configuration, replace, score_of, workspace_text, write_version
from support.rankers import hook
from support.serving import Client, ServerProcess, details, running

from rankd.server.configuration import Configuration, load_configuration
from rankd.server.reload import Reloader
from rankd.server.server import Server
from rankd.signals.embedded import open_embedded
from rankd.v1 import ranking_pb2 as pb
from rankd.v1.ranking_pb2_grpc import RankingServiceStub
from rankd.workspace import load_workspace

CANDIDATES = pb.Candidates(ids=["a", "b", "c"])
RANK = pb.RankRequest(profile="search", candidates=CANDIDATES, view=pb.VIEW_FEATURES)
RELOADS = 100


@contextlib.asynccontextmanager
async def reloadable(directory: Path) -> AsyncIterator[tuple[Server, Client, Reloader]]:
    """A server of the workspace, its client, and what reloads it."""
    write_version(directory, 1)
    workspace = load_workspace(directory, {})
    store = await open_embedded(workspace.schema, None, 1_000)
    first = load_configuration(workspace, store.categories)
    async with running(first.plans, store) as (server, client):
        reloader = Reloader(first, store.categories, server.replace)
        try:
            yield server, client, reloader
        finally:
            await reloader.close()


def of_one_version(versions: pb.Versions, scores: list[float], known: dict[tuple[str, str], int]) -> int:
    """The version that an answer says and scores."""
    version = known[versions.profile, versions.model]
    assert scores == [score_of(version)] * 3
    return version


def pair(found: Configuration) -> tuple[str, str]:
    """What an answer's `versions` say of a configuration."""
    return found.versions["profiles.search"], found.versions["models.shop"]


async def test_no_call_fails_and_each_answer_is_of_one_version(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (_, client, reloader):
        known = {pair(reloader.configuration): 1}
        answers: list[tuple[pb.Versions, list[float]]] = []
        done = asyncio.Event()

        async def call() -> None:
            batch = pb.BatchRankRequest(common=pb.RankRequest(profile="search", view=pb.VIEW_SCORES))
            for _ in range(4):
                batch.lists.add(candidates=CANDIDATES)
            score = pb.ScoreRequest(profile="search", candidates=CANDIDATES)
            while not done.is_set():
                ranked = await client.ranking.Rank(RANK)
                assert list(ranked.features[0].values) == [known_or_next(ranked.versions)] * 3
                answers.append((ranked.versions, list(ranked.scores)))
                scored = await client.ranking.Score(score)
                answers.append((scored.versions, list(scored.outputs[0].values)))
                results = [result.response for result in (await client.ranking.BatchRank(batch)).results]
                assert len({one.versions.SerializeToString() for one in results}) == 1
                answers.extend((one.versions, list(one.scores)) for one in results)

        def known_or_next(versions: pb.Versions) -> int:
            # An answer of the newest version may come before its reload has told us of it.
            return known.get((versions.profile, versions.model), max(known.values()) + 1)

        calls = [asyncio.ensure_future(call()) for _ in range(4)]
        for version in range(2, RELOADS + 2):
            write_version(tmp_path, version)
            result = await reloader.reload()
            assert result.ok, result.error
            known[pair(reloader.configuration)] = version
        done.set()
        await asyncio.gather(*calls)
        seen = [of_one_version(*answer, known) for answer in answers]
    assert len(known) == RELOADS + 1
    assert len(set(seen)) > RELOADS / 2


async def test_a_call_in_flight_ends_with_the_version_it_began_with(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (server, client, reloader):
        first = pair(reloader.configuration)
        begun, go = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            assert go.wait(30)

        hook(server, wait, on_thread=True)
        call = asyncio.ensure_future(client.ranking.Rank(RANK))
        await asyncio.to_thread(begun.wait)
        write_version(tmp_path, 2)
        assert (await reloader.reload()).ok
        go.set()
        answer = await call
        assert (answer.versions.profile, answer.versions.model) == first
        assert list(answer.scores) == [score_of(1)] * 3
        after = await client.ranking.Rank(RANK)
        assert list(after.scores) == [score_of(2)] * 3


async def test_a_removed_profile_is_not_found_and_comes_back(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (_, client, reloader):
        replace(tmp_path / "rankd.yaml", workspace_text(1).replace("  search:", "  search2:"))
        assert (await reloader.reload()).ok
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.ranking.Rank(RANK)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert details(caught.value)[2] == [
            ("profile", 'expected one of plain, search2, got "search"; did you mean "search2"?')
        ]
        write_version(tmp_path, 1)
        assert (await reloader.reload()).ok
        assert (await client.ranking.Rank(RANK)).total_count == 3


async def test_what_is_refused_changes_no_answer(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (_, client, reloader):
        before = await client.ranking.Rank(RANK)
        for damage in ("rankd.yaml", "shop.json"):
            write_version(tmp_path, 2)
            replace(tmp_path / damage, (tmp_path / damage).read_bytes()[:-20])
            assert not (await reloader.reload()).ok
            after = await client.ranking.Rank(RANK)
            assert (after.versions, after.scores) == (before.versions, before.scores)


async def test_a_default_deadline_is_taken_over(tmp_path: Path) -> None:
    async with reloadable(tmp_path) as (_, client, reloader):
        text = workspace_text(1).replace("drain_seconds: 0", "default_deadline_ms: 0.000001")
        replace(tmp_path / "rankd.yaml", text)
        assert (await reloader.reload()).ok
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.ranking.Rank(RANK)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def until(process: ServerProcess, text: str) -> None:
    """Fails if the process does not log `text`."""
    for _ in range(3_000):
        if any(text in line for line in process.log):
            return
        time.sleep(0.01)
    pytest.fail("".join(process.log))


def test_the_process_reloads_on_sighup_and_by_itself(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with ServerProcess(tmp_path, RANKD_SERVER__RELOAD__WATCH="false").wait_ready() as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = RankingServiceStub(channel)
            assert list(stub.Rank(RANK, timeout=10).scores) == [score_of(1)] * 3
            write_version(tmp_path, 2)
            server.process.send_signal(signal.SIGHUP)
            until(server, "reloaded in")
            assert list(stub.Rank(RANK, timeout=10).scores) == [score_of(2)] * 3
        assert server.stop() == 0
    with ServerProcess(tmp_path).wait_ready() as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = RankingServiceStub(channel)
            replace(tmp_path / "shop.json", "{")
            until(server, "reload refused")
            assert list(stub.Rank(RANK, timeout=10).scores) == [score_of(2)] * 3
            write_version(tmp_path, 3)
            until(server, "reloaded in")
            assert list(stub.Rank(RANK, timeout=10).scores) == [score_of(3)] * 3
        assert server.stop() == 0
    assert configuration(tmp_path).versions["models.shop"] in "".join(server.log)
