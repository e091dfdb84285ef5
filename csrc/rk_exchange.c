/* See rk_exchange.h. */
#define _GNU_SOURCE
#include "rk_exchange.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static size_t send_all(int socket, const uint8_t *out, size_t length) {
    size_t sent = 0;
    while (sent < length) {
        ssize_t n = send(socket, out + sent, length - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else if (n == 0 || errno != EINTR)
            break;
    }
    return sent;
}

rk_exchanged rk_exchange(int socket, const void *out, size_t length, void *in, size_t room, int64_t spin_ns) {
    rk_exchanged done = {send_all(socket, out, length), 0};
    if (done.sent < length || room == 0)
        return done;
    int64_t until = now_ns() + spin_ns;
    do {
        ssize_t n = recv(socket, in, room, MSG_DONTWAIT);
        if (n >= 0) {
            done.received = (size_t)n;
            break;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            break;
    } while (now_ns() < until);
    return done;
}
