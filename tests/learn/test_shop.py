"""The simulated shop: the same for the same seed, and honest about what it knows."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from rankd.learn.shop import behaviour, logs, workspace
from rankd.learn.shop.catalogue import ACCESSORIES, make_catalogue
from rankd.learn.shop.people import make_queries, make_users
from rankd.learn.shop.retrieval import Bm25


@pytest.fixture(scope="module")
def shop() -> behaviour.Shop:
    return behaviour.Shop(make_catalogue(600, 3), make_users(60, 3), make_queries(40, 3))


def test_the_seed_decides(shop: behaviour.Shop) -> None:
    again = behaviour.Shop(make_catalogue(600, 3), make_users(60, 3), make_queries(40, 3))
    assert again.catalogue.titles == shop.catalogue.titles
    sessions = [one.sessions(50, range(20), 0.1, 3) for one in (shop, again)]
    for first, second in zip(*sessions, strict=True):
        assert (first.user, first.query, first.shuffled) == (second.user, second.query, second.shuffled)
        np.testing.assert_array_equal(first.clicked, second.clicked)
    assert logs.item_rows(shop, sessions[0]) == logs.item_rows(again, sessions[1])
    assert make_catalogue(600, 4).titles != shop.catalogue.titles


def test_bm25_is_bm25() -> None:
    texts = ["red tent", "blue tent tent", "red shoes", "stove for a tent"]
    documents = [text.split() for text in texts]
    mean = sum(map(len, documents)) / len(documents)

    def worked(query: str, document: list[str]) -> float:
        total = 0.0
        for word in query.split():
            holding = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            count = Counter(document)[word]
            total += idf * count / (count + 1.2 * (1 - 0.75 + 0.75 * len(document) / mean))
        return total

    numbers, scores = Bm25(texts).search("Red tent", 10)
    expected = {number: worked("red tent", document) for number, document in enumerate(documents)}
    assert numbers.tolist() == sorted(expected, key=lambda number: -expected[number])
    np.testing.assert_allclose(scores, [expected[number] for number in numbers.tolist()], rtol=1e-12)
    assert len(Bm25(texts).search("canoe", 10)[0]) == 0
    assert len(Bm25(texts).search("tent", 2)[0]) == 2


def test_position_bias_is_found_in_shuffled_traffic(shop: behaviour.Shop) -> None:
    bias = logs.position_bias(shop.sessions(6_000, range(40), 0.5, 3))
    true = (np.arange(behaviour.SHOWN) + 1.0) ** -0.7
    np.testing.assert_allclose(bias, true, rtol=0.25)


def test_grades_are_graded_and_accessories_are_not_wanted(shop: behaviour.Shop) -> None:
    products = shop.retrieved[0][0]
    grades = shop.grades(0, 0, products)
    assert set(grades.tolist()) <= {0, 1, 2, 3, 4}
    every = np.arange(len(shop.catalogue))
    assert shop.catalogue.accessory.any()
    assert len(ACCESSORIES) > 5
    assert not shop.grades(0, 0, every)[shop.catalogue.accessory].any()
    assert any(not np.array_equal(shop.grades(0, 0, every), shop.grades(user, 0, every)) for user in range(1, 5))


def test_training_lists_hold_clicks_and_nothing_of_the_truth(shop: behaviour.Shop) -> None:
    sessions = shop.sessions(200, range(20), 1.0, 3)
    lists = workspace.clicked_lists(shop, sessions)
    assert 0 < len(lists) <= len(sessions)
    held_out = {query.text for query in shop.queries[20:]}
    for judged in lists:
        assert judged.query not in held_out
        shown = ~np.isnan(judged.grades)
        assert shown.sum() <= behaviour.SHOWN
        assert shown[: shown.sum()].all()
        assert set(judged.grades[shown].tolist()) == {0.0, 1.0}
        assert judged.positions is not None
        assert judged.positions[0] == 1


def test_signals_leave_out_what_is_not_known(shop: behaviour.Shop) -> None:
    items = logs.item_rows(shop, shop.sessions(100, range(5), 0.5, 3))
    assert any("appeal" not in row for row in items)
    assert all("rating" in row or row["reviews"] == 0 for row in items)
    users = logs.user_rows(shop, [])
    assert users == []
