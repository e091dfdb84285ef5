"""What every SignalStore does, whatever its backend; conformance_time and conformance_many go on with it, and
test_conformance runs all of it on every backend (see backends).

The fixture `open_store` is called with `schema=SCHEMA, max_rows=1000, clock=Clock()` and awaited: it opens an empty
store, and, called again after `close`, the same one if the backend is durable. `open_store.beside(store)`: another
store over the same data, of another process if the backend has such. `open_store.traits`: see Traits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pytest

from rankd.errors import StoreFullError
from rankd.limits import HARD_MAX_ID_BYTES, MAX_CATEGORY_BYTES, MAX_SET_MEMBERS, MAX_STRING_BYTES
from rankd.signals.store import ColumnValues, MapValues, SetValues, SignalStore, WriteBatch
from rankd.signals.values import I64_MISSING, from_list, to_list
from rankd.types.columns import CategoryColumn, EmbeddingColumn, MapColumn, NumericColumn, SetColumn, TextColumn
from rankd.types.schema import Entity, Schema, Signal, SignalKind
from rankd.types.text import normalise


@dataclass(frozen=True, slots=True)
class Traits:
    """In what a backend differs from others, because it must: as signals.store says under "Where backends differ"."""

    is_durable: bool = True
    """What is acknowledged is there when the store is opened again."""
    bounds_rows: bool = True
    """`max_rows` is kept to."""
    has_tables: bool = True
    """Rows are read from mapped tables."""
    keeps_deletions: bool = True
    """When a row was deleted is known even after it was written again."""


class OpenStore(Protocol):
    """See the module's docstring."""

    traits: Traits

    async def __call__(self, schema: Schema = ..., max_rows: int = ..., clock: Any = ...) -> Any: ...

    async def beside(self, store: Any) -> Any: ...


NOW_S = 1_700_000_000.0

_ITEM = [
    Signal("price", SignalKind.F32),
    Signal("stock", SignalKind.I64),
    Signal("released", SignalKind.TIMESTAMP),
    Signal("new", SignalKind.BOOL),
    Signal("brand", SignalKind.CATEGORY),
    Signal("title", SignalKind.STRING),
    Signal("tags", SignalKind.SET),
    Signal("affinity", SignalKind.MAP),
    Signal("vector", SignalKind.EMBEDDING, dimension=3),
    Signal("ctr", SignalKind.F32, default=0.25),
    Signal("views", SignalKind.I64, default=7.0, ttl_s=60.0),
    Signal("mood", SignalKind.CATEGORY, ttl_s=1.5),
]


def schema_of(**entities: list[Signal]) -> Schema:
    return Schema({name: Entity(name, {s.name: s for s in signals}) for name, signals in entities.items()})


SCHEMA = schema_of(item=_ITEM, user=[Signal("segment", SignalKind.CATEGORY), Signal("age", SignalKind.F32)])


class Clock:
    """A clock that stands still until told; seconds since 1970."""

    def __init__(self, now_s: float = NOW_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class Clear:
    """In `rows_batch`: the signal is to be cleared."""


CLEAR = Clear()


def rows_batch(entity: str, rows: list[tuple[str, dict[str, Any]]], schema: Schema = SCHEMA) -> WriteBatch:
    """A batch from (id, {signal: plain value or CLEAR}); signals not named are left alone."""
    columns = []
    for signal in schema.entities[entity].signals.values():
        named = [(i, values[signal.name]) for i, (_, values) in enumerate(rows) if signal.name in values]
        if named:
            given = [(i, value) for i, value in named if value is not CLEAR]
            columns.append(
                ColumnValues(
                    signal.name,
                    np.array([i for i, _ in given], np.int64),
                    from_list(signal, [value for _, value in given]),
                    np.array([i for i, value in named if value is CLEAR], np.int64),
                )
            )
    return WriteBatch(entity, [id_ for id_, _ in rows], columns)


async def get_rows(store: SignalStore, entity: str, ids: list[str], now_s: float = NOW_S) -> dict[str, dict[str, Any]]:
    """{id: {signal: plain value}} of what is stored; the embedding as a list, a set as a set."""
    names = list(store.schema.entities[entity].signals)
    stored = await store.get(entity, ids, names, now_s)
    assert [column.signal for column in stored.columns] == names
    found = [ids[i] for i in stored.found.tolist()]
    assert len(stored.written_ms) == len(found)
    rows: dict[str, dict[str, Any]] = {id_: {} for id_ in found}
    for column in stored.columns:
        kind = store.schema.entities[entity].signals[column.signal].kind
        positions = column.rows.tolist()
        assert sorted(positions + column.clear_rows.tolist()) == list(range(len(found)))
        for i, value in zip(positions, to_list(column.values), strict=True):
            if kind is SignalKind.EMBEDDING:
                value = value.tolist()
            rows[found[i]][column.signal] = set(value) if kind is SignalKind.SET else value
    return rows


def plain_column(store: SignalStore, column: Any) -> list[Any]:
    """One plain value per entry of a column as read; None where missing."""
    text = store.categories.text
    if isinstance(column, NumericColumn):
        return [None if np.isnan(v) else v for v in column.values.tolist()]
    if isinstance(column, CategoryColumn):
        return [None if c == -1 else text(c) for c in column.codes.tolist()]
    if isinstance(column, EmbeddingColumn):
        return [None if np.isnan(v[0]) else v.tolist() for v in column.values]
    ranges = list(zip(column.offsets.tolist(), column.lengths.tolist(), strict=True))
    if isinstance(column, TextColumn):
        return [None if n < 0 else column.data[o : o + n].tobytes() for o, n in ranges]
    codes = column.codes if isinstance(column, SetColumn) else column.keys
    assert all(np.all(np.diff(codes[o : o + n]) > 0) for o, n in ranges if n > 1), "codes are not ascending"
    if isinstance(column, SetColumn):
        return [None if n < 0 else {text(c) for c in codes[o : o + n].tolist()} for o, n in ranges]
    assert isinstance(column, MapColumn)
    return [
        None
        if n < 0
        else {text(c): v for c, v in zip(codes[o : o + n].tolist(), column.values[o : o + n].tolist(), strict=True)}
        for o, n in ranges
    ]


async def counts(store: SignalStore) -> dict[str, int]:
    """Rows by entity; statistics agree, though a store that was just opened may not have counted what is fetched."""
    asked = {name: of.row_count for name, of in (await store.statistics(NOW_S)).items()}
    for _ in range(1_000):
        if dict(store.row_counts()) == asked:
            return asked
        await asyncio.sleep(0.01)
    raise AssertionError(f"statistics say {asked}, row_counts {dict(store.row_counts())}")


async def read_plain(
    store: SignalStore, ids: list[str], *signals: str, entity: str = "item", now_s: float = NOW_S
) -> list[list[Any]]:
    """A list per signal."""
    rows = await store.read(entity, ids, signals, now_s)
    assert list(rows.columns) == list(signals)
    return [plain_column(store, rows.columns[name]) for name in signals]


FULL: dict[str, Any] = {
    "price": 9.5,
    "stock": 2**60 + 1,
    "released": -1,
    "new": False,
    "brand": "Ünïcode",
    "title": "Wi-Fi  Router (5GHz)",
    "tags": {"b", "a", ""},
    "affinity": {"x": 0.5, "a": -1.0},
    "vector": [1.0, 0.0, -2.5],
    "ctr": 0.0,
    "views": 0,
    "mood": "",
}


class StoreConformance:
    """What is written is what is read."""

    async def test_every_kind_comes_back_as_written(self, open_store: OpenStore) -> None:
        store = await open_store()
        result = await store.write(rows_batch("item", [("a", FULL), ("b", {})]))
        assert (result.written_count, list(result.rejected)) == (2, [])
        assert await get_rows(store, "item", ["b", "zzz", "a"]) == {"b": {}, "a": FULL}
        assert await counts(store) == {"item": 2, "user": 0}
        await store.close()

    async def test_every_kind_reads_as_a_column(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(rows_batch("item", [("b", {}), ("a", FULL)]))
        names = list(FULL)
        columns = dict(zip(names, await read_plain(store, ["nobody", "a", "b", "a"], *names), strict=True))
        expected: dict[str, Any] = {
            **FULL,
            "stock": float(2**60 + 1),
            "released": -0.001,
            "new": 0.0,
            "title": normalise(FULL["title"]),
        }
        defaults = {"ctr": 0.25, "views": 7.0}
        for name in names:
            missing = defaults.get(name)
            assert columns[name] == [missing, expected[name], missing, expected[name]], name
        await store.close()

    async def test_found_without_signals(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(rows_batch("item", [("a", {})]))
        rows = await store.read("item", ["x", "a"], [], NOW_S)
        assert rows.found.tolist() == [False, True]
        assert dict(rows.columns) == {}
        assert (await store.read("item", [], ["price", "tags", "vector"], NOW_S)).found.tolist() == []
        await store.close()

    async def test_partial_writes_keep_the_rest(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(rows_batch("item", [("a", FULL)]))
        await store.write(rows_batch("item", [("a", {"price": 1.5, "tags": {"c"}})]))
        assert (await get_rows(store, "item", ["a"]))["a"] == {**FULL, "price": 1.5, "tags": {"c"}}
        await store.close()

    async def test_clear_and_nan_make_missing(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(rows_batch("item", [("a", FULL), ("b", FULL)]))
        await store.write(rows_batch("item", [("a", dict.fromkeys(FULL, CLEAR)), ("b", {"price": float("nan")})]))
        stored = await get_rows(store, "item", ["a", "b"])
        assert stored == {"a": {}, "b": {k: v for k, v in FULL.items() if k != "price"}}
        assert await read_plain(store, ["a", "b"], "price", "ctr") == [[None, None], [0.25, 0.0]]
        await store.close()

    async def test_empty_text_set_and_map_are_not_missing(self, open_store: OpenStore) -> None:
        store = await open_store()
        values: dict[str, Any] = {"title": "", "tags": set(), "affinity": {}, "brand": ""}
        await store.write(rows_batch("item", [("a", values)]))
        assert (await get_rows(store, "item", ["a"]))["a"] == values
        assert await read_plain(store, ["a"], "title", "tags", "affinity", "brand") == [[b""], [set()], [{}], [""]]
        await store.close()

    async def test_entities_are_apart_and_codes_are_shared(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(rows_batch("item", [("a", {"brand": "x", "tags": {"x"}, "affinity": {"x": 1.0}})]))
        await store.write(rows_batch("user", [("a", {"segment": "x"})]))
        await store.delete("item", ["nobody"])
        user = await store.read("user", ["a"], ["segment"], NOW_S)
        item = await store.read("item", ["a"], ["brand", "tags", "affinity"], NOW_S)
        code = store.categories.code("x")
        assert code >= 0
        assert store.categories.intern("x") == code
        assert store.categories.text(code) == "x"
        assert store.categories.code("never written") == -1
        tags, affinity = item.columns["tags"], item.columns["affinity"]
        assert user.columns["segment"].codes.tolist() == [code]
        assert item.columns["brand"].codes.tolist() == [code]
        assert tags.codes[tags.offsets[0]] == affinity.keys[affinity.offsets[0]] == code
        await store.close()

    async def test_delete(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(rows_batch("item", [("a", FULL), ("b", FULL), ("c", FULL)]))
        assert await store.delete("item", ["b", "nobody", "b"]) == 1
        assert await store.delete("item", ["", "\ud800", "x" * (HARD_MAX_ID_BYTES + 1)]) == 0
        assert await get_rows(store, "item", ["a", "b", "c"]) == {"a": FULL, "c": FULL}
        assert (await counts(store))["item"] == 2
        # A new row takes the old one's place and shows nothing of it.
        await store.write(rows_batch("item", [("d", {"price": 1.0})]))
        assert await get_rows(store, "item", ["b", "d"]) == {"d": {"price": 1.0}}
        assert [c[0] for c in await read_plain(store, ["d"], *FULL)][1:10] == [None] * 8 + [0.25]
        await store.close()

    async def test_repeated_ids_apply_in_order(self, open_store: OpenStore) -> None:
        store = await open_store()
        rows: list[tuple[str, dict[str, Any]]] = [
            ("a", {"price": 1.0, "brand": "x", "tags": {"1", "2"}, "title": "one"}),
            ("b", {"price": 5.0}),
            ("a", {"price": 2.0, "brand": CLEAR, "affinity": {"k": 1.0}}),
            ("a", {"tags": {"3"}, "title": CLEAR}),
            ("a", {"title": "two", "affinity": CLEAR, "vector": [0.0, 1.0, 2.0]}),
        ]
        assert (await store.write(rows_batch("item", rows))).written_count == 5
        expected = {"price": 2.0, "tags": {"3"}, "title": "two", "vector": [0.0, 1.0, 2.0]}
        assert await get_rows(store, "item", ["a", "b"]) == {"a": expected, "b": {"price": 5.0}}
        assert (await counts(store))["item"] == 2
        await store.close()

    @pytest.mark.parametrize(
        "ids",
        [
            ["\0", "\0\0", "a\0", "a\0b", "a"],
            ["é", "e\u0301", "\U0010ffff", "\u2028", " ", "\n"],
            ["x" * HARD_MAX_ID_BYTES, "x" * (HARD_MAX_ID_BYTES - 1), "é" * (HARD_MAX_ID_BYTES // 2)],
        ],
    )
    async def test_any_text_is_an_id(self, open_store: OpenStore, ids: list[str]) -> None:
        store = await open_store()
        await store.write(rows_batch("item", [(id_, {"stock": i}) for i, id_ in enumerate(ids)]))
        assert await read_plain(store, ids, "stock") == [[float(i) for i in range(len(ids))]]
        assert await store.delete("item", ids[:1]) == 1
        assert list(await get_rows(store, "item", ids)) == ids[1:]
        await store.close()

    async def test_ttl_at_its_boundary(self, open_store: OpenStore) -> None:
        clock = Clock()
        store = await open_store(clock=clock)
        await store.write(rows_batch("item", [("a", {"views": 3, "mood": "m", "price": 1.0})]))
        clock.now_s += 1.0
        await store.write(rows_batch("item", [("a", {"price": 2.0}), ("b", {"views": 4})]))
        just_before, exactly = NOW_S + 59.999, NOW_S + 60.0
        assert await read_plain(store, ["a", "b"], "views", now_s=just_before) == [[3.0, 4.0]]
        assert await read_plain(store, ["a", "b"], "views", now_s=exactly) == [[7.0, 4.0]]  # the default
        assert await read_plain(store, ["a"], "mood", now_s=NOW_S + 1.499) == [["m"]]
        assert await read_plain(store, ["a"], "mood", now_s=NOW_S + 1.5) == [[None]]
        assert (await get_rows(store, "item", ["a"], now_s=exactly))["a"] == {"price": 2.0}
        # In the past, and by writing it again, it lives.
        assert await read_plain(store, ["a"], "views", now_s=NOW_S - 1e6) == [[3.0]]
        clock.now_s = exactly
        await store.write(rows_batch("item", [("a", {"views": 5})]))
        assert await read_plain(store, ["a"], "views", now_s=exactly + 59.999) == [[5.0]]
        await store.close()

    async def test_written_ms_is_the_last_write_of_the_row(self, open_store: OpenStore) -> None:
        clock = Clock()
        store = await open_store(clock=clock)
        await store.write(rows_batch("item", [("a", {"price": 1.0}), ("b", {})]))
        clock.now_s += 2.5
        await store.write(rows_batch("item", [("a", {"brand": CLEAR})]))
        stored = await store.get("item", ["b", "a"], [], NOW_S)
        assert stored.written_ms.tolist() == [int(NOW_S * 1000), int(NOW_S * 1000) + 2500]
        await store.close()

    @pytest.mark.parametrize(
        ("id_", "values", "signal", "words"),
        [
            ("", {}, "", "got 0"),
            ("x" * (HARD_MAX_ID_BYTES + 1), {}, "", f"got {HARD_MAX_ID_BYTES + 1}"),
            ("é" * (HARD_MAX_ID_BYTES // 2 + 1), {}, "", f"got {HARD_MAX_ID_BYTES + 2}"),
            ("\ud800", {}, "", "surrogate"),
            ("bad", {"price": float("inf")}, "price", "got inf"),
            ("bad", {"price": float("-inf")}, "price", "got -inf"),
            ("bad", {"stock": I64_MISSING}, "stock", "int64"),
            ("bad", {"released": I64_MISSING}, "released", "int64"),
            ("bad", {"brand": "x" * (MAX_CATEGORY_BYTES + 1)}, "brand", f"got {MAX_CATEGORY_BYTES + 1}"),
            ("bad", {"brand": "\udfff"}, "brand", "surrogate"),
            ("bad", {"title": "x" * (MAX_STRING_BYTES + 1)}, "title", f"got {MAX_STRING_BYTES + 1}"),
            ("bad", {"tags": ["x", "é" * 200]}, "tags", "got 400"),
            ("bad", {"tags": [str(i) for i in range(MAX_SET_MEMBERS + 1)]}, "tags", f"got {MAX_SET_MEMBERS + 1}"),
            ("bad", {"affinity": {"x": float("nan")}}, "affinity", "got nan"),
            ("bad", {"affinity": {"x": 1.0, "y": float("inf")}}, "affinity", "got inf"),
            ("bad", {"affinity": {str(i): 0.0 for i in range(MAX_SET_MEMBERS + 1)}}, "affinity", "at most"),
            ("bad", {"vector": [0.0, float("nan"), 0.0]}, "vector", "got nan at [1]"),
            ("bad", {"vector": [0.0, 0.0, float("inf")]}, "vector", "got inf at [2]"),
        ],
    )
    async def test_a_faulty_value_rejects_its_row_alone(
        self, open_store: OpenStore, id_: str, values: dict[str, Any], signal: str, words: str
    ) -> None:
        store = await open_store()
        await store.write(rows_batch("item", [("bad", {"ctr": 0.5})]))
        result = await store.write(
            rows_batch("item", [("good", FULL), (id_, {"ctr": 1.0, **values}), ("also good", FULL)])
        )
        assert result.written_count == 2
        [rejection] = result.rejected
        assert (rejection.row, rejection.signal) == (1, signal)
        assert rejection.description.startswith("expected ")
        assert words in rejection.description
        assert await get_rows(store, "item", ["good", "bad", "also good"]) == {
            "good": FULL,
            "bad": {"ctr": 0.5},
            "also good": FULL,
        }
        await store.close()

    async def test_values_at_their_limits_are_written(self, open_store: OpenStore) -> None:
        store = await open_store()
        values: dict[str, Any] = {
            "stock": I64_MISSING + 1,
            "released": np.iinfo(np.int64).max,
            "brand": "é" * (MAX_CATEGORY_BYTES // 2),
            "title": "x" * MAX_STRING_BYTES,
            "tags": {str(i) for i in range(MAX_SET_MEMBERS)},
            "affinity": {str(i): float(i) for i in range(MAX_SET_MEMBERS)},
            "price": float(np.finfo(np.float32).smallest_subnormal),
        }
        assert (await store.write(rows_batch("item", [("a", values)]))).written_count == 1
        assert (await get_rows(store, "item", ["a"]))["a"] == values
        await store.close()

    async def test_repeated_map_keys_are_rejected_and_repeated_members_merged(self, open_store: OpenStore) -> None:
        store = await open_store()
        both = np.arange(2)
        none = np.empty(0, np.int64)
        columns = [
            ColumnValues("tags", both, SetValues(["a", "b", "a", "b", "b"], np.array([3, 2])), none),
            ColumnValues(
                "affinity",
                both,
                MapValues(["k", "k", "k", "l"], np.arange(4, dtype=np.float32), np.array([2, 2])),
                none,
            ),
        ]
        result = await store.write(WriteBatch("item", ["x", "y"], columns))
        [rejection] = result.rejected
        assert (rejection.row, rejection.signal) == (0, "affinity")
        assert '"k"' in rejection.description
        assert await get_rows(store, "item", ["x", "y"]) == {"y": {"tags": {"b"}, "affinity": {"k": 2.0, "l": 3.0}}}
        await store.close()

    async def test_a_rejected_row_leaves_an_earlier_row_of_its_id(self, open_store: OpenStore) -> None:
        store = await open_store()
        rows: list[tuple[str, dict[str, Any]]] = [
            ("a", {"price": 1.0, "stock": 1}),
            ("a", {"price": float("inf"), "stock": 2}),
            ("a", {"price": CLEAR}),
        ]
        result = await store.write(rows_batch("item", rows))
        assert (result.written_count, [r.row for r in result.rejected]) == (2, [1])
        assert await get_rows(store, "item", ["a"]) == {"a": {"stock": 1}}
        await store.close()

    async def test_full(self, open_store: OpenStore) -> None:
        store = await open_store(max_rows=3)
        await store.write(rows_batch("item", [("a", {"price": 1.0}), ("b", {})]))
        if not open_store.traits.bounds_rows:
            await store.write(rows_batch("item", [("a", {"price": 2.0}), ("c", {}), ("d", {})]))
            assert await counts(store) == {"item": 4, "user": 0}
            await store.close()
            return
        with pytest.raises(StoreFullError, match="at most 3 rows of item"):
            await store.write(rows_batch("item", [("a", {"price": 2.0}), ("c", {}), ("d", {})]))
        assert await get_rows(store, "item", ["a", "b", "c", "d"]) == {"a": {"price": 1.0}, "b": {}}
        # Ids that are there, or come twice, or are rejected, need no room; another entity has its own.
        await store.write(rows_batch("item", [("a", {"price": 3.0}), ("b", {}), ("c", {}), ("c", {})]))
        faulty = await store.write(rows_batch("item", [("d", {"price": np.inf}), ("", {}), ("\ud800", {}), ("a", {})]))
        assert (faulty.written_count, [r.row for r in faulty.rejected]) == (1, [0, 1, 2])
        await store.write(rows_batch("user", [("u", {})]))
        await store.delete("item", ["b"])
        await store.write(rows_batch("item", [("d", {})]))
        assert await counts(store) == {"item": 3, "user": 1}
        await store.close()

    async def test_columns_stay_as_they_were(self, open_store: OpenStore) -> None:
        store = await open_store(max_rows=100_000)
        ids = [f"i{n}" for n in range(50)]
        names = list(FULL)
        await store.write(rows_batch("item", [(id_, FULL) for id_ in ids]))
        rows = await store.read("item", ids, names, NOW_S)
        before = [plain_column(store, rows.columns[name]) for name in names]
        other: dict[str, Any] = {
            **FULL,
            "title": "another title",
            "tags": {f"t{n}" for n in range(300)},
            "affinity": {f"k{n}": float(n) for n in range(300)},
        }
        for start in range(0, 1000, 50):  # grows, overwrites, makes garbage enough to compact
            more = [(f"i{n}", other) for n in range(start, start + 50)]
            await store.write(rows_batch("item", [(id_, other) for id_ in ids] + more))
        await store.delete("item", ids)
        assert [plain_column(store, rows.columns[name]) for name in names] == before
        assert (await read_plain(store, ["i777"], "tags"))[0] == [other["tags"]]
        await store.close()

    async def test_empty_batch(self, open_store: OpenStore) -> None:
        store = await open_store()
        result = await store.write(WriteBatch("item", [], []))
        assert (result.written_count, list(result.rejected)) == (0, [])
        assert await store.delete("item", []) == 0
        await store.close()
