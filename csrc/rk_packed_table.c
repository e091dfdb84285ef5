#include "rk_packed_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int rk_packed_target_fits(const rk_packed_target *target)
{
    static const int32_t KINDS[RK_INTOS] = {
        [RK_INTO_F32] = RK_CELL_F32,   [RK_INTO_F64] = RK_CELL_F64,      [RK_INTO_I64] = RK_CELL_I64,
        [RK_INTO_BOOL] = RK_CELL_BOOL, [RK_INTO_CODE] = RK_CELL_CODE,    [RK_INTO_TEXT] = RK_CELL_TEXT,
        [RK_INTO_SET] = RK_CELL_SET,   [RK_INTO_MAP] = RK_CELL_MAP,      [RK_INTO_WINDOW] = RK_CELL_MAP,
        [RK_INTO_F32S] = RK_CELL_VECTOR, [RK_INTO_F16S] = RK_CELL_VECTOR, [RK_INTO_I8S] = RK_CELL_VECTOR,
    };
    uint32_t count;
    const rk_cell *cells = rk_table_cells(target->table, &count);
    for (size_t i = 0; i < target->layout->count; i++) {
        const rk_into *into = &target->into[i];
        const rk_packed_cell *from = &target->layout->cells[i];
        if (into->kind < 0 || into->kind >= RK_INTOS || into->cell >= count) return 0;
        if (cells[into->cell].kind != KINDS[into->kind]) return 0;
        if (KINDS[into->kind] == RK_CELL_VECTOR && (int64_t)into->width != cells[into->cell].width) return 0;
        int has_text = 0, has_int = 0, is_ragged = 0;
        size_t width = 0;
        switch ((rk_into_kind)into->kind) {
        case RK_INTO_F32: width = 4; break;
        case RK_INTO_F64: width = 8; break;
        case RK_INTO_I64: has_int = 1; break;
        case RK_INTO_BOOL: width = 1; break;
        case RK_INTO_CODE: case RK_INTO_TEXT: has_text = 1; break;
        case RK_INTO_SET: has_text = is_ragged = 1; has_int = from->has_int; break;
        case RK_INTO_MAP: has_text = is_ragged = 1; width = 4; break;
        case RK_INTO_WINDOW: has_int = is_ragged = 1; width = 4; break;
        case RK_INTO_F32S: width = (size_t)into->width * 4; break;
        case RK_INTO_F16S: width = (size_t)into->width * 2; break;
        case RK_INTO_I8S: width = (size_t)into->width + 4; break;
        case RK_INTOS: return 0;
        }
        if (!from->has_text != !has_text || !from->has_int != !has_int || !from->is_ragged != !is_ragged ||
            from->width != width)
            return 0;
    }
    return 1;
}

/* IEEE 754 binary16 to binary32: exact. */
static float f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u, mantissa = half & 1023u, bits;
    float value;
    if (exponent == 31) bits = sign | 0x7f800000u | mantissa << 13;
    else if (exponent) bits = sign | (exponent + 112) << 23 | mantissa << 13;
    else {
        value = ldexpf((float)mantissa, -24);
        return sign ? -value : value;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void widen(const rk_into *into, const uint8_t *fixed, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++, out += into->width) {
        if (into->kind == RK_INTO_F16S) {
            for (uint32_t k = 0; k < into->width; k++, fixed += 2)
                out[k] = f16_to_f32((uint16_t)(fixed[0] | fixed[1] << 8));
        } else {
            float scale;
            memcpy(&scale, fixed, sizeof scale);
            fixed += sizeof scale;
            for (uint32_t k = 0; k < into->width; k++) out[k] = scale * (float)(int8_t)fixed[k];
            fixed += into->width;
        }
    }
}

/* The words of an ASCII text, in lower case, joined by blanks (types/text.py); -1: it is not ASCII. */
static int64_t normal_ascii(rk_id text, uint8_t *out)
{
    size_t length = 0;
    int is_between = 0;
    for (size_t i = 0; i < text.length; i++) {
        uint8_t byte = text.bytes[i];
        if (byte >= 0x80) return -1;
        if (byte >= 'A' && byte <= 'Z') byte = (uint8_t)(byte + 32);
        if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9')) {
            if (is_between && length) out[length++] = ' ';
            is_between = 0;
            out[length++] = byte;
        } else {
            is_between = 1;
        }
    }
    return (int64_t)length;
}

typedef struct {
    int32_t code;
    float value;
} pair;

static int by_code(const void *a, const void *b)
{
    int32_t x = ((const pair *)a)->code, y = ((const pair *)b)->code;
    return (x > y) - (x < y);
}

/* Orders the codes of each row, drops what comes twice; elements left. */
static size_t order(pair *pairs, int64_t *lengths, size_t count)
{
    size_t from = 0, to = 0;
    for (size_t i = 0; i < count; i++) {
        size_t length = (size_t)lengths[i], kept = to;
        qsort(pairs + from, length, sizeof *pairs, by_code);
        for (size_t k = 0; k < length; k++)
            if (to == kept || pairs[to - 1].code != pairs[from + k].code) pairs[to++] = pairs[from + k];
        from += length;
        lengths[i] = (int64_t)(to - kept);
    }
    return to;
}

typedef struct {
    const rk_packed_target *target;
    rk_arena *arena;
    rk_id *unknown;
    size_t unknown_count, unknown_room;
    int no_memory;
} state;

static void *take(state *s, size_t count, size_t size)
{
    void *memory = rk_arena_array(s->arena, count + 1, size);
    if (!memory) s->no_memory = 1;
    return memory;
}

static int32_t code_of(state *s, rk_id text)
{
    int64_t code = rk_table_code(s->target->dictionary, text);
    if (code < 0) {
        if (s->unknown_count == s->unknown_room) {
            size_t room = s->unknown_room ? 2 * s->unknown_room : 16;
            rk_id *more = take(s, room, sizeof *more);
            if (!more) return -1;
            if (s->unknown_count) memcpy(more, s->unknown, s->unknown_count * sizeof *more);
            s->unknown = more;
            s->unknown_room = room;
        }
        s->unknown[s->unknown_count++] = text;
    }
    return (int32_t)code;
}

/* Codes, ordered, and the floats beside them. */
static int put_pairs(state *s, const rk_into *into, const rk_packed_column *column, rk_packed_extent extent,
                     rk_table_write *write)
{
    pair *pairs = take(s, extent.elements, sizeof *pairs);
    int32_t *codes = take(s, extent.elements, sizeof *codes);
    float *values = take(s, extent.elements, sizeof *values);
    if (!pairs || !codes || !values) return -1;
    for (size_t i = 0; i < extent.elements; i++) {
        pairs[i].code = into->kind == RK_INTO_WINDOW ? (int32_t)column->ints[i] : code_of(s, column->texts[i]);
        pairs[i].value = 0;
        if (into->kind != RK_INTO_SET) memcpy(&pairs[i].value, column->fixed + 4 * i, 4);
    }
    size_t count = order(pairs, column->lengths, extent.values);
    for (size_t i = 0; i < count; i++) codes[i] = pairs[i].code, values[i] = pairs[i].value;
    write->values = codes;
    write->map_values = into->kind == RK_INTO_SET ? NULL : values;
    write->lengths = column->lengths;
    write->value_count = count;
    return 0;
}

/* 1: not ASCII. */
static int put_texts(state *s, const rk_packed_column *column, rk_packed_extent extent, rk_table_write *write)
{
    size_t bytes = 0;
    for (size_t i = 0; i < extent.elements; i++) bytes += column->texts[i].length;
    uint8_t *data = take(s, bytes, 1);
    int64_t *lengths = take(s, extent.values, sizeof *lengths);
    if (!data || !lengths) return -1;
    size_t end = 0;
    for (size_t i = 0; i < extent.values; i++) {
        lengths[i] = normal_ascii(column->texts[i], data + end);
        if (lengths[i] < 0) return 1;
        end += (size_t)lengths[i];
    }
    write->values = data;
    write->lengths = lengths;
    write->value_count = end;
    return 0;
}

/* 0, 1 (not ASCII), or -1 without memory. */
static int put_column(state *s, const rk_into *into, const rk_packed_column *column, rk_packed_extent extent,
                      rk_table_write *write)
{
    size_t count = extent.values;
    write->value_count = count;
    switch ((rk_into_kind)into->kind) {
    case RK_INTO_F32: case RK_INTO_F64: case RK_INTO_BOOL: case RK_INTO_F32S:
        write->values = column->fixed; /* from an arena: aligned */
        if (into->kind == RK_INTO_F32S) write->value_count = count * into->width;
        return 0;
    case RK_INTO_I64:
        write->values = column->ints;
        return 0;
    case RK_INTO_CODE: {
        int32_t *codes = take(s, count, sizeof *codes);
        if (!codes) return -1;
        for (size_t i = 0; i < count; i++) codes[i] = code_of(s, column->texts[i]);
        write->values = codes;
        return 0;
    }
    case RK_INTO_TEXT:
        return put_texts(s, column, extent, write);
    case RK_INTO_SET: case RK_INTO_MAP: case RK_INTO_WINDOW:
        return put_pairs(s, into, column, extent, write);
    case RK_INTO_F16S: case RK_INTO_I8S: {
        float *numbers = take(s, count * into->width, sizeof *numbers);
        if (!numbers) return -1;
        widen(into, column->fixed, count, numbers);
        write->values = numbers;
        write->value_count = count * into->width;
        return 0;
    }
    case RK_INTOS: break;
    }
    return -1;
}

/* Which rows have a value, which have none, and since when. */
static int put_rows(state *s, const rk_packed_column *column, size_t n, rk_table_write *write)
{
    int64_t *places = take(s, n, sizeof *places), *times = take(s, n, sizeof *times);
    size_t values = 0, clears = n;
    if (!places || !times) return -1;
    for (size_t i = 0; i < n; i++)
        if (column->state[i] == RK_PACKED_VALUE) {
            places[values] = (int64_t)i;
            times[values++] = column->times[i];
        }
    for (size_t i = n; i-- > 0;)
        if (column->state[i] != RK_PACKED_VALUE) {
            places[--clears] = (int64_t)i;
            times[clears] = column->state[i] == RK_PACKED_CLEARED ? column->times[i] : RK_NO_TIME;
        }
    write->rows = places;
    write->times_ms = times;
    write->count = values;
    write->clears = places + clears;
    write->clear_times_ms = times + clears;
    write->clear_count = n - clears;
    return 0;
}

static int take_columns(state *s, const rk_packed_extent *extents, size_t n, rk_packed_column *columns)
{
    for (size_t c = 0; c < s->target->layout->count; c++) {
        const rk_packed_cell *cell = &s->target->layout->cells[c];
        columns[c] = (rk_packed_column){
            .state = take(s, n, 1),
            .times = take(s, n, sizeof(int64_t)),
            .lengths = cell->is_ragged ? take(s, extents[c].values, sizeof(int64_t)) : NULL,
            .texts = cell->has_text ? take(s, extents[c].elements, sizeof(rk_id)) : NULL,
            .ints = cell->has_int ? take(s, extents[c].elements, sizeof(int64_t)) : NULL,
            .fixed = cell->width ? take(s, extents[c].elements, cell->width) : NULL,
        };
    }
    return s->no_memory ? -1 : 0;
}

/* The live rows, and what is known of them, side by side. */
static size_t take_live(state *s, const rk_id *rows, const rk_id *ids, size_t n, const rk_packed_heads *heads,
                        rk_id **live_rows, rk_id **live_ids)
{
    size_t count = 0;
    *live_rows = take(s, n, sizeof **live_rows);
    *live_ids = take(s, n, sizeof **live_ids);
    if (s->no_memory) return 0;
    for (size_t i = 0; i < n; i++)
        if (heads->status[i] == RK_PACKED_LIVE) {
            (*live_rows)[count] = rows[i];
            (*live_ids)[count++] = ids[i];
        }
    return count;
}

static rk_put_status publish(state *s, const rk_table_batch *batch, rk_put *put)
{
    rk_table_room room;
    put->table_status = rk_table_hold(s->target->table, batch, &room);
    if (put->table_status != RK_TABLE_OK) return RK_PUT_FAILED;
    rk_table_publish(s->target->table, batch, &room, NULL);
    return RK_PUT_OK;
}

rk_put_status rk_packed_put(const rk_packed_target *target, const rk_id *rows, const rk_id *ids, size_t n,
                            const rk_packed_heads *heads, rk_arena *arena, rk_put *put)
{
    const rk_packed_layout *layout = target->layout;
    state s = {.target = target, .arena = arena};
    *put = (rk_put){.table_status = RK_TABLE_NO_MEMORY};
    size_t cells = layout->count;
    rk_packed_extent *extents = take(&s, cells, sizeof *extents);
    rk_packed_column *columns = take(&s, cells, sizeof *columns);
    rk_table_write *writes = take(&s, cells, sizeof *writes);
    rk_packed_heads live = {take(&s, n, 1), take(&s, n, sizeof(rk_id)), take(&s, n, sizeof(uint32_t)),
                            take(&s, n, sizeof(int64_t)), take(&s, n, sizeof(int64_t))};
    if (s.no_memory) return RK_PUT_FAILED;
    memset(extents, 0, cells * sizeof *extents);
    rk_packed_check(layout, rows, ids, n, heads, extents);
    rk_id *live_rows, *live_ids;
    size_t count = take_live(&s, rows, ids, n, heads, &live_rows, &live_ids);
    if (s.no_memory) return RK_PUT_FAILED;
    if (!count) return RK_PUT_OK;
    memset(extents, 0, cells * sizeof *extents);
    rk_packed_check(layout, live_rows, live_ids, count, &live, extents);
    if (take_columns(&s, extents, count, columns)) return RK_PUT_FAILED;
    rk_packed_unpack(layout, live_rows, count, &live, extents, columns);
    for (size_t c = 0; c < cells; c++) {
        writes[c] = (rk_table_write){.cell = target->into[c].cell};
        int failed = put_column(&s, &target->into[c], &columns[c], extents[c], &writes[c]);
        if (failed > 0) return RK_PUT_OTHER;
        if (failed || put_rows(&s, &columns[c], count, &writes[c])) return RK_PUT_FAILED;
    }
    if (s.no_memory) return RK_PUT_FAILED;
    if (s.unknown_count) {
        put->unknown = s.unknown;
        put->unknown_count = s.unknown_count;
        return RK_PUT_UNKNOWN;
    }
    return publish(&s, &(rk_table_batch){.ids = live_ids, .n = count, .writes = writes, .write_count = cells,
                                         .written_ms = live.latest, .is_absolute = 1}, put);
}
