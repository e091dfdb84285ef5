def exchange(socket: int, data: bytes, spin_ns: int) -> tuple[int, bytes]:
    """Sends `data` on a connected socket, by its file descriptor, and looks in place, for at most `spin_ns` (to 1 ms),
    for what comes back: csrc/rk_exchange.h.

    How many bytes were sent (fewer than all: the socket takes no more now, or is broken) and what came, at most 16 KiB;
    b"": nothing has come yet, or the peer has gone. ValueError for other spans.
    """
