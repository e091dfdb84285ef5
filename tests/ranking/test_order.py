"""Orders beside Python's own sort."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rankd.ranking.order import by_score, by_score_then_id

SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324]), st.floats(width=64)
)


def oracle_key(score: float) -> tuple[int, float]:
    return (1, 0.0) if math.isnan(score) else (0, -score)


@given(st.lists(st.tuples(SCORES, st.text(max_size=3)), max_size=40, unique_by=lambda pair: pair[1]))
def test_by_score_then_id_is_pythons_sort(pairs: list[tuple[float, str]]) -> None:
    scores = np.array([p[0] for p in pairs], np.float64)
    ids = [p[1] for p in pairs]
    expected = sorted(range(len(pairs)), key=lambda i: (oracle_key(scores[i]), ids[i]))
    assert by_score_then_id(scores, ids).tolist() == expected


@given(st.lists(SCORES, max_size=40))
def test_by_score_keeps_the_order_of_equals(scores: list[float]) -> None:
    expected = sorted(range(len(scores)), key=lambda i: oracle_key(scores[i]))
    assert by_score(np.array(scores, np.float64)).tolist() == expected


def test_id_order_is_utf8_byte_order() -> None:
    # A surrogate-pair character sorts above U+FFFF in UTF-8 and in code points, below it in UTF-16.
    ids = ["\U0001f600", "\uffee", "a"]
    assert by_score_then_id(np.zeros(3), ids).tolist() == sorted(range(3), key=lambda i: ids[i].encode())
