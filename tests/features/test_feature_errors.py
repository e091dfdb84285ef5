"""What people get wrong, and what they are told."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.feature_world import CONTEXT, SCHEMA, expressions

from rankd import limits
from rankd.errors import ExpressionError
from rankd.features import FUNCTIONS, compile_base, compile_features
from rankd.types.profile import ContextFeature, ContextKind, Feature, Profile

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
TINY = {"small": ContextFeature("small", ContextKind.EMBEDDING, 3)}

# Expression, column (0: the whole), part of the message.
BAD = [
    ("", 0, "expected an expression, got nothing"),
    ("  \n ", 0, "expected an expression, got nothing"),
    ("1 +", 3, "not an expression"),
    ("  (1", 3, "not an expression: '(' was never closed"),
    ("1; 2", 2, "not an expression"),
    ("x = 1", 3, "not an expression"),
    ("import os", 1, "not an expression"),
    ("1 \0", 3, "not an expression: it has a NUL character"),
    ("1 # one", 3, "an expression has no comments"),
    ("(1 # one\n + 2)", 4, "an expression has no comments"),
    ("item.price if 1", 1, "not an expression"),
    ("é + item.prise", 1, "the profile has no feature `é`"),
    ("'é' == item.brnd", 8, "the entity `item` has no signal `brnd`; did you mean `brand`?"),
    ("   item.prise", 4, "the entity `item` has no signal `prise`; did you mean `price`?"),
    ("\n1 +\n\titem.prise", 7, "did you mean `price`?"),
    ("items.price", 1, "unknown namespace `items`; did you mean `item`?"),
    ("brand.rating", 1, "signals of `brand` cannot be read here: the candidates are of the entity `item`"),
    ("column.bm52", 1, "the profile declares no column `bm52`; did you mean `bm25`?"),
    ("context.hours", 1, "no context feature `hours`; did you mean `hour`?"),
    ("request.time", 1, "a request has no `time`; there are: language, now, query, segments, surface"),
    ("candidate.score", 1, "a candidate has no `score`"),
    ("item", 1, "`item` is followed by a dot"),
    ("item.price.net", 1, "a name has one dot"),
    ("(1).real", 1, "a name has one dot"),
    ("othr + 1", 1, "the profile has no feature `othr`; did you mean `other`?"),
    ("lgo1p(1)", 1, "unknown function `lgo1p`; did you mean `log1p`?"),
    ("item.price()", 1, "only the functions"),
    ("__import__('os')", 1, "unknown function `__import__`"),
    ("[1, 2]", 1, "a list is not part of expressions"),
    ("1 + (1, 2)", 5, "a tuple is not part of expressions"),
    ("item.tags[0]", 1, "indexing with [ ] is not part of expressions"),
    ("lambda: 1", 1, "lambda is not part"),
    ("f'{1}'", 1, "an f-string is not part"),
    ("[x for x in y]", 1, "is not part of expressions"),
    ("(x := 1)", 2, "`:=` is not part"),
    ("1 + None", 5, "is_missing(x)"),
    ("2j", 1, "2j is not part"),
    ("b'a'", 1, "b'a' is not part"),
    ("...", 1, "Ellipsis is not part"),
    ("1 + 1e999", 5, "too large for a double"),
    ("1" + "0" * 400, 1, "too large for a double"),
    ("1 | 2", 1, "this operator is not part"),
    ("~1", 1, "`~` is not part"),
    ("'a' in item.tags", 1, "contains(set, category) tests membership"),
    ("1 is 2", 1, "this comparison is not part"),
    ("item.brand", 1, "a feature must be a number, not a category"),
    ("'a'", 1, "a feature must be a number, not a string"),
    ("item.released", 1, "a feature must be a number, not a timestamp; age(…) turns it into seconds"),
    ("item.vector", 1, "a feature must be a number, not an embedding"),
    ("1 + item.brand", 5, "a side of `+` must be a number, not a category"),
    ("item.title + 'a'", 1, "a side of `+` must be a number, not a text"),
    ("1 + 'a'", 5, "a side of `+` must be a number, not a string"),
    ("item.released + item.released", 1, "timestamps can be subtracted and compared, not `+`"),
    ("-item.brand", 2, "the argument of `-` must be a number"),
    ("not item.tags", 5, "the argument of `not` must be a number, not a set"),
    ("1 and item.tags", 7, "a side of `and` must be a number"),
    ("item.brand < item.colour", 1, "the sides of `<` must be a number or a timestamp, not a category"),
    ("item.brand == item.price", 15, "the sides of `==` must be of one type, not a category and a number"),
    ("item.title == 'a'", 1, "the sides of `==` must be a number or a timestamp or a category, not a text"),
    ("item.released == 3", 18, "must be of one type, not a timestamp and a number"),
    ("item.brand if 1 else 2", 22, "the values to choose from must be of one type"),
    ("where('a', 1, 2)", 7, "a condition must be a number"),
    ("log1p()", 1, "log1p(x) lacks `x`"),
    ("log1p(1, 2)", 10, "log1p(x) got 2 arguments"),
    ("log1p(*column.bm25)", 7, "`*` cannot be used in a call"),
    ("log1p(**column.bm25)", 7, "log1p(x) has no parameter `**`"),
    ("clip(1, lo=2, high=3)", 15, "clip(x, lo, hi) has no parameter `high`; did you mean `hi`?"),
    ("clip(1, hi=3, lo=2)", 9, "clip(x, lo, hi) lacks `lo`"),
    ("clip(1, x=3)", 9, "clip(x, lo, hi) got `x` twice"),
    ("min(1)", 1, "min(x, y, …) lacks `y`"),
    ("min(x=1, y=2)", 5, "min(x, y, …) has no parameter `x`"),
    ("age(item.price)", 5, "`ts` must be a timestamp, not a number"),
    ("decay(item.released)", 1, "decay(ts, half_life) lacks `half_life`"),
    ("decay(item.released, '7 days')", 22, 'a half-life is a constant above 0: seconds, or a string such as "90s"'),
    ("decay(item.released, 0)", 22, "a half-life is a constant above 0"),
    ("decay(item.released, '0d')", 22, "a half-life is a constant above 0"),
    ("decay(item.released, 0/0)", 22, "a half-life is a constant above 0"),
    ("decay(item.released, item.price)", 22, "a half-life is a constant above 0"),
    ("decay(item.released, half_life=item.brand)", 32, "a half-life is a constant above 0"),
    ("dot(item.vector, context.small)", 18, "dot needs embeddings of one dimension, not 11 and 3"),
    ("dot(item.vector, item.tags)", 18, "`b` of dot must be an embedding, not a set"),
    ("contains(item.tags, item.title)", 21, "`category` of contains must be a category, not a text"),
    ("lookup(user.affinity, item.brand, 'x')", 35, "`default` of lookup must be a number"),
    ("token_overlap(request.query, item.brand)", 30, "`text` of token_overlap must be a text, not a category"),
    ("list_mean(item.released)", 11, "`x` of list_mean must be a number"),
    ("token_count('\\ud800')", 13, "a string must be valid Unicode"),
    ("item.brand == '" + "é" * 129 + "'", 15, "a category has at most 256 bytes, this has 258"),
    ("coalesce(item.title, 'a')", 10, "the arguments of coalesce must be"),
    ("'\\d' == item.nope", 9, "has no signal `nope`"),
]


def profile_of(expression: str) -> Profile:
    features = (Feature("other", "1"), Feature("bad", expression))
    return Profile("shop", columns=("bm25",), context={**CONTEXT, **TINY}, features=features)


@pytest.mark.parametrize(("expression", "column", "message"), BAD)
def test_what_people_are_told(expression: str, column: int, message: str):
    with pytest.raises(ExpressionError) as caught:
        compile_features(profile_of(expression), SCHEMA, len)
    error = caught.value
    assert message in error.message
    assert error.column == column
    assert error.where == "profiles.shop.features.bad"
    assert error.expression == expression
    assert str(error).startswith("profiles.shop.features.bad: ")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 + " * 3000 + "1", "at most 10000 characters, this has 12001"),
        ("+".join("1" * 1001), "at most 2000 parts"),
        ("(" * 300 + "1" + ")" * 300, "nested"),
        ("-" * 150 + "1", "nested at most 100 deep"),
        ("-" * 9_999 + "1", "nested too deeply"),
        ("1**" * 150 + "1", "nested at most 100 deep"),
        ("abs(" * 110 + "1" + ")" * 110, "nested at most 100 deep"),
        ("9" * 5000, ""),
    ],
)
def test_bounds(expression: str, message: str):
    with pytest.raises(ExpressionError) as caught:
        compile_features(profile_of(expression), SCHEMA, len)
    assert message in caught.value.message


def test_a_long_sum_is_not_deep():
    program = compile_features(profile_of(" + ".join(["0.5 * item.price"] * 400)), SCHEMA, len)
    assert [str(i) for i in program.inputs] == ["item.price"]


def test_too_many_features():
    features = tuple(Feature(f"f{i}", "1") for i in range(limits.MAX_FEATURES + 1))
    with pytest.raises(ExpressionError, match="at most 4096 features, this has 4097"):
        compile_features(Profile("shop", features=features), SCHEMA, len)


def faults(text: str) -> list[ExpressionError]:
    """What compiling says, as a feature and as a base expression; anything but ExpressionError escapes."""
    found = []
    for compile_ in (compile_features, compile_base):
        try:
            compile_(Profile("shop", features=(Feature("bad", text),), base=text, context=CONTEXT), SCHEMA, len)
        except ExpressionError as error:
            found.append(error)
    return found


_SYMBOLS = "()[]{},.+-*/%<>=!~|&^@:;'\"\\#\n\t é\0"
_WORDS = (
    "item price brand request query 7d 0 1.5 ** // <= == if else and or not in is lambda f' item.tags item.released "
    "item.title half_life= None 1e400 0x _ await yield import"
)
_TOKENS = st.sampled_from([*FUNCTIONS, *_SYMBOLS, *_WORDS.split(), "\ud800", " ", " if ", " else "])


@example("#\ud800")
@settings(max_examples=500 * SCALE)
@given(st.one_of(st.text(max_size=60), st.lists(_TOKENS, max_size=25).map("".join)))
def test_text_of_any_kind_raises_nothing_else(text: str):
    assert all(0 <= error.column <= max(1, len(text)) for error in faults(text))


@settings(max_examples=200 * SCALE)
@given(expressions(), st.data())
def test_damaged_expressions_raise_nothing_else(text: str, data: st.DataObject):
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 4))
    damaged = text[:at] + data.draw(_TOKENS) + text[at + cut :]
    assert all(0 <= error.column <= len(damaged) for error in faults(damaged))
