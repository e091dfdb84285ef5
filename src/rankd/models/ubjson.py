"""UBJSON (ubjson.org, draft 12) of an untrusted model file as a document: see rankd.models.document.

Read is what XGBoost writes and its reader takes: objects of keys without a count, lists that end with ], that
have a count (#), or a number type and a count ($, #), which become arrays without a copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd import limits
from rankd.errors import ModelFileError
from rankd.models.document import Budget, Place, below

_INTEGERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8"}
_NUMBERS = {marker: np.dtype(name) for marker, name in {**_INTEGERS, b"d": ">f4", b"D": ">f8"}.items()}
_SIZES = {marker: dtype.itemsize for marker, dtype in _NUMBERS.items()}
_WORDS = {b"T": True, b"F": False, b"Z": None}


def read_ubjson(data: bytes, file: str) -> Place:
    """The document. ModelFileError with the path and offset of what is damaged or above rankd.limits."""
    reader = _Reader(data, Budget(file))
    document = reader.value("", 0)
    if reader.offset != len(data):
        raise reader.fault("", "expected the end of the file")
    return Place(document, file)


class _Reader:
    def __init__(self, data: bytes, budget: Budget) -> None:
        self.data = data
        self.budget = budget
        self.offset = 0

    def fault(self, path: str, message: str) -> ModelFileError:
        return self.budget.fault(path, f"{message} at byte {self.offset} of the UBJSON")

    def peek(self) -> bytes:
        return self.data[self.offset : self.offset + 1]

    def marker(self) -> bytes:
        found = self.peek()
        self.offset += 1
        return found

    def need(self, count: int, path: str) -> int:
        """The offset of the next `count` bytes, which are taken. Faults if the file ends before."""
        begin = self.offset
        if count > len(self.data) - begin:
            raise self.fault(path, f"expected {count} bytes, the file ends")
        self.offset += count
        return begin

    def array(self, marker: bytes, count: int, path: str) -> NDArray[Any]:
        dtype = _NUMBERS[marker]
        begin = self.need(count * dtype.itemsize, path)
        return np.frombuffer(self.data, dtype, count, begin)

    def integer(self, marker: bytes, path: str) -> int:
        begin = self.need(_SIZES[marker], path)
        return int.from_bytes(self.data[begin : self.offset], "big", signed=marker != b"U")

    def length(self, path: str) -> int:
        """A count: an integer of any type, not negative."""
        marker = self.marker()
        if marker not in _INTEGERS:
            raise self.fault(path, "expected the type of a count")
        count = self.integer(marker, path)
        if count < 0:
            raise self.fault(path, f"expected a count, got {count}")
        return count

    def text(self, path: str) -> str:
        count = self.length(path)
        if count > limits.MAX_MODEL_TEXT_BYTES:
            raise self.fault(path, f"expected text of at most {limits.MAX_MODEL_TEXT_BYTES} bytes, got {count}")
        begin = self.need(count, path)
        try:
            return self.data[begin : self.offset].decode()
        except UnicodeDecodeError:
            raise self.fault(path, "expected text in UTF-8") from None

    def value(self, path: str, depth: int) -> Any:
        self.budget.take_value(path, depth)
        marker = self.marker()
        if marker == b"{":
            return self.members(path, depth)
        if marker == b"[":
            return self.entries(path, depth)
        if marker == b"S":
            return self.text(path)
        if marker in _INTEGERS:
            return self.integer(marker, path)
        if marker in _NUMBERS:
            return self.array(marker, 1, path)[0].item()
        if marker in _WORDS:
            return _WORDS[marker]
        self.offset -= 1
        raise self.fault(path, "expected a value" if marker else "expected a value, the file ends")

    def members(self, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.peek() != b"}":
            key = self.text(path)
            inner = below(path, key)
            if key in found:
                raise self.budget.fault(inner, "the key stands twice")
            found[key] = self.value(inner, depth + 1)
        self.offset += 1
        return found

    def entries(self, path: str, depth: int) -> list[Any] | NDArray[Any]:
        if self.peek() == b"$":
            self.offset += 1
            marker = self.marker()
            if marker not in _NUMBERS:
                raise self.fault(path, "expected a type of numbers")
            if self.marker() != b"#":
                raise self.fault(path, "expected a count after the type")
            count = self.length(path)
            self.budget.take_numbers(path, count)
            return self.array(marker, count, path)
        found: list[Any] = []
        if self.peek() == b"#":
            self.offset += 1
            count = self.length(path)
            if count > len(self.data) - self.offset:  # an entry is a byte at least
                raise self.fault(path, f"expected {count} entries, the file ends")
            for _ in range(count):
                found.append(self.value(f"{path}[{len(found)}]", depth + 1))
        else:
            while self.peek() != b"]":
                found.append(self.value(f"{path}[{len(found)}]", depth + 1))
            self.offset += 1
        if found and all(type(value) in (int, float) for value in found):
            return np.array(found, np.float64)
        return found
