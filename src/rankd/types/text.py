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
    parts: list[str] = []
    rest = id_.encode()
    try:
        for _ in range(count - 1):
            digits, colon, rest = rest.partition(b":")
            length = int(digits)
            if not colon or not digits.isdigit() or rest[length : length + 1] != b"/":
                return None
            parts.append(rest[:length].decode())
            rest = rest[length + 1 :]
        return [*parts, rest.decode()]
    except ValueError:
        return None


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can encode it: not a lone surrogate, which no message can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def stored_ids(entity: str, ids: Sequence[str]) -> Sequence[str]:
    """The ids under which rows of an entity are kept: as they are, but for those of `query`."""
    return [query_key(text) for text in ids] if entity == QUERY else ids
