/* rk_exchange: sends on a connected socket and looks, in place, for what comes back, without going to sleep.
 *
 * A peer on the same machine answers within microseconds: less than it takes to sleep, to be woken and to come round
 * an event loop. Whatever has not come by then is left in the socket, for whoever watches it. Ownership: nothing is
 * kept. Threads: any, one socket each.
 */
#ifndef RK_EXCHANGE_H
#define RK_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t sent;     /* of the bytes to send; fewer if the socket's buffer is full, or the socket is broken */
    size_t received; /* 0: nothing has come, or the peer has gone */
} rk_exchanged;

/* `out`: `length` bytes to send (may be none); `in`: room for `room` bytes. Looks for at most `spin_ns` for the first
 * bytes, and only if all was sent. Never blocks and never raises SIGPIPE, whether the socket blocks or not. */
rk_exchanged rk_exchange(int socket, const void *out, size_t length, void *in, size_t room, int64_t spin_ns);

#endif
