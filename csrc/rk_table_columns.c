/* Columns out of the rows that a block of ids has. */
#include "rk_table_reading.h"

static size_t element_bytes(const rk_read_column *column)
{
    if (column->shape != RK_AS_STORED) return 8; /* doubles, times, sums; offsets */
    switch (column->cell.kind) {
    case RK_CELL_F32:
    case RK_CELL_CODE: return 4;
    case RK_CELL_BOOL: return 1;
    case RK_CELL_VECTOR: return 4 * (size_t)column->cell.width;
    default: return 8; /* int64, double */
    }
}

int rk_columns_begin(rk_read *read, size_t n)
{
    for (size_t c = 0; c < read->reading->count; c++) {
        const rk_read_column *column = &read->reading->columns[c];
        void *out = rk_arena_array(read->arena, n + 1, element_bytes(column));
        if (!out) return -1;
        read->columns[c] = (rk_column){.data = out, .rows = (int64_t)n};
        read->joined[c] = (rk_joined){0};
        if (column->shape != RK_AS_SPANS) continue;
        read->columns[c].offsets = out;
        read->columns[c].lengths = rk_arena_array(read->arena, n + 1, sizeof(int32_t));
        if (!read->columns[c].lengths) return -1;
    }
    return 0;
}

void rk_columns_copy_vectors(rk_read *read, size_t i, const rk_word *row)
{
    const rk_table_reading *reading = read->reading;
    for (size_t v = 0; v < reading->vector_count; v++) {
        const rk_read_column *column = &reading->columns[reading->vectors[v]];
        size_t width = (size_t)column->cell.width;
        float *out = (float *)(uintptr_t)read->columns[reading->vectors[v]].data + (read->start + i) * width;
        rk_copy_bytes(out, row + column->row_word, 4 * width);
    }
}

/* Room for `length` more elements (and the bytes that whole words are longer). */
static int joined_room(rk_read *read, rk_joined *joined, const rk_cell *cell, uint64_t length)
{
    enum { FIRST = 1024 };
    size_t bytes = cell->kind == RK_CELL_TEXT ? 1 : 4;
    if (joined->data && length <= joined->capacity - joined->used) return 0; /* even an empty value lies somewhere */
    uint64_t capacity = 2 * joined->capacity + length + FIRST;
    uint8_t *data = rk_arena_array(read->arena, capacity, bytes);
    if (!data) return -1;
    if (joined->used) memcpy(data, joined->data, joined->used * bytes);
    if (cell->kind == RK_CELL_MAP) {
        float *values = rk_arena_array(read->arena, capacity, sizeof *values);
        if (!values) return -1;
        if (joined->used) memcpy(values, joined->values, joined->used * sizeof *values);
        joined->values = values;
    }
    joined->data = data;
    joined->capacity = capacity;
    return 0;
}

/* A reference that leads out of the heap is one that was being overwritten, or the file's damage: nothing then. */
static int copy_span(rk_read *read, size_t c, uint64_t ref, int64_t *offset, int32_t *length)
{
    rk_joined *joined = &read->joined[c];
    const rk_cell *cell = &read->reading->columns[c].cell;
    uint64_t count = rk_ref_length(ref), at = rk_ref_at(ref), bytes = rk_value_bytes(cell->kind, count);
    *offset = (int64_t)joined->used;
    *length = -1;
    if (ref == RK_REF_MISSING || !rk_heap_is_there(read->table, at, bytes)) return 0;
    if (joined_room(read, joined, cell, count)) return -1;
    size_t size = cell->kind == RK_CELL_TEXT ? 1 : 4;
    rk_copy_bytes(joined->data + joined->used * size, rk_heap_at(read->table, at), count * size);
    if (cell->kind == RK_CELL_MAP) {
        rk_copy_bytes(joined->values + joined->used, rk_heap_at(read->table, at + bytes / 2), count * size);
    }
    joined->used += count;
    *length = (int32_t)count;
    return 0;
}

static void decay_values(rk_read *read, size_t c, const uint64_t *row, int32_t length)
{
    if (length <= 0) return;
    double factor = rk_decay(&read->reading->columns[c], row, read->now_ms);
    float *values = read->joined[c].values + read->joined[c].used - (size_t)length;
    for (int32_t k = 0; k < length; k++) values[k] = (float)((double)values[k] * factor);
}

int rk_columns_copy_spans(rk_read *read, size_t i)
{
    const rk_table_reading *reading = read->reading;
    const uint64_t *row = rk_scratch(read, i);
    for (size_t s = 0; s < reading->span_count; s++) {
        size_t c = reading->spans[s], at = read->start + i;
        const rk_read_column *column = &reading->columns[c];
        if (column->shape == RK_AS_SUMS) {
            ((double *)(uintptr_t)read->columns[c].data)[at] = rk_sum(read, column, row);
            continue;
        }
        uint64_t ref = rk_is_expired(column, row, read->now_ms) ? RK_REF_MISSING : row[column->at / 8];
        int64_t *offsets = (int64_t *)(uintptr_t)read->columns[c].offsets;
        int32_t *lengths = (int32_t *)(uintptr_t)read->columns[c].lengths;
        if (copy_span(read, c, ref, &offsets[at], &lengths[at])) return -1;
        if (column->asked.part == RK_PART_DECAYED) decay_values(read, c, row, lengths[at]);
    }
    return 0;
}

/* ---- Decoding. ---- */

/* `body` for each row of the block, with what lies there as `value` and where it goes as `out`. */
#define FOR_ROWS(in_type, out_type, body)                                                             \
    do {                                                                                              \
        const uint8_t *at = (const uint8_t *)read->scratch + column->at;                              \
        size_t stride = 8 * read->reading->scratch_words;                                             \
        out_type *out = (out_type *)(uintptr_t)read->columns[c].data + read->start;                   \
        size_t size = read->size;                                                                     \
        for (size_t i = 0; i < size; i++, at += stride) {                                             \
            in_type value;                                                                            \
            memcpy(&value, at, sizeof value);                                                         \
            out[i] = (body);                                                                          \
        }                                                                                             \
    } while (0)

static void decode_number(rk_read *read, size_t c)
{
    const rk_read_column *column = &read->reading->columns[c];
    double missing = column->asked.missing, divisor = column->asked.divisor;
    if (column->cell.kind == RK_CELL_F32 && missing != missing) FOR_ROWS(float, double, (double)value);
    else if (column->cell.kind == RK_CELL_F32) FOR_ROWS(float, double, value == value ? (double)value : missing);
    else if (column->cell.kind == RK_CELL_F64) FOR_ROWS(double, double, value == value ? value : missing);
    else if (column->cell.kind == RK_CELL_BOOL) FOR_ROWS(int8_t, double, value >= 0 ? (double)value : missing);
    else FOR_ROWS(int64_t, double, value != INT64_MIN ? (double)value / divisor : missing);
}

/* Numbers first, then those that are not missing become less. */
static void decode_decayed(rk_read *read, size_t c)
{
    const rk_read_column *column = &read->reading->columns[c];
    double *out = (double *)(uintptr_t)read->columns[c].data + read->start;
    decode_number(read, c);
    for (size_t i = 0; i < read->size; i++) {
        const uint64_t *row = rk_scratch(read, i);
        if (rk_has_value(&column->cell, (const uint8_t *)row + column->at)) out[i] *= rk_decay(column, row, read->now_ms);
    }
}

/* Of a vector of floats there is nothing to do. */
static void decode_vector(rk_read *read, size_t c)
{
    const rk_read_column *column = &read->reading->columns[c];
    size_t width = (size_t)column->cell.width;
    float *out = (float *)(uintptr_t)read->columns[c].data + read->start * width;
    for (size_t i = 0; column->cell.element && i < read->size; i++) {
        rk_vector_get(&column->cell, (const uint8_t *)rk_scratch(read, i) + column->at, out + i * width);
    }
}

static void decode_stored(rk_read *read, size_t c)
{
    const rk_read_column *column = &read->reading->columns[c];
    switch (column->cell.kind) {
    case RK_CELL_F32: FOR_ROWS(float, float, value); break;
    case RK_CELL_F64: FOR_ROWS(double, double, value); break;
    case RK_CELL_VECTOR: decode_vector(read, c); break;
    case RK_CELL_I64: FOR_ROWS(int64_t, int64_t, value); break;
    case RK_CELL_BOOL: FOR_ROWS(int8_t, int8_t, value); break;
    case RK_CELL_CODE: FOR_ROWS(int32_t, int32_t, value); break;
    default: break; /* copied already */
    }
}

static void decode_time(rk_read *read, size_t c)
{
    const rk_read_column *column = &read->reading->columns[c];
    int64_t *out = (int64_t *)(uintptr_t)read->columns[c].data + read->start;
    for (size_t i = 0; i < read->size; i++) {
        const uint64_t *row = rk_scratch(read, i);
        int is_there = rk_has_value(&column->cell, (const uint8_t *)row + column->at);
        if (!is_there && column->asked.part == RK_PART_CHANGED) {
            is_there = column->cell.timed || (row[read->reading->times_word] & 3) != RK_TIMES_ONE;
        }
        out[i] = read->found[read->start + i] && is_there ? (int64_t)row[column->time_word] : RK_NO_TIME;
    }
}

/* One value that has expired becomes a missing one. */
static void expire(rk_read *read, size_t c, size_t i)
{
    const rk_read_column *column = &read->reading->columns[c];
    size_t at = read->start + i, width = (size_t)column->cell.width;
    void *out = (void *)(uintptr_t)read->columns[c].data;
    if (column->shape == RK_AS_TIMES) {
        ((int64_t *)out)[at] = RK_NO_TIME;
        return;
    }
    switch (column->cell.kind) {
    case RK_CELL_CODE: ((int32_t *)out)[at] = -1; break;
    case RK_CELL_VECTOR:
        for (size_t k = 0; k < width; k++) ((float *)out)[at * width + k] = NAN;
        break;
    case RK_CELL_F32:
    case RK_CELL_F64:
    case RK_CELL_I64:
    case RK_CELL_BOOL:
        if (column->shape == RK_AS_DOUBLES) ((double *)out)[at] = column->asked.missing;
        else if (column->cell.kind == RK_CELL_F32) ((float *)out)[at] = NAN;
        else if (column->cell.kind == RK_CELL_F64) ((double *)out)[at] = NAN;
        else if (column->cell.kind == RK_CELL_I64) ((int64_t *)out)[at] = INT64_MIN;
        else ((int8_t *)out)[at] = -1;
        break;
    default: break; /* not copied in the first place */
    }
}

/* Vectors of ids that were not found. */
static void blank_vectors(rk_read *read)
{
    const rk_table_reading *reading = read->reading;
    for (size_t v = 0; v < reading->vector_count; v++) {
        size_t c = reading->vectors[v], width = (size_t)reading->columns[c].cell.width;
        for (size_t i = 0; i < read->size; i++) {
            float *out = (float *)(uintptr_t)read->columns[c].data + (read->start + i) * width;
            for (size_t k = 0; k < width && !read->found[read->start + i]; k++) out[k] = NAN;
        }
    }
}

void rk_columns_decode(rk_read *read)
{
    const rk_table_reading *reading = read->reading;
    blank_vectors(read);
    for (size_t c = 0; c < reading->count; c++) {
        const rk_read_column *column = &reading->columns[c];
        if (column->shape == RK_AS_TIMES) decode_time(read, c);
        else if (column->shape == RK_AS_DOUBLES && column->asked.part == RK_PART_DECAYED) decode_decayed(read, c);
        else if (column->shape == RK_AS_DOUBLES) decode_number(read, c);
        else if (column->shape == RK_AS_STORED) decode_stored(read, c);
        for (size_t i = 0; column->checks_time && i < read->size; i++) {
            if (rk_is_expired(column, rk_scratch(read, i), read->now_ms)) expire(read, c, i);
        }
    }
}

void rk_columns_end(rk_read *read)
{
    static const uint64_t nothing[1];
    for (size_t s = 0; s < read->reading->span_count; s++) {
        size_t c = read->reading->spans[s];
        const rk_joined *joined = &read->joined[c];
        if (read->reading->columns[c].shape != RK_AS_SPANS) continue;
        read->columns[c].data = joined->data ? (const void *)joined->data : nothing;
        read->columns[c].values = joined->values ? joined->values : (const float *)(const void *)nothing;
        if (read->reading->columns[c].cell.kind != RK_CELL_MAP) read->columns[c].values = NULL;
        read->columns[c].data_length = (int64_t)joined->used;
    }
}
