"""Page tokens: round trips, and everything that is not a token."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankd.errors import Reason, RequestError
from rankd.ranking import pages

PRINT = b"12345678"


def cursor(remaining: list[int], offset: int, rescored: int = 0) -> pages.Cursor:
    return pages.Cursor(1234.5, offset, rescored, np.array(remaining, np.intp))


@given(st.permutations(list(range(12))), st.integers(0, 11), st.integers(0, 12))
def test_round_trip(order: list[int], offset: int, rescored: int) -> None:
    back = pages.decode(pages.encode(PRINT, cursor(order[offset:], offset, rescored)), PRINT, 12)
    assert (back.as_of_s, back.offset, back.rescored_count) == (1234.5, offset, rescored)
    assert back.remaining.tolist() == order[offset:]


def refused(token: str, total: int = 5) -> RequestError:
    with pytest.raises(RequestError) as caught:
        pages.decode(token, PRINT, total)
    assert caught.value.reason is Reason.BAD_PAGE_TOKEN
    assert caught.value.violations[0].field == "page_token"
    return caught.value


@given(st.text(max_size=60))
def test_any_text_is_refused(text: str) -> None:
    refused(text)


TOKEN = pages.encode(PRINT, cursor([4, 2, 0], 2))


@pytest.mark.parametrize("cut", range(len(TOKEN)))
def test_a_cut_token_is_refused(cut: int) -> None:
    refused(TOKEN[:cut])


@pytest.mark.parametrize("position", range(len(TOKEN) - 1))
def test_a_changed_token_is_refused(position: int) -> None:
    # The last character also carries padding bits, which mean nothing; every other one counts.
    other = "A" if TOKEN[position] != "A" else "B"
    refused(TOKEN[:position] + other + TOKEN[position + 1 :])


def forged(remaining: list[int], offset: int) -> str:
    return pages.encode(PRINT, cursor(remaining, offset))


@pytest.mark.parametrize(
    ("remaining", "offset"),
    [([5, 0, 1], 2), ([0, 0, 1], 2), ([0, 1], 2), ([0, 1, 2, 3], 2), ([], 2)],
    ids=["out of range", "twice", "too few", "too many", "none"],
)
def test_an_order_that_does_not_fit_is_refused(remaining: list[int], offset: int) -> None:
    assert "does not fit" in str(refused(forged(remaining, offset)))


def test_a_bomb_is_not_inflated() -> None:
    head = base64.urlsafe_b64decode(TOKEN + "=" * (-len(TOKEN) % 4))[: pages._HEADER.size]
    rest = head[5:] + zlib.compress(bytes(50_000_000))
    raw = head[:1] + zlib.crc32(rest).to_bytes(4, "little") + rest
    refused(base64.urlsafe_b64encode(raw).decode())


def test_non_finite_time_is_refused() -> None:
    refused(pages.encode(PRINT, pages.Cursor(float("nan"), 2, 0, np.array([0, 1, 2]))))
