"""Page tokens: the rest of a frozen order, carried by the caller.

A token holds the positions of the candidates that have not been returned yet, so the next
page continues the first page's order whatever has been written to the store since, and the
server keeps nothing. It is bound to its request by a fingerprint of everything that must be
the same again. It is checked, not signed: all a forged one can do is reorder its own answer.

Layout: base64url without padding of header (struct _HEADER), then the positions as
little-endian uint32, compressed with zlib.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oracle.bind import lasting_codes
from oracle.request import CandidateList, RequestContext
from rankd.errors import Reason, RequestError
from rankd.ranking.plan import Plan
from rankd.signals.store import Categories
from rankd.types.columns import CategoryColumn, Column, SetColumn

_HEADER = struct.Struct("<BI8sdII")  # format, CRC-32 of what follows it, fingerprint, as_of_s, offset, rescored
_FORMAT = 1
_FINGERPRINT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Cursor:
    """A decoded token: `remaining` positions (total - offset,) in rank order, from rank offset + 1 on."""

    as_of_s: float
    offset: int
    rescored_count: int
    remaining: NDArray[np.intp]


def request_fingerprint(
    plan: Plan, categories: Categories, context: RequestContext, candidates: CandidateList
) -> bytes:
    """8 bytes over all that the pages of one list must share."""
    digest = hashlib.blake2b(digest_size=_FINGERPRINT_BYTES)
    for part in _parts(plan, categories, context, candidates):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _parts(plan: Plan, categories: Categories, context: RequestContext, candidates: CandidateList) -> Iterator[bytes]:
    yield plan.profile.name.encode()
    yield repr(context.as_of_s if context.as_of_given else None).encode()
    ids = (context.user_id, context.session_id)
    for text in (context.query_text, context.language, context.surface, *ids, *context.segments):
        yield text.encode()
    for name in sorted(context.context):
        yield name.encode()
        yield _column_bytes(context.context[name], categories)
    yield "\x00".join(candidates.ids).encode()
    yield b"" if candidates.base_scores is None else candidates.base_scores.tobytes()
    for name in sorted(candidates.columns):
        yield name.encode()
        yield candidates.columns[name].tobytes()


def _column_bytes(column: Column, categories: Categories) -> bytes:
    """A context feature's value. Codes are made lasting: a write between two pages may intern its strings."""
    if isinstance(column, CategoryColumn | SetColumn):
        return repr(lasting_codes(column.codes, categories)).encode()
    arrays = (getattr(column, name) for name in column.__slots__)
    return b"".join(array.tobytes() for array in arrays)


def encode(fingerprint: bytes, cursor: Cursor) -> str:
    """The token for what `cursor` has left."""
    body = zlib.compress(cursor.remaining.astype("<u4").tobytes(), 1)
    rest = _HEADER.pack(_FORMAT, 0, fingerprint, cursor.as_of_s, cursor.offset, cursor.rescored_count)[5:] + body
    raw = struct.pack("<BI", _FORMAT, zlib.crc32(rest)) + rest
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(token: str, fingerprint: bytes, total: int) -> Cursor:
    """The cursor of a token. RequestError (BAD_PAGE_TOKEN) unless it is whole and of this request."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        _, checksum, bound_to, as_of_s, offset, rescored_count = _HEADER.unpack_from(raw)
    except (binascii.Error, struct.error, ValueError):
        raise _bad("a token from next_page_token, unchanged", "something else") from None
    if raw[0] != _FORMAT or zlib.crc32(raw[5:]) != checksum:
        raise _bad("a token from next_page_token, unchanged", "a damaged one")
    if bound_to != fingerprint:
        raise _bad("a token of this request", "one of another profile, query, user, context or candidates")
    remaining = _positions(raw[_HEADER.size :], total)
    whole = remaining is not None and len(remaining) == total - offset
    if remaining is None or not whole or rescored_count > total or not math.isfinite(as_of_s):
        raise _bad("a token from next_page_token, unchanged", "one whose order does not fit the candidates")
    return Cursor(as_of_s, offset, rescored_count, remaining)


def _positions(body: bytes, total: int) -> NDArray[np.intp] | None:
    """Distinct positions below `total`, or None. Never inflates to more than they can be."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, 4 * total + 1)
    except zlib.error:
        return None
    if len(data) % 4 or len(data) > 4 * total or not inflater.eof:
        return None
    positions = np.frombuffer(data, "<u4").astype(np.intp)
    if len(positions) and (positions.max() >= total or len(np.unique(positions)) != len(positions)):
        return None
    return positions


def _bad(expected: str, got: str) -> RequestError:
    return RequestError.one(Reason.BAD_PAGE_TOKEN, "page_token", expected, got)
