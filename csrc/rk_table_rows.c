/* Free rows. They are a list through the rows themselves, so that freeing one takes no memory and cannot fail; a row
 * that was freed first is taken first, and some are kept, so that a sequence number does not come round while a slow
 * reader still looks at its row. */
#include "rk_table_internal.h"

rk_table_status rk_writer_row_room(rk_table *table, uint64_t new_rows)
{
    rk_writer *writer = table->writer;
    uint64_t bound = rk_load(&table->header->row_bound), row_bytes = 8 * table->row_words;
    uint64_t there = writer->free_count + writer->row_capacity - bound, need = new_rows + writer->free_kept + 1;
    if (there >= need) return RK_TABLE_OK;
    uint64_t capacity = writer->row_capacity + need - there;
    if (capacity > RK_TABLE_MAX_ROWS) return RK_TABLE_FULL_ROWS;
    uint64_t head = table->header->header_bytes, old = head + writer->row_capacity * row_bytes;
    uint64_t room = rk_writer_left_bytes(table), wanted = capacity + rk_spare(writer->row_capacity * row_bytes) / row_bytes;
    if (wanted > RK_TABLE_MAX_ROWS) wanted = RK_TABLE_MAX_ROWS;
    if ((wanted - writer->row_capacity) * row_bytes > room) wanted = capacity;
    if ((wanted - writer->row_capacity) * row_bytes > room) return RK_TABLE_FULL_BYTES;
    rk_table_status status = rk_grow_file(table->rows_fd, old, head + wanted * row_bytes);
    if (status && wanted > capacity) {
        wanted = capacity;
        status = rk_grow_file(table->rows_fd, old, head + wanted * row_bytes);
    }
    if (!status) writer->row_capacity = wanted;
    return status;
}

/* An odd sequence number, left by whoever freed it (or, of a row that was never used, set here). */
uint64_t rk_writer_take_row(rk_table *table)
{
    rk_writer *writer = table->writer;
    uint64_t bound = rk_load(&table->header->row_bound);
    if (bound < writer->row_capacity && writer->free_count <= writer->free_kept) {
        rk_store(&table->header->row_bound, bound + 1);
        rk_store(rk_row_at(table, bound), 1);
        return bound;
    }
    uint64_t row = writer->free_first;
    writer->free_first = (uint32_t)rk_load(rk_row_at(table, row) + 3);
    writer->free_count--;
    return row;
}

void rk_writer_free_row(rk_table *table, uint64_t row)
{
    rk_writer *writer = table->writer;
    rk_word *words = rk_row_at(table, row);
    uint64_t word = rk_load(words);
    if (!(word & 1)) rk_store(words, word + 1);
    /* Whoever gets what is written from here on, in the row or where it refers to, gets the odd number, too. */
    atomic_thread_fence(memory_order_release);
    rk_store(words + 3, RK_NO_ROW);
    if (writer->free_count) rk_store(rk_row_at(table, writer->free_last) + 3, row);
    else writer->free_first = (uint32_t)row;
    writer->free_last = (uint32_t)row;
    writer->free_count++;
}
