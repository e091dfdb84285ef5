/* Reading what is not one value: fields to be skipped, and repeated ones. */
#include <stdlib.h>

#include "rk_wire.h"

/* The array's room stands in the piece of the arena before it, so that callers keep pointers and counts only. */
enum {
    HEADER = 64,
    MOST_LIKELY = 1 << 16,
    FEW = 16 /* entries of a map that are compared with one another */
};

static void skip_group(rk_wire_reader *r, uint32_t start) {
    if (r->depth-- <= 0) rk_wire_fail(r, RK_WIRE_MALFORMED);
    while (!r->status) {
        uint32_t tag = rk_wire_tag(r); /* fails at the end of the message */
        if ((tag & 7) == RK_WIRE_END_GROUP && tag >> 3 == start >> 3) break;
        if (!r->status) rk_wire_skip(r, tag);
    }
    r->depth++;
}

void rk_wire_skip(rk_wire_reader *r, uint32_t tag) {
    size_t length = 0;
    switch (tag & 7) {
    case RK_WIRE_VARINT: rk_wire_varint(r, RK_WIRE_MOST_VARINT); return;
    case RK_WIRE_GROUP: skip_group(r, tag); return;
    case RK_WIRE_BYTES: length = rk_wire_length(r); break;
    case RK_WIRE_FIXED32: length = 4; break;
    case RK_WIRE_FIXED64: length = 8; break;
    default: rk_wire_fail(r, RK_WIRE_MALFORMED); return; /* the end of a group that was not begun, or no type */
    }
    if (length > (size_t)(r->end - r->at))
        rk_wire_fail(r, RK_WIRE_MALFORMED);
    else
        r->at += length;
}

/* Compiled to 16 bytes a step. */
static int is_ascii(const uint8_t *bytes, size_t length) {
    uint8_t any = 0;
    for (size_t i = 0; i < length; i++) any |= bytes[i];
    return any < 0x80;
}

static size_t room_of(const void *array) {
    size_t room;
    memcpy(&room, (const uint8_t *)array - HEADER, sizeof room);
    return room;
}

void *rk_wire_grow(rk_wire_reader *r, const void *array, size_t count, size_t more, size_t size, size_t likely) {
    uintptr_t at = (uintptr_t)array;
    int owned = array && (at < (uintptr_t)r->first || at >= (uintptr_t)r->last);
    size_t room = owned ? room_of(array) : 0;
    if (owned && more <= room - count) return (void *)at;
    room = room * 2 > likely ? room * 2 : likely; /* the arena's bound is far below SIZE_MAX / 2 */
    if (room < count + more) room = count + more;
    uint8_t *piece = room > RK_ARENA_MOST / size ? NULL : rk_arena_take(r->arena, HEADER + room * size);
    if (!piece) {
        rk_wire_fail(r, RK_WIRE_NO_MEMORY);
        return NULL;
    }
    memcpy(piece, &room, sizeof room);
    if (count) memcpy(piece + HEADER, array, count * size);
    return piece + HEADER;
}

/* The one place where a request has thousands of fields. A run is first cut, then looked at as a whole: if all its bytes
 * are ASCII, tags and lengths included, so are its texts. */
const rk_text *rk_wire_texts(rk_wire_reader *r, const rk_text *array, size_t *count, uint32_t tag) {
    const uint8_t *start = r->at, *at = start, *end = r->end;
    const size_t before = *count;
    size_t n = before, room = 0;
    rk_text *texts = NULL;
    for (;;) {
        size_t length = at < end ? *at : 0;
        if (length < 0x80 && length < (size_t)(end - at)) {
            at++;
        } else {
            r->at = at;
            length = rk_wire_length(r);
            if (r->status) return array;
            at = r->at;
        }
        if (n >= room) {
            size_t likely = n + (size_t)(end - at) / (length + 2) + 1;
            texts = rk_wire_grow(r, n > before ? texts : array, n, 1, sizeof *texts, likely < MOST_LIKELY ? likely : 0);
            if (!texts) return array;
            room = room_of(texts);
        }
        texts[n++] = (rk_text){at, length};
        at += length;
        if (at >= end || *at != tag || tag >= 0x80) break;
        at++;
    }
    r->at = at;
    *count = n;
    if (!is_ascii(start, (size_t)(at - start)))
        for (size_t i = before; i < n; i++)
            if (!rk_utf8_valid(texts[i].bytes, texts[i].length)) rk_wire_fail(r, RK_WIRE_MALFORMED);
    return texts;
}

const void *rk_wire_packed(rk_wire_reader *r, const void *array, size_t *count, size_t size) {
    size_t length = rk_wire_length(r), more = length / size;
    const uint8_t *at = r->at;
    r->at += length;
    if (length % size) rk_wire_fail(r, RK_WIRE_MALFORMED);
    if (r->status || !more) return array;
    if (*count == 0 && (uintptr_t)at % size == 0) {
        *count = more;
        return at;
    }
    uint8_t *grown = rk_wire_grow(r, array, *count, more, size, 0);
    if (!grown) return array;
    memcpy(grown + *count * size, at, length);
    *count += more;
    return grown;
}

const void *rk_wire_unpacked(rk_wire_reader *r, const void *array, size_t *count, size_t size) {
    size_t likely = (size_t)(r->end - r->at) / (size + 1) + 1;
    uint8_t *grown = rk_wire_grow(r, array, *count, 1, size, likely < MOST_LIKELY ? likely : 0);
    if (!grown) return array;
    rk_wire_fixed(r, grown + *count * size, size);
    if (!r->status) ++*count;
    return grown;
}

/* ---- Maps. ---- */

static int compare_keys(const rk_text *a, const rk_text *b) {
    size_t least = a->length < b->length ? a->length : b->length;
    int order = least ? memcmp(a->bytes, b->bytes, least) : 0;
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

/* Of pointers to entries: by key, then in the order they came. */
static int compare_entries(const void *a, const void *b) {
    const rk_text *left = *(const rk_text *const *)a, *right = *(const rk_text *const *)b;
    int order = compare_keys(left, right);
    return order ? order : (left > right) - (left < right);
}

static void last_of_few(uint8_t *entries, size_t *count, size_t size) {
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        const rk_text *key = (const rk_text *)(const void *)(entries + i * size);
        size_t to = 0;
        while (to < kept && compare_keys((const rk_text *)(const void *)(entries + to * size), key)) to++;
        if (to != i) memcpy(entries + to * size, key, size);
        kept += to == kept;
    }
    *count = kept;
}

static void last_of_many(rk_wire_reader *r, uint8_t *entries, size_t *count, size_t size) {
    const rk_text **sorted = rk_arena_array(r->arena, *count, sizeof *sorted);
    uint8_t *again = rk_arena_take(r->arena, *count); /* whether the key came before */
    if (!sorted || !again) {
        rk_wire_fail(r, RK_WIRE_NO_MEMORY);
        return;
    }
    for (size_t i = 0; i < *count; i++) sorted[i] = (const rk_text *)(const void *)(entries + i * size);
    qsort(sorted, *count, sizeof *sorted, compare_entries);
    memset(again, 0, *count);
    for (size_t i = 0, end; i < *count; i = end) {
        for (end = i + 1; end < *count && !compare_keys(sorted[i], sorted[end]); end++)
            again[(size_t)((const uint8_t *)sorted[end] - entries) / size] = 1;
        if (end - i > 1) memcpy(entries + ((const uint8_t *)sorted[i] - entries), sorted[end - 1], size);
    }
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        if (again[i]) continue;
        if (kept != i) memcpy(entries + kept * size, entries + i * size, size);
        kept++;
    }
    *count = kept;
}

void rk_wire_last_of_keys(rk_wire_reader *r, void *entries, size_t *count, size_t size) {
    if (r->status) return;
    if (*count <= FEW)
        last_of_few(entries, count, size);
    else
        last_of_many(r, entries, count, size);
}

void *rk_wire_grow_map(rk_wire_reader *r, const void *entries, size_t *count, size_t size) {
    if (*count >= FEW && *count == room_of(entries)) {
        rk_wire_last_of_keys(r, (void *)(uintptr_t)entries, count, size);
        size_t room = room_of(entries); /* doubled, if more than half of it was needed */
        if (*count <= room / 2) return r->status ? NULL : (void *)(uintptr_t)entries;
    }
    return r->status ? NULL : rk_wire_grow(r, entries, *count, 1, size, FEW);
}
