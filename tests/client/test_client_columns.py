"""Signal columns: what is written reads back the same, and what cannot be written is named."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankd.client import KEEP, RequestError
from rankd.client.columns import column_values, parse_type, row_values, signal_column
from rankd.client.values import numbers, packed
from rankd.errors import Reason
from rankd.v1.ranking_pb2 import Candidates, Column
from rankd.v1.signals_pb2 import FloatValues, SignalColumn, SignalDescription, StringValues

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
F32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
INT64 = st.integers(-(2**63) + 1, 2**63 - 1)
MILLIS = st.integers(1, 2**52).map(lambda ms: np.datetime64(ms, "ms"))
VALUES = {
    "f32": F32,
    "i64": INT64,
    "bool": st.booleans(),
    "category": TEXT,
    "string": TEXT,
    "timestamp": INT64.map(lambda ms: np.datetime64(ms, "ms")),
    "embedding[3]": st.lists(F32, min_size=3, max_size=3).map(lambda v: np.array(v, np.float32)),
    "set": st.sets(TEXT, max_size=4),
    "map": st.dictionaries(TEXT, F32, max_size=4),
    "decayed_counter": st.floats(allow_nan=False, allow_infinity=False),
    "windowed_counter": st.dictionaries(MILLIS, F32, max_size=4),
    "list[3]": st.lists(st.tuples(TEXT, MILLIS), max_size=3),
}


def equal(left, right):
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return left is not None and right is not None and np.array_equal(left, right)
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("type_name", VALUES)
def test_written_values_read_back(type_name):
    signal = parse_type("s", type_name)

    @given(st.lists(st.one_of(VALUES[type_name], st.none(), st.just(KEEP)), max_size=8))
    def check(values):
        column = signal_column(signal, values)
        if column is None:
            assert all(v is KEEP for v in values)
            return
        column = SignalColumn.FromString(column.SerializeToString())
        cleared = [i for i, v in enumerate(values) if v is None]
        assert list(column.clear_rows) == cleared
        kept = {i for i, v in enumerate(values) if v is KEEP}
        if column.rows:
            assert not kept & {*column.rows, *column.clear_rows}
        elif column.WhichOneof("values"):
            assert not kept and not cleared, "without rows a column is of every row"
        expected = [None if v is KEEP else v for v in values]
        got = column_values(column, len(values))
        assert len(got) == len(expected) and all(map(equal, got, expected))

    check()


@given(st.lists(st.one_of(F32, st.just(math.nan)), max_size=40))
def test_packed_bytes_are_what_protobuf_makes(values):
    f32, f64 = np.array(values, np.float32), np.array(values, np.float64)
    column, candidates = Column(), Candidates()
    column.MergeFromString(packed(Column.VALUES_FIELD_NUMBER, f32))
    candidates.MergeFromString(packed(Candidates.BASE_SCORES_FIELD_NUMBER, f64))
    assert column.SerializeToString() == Column(values=values).SerializeToString()
    assert candidates.SerializeToString() == Candidates(base_scores=values).SerializeToString()


@pytest.mark.parametrize("length", [0, 31, 32, 4095, 4096, 600_000])
def test_packed_lengths_around_each_byte_of_the_varint(length):
    values = np.arange(length, dtype=np.float32)
    assert np.array_equal(np.array(Column.FromString(packed(2, values)).values, np.float32), values)


@pytest.mark.parametrize(
    ("type_name", "array", "kind"),
    [
        ("f32", np.array([1.5, np.nan]), "floats"),
        ("f32", np.array([1, 2], np.int32)[::-1], "floats"),
        ("i64", np.array([1, 2], np.uint8), "ints"),
        ("bool", np.array([True, False]), "bools"),
        ("decayed_counter", np.array([0.1, np.nan]), "doubles"),
    ],
)
def test_numpy_columns_go_whole(type_name, array, kind):
    column = signal_column(parse_type("s", type_name), array)
    assert column.WhichOneof("values") == kind and not column.rows and not column.clear_rows
    got = column_values(column, 2)
    assert got == [None if value != value else value for value in array.tolist()]


def test_buckets_are_sent_in_order_and_members_without_a_time_as_the_row():
    column = signal_column(
        parse_type("s", "windowed_counter"), [{7_200_000: 1, datetime(1970, 1, 1, 1, tzinfo=UTC): 2}]
    )
    assert list(column.windows.bucket_unix_millis) == [3_600_000, 7_200_000] and list(column.windows.counts) == [2, 1]
    column = signal_column(parse_type("s", "list[3]"), [["new", ("old", 5)]])
    assert list(column.lists.values) == ["new", "old"] and list(column.lists.unix_millis) == [0, 5]


@pytest.mark.parametrize("amounts", [[1, None], [1, math.nan], np.array([1, np.nan])])
def test_what_is_added_is_a_number_or_is_kept(client, amounts):
    types = {"clicks": "windowed_counter"}
    with pytest.raises(RequestError, match=r'columns\["clicks"\]\[1\]: expected what to add, or KEEP'):
        client.write_signals("item", ["a", "b"], {"clicks": amounts}, operations={"clicks": "add"}, types=types)


def test_a_matrix_is_embeddings():
    matrix = np.array([[1, 2], [np.nan, 4]])
    column = signal_column(parse_type("s", "embedding[2]"), matrix)
    assert column.embeddings.dimension == 2 and list(column.embeddings.values)[:2] == [1, 2]


def test_datetimes_are_milliseconds_rounded_down():
    values = [
        datetime(1970, 1, 1, 0, 0, 1, 999, UTC),
        datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime(1969, 12, 31, 23, 59, 59, 999_500, UTC),
        np.datetime64("1970-01-02"),
        5,
    ]
    column = signal_column(parse_type("s", "timestamp"), values)
    assert list(column.timestamps.unix_millis) == [1000, 0, -1, 86_400_000, 5]
    assert list(signal_column(parse_type("s", "timestamp"), [np.datetime64("NaT")]).clear_rows) == [0]


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("f32", "1.5"),
        ("f32", True),
        ("i64", 1.5),
        ("i64", 2**63),
        ("i64", "1"),
        ("bool", 1),
        ("category", 3),
        ("string", b"bytes"),
        ("string", "\ud800"),
        ("timestamp", datetime(2026, 1, 1)),
        ("timestamp", "2026-01-01"),
        ("timestamp", 2**63),
        ("embedding[2]", [1, 2, 3]),
        ("embedding[2]", ["a", "b"]),
        ("embedding[2]", 1),
        ("set", "text"),
        ("set", [1]),
        ("map", [("a", 1)]),
        ("map", {"a": "b"}),
        ("map", {1: 1}),
        ("decayed_counter", "1"),
        ("windowed_counter", 3),
        ("windowed_counter", {"2026-11-21": 3}),
        ("windowed_counter", {5: "3"}),
        ("windowed_counter", {5: 3, np.datetime64(5, "ms"): 1}),
        ("list[3]", "abc"),
        ("list[3]", {"a"}),
        ("list[3]", [3]),
        ("list[3]", [("a", 1, 2)]),
        ("list[3]", [("a", "yesterday")]),
        ("ratio", 0.5),
    ],
)
def test_a_value_of_another_type_is_named(type_name, value):
    good = {"f32": 1, "set": [], "map": {}, "list[3]": ["a"], "windowed_counter": {}}.get(type_name)
    with pytest.raises(RequestError) as caught:
        signal_column(parse_type("price", type_name), [good, value], first_row=100)
    assert caught.value.reason is Reason.WRONG_TYPE
    assert caught.value.violations[0].field.startswith('columns["price"][101]')


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([1], Reason.LENGTH_MISMATCH),
        ("ab", Reason.WRONG_TYPE),
        ({"a": 1, "b": 2}, Reason.WRONG_TYPE),
        (7, Reason.WRONG_TYPE),
    ],
)
def test_a_column_is_one_value_per_id(data, reason):
    with pytest.raises(RequestError) as caught:
        row_values("price", data, 2)
    assert caught.value.reason is reason


def test_any_iterable_is_a_column():
    assert row_values("price", (n for n in (1, 2)), 2) == [1, 2]
    assert row_values("price", {"a": 1, "b": 2}.values(), 2) == [1, 2]


@pytest.mark.parametrize(
    "type_name", ["", "f64", "embedding", "embedding[", "embedding[x]", "set[2]", "f32[1]", "list", "list[3"]
)
def test_unknown_types(type_name):
    with pytest.raises(ValueError):
        parse_type("s", type_name)


@pytest.mark.parametrize(
    "column",
    [
        SignalColumn(signal="s", floats=FloatValues(values=[1])),
        SignalColumn(signal="s", rows=[5], floats=FloatValues(values=[1])),
        SignalColumn(signal="s", clear_rows=[0], strings=StringValues(values=["a"])),
    ],
)
def test_a_column_that_contradicts_itself_is_an_error(column):
    with pytest.raises(ValueError, match="column 's'"):
        column_values(column, 2)


def test_numbers_take_what_numpy_takes_but_no_text():
    assert numbers("f", (1, 2.5), np.float32).tolist() == [1, 2.5]
    assert numbers("f", range(2), np.float64).tolist() == [0, 1]
    assert numbers("f", np.array([1, None], object), np.float32)[0] == 1
    with pytest.raises(RequestError):
        numbers("f", np.array(["1", "2"]), np.float32)


def test_types_come_from_the_schema_once(client, fake):
    result = client.write_signals(
        "item", ["a", "b", "c"], {"price": [1, 2, 3], "brand": ["x", None, KEEP]}, batch_rows=2
    )
    client.write_signals("item", ["a"], {"stock": [1]})
    assert result.written_count == 3 and fake.count("DescribeSchema") == 1
    first, second, third = fake.requests("WriteSignals")
    assert [list(r.ids) for r in (first, second, third)] == [["a", "b"], ["c"], ["a"]]
    assert [c.signal for c in first.columns] == ["price", "brand"]
    assert list(first.columns[1].rows) == [0] and list(first.columns[1].clear_rows) == [1]
    assert [c.signal for c in second.columns] == ["price"], "a column that keeps every row is not sent"


def test_explicit_types_need_no_schema(client, fake):
    client.write_signals("item", ["a"], {"score": [1]}, types={"score": "i64"})
    assert fake.count("DescribeSchema") == 0 and fake.requests("WriteSignals")[0].columns[0].ints.values == [1]
    with pytest.raises(RequestError, match="types"):
        client.write_signals("item", ["a"], {"score": [1]}, types={"score": "nothing"})


def test_a_schema_that_changed_is_asked_for_again(client, fake):
    client.write_signals("item", ["a"], {"price": [1]})
    with pytest.raises(RequestError, match="fresh"):
        client.write_signals("item", ["a"], {"fresh": [1]})
    assert fake.count("DescribeSchema") == 2
    fake.schema.version = "ba9876543210"
    fake.schema.entities[0].signals.append(SignalDescription(name="fresh", type="i64"))
    assert client.write_signals("item", ["a"], {"fresh": [1]}).written_count == 1
    assert fake.count("DescribeSchema") == 3
    with pytest.raises(RequestError, match="entity"):
        client.write_signals("itme", ["a"], {"fresh": [1]})


def test_rejected_rows_count_from_the_first_id(client, fake):
    from rankd.v1.signals_pb2 import RejectedRow

    fake.reject = lambda request: [RejectedRow(row=0, field="f", description="d")] if "c" in request.ids else []
    result = client.write_signals("item", ["a", "b", "c"], {"price": [1, 2, 3]}, batch_rows=2)
    assert result.written_count == 2 and [r.row for r in result.rejected] == [2]
