/* rk_packed: whole rows of an entity, each packed into bytes of its own, and back.
 *
 * What a row is, byte by byte; varints are LEB128, of signed numbers zigzag (Protocol Buffers, "Encoding"):
 *    0  1   format, 1
 *    1  4   checksum: the low half of SipHash-1-3 of all that follows, under a fixed key, little endian. It finds
 *           damage; it is no protection against who means harm
 *    5  4   fingerprint of the layout, little endian
 *    9  5   version, big endian
 *   14  1   flags: 1 tombstone, 2 some signals were cleared, 4 some times differ
 *   15      length of the id and the id (UTF-8); latest time of anything of the row, in ms since 2025-01-01, signed;
 *           a tombstone ends here
 *           bitmap of the cells that have a value; with flag 2, bitmap of those cleared; with flag 4, bitmap of those
 *           (of either) whose time is earlier than the latest, and for each, by how many ms
 *           the values, in the order of the cells
 * A value is one element or, of a ragged cell, their number and the elements. An element has, in this order and as
 * far as its cell says: a text (length and UTF-8), an integer (signed; in a ragged cell its difference from the one
 * before it, of the first from 0; differences wrap), and `width` bytes as they are.
 *
 * Every byte is accounted for, and a row has one form: what is too short, too long, not UTF-8, has bits set that mean
 * nothing or says something in more bytes than needed is damaged.
 * Any bytes may be unpacked. Ownership: nothing is kept; texts of unpacked rows point into the packed bytes.
 * Limits: RK_PACKED_MOST_CELLS. Threads: pure functions.
 */
#ifndef RK_PACKED_H
#define RK_PACKED_H

#include <stddef.h>
#include <stdint.h>

#include "rk_id_index.h"

enum {
    RK_PACKED_FORMAT = 1,
    RK_PACKED_HEAD = 15, /* bytes before the id */
    RK_PACKED_VERSION_AT = 9,
    RK_PACKED_FLAGS_AT = 14,
    RK_PACKED_MOST_CELLS = 65536,
};
#define RK_PACKED_MOST_VERSION ((INT64_C(1) << 40) - 1)
#define RK_PACKED_EPOCH_MS INT64_C(1735689600000) /* 2025-01-01 */

typedef struct {
    uint8_t is_ragged, has_text, has_int;
    uint32_t width; /* > 0 unless has_text or has_int */
} rk_packed_cell;

typedef struct {
    const rk_packed_cell *cells;
    size_t count;
    uint32_t fingerprint;
} rk_packed_layout;

enum { RK_PACKED_NONE = 0, RK_PACKED_VALUE = 1, RK_PACKED_CLEARED = 2 }; /* states */

typedef enum {
    RK_PACKED_MISSING = 0, /* no bytes at all */
    RK_PACKED_LIVE,
    RK_PACKED_TOMBSTONE,
    RK_PACKED_WRONG_ID, /* of another row than was asked for */
    RK_PACKED_DAMAGED,
    RK_PACKED_OTHER_LAYOUT, /* the head is good; the values cannot be told */
} rk_packed_status;

/* One cell of n rows. `state` and `times` (ms since 1970; where there is a state) are of each row; the rest only of
 * rows that have a value: lengths one each (of ragged cells), then elements one after the other. */
typedef struct {
    uint8_t *state;
    int64_t *times;
    int64_t *lengths;
    rk_id *texts;
    int64_t *ints;
    uint8_t *fixed;
} rk_packed_column;

/* How much of a column n rows take. */
typedef struct {
    size_t values, elements;
} rk_packed_extent;

/* The heads of n rows. Of those that are MISSING or DAMAGED only `status` is written. */
typedef struct {
    uint8_t *status;
    rk_id *ids;
    uint32_t *fingerprints;
    int64_t *versions; /* 0 .. RK_PACKED_MOST_VERSION */
    int64_t *latest;   /* ms since 1970 */
} rk_packed_heads;

/* Sizes of n rows packed: those that are RK_PACKED_TOMBSTONE have no values, all others are taken to be live. Times
 * are at most the row's latest. `places`: scratch, one per cell. */
void rk_packed_sizes(const rk_packed_layout *layout, const rk_packed_heads *heads, const rk_packed_column *columns,
                     size_t n, rk_packed_extent *places, size_t *sizes);

/* Packs them: out[i] has room for sizes[i] bytes, which are all written. */
void rk_packed_pack(const rk_packed_layout *layout, const rk_packed_heads *heads, const rk_packed_column *columns,
                    size_t n, rk_packed_extent *places, uint8_t *const *out);

/* Checks n packed rows (bytes NULL: MISSING), fills in heads and adds up what their columns take at most. `ids`: whose rows they
 * must be, or NULL: anyone's. */
void rk_packed_check(const rk_packed_layout *layout, const rk_id *rows, const rk_id *ids, size_t n,
                     const rk_packed_heads *heads, rk_packed_extent *extents);

/* Unpacks the same rows, after rk_packed_check, by the status it wrote, into columns of the extents it gave. State 0 in
 * rows that are not LIVE. `places`, one per cell: what the columns took. */
void rk_packed_unpack(const rk_packed_layout *layout, const rk_id *rows, size_t n, const rk_packed_heads *heads,
                      rk_packed_extent *places, const rk_packed_column *columns);

#endif
