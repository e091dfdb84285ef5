"""A document from an untrusted file, JSON or UBJSON alike, and the typed questions an importer asks it.

Must live here: the path of every value, its type, count and range. Must not: syntax, which the readers
(json_document, ubjson) check, and what the values mean.

A document is objects (dict), lists, text, numbers, bool and None; a list of numbers is a float64 array
or, where the file says so, an array of another type.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd import limits
from rankd.errors import ModelFileError

_MIDWAY = 7.038531e-26
"""The one float32 of all whose shortest decimals are a double right between two float32, and its bits."""
_MIDWAY_BITS = np.array([0x15AE43FD], np.uint32).view(np.float32)[0]
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)


@dataclass(slots=True)
class Budget:
    """What a document may still hold: a small file must not become a large one in memory."""

    file: str
    values: int = field(default_factory=lambda: limits.MAX_MODEL_VALUES)
    numbers: int = field(default_factory=lambda: limits.MAX_MODEL_NUMBERS)

    def take_value(self, path: str, depth: int) -> None:
        """One object, list, text or single number, `depth` levels inside the document."""
        self.values -= 1
        if self.values < 0:
            raise self.fault(path, f"expected at most {limits.MAX_MODEL_VALUES} values")
        if depth > limits.MAX_MODEL_DEPTH:
            raise self.fault(path, f"expected at most {limits.MAX_MODEL_DEPTH} levels")

    def take_numbers(self, path: str, count: int) -> None:
        """A list of `count` numbers."""
        self.numbers -= count
        if count > limits.MAX_MODEL_ARRAY or self.numbers < 0:
            most = f"{limits.MAX_MODEL_ARRAY} in a list and {limits.MAX_MODEL_NUMBERS} in all"
            raise self.fault(path, f"expected at most {most} numbers, got {count} more")

    def fault(self, path: str, message: str) -> ModelFileError:
        """The error of the value at `path`; "" is the whole document."""
        return ModelFileError(message, f"{self.file}:{path}" if path else self.file)


@dataclass(frozen=True, slots=True)
class Place:
    """A value of a document and the path to it, such as learner.gradient_booster.model.trees[3]."""

    value: Any
    file: str
    path: str = ""

    def fault(self, message: str) -> ModelFileError:
        """An error that names this place."""
        return ModelFileError(message, f"{self.file}:{self.path}" if self.path else self.file)

    def at(self, index: int) -> Place:
        """The place of a list's entry, for complaints."""
        return Place(None, self.file, f"{self.path}[{index}]")

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def __getitem__(self, key: str) -> Place:
        """The value of an object's key."""
        path = f"{self.path}.{key}" if self.path else key
        if not isinstance(self.value, dict):
            raise self.fault(f"expected an object, got {_kind(self.value)}")
        if key not in self.value:
            raise ModelFileError("it is missing", f"{self.file}:{path}")
        return Place(self.value[key], self.file, path)

    def keys_in(self, known: Collection[str]) -> None:
        """Refuses an object with a key that is not known."""
        if not isinstance(self.value, dict):
            raise self.fault(f"expected an object, got {_kind(self.value)}")
        for key in self.value:
            if key not in known:
                raise self.fault(f"the key {key[: limits.MAX_NAME_CHARS]!a} is not known")

    def items(self) -> list[Place]:
        """The entries of a list that is not one of numbers."""
        if isinstance(self.value, np.ndarray) and self.value.size == 0:
            return []
        if not isinstance(self.value, list):
            raise self.fault(f"expected a list, got {_kind(self.value)}")
        return [Place(value, self.file, f"{self.path}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.fault(f"expected text, got {_kind(self.value)}")
        return self.value

    def integer(self, low: int, high: int) -> int:
        """An integer, as a number or, as XGBoost writes its parameters, as text."""
        value = self.value
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            got = ascii(self.value)[:40] if isinstance(self.value, str | int) else _kind(self.value)
            raise self.fault(f"expected an integer from {low} to {high}, got {got}")
        return value

    def numbers(self, count: int | None = None) -> NDArray[Any]:
        """A list of numbers, `count` of them unless that is None; of the type the file has them in."""
        value = self.value
        if isinstance(value, list) and not value:
            value = np.zeros(0)
        if not isinstance(value, np.ndarray):
            raise self.fault(f"expected a list of numbers, got {_kind(self.value)}")
        if count is not None and len(value) != count:
            raise self.fault(f"expected {count} numbers, got {len(value)}")
        return value

    def floats(self, count: int | None = None) -> NDArray[np.float32]:
        """A list of numbers, each as the nearest float32."""
        return nearest_float32(self.numbers(count))

    def integers(
        self, count: int | None, low: int, high: int, only: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """A list of integers from `low` to `high`. Of an entry where `only` is False nothing is asked; it becomes 0."""
        value = self.numbers(count)
        if only is not None:
            value = np.where(only, value, 0)
        bad = ~((value >= low) & (value <= high))
        if value.dtype.kind == "f":
            bad |= value != np.floor(value)
        if bad.any():
            i = int(bad.argmax())
            raise self.at(i).fault(f"expected an integer from {low} to {high}, got {value[i]:.17g}")
        return value.astype(np.int64)

    def flags(self, count: int) -> NDArray[np.bool_]:
        """A list of `count` booleans, or of zeros and ones."""
        if isinstance(self.value, list) and self.value and all(type(v) is bool for v in self.value):
            return Place(np.array(self.value, np.uint8), self.file, self.path).flags(count)
        return self.integers(count, 0, 1).astype(np.bool_)


def below(path: str, key: str) -> str:
    """The path of an object's key, which may be anything at all."""
    plain = key.isidentifier() and len(key) <= limits.MAX_NAME_CHARS
    short = key if plain else ascii(key[: limits.MAX_NAME_CHARS])
    return f"{path}.{short}" if path else short


def nearest_float32(value: NDArray[Any]) -> NDArray[np.float32]:
    """Decimals that were read as doubles, as float32: for the shortest decimals of every float32 that number itself.

    Rounded twice, one number of all 2^32 would become its neighbour (tried for each): it is set right.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = value.astype(np.float32)
    if value.dtype == np.float64:
        midway = np.abs(value) == _MIDWAY
        rounded[midway] = np.copysign(_MIDWAY_BITS, value[midway])
    return rounded


def _kind(value: Any) -> str:
    """What a value is, for a complaint."""
    if isinstance(value, np.ndarray):
        return f"{len(value)} numbers"
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
