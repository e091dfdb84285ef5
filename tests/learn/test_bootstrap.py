"""The bootstrap against theory: coverage of the mean, determinism, pairing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rankd.learn import bootstrap


def test_the_interval_is_about_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, size=400)
    interval = bootstrap.mean_interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)
    assert interval.count == 400


def test_coverage_is_near_the_level() -> None:
    generator = np.random.default_rng(2)
    hits = 0
    for trial in range(200):
        interval = bootstrap.mean_interval(generator.exponential(1.0, size=60), resamples=500, seed=trial)
        hits += interval.low <= 1.0 <= interval.high
    assert 175 <= hits <= 200  # 95 % nominal; skewed samples of 60 cover a little less


def test_the_seed_decides() -> None:
    values = np.random.default_rng(3).random(50)
    assert bootstrap.mean_interval(values, seed=7) == bootstrap.mean_interval(values, seed=7)
    assert bootstrap.mean_interval(values, seed=7) != bootstrap.mean_interval(values, seed=8)


def test_many_queries_are_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).random(1000)
    monkeypatch.setattr(bootstrap, "_CHUNK_VALUES", 7_000)
    interval = bootstrap.mean_interval(values, resamples=100)
    assert interval.low < values.mean() < interval.high


def test_pairing_removes_what_queries_have_in_common() -> None:
    generator = np.random.default_rng(5)
    first = generator.random(80)
    second = first + 0.01 + generator.normal(0, 0.001, size=80)
    difference = bootstrap.paired_difference(first, second)
    assert difference.interval.mean == pytest.approx(0.01, abs=0.001)
    assert difference.decided
    assert (difference.wins, difference.losses, difference.ties) == (80, 0, 0)
    spread = bootstrap.mean_interval(second)
    assert spread.high - spread.low > 20 * (difference.interval.high - difference.interval.low)


def test_no_change_is_not_decided() -> None:
    difference = bootstrap.paired_difference([0.5, 1.0], [0.5, 1.0])
    assert not difference.decided
    assert difference.ties == 2


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        bootstrap.mean_interval([0.5, float("nan")])
    with pytest.raises(ValueError, match="as many values"):
        bootstrap.paired_difference([0.5], [0.5, 1.0])
    with pytest.raises(ValueError, match="level"):
        bootstrap.mean_interval([0.5], level=1.0)
    assert math.isnan(bootstrap.mean_interval([]).mean)
