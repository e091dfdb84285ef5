#include "rk_packed.h"

#include <string.h>

#include "rk_utf8.h"

enum { FLAG_TOMBSTONE = 1, FLAG_CLEARS = 2, FLAG_TIMES = 4, FLAGS = 7, CHECKED_AT = 5 };

static const uint64_t KEY[2] = {UINT64_C(0x72616e6b64207061), UINT64_C(0x636b656420726f77)};

static uint64_t zigzag(int64_t value) { return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0); }

static int64_t unzigzag(uint64_t value) { return (int64_t)(value >> 1 ^ (0 - (value & 1))); }

/* The difference of two times, whatever they are. */
static int64_t minus(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }

static int64_t plus(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }

/* ---- writing: with `at` NULL only the size is counted */

typedef struct {
    uint8_t *at;
    size_t size;
} writer;

static void put_bytes(writer *w, const void *bytes, size_t length) {
    if (w->at && length) {
        memcpy(w->at, bytes, length);
        w->at += length;
    }
    w->size += length;
}

static void put_varint(writer *w, uint64_t value) {
    uint8_t bytes[10];
    size_t length = 0;
    while (value >= 0x80) {
        bytes[length++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[length++] = (uint8_t)value;
    put_bytes(w, bytes, length);
}

static void put_text(writer *w, rk_id text) {
    put_varint(w, text.length);
    put_bytes(w, text.bytes, text.length);
}

/* One bit per cell: whether it is of `state`, or (state 0) of any state and of another time than the latest. */
static void put_bitmap(writer *w, const rk_packed_column *columns, size_t count, size_t row, uint8_t state,
                       int64_t latest) {
    for (size_t c = 0; c < count; c += 8) {
        uint8_t bits = 0;
        for (size_t i = 0; i < 8 && c + i < count; i++) {
            const rk_packed_column *column = &columns[c + i];
            uint8_t is = column->state[row];
            bits |= (uint8_t)((state ? is == state : is && column->times[row] != latest) << i);
        }
        put_bytes(w, &bits, 1);
    }
}

static void put_value(writer *w, const rk_packed_cell *cell, const rk_packed_column *column, rk_packed_extent *place) {
    size_t elements = cell->is_ragged ? (size_t)column->lengths[place->values] : 1;
    if (cell->is_ragged) put_varint(w, elements);
    int64_t before = 0;
    for (size_t e = place->elements; e < place->elements + elements; e++) {
        if (cell->has_text) put_text(w, column->texts[e]);
        if (cell->has_int) {
            put_varint(w, zigzag(minus(column->ints[e], before)));
            before = column->ints[e];
        }
        if (cell->width) put_bytes(w, column->fixed + e * cell->width, cell->width);
    }
    place->values++;
    place->elements += elements;
}

static uint8_t flags_of(const rk_packed_layout *layout, const rk_packed_column *columns, size_t row, int64_t latest) {
    uint8_t flags = 0;
    for (size_t c = 0; c < layout->count; c++) {
        uint8_t state = columns[c].state[row];
        if (state == RK_PACKED_CLEARED) flags |= FLAG_CLEARS;
        if (state && columns[c].times[row] != latest) flags |= FLAG_TIMES;
    }
    return flags;
}

static void put_row(writer *w, const rk_packed_layout *layout, const rk_packed_heads *heads,
                    const rk_packed_column *columns, size_t row, rk_packed_extent *places) {
    int is_tombstone = heads->status[row] == RK_PACKED_TOMBSTONE;
    int64_t latest = heads->latest[row];
    uint8_t flags = is_tombstone ? FLAG_TOMBSTONE : flags_of(layout, columns, row, latest);
    uint8_t head[RK_PACKED_HEAD] = {RK_PACKED_FORMAT};
    for (int i = 0; i < 4; i++) head[CHECKED_AT + i] = (uint8_t)(layout->fingerprint >> 8 * i);
    for (int i = 0; i < 5; i++) head[RK_PACKED_VERSION_AT + i] = (uint8_t)(heads->versions[row] >> 8 * (4 - i));
    head[RK_PACKED_FLAGS_AT] = flags;
    uint8_t *start = w->at;
    put_bytes(w, head, sizeof head);
    put_text(w, heads->ids[row]);
    put_varint(w, zigzag(minus(latest, RK_PACKED_EPOCH_MS)));
    if (!is_tombstone) {
        put_bitmap(w, columns, layout->count, row, RK_PACKED_VALUE, latest);
        if (flags & FLAG_CLEARS) put_bitmap(w, columns, layout->count, row, RK_PACKED_CLEARED, latest);
        if (flags & FLAG_TIMES) {
            put_bitmap(w, columns, layout->count, row, 0, latest);
            for (size_t c = 0; c < layout->count; c++)
                if (columns[c].state[row] && columns[c].times[row] != latest)
                    put_varint(w, (uint64_t)minus(latest, columns[c].times[row]));
        }
        for (size_t c = 0; c < layout->count; c++)
            if (columns[c].state[row] == RK_PACKED_VALUE) put_value(w, &layout->cells[c], &columns[c], &places[c]);
    }
    if (start) {
        uint32_t check = (uint32_t)rk_siphash13(start + CHECKED_AT, (size_t)(w->at - start) - CHECKED_AT, KEY);
        for (int i = 0; i < 4; i++) start[1 + i] = (uint8_t)(check >> 8 * i);
    }
}

void rk_packed_sizes(const rk_packed_layout *layout, const rk_packed_heads *heads, const rk_packed_column *columns,
                     size_t n, rk_packed_extent *places, size_t *sizes) {
    if (layout->count) memset(places, 0, layout->count * sizeof *places);
    for (size_t row = 0; row < n; row++) {
        writer w = {NULL, 0};
        put_row(&w, layout, heads, columns, row, places);
        sizes[row] = w.size;
    }
}

void rk_packed_pack(const rk_packed_layout *layout, const rk_packed_heads *heads, const rk_packed_column *columns,
                    size_t n, rk_packed_extent *places, uint8_t *const *out) {
    if (layout->count) memset(places, 0, layout->count * sizeof *places);
    for (size_t row = 0; row < n; row++) {
        writer w = {out[row], 0};
        put_row(&w, layout, heads, columns, row, places);
    }
}

/* ---- reading: `at` NULL: what was to be read is not there */

typedef struct {
    const uint8_t *at, *end;
} reader;

static uint64_t get_varint(reader *r) {
    uint64_t value = 0;
    const uint8_t *at = r->at;
    if (at && at < r->end && *at < 0x80) { /* most are */
        r->at = at + 1;
        return *at;
    }
    for (int shift = 0; at && at < r->end && shift < 64; shift += 7) {
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1) break;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            if (!byte) break; /* a varint has one form; a lone 0 was read above */
            r->at = at;
            return value;
        }
    }
    r->at = NULL;
    return 0;
}

static const uint8_t *get_bytes(reader *r, uint64_t length) {
    const uint8_t *bytes = r->at;
    if (!bytes || (uint64_t)(r->end - bytes) < length) return r->at = NULL;
    r->at = bytes + length;
    return bytes;
}

static rk_id get_text(reader *r) {
    uint64_t length = get_varint(r);
    const uint8_t *bytes = get_bytes(r, length);
    return bytes ? (rk_id){bytes, (size_t)length} : (rk_id){NULL, 0};
}

/* Goes over a value; how many elements it has. */
static size_t skip_value(reader *r, const rk_packed_cell *cell) {
    uint64_t elements = cell->is_ragged ? get_varint(r) : 1;
    if (!cell->has_text && !cell->has_int) { /* all of one size */
        if (r->at && elements > (uint64_t)(r->end - r->at) / cell->width) r->at = NULL;
        return get_bytes(r, elements * cell->width) ? (size_t)elements : 0;
    }
    for (uint64_t e = 0; e < elements && r->at; e++) { /* a byte each at least */
        if (cell->has_text) {
            rk_id text = get_text(r);
            if (text.bytes && !rk_utf8_valid(text.bytes, text.length)) r->at = NULL;
        }
        if (cell->has_int) get_varint(r);
        if (cell->width) get_bytes(r, cell->width);
    }
    return r->at ? (size_t)elements : 0;
}

/* Bitmaps of a row: values, clears (NULL: none), other times (NULL: none). */
typedef struct {
    const uint8_t *values, *clears, *times;
} bitmaps;

static int bit(const uint8_t *map, size_t c) { return map && map[c >> 3] >> (c & 7) & 1; }

static bitmaps get_bitmaps(reader *r, size_t count, uint8_t flags) {
    size_t bytes = (count + 7) / 8;
    bitmaps maps = {get_bytes(r, bytes), NULL, NULL};
    if (flags & FLAG_CLEARS) maps.clears = get_bytes(r, bytes);
    if (flags & FLAG_TIMES) maps.times = get_bytes(r, bytes);
    return maps;
}

/* Whether they mean something: no cell has a value and is cleared, only those have times, nothing stands beyond, and no
 * map is there for nothing. */
static int are_sound(const bitmaps *maps, size_t count) {
    uint8_t any_clear = !maps->clears, any_time = !maps->times;
    for (size_t i = 0; i < (count + 7) / 8; i++) {
        uint8_t values = maps->values[i], clears = maps->clears ? maps->clears[i] : 0;
        uint8_t times = maps->times ? maps->times[i] : 0;
        uint8_t beyond = (i + 1) * 8 > count ? (uint8_t)(0xFF << (count & 7)) : 0;
        if ((values & clears) || (times & ~(values | clears)) || ((values | clears) & beyond)) return 0;
        any_clear |= clears;
        any_time |= times;
    }
    return any_clear && any_time;
}

/* Whether the rest of a live row can be unpacked; adds what it takes (or less, if it cannot). */
static int check_values(reader *r, const rk_packed_layout *layout, uint8_t flags, int64_t latest,
                        rk_packed_extent *extents) {
    bitmaps maps = get_bitmaps(r, layout->count, flags);
    if (!r->at || !are_sound(&maps, layout->count)) return 0;
    for (size_t c = 0; maps.times && c < layout->count; c++)
        if (bit(maps.times, c) && minus(latest, (int64_t)get_varint(r)) >= latest) return 0;
    for (size_t c = 0; c < layout->count && r->at; c++)
        if (bit(maps.values, c)) {
            extents[c].elements += skip_value(r, &layout->cells[c]);
            extents[c].values++;
        }
    return r->at == r->end;
}

/* The head of one row; the reader stands behind it. */
static rk_packed_status check_head(reader *r, const rk_packed_heads *heads, size_t row) {
    const uint8_t *start = r->at;
    if (!start) return RK_PACKED_MISSING;
    size_t size = (size_t)(r->end - start);
    if (size < RK_PACKED_HEAD || start[0] != RK_PACKED_FORMAT || start[RK_PACKED_FLAGS_AT] > FLAGS)
        return RK_PACKED_DAMAGED;
    uint32_t check = (uint32_t)rk_siphash13(start + CHECKED_AT, size - CHECKED_AT, KEY), stored = 0, fingerprint = 0;
    int64_t version = 0;
    for (int i = 0; i < 4; i++) stored |= (uint32_t)start[1 + i] << 8 * i;
    for (int i = 0; i < 4; i++) fingerprint |= (uint32_t)start[CHECKED_AT + i] << 8 * i;
    for (int i = 0; i < 5; i++) version = version << 8 | start[RK_PACKED_VERSION_AT + i];
    if (check != stored) return RK_PACKED_DAMAGED;
    r->at += RK_PACKED_HEAD;
    rk_id id = get_text(r);
    int64_t latest = plus(unzigzag(get_varint(r)), RK_PACKED_EPOCH_MS);
    if (!r->at || !rk_utf8_valid(id.bytes, id.length)) return RK_PACKED_DAMAGED;
    heads->ids[row] = id;
    heads->fingerprints[row] = fingerprint;
    heads->versions[row] = version;
    heads->latest[row] = latest;
    if (!(start[RK_PACKED_FLAGS_AT] & FLAG_TOMBSTONE)) return RK_PACKED_LIVE;
    return start[RK_PACKED_FLAGS_AT] == FLAG_TOMBSTONE && r->at == r->end ? RK_PACKED_TOMBSTONE : RK_PACKED_DAMAGED;
}

void rk_packed_check(const rk_packed_layout *layout, const rk_id *rows, const rk_id *ids, size_t n,
                     const rk_packed_heads *heads, rk_packed_extent *extents) {
    if (layout->count) memset(extents, 0, layout->count * sizeof *extents);
    for (size_t row = 0; row < n; row++) {
        reader r = {rows[row].bytes, rows[row].bytes ? rows[row].bytes + rows[row].length : NULL};
        rk_packed_status status = check_head(&r, heads, row);
        if (status == RK_PACKED_LIVE || status == RK_PACKED_TOMBSTONE) {
            rk_id id = heads->ids[row];
            if (ids && (id.length != ids[row].length || (id.length && memcmp(id.bytes, ids[row].bytes, id.length))))
                status = RK_PACKED_WRONG_ID;
            else if (status == RK_PACKED_LIVE && heads->fingerprints[row] != layout->fingerprint)
                status = RK_PACKED_OTHER_LAYOUT;
            else if (status == RK_PACKED_LIVE &&
                     !check_values(&r, layout, rows[row].bytes[RK_PACKED_FLAGS_AT], heads->latest[row], extents))
                status = RK_PACKED_DAMAGED;
        }
        heads->status[row] = (uint8_t)status;
    }
}

static void take_value(reader *r, const rk_packed_cell *cell, const rk_packed_column *column, rk_packed_extent *place) {
    size_t elements = 1;
    if (cell->is_ragged) {
        elements = (size_t)get_varint(r);
        column->lengths[place->values] = (int64_t)elements;
    }
    int64_t before = 0;
    for (size_t e = place->elements; e < place->elements + elements; e++) {
        if (cell->has_text) column->texts[e] = get_text(r);
        if (cell->has_int) {
            before = plus(before, unzigzag(get_varint(r)));
            column->ints[e] = before;
        }
        if (cell->width) memcpy(column->fixed + e * cell->width, get_bytes(r, cell->width), cell->width);
    }
    place->values++;
    place->elements += elements;
}

static void take_row(reader *r, const rk_packed_layout *layout, uint8_t flags, int64_t latest, size_t row,
                     rk_packed_extent *places, const rk_packed_column *columns) {
    bitmaps maps = get_bitmaps(r, layout->count, flags);
    for (size_t c = 0; c < layout->count; c++) {
        columns[c].state[row] =
            bit(maps.values, c) ? RK_PACKED_VALUE : bit(maps.clears, c) ? RK_PACKED_CLEARED : RK_PACKED_NONE;
        columns[c].times[row] = bit(maps.times, c) ? minus(latest, (int64_t)get_varint(r)) : latest;
    }
    for (size_t c = 0; c < layout->count; c++)
        if (bit(maps.values, c)) take_value(r, &layout->cells[c], &columns[c], &places[c]);
}

void rk_packed_unpack(const rk_packed_layout *layout, const rk_id *rows, size_t n, const rk_packed_heads *heads,
                      rk_packed_extent *places, const rk_packed_column *columns) {
    if (layout->count) memset(places, 0, layout->count * sizeof *places);
    for (size_t row = 0; row < n; row++) {
        if (heads->status[row] != RK_PACKED_LIVE) {
            for (size_t c = 0; c < layout->count; c++) {
                columns[c].state[row] = RK_PACKED_NONE;
                columns[c].times[row] = 0;
            }
            continue;
        }
        reader r = {rows[row].bytes + RK_PACKED_HEAD, rows[row].bytes + rows[row].length};
        get_text(&r);
        get_varint(&r);
        take_row(&r, layout, rows[row].bytes[RK_PACKED_FLAGS_AT], heads->latest[row], row, places, columns);
    }
}
