"""Customs desk of csrc/rk_exchange.h."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t


cdef extern from "rk_exchange.h" nogil:
    ctypedef struct rk_exchanged:
        size_t sent
        size_t received

    rk_exchanged rk_exchange(int socket, const void *out, size_t length, void *received, size_t room, int64_t spin_ns)


cdef enum:
    ROOM = 16384


def exchange(int socket, const unsigned char[::1] data not None, int64_t spin_ns):
    cdef char room[ROOM]
    cdef rk_exchanged done
    cdef const void *out = NULL
    cdef size_t length = data.shape[0]
    if not 0 <= spin_ns <= 1_000_000:
        raise ValueError(f"spin_ns: expected 0 to 1,000,000, got {spin_ns}")
    if length:
        out = &data[0]
    with nogil:
        done = rk_exchange(socket, out, length, room, ROOM, spin_ns)
    return done.sent, PyBytes_FromStringAndSize(room, <Py_ssize_t>done.received)
