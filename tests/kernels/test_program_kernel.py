"""The customs desk of feature programs: hostile programs and columns that do not fit are refused."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankd.kernels.program import KINDS, OP_ARITIES, OP_CODES, ProgramKernel
from rankd.types.columns import (
    CategoryColumn,
    EmbeddingColumn,
    MapColumn,
    NumericColumn,
    SetColumn,
    TextColumn,
)

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))


def kernel_of(*ops: tuple, inputs=(), outputs=(0,), text=b"") -> ProgramKernel:
    """`ops`: a name or code, then arguments; the value of a constant."""
    args = np.zeros((len(ops), 4), np.int64)
    for row, op in zip(args, ops, strict=True):
        if op[0] != "constant":
            row[: len(op) - 1] = op[1:]
    codes = [OP_CODES[op[0]] if isinstance(op[0], str) else op[0] for op in ops]
    constants = [op[1] if op[0] == "constant" else 0 for op in ops]
    labels = [f"in{i}" for i in range(len(inputs))]
    return ProgramKernel(list(inputs), codes, args, constants, list(outputs), text, labels)


def one_input(kind: str, op: str, per_candidate: int = 1, dimension: int = 0) -> ProgramKernel:
    ops = [("load", 0)] if op == "load" else [("load", 0), (op, 0)]
    return kernel_of(*ops, inputs=[(KINDS[kind], per_candidate, dimension)], outputs=[len(ops) - 1])


NUMBER, TEXT = (KINDS["number"], 1, 0), (KINDS["text"], 1, 0)
BIG = 2**31 - 1

HOSTILE = [
    ({"ops": [("load", 0)]}, "argument out of range or of another kind in op 0"),
    ({"ops": [("load", -1)], "inputs": [NUMBER]}, "op 0"),
    ({"ops": [("load", BIG)], "inputs": [NUMBER]}, "op 0"),
    ({"ops": [("neg", 0)]}, "op 0"),
    ({"ops": [("constant", 1.0), ("neg", 1)]}, "op 1"),
    ({"ops": [("constant", 1.0), ("add", 0, 2), ("constant", 1.0)]}, "op 1"),
    ({"ops": [("constant", 1.0), ("add", 0, -1)]}, "op 1"),
    ({"ops": [("load", 0), ("neg", 0)], "inputs": [TEXT]}, "op 1"),
    ({"ops": [("load", 0), ("token_count", 0)], "inputs": [NUMBER]}, "op 1"),
    ({"ops": [("load", 0), ("lookup", 0, 0)], "inputs": [(KINDS["map"], 1, 0)]}, "op 1"),
    ({"ops": [(len(OP_CODES), 0)]}, "unknown code of op 0"),
    ({"ops": [(-1, 0)]}, "unknown code of op 0"),
    ({"ops": [("constant", 1.0)], "outputs": [1]}, "no numeric register for output 0"),
    ({"ops": [("constant", 1.0)], "outputs": [0, -1]}, "no numeric register for output 1"),
    ({"ops": [("load", 0)], "inputs": [TEXT], "outputs": [0]}, "no numeric register for output 0"),
    ({"ops": [("constant", 1.0)], "inputs": [(6, 1, 0)]}, "unknown kind or impossible dimension of input 0"),
    ({"ops": [("constant", 1.0)], "inputs": [NUMBER, (-1, 1, 0)]}, "input 1"),
    ({"ops": [("constant", 1.0)], "inputs": [(0, 2, 0)]}, "input 0"),
    ({"ops": [("constant", 1.0)], "inputs": [(0, 1, 3)]}, "input 0"),
    ({"ops": [("constant", 1.0)], "inputs": [(KINDS["embedding"], 1, 0)]}, "input 0"),
    ({"ops": [("text", 0, 4), ("token_count", 0)], "text": b"abc"}, "op 0"),
    ({"ops": [("text", 1, BIG), ("token_count", 0)], "text": b"abc"}, "op 0"),
    ({"ops": [("text", -1, 1), ("token_count", 0)], "text": b"abc"}, "op 0"),
    ({"ops": [("text", 4, 0), ("token_count", 0)], "text": b"abc"}, "op 0"),
    (
        {
            "ops": [("load", 0), ("load", 1), ("dot", 0, 1)],
            "inputs": [(KINDS["embedding"], 1, 3), (KINDS["embedding"], 0, 4)],
        },
        "op 2",
    ),
]


@pytest.mark.parametrize(("program", "message"), HOSTILE)
def test_hostile_programs_are_refused(program, message):
    with pytest.raises(ValueError, match=message):
        kernel_of(*program.pop("ops"), **program)


@settings(max_examples=300 * SCALE)
@given(st.data())
def test_random_programs_are_refused_or_run(data):
    """Whatever the numbers in it: no crash (the sanitized C tests look closer)."""
    small = st.integers(-1, 8)
    ops = data.draw(st.lists(st.tuples(st.integers(-1, len(OP_CODES)), small, small, small, small), max_size=8))
    inputs = [(kind, 1, 3 * (kind == KINDS["embedding"])) for kind in range(6)]
    outputs = data.draw(st.lists(small, max_size=3))
    try:
        kernel = kernel_of(*ops, inputs=inputs, outputs=outputs, text=b"ab c")
    except ValueError:
        return
    spans = np.zeros(2, np.int64), np.array([2, -1], np.int32)
    columns = [
        NumericColumn(np.ones(2)),
        CategoryColumn(np.zeros(2, np.int32)),
        TextColumn(np.frombuffer(b"a\xff", np.uint8), *spans),
        SetColumn(np.arange(2, dtype=np.int32), *spans),
        MapColumn(np.arange(2, dtype=np.int32), np.ones(2, np.float32), *spans),
        EmbeddingColumn(np.ones((2, 3), np.float32)),
    ]
    assert kernel.run(2, columns).shape == (len(outputs), 2)


@pytest.mark.parametrize("arity", sorted(set(OP_ARITIES.values())))
def test_arities_are_told(arity):
    assert 0 <= arity <= 4


def spans(rows, dtype=np.int32):
    return np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows], dtype)


CODES = np.arange(4, dtype=np.int32)
ONES = np.ones(4, np.float32)

MISFITS = [
    ("number", NumericColumn(np.ones(2)), "in0: expected 3 rows, got 2"),
    ("number", NumericColumn(np.ones(1)), "in0: expected 3 rows, got 1"),
    ("number", NumericColumn(np.ones(3, np.float32)), "in0: expected a C-contiguous, aligned array of float64"),
    ("number", NumericColumn(np.ones(3, np.int64)), "got int64"),
    ("number", NumericColumn(np.ones(3, ">f8")), "in0"),
    ("number", NumericColumn(np.ones(6)[::2]), "strides"),
    ("number", NumericColumn(np.ones((3, 1))), "in0"),
    ("number", NumericColumn([1.0, 2.0, 3.0]), "expected an ndarray, got list"),
    ("number", CategoryColumn(np.zeros(3, np.int32)), "in0: expected NumericColumn, got CategoryColumn"),
    ("number", None, "in0: expected NumericColumn, got NoneType"),
    ("category", CategoryColumn(np.zeros(3, np.int64)), "array of int32"),
    ("embedding", EmbeddingColumn(np.zeros((3, 5), np.float32)), "in0: expected dimension 4, got 5"),
    ("embedding", EmbeddingColumn(np.zeros((3, 8), np.float32)[:, ::2]), "in0"),
    ("embedding", EmbeddingColumn(np.zeros((2, 4), np.float32)), "expected 3 rows, got 2"),
    ("set", SetColumn(CODES, *spans([(0, 4), (0, 0), (1, 4)])), "in0: a row lies outside the column's data"),
    ("set", SetColumn(CODES, *spans([(0, 4), (0, 0), (-1, 1)])), "outside"),
    ("set", SetColumn(CODES, *spans([(0, 4), (0, 0), (0, -2)])), "outside"),
    ("set", SetColumn(CODES, *spans([(0, 4), (5, 0), (0, 1)])), "outside"),
    ("set", SetColumn(CODES, *spans([(0, 4), (2**63 - 1, 2**31 - 1), (0, 1)])), "outside"),
    ("set", SetColumn(CODES, spans([(0, 1)] * 3)[0], np.ones(2, np.int32)), "in0: 3 offsets but 2 lengths"),
    ("set", SetColumn(CODES, *spans([(0, 1)] * 3, np.int64)), "array of int32"),
    ("map", MapColumn(CODES, ONES[:3], *spans([(0, 1)] * 3)), "in0: 4 keys but 3 values"),
    ("text", TextColumn(np.zeros(4, np.int8), *spans([(0, 1)] * 3)), "array of uint8"),
    ("text", TextColumn(np.zeros(4, np.uint8), *spans([(0, 1), (-(2**63), 1), (0, -1)])), "outside"),
]


@pytest.mark.parametrize(("kind", "column", "message"), MISFITS)
def test_columns_that_do_not_fit_are_named(kind, column, message):
    op = {"number": "neg", "category": "neg", "text": "text_missing"}.get(kind, f"{kind}_missing")
    kernel = one_input(kind, op, dimension=4 if kind == "embedding" else 0)
    with pytest.raises(ValueError, match=message):
        kernel.run(3, [column])


def test_a_column_of_the_request_has_one_row():
    kernel = one_input("number", "neg", per_candidate=0)
    assert kernel.run(3, [NumericColumn(np.ones(1))]).tolist() == [[-1, -1, -1]]
    with pytest.raises(ValueError, match="in0: expected 1 rows, got 3"):
        kernel.run(3, [NumericColumn(np.ones(3))])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, [NumericColumn(np.ones(1))]), "length: expected at least 0, got -1"),
        ((1, []), "expected 1 columns, got 0"),
        ((1, [NumericColumn(np.ones(1))] * 2), "expected 1 columns, got 2"),
        ((1, [NumericColumn(np.ones(1))], np.int32), "dtype: expected float32 or float64, got int32"),
    ],
)
def test_bad_calls(arguments, message):
    with pytest.raises(ValueError, match=message):
        one_input("number", "neg").run(*arguments)


def test_no_candidates():
    for dtype in (np.float32, np.float64):
        rows = one_input("number", "list_rank").run(0, [NumericColumn(np.empty(0))], dtype)
        assert rows.shape == (1, 0)
        assert rows.dtype == dtype


def test_outputs_may_repeat_and_read_inputs_directly():
    kernel = kernel_of(("load", 0), ("constant", 7.0), inputs=[NUMBER], outputs=[0, 1, 0])
    assert kernel.run(2, [NumericColumn(np.array([1.0, 2.0]))]).tolist() == [[1, 2], [7, 7], [1, 2]]


def test_nan_is_canonical():
    odd = np.array([0xFFF8000000000001], np.uint64).view(np.float64)
    kernel = one_input("number", "load")
    assert kernel.run(1, [NumericColumn(odd)], np.float64).view(np.uint64).item() == 0x7FF8000000000000
    assert kernel.run(1, [NumericColumn(odd)], np.float32).view(np.uint32).item() == 0x7FC00000


def test_codes_that_are_no_codes_are_missing():
    """A number where a category belongs cannot come from an expression, but from a hostile program."""
    inputs = [(KINDS["set"], 0, 0), NUMBER]
    kernel = kernel_of(("load", 0), ("load", 1), ("contains", 0, 1), inputs=inputs, outputs=[2])
    columns = [
        SetColumn(CODES, *spans([(0, 4)])),
        NumericColumn(np.array([3.0, 1e300, -1.0, np.nan, np.inf, 2.0**31, 9.0])),
    ]
    np.testing.assert_array_equal(kernel.run(7, columns)[0], [1, np.nan, np.nan, np.nan, np.nan, np.nan, 0])


def test_threads_share_a_program():
    kernel = kernel_of(("load", 0), ("list_rank", 0), ("list_zscore", 1), ("add", 1, 2), inputs=[NUMBER], outputs=[3])
    columns = [[NumericColumn(np.random.default_rng(i).normal(size=2000))] for i in range(4)]
    expected = [kernel.run(2000, c) for c in columns]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(50) if not np.array_equal(kernel.run(2000, columns[i]), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
