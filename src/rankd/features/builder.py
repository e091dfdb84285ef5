"""Operations under construction: each distinct one once, constants computed now.

Must live here: sharing, folding, laying a program out. Must not: types and syntax.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankd.features.program import CompiledProgram, Input, ValueType
from rankd.kernels.program import KINDS, OP_CODES, ProgramKernel

_KINDS = {
    ValueType.NUMBER: KINDS["number"],
    ValueType.TIMESTAMP: KINDS["number"],
    ValueType.CATEGORY: KINDS["category"],
    ValueType.TEXT: KINDS["text"],
    ValueType.SET: KINDS["set"],
    ValueType.MAP: KINDS["map"],
    ValueType.EMBEDDING: KINDS["embedding"],
}

_ARITY = 4


@dataclass(frozen=True, slots=True)
class _Op:
    """`args` are registers; of load the position in `inputs`, of text the position in `texts`."""

    name: str
    args: tuple[int, ...]
    constant: float = 0.0


class Builder:
    """Collects the operations of one program. A register is the number of the operation that defines it."""

    def __init__(self) -> None:
        self._ops: list[_Op] = []
        self._registers: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self._inputs: list[Input] = []
        self._input_positions: dict[Input, int] = {}
        self._texts: list[bytes] = []
        self._text_positions: dict[bytes, int] = {}

    def load(self, source: Input) -> int:
        """The register of an input."""
        if source not in self._input_positions:
            self._input_positions[source] = len(self._inputs)
            self._inputs.append(source)
        return self._intern(_Op("load", (self._input_positions[source],)))

    def constant(self, value: float) -> int:
        """The register of a number known now."""
        return self._intern(_Op("constant", (), value))

    def text(self, normalised: bytes) -> int:
        """The register of a text known now."""
        if normalised not in self._text_positions:
            self._text_positions[normalised] = len(self._texts)
            self._texts.append(normalised)
        return self._intern(_Op("text", (self._text_positions[normalised],)))

    def op(self, name: str, *registers: int) -> int:
        """The register of an operation's result; one of constants alone is computed by the kernel now."""
        known = registers and all(self._ops[r].name == "constant" for r in registers)
        if known and not name.startswith("list_"):
            return self.constant(_compute(name, [self._ops[r].constant for r in registers]))
        return self._intern(_Op(name, registers))

    def constant_of(self, register: int) -> float | None:
        """A register's value if it is known now."""
        op = self._ops[register]
        return op.constant if op.name == "constant" else None

    def finish(self, names: Sequence[str], outputs: Sequence[int]) -> CompiledProgram:
        """The program of these outputs; operations and inputs that none of them needs are left out."""
        needed = set(outputs)
        for register in range(len(self._ops) - 1, -1, -1):
            op = self._ops[register]
            if register in needed and op.name not in ("load", "text"):
                needed.update(op.args)
        order = sorted(needed)
        moved = {register: position for position, register in enumerate(order)}
        inputs: list[Input] = []
        text = b""
        args = np.zeros((len(order), _ARITY), np.int32)
        for position, register in enumerate(order):
            op = self._ops[register]
            if op.name == "load":
                args[position, 0] = len(inputs)
                inputs.append(self._inputs[op.args[0]])
            elif op.name == "text":
                literal = self._texts[op.args[0]]
                args[position, :2] = len(text), len(literal)
                text += literal
            else:
                args[position, : len(op.args)] = [moved[r] for r in op.args]
        kernel = ProgramKernel(
            [(_KINDS[i.type], int(i.per_candidate), i.dimension) for i in inputs],
            [OP_CODES[self._ops[r].name] for r in order],
            args,
            [self._ops[r].constant for r in order],
            [moved[r] for r in outputs],
            text,
            [str(i) for i in inputs],
        )
        return CompiledProgram(tuple(inputs), tuple(names), kernel)

    def _intern(self, op: _Op) -> int:
        key = (op.name, op.args, struct.pack("<d", op.constant))
        if key not in self._registers:
            self._registers[key] = len(self._ops)
            self._ops.append(op)
        return self._registers[key]


def _compute(name: str, values: Sequence[float]) -> float:
    """An operation on constants, by the kernel itself, so that folding cannot change a result."""
    count = len(values)
    args = np.zeros((count + 1, _ARITY), np.int32)
    args[count, :count] = range(count)
    codes = [OP_CODES["constant"]] * count + [OP_CODES[name]]
    kernel = ProgramKernel([], codes, args, [*values, 0.0], [count], b"", [])
    return float(kernel.run(1, [], np.float64)[0, 0])
