"""Scans, what is kept under a user's id, statistics: over mapped tables."""

from __future__ import annotations

import math

import pytest
from signals.conformance import NOW_S, Clock, rows_batch, schema_of

from rankd.errors import RequestError
from rankd.signals.embedded import open_embedded
from rankd.types.schema import Entity, Schema, Signal, SignalKind
from rankd.types.text import composite_id, composite_parts, stored_ids, unjoined_ids

PRICE = Signal("price", SignalKind.F32)


async def test_a_scan_misses_nothing_while_rows_come_and_go() -> None:
    schema = schema_of(item=[PRICE])
    store = await open_embedded(schema, None, 100_000, clock=Clock())
    stays = [f"stays {i}" for i in range(400)]
    await store.write(rows_batch("item", [(id_, {"price": float(i)}) for i, id_ in enumerate(stays)], schema))
    seen: dict[str, float] = {}
    cursor, turn = "", 0
    while True:
        page = await store.scan("item", ["price"], cursor, 50, NOW_S)
        assert len(page.ids) <= 50
        assert page.rows.found.tolist() == list(range(len(page.ids)))
        [column] = page.rows.columns
        seen |= {page.ids[i]: value for i, value in zip(column.rows.tolist(), column.values, strict=True)}  # type: ignore[arg-type]
        cursor = page.cursor
        if not cursor:
            break
        if turn < 40:
            await store.write(rows_batch("item", [(f"new {turn} {i}", {}) for i in range(100)], schema))
            await store.delete("item", [f"new {turn - 1} {i}" for i in range(100)])
        turn += 1
    assert turn > 8
    assert {id_: seen[id_] for id_ in stays} == {id_: float(i) for i, id_ in enumerate(stays)}
    await store.close()


@pytest.mark.parametrize("cursor", ["x", "1.2", "1.2.3.4", "1.2.-3", "1.2." + "f" * 17, "é.1.2"])
async def test_a_cursor_that_is_none(cursor: str) -> None:
    store = await open_embedded(schema_of(item=[PRICE]), None, 10)
    with pytest.raises(RequestError):
        await store.scan("item", [], cursor, 10, NOW_S)
    await store.close()


async def test_forget_finds_a_user_wherever_it_is_part_of_an_id() -> None:
    schema = Schema(
        {
            name: Entity(name, {"price": PRICE}, key)
            for name, key in (
                ("user", ()),
                ("user_item", ("user", "item")),
                ("query_user_item", ("query", "user", "item")),
                ("query_item", ("query", "item")),
                ("item", ()),
            )
        }
    )
    store = await open_embedded(schema, None, 1000)
    for user in ("u", "uu", "u/1:u"):
        for name, parts in (("user", [user]), ("user_item", [user, "i"]), ("query_user_item", ["q", user, "u"])):
            await store.write(rows_batch(name, [(composite_id(parts), {"price": 1.0})], schema))
    await store.write(rows_batch("user_item", [("u", {}), (composite_id(["u", "other"]), {})], schema))
    await store.write(rows_batch("query_item", [(composite_id(["u", "u"]), {})], schema))
    await store.write(rows_batch("item", [("u", {})], schema))
    assert await store.forget("u") == {"user": 1, "user_item": 2, "query_user_item": 1}
    assert await store.forget("u") == {}
    assert store.row_counts() == {"user": 2, "user_item": 3, "query_user_item": 2, "query_item": 1, "item": 1}
    await store.close()


@pytest.mark.parametrize("parts", [["a"], ["", ""], ["é", "b:/"], ["1:a/", "2:", "x/y"], ["a" * 300, "\0", ""]])
def test_composite_ids_have_an_inverse(parts: list[str]) -> None:
    assert composite_parts(composite_id(parts), len(parts)) == parts
    assert unjoined_ids([composite_id(parts)], len(parts)) == []


@pytest.mark.parametrize(
    "id_",
    [
        "",
        "a",
        "1:",
        "01:a/b",
        "²:é/b",
        "1:a:b",
        "1:a",
        "2:a/",
        "-1:a/b",
        "1:é/b",
        "1_0:0123456789/x",
        "9" * 5000 + ":a",
    ],
)
def test_ids_that_are_not_composite(id_: str) -> None:
    assert composite_parts(id_, 2) is None
    assert unjoined_ids([id_, "1:a/b"], 2) == [0]


def test_texts_of_queries_are_kept_in_one_form() -> None:
    ids = ["8:Red  Éx/P 1", "no such id", "4:a  b/x"]
    assert stored_ids("item", ids, ()) is ids
    assert stored_ids("query", ["A  b "], ()) == ["a b"]
    assert stored_ids("query_item", ids, ("query", "item")) == ["7:red éx/P 1", "no such id", "3:a b/x"]
    alike = [
        "5:red x/p1",
        "5:red x/p 2",
        "5:Red x/p1",
        "5:red xyz/p1",
        "5:red x/é",
        "4:é x/a",
        "4:É x/a",
        "a:b/c",
        "1000:a",
    ]
    one_by_one = [stored_ids("query_item", [id_], ("query", "item"))[0] for id_ in alike]
    assert stored_ids("query_item", alike, ("query", "item")) == one_by_one
    long = ["1000:" + "a" * 1000 + "/x", "1000:" + "aB" * 500 + "/x"]
    assert stored_ids("query_item", long, ("query", "item")) == [long[0], "1000:" + "ab" * 500 + "/x"]
    assert one_by_one[:3] == ["5:red x/p1", "5:red x/p 2", "5:red x/p1"]
    assert stored_ids("item_query", ["2:Ab/C  d"], ("item", "query")) == ["2:Ab/c d"]


async def test_statistics() -> None:
    clock = Clock()
    schema = schema_of(item=[PRICE, Signal("mood", SignalKind.CATEGORY, ttl_s=60.0), Signal("tags", SignalKind.SET)])
    store = await open_embedded(schema, None, 1000, clock=clock)
    await store.write(rows_batch("item", [(f"{i}", {"mood": "m"}) for i in range(3)], schema))
    clock.now_s += 100
    await store.write(rows_batch("item", [(f"{i}", {"mood": "n", "price": 1.0}) for i in range(2, 7)], schema))
    statistics = (await store.statistics(NOW_S + 110))["item"]
    assert statistics.row_count == 7
    assert statistics.used_bytes > 0
    assert statistics.signals["mood"].filled_count == 5
    assert statistics.signals["mood"].median_age_s == statistics.signals["mood"].greatest_age_s == 10.0
    assert statistics.signals["tags"].filled_count == 0
    assert math.isnan(statistics.signals["tags"].median_age_s)
    await store.close()
