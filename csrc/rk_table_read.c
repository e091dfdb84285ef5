/* Looking ids up and copying their rows. A block of ids is hashed, then its slots, rows and values are fetched in turn,
 * each wave of cache misses overlapped. */
#include <sched.h>
#include <stdlib.h>

#include "rk_table_reading.h"

enum {
    MOST_LINES = 32,     /* cache lines of a row that are prefetched */
    MOST_TRIES = 1 << 16 /* a row that changes so often while it is read is no writer's work: the file is damaged */
};

/* ---- Readings. ---- */

static int is_window(const rk_table *table, const rk_table_window *window)
{
    return window->cell < table->cell_count && table->cells[window->cell].kind == RK_CELL_MAP && window->ttl_ms >= 0 &&
           window->bucket_ms > 0 && window->bucket_count > 0;
}

static int is_column(const rk_table *table, const rk_table_column *asked)
{
    if (asked->cell >= table->cell_count || asked->ttl_ms < 0) return 0;
    const rk_table_window own = {asked->cell, asked->ttl_ms, asked->bucket_ms, asked->bucket_count};
    int32_t kind = table->cells[asked->cell].kind;
    switch (asked->part) {
    case RK_PART_NUMBER:
    case RK_PART_STORED:
    case RK_PART_TIME:
    case RK_PART_CHANGED: return 1;
    case RK_PART_DECAYED:
        return (kind == RK_CELL_F32 || kind == RK_CELL_F64 || kind == RK_CELL_MAP) && asked->half_life_ms > 0;
    case RK_PART_WINDOW: return is_window(table, &own);
    case RK_PART_RATIO:
        return is_window(table, &own) && is_window(table, &asked->below) && isfinite(asked->prior_mean) &&
               isfinite(asked->prior_weight) && asked->prior_weight >= 0;
    default: return 0;
    }
}

enum { TO_SCRATCH = 1, TO_COLUMN = 2 };

static int asks_time(const rk_table_column *asked)
{
    return asked->part == RK_PART_TIME || asked->part == RK_PART_CHANGED;
}

static rk_read_shape shape_of(int32_t kind, rk_table_part part)
{
    if (part == RK_PART_WINDOW || part == RK_PART_RATIO) return RK_AS_SUMS;
    if (part == RK_PART_TIME || part == RK_PART_CHANGED) return RK_AS_TIMES;
    if (rk_is_heap_kind(kind)) return RK_AS_SPANS;
    return part != RK_PART_STORED && kind <= RK_CELL_BOOL ? RK_AS_DOUBLES : RK_AS_STORED;
}

/* Marks the words of a row that a cell's time needs. */
static void mark_time(const rk_table *table, uint32_t cell, uint8_t *marks)
{
    uint32_t word = table->places[cell].time_word;
    marks[word ? word : table->times_word] |= TO_SCRATCH;
}

/* Marks the words of a row that a column needs, and which of them it reads from scratch memory. */
static void mark_words(const rk_table *table, const rk_table_column *asked, uint8_t *marks)
{
    const rk_cell *cell = &table->cells[asked->cell];
    const rk_place *place = &table->places[asked->cell];
    int is_vector = cell->kind == RK_CELL_VECTOR && !asks_time(asked);
    size_t words = is_vector ? (rk_cell_bytes(cell) + 7) / 8 : 1;
    for (size_t i = 0; i < words; i++) {
        marks[place->at / 8 + i] |= is_vector && cell->element == RK_ELEMENT_F32 ? TO_COLUMN : TO_SCRATCH;
    }
    if (asked->ttl_ms || asks_time(asked) || asked->part == RK_PART_DECAYED) mark_time(table, asked->cell, marks);
    if (asked->part != RK_PART_RATIO) return;
    marks[table->places[asked->below.cell].at / 8] |= TO_SCRATCH;
    if (asked->below.ttl_ms) mark_time(table, asked->below.cell, marks);
}

/* Runs of marked words, put side by side in scratch memory; marks become places there. */
static void make_runs(rk_table_reading *reading, const uint8_t *marks, uint32_t *places)
{
    uint32_t words = (uint32_t)reading->table->row_words, to = RK_ROW_HEAD;
    for (uint32_t w = RK_ROW_HEAD; w < words; w++) {
        if (!(marks[w] & TO_SCRATCH)) continue;
        if (w == RK_ROW_HEAD || !(marks[w - 1] & TO_SCRATCH)) reading->runs[reading->run_count++] = (rk_run){w, to, 0};
        reading->runs[reading->run_count - 1].count++;
        places[w] = to++;
    }
    reading->scratch_words = to;
}

/* Words to prefetch: at most 8 apart, and the last of each run, so that no line of a marked word is left out. The row's
 * first word goes without saying. */
static void make_lines(rk_table_reading *reading, const uint8_t *marks)
{
    uint32_t words = (uint32_t)reading->table->row_words, last = 0;
    for (uint32_t w = RK_ROW_HEAD; w < words && reading->line_count < MOST_LINES; w++) {
        int is_end = w + 1 == words || !marks[w + 1];
        if (marks[w] && (w >= last + 8 || is_end)) reading->lines[reading->line_count++] = last = w;
    }
}

/* Where a cell's time will lie: of one that is not timed, behind the words of the row. */
static uint32_t place_time(rk_table_reading *reading, uint32_t cell, const uint32_t *places)
{
    const rk_place *place = &reading->table->places[cell];
    if (place->time_word) return places[place->time_word];
    reading->times_word = places[reading->table->times_word];
    reading->times[reading->time_count++] = (rk_read_time){place->order, (uint32_t)reading->scratch_words};
    return (uint32_t)reading->scratch_words++;
}

static rk_read_window place_window(rk_table_reading *reading, const rk_table_window *asked, const uint32_t *places)
{
    uint32_t time_word = asked->ttl_ms ? place_time(reading, asked->cell, places) : 0;
    return (rk_read_window){places[reading->table->places[asked->cell].at / 8], time_word, *asked};
}

static void place_column(rk_table_reading *reading, const rk_table_column *asked, const uint32_t *places)
{
    const rk_table *table = reading->table;
    const rk_place *place = &table->places[asked->cell];
    const rk_table_window own = {asked->cell, asked->ttl_ms, asked->bucket_ms, asked->bucket_count};
    rk_read_column *column = &reading->columns[reading->count];
    *column = (rk_read_column){.asked = *asked, .cell = table->cells[asked->cell]};
    column->shape = shape_of(column->cell.kind, asked->part);
    column->at = 8 * places[place->at / 8] + place->at % 8;
    if (column->shape == RK_AS_SUMS) {
        column->windows[0] = place_window(reading, &own, places);
        if (asked->part == RK_PART_RATIO) column->windows[1] = place_window(reading, &asked->below, places);
    } else if (asked->ttl_ms || asks_time(asked) || asked->part == RK_PART_DECAYED) {
        column->time_word = place_time(reading, asked->cell, places);
        column->checks_time = asked->ttl_ms && asked->part != RK_PART_CHANGED;
    }
    if (column->shape == RK_AS_STORED && column->cell.kind == RK_CELL_VECTOR && !column->cell.element) {
        column->row_word = place->at / 8;
        reading->vectors[reading->vector_count++] = (uint32_t)reading->count;
    }
    if (column->shape == RK_AS_SPANS || column->shape == RK_AS_SUMS) {
        reading->spans[reading->span_count++] = (uint32_t)reading->count;
    }
    reading->count++;
}

static void fill_blank(rk_table_reading *reading)
{
    for (size_t r = 0; r < reading->run_count; r++) {
        const rk_run *run = &reading->runs[r];
        memcpy(reading->blank + run->to, reading->table->blank + run->from, 8 * (size_t)run->count);
    }
    for (size_t t = 0; t < reading->time_count; t++) reading->blank[reading->times[t].to] = (uint64_t)RK_NO_TIME;
}

static int fill_reading(rk_table_reading *reading, const rk_table_column *columns, size_t count)
{
    size_t words = reading->table->row_words;
    uint8_t *marks = calloc(words, 1);
    uint32_t *places = calloc(words, sizeof *places);
    reading->columns = calloc(count + 1, sizeof *reading->columns);
    reading->vectors = calloc(count + 1, sizeof *reading->vectors);
    reading->spans = calloc(count + 1, sizeof *reading->spans);
    reading->lines = calloc(MOST_LINES, sizeof *reading->lines);
    reading->runs = calloc(words, sizeof *reading->runs);
    reading->times = calloc(2 * count + 1, sizeof *reading->times);
    reading->blank = calloc(words + 2 * count + 1, 8);
    int failed = !marks || !places || !reading->columns || !reading->vectors || !reading->spans || !reading->lines ||
                 !reading->runs || !reading->times || !reading->blank;
    if (!failed) {
        for (size_t c = 0; c < count; c++) mark_words(reading->table, &columns[c], marks);
        make_runs(reading, marks, places);
        make_lines(reading, marks);
        for (size_t c = 0; c < count; c++) place_column(reading, &columns[c], places);
        fill_blank(reading);
    }
    free(marks);
    free(places);
    return failed;
}

rk_table_reading *rk_table_reading_new(const rk_table *table, const rk_table_column *columns, size_t count)
{
    if (count > UINT32_MAX) return NULL;
    for (size_t c = 0; c < count; c++) {
        if (!is_column(table, &columns[c])) return NULL;
    }
    rk_table_reading *reading = calloc(1, sizeof *reading);
    if (!reading) return NULL;
    reading->table = table;
    if (fill_reading(reading, columns, count)) {
        rk_table_reading_free(reading);
        return NULL;
    }
    return reading;
}

void rk_table_reading_free(rk_table_reading *reading)
{
    if (!reading) return;
    free(reading->columns);
    free(reading->vectors);
    free(reading->spans);
    free(reading->lines);
    free(reading->runs);
    free(reading->times);
    free(reading->blank);
    free(reading);
}

/* ---- One row. ---- */

typedef enum { ROW_IS_IT, ROW_IS_OTHER, ROW_CHANGED } row_verdict;

/* Whether a long id that lies in the heap is this one. */
static int is_long_id(const rk_table *table, uint64_t at, rk_id id)
{
    if (at % 8 || !rk_heap_is_there(table, at, rk_padded(id.length))) return 0;
    const rk_word *words = rk_heap_at(table, at);
    for (size_t i = 0; i < id.length; i += 8) {
        uint64_t word = rk_load(words + i / 8);
        if (memcmp(&word, id.bytes + i, id.length - i < 8 ? id.length - i : 8)) return 0;
    }
    return 1;
}

/* Copies row `row` to the scratch memory of id i if it is that id's; `*version`: what its first word was. */
static row_verdict copy_row(rk_read *read, size_t i, uint64_t row, uint64_t *version)
{
    const rk_table_reading *reading = read->reading;
    const rk_word *words = rk_row_at(read->table, row);
    uint64_t *to = rk_scratch(read, i), before = rk_load_acquire(words), second;
    *version = before;
    if (before & 1) return ROW_CHANGED;
    if (rk_load(words + 1) != read->keys[i].word[0]) return ROW_IS_OTHER;
    second = rk_load(words + 2);
    rk_id id = read->ids[i];
    if (id.length <= RK_INLINE_ID ? second != read->keys[i].word[1] : !is_long_id(read->table, second, id)) {
        return ROW_IS_OTHER;
    }
    to[0] = before;
    to[3] = rk_load(words + 3);
    for (size_t r = 0; r < reading->run_count; r++) {
        const rk_run *run = &reading->runs[r];
        rk_copy_words(to + run->to, words + run->from, run->count);
    }
    for (size_t t = 0; t < reading->time_count; t++) {
        const rk_read_time *time = &reading->times[t];
        to[time->to] = (uint64_t)rk_time_of(read->table, to[reading->times_word], time->order);
    }
    if (reading->vector_count) rk_columns_copy_vectors(read, i, words);
    atomic_thread_fence(memory_order_acquire);
    if (rk_load(words) != before) return ROW_CHANGED;
    read->rows[i] = row;
    return ROW_IS_IT;
}

/* 1: the header names another index now, which is mapped; 0: it does not; -1: it cannot be mapped. */
static int follow(rk_read *read)
{
    if (rk_load_acquire(&read->table->header->generation) == read->map->generation) return 0;
    rk_index_map *map = rk_enter(read->table);
    if (!map) return -1;
    rk_leave(read->table, read->map);
    read->map = map;
    return 1;
}

/* One walk along the slots: 1 found, 0 not there, -1 something changed, so that another walk is due. */
static int walk(rk_read *read, size_t i)
{
    const rk_index_map *map = read->map;
    uint64_t at = rk_home(read->keys[i].tag, map->slot_count), version;
    for (uint64_t steps = 0; steps < map->slot_count; steps++, at = rk_slot_next(at, map->slot_count)) {
        uint64_t slot = rk_load_acquire(&map->slots[at]), row = rk_slot_row(slot);
        if (slot == RK_SLOT_EMPTY) return 0;
        if (!rk_slot_fits(slot, read->keys[i].tag) || !rk_row_is_there(read->table, row)) continue;
        row_verdict verdict = copy_row(read, i, row, &version);
        if (verdict == ROW_IS_IT) return 1;
        if (verdict == ROW_CHANGED) return -1;
        /* Another id with this tag, if the slot showed just that version; else its row had gone on to other use. */
        atomic_thread_fence(memory_order_acquire);
        if (rk_load_acquire(&map->slots[at]) != slot) return -1;
        if (rk_load(rk_row_at(read->table, row)) != version) return -1;
    }
    return 0;
}

/* Finds id i and copies its row, whatever the writer does. 1 found, 0 not there, -1 no new index can be mapped. */
static int find(rk_read *read, size_t i)
{
    for (int tries = 0; tries < MOST_TRIES; tries++) {
        int result = walk(read, i), followed;
        if (result == 1) return 1;
        followed = follow(read);
        if (followed < 0) return -1;
        if (!followed && !result) return 0;
        if (tries % 64 == 63) sched_yield();
    }
    return 0;
}

static int set_found(rk_read *read, size_t i, int found)
{
    if (found < 0) return -1;
    read->found[read->start + i] = (uint8_t)found;
    if (!found) {
        uint64_t *to = rk_scratch(read, i);
        memcpy(to, read->reading->blank, 8 * read->reading->scratch_words);
        to[0] = ~RK_SEQUENCE_MASK;
    }
    return 0;
}

/* ---- A block. ---- */

static void hash_block(rk_read *read)
{
    const rk_index_map *map = read->map;
    for (size_t i = 0; i < read->size; i++) {
        read->keys[i] = rk_key_of(read->table, read->ids[i]);
        __builtin_prefetch(&map->slots[rk_home(read->keys[i].tag, map->slot_count)]);
    }
}

/* The first slot with each id's tag, and its row on the way to the cache. */
static void probe_block(rk_read *read)
{
    const rk_index_map *map = read->map;
    const rk_table_reading *reading = read->reading;
    for (size_t i = 0; i < read->size; i++) {
        uint32_t tag = read->keys[i].tag;
        uint64_t at = rk_home(tag, map->slot_count), slot = rk_load_acquire(&map->slots[at]);
        for (uint64_t steps = 1; slot && !rk_slot_fits(slot, tag) && steps < map->slot_count; steps++) {
            at = rk_slot_next(at, map->slot_count);
            slot = rk_load_acquire(&map->slots[at]);
        }
        read->slots[i] = 0;
        if (!rk_slot_fits(slot, tag) || !rk_row_is_there(read->table, rk_slot_row(slot))) continue;
        read->slots[i] = slot;
        const rk_word *row = rk_row_at(read->table, rk_slot_row(slot));
        __builtin_prefetch(row);
        for (size_t k = 0; k < reading->line_count; k++) __builtin_prefetch(row + reading->lines[k]);
    }
}

static int copy_block(rk_read *read)
{
    for (size_t i = 0; i < read->size; i++) {
        uint64_t version;
        int found = 0;
        if (read->ids[i].length <= RK_TABLE_MAX_ID_BYTES) {
            found = read->slots[i] && copy_row(read, i, rk_slot_row(read->slots[i]), &version) == ROW_IS_IT;
            if (!found) found = find(read, i);
        }
        if (set_found(read, i, found)) return -1;
    }
    return 0;
}

static void prefetch_value(const rk_table *table, uint64_t ref)
{
    if (ref != RK_REF_MISSING && rk_heap_is_there(table, rk_ref_at(ref), 1)) {
        __builtin_prefetch(rk_heap_at(table, rk_ref_at(ref)));
    }
}

static void prefetch_spans(const rk_read *read)
{
    const rk_table_reading *reading = read->reading;
    for (size_t i = 0; i < read->size; i++) {
        const uint64_t *row = rk_scratch(read, i);
        for (size_t s = 0; s < reading->span_count; s++) {
            const rk_read_column *column = &reading->columns[reading->spans[s]];
            prefetch_value(read->table, row[column->at / 8]);
            if (column->asked.part == RK_PART_RATIO) prefetch_value(read->table, row[column->windows[1].word]);
        }
    }
}

/* Copies what a row refers to, and the row again as long as it changes meanwhile. */
static int copy_values(rk_read *read, size_t i)
{
    const rk_table_reading *reading = read->reading;
    for (size_t s = 0; s < reading->span_count; s++) {
        read->joined[reading->spans[s]].begin = read->joined[reading->spans[s]].used;
    }
    for (int tries = 0;; tries++) {
        if (rk_columns_copy_spans(read, i)) return -1;
        atomic_thread_fence(memory_order_acquire);
        if (!read->found[read->start + i]) return 0;
        if (rk_load(rk_row_at(read->table, read->rows[i])) == rk_scratch(read, i)[0]) return 0;
        for (size_t s = 0; s < reading->span_count; s++) {
            read->joined[reading->spans[s]].used = read->joined[reading->spans[s]].begin;
        }
        if (set_found(read, i, tries < MOST_TRIES ? find(read, i) : 0)) return -1;
    }
}

int rk_read_rows(rk_read *read)
{
    hash_block(read);
    probe_block(read);
    return copy_block(read);
}

static int read_block(rk_read *read)
{
    if (rk_read_rows(read)) return -1;
    if (read->reading->span_count) {
        prefetch_spans(read);
        for (size_t i = 0; i < read->size; i++) {
            if (copy_values(read, i)) return -1;
        }
    }
    rk_columns_decode(read);
    return 0;
}

static int read_all(rk_read *read, const rk_id *ids, size_t n, int64_t *written_ms, int64_t *keys)
{
    for (read->start = 0; read->start < n; read->start += RK_READ_BLOCK) {
        read->size = n - read->start < RK_READ_BLOCK ? n - read->start : RK_READ_BLOCK;
        read->ids = ids + read->start;
        if (read_block(read)) return -1;
        for (size_t i = 0; i < read->size; i++) {
            const uint64_t *row = rk_scratch(read, i);
            if (written_ms) written_ms[read->start + i] = (int64_t)row[3];
            if (keys) keys[read->start + i] = (row[0] | RK_SEQUENCE_MASK) == UINT64_MAX ? -1 : (int64_t)(row[0] >> 24);
        }
    }
    return 0;
}

int rk_table_read_rows(const rk_table_reading *reading, const rk_id *ids, size_t n, int64_t now_ms, rk_arena *arena,
                       rk_column *columns, uint8_t *found, int64_t *written_ms, int64_t *keys)
{
    rk_read read = {.reading = reading, .table = reading->table, .arena = arena, .columns = columns, .found = found,
                    .now_ms = now_ms};
    read.joined = rk_arena_array(arena, reading->count, sizeof *read.joined);
    read.scratch = rk_arena_array(arena, RK_READ_BLOCK * reading->scratch_words, 8);
    if (!read.joined || !read.scratch || rk_columns_begin(&read, n)) return -1;
    read.map = rk_enter(reading->table);
    if (!read.map) return -1;
    int status = read_all(&read, ids, n, written_ms, keys);
    rk_leave(reading->table, read.map);
    rk_columns_end(&read);
    return status;
}

int rk_table_read(const rk_table_reading *reading, const rk_id *ids, size_t n, int64_t now_ms, rk_arena *arena,
                  rk_column *columns, uint8_t *found)
{
    return rk_table_read_rows(reading, ids, n, now_ms, arena, columns, found, NULL, NULL);
}
