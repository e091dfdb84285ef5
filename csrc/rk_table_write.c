/* New versions of rows: made in this process's memory, copied to a free row, published by the index's slot. */
#include <stdlib.h>

#include "rk_table_internal.h"

enum { BLOCK = 32 };

static uint64_t sequence_of(uint64_t word) { return word & RK_SEQUENCE_MASK; }

/* ---- Checking and holding. ---- */

/* Whether positions ascend and are positions of n ids. */
static int are_positions(const int64_t *rows, size_t count, size_t n)
{
    int64_t last = -1;
    for (size_t i = 0; i < count; i++) {
        if (rows[i] <= last || rows[i] >= (int64_t)n) return 0;
        last = rows[i];
    }
    return 1;
}

static size_t element_bytes(int32_t kind) { return kind == RK_CELL_TEXT ? 1 : 4; }

/* Adds the bytes that a write's values take in the heap. */
static int heap_need(rk_writer *writer, const rk_table_write *write, int32_t kind, uint64_t *total)
{
    uint64_t left = write->value_count;
    for (size_t i = 0; i < write->count; i++) {
        uint64_t length = (uint64_t)write->lengths[i], bytes = rk_value_bytes(kind, length);
        if (write->lengths[i] < 0 || length > left || length * element_bytes(kind) > RK_TABLE_MAX_VALUE_BYTES ||
            bytes > RK_TABLE_MAX_VALUE_BYTES) {
            return 0;
        }
        left -= length;
        *total += bytes;
        if (bytes > writer->largest_value) writer->largest_value = bytes;
    }
    return left == 0;
}

static int is_write(const rk_table *table, const rk_table_write *write, size_t n, uint64_t *heap_bytes)
{
    if (write->cell >= table->cell_count) return 0;
    const rk_cell *cell = &table->cells[write->cell];
    if (!are_positions(write->rows, write->count, n) || !are_positions(write->clears, write->clear_count, n)) return 0;
    for (size_t i = 0, k = 0; i < write->count && k < write->clear_count;) {
        if (write->rows[i] == write->clears[k]) return 0;
        if (write->rows[i] < write->clears[k]) i++;
        else k++;
    }
    if (rk_is_heap_kind(cell->kind)) return heap_need(table->writer, write, cell->kind, heap_bytes);
    return write->value_count == write->count * (size_t)(cell->width ? cell->width : 1);
}

/* Cursors of a batch's writes, so that publishing takes no memory. */
static int cursor_room(rk_writer *writer, size_t count)
{
    if (count <= writer->cursor_count) return 0;
    size_t *cursors = realloc(writer->cursors, 3 * count * sizeof *cursors);
    if (!cursors) return -1;
    writer->cursors = cursors;
    writer->cursor_count = count;
    return 0;
}

/* Keys of a block of ids, their slots on the way to the cache. */
static void make_keys(const rk_table *table, const rk_id *ids, size_t count, rk_key *keys)
{
    const rk_index_map *map = table->writer->map;
    for (size_t i = 0; i < count; i++) {
        keys[i] = rk_key_of(table, ids[i]);
        __builtin_prefetch(&map->slots[rk_home(keys[i].tag, map->slot_count)]);
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t slot = rk_load(&map->slots[rk_home(keys[i].tag, map->slot_count)]);
        if (rk_slot_fits(slot, keys[i].tag)) __builtin_prefetch(rk_row_at(table, rk_slot_row(slot)));
    }
}

/* What the rows themselves need: `count` ids from position `start` on. */
static int check_ids(rk_table *table, const rk_table_batch *batch, size_t start, size_t count, rk_table_room *need)
{
    rk_writer *writer = table->writer;
    rk_key keys[BLOCK];
    for (size_t i = start; i < start + count; i++) {
        size_t length = batch->ids[i].length;
        if ((!length && table->cell_count) || length > RK_TABLE_MAX_ID_BYTES) return 0;
        if (batch->keys && (batch->keys[i] < RK_TABLE_NO_KEY || batch->keys[i] > RK_TABLE_MAX_KEY)) return 0;
        if (length <= RK_INLINE_ID) continue;
        /* Even if it is there: it could be deleted before this is published. */
        need->heap_bytes += rk_padded(length);
        if (rk_padded(length) > writer->largest_value) writer->largest_value = rk_padded(length);
    }
    make_keys(table, batch->ids + start, count, keys);
    for (size_t i = 0; i < count; i++) {
        uint64_t slot;
        need->rows += !rk_writer_find(table, &keys[i], batch->ids[start + i], &slot);
    }
    return 1;
}

static rk_table_status check_batch(rk_table *table, const rk_table_batch *batch, rk_table_room *need)
{
    *need = (rk_table_room){0, 0};
    for (size_t w = 0; w < batch->write_count; w++) {
        if (!is_write(table, &batch->writes[w], batch->n, &need->heap_bytes)) return RK_TABLE_BAD_ARGUMENT;
    }
    for (size_t i = 0; i < batch->n; i += BLOCK) {
        if (!check_ids(table, batch, i, batch->n - i < BLOCK ? batch->n - i : BLOCK, need)) return RK_TABLE_BAD_ARGUMENT;
    }
    return cursor_room(table->writer, batch->write_count) ? RK_TABLE_NO_MEMORY : RK_TABLE_OK;
}

/* Room for everything that is held and this. */
static rk_table_status make_room(rk_table *table, const rk_table_room *need)
{
    rk_writer *writer = table->writer;
    uint64_t rows = writer->held.rows + need->rows;
    if (need->rows && rk_load(&table->header->count) + rows > writer->max_rows) return RK_TABLE_FULL_ROWS;
    rk_table_status status = rk_writer_row_room(table, rows);
    if (!status) status = rk_writer_index_room(table, rows);
    if (!status) status = rk_writer_heap_room(table, writer->held.heap_bytes + need->heap_bytes);
    return status;
}

rk_table_status rk_table_hold(rk_table *table, const rk_table_batch *batch, rk_table_room *room)
{
    rk_writer *writer = table->writer;
    pthread_mutex_lock(&writer->lock);
    rk_table_status status = check_batch(table, batch, room);
    if (!status) status = make_room(table, room);
    if (!status) {
        writer->held.rows += room->rows;
        writer->held.heap_bytes += room->heap_bytes;
    }
    pthread_mutex_unlock(&writer->lock);
    return status;
}

static void let_go(rk_writer *writer, const rk_table_room *room)
{
    writer->held.rows -= room->rows;
    writer->held.heap_bytes -= room->heap_bytes;
}

void rk_table_drop(rk_table *table, const rk_table_room *room)
{
    pthread_mutex_lock(&table->writer->lock);
    let_go(table->writer, room);
    pthread_mutex_unlock(&table->writer->lock);
}

/* ---- Publishing. ---- */

static uint64_t put_value(rk_table *table, const rk_table_write *write, int32_t kind, size_t i, size_t from)
{
    uint64_t length = (uint64_t)write->lengths[i], bytes = rk_value_bytes(kind, length);
    uint64_t at = rk_writer_take_heap(table, bytes);
    size_t size = length * element_bytes(kind);
    rk_put_bytes(rk_heap_at(table, at), (const uint8_t *)write->values + from * element_bytes(kind), size);
    if (kind == RK_CELL_MAP) rk_put_bytes(rk_heap_at(table, at + bytes / 2), write->map_values + from, size);
    return rk_ref_of(at, length);
}

/* Value i of a write, whose elements start at `from`, to the row being made. */
static void set_cell(rk_table *table, const rk_table_write *write, size_t i, size_t from, int64_t written_ms)
{
    const rk_cell *cell = &table->cells[write->cell];
    const rk_place *place = &table->places[write->cell];
    uint64_t *image = table->writer->image;
    uint8_t *to = (uint8_t *)image + place->at;
    switch (cell->kind) {
    case RK_CELL_F32:
    case RK_CELL_CODE: memcpy(to, (const uint8_t *)write->values + 4 * i, 4); break;
    case RK_CELL_I64: memcpy(to, (const uint8_t *)write->values + 8 * i, 8); break;
    case RK_CELL_BOOL: memcpy(to, (const uint8_t *)write->values + i, 1); break;
    case RK_CELL_VECTOR:
        memcpy(to, (const float *)write->values + (size_t)cell->width * i, 4 * (size_t)cell->width);
        break;
    default: image[place->at / 8] = put_value(table, write, cell->kind, i, from);
    }
    if (cell->timed) image[place->time_word] = (uint64_t)(write->times_ms ? write->times_ms[i] : written_ms);
}

static void clear_cell(rk_table *table, uint32_t c)
{
    const rk_cell *cell = &table->cells[c];
    const rk_place *place = &table->places[c];
    static const size_t bytes[RK_CELL_KINDS] = {4, 8, 1, 4, 0, 8, 8, 8};
    size_t size = cell->kind == RK_CELL_VECTOR ? 4 * (size_t)cell->width : bytes[cell->kind];
    memcpy((uint8_t *)table->writer->image + place->at, (const uint8_t *)table->blank + place->at, size);
    if (cell->timed) table->writer->image[place->time_word] = 0;
}

/* What is said of position i: cursors are (next value, its first element, next clear) of each write. */
static void apply_writes(rk_table *table, const rk_table_batch *batch, size_t i, int64_t written_ms)
{
    size_t *cursor = table->writer->cursors;
    for (size_t w = 0; w < batch->write_count; w++, cursor += 3) {
        const rk_table_write *write = &batch->writes[w];
        if (cursor[0] < write->count && write->rows[cursor[0]] == (int64_t)i) {
            set_cell(table, write, cursor[0], cursor[1], written_ms);
            if (write->lengths) cursor[1] += (size_t)write->lengths[cursor[0]];
            cursor[0]++;
        } else if (cursor[2] < write->clear_count && write->clears[cursor[2]] == (int64_t)i) {
            clear_cell(table, write->cell);
            cursor[2]++;
        }
    }
}

/* The image of a row that there was not. */
static void begin_new(rk_table *table, const rk_key *key, rk_id id)
{
    uint64_t *image = table->writer->image;
    memcpy(image, table->blank, 8 * table->row_words);
    image[0] = ~RK_SEQUENCE_MASK;
    image[1] = key->word[0];
    image[2] = key->word[1];
    if (id.length > RK_INLINE_ID) {
        image[2] = rk_writer_take_heap(table, rk_padded(id.length));
        rk_put_bytes(rk_heap_at(table, image[2]), id.bytes, id.length);
    }
}

void rk_writer_publish_image(rk_table *table, uint32_t tag, uint64_t slot)
{
    uint64_t *image = table->writer->image, row = rk_writer_take_row(table);
    rk_word *words = rk_row_at(table, row);
    uint64_t sequence = sequence_of(rk_load(words) + 1);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 1; i < table->row_words; i++) rk_store(words + i, image[i]);
    rk_store_release(words, (image[0] & ~RK_SEQUENCE_MASK) | sequence);
    rk_writer_set_slot(table, slot, rk_slot_of(tag, row));
}

static void upsert(rk_table *table, const rk_table_batch *batch, size_t i, const rk_key *key)
{
    uint64_t *image = table->writer->image, slot;
    int64_t written_ms = batch->written_ms[batch->one_time ? 0 : i];
    int was_there = rk_writer_find(table, key, batch->ids[i], &slot);
    uint64_t old = was_there ? rk_slot_row(rk_load(&table->writer->map->slots[slot])) : 0;
    if (was_there) rk_copy_words(image, rk_row_at(table, old), table->row_words);
    else begin_new(table, key, batch->ids[i]);
    image[3] = (uint64_t)written_ms;
    if (batch->keys && batch->keys[i] != RK_TABLE_NO_KEY) image[0] = (uint64_t)batch->keys[i] << 24;
    apply_writes(table, batch, i, written_ms);
    rk_writer_publish_image(table, key->tag, slot);
    if (was_there) {
        rk_writer_free_row(table, old);
        rk_writer_free_values(table, rk_row_at(table, old));
    } else {
        rk_store(&table->header->count, rk_load(&table->header->count) + 1);
    }
}

void rk_table_publish(rk_table *table, const rk_table_batch *batch, const rk_table_room *room)
{
    rk_writer *writer = table->writer;
    rk_key keys[BLOCK];
    pthread_mutex_lock(&writer->lock);
    if (batch->write_count) memset(writer->cursors, 0, 3 * batch->write_count * sizeof *writer->cursors);
    for (size_t i = 0; i < batch->n; i++) {
        size_t left = batch->n - i;
        if (i % BLOCK == 0) make_keys(table, batch->ids + i, left < BLOCK ? left : BLOCK, keys);
        upsert(table, batch, i, &keys[i % BLOCK]);
    }
    let_go(writer, room);
    pthread_mutex_unlock(&writer->lock);
}

uint64_t rk_table_delete(rk_table *table, const rk_id *ids, size_t n)
{
    rk_writer *writer = table->writer;
    uint64_t removed = 0, slot;
    pthread_mutex_lock(&writer->lock);
    for (size_t i = 0; i < n; i++) {
        if (ids[i].length > RK_TABLE_MAX_ID_BYTES) continue;
        rk_key key = rk_key_of(table, ids[i]);
        if (!rk_writer_find(table, &key, ids[i], &slot)) continue;
        uint64_t row = rk_slot_row(rk_load(&writer->map->slots[slot]));
        rk_copy_words(writer->image, rk_row_at(table, row), table->row_words);
        rk_writer_clear_slot(table, slot);
        rk_writer_free_row(table, row);
        rk_writer_count_row(table, writer->image, 0);
        rk_store(&table->header->count, rk_load(&table->header->count) - 1);
        removed++;
    }
    pthread_mutex_unlock(&writer->lock);
    return removed;
}

/* A dictionary's rows are never freed, so the next code is the next row. */
static rk_table_status intern(rk_table *table, const rk_table_batch *batch, int32_t *codes)
{
    rk_table_room need;
    uint64_t slot;
    rk_table_status status = check_batch(table, batch, &need);
    if (!status) status = make_room(table, &need);
    for (size_t i = 0; !status && i < batch->n; i++) {
        rk_key key = rk_key_of(table, batch->ids[i]);
        if (!rk_writer_find(table, &key, batch->ids[i], &slot)) upsert(table, batch, i, &key);
        if (!rk_writer_find(table, &key, batch->ids[i], &slot)) return RK_TABLE_DAMAGED;
        codes[i] = (int32_t)rk_slot_row(rk_load(&table->writer->map->slots[slot]));
    }
    return status;
}

rk_table_status rk_table_intern(rk_table *dictionary, const rk_id *texts, size_t n, int32_t *codes)
{
    static const int64_t no_time = 0;
    rk_table_batch batch = {.ids = texts, .n = n, .written_ms = &no_time, .one_time = 1};
    pthread_mutex_lock(&dictionary->writer->lock);
    rk_table_status status = dictionary->cell_count ? RK_TABLE_BAD_ARGUMENT : intern(dictionary, &batch, codes);
    pthread_mutex_unlock(&dictionary->writer->lock);
    return status;
}
