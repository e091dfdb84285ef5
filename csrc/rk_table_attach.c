/* What a writer knows beside the files, made from the files: which rows are free and how much of the heap is in use.
 *
 * The index is right whenever its writer was stopped: a slot changes by one store, after the row it shows is complete.
 * So a row is live if a slot shows it, and free if none does; what was being written is among the free ones. Only
 * crashes of the machine can leave pages of different times; of those the owner of the table knows (rk_table_set_clean). */
#include <stdlib.h>
#include <unistd.h>

#include "rk_table_internal.h"

enum { KEPT_BYTES = 1 << 16, LEAST_KEPT = 16, MOST_KEPT = 256 };

/* A bit for each row that a slot shows. */
static rk_table_status mark_live(rk_table *table, uint64_t bound, uint64_t *live)
{
    rk_writer *writer = table->writer;
    const rk_index_map *map = writer->map;
    uint64_t count = 0, empty = 0;
    for (uint64_t i = 0; i < map->slot_count; i++) {
        uint64_t slot = rk_load(&map->slots[i]);
        empty += slot == RK_SLOT_EMPTY;
        if ((slot & UINT32_MAX) < RK_SLOT_ROW) {
            if (slot > RK_SLOT_DELETED) return RK_TABLE_DAMAGED;
            continue;
        }
        uint64_t row = rk_slot_row(slot), bit = UINT64_C(1) << row % 64;
        if (row >= bound || (live[row / 64] & bit)) return RK_TABLE_DAMAGED;
        live[row / 64] |= bit;
        count++;
    }
    if (!empty) return RK_TABLE_DAMAGED; /* a search would not end */
    writer->used_slots = map->slot_count - empty;
    rk_store(&table->header->count, count);
    return RK_TABLE_OK;
}

static int is_in_heap(const rk_writer *writer, uint64_t at, uint64_t bytes)
{
    if (at % 8 || at < RK_FILE_HEAD || at > writer->heap_bytes || bytes > writer->heap_bytes - at) return 0;
    return !bytes || at / RK_SEGMENT_BYTES == (at + bytes - 1) / RK_SEGMENT_BYTES;
}

static void extend_top(rk_writer *writer, uint64_t at, uint64_t bytes)
{
    if (at + bytes > writer->bump) writer->bump = at + bytes;
    if (bytes > writer->largest_value) writer->largest_value = bytes;
}

/* Counts what a live row refers to; meanwhile `bump` is the highest end of a value. */
static rk_table_status count_values(rk_table *table, const uint64_t *row)
{
    rk_writer *writer = table->writer;
    uint64_t id_bytes = row[1] & UINT32_MAX;
    if ((!id_bytes && table->cell_count) || id_bytes > RK_TABLE_MAX_ID_BYTES) return RK_TABLE_DAMAGED;
    if (id_bytes > RK_INLINE_ID) {
        if (!is_in_heap(writer, row[2], rk_padded(id_bytes))) return RK_TABLE_DAMAGED;
        extend_top(writer, row[2], rk_padded(id_bytes));
    }
    uint64_t times = table->times_word ? row[table->times_word] : 0, times_bytes = rk_times_bytes(table, times);
    if (times_bytes) {
        if (!is_in_heap(writer, rk_times_at(times), times_bytes)) return RK_TABLE_DAMAGED;
        extend_top(writer, rk_times_at(times), times_bytes);
    }
    for (uint32_t h = 0; h < table->heap_cell_count; h++) {
        uint32_t c = table->heap_cells[h];
        uint64_t ref = row[table->places[c].at / 8];
        if (ref == RK_REF_MISSING) continue;
        uint64_t bytes = rk_value_bytes(table->cells[c].kind, rk_ref_length(ref));
        if (!is_in_heap(writer, rk_ref_at(ref), bytes)) return RK_TABLE_DAMAGED;
        extend_top(writer, rk_ref_at(ref), bytes);
    }
    rk_writer_count_row(table, row, 1);
    return RK_TABLE_OK;
}

static rk_table_status scan_rows(rk_table *table, uint64_t bound, const uint64_t *live)
{
    rk_writer *writer = table->writer;
    size_t words = table->heap_cell_count ? table->row_words : RK_ROW_HEAD + (table->times_word != 0);
    for (uint64_t row = 0; row < bound; row++) {
        if (!(live[row / 64] >> row % 64 & 1)) {
            rk_writer_free_row(table, row);
            continue;
        }
        rk_copy_words(writer->image, rk_row_at(table, row), words);
        if (writer->image[0] & 1) return RK_TABLE_DAMAGED;
        rk_table_status status = count_values(table, writer->image);
        if (status) return status;
    }
    return RK_TABLE_OK;
}

static rk_table_status scan(rk_table *table)
{
    rk_writer *writer = table->writer;
    uint64_t bound = rk_load(&table->header->row_bound);
    if (bound > writer->row_capacity || bound > RK_TABLE_MAX_ROWS) return RK_TABLE_DAMAGED;
    uint64_t *live = calloc(bound / 64 + 1, sizeof *live);
    if (!live) return RK_TABLE_NO_MEMORY;
    writer->bump = RK_FILE_HEAD;
    rk_table_status status = mark_live(table, bound, live);
    if (!status) status = scan_rows(table, bound, live);
    free(live);
    writer->segment = writer->bump / RK_SEGMENT_BYTES; /* goes on behind the last value */
    return status;
}

/* What a writer that died while it replaced the index left over. */
static void unlink_others(const rk_table *table, uint64_t generation)
{
    for (uint64_t other = generation - 1; other != generation + 2; other++) {
        char *name = other == generation ? NULL : rk_index_name(table->path, other);
        if (name) unlink(name);
        free(name);
    }
}

static rk_table_status fill(rk_table *table, const rk_table_options *options)
{
    rk_writer *writer = table->writer;
    uint64_t rows_bytes, row_bytes = 8 * table->row_words, kept = KEPT_BYTES / row_bytes;
    if (rk_file_bytes(table->rows_fd, &rows_bytes) || rk_file_bytes(table->heap_fd, &writer->heap_bytes)) {
        return RK_TABLE_IO;
    }
    writer->max_rows = options->max_rows;
    writer->max_bytes = options->max_bytes;
    writer->row_capacity = (rows_bytes - table->header->header_bytes) / row_bytes;
    if (writer->row_capacity > RK_TABLE_MAX_ROWS) writer->row_capacity = RK_TABLE_MAX_ROWS;
    writer->free_kept = (uint32_t)(kept < LEAST_KEPT ? LEAST_KEPT : kept > MOST_KEPT ? MOST_KEPT : kept);
    writer->live = calloc(table->reserved_bytes / RK_SEGMENT_BYTES + 2, sizeof *writer->live);
    writer->image = calloc(table->row_words, 8);
    writer->times = calloc(table->untimed_count + table->untimed_count / 8 + 1, 8); /* and a byte for each */
    if (!writer->live || !writer->image || !writer->times) return RK_TABLE_NO_MEMORY;
    uint64_t generation = rk_load(&table->header->generation);
    rk_table_status status = rk_index_open(table, generation, 1, &writer->map);
    if (status) return status;
    writer->map->users = 2; /* this writer and `shared` */
    table->shared->map = writer->map;
    unlink_others(table, generation);
    return scan(table);
}

rk_table_status rk_writer_new(rk_table *table, const rk_table_options *options)
{
    rk_writer *writer = calloc(1, sizeof *writer);
    if (!writer || pthread_mutex_init(&writer->lock, NULL)) {
        free(writer);
        return RK_TABLE_NO_MEMORY;
    }
    table->writer = writer;
    return fill(table, options);
}

void rk_writer_free(rk_table *table)
{
    rk_writer *writer = table->writer;
    if (!writer) return;
    table->writer = NULL;
    if (writer->map) rk_leave(table, writer->map);
    pthread_mutex_destroy(&writer->lock);
    free(writer->live);
    free(writer->image);
    free(writer->times);
    free(writer->cursors);
    free(writer);
}
