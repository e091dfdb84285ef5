/* rk_wire: reading and writing protobuf's wire format, message by message.
 *
 * Format: https://protobuf.dev/programming-guides/encoding/. What the format leaves open is as in upb, the parser behind
 * protobuf's Python and others: varints of at most 10 bytes, of which the low 64 bits count; tags and lengths of at most 5
 * bytes; field number 0 refused, but in a group that is skipped; messages and groups inside one another: 100.
 *
 * A fault is kept in the reader and empties it: loops over fields end by themselves, values read meanwhile are 0.
 * Limits: messages of INT32_MAX bytes. Machine: little-endian, as the format is. Threads: one at a time per reader.
 */
#ifndef RK_WIRE_H
#define RK_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "rk_utf8.h"
#include "rk_wire_fields.h"
#include "rk_wire_rank.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are taken from the wire as they are");

enum { RK_WIRE_MOST_DEPTH = 100, RK_WIRE_MOST_VARINT = 10, RK_WIRE_MOST_TAG = 5 };

typedef struct {
    const uint8_t *at, *end;      /* what is left of the message being read */
    const uint8_t *first, *last;  /* the whole input */
    int depth;                    /* how many messages or groups may still be opened */
    rk_wire_status status;
    rk_arena *arena;
} rk_wire_reader;

/* ---- Reading. ---- */

static inline rk_wire_reader rk_wire_open(const uint8_t *bytes, size_t length, rk_arena *arena) {
    const uint8_t *end = length ? bytes + length : bytes; /* bytes may be NULL */
    rk_wire_reader r = {bytes, end, bytes, end, RK_WIRE_MOST_DEPTH, RK_WIRE_OK, arena};
    if (length > INT32_MAX) {
        r.status = RK_WIRE_MALFORMED;
        r.at = r.end;
    }
    return r;
}

static inline void rk_wire_fail(rk_wire_reader *r, rk_wire_status status) {
    if (!r->status) r->status = status;
    r->at = r->end;
}

/* A varint of at most `most` bytes. */
static inline uint64_t rk_wire_varint(rk_wire_reader *r, int most) {
    uint64_t value = 0;
    for (int i = 0; i < most && r->at < r->end; i++) {
        uint64_t byte = *r->at++;
        value |= (byte & 0x7F) << 7 * i;
        if (byte < 0x80) return value;
    }
    rk_wire_fail(r, RK_WIRE_MALFORMED);
    return 0;
}

/* A tag; 0 after a fault. */
static inline uint32_t rk_wire_tag(rk_wire_reader *r) {
    uint64_t tag = rk_wire_varint(r, RK_WIRE_MOST_TAG);
    if (tag <= UINT32_MAX) return (uint32_t)tag;
    rk_wire_fail(r, RK_WIRE_MALFORMED);
    return 0;
}

/* Whether a field follows; its tag, then. */
static inline int rk_wire_next(rk_wire_reader *r, uint32_t *tag) {
    if (r->at >= r->end) return 0;
    *tag = rk_wire_tag(r);
    if (*tag >> 3) return 1;
    rk_wire_fail(r, RK_WIRE_MALFORMED);
    return 0;
}

/* The length of what follows, all of which is there. */
static inline size_t rk_wire_length(rk_wire_reader *r) {
    uint64_t length = rk_wire_varint(r, RK_WIRE_MOST_TAG);
    if (length <= (size_t)(r->end - r->at)) return (size_t)length;
    rk_wire_fail(r, RK_WIRE_MALFORMED);
    return 0;
}

/* `size` bytes into `value`; nothing after a fault. */
static inline void rk_wire_fixed(rk_wire_reader *r, void *value, size_t size) {
    if ((size_t)(r->end - r->at) < size) {
        rk_wire_fail(r, RK_WIRE_MALFORMED);
        return;
    }
    memcpy(value, r->at, size);
    r->at += size;
}

static inline rk_text rk_wire_text(rk_wire_reader *r) {
    size_t length = rk_wire_length(r);
    rk_text text = {r->at, length};
    r->at += length;
    if (!rk_utf8_valid(text.bytes, length)) rk_wire_fail(r, RK_WIRE_MALFORMED);
    return text;
}

/* Goes into a message that is a field: the end of the one around it, for rk_wire_leave. */
static inline const uint8_t *rk_wire_enter(rk_wire_reader *r) {
    size_t length = rk_wire_length(r);
    const uint8_t *around = r->end;
    if (r->depth-- > 0)
        r->end = r->at + length;
    else
        rk_wire_fail(r, RK_WIRE_MALFORMED);
    return around;
}

static inline void rk_wire_leave(rk_wire_reader *r, const uint8_t *around) {
    r->depth++;
    r->end = around;
    if (r->status) r->at = around;
}

/* The value of a field that is not known, or came with another type than it has. */
void rk_wire_skip(rk_wire_reader *r, uint32_t tag);

/* Room for `more` elements of `size` bytes after the first `count` of an array that a call before gave (NULL: none yet)
 * or that lies in the input. `likely`: how many there may be in the end. NULL without memory. */
void *rk_wire_grow(rk_wire_reader *r, const void *array, size_t count, size_t more, size_t size, size_t likely);

/* A repeated text, once or several times in a row: the array with it, and its count. */
const rk_text *rk_wire_texts(rk_wire_reader *r, const rk_text *array, size_t *count, uint32_t tag);

/* Repeated numbers of `size` bytes, packed or one alone. */
const void *rk_wire_packed(rk_wire_reader *r, const void *array, size_t *count, size_t size);
const void *rk_wire_unpacked(rk_wire_reader *r, const void *array, size_t *count, size_t size);

/* A map's entries, each of `size` bytes with its key first: of those of one key the last stays, in the first's place. */
void rk_wire_last_of_keys(rk_wire_reader *r, void *entries, size_t *count, size_t size);

/* Room for one more entry, as rk_wire_grow; what has come again is taken out before, so that a map takes memory for its
 * keys and not for all that was sent. */
void *rk_wire_grow_map(rk_wire_reader *r, const void *entries, size_t *count, size_t size);

/* ---- Writing: sizes first, then to memory that has them. Each function returns the end of what it wrote. ---- */

static inline size_t rk_wire_varint_size(uint64_t value) {
    return (size_t)((63 - __builtin_clzll(value | 1)) * 9 + 73) / 64;
}

static inline uint8_t *rk_wire_put_varint(uint8_t *out, uint64_t value) {
    for (; value >= 0x80; value >>= 7) *out++ = (uint8_t)(value | 0x80);
    *out++ = (uint8_t)value;
    return out;
}

/* memcpy for lengths that are mostly short: two moves that overlap. */
static inline uint8_t *rk_wire_put_bytes(uint8_t *out, const uint8_t *bytes, size_t length) {
    if (length > 16) {
        memcpy(out, bytes, length);
    } else if (length >= 8) {
        uint64_t head, tail;
        memcpy(&head, bytes, 8);
        memcpy(&tail, bytes + length - 8, 8);
        memcpy(out, &head, 8);
        memcpy(out + length - 8, &tail, 8);
    } else if (length >= 4) {
        uint32_t head, tail;
        memcpy(&head, bytes, 4);
        memcpy(&tail, bytes + length - 4, 4);
        memcpy(out, &head, 4);
        memcpy(out + length - 4, &tail, 4);
    } else {
        for (size_t i = 0; i < length; i++) out[i] = bytes[i];
    }
    return out + length;
}

/* A field of `length` bytes, its tag and length included. */
static inline size_t rk_wire_block_size(uint32_t tag, size_t length) {
    return rk_wire_varint_size(tag) + rk_wire_varint_size(length) + length;
}

static inline uint8_t *rk_wire_put_block(uint8_t *out, uint32_t tag, size_t length) {
    return rk_wire_put_varint(rk_wire_put_varint(out, tag), length);
}

/* One element of a repeated text, written even if it is empty. */
static inline uint8_t *rk_wire_put_element(uint8_t *out, uint32_t tag, rk_text text) {
    return rk_wire_put_bytes(rk_wire_put_block(out, tag, text.length), text.bytes, text.length);
}

/* Fields that are left out if they have their default. */
static inline size_t rk_wire_text_size(uint32_t tag, rk_text text) {
    return text.length ? rk_wire_block_size(tag, text.length) : 0;
}

static inline uint8_t *rk_wire_put_text(uint8_t *out, uint32_t tag, rk_text text) {
    return text.length ? rk_wire_put_element(out, tag, text) : out;
}

static inline size_t rk_wire_number_size(uint32_t tag, uint64_t value) {
    return value ? rk_wire_varint_size(tag) + rk_wire_varint_size(value) : 0;
}

static inline uint8_t *rk_wire_put_number(uint8_t *out, uint32_t tag, uint64_t value) {
    return value ? rk_wire_put_varint(rk_wire_put_varint(out, tag), value) : out;
}

#endif
