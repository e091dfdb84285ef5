"""Sending and looking in place: what was sent, what came, and what is left to whoever watches the socket."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from rankd.kernels.exchange import exchange


@pytest.fixture
def pair():
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_what_is_there_comes_back(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    there.sendall(b"pong")
    assert exchange(here.fileno(), b"ping", 0) == (4, b"pong")
    assert there.recv(10) == b"ping"


def test_an_answer_is_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    answering = threading.Thread(target=lambda: there.sendall(there.recv(10)[::-1]))
    answering.start()
    received = b""
    sent, received = exchange(here.fileno(), b"abc", 1_000_000)
    answering.join()
    assert sent == 3
    assert received in (b"cba", b"")  # a busy machine may not have answered within a millisecond
    assert received or here.recv(10) == b"cba"


def test_nothing_comes_and_nothing_is_lost(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    assert exchange(here.fileno(), b"ping", 1_000) == (4, b"")
    there.sendall(b"late")
    assert here.recv(10) == b"late"
    assert exchange(here.fileno(), b"", 0) == (0, b"")


def test_a_full_socket_takes_a_part(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    there.sendall(b"not looked at")
    data = os.urandom(8 << 20)
    sent, received = exchange(here.fileno(), data, 1_000)
    assert 0 < sent < len(data)
    assert received == b""
    taken = b""
    while len(taken) < sent:
        taken += there.recv(1 << 20)
    assert taken == data[:sent]


def test_long_answers_come_in_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    data = os.urandom(40_000)
    there.sendall(data)
    _, first = exchange(here.fileno(), b"", 0)
    assert first == data[: len(first)]
    assert 0 < len(first) <= 16_384
    assert here.recv(1 << 20) == data[len(first) :]


def test_a_peer_that_has_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    there.close()
    assert exchange(here.fileno(), b"ping", 1_000) == (0, b"")  # and no SIGPIPE
    assert exchange(here.fileno(), b"", 1_000) == (0, b"")
    assert exchange(-1, b"ping", 1_000) == (0, b"")


@pytest.mark.parametrize("span", [-1, 1_000_001])
def test_spans_that_are_none(pair: tuple[socket.socket, socket.socket], span: int) -> None:
    with pytest.raises(ValueError, match=r"spin_ns: expected 0 to 1,000,000, got"):
        exchange(pair[0].fileno(), b"", span)
