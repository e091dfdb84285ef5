"""The keeper: what it says while it loads."""

from __future__ import annotations

import logging

import pytest

from rankd.server.keeper import progress_log


def test_a_long_load_says_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now_s = 100.0
    report = progress_log(lambda: now_s)
    for step in range(1, 11):
        now_s += 0.7
        report(step * 1_000, 10_000)
    assert [record.getMessage() for record in caplog.records] == [
        "loading signals: 3,000 of 10,000 rows (30 %)",
        "loading signals: 6,000 of 10,000 rows (60 %)",
        "loading signals: 9,000 of 10,000 rows (90 %)",
    ]


def test_a_short_load_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    report = progress_log(lambda: 100.0)
    report(5_000, 10_000)
    report(10_000, 10_000)
    assert not caplog.records
