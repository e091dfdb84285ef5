"""Text features at lengths and scripts that random expressions seldom reach."""

from __future__ import annotations

import random

import numpy as np
import pytest
from support.feature_oracle import SCALAR
from support.feature_world import SCHEMA, encode, profile_of

from rankd.features import ValueType, compile_features

ALPHABETS = ("ab", "abc ", "aé日𝒳 ", "".join(map(chr, range(0x400, 0x600))))
LENGTHS = (0, 1, 2, 3, 62, 63, 64, 65, 127, 128, 129, 191, 192, 193, 255, 256, 257, 300)
FUNCTIONS = ("token_overlap", "prefix_match", "trigram_similarity", "edit_similarity")


def texts(seed: int, count: int) -> list[str | None]:
    rng = random.Random(seed)
    alphabet = ALPHABETS[seed % len(ALPHABETS)]
    made = [" ".join("".join(rng.choices(alphabet, k=rng.choice(LENGTHS))).split()) for _ in range(count)]
    mutated = [m[: len(m) // 2] + rng.choice(alphabet).strip() + m[len(m) // 2 + 1 :] for m in made]
    return [*made, *mutated, None, "", made[0]]


def compute(expression: str, request: str | None, candidates: list[str | None]) -> list[float]:
    program = compile_features(profile_of({"f": expression}), SCHEMA, len)
    rows = {"request.query": [request], "item.title": candidates, "context.note": [candidates[0]]}
    columns = [encode(ValueType.TEXT, rows[str(i)], len) for i in program.inputs]
    return program.run(len(candidates), columns, np.float64)[0].tolist()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("function", FUNCTIONS)
def test_long_texts(function: str, seed: int):
    candidates = texts(seed, 6)
    query = random.Random(~seed).choice(candidates)
    there = compute(f"{function}(request.query, item.title)", query, candidates)
    np.testing.assert_array_equal(there, [SCALAR[function](query, c) for c in candidates])
    back = compute(f"{function}(item.title, request.query)", query, candidates)
    np.testing.assert_array_equal(back, [SCALAR[function](c, query) for c in candidates])
    itself = compute(f"{function}(item.title, item.title)", query, candidates)
    np.testing.assert_array_equal(itself, [SCALAR[function](c, c) for c in candidates])
    request = compute(f"{function}(request.query, context.note)", query, candidates)
    np.testing.assert_array_equal(request, [SCALAR[function](query, candidates[0])] * len(candidates))


KNOWN = [
    ("trigram_similarity", "word", "two words", 4 / 11),  # as PostgreSQL documents pg_trgm: 0.363636
    ("trigram_similarity", "", "", np.nan),
    ("trigram_similarity", "", "a", 0),
    ("edit_similarity", "kitten", "sitting", 1 - 3 / 7),
    ("edit_similarity", "", "", np.nan),
    ("edit_similarity", "", "abc", 0),
    ("edit_similarity", "日本", "日光", 0.5),
    ("token_overlap", "red red shoe", "a red dress", 0.5),
    ("token_overlap", "", "red", np.nan),
    ("token_overlap", "red", "", 0),
    ("token_overlap", "red", "reddish", 0),
    ("prefix_match", "red sh", "shoes in red", 1),
    ("prefix_match", "re sh", "shoes in red", 0),
    ("prefix_match", "sh", "a shoe", 1),
    ("prefix_match", "shoe", "a sh", 0),
    ("prefix_match", "", "a", np.nan),
    ("token_overlap", None, "red", np.nan),
    ("edit_similarity", "red", None, np.nan),
]


@pytest.mark.parametrize(("function", "query", "text", "expected"), KNOWN)
def test_known_values(function: str, query: str | None, text: str | None, expected: float):
    np.testing.assert_array_equal(compute(f"{function}(request.query, item.title)", query, [text]), [expected])


def test_literals_are_normalised():
    assert compute("token_overlap('Wi-Fi  ROUTER', item.title)", None, ["router wi", "fi"]) == [2 / 3, 1 / 3]


def test_one_token_tables_do_not_leak_between_candidates():
    """Marks of an earlier candidate, or of one that was missing, must not count for the next."""
    candidates = ["red shoe", None, "red", "", "shoe", "red shoe"]
    expected = [1, np.nan, 0.5, 0, 0.5, 1]
    np.testing.assert_array_equal(compute("token_overlap(request.query, item.title)", "red shoe", candidates), expected)
