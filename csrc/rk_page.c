/* The fingerprint folds 128-bit products (as wyhash does): quick, and good against chance, which is all it is for. */
#include <math.h>
#include <string.h>

#include "rk_page.h"

enum { VERSION = 2, HEADER_BYTES = 29, CHECKED_FROM = 5 };

static const double MOST_SECONDS = 1e12; /* far beyond any timestamp, and safe in milliseconds */

static const uint64_t K0 = UINT64_C(0x2d358dccaa6c78a5), K1 = UINT64_C(0x8bb84b93962eacc9),
                      K2 = UINT64_C(0x4b33a62ed433d4a3);

__extension__ typedef unsigned __int128 wide;

static inline uint64_t folded(uint64_t a, uint64_t b)
{
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t mixed(uint64_t hash, uint64_t a, uint64_t b) { return folded(hash ^ a ^ K0, b ^ K1); }

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t length)
{
    const uint8_t *at = data;
    uint64_t pair[2];
    size_t left = length;
    for (; left > sizeof pair; left -= sizeof pair, at += sizeof pair) {
        memcpy(pair, at, sizeof pair);
        hash = mixed(hash, pair[0], pair[1]);
    }
    memset(pair, 0, sizeof pair);
    if (left) memcpy(pair, at, left);
    return mixed(mixed(hash, pair[0], pair[1]), length, K2);
}

static inline uint64_t hash_text(uint64_t hash, rk_text text) { return hash_bytes(hash, text.bytes, text.length); }

static uint64_t hash_texts(uint64_t hash, const rk_text *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) hash = hash_text(hash, texts[i]);
    return mixed(hash, count, K2);
}

static uint64_t hash_double(uint64_t hash, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return mixed(hash, bits, K2);
}

static uint64_t hash_timestamp(uint64_t hash, rk_wire_timestamp stamp)
{
    return mixed(hash, (uint64_t)stamp.seconds, (uint64_t)(int64_t)stamp.nanos);
}

static uint64_t hash_context(const rk_wire_context *value)
{
    uint64_t hash = mixed(hash_text(K0, value->name), (uint64_t)value->which, K1), sum = 0;
    switch (value->which) {
    case RK_CONTEXT_NUMBER:
        return hash_double(hash, value->number);
    case RK_CONTEXT_CATEGORY:
    case RK_CONTEXT_TEXT:
        return hash_text(hash, value->text);
    case RK_CONTEXT_VECTOR:
        return hash_bytes(hash, value->vector, value->count * sizeof(float));
    case RK_CONTEXT_SET:
        for (size_t i = 0; i < value->count; i++) sum += hash_text(K1, value->set[i]);
        return mixed(hash, sum, value->count);
    case RK_CONTEXT_TIMESTAMP:
        return hash_timestamp(hash, value->timestamp);
    case RK_CONTEXT_FLAG:
        return mixed(hash, (uint64_t)(value->flag != 0), K2);
    default:
        return hash;
    }
}

uint64_t rk_page_fingerprint(const rk_wire_request *r)
{
    const rk_text texts[] = {r->profile, r->query_text, r->language_code, r->visitor_id, r->user_id, r->session_id};
    uint64_t hash = hash_texts(K0, texts, sizeof texts / sizeof texts[0]), sum = 0;
    hash = mixed(hash, (uint64_t)(int64_t)r->surface, (uint64_t)(r->has_as_of != 0));
    if (r->has_as_of) hash = hash_timestamp(hash, r->as_of);
    hash = hash_texts(hash, r->segments, r->segment_count);
    for (size_t i = 0; i < r->context_count; i++) sum += hash_context(&r->context[i]);
    hash = mixed(hash, sum, r->context_count);
    sum = 0;
    for (size_t i = 0; i < r->label_count; i++) sum += hash_text(hash_text(K1, r->labels[i].key), r->labels[i].value);
    return mixed(hash, sum, r->label_count);
}

uint64_t rk_page_list_fingerprint(uint64_t common, const rk_wire_candidates *c)
{
    uint64_t hash = hash_texts(common, c->ids, c->id_count), sum = 0;
    hash = hash_bytes(hash, c->base_scores, c->base_score_count * sizeof *c->base_scores);
    for (size_t i = 0; i < c->column_count; i++) {
        const rk_wire_column *column = &c->columns[i];
        sum += hash_bytes(hash_text(K1, column->name), column->values, column->count * sizeof(float));
    }
    return mixed(hash, sum, c->column_count);
}

/* ---- base64url ---- */

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static rk_text to_base64(const uint8_t *raw, size_t length, rk_arena *arena)
{
    uint8_t *out = rk_arena_take(arena, length / 3 * 4 + 4), *at = out;
    if (!out) return (rk_text){NULL, 0};
    size_t i = 0;
    for (; i + 3 <= length; i += 3) {
        uint32_t bits = (uint32_t)raw[i] << 16 | (uint32_t)raw[i + 1] << 8 | raw[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6) *at++ = (uint8_t)DIGITS[bits >> shift & 63];
    }
    if (i < length) {
        uint32_t bits = (uint32_t)raw[i] << 16 | (i + 1 < length ? (uint32_t)raw[i + 1] << 8 : 0);
        int last = i + 1 < length ? 6 : 12;
        for (int shift = 18; shift >= last; shift -= 6) *at++ = (uint8_t)DIGITS[bits >> shift & 63];
    }
    return (rk_text){out, (size_t)(at - out)};
}

/* -1 for what is no digit. */
static int digit_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* The bytes of a text, into `out` (3 / 4 of it); the unused bits of the last digit must be 0. 0, or -1. */
static int from_base64(rk_text text, uint8_t *out, size_t *length)
{
    uint32_t bits = 0;
    int held = 0;
    size_t made = 0;
    for (size_t i = 0; i < text.length; i++) {
        int digit = digit_of(text.bytes[i]);
        if (digit < 0) return -1;
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[made++] = (uint8_t)(bits >> held);
            bits &= (1u << held) - 1;
        }
    }
    *length = made;
    return held >= 6 || bits ? -1 : 0;
}

/* ---- Tokens ---- */

static int bits_for(size_t n) { return n > 1 ? 64 - __builtin_clzll(n - 1) : 0; }

static size_t packed_bytes(size_t count, int bits) { return (count * (size_t)bits + 7) / 8; }

static void put(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) to[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get(const uint8_t *from, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) value = value << 8 | from[i];
    return value;
}

static uint32_t checksum(const uint8_t *raw, size_t length)
{
    uint64_t hash = hash_bytes(K2, raw + CHECKED_FROM, length - CHECKED_FROM);
    return (uint32_t)(hash ^ hash >> 32);
}

static void pack(const int64_t *positions, size_t count, int bits, uint8_t *out)
{
    uint64_t held = 0;
    int holding = 0;
    for (size_t i = 0; i < count; i++) {
        held |= (uint64_t)positions[i] << holding;
        for (holding += bits; holding >= 8; holding -= 8, held >>= 8) *out++ = (uint8_t)held;
    }
    if (holding) *out = (uint8_t)held;
}

rk_text rk_page_encode(const rk_page_cursor *cursor, size_t n, uint64_t fingerprint, rk_arena *arena)
{
    int bits = bits_for(n);
    size_t count = n - cursor->offset, length = HEADER_BYTES + packed_bytes(count, bits);
    uint8_t *raw = rk_arena_take(arena, length);
    if (!raw) return (rk_text){NULL, 0};
    uint64_t time;
    memcpy(&time, &cursor->as_of_s, sizeof time);
    raw[0] = VERSION;
    put(raw + 5, fingerprint, 8);
    put(raw + 13, time, 8);
    put(raw + 21, cursor->offset, 4);
    put(raw + 25, cursor->rescored_count, 4);
    pack(cursor->remaining, count, bits, raw + HEADER_BYTES);
    put(raw + 1, checksum(raw, length), 4);
    return to_base64(raw, length, arena);
}

/* Distinct positions below n. 0; -1: they are not; -2: no memory. */
static int unpack(const uint8_t *from, size_t count, int bits, size_t n, rk_arena *arena, int64_t *out)
{
    uint64_t held = 0, mask = (UINT64_C(1) << bits) - 1;
    int holding = 0;
    uint8_t *seen = rk_arena_take(arena, n);
    if (!seen) return -2;
    memset(seen, 0, n);
    for (size_t i = 0; i < count; i++) {
        for (; holding < bits; holding += 8) held |= (uint64_t)*from++ << holding;
        uint64_t position = held & mask;
        held >>= bits;
        holding -= bits;
        if (position >= n || seen[position]) return -1;
        seen[position] = 1;
        out[i] = (int64_t)position;
    }
    return held ? -1 : 0;
}

rk_page_status rk_page_decode(rk_text token, size_t n, uint64_t fingerprint, rk_arena *arena, rk_page_cursor *cursor)
{
    size_t length = 0;
    uint8_t *raw = rk_arena_take(arena, token.length);
    if (!raw) return RK_PAGE_NO_MEMORY;
    if (from_base64(token, raw, &length) || length < HEADER_BYTES) return RK_PAGE_FORM;
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    if (raw[0] != VERSION || get(raw + 1, 4) != checksum(raw, length)) return RK_PAGE_DAMAGED;
#endif
    if (get(raw + 5, 8) != fingerprint) return RK_PAGE_OTHER;
    uint64_t time = get(raw + 13, 8);
    memcpy(&cursor->as_of_s, &time, sizeof time);
    cursor->offset = get(raw + 21, 4);
    cursor->rescored_count = get(raw + 25, 4);
    int bits = bits_for(n);
    if (!(fabs(cursor->as_of_s) < MOST_SECONDS) || cursor->offset > n || cursor->rescored_count > n ||
        length != HEADER_BYTES + packed_bytes(n - cursor->offset, bits))
        return RK_PAGE_ORDER;
    size_t count = n - cursor->offset;
    int64_t *positions = rk_arena_array(arena, count, sizeof *positions);
    int failed = positions ? unpack(raw + HEADER_BYTES, count, bits, n, arena, positions) : -2;
    cursor->remaining = positions;
    return failed == -2 ? RK_PAGE_NO_MEMORY : failed ? RK_PAGE_ORDER : RK_PAGE_OK;
}
