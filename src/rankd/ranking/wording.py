"""How callers' values and known names are written into error messages: short, quoted, on one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from typing import Final

from rankd.errors import Reason, RequestError

SHOWN_CHARS: Final = 64
SHOWN_NAMES: Final = 20


def quoted(text: str) -> str:
    """`text` in quotes, controls escaped; a long one is cut and its length said."""
    if len(text) <= SHOWN_CHARS:
        return json.dumps(text, ensure_ascii=False)
    return f"{json.dumps(text[:SHOWN_CHARS], ensure_ascii=False)}… ({len(text)} characters)"


def one_of(names: Iterable[str]) -> str:
    """ "one of bm25, ctr", cut after SHOWN_NAMES."""
    known = sorted(names)
    if not known:
        return "none (none is declared)"
    more = f" … ({len(known)} in all)" if len(known) > SHOWN_NAMES else ""
    return f"one of {', '.join(known[:SHOWN_NAMES])}{more}"


def unknown_name(reason: Reason, field: str, names: Sequence[str], got: str) -> RequestError:
    """The error for a name that is none of `names`; says which one was perhaps meant."""
    near = difflib.get_close_matches(got[:SHOWN_CHARS], names, n=1) if len(got) <= 4 * SHOWN_CHARS else []
    guess = f"; did you mean {quoted(near[0])}?" if near else ""
    return RequestError.one(reason, field, one_of(names), quoted(got) + guess)


def check_bytes(text: str, field: str, limit: int) -> None:
    """RequestError if the UTF-8 of `text` is longer than `limit` bytes."""
    # At most four bytes a character: short texts need no encoding to know.
    if len(text) * 4 > limit and (size := len(text.encode())) > limit:
        raise RequestError.one(Reason.LIMIT_EXCEEDED, field, f"at most {limit} bytes", f"{size}")


def check_ids(ids: Sequence[str], field: str, max_bytes: int) -> None:
    """RequestError unless every id is 1 to `max_bytes` bytes long."""
    if not ids:
        return
    if not all(ids):
        at = next(i for i, text in enumerate(ids) if not text)
        raise RequestError.one(Reason.INVALID_FIELD, f"{field}[{at}]", "a non-empty id", '""')
    # One pass over lengths; only if some id might be too long are they looked at one by one.
    if max(map(len, ids)) * 4 > max_bytes:
        for i, text in enumerate(ids):
            check_bytes(text, f"{field}[{i}]", max_bytes)
