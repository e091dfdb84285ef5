/* The heap: segments that are filled from their start on. A segment that no live row refers to is filled anew; slow
 * readers of what was there find their row's sequence number changed. */
#include "rk_table_internal.h"

enum { MOST_COMPACTIONS = 8 }; /* when the disk is full: each makes room for the next to move more */

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t segment_end(uint64_t segment, uint64_t file_bytes)
{
    return least((segment + 1) * RK_SEGMENT_BYTES, file_bytes);
}

static uint64_t segment_start(uint64_t segment) { return segment ? segment * RK_SEGMENT_BYTES : RK_FILE_HEAD; }

static uint64_t segment_count(uint64_t file_bytes) { return (file_bytes + RK_SEGMENT_BYTES - 1) / RK_SEGMENT_BYTES; }

static int is_free(const rk_writer *writer, uint64_t segment)
{
    return !writer->live[segment] && segment != writer->segment;
}

/* Bytes of values that surely fit between two places: at the end a value may not, and then goes elsewhere. */
static uint64_t surely(uint64_t from, uint64_t to, uint64_t largest)
{
    return to - from > largest ? to - from - largest : 0;
}

/* Bytes of values that surely fit if the file had so many bytes. */
static uint64_t room(const rk_writer *writer, uint64_t file_bytes)
{
    uint64_t end = segment_end(writer->segment, file_bytes), largest = writer->largest_value, total = 0;
    if (writer->bump < end) total = surely(writer->bump, end, largest);
    for (uint64_t s = 0; s < segment_count(file_bytes); s++) {
        if (is_free(writer, s)) total += surely(segment_start(s), segment_end(s, file_bytes), largest);
    }
    return total;
}

uint64_t rk_writer_total_bytes(const rk_table *table)
{
    const rk_writer *writer = table->writer;
    return table->header->header_bytes + writer->row_capacity * 8 * table->row_words + writer->heap_bytes +
           writer->map->bytes;
}

uint64_t rk_writer_left_bytes(const rk_table *table)
{
    uint64_t total = rk_writer_total_bytes(table), most = table->writer->max_bytes;
    return total < most ? most - total : 0;
}

static rk_table_status grow(rk_table *table, uint64_t file_bytes)
{
    rk_writer *writer = table->writer;
    file_bytes = (file_bytes + RK_PAGE - 1) / RK_PAGE * RK_PAGE;
    if (file_bytes <= writer->heap_bytes) return RK_TABLE_OK;
    if (file_bytes - writer->heap_bytes > rk_writer_left_bytes(table)) return RK_TABLE_FULL_BYTES;
    rk_table_status status = rk_grow_file(table->heap_fd, writer->heap_bytes, file_bytes);
    if (!status) writer->heap_bytes = file_bytes;
    return status;
}

/* How long the file should be for so many bytes of values. */
static uint64_t target_bytes(const rk_writer *writer, uint64_t bytes)
{
    uint64_t target = writer->heap_bytes, end = (writer->segment + 1) * RK_SEGMENT_BYTES;
    /* A segment at the file's end is made longer before another is begun. */
    if (target < end && bytes + writer->largest_value > target - writer->bump) {
        target = least(writer->bump + bytes + writer->largest_value, end);
    }
    while (room(writer, target) < bytes) {
        uint64_t lacking = bytes - room(writer, target);
        target += lacking > writer->largest_value ? lacking : writer->largest_value + 8;
    }
    return target;
}

rk_table_status rk_writer_heap_room(rk_table *table, uint64_t bytes)
{
    rk_writer *writer = table->writer;
    uint64_t now = writer->heap_bytes, target = target_bytes(writer, bytes);
    if (!bytes || target == now) return RK_TABLE_OK;
    int is_due = rk_writer_is_compaction_due(table);
    rk_table_status status = grow(table, target + (is_due ? now / 16 + RK_SEGMENT_BYTES : rk_spare(now)));
    if (status) status = grow(table, target);
    if (!status && is_due) rk_writer_compact(table, room(writer, writer->heap_bytes) - bytes);
    for (int tries = 0; status && tries < MOST_COMPACTIONS; tries++) {
        if (room(writer, now) >= bytes) return RK_TABLE_OK;
        if (!rk_writer_compact(table, room(writer, now))) return status;
    }
    return status;
}

static void next_segment(rk_writer *writer)
{
    uint64_t count = segment_count(writer->heap_bytes), s = 0;
    while (s < count && !is_free(writer, s)) s++;
    writer->segment = s;
    writer->bump = segment_start(s);
}

uint64_t rk_writer_take_heap(rk_table *table, uint64_t bytes)
{
    rk_writer *writer = table->writer;
    if (!bytes) return RK_FILE_HEAD;
    while (writer->bump + bytes > segment_end(writer->segment, writer->heap_bytes)) next_segment(writer);
    uint64_t at = writer->bump;
    writer->bump += bytes;
    writer->live[writer->segment] += (uint32_t)bytes;
    return at;
}

void rk_writer_free_heap(rk_table *table, uint64_t at, uint64_t bytes)
{
    table->writer->live[at / RK_SEGMENT_BYTES] -= (uint32_t)bytes;
}

static void free_value(rk_table *table, int32_t kind, uint64_t ref)
{
    rk_writer_free_heap(table, rk_ref_at(ref), rk_value_bytes(kind, rk_ref_length(ref)));
}

void rk_writer_free_values(rk_table *table, const rk_word *old)
{
    const uint64_t *image = table->writer->image;
    uint64_t id_bytes = image[1] & UINT32_MAX, id_at = rk_load(old + 2);
    if (id_bytes > RK_INLINE_ID && id_at != image[2]) rk_writer_free_heap(table, id_at, rk_padded(id_bytes));
    uint64_t times = table->times_word ? rk_load(old + table->times_word) : 0, bytes = rk_times_bytes(table, times);
    if (bytes && times != image[table->times_word]) rk_writer_free_heap(table, rk_times_at(times), bytes);
    for (uint32_t h = 0; h < table->heap_cell_count; h++) {
        uint32_t c = table->heap_cells[h];
        uint64_t ref = rk_load(old + table->places[c].at / 8);
        if (ref != RK_REF_MISSING && ref != image[table->places[c].at / 8]) free_value(table, table->cells[c].kind, ref);
    }
}

void rk_writer_count_row(rk_table *table, const uint64_t *row, int is_live)
{
    rk_writer *writer = table->writer;
    uint32_t sign = is_live ? 1 : UINT32_MAX; /* modulo 2^32 */
    uint64_t id_bytes = row[1] & UINT32_MAX;
    if (id_bytes > RK_INLINE_ID) writer->live[row[2] / RK_SEGMENT_BYTES] += sign * (uint32_t)rk_padded(id_bytes);
    uint64_t times = table->times_word ? row[table->times_word] : 0, times_bytes = rk_times_bytes(table, times);
    if (times_bytes) writer->live[rk_times_at(times) / RK_SEGMENT_BYTES] += sign * (uint32_t)times_bytes;
    for (uint32_t h = 0; h < table->heap_cell_count; h++) {
        uint32_t c = table->heap_cells[h];
        uint64_t ref = row[table->places[c].at / 8];
        if (ref == RK_REF_MISSING) continue;
        uint64_t bytes = rk_value_bytes(table->cells[c].kind, rk_ref_length(ref));
        writer->live[rk_ref_at(ref) / RK_SEGMENT_BYTES] += sign * (uint32_t)bytes;
    }
}
