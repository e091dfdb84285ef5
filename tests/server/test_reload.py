"""Reloader: what is taken over, what is refused and why, and when it tries again."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import weakref
from pathlib import Path

import pytest
from support.boosters import booster
from support.configurations import HEAD, configuration, model_text, replace, workspace_text, write_version

from rankd.errors import StoreError
from rankd.models import ForestScorer
from rankd.models.compiled import write_compiled
from rankd.models.load import read_model
from rankd.ranking.plan import Plan
from rankd.server import reload as module
from rankd.server.configuration import Configuration
from rankd.server.reload import Change, Reloader
from rankd.signals.categories import ScratchCategories


class Served:
    """Stands for a server: keeps what it was given."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        write_version(directory, 1)
        self.now_s = 100.0
        self.categories = ScratchCategories()
        self.swapped: list[Configuration] = []
        self.first = configuration(directory)
        self.reloader = Reloader(self.first, self.categories, self.swapped.append, lambda: self.now_s)

    def write(self, text: str) -> None:
        replace(self.directory / "rankd.yaml", text)

    async def refused(self, text: str | None = None) -> str:
        """The error of a reload, of which nothing may be taken over."""
        if text is not None:
            self.write(text)
        before, count = self.reloader.configuration, len(self.swapped)
        result = await self.reloader.reload()
        assert not result.ok
        assert result.changed == ()
        assert self.reloader.configuration is before
        assert len(self.swapped) == count
        assert result.versions == before.versions
        last = self.reloader.state()["last"]
        assert (last["ok"], last["error"]) == (False, result.error)
        return result.error


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


async def test_what_changed_is_said(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    replace(served.directory / "shop.json", model_text(2))
    served.write(
        workspace_text(1, "  new: {features: {x: 1}}")
        .replace("  plain:", "  bare:")
        .replace("drain_seconds: 0", "drain_seconds: 3\n  default_deadline_ms: 50")
    )
    result = await served.reloader.reload()
    assert result.ok and result.error == ""
    assert served.swapped == [served.reloader.configuration]
    old, new = served.first.versions, served.reloader.configuration.versions
    assert result.versions == new
    assert result.changed == (
        Change("profiles.plain", old["profiles.plain"], None),
        Change("models.shop", old["models.shop"], new["models.shop"]),
        Change("server.drain_seconds", "0.0", "3.0"),
        Change("server.default_deadline_ms", "5000.0", "50.0"),
        Change("profiles.bare", None, new["profiles.bare"]),
        Change("profiles.new", None, new["profiles.new"]),
    )
    line = caplog.records[-1].getMessage()
    assert f"models.shop {old['models.shop']} → {new['models.shop']}" in line
    assert "profiles.plain removed" in line
    assert f"profiles.new added ({new['profiles.new']})" in line
    state = served.reloader.state()
    assert (state["reloads"], state["refused"], state["last"]["changed"][0]) == (1, 0, "profiles.plain removed")
    assert json.loads(json.dumps(state)) == state


async def test_nothing_new_is_no_change(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    result = await served.reloader.reload()
    assert result.ok and result.changed == ()
    assert served.reloader.configuration.plans["search"] is served.first.plans["search"]
    assert caplog.records[-1].getMessage().endswith("nothing changed")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("profiles: [", "expected YAML"),
        ("", "expected a workspace, got an empty file"),
        (workspace_text(2).replace("model: shop", "model: shp"), 'did you mean "shop"?'),
        (workspace_text(2).replace("base: n", "base: nn"), "rankd.yaml:20: profiles.plain.base: "),
        (workspace_text(2).replace("shop.json", "none.json"), "models.shop.file: "),
        (workspace_text(2) + "extra: 1\n", 'got "extra"'),
    ],
)
async def test_a_workspace_with_a_problem_is_refused_with_its_place(
    served: Served, text: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = await served.refused(text)
    assert error in said
    assert caplog.records[-1].levelname == "ERROR"
    assert caplog.records[-1].getMessage() == f"reload refused, what was served is served on: {said}"
    served.write(workspace_text(2))
    assert (await served.reloader.reload()).ok


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("listen: 127.0.0.1:0", "listen: 127.0.0.1:7777",
         "rankd.yaml:6: server.listen: was 127.0.0.1:0 at the start and is 127.0.0.1:7777 now; that needs a restart"),
        ("data_dir: null", "data_dir: data", "server.data_dir: was null at the start and is /"),
        ("drain_seconds: 0", "limits: {max_candidates: 7}", "server.limits.max_candidates: was 10000"),
        ("price: f32", "price: i64", "rankd.yaml:4: schema.item.price: was changed; a change of the schema needs"),
        ("price: f32, ", "", "schema.item.price: was removed"),
        ("  item: {", "  user: {age: f32}\n  item: {", "rankd.yaml:4: schema.user: was added"),
    ],
)  # fmt: skip
async def test_what_needs_a_restart_is_refused_and_named(served: Served, old: str, new: str, error: str) -> None:
    assert old in HEAD
    assert error in await served.refused(workspace_text(2, head=HEAD.replace(old, new, 1)))


@pytest.mark.parametrize("damage", ["cut", "gone", "nan", "compiled, cut"])
async def test_a_damaged_model_is_refused(served: Served, damage: str) -> None:
    path = served.directory / "shop.json"
    match damage:
        case "cut":
            replace(path, model_text(2)[:-3])
        case "gone":
            path.unlink()
        case "nan":
            replace(path, model_text(2).replace("1000.0", "NaN"))
        case "compiled, cut":
            booster("regression").save_model(served.directory / "shop.txt")
            path = served.directory / "shop.rkmodel"
            scorer, origin = read_model(served.directory / "shop.txt", "lightgbm")
            assert isinstance(scorer, ForestScorer)
            write_compiled(path, scorer, origin)
            replace(path, path.read_bytes()[:-100])
            served.write(workspace_text(1).replace("shop.json", "shop.rkmodel"))
    error = await served.refused()
    assert "models.shop.file: " in error
    assert str(path) in error


async def test_files_that_changed_are_read_when_they_rest(served: Served) -> None:
    look = served.reloader.look
    assert [await look() for _ in range(3)] == [None] * 3
    write_version(served.directory, 2)
    assert await look() is None
    with (served.directory / "rankd.yaml").open("a") as stream:
        stream.write("# more\n")
    assert await look() is None
    result = await look()
    assert result is not None and result.ok
    assert {change.path for change in result.changed} == {"profiles.search", "profiles.plain", "models.shop"}
    assert [await look() for _ in range(3)] == [None] * 3


async def test_a_refused_change_waits_for_the_next(served: Served) -> None:
    look = served.reloader.look
    served.write(workspace_text(2).replace("shop.json", "late.json"))
    await look()
    refused = await look()
    assert refused is not None and not refused.ok
    assert [await look() for _ in range(3)] == [None] * 3
    # The file that was missing comes: nothing of rankd.yaml has changed.
    replace(served.directory / "late.json", model_text(2))
    await look()
    result = await look()
    assert result is not None and result.ok


async def test_an_asked_for_reload_is_not_done_again_by_the_watch(served: Served) -> None:
    write_version(served.directory, 2)
    await served.reloader.look()
    assert (await served.reloader.reload()).ok
    assert [await served.reloader.look() for _ in range(3)] == [None] * 3


async def test_a_fault_that_is_not_the_workspace_s_is_tried_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def intern(text: str) -> int:
        raise StoreError("the keeper is away")

    monkeypatch.setattr(served.categories, "intern", intern)
    write_version(served.directory, 2)
    await served.reloader.look()
    for wait_s in (1, 2, 4):
        result = await served.reloader.look()
        assert result is not None and result.error == "the keeper is away"
        assert await served.reloader.look() is None
        served.now_s += wait_s
    monkeypatch.undo()
    assert await served.reloader.look() is not None
    assert served.reloader.configuration.versions != served.first.versions
    assert [await served.reloader.look() for _ in range(3)] == [None] * 3


async def test_a_fault_of_rankd_s_own_is_refused_too(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "inspect_workspace", lambda *_: 1 / 0)
    assert await served.refused() == "ZeroDivisionError: division by zero"
    assert any(record.exc_info for record in caplog.records)


async def test_what_cannot_be_swapped_is_refused_and_tried_again(served: Served) -> None:
    def swap(to: Configuration) -> None:
        raise OSError("no memory")

    reloader = Reloader(served.first, served.categories, swap, lambda: served.now_s)
    write_version(served.directory, 2)
    result = await reloader.reload()
    assert not result.ok and result.error == "OSError: no memory"
    assert reloader.configuration is served.first
    served.now_s += 1
    await reloader.look()
    again = await reloader.look()
    assert again is not None and not again.ok


async def test_requests_that_come_together_become_one(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go, real, count = threading.Event(), threading.Event(), module.inspect_workspace, 0

    def inspect(*arguments: object) -> object:
        nonlocal count
        count += 1
        started.set()
        assert go.wait(30)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "inspect_workspace", inspect)
    first = asyncio.ensure_future(served.reloader.reload())
    await asyncio.to_thread(started.wait, 30)
    # They may have come after a change that the first has not seen, so theirs is another.
    others = [asyncio.ensure_future(served.reloader.reload()) for _ in range(10)]
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.gather(first, *others)
    assert count == 2
    assert results[0] is not results[1]
    assert all(result is results[1] for result in results[1:])


async def test_half_old_half_new_is_never_served(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    real, version = module.inspect_workspace, 1

    def inspect(*arguments: object) -> object:
        nonlocal version
        if version < stop:
            version += 1
            write_version(served.directory, version)  # rankd.yaml has been read, the model not yet
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "inspect_workspace", inspect)
    stop = 3
    result = await served.reloader.reload()
    assert result.ok
    monkeypatch.undo()
    assert result.versions == configuration(served.directory).versions
    monkeypatch.setattr(module, "inspect_workspace", inspect)
    stop = 1_000
    assert "they kept changing" in await served.refused()
    stop = 0
    assert await served.reloader.look() is None
    assert await served.reloader.look() is None, "it waits a second"
    served.now_s += 1
    last = await served.reloader.look()
    assert last is not None and last.ok


async def test_the_watch_can_be_turned_off_and_on(served: Served) -> None:
    served.reloader.start()
    try:
        off = HEAD.replace("interval_seconds: 0.05", "watch: false, interval_seconds: 0.05")
        served.write(workspace_text(1, head=off))
        await until(lambda: len(served.swapped) == 1)
        write_version(served.directory, 2)
        await asyncio.sleep(0.4)
        assert len(served.swapped) == 1
        served.reloader.request()
        await until(lambda: len(served.swapped) == 2)
        write_version(served.directory, 3)
        await until(lambda: len(served.swapped) == 3)
    finally:
        await served.reloader.close()


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    """Fails if the condition does not come true."""
    for _ in range(3_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("did not come true")


async def test_closing_gives_up_what_is_prepared(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go = threading.Event(), threading.Event()
    real = module.inspect_workspace

    def inspect(*arguments: object) -> object:
        started.set()
        assert go.wait(30)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "inspect_workspace", inspect)
    served.reloader.start()
    waiting = asyncio.ensure_future(served.reloader.reload())
    await asyncio.to_thread(started.wait, 30)
    await served.reloader.close()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert served.swapped == []


async def test_threads_give_way_while_it_prepares(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    usual_s, seen = sys.getswitchinterval(), []
    monkeypatch.setattr(module, "inspect_workspace", lambda *_: seen.append(sys.getswitchinterval()) or 1 / 0)
    await served.refused()
    assert seen == [pytest.approx(module.SWITCH_S)]
    assert sys.getswitchinterval() == usual_s


async def test_old_configurations_go(served: Served) -> None:
    """Without the collector of cycles: each is let go as soon as the next one serves."""
    current: list[Configuration] = []
    reloader = Reloader(served.first, served.categories, lambda new: current.__setitem__(slice(None), [new]))
    plans: list[weakref.ref[Plan]] = []
    gc.disable()
    try:
        for version in range(2, 12):
            write_version(served.directory, version)
            assert (await reloader.reload()).ok
            served.write("broken: [")
            assert not (await reloader.reload()).ok
            plans.append(weakref.ref(current[0].plans["search"]))
        assert [plan() is None for plan in plans] == [True] * 9 + [False]
    finally:
        gc.enable()
