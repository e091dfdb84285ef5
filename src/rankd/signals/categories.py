"""The dictionary of category strings.

One dictionary for all signals, so that item.category and a key of user.affinity have the
same code. It only grows: a code, once given, means the same string while its tables live.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankd.errors import StoreFullError
from rankd.kernels.table import Table, TableFullError
from rankd.kernels.table_writer import TableWriter
from rankd.signals.tableset import disk_error
from rankd.types.text import is_utf8

Codes = NDArray[np.int32]


class CategoryTable:
    """Implements signals.store.Categories over a mapped dictionary, with bulk methods for the stores themselves.

    `intern`: gives every text a code, or none of them (StoreFullError), and returns the codes. Safe from several
    threads if it is.
    """

    def __init__(self, dictionary: Table, intern: Callable[[Sequence[str]], Codes]) -> None:
        self._dictionary = dictionary
        self._intern = intern

    def __len__(self) -> int:
        return len(self._dictionary)

    def intern(self, text: str) -> int:
        """The string's code, given one if it has none. StoreFullError at the limit."""
        code = self.code(text)
        return code if code >= 0 else int(self._intern([text])[0])

    def intern_all(self, texts: Sequence[str]) -> Codes:
        """The codes of all strings, given to those that have none; StoreFullError: none was given."""
        codes = self._dictionary.codes(texts)
        return codes if not len(codes) or codes.min() >= 0 else self._intern(texts)

    def unknown(self, texts: Sequence[str]) -> list[str]:
        """The distinct strings without a code, in their order; those that UTF-8 cannot encode have none."""
        try:
            codes = self._dictionary.codes(texts)
        except UnicodeEncodeError:
            return list(dict.fromkeys(text for text in texts if not is_utf8(text) or self.code(text) < 0))
        return list(dict.fromkeys(texts[i] for i in np.flatnonzero(codes < 0).tolist()))

    def code(self, text: str) -> int:
        """The string's code, or -1."""
        return int(self._dictionary.codes((text,))[0])

    def text(self, code: int) -> str:
        """The string of a code. IndexError if no string has it."""
        return self.texts(np.array([code], np.int32))[0]

    def texts(self, codes: Codes) -> list[str]:
        """The strings of many codes. IndexError if no string has one of them."""
        try:
            return self._dictionary.texts(codes)
        except ValueError as error:
            raise IndexError(str(error)) from error


def intern_in(dictionary: TableWriter, max_categories: int, directory: Path) -> Callable[[Sequence[str]], Codes]:
    """Interning into a dictionary of this process."""

    def intern(texts: Sequence[str]) -> Codes:
        try:
            try:
                return dictionary.intern(texts)
            except TableFullError:  # which counts a new text as often as it comes
                distinct = list(dict.fromkeys(texts))
                dictionary.intern(distinct)
                return dictionary.codes(texts)
        except TableFullError as error:
            new = int(np.count_nonzero(dictionary.codes(distinct) < 0))
            raise StoreFullError(
                f"expected at most {max_categories} distinct category strings over all signals, "
                f"got {new} more with {len(dictionary)} known"
            ) from error
        except OSError as error:
            raise disk_error(directory, error) from error

    return intern


class ScratchCategories:
    """Implements signals.store.Categories in memory, for compiling without a store."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def intern(self, text: str) -> int:
        return self._codes.setdefault(text, len(self._codes))

    def code(self, text: str) -> int:
        return self._codes.get(text, -1)

    def text(self, code: int) -> str:
        if not 0 <= code < len(self._codes):
            raise IndexError(code)
        return list(self._codes)[code]
