"""JSON (RFC 8259) of an untrusted model file as a document: see rankd.models.document.

Lists of numbers, which are nearly all of a model, are decoded at once and become float64 arrays; a number is
the nearest double of its decimals. NaN, Infinity and -Infinity are read in such lists, as XGBoost may write them.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rankd import limits
from rankd.errors import ModelFileError
from rankd.models.document import Budget, Place, below

_BLANK = re.compile(rb"[ \t\n\r]*")
_PLAIN_TEXT = re.compile(rb'"([^"\\\x00-\x1f\x80-\xff]*)"')
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBER_OR_NOT = re.compile(rb"[ \t\n\r]*(?:" + _NUMBER.pattern + rb"|NaN|-?Infinity)[ \t\n\r]*")
_WORDS = {b"true": True, b"false": False, b"null": None}
_MAX_NUMBER_BYTES = 400
_FLOATS = msgspec.json.Decoder(list[float])
_STRING = msgspec.json.Decoder(str)


def read_json(data: bytes, file: str) -> Place:
    """The document. ModelFileError with the path, or the offset, of what is not JSON or above rankd.limits."""
    reader = _Reader(data, Budget(file))
    document = reader.value("", 0)
    if reader.blank() != len(data):
        raise reader.fault("", "expected the end of the file")
    return Place(document, file)


class _Reader:
    def __init__(self, data: bytes, budget: Budget) -> None:
        self.data = data
        self.view = memoryview(data)
        self.budget = budget
        self.offset = 0

    def fault(self, path: str, message: str) -> ModelFileError:
        return self.budget.fault(path, f"{message} at byte {self.offset} of the JSON")

    def blank(self) -> int:
        """Skips blanks; the offset after them."""
        match = _BLANK.match(self.data, self.offset)
        self.offset = match.end() if match else self.offset
        return self.offset

    def peek(self) -> bytes:
        """The next byte that is not blank; b"" at the end."""
        at = self.blank()
        return self.data[at : at + 1]

    def value(self, path: str, depth: int) -> Any:
        first = self.peek()
        self.budget.take_value(path, depth)
        if first == b"{":
            return self.members(path, depth)
        if first == b"[":
            return self.entries(path, depth)
        if first == b'"':
            return self.text(path)
        for word, value in _WORDS.items():
            if self.data.startswith(word, self.offset):
                self.offset += len(word)
                return value
        return self.number(path)

    def members(self, path: str, depth: int) -> dict[str, Any]:
        self.offset += 1
        found: dict[str, Any] = {}
        if self.peek() == b"}":
            self.offset += 1
            return found
        while True:
            if self.peek() != b'"':
                raise self.fault(path, "expected a key in quotes")
            key = self.text(path)
            inner = below(path, key)
            if key in found:
                raise self.budget.fault(inner, "the key stands twice")
            if self.peek() != b":":
                raise self.fault(inner, "expected a colon")
            self.offset += 1
            found[key] = self.value(inner, depth + 1)
            if self.more(b"}", path):
                return found

    def entries(self, path: str, depth: int) -> list[Any] | NDArray[np.float64]:
        self.offset += 1
        first = self.peek()
        if first == b"]":
            self.offset += 1
            return []
        if first and first in b"-0123456789NI":
            return self.numbers(path)
        found: list[Any] = []
        while True:
            found.append(self.value(f"{path}[{len(found)}]", depth + 1))
            if self.more(b"]", path):
                return found

    def more(self, end: bytes, path: str) -> bool:
        """Takes the comma, False, or the end of the object or list, True."""
        following = self.peek()
        if following not in (b",", end) or not following:
            raise self.fault(path, f"expected a comma or {end.decode()}")
        self.offset += 1
        return following == end

    def numbers(self, path: str) -> NDArray[np.float64]:
        """A list whose first entry is a number: all others must be, too."""
        begin, end = self.offset, self.data.find(b"]", self.offset)
        if end < 0:
            raise self.fault(path, "expected a list that ends")
        self.budget.take_numbers(path, self.data.count(b",", begin, end) + 1)
        self.offset = end + 1
        if self.data.find(b"N", begin, end) >= 0 or self.data.find(b"I", begin, end) >= 0:
            words = self.data[begin:end].split(b",")
            for i, word in enumerate(words):
                if len(word) > _MAX_NUMBER_BYTES or not _NUMBER_OR_NOT.fullmatch(word):
                    raise self.budget.fault(f"{path}[{i}]", "expected a number")
            return np.fromiter(map(float, words), np.float64, len(words))
        text = bytearray(b"[")
        text += self.view[begin : end + 1]
        try:
            return np.array(_FLOATS.decode(text), np.float64)
        except msgspec.MsgspecError as error:
            raise self.budget.fault(path, f"expected a list of numbers: {error}") from None

    def text(self, path: str) -> str:
        plain = _PLAIN_TEXT.match(self.data, self.offset, self.offset + limits.MAX_MODEL_TEXT_BYTES)
        if plain:
            self.offset = plain.end()
            return plain[1].decode("ascii")
        match = _TEXT.match(self.data, self.offset, self.offset + limits.MAX_MODEL_TEXT_BYTES)
        if not match:
            raise self.fault(path, f"expected text of at most {limits.MAX_MODEL_TEXT_BYTES} bytes that ends")
        try:
            text = _STRING.decode(match[0])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self.fault(path, f"expected text: {error}") from None
        self.offset = match.end()
        return text

    def number(self, path: str) -> int | float:
        match = _NUMBER.match(self.data, self.offset, self.offset + _MAX_NUMBER_BYTES)
        if not match:
            raise self.fault(path, "expected a value")
        self.offset = match.end()
        return float(match[0]) if match[1] or match[2] else int(match[0])
