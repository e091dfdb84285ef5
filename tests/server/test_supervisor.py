"""The supervisor with children that are told how to misbehave (fake_child.py)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from rankd.errors import ConfigError
from rankd.server.supervisor.child import Role
from rankd.server.supervisor.control import Start
from rankd.server.supervisor.supervisor import Service, Supervisor, Timing

FAKE = Path(__file__).with_name("fake_child.py")
QUICK = Timing(tick_s=0.02, stopped_s=0.3, hung_s=5.0, start_s=5.0, slack_s=2.0, recycle_age_s=0.0)


class World:
    """A supervisor over fake children, which write what they hear into a folder."""

    def __init__(self, folder: Path, workers: int, timing: Timing, max_own_bytes: int | None) -> None:
        self.folder = folder
        self.ready: list[Supervisor] = []
        self.now_s = 0.0
        """What the supervisor's clock is ahead of the real one."""
        service = Service(
            workers,
            "/w/rankd.yaml",
            lambda index: Start("/w/rankd.yaml", [], index, 1, 2, "/run/k", 1),
            drain_s=1.0,
            max_own_bytes=max_own_bytes,
        )
        self.supervisor = Supervisor(
            service,
            self.ready.append,
            command=lambda role, fd: [sys.executable, "-I", "-S", str(FAKE), role, str(fd), str(folder)],
            timing=timing,
            clock=lambda: time.monotonic() + self.now_s,
        )
        self.running: asyncio.Task[None] | None = None

    def behave(self, name: str, how: str) -> None:
        (self.folder / name).write_text(how)

    def started(self, name: str) -> list[int]:
        """The pids of all children there were in a place."""
        return [int(file.name.rpartition("-")[2]) for file in self.folder.glob(f"{name}-*")]

    def alive(self) -> list[int]:
        """The pids of all children that have not ended."""
        pids = [pid for name in ("keeper-0", "worker-1", "worker-2") for pid in self.started(name)]
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    def told(self, pid: int) -> str:
        """What a child heard, after its start."""
        (file,) = self.folder.glob(f"*-*-{pid}")
        return file.read_text()

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in self.supervisor.status()["processes"] if row["name"] == name)

    async def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Waits; fails with the status."""
        give_up = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < give_up, self.supervisor.status()
            assert self.running is None or not self.running.done(), self.running
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def world(
    folder: Path, workers: int = 2, timing: Timing = QUICK, max_own_bytes: int | None = None, **behaviour: str
) -> AsyncIterator[World]:
    it = World(folder, workers, timing, max_own_bytes)
    for name, how in behaviour.items():
        it.behave(name.replace("_", "-"), how)
    it.running = asyncio.ensure_future(it.supervisor.run())
    try:
        yield it
    finally:
        if not it.running.done():
            it.supervisor.stop()
            await asyncio.wait_for(it.running, 10)
        assert not it.alive()


async def test_it_serves_and_ends_workers_first(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.until(lambda: it.ready)
        status = it.supervisor.status()
        assert status["state"] == "serving"
        assert [row["name"] for row in status["processes"]] == ["keeper", "worker 1", "worker 2"]
        assert {row["state"] for row in status["processes"]} == {"serving"}
        await it.until(lambda: it.row("worker 2")["calls"] == 5)
        assert it.row("worker 1")["in_flight"] == 2
        assert it.row("worker 1")["own_bytes"] > 0
        (keeper,), (worker,) = it.started("keeper-0"), it.started("worker-2")
        await it.until(lambda: '"serving":true' in it.told(keeper))
        it.supervisor.stop()
        assert it.running is not None
        await asyncio.wait_for(it.running, 10)
    assert '"announce":true' in it.told(worker)
    told = it.told(keeper)
    assert told.index('"serving":false') < told.index('"drain"')
    assert len(it.ready) == 1


@pytest.mark.parametrize("name", ["keeper", "worker 1"])
async def test_a_child_that_is_killed_is_started_again_at_once(tmp_path: Path, name: str) -> None:
    async with world(tmp_path) as it:
        await it.until(lambda: it.ready)
        first = it.row(name)["pid"]
        os.kill(first, signal.SIGKILL)
        await it.until(lambda: it.row(name)["pid"] not in (first, None) and it.row(name)["state"] == "serving")
        assert it.row(name)["restarts"] == 1
        assert it.row(name)["last_end"] == "was killed by SIGKILL"
        keeper = it.row("keeper")["pid"]
        await it.until(lambda: '"serving":true' in it.told(keeper))
        if name == "keeper":
            await it.until(lambda: it.told(it.row("worker 1")["pid"]).count("keeper") == 2)


async def test_a_stopped_child_is_killed_and_started_again(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.until(lambda: it.ready)
        first = it.row("worker 2")["pid"]
        os.kill(first, signal.SIGSTOP)
        await it.until(lambda: it.row("worker 2")["restarts"] == 1 and it.row("worker 2")["state"] == "serving")
        assert "stopped by a signal" in it.row("worker 2")["last_end"]


async def test_a_silent_child_is_killed(tmp_path: Path) -> None:
    # A child that beats every 50 ms, before a supervisor that expects it sooner.
    async with world(tmp_path, workers=1, timing=Timing(tick_s=0.01, stopped_s=9, hung_s=0.02, start_s=5.0)) as it:
        await it.until(lambda: it.row("worker 1")["restarts"] > 0)
        assert "silent" in it.row("worker 1")["last_end"]


async def test_a_crash_loop_is_braked_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with world(tmp_path, worker_2="die") as it:
        await it.until(lambda: it.row("worker 2")["state"] == "backing off")
        row = it.row("worker 2")
        assert (row["restarts"], row["last_end"], row["pid"]) == (5, "ended with status 7", None)
        assert 0 < row["retry_in_s"] <= 1.0
        assert len(it.started("worker-2")) == 5
        # The others serve, and it was said that they do.
        assert it.ready
        assert it.supervisor.status()["state"] == "serving"
        it.behave("worker-2", "")
        it.now_s += 1.0
        await it.until(lambda: it.row("worker 2")["state"] == "serving")
        it.now_s += 31.0
        await asyncio.sleep(0.1)
        os.kill(it.row("worker 2")["pid"], signal.SIGKILL)
        await it.until(lambda: it.row("worker 2")["restarts"] == 6 and it.row("worker 2")["state"] == "serving")
    assert "5 times in a row soon after its start: next start in 1 s" in caplog.text


async def test_a_jump_of_the_clock_kills_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.until(lambda: it.ready)
        it.now_s += 3_600.0
        await asyncio.sleep(0.3)
        assert [it.row(name)["restarts"] for name in ("keeper", "worker 1", "worker 2")] == [0, 0, 0]


@pytest.mark.parametrize("name", ["keeper", "worker-2"])
async def test_what_keeps_a_child_from_starting_first_ends_the_service(tmp_path: Path, name: str) -> None:
    async with world(tmp_path, **{name.replace("-", "_"): "fail", "worker_1": "late"}) as it:
        assert it.running is not None
        with pytest.raises(ConfigError, match=r"profiles\.search: expected x, got y"):
            await asyncio.wait_for(it.running, 10)
    assert not it.ready


async def test_what_keeps_a_child_from_starting_later_does_not(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.until(lambda: it.ready)
        it.behave("worker-1", "fail")
        os.kill(it.row("worker 1")["pid"], signal.SIGKILL)
        await it.until(lambda: it.row("worker 1")["state"] == "backing off")
        assert it.row("worker 1")["last_end"] == "could not start: profiles.search: expected x, got y"
        assert it.supervisor.status()["state"] == "serving"


async def test_a_worker_that_drains_by_itself_is_replaced_without_blame(tmp_path: Path) -> None:
    async with world(tmp_path, workers=1) as it:
        await it.until(lambda: it.ready)
        first = it.row("worker 1")["pid"]
        it.supervisor._workers[0].current.tell("drain")  # type: ignore[union-attr]  # as if by a signal
        await it.until(
            lambda: it.row("worker 1")["pid"] not in (first, None) and it.row("worker 1")["state"] == "serving"
        )
        assert (it.row("worker 1")["restarts"], it.row("worker 1")["last_end"]) == (0, None)
        (keeper,) = it.started("keeper-0")

        def words() -> list[bool]:
            return ["true" in line for line in it.told(keeper).splitlines() if "serving" in line]

        await it.until(lambda: words()[-3:] == [True, False, True])


async def test_a_worker_with_too_much_memory_is_replaced_before_it_leaves(tmp_path: Path) -> None:
    async with world(tmp_path, max_own_bytes=64 * 2**20) as it:
        await it.until(lambda: it.ready)
        first = it.row("worker 1")["pid"]
        it.behave("worker-1", "grow")
        await it.until(lambda: it.row("worker 1")["own_bytes"] > 64 * 2**20)
        it.behave("worker-1", "")
        await it.until(lambda: it.row("worker 1")["recycled"] == 1 and first not in it.alive())
        assert it.row("worker 1")["pid"] != first
        assert (it.row("worker 1")["restarts"], it.row("worker 2")["recycled"]) == (0, 0)
        # There was always one to serve: health never said otherwise, and clients were not sent away.
        (keeper,) = it.started("keeper-0")
        assert '"serving":false' not in it.told(keeper).partition('"serving":true')[2]
        assert '"announce":false' in it.told(first)


async def test_a_replacement_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    async with world(tmp_path, workers=1, max_own_bytes=1, timing=Timing(tick_s=0.02, recycle_age_s=0.5)) as it:
        await it.until(lambda: it.ready)
        first = it.row("worker 1")["pid"]
        it.behave("worker-1", "die")
        await it.until(lambda: it.row("worker 1")["last_end"])
        assert it.row("worker 1")["pid"] == first
        assert it.row("worker 1")["restarts"] == 0


async def test_reload_reaches_all_workers(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.until(lambda: it.ready)
        it.supervisor.reload()
        await it.until(lambda: (it.row("worker 1")["reload"], it.row("worker 2")["reload"]) == ({"ok": True},) * 2)


async def test_a_second_stop_hurries(tmp_path: Path) -> None:
    async with world(tmp_path, worker="dawdle") as it:
        await it.until(lambda: it.ready)
        it.supervisor.stop()
        await asyncio.sleep(0.1)
        assert it.supervisor.status()["state"] == "draining"
        assert {it.row("worker 1")["state"], it.row("worker 2")["state"]} == {"draining"}
        it.supervisor.stop()
        assert it.running is not None
        await asyncio.wait_for(it.running, 10)
        assert "hurry" in it.told(it.started("worker-1")[0])


async def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    timing = Timing(tick_s=0.02, slack_s=0.2)
    async with world(tmp_path, workers=1, timing=timing, worker="hang") as it:
        await it.until(lambda: it.ready)
        it.supervisor.stop()
        assert it.running is not None
        await asyncio.wait_for(it.running, 10)


async def test_stop_while_children_start(tmp_path: Path) -> None:
    async with world(tmp_path, worker="late") as it:
        await it.until(lambda: it.started("worker-1"))
        it.supervisor.stop()
        assert it.running is not None
        await asyncio.wait_for(it.running, 10)
    assert not it.ready


async def test_nonsense_from_a_child_is_left_out(tmp_path: Path) -> None:
    async with world(tmp_path, worker="garbage") as it:
        await it.until(lambda: it.ready)
        assert it.supervisor.status()["state"] == "serving"


async def test_a_child_that_cannot_be_run_is_tried_again_later(tmp_path: Path) -> None:
    service = Service(1, "/w", lambda index: Start("/w", [], index, 1, 2, "", 1), 1.0)
    supervisor = Supervisor(service, command=lambda role, fd: ["/no/such/program", role, str(fd)], timing=QUICK)
    running = asyncio.ensure_future(supervisor.run())
    await asyncio.sleep(0.1)
    rows = supervisor.status()["processes"]
    assert [row["state"] for row in rows] == ["backing off"] * 2
    assert "No such file" in rows[0]["last_end"]
    supervisor.stop()
    await asyncio.wait_for(running, 10)


def test_roles_are_the_words_of_the_status() -> None:
    assert [str(role) for role in Role] == ["keeper", "worker"]
