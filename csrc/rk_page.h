/* rk_page: page tokens, and the fingerprint that binds one to its request.
 *
 * A token holds the positions of the candidates that have not been returned yet, so that the next page goes on in the
 * first page's order whatever has been written to the store since, and the server keeps nothing. It is checked, not
 * signed: all a forged one can do is reorder its own caller's answer.
 * Layout, little-endian: version (1 byte), checksum of what follows (4), fingerprint (8), time in seconds (double),
 * offset and count of rescored candidates (4 each), then the positions, ceil(log2 n) bits each, the first in the
 * lowest bits, the last byte filled with zeros; the whole in base64url (RFC 4648) without padding.
 */
#ifndef RK_PAGE_H
#define RK_PAGE_H

#include "rk_arena.h"
#include "rk_wire_rank.h"

typedef struct {
    double as_of_s;
    size_t offset;            /* how many candidates the pages before hold */
    size_t rescored_count;    /* of the whole list */
    const int64_t *remaining; /* n - offset positions, in rank order */
} rk_page_cursor;

typedef enum {
    RK_PAGE_OK,
    RK_PAGE_NO_MEMORY,
    RK_PAGE_FORM,    /* no base64url, or too short */
    RK_PAGE_DAMAGED, /* of another version, or changed */
    RK_PAGE_OTHER,   /* of another request */
    RK_PAGE_ORDER    /* not n - offset distinct positions below n, or numbers out of bounds */
} rk_page_status;

/* The token of a list of n candidates; NULL bytes without memory. n is below 2^32. */
rk_text rk_page_encode(const rk_page_cursor *cursor, size_t n, uint64_t fingerprint, rk_arena *arena);

rk_page_status rk_page_decode(rk_text token, size_t n, uint64_t fingerprint, rk_arena *arena, rk_page_cursor *cursor);

/* What all lists of a call have in common, as sent: profile, time, query, user, surface, segments, context, labels.
 * The order of map entries and of the members of a set does not matter. */
uint64_t rk_page_fingerprint(const rk_wire_request *request);

/* The same with one list's candidates. */
uint64_t rk_page_list_fingerprint(uint64_t common, const rk_wire_candidates *candidates);

#endif
