"""SignalService over a real socket: exact round trips, partial writes, every refusal."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.serving import SCHEMA, details, running

from rankd.limits import RequestLimits
from rankd.server.signal_codec import decode_batch, encode_rows, rejection_path, split_bad_ids
from rankd.signals.embedded import open_embedded
from rankd.signals.store import Rejection
from rankd.v1 import signals_pb2 as sp


def write(*columns: sp.SignalColumn, ids: list[str] | None = None, entity: str = "item") -> sp.WriteSignalsRequest:
    return sp.WriteSignalsRequest(entity=entity, ids=["a", "b"] if ids is None else ids, columns=columns)


def floats(*values: float, signal: str = "price", **fields: Any) -> sp.SignalColumn:
    return sp.SignalColumn(signal=signal, floats=sp.FloatValues(values=values), **fields)


EVERY_KIND = [
    floats(1.5, -2.5),
    sp.SignalColumn(signal="stock", ints=sp.IntValues(values=[2**62, -5])),
    sp.SignalColumn(signal="listed", timestamps=sp.TimestampValues(unix_millis=[-1, 1_700_000_000_123])),
    sp.SignalColumn(signal="fresh", bools=sp.BoolValues(values=[True, False])),
    sp.SignalColumn(signal="brand", strings=sp.StringValues(values=["Acme", "Ünï\0code"])),
    sp.SignalColumn(signal="title", strings=sp.StringValues(values=["Wi-Fi Router", ""])),
    sp.SignalColumn(signal="vector", embeddings=sp.EmbeddingValues(dimension=3, values=[1, 2, 3, 4, 5, 6])),
    sp.SignalColumn(signal="tags", sets=sp.SetValues(values=["x", "y"], lengths=[2, 0])),
    sp.SignalColumn(signal="weights", maps=sp.MapValues(keys=["k"], values=[0.5], lengths=[0, 1])),
]


async def test_every_kind_comes_back_as_written() -> None:
    async with running() as (_, client):
        answer = await client.signals.WriteSignals(write(*EVERY_KIND))
        assert (answer.written_count, list(answer.rejected)) == (2, [])
        got = await client.signals.GetSignals(sp.GetSignalsRequest(entity="item", ids=["b", "nope", "a"]))
        assert list(got.ids) == ["b", "a"]
        assert list(got.missing_ids) == ["nope"]
        assert len(got.written_unix_millis) == 2
        by_name = {column.signal: column for column in got.columns}
        assert list(by_name) == list(SCHEMA.entities["item"].signals)
        assert list(by_name["price"].floats.values) == [-2.5, 1.5]
        assert list(by_name["stock"].ints.values) == [-5, 2**62]
        assert list(by_name["listed"].timestamps.unix_millis) == [1_700_000_000_123, -1]
        assert list(by_name["fresh"].bools.values) == [False, True]
        assert list(by_name["brand"].strings.values) == ["Ünï\0code", "Acme"]
        assert list(by_name["title"].strings.values) == ["", "Wi-Fi Router"]
        assert list(by_name["vector"].embeddings.values) == [4, 5, 6, 1, 2, 3]
        assert (list(by_name["tags"].sets.values), list(by_name["tags"].sets.lengths)) == (["x", "y"], [0, 2])
        assert (list(by_name["weights"].maps.keys), list(by_name["weights"].maps.lengths)) == (["k"], [1, 0])
        # What was read can be written again as it is.
        again = sp.WriteSignalsRequest(entity="item", ids=got.ids, columns=got.columns)
        assert (await client.signals.WriteSignals(again)).written_count == 2
        repeated = await client.signals.GetSignals(sp.GetSignalsRequest(entity="item", ids=["b", "a"]))
        assert list(repeated.columns) == list(got.columns)


async def test_queries_are_kept_by_their_key() -> None:
    async with running() as (_, client):
        written = write(floats(0.5, signal="ctr"), ids=["  Red   SHOES "], entity="query")
        assert (await client.signals.WriteSignals(written)).written_count == 1
        got = await client.signals.GetSignals(sp.GetSignalsRequest(entity="query", ids=["red shoes", "RED shoes"]))
        assert list(got.ids) == ["red shoes", "RED shoes"]
        assert list(got.columns[0].floats.values) == [0.5, 0.5]
        deleted = await client.signals.DeleteSignals(sp.DeleteSignalsRequest(entity="query", ids=["Red shoes"]))
        assert deleted.deleted_count == 1


async def test_partial_update_clear_and_delete() -> None:
    async with running() as (_, client):
        await client.signals.WriteSignals(write(*EVERY_KIND))
        await client.signals.WriteSignals(write(floats(9, rows=[1], clear_rows=[0])))
        await client.signals.WriteSignals(write(sp.SignalColumn(signal="stock", clear_rows=[0, 1])))
        got = await client.signals.GetSignals(
            sp.GetSignalsRequest(entity="item", ids=["a", "b"], signals=["brand", "price", "stock"])
        )
        brand, price, stock = got.columns
        assert list(brand.strings.values) == ["Acme", "Ünï\0code"]
        assert (list(price.rows), list(price.clear_rows), list(price.floats.values)) == ([1], [0], [9])
        assert list(stock.clear_rows) == [0, 1]
        assert stock.WhichOneof("values") is None
        gone = await client.signals.DeleteSignals(sp.DeleteSignalsRequest(entity="item", ids=["a", "zzz"]))
        assert gone.deleted_count == 1
        schema = await client.signals.DescribeSchema(sp.DescribeSchemaRequest())
    assert schema.version == SCHEMA.version
    described = {entity.name: entity for entity in schema.entities}
    assert (described["item"].row_count, described["user"].row_count) == (1, 0)
    types = {signal.name: signal.type for signal in described["item"].signals}
    assert (types["vector"], types["price"]) == ("embedding[3]", "f32")
    assert not described["item"].signals[0].HasField("ttl_seconds")


async def test_faulty_rows_are_rejected_and_the_others_written() -> None:
    async with running(limits={"max_id_bytes": 8}) as (_, client):
        sent = write(
            floats(1, 2, math.inf, 4),
            sp.SignalColumn(
                signal="vector",
                rows=[0, 3],
                embeddings=sp.EmbeddingValues(dimension=3, values=[1, 1, 1, 1, math.nan, 1]),
            ),
            ids=["good", "far too long", "infinite", "nan"],
        )
        answer = await client.signals.WriteSignals(sent)
        assert answer.written_count == 1
        assert [(r.row, r.field) for r in answer.rejected] == [
            (1, "ids[1]"),
            (2, "columns[0].floats.values[2]"),
            (3, "columns[1].embeddings.values[3]"),
        ]
        assert answer.rejected[0].description == "expected at most 8 bytes, got 12"
        got = await client.signals.GetSignals(
            sp.GetSignalsRequest(entity="item", ids=["good", "infinite", "nan"], signals=["price"])
        )
        assert (list(got.ids), list(got.columns[0].floats.values)) == (["good"], [1.0])


WRONG = [
    (
        write(floats(1, 2), entity="itm"),
        "UNKNOWN_NAME",
        "entity",
        'expected one of item, query, user, got "itm"; did you mean "item"?',
    ),
    (write(ids=[]), "INVALID_FIELD", "ids", "expected 1 to 10000 ids, got 0"),
    (write(ids=[str(i) for i in range(10_001)]), "LIMIT_EXCEEDED", "ids", "expected 1 to 10000 ids, got 10001"),
    (write(floats(1, 2, signal="prize")), "UNKNOWN_NAME", "columns[0].signal", None),
    (write(floats(1, 2), floats(1, 2)), "INVALID_FIELD", "columns[1].signal", None),
    (
        write(sp.SignalColumn(signal="price", strings=sp.StringValues(values=["1", "2"]))),
        "WRONG_TYPE",
        "columns[0]",
        "expected floats for signal item.price of type f32, got strings",
    ),
    (
        write(sp.SignalColumn(signal="stock", floats=sp.FloatValues(values=[1, 2]))),
        "WRONG_TYPE",
        "columns[0]",
        "expected ints for signal item.stock of type i64, got floats",
    ),
    (
        write(sp.SignalColumn(signal="vector", embeddings=sp.EmbeddingValues(dimension=2, values=[1, 2]))),
        "WRONG_TYPE",
        "columns[0].embeddings.dimension",
        "expected 3 for embedding[3], got 2",
    ),
    (
        write(sp.SignalColumn(signal="vector", embeddings=sp.EmbeddingValues(dimension=3, values=[1, 2]))),
        "LENGTH_MISMATCH",
        "columns[0].embeddings.values",
        "expected a multiple of 3 numbers, got 2",
    ),
    (
        write(sp.SignalColumn(signal="vector", embeddings=sp.EmbeddingValues(dimension=3, values=[1, 2, 3]))),
        "LENGTH_MISMATCH",
        "columns[0].embeddings.values",
        None,
    ),
    (write(floats(1)), "LENGTH_MISMATCH", "columns[0].floats.values", None),
    (
        write(sp.SignalColumn(signal="listed", timestamps=sp.TimestampValues(unix_millis=[1]))),
        "LENGTH_MISMATCH",
        "columns[0].timestamps.unix_millis",
        None,
    ),
    (write(floats(1, rows=[2])), "INVALID_FIELD", "columns[0].rows", None),
    (write(floats(1, 2, rows=[1, 0])), "INVALID_FIELD", "columns[0].rows", None),
    (write(floats(1, 2, rows=[1, 1])), "INVALID_FIELD", "columns[0].rows", None),
    (write(floats(1, rows=[0], clear_rows=[0])), "INVALID_FIELD", "columns[0].clear_rows", None),
    (write(floats(1, 2, clear_rows=[0])), "INVALID_FIELD", "columns[0].rows", None),
    (
        write(sp.SignalColumn(signal="price", rows=[0])),
        "INVALID_FIELD",
        "columns[0]",
        "expected floats for its rows, got no values",
    ),
    (
        write(sp.SignalColumn(signal="tags", sets=sp.SetValues(values=["x"], lengths=[2, 0]))),
        "LENGTH_MISMATCH",
        "columns[0].sets.lengths",
        None,
    ),
    (
        write(sp.SignalColumn(signal="weights", maps=sp.MapValues(keys=["x"], values=[], lengths=[1, 0]))),
        "LENGTH_MISMATCH",
        "columns[0].maps.values",
        None,
    ),
]


async def test_wrong_types_and_shapes_are_refused_whole() -> None:
    async with running() as (_, client):
        for sent, reason, field, description in WRONG:
            with pytest.raises(grpc.RpcError) as caught:
                await client.signals.WriteSignals(sent)
            status, info, violations = details(caught.value)
            assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            assert (info.reason, violations[0][0]) == (reason, field), violations
            if description is not None:
                assert violations[0][1] == description
        schema = await client.signals.DescribeSchema(sp.DescribeSchemaRequest())
    assert [entity.row_count for entity in schema.entities] == [0, 0, 0]


@pytest.mark.parametrize("method", ["WriteSignals", "GetSignals", "DeleteSignals"])
async def test_malformed_bytes_are_placed(method: str) -> None:
    async with running() as (_, client):
        with pytest.raises(grpc.RpcError) as caught:
            await client.raw(f"SignalService/{method}")(b"\x12\x02\xff\xff")
    _, info, violations = details(caught.value)
    assert info.reason == "MALFORMED_MESSAGE"
    assert violations[0][0] == "ids[0]"


async def test_reads_and_deletes_are_checked_too() -> None:
    async with running() as (_, client):
        for call, field in [
            (client.signals.GetSignals(sp.GetSignalsRequest(entity="x", ids=["a"])), "entity"),
            (client.signals.GetSignals(sp.GetSignalsRequest(entity="item")), "ids"),
            (client.signals.GetSignals(sp.GetSignalsRequest(entity="item", ids=[""])), "ids[0]"),
            (client.signals.GetSignals(sp.GetSignalsRequest(entity="item", ids=["a"], signals=["x"])), "signals[0]"),
            (
                client.signals.GetSignals(sp.GetSignalsRequest(entity="item", ids=["a"], signals=["price"] * 2)),
                "signals[1]",
            ),
            (client.signals.DeleteSignals(sp.DeleteSignalsRequest(entity="item", ids=["a" * 513])), "ids[0]"),
            (client.signals.DeleteSignals(sp.DeleteSignalsRequest(entity="item")), "ids"),
        ]:
            with pytest.raises(grpc.RpcError) as caught:
                await call
            assert details(caught.value)[2][0][0] == field


ids = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8, unique=True)


@given(ids, st.data())
async def test_rows_survive_the_wire(names: list[str], data: st.DataObject) -> None:
    """Any ids and values: decode, write, read, encode gives what was sent; long ids are cut out cleanly."""
    n = len(names)
    prices = data.draw(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=n, max_size=n))
    tags = data.draw(st.lists(st.sets(st.text(max_size=5), max_size=3), min_size=n, max_size=n))
    limit = data.draw(st.integers(4, 40))
    sent = write(
        floats(*prices),
        sp.SignalColumn(
            signal="tags", sets=sp.SetValues(values=[t for s in tags for t in sorted(s)], lengths=map(len, tags))
        ),
        ids=names,
    )
    batch = decode_batch(sp.WriteSignalsRequest.FromString(sent.SerializeToString()), SCHEMA, RequestLimits())
    good, positions, rejected = split_bad_ids(batch, SCHEMA.entities["item"], limit)
    kept = [i for i, name in enumerate(names) if len(name.encode()) <= limit]
    assert [r.row for r in rejected] == [i for i in range(n) if i not in kept]
    assert list(good.ids) == [names[i] for i in kept]
    if rejected:
        assert positions == kept
    store = await open_embedded(SCHEMA, None, 1_000)
    if good.ids:
        assert (await store.write(good)).written_count == len(kept)
    stored = await store.get("item", names, ["price", "tags"], 0.0)
    answer = encode_rows(names, stored, SCHEMA.entities["item"])
    assert list(answer.ids) == [names[i] for i in kept]
    assert list(answer.missing_ids) == [names[i] for i in range(n) if i not in kept]
    if kept:
        assert list(answer.columns[0].floats.values) == [prices[i] for i in kept]
        assert list(answer.columns[1].sets.lengths) == [len(tags[i]) for i in kept]
    await store.close()


def test_rejections_point_into_the_request() -> None:
    batch = decode_batch(
        write(floats(5, rows=[1]), sp.SignalColumn(signal="tags", sets=sp.SetValues(lengths=[0, 0]))),
        SCHEMA,
        RequestLimits(),
    )
    item = SCHEMA.entities["item"]
    assert rejection_path(batch, Rejection(1, "price", ""), item) == "columns[0].floats.values[0]"
    assert rejection_path(batch, Rejection(1, "tags", ""), item) == "columns[1].sets.lengths[1]"
    assert rejection_path(batch, Rejection(1, "", ""), item) == "ids[1]"
