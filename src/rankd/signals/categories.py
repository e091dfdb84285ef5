"""The process-wide dictionary of category strings.

One dictionary for all signals, so that item.category and a key of user.affinity have the
same code. It only grows: a code, once given, means the same string while the process lives.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from rankd.errors import StoreFullError
from rankd.limits import MAX_CATEGORIES


class CategoryTable:
    """Implements signals.store.Categories, with bulk methods for the store itself."""

    def __init__(self, max_categories: int = MAX_CATEGORIES) -> None:
        self._codes: dict[str, int] = {}
        self._texts: list[str] = []
        self._max_categories = max_categories
        self._lock = threading.Lock()  # expressions are compiled on a thread while the loop takes writes

    def __len__(self) -> int:
        return len(self._texts)

    def intern(self, text: str) -> int:
        """The string's code, given one if it has none. StoreFullError at the limit."""
        code = self._codes.get(text)
        if code is None:
            self.intern_all((text,))
            code = self._codes[text]
        return code

    def intern_all(self, texts: Iterable[str]) -> None:
        """Gives every string a code, or none of them (StoreFullError)."""
        with self._lock:
            new = self.unknown(texts)
            if len(self._texts) + len(new) > self._max_categories:
                raise StoreFullError(
                    f"expected at most {self._max_categories} distinct category strings over all signals, "
                    f"got {len(new)} more with {len(self._texts)} known"
                )
            for text in new:
                self._texts.append(text)
                self._codes[text] = len(self._texts) - 1

    def unknown(self, texts: Iterable[str]) -> list[str]:
        """The distinct strings without a code, in their order."""
        codes = self._codes
        return list(dict.fromkeys(text for text in texts if text not in codes))

    def code(self, text: str) -> int:
        """The string's code, or -1."""
        return self._codes.get(text, -1)

    def codes(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """Codes of many strings, int32 (len(texts),). KeyError if one has none."""
        return np.fromiter(map(self._codes.__getitem__, texts), np.int32, len(texts))

    def text(self, code: int) -> str:
        """The string of a code. IndexError if no string has it."""
        if code < 0:
            raise IndexError(code)
        return self._texts[code]

    def texts(self, codes: NDArray[np.int32]) -> list[str]:
        """The strings of many codes."""
        return [self._texts[code] for code in codes.tolist()]
