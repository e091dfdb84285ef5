"""How text is normalised: once when it is stored or sent, never in the kernels.

Must live here: what both the store (item titles) and the request (the query) need
to agree on. Must not: tokenising, similarity; the kernels do that on these bytes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

QUERY: Final = "query"
"""The entity whose ids are query texts."""

_MOST_DIGITS = 5
"""Of the length of a part: ids have at most 65,536 bytes."""

_LENGTHS: Final = {str(length): length for length in range(1_000)}
"""Most lengths, as they are written."""

_WORDS = re.compile(r"[^\W_]+")


def normalise(text: str) -> bytes:
    """UTF-8 of the words of `text` joined by single blanks: NFKC, case-folded, letters and digits only.

    "Wi-Fi  Router (5GHz)" -> b"wi fi router 5ghz". Tokens are what stands between blanks.
    """
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold())).encode()


def query_key(text: str) -> str:
    """The id under which signals of the entity `query` are kept: trimmed, case-folded, single blanks."""
    return " ".join(text.casefold().split())


def composite_id(parts: Sequence[str]) -> str:
    """The id of a composite entity's row, of the ids it is joined of: each but the last after its length in bytes.

    ["iphone", "p1"] -> "6:iphone/p1". Different parts give different ids, whatever they contain.
    """
    return "".join(f"{len(part.encode())}:{part}/" for part in parts[:-1]) + parts[-1]


def composite_parts(id_: str, count: int) -> list[str] | None:
    """The inverse of `composite_id` of `count` parts; None if it is no such id."""
    if id_.isascii():
        return _parts(id_, count)
    try:  # a character for each byte, as lengths are in bytes
        parts = _parts(id_.encode().decode("latin-1"), count)
        return parts and [part.encode("latin-1").decode() for part in parts]
    except UnicodeError:
        return None


def unjoined_ids(ids: Sequence[str], count: int) -> list[int]:
    """The positions of those that are no composite ids of `count` parts."""
    return [
        position
        for position, text in enumerate(ids)
        if not (count == 2 and _is_pair(text)) and composite_parts(text, count) is None
    ]


def _is_pair(id_: str) -> bool:
    """Whether it is one of two parts; False also where that takes longer to find out."""
    digits, _, rest = id_.partition(":")
    length = _LENGTHS.get(digits)
    return length is not None and rest[length : length + 1] == "/" and id_.isascii()


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can encode it: not a lone surrogate, which no message can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parts(id_: str, count: int) -> list[str] | None:
    parts: list[str] = []
    rest = id_
    for _ in range(count - 1):
        digits, _, rest = rest.partition(":")
        if not digits.isdecimal() or len(digits) > _MOST_DIGITS or (digits[0] == "0" and digits != "0"):
            return None
        length = int(digits)
        if rest[length : length + 1] != "/":
            return None
        parts.append(rest[:length])
        rest = rest[length + 1 :]
    parts.append(rest)
    return parts


def stored_ids(entity: str, ids: Sequence[str], key: Sequence[str] = ()) -> Sequence[str]:
    """The ids under which rows of an entity are kept: as they are, but for texts of queries: those of `query`, and in
    ids that are joined of it (`key`: of what)."""
    if entity == QUERY:
        return [query_key(text) for text in ids]
    positions = [position for position, name in enumerate(key) if name == QUERY]
    if positions == [0]:
        return _with_leading_keys(ids, len(key))
    return [_with_query_keys(text, len(key), positions) for text in ids] if positions else ids


def _with_leading_keys(ids: Sequence[str], count: int) -> list[str]:
    """Where the query comes first. Ids of a batch often begin alike: a beginning in order is looked at once."""
    in_order: set[str] = set()
    found = []
    for text in ids:
        colon = max(text.find(":"), 0)
        length = _LENGTHS.get(text[:colon])
        begin = "" if length is None else text[: colon + length + 2]
        if begin not in in_order:
            stored = _with_query_keys(text, count, [0])
            if begin and stored is text and begin.isascii() and composite_parts(text, count) is not None:
                in_order.add(begin)
            text = stored
        found.append(text)
    return found


def _with_query_keys(id_: str, count: int, positions: Sequence[int]) -> str:
    parts = composite_parts(id_, count)
    if parts is None:
        return id_
    is_kept = True
    for position in positions:
        text = parts[position]
        parts[position] = query_key(text)
        is_kept = is_kept and parts[position] == text
    return id_ if is_kept else composite_id(parts)
