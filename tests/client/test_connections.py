"""Connections in turn, and what becomes of those that fail."""

from __future__ import annotations

import itertools

import pytest

from rankd.client.connections import FIRST_REST_S, MAX_REST_S, Connections


class World:
    """Channels are numbers."""

    def __init__(self, count: int) -> None:
        self.now_s = 10.0
        self.made = itertools.count()
        self.it: Connections[int] = Connections(count, lambda: (next(self.made), {}), lambda: self.now_s)

    def call(self, is_reached: bool | None = True) -> int:
        """Takes a connection and gives it back at once; its channel."""
        taken = self.it.take()
        self.it.done(taken, is_reached)
        return taken.channel


def test_they_are_opened_when_used_and_used_in_turn() -> None:
    world = World(3)
    assert [world.call() for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert next(world.made) == 3


def test_one_that_fails_rests_and_is_opened_anew() -> None:
    world = World(3)
    assert [world.call(), world.call(), world.call()] == [0, 1, 2]
    taken = world.it.take()
    assert (taken.channel, world.it.done(taken, False)) == (0, [])
    assert {world.call() for _ in range(10)} == {1, 2}
    world.now_s += FIRST_REST_S
    assert {world.call() for _ in range(6)} == {1, 2, 3}


def test_a_retired_channel_is_given_to_be_closed_when_its_calls_have_ended() -> None:
    world = World(1)
    long, failing = world.it.take(), world.it.take()
    assert world.it.done(failing, False) == []
    world.now_s += FIRST_REST_S
    renewed = world.it.take()
    assert (long.channel, renewed.channel) == (0, 1)
    assert world.it.done(renewed, True) == []
    assert world.it.done(long, True) == [0]
    assert world.call() == 1


def test_it_is_opened_anew_once_however_many_ask() -> None:
    world = World(1)
    world.call(False)
    world.now_s += FIRST_REST_S
    assert {world.it.take().channel for _ in range(20)} == {1}


def test_calls_that_fail_together_are_one_failure_and_rests_grow() -> None:
    world = World(1)
    rest_s = FIRST_REST_S
    for channel in range(8):
        taken = [world.it.take() for _ in range(50)]
        assert {one.channel for one in taken} == {channel}
        for one in taken:
            world.it.done(one, False)
        world.now_s += rest_s * 0.99
        assert world.it.take().channel == channel, "it still rests, and is all there is"
        world.now_s += rest_s * 0.02
        rest_s = min(MAX_REST_S, 2 * rest_s)
    world.call(True)
    world.call(False)
    world.now_s += FIRST_REST_S
    assert world.call() == 9, "after a success the first rest is short again"


def test_an_answer_ends_the_rest() -> None:
    world = World(2)
    long = world.it.take()
    failing = world.it.take()
    assert (long.channel, failing.channel) == (0, 1)
    also = world.it.take()
    world.it.done(long, False)
    world.it.done(also, True)
    assert {world.call() for _ in range(4)} == {0, 1}


def test_another_than_the_one_that_failed() -> None:
    world = World(3)
    for _ in range(20):
        first = world.it.take()
        second = world.it.take(after=first)
        assert second.slot != first.slot
        world.it.done(first, True)
        world.it.done(second, True)
    alone = World(1)
    first = alone.it.take()
    assert alone.it.take(after=first) is first


def test_where_all_rest_the_one_nearest_its_end_is_taken() -> None:
    world = World(2)
    world.call(False)
    world.now_s += FIRST_REST_S / 2
    world.call(False)
    assert [world.call(None) for _ in range(3)] == [0, 0, 0]


def test_a_call_that_is_given_up_says_nothing() -> None:
    world = World(1)
    world.call(None)
    world.now_s += 100
    assert world.call(False) == 0
    world.call(None)
    world.now_s += FIRST_REST_S
    assert world.call() == 1


def test_closing_gives_all_channels_and_ends_the_taking() -> None:
    world = World(2)
    held = world.it.take()
    world.it.done(world.it.take(), True)
    extra = world.it.take()
    world.it.done(extra, False)
    world.now_s += FIRST_REST_S
    again = world.it.take()
    assert sorted(world.it.close()) == sorted({held.channel, extra.channel, again.channel, 1})
    assert world.it.done(held, True) == []
    with pytest.raises(ValueError, match="closed"):
        world.it.take()
