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

static int is_time(int64_t time_ms) { return time_ms > -RK_TABLE_MOST_TIME && time_ms < RK_TABLE_MOST_TIME; }

static int are_times(const rk_table_write *write)
{
    for (size_t i = 0; write->times_ms && i < write->count; i++) {
        if (!is_time(write->times_ms[i])) return 0;
    }
    for (size_t i = 0; write->clear_times_ms && i < write->clear_count; i++) {
        if (!is_time(write->clear_times_ms[i]) && write->clear_times_ms[i] != RK_NO_TIME) return 0;
    }
    return 1;
}

static int is_write(const rk_table *table, const rk_table_write *write, size_t n, uint64_t *heap_bytes)
{
    if (write->cell >= table->cell_count) return 0;
    const rk_cell *cell = &table->cells[write->cell];
    if (!are_positions(write->rows, write->count, n) || !are_positions(write->clears, write->clear_count, n)) return 0;
    if (!are_times(write)) return 0;
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
    rk_cursor *cursors = realloc(writer->cursors, count * sizeof *cursors);
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
        if (!is_time(batch->written_ms[batch->one_time ? 0 : i])) return 0;
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

/* What is known of all rows of a batch, about cells that are not timed. */
typedef struct {
    int names_any; /* it names any such cell */
    int is_even;   /* all their times are the rows' */
    int is_whole;  /* and each row has a value or a clear for each of them */
    int has_clears;
} batch_shape;

static batch_shape shape_of(const rk_table *table, const rk_table_batch *batch)
{
    batch_shape shape = {0, 1, 0, 0};
    uint32_t whole = 0, after = 0;
    for (size_t w = 0; w < batch->write_count; w++) {
        const rk_table_write *write = &batch->writes[w];
        if (table->cells[write->cell].timed) continue;
        shape.names_any = 1;
        shape.is_even &= !write->times_ms && !write->clear_times_ms;
        shape.has_clears |= write->clear_count != 0;
        whole += write->cell >= after && write->count + write->clear_count == batch->n; /* each cell once, if they ascend */
        after = write->cell + 1;
    }
    shape.is_whole = shape.is_even && whole == table->untimed_count;
    return shape;
}

/* Room for times in the heap, if each row should need it: what is in the table may change before this is published. */
static void times_need(rk_table *table, const rk_table_batch *batch, rk_table_room *need)
{
    rk_writer *writer = table->writer;
    batch_shape shape = shape_of(table, batch);
    uint64_t bytes = 8 * (uint64_t)table->untimed_count;
    if (!shape.names_any || (shape.is_whole && batch->is_absolute)) return;
    need->heap_bytes += batch->n * bytes;
    if (bytes > writer->largest_value) writer->largest_value = bytes;
}

static rk_table_status check_batch(rk_table *table, const rk_table_batch *batch, rk_table_room *need)
{
    *need = (rk_table_room){0, 0};
    for (size_t w = 0; w < batch->write_count; w++) {
        if (!is_write(table, &batch->writes[w], batch->n, &need->heap_bytes)) return RK_TABLE_BAD_ARGUMENT;
    }
    times_need(table, batch, need);
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
static void set_cell(rk_table *table, const rk_table_write *write, size_t i, size_t from)
{
    const rk_cell *cell = &table->cells[write->cell];
    uint64_t *image = table->writer->image;
    uint8_t *to = (uint8_t *)image + table->places[write->cell].at;
    const uint8_t *values = write->values;
    switch (cell->kind) {
    case RK_CELL_F32:
    case RK_CELL_CODE: memcpy(to, values + 4 * i, 4); break;
    case RK_CELL_F64:
    case RK_CELL_I64: memcpy(to, values + 8 * i, 8); break;
    case RK_CELL_BOOL: memcpy(to, values + i, 1); break;
    case RK_CELL_VECTOR: rk_vector_put(cell, (const float *)write->values + (size_t)cell->width * i, to); break;
    default: memcpy(to, &(uint64_t){put_value(table, write, cell->kind, i, from)}, 8);
    }
}

static void clear_cell(rk_table *table, uint32_t c)
{
    size_t at = table->places[c].at;
    memcpy((uint8_t *)table->writer->image + at, (const uint8_t *)table->blank + at, rk_cell_bytes(&table->cells[c]));
}

/* A row being made. */
typedef struct {
    int64_t written_ms, latest_ms; /* the batch's; of what was taken */
    int is_spread;                 /* times of cells that are not timed are looked at one by one, in writer->times */
    int is_absolute, is_changed;   /* is_changed: of those */
} row_work;

/* Whether what a batch says of a cell is not late; then its time is the cell's. */
static int takes(rk_table *table, uint32_t c, int64_t time_ms, row_work *work)
{
    const rk_place *place = &table->places[c];
    int64_t *times = work->is_spread ? table->writer->times + place->order : NULL, before = RK_NO_TIME;
    uint64_t *word = place->time_word ? table->writer->image + place->time_word : NULL;
    if (word) before = (int64_t)*word;
    else if (times) before = *times;
    if (time_ms < before && !work->is_absolute) return 0;
    if (time_ms > work->latest_ms) work->latest_ms = time_ms;
    if (word) {
        *word = (uint64_t)time_ms;
    } else if (times) {
        *times = time_ms;
        work->is_changed = 1;
    }
    return 1;
}

/* As many values as rows are a value for each: positions ascend. */
static void begin_writes(rk_table *table, const rk_table_batch *batch)
{
    for (size_t w = 0; w < batch->write_count; w++) {
        const rk_table_write *write = &batch->writes[w];
        const rk_cell *cell = &table->cells[write->cell];
        size_t bytes = rk_cell_bytes(cell);
        int is_plain = !cell->timed && !write->times_ms && cell->kind < RK_CELL_VECTOR && bytes >= 4;
        rk_cursor *cursor = &table->writer->cursors[w];
        *cursor = (rk_cursor){.at = table->places[write->cell].at};
        if (is_plain && write->count == batch->n) cursor->dense_bytes = (uint32_t)bytes;
    }
}

/* What is said of position i. */
static void apply_writes(rk_table *table, const rk_table_batch *batch, size_t i, row_work *work)
{
    rk_cursor *cursor = table->writer->cursors;
    uint8_t *image = (uint8_t *)table->writer->image;
    for (size_t w = 0; w < batch->write_count; w++, cursor++) {
        const rk_table_write *write = &batch->writes[w];
        size_t value = cursor->value, clear = cursor->clear;
        if (cursor->dense_bytes && !work->is_spread) { /* nothing of it is late */
            const uint8_t *from = write->values;
            if (cursor->dense_bytes == 4) memcpy(image + cursor->at, from + 4 * i, 4);
            else memcpy(image + cursor->at, from + 8 * i, 8);
            cursor->value++;
            continue;
        }
        if (value < write->count && write->rows[value] == (int64_t)i) {
            int64_t time_ms = write->times_ms ? write->times_ms[value] : work->written_ms;
            if (takes(table, write->cell, time_ms, work)) set_cell(table, write, value, cursor->from);
            else cursor->late++;
            if (write->lengths) cursor->from += (size_t)write->lengths[value];
            cursor->value++;
        } else if (clear < write->clear_count && write->clears[clear] == (int64_t)i) {
            int64_t time_ms = write->clear_times_ms ? write->clear_times_ms[clear] : work->written_ms;
            if (takes(table, write->cell, time_ms, work)) clear_cell(table, write->cell);
            else cursor->late++;
            cursor->clear++;
        }
    }
}

/* Whether one time is as good as all for what the row will have: what is there is not later, and all is written anew. */
static int is_one_time(const rk_table *table, const batch_shape *shape, int was_there, const row_work *work)
{
    if (!shape->names_any) return 1;
    if (!shape->is_even) return 0;
    if (!was_there) return shape->is_whole || !shape->has_clears;
    uint64_t word = table->writer->image[table->times_word];
    if (!shape->is_whole) return 0;
    return work->is_absolute || ((word & 3) < RK_TIMES_LISTED && (int64_t)word >> 2 <= work->written_ms);
}

/* The image becomes what the batch makes of it. */
static void make_row(rk_table *table, const rk_table_batch *batch, const batch_shape *shape, size_t i, int was_there)
{
    uint64_t *image = table->writer->image;
    row_work work = {.written_ms = batch->written_ms[batch->one_time ? 0 : i], .is_absolute = batch->is_absolute};
    work.latest_ms = work.written_ms;
    work.is_spread = !is_one_time(table, shape, was_there, &work);
    if (was_there && (int64_t)image[3] > work.latest_ms) work.latest_ms = (int64_t)image[3];
    if (work.is_spread) rk_writer_spread_times(table);
    apply_writes(table, batch, i, &work);
    if (work.is_spread && work.is_changed) rk_writer_gather_times(table);
    else if (!work.is_spread && shape->names_any) {
        image[table->times_word] = rk_times_one(work.written_ms, shape->is_whole ? RK_TIMES_BOTH : RK_TIMES_ONE);
    }
    image[3] = (uint64_t)(batch->is_absolute ? work.written_ms : work.latest_ms);
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

static void upsert(rk_table *table, const rk_table_batch *batch, const batch_shape *shape, size_t i, const rk_key *key)
{
    uint64_t *image = table->writer->image, slot;
    int was_there = rk_writer_find(table, key, batch->ids[i], &slot);
    uint64_t old = was_there ? rk_slot_row(rk_load(&table->writer->map->slots[slot])) : 0;
    if (was_there) rk_copy_words(image, rk_row_at(table, old), table->row_words);
    else begin_new(table, key, batch->ids[i]);
    if (batch->keys && batch->keys[i] != RK_TABLE_NO_KEY) image[0] = (uint64_t)batch->keys[i] << 24;
    make_row(table, batch, shape, i, was_there);
    rk_writer_publish_image(table, key->tag, slot);
    if (was_there) {
        rk_writer_free_row(table, old);
        rk_writer_free_values(table, rk_row_at(table, old));
    } else {
        rk_store(&table->header->count, rk_load(&table->header->count) + 1);
    }
}

uint64_t rk_table_publish(rk_table *table, const rk_table_batch *batch, const rk_table_room *room,
                          uint64_t *late_by_write)
{
    rk_writer *writer = table->writer;
    rk_key keys[BLOCK];
    uint64_t late = 0;
    pthread_mutex_lock(&writer->lock);
    batch_shape shape = shape_of(table, batch);
    begin_writes(table, batch);
    for (size_t i = 0; i < batch->n; i++) {
        size_t left = batch->n - i;
        if (i % BLOCK == 0) make_keys(table, batch->ids + i, left < BLOCK ? left : BLOCK, keys);
        upsert(table, batch, &shape, i, &keys[i % BLOCK]);
    }
    for (size_t w = 0; w < batch->write_count; w++) {
        late += writer->cursors[w].late;
        if (late_by_write) late_by_write[w] += writer->cursors[w].late;
    }
    let_go(writer, room);
    pthread_mutex_unlock(&writer->lock);
    return late;
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
    const batch_shape nothing = {0};
    rk_table_room need;
    uint64_t slot;
    rk_table_status status = check_batch(table, batch, &need);
    if (!status) status = make_room(table, &need);
    for (size_t i = 0; !status && i < batch->n; i++) {
        rk_key key = rk_key_of(table, batch->ids[i]);
        if (!rk_writer_find(table, &key, batch->ids[i], &slot)) upsert(table, batch, &nothing, i, &key);
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
