/* Emptying segments of the heap of which little is in use. What is in use is copied elsewhere and its rows get new
 * versions; then the superseded rows have odd sequence numbers, and the segment can be filled anew.
 *
 * It takes a look at every row, so it is done only when a good part of the files has become garbage since. */
#include <stdlib.h>

#include "rk_table_internal.h"

/* Segments of which no more than 1 / PART is in use are emptied, once what is won is 1 / PART_OF_ALL of the files. */
enum { PART = 2, PART_OF_ALL = 8 };

static int is_victim(const rk_writer *writer, uint64_t segment)
{
    return segment != writer->segment && writer->live[segment] && writer->live[segment] <= RK_SEGMENT_BYTES / PART;
}

/* Marks segments whose values surely fit into `room` bytes; whether there are any. */
static int mark_victims(const rk_writer *writer, uint64_t room, uint8_t *marks)
{
    int is_any = 0;
    for (uint64_t s = 0; s < writer->heap_bytes / RK_SEGMENT_BYTES; s++) { /* one at the end that is not whole stays */
        if (!is_victim(writer, s) || writer->live[s] > room) continue;
        room -= writer->live[s];
        is_any = marks[s] = 1;
    }
    return is_any;
}

static uint64_t moved(rk_table *table, uint64_t at, uint64_t bytes)
{
    uint64_t to = rk_writer_take_heap(table, bytes);
    rk_word *out = rk_heap_at(table, to);
    const rk_word *in = rk_heap_at(table, at);
    for (uint64_t i = 0; i < bytes / 8; i++) rk_store(out + i, rk_load(in + i));
    return to;
}

static int is_marked(const uint8_t *marks, uint64_t at, uint64_t bytes) { return bytes && marks[at / RK_SEGMENT_BYTES]; }

/* Whether a row refers to a marked segment. */
static int refers(const rk_table *table, const rk_word *row, const uint8_t *marks)
{
    uint64_t id_bytes = rk_load(row + 1) & UINT32_MAX;
    if (id_bytes > RK_INLINE_ID && marks[rk_load(row + 2) / RK_SEGMENT_BYTES]) return 1;
    uint64_t times = table->times_word ? rk_load(row + table->times_word) : 0;
    if (is_marked(marks, rk_times_at(times), rk_times_bytes(table, times))) return 1;
    for (uint32_t h = 0; h < table->heap_cell_count; h++) {
        uint32_t c = table->heap_cells[h];
        uint64_t ref = rk_load(row + table->places[c].at / 8);
        if (ref != RK_REF_MISSING && is_marked(marks, rk_ref_at(ref), rk_ref_length(ref))) return 1;
    }
    return 0;
}

/* Copies of the image's values out of marked segments; the places they had are given back. */
static void move_values(rk_table *table, const uint8_t *marks)
{
    uint64_t *image = table->writer->image, id_bytes = image[1] & UINT32_MAX;
    if (id_bytes > RK_INLINE_ID && marks[image[2] / RK_SEGMENT_BYTES]) {
        image[2] = moved(table, image[2], rk_padded(id_bytes));
    }
    uint64_t *times = &image[table->times_word], bytes = table->times_word ? rk_times_bytes(table, *times) : 0;
    if (is_marked(marks, rk_times_at(*times), bytes)) {
        *times = moved(table, rk_times_at(*times), bytes) >> 3 << 24 | (*times & 0xffffff);
    }
    for (uint32_t h = 0; h < table->heap_cell_count; h++) {
        uint32_t c = table->heap_cells[h];
        uint64_t *ref = &image[table->places[c].at / 8], length = rk_ref_length(*ref);
        if (*ref == RK_REF_MISSING || !is_marked(marks, rk_ref_at(*ref), length)) continue;
        *ref = rk_ref_of(moved(table, rk_ref_at(*ref), rk_value_bytes(table->cells[c].kind, length)), length);
    }
}

static void move_row(rk_table *table, uint64_t row, const uint8_t *marks)
{
    rk_writer *writer = table->writer;
    uint64_t slot;
    rk_copy_words(writer->image, rk_row_at(table, row), table->row_words);
    uint64_t length = writer->image[1] & UINT32_MAX;
    const uint8_t *bytes = (const uint8_t *)(writer->image + 1) + 4;
    rk_id id = {length > RK_INLINE_ID ? table->heap + writer->image[2] : bytes, length};
    rk_key key = rk_key_of(table, id);
    if (!rk_writer_find(table, &key, id, &slot)) return;
    move_values(table, marks);
    rk_writer_publish_image(table, key.tag, slot);
    rk_writer_free_row(table, row);
    rk_writer_free_values(table, rk_row_at(table, row));
}

int rk_writer_is_compaction_due(const rk_table *table)
{
    const rk_writer *writer = table->writer;
    uint64_t won = 0;
    for (uint64_t s = 0; s < writer->heap_bytes / RK_SEGMENT_BYTES; s++) {
        if (is_victim(writer, s)) won += RK_SEGMENT_BYTES - writer->live[s];
    }
    return won && won >= rk_writer_total_bytes(table) / PART_OF_ALL;
}

int rk_writer_compact(rk_table *table, uint64_t room)
{
    uint8_t *marks = calloc(table->writer->heap_bytes / RK_SEGMENT_BYTES + 1, 1);
    if (!marks) return 0;
    int is_any = mark_victims(table->writer, room, marks);
    uint64_t bound = is_any ? rk_load(&table->header->row_bound) : 0; /* rows that are made meanwhile are not in it */
    for (uint64_t row = 0; row < bound; row++) {
        const rk_word *words = rk_row_at(table, row);
        if (!(rk_load(words) & 1) && refers(table, words, marks)) move_row(table, row, marks);
    }
    free(marks);
    return is_any;
}
