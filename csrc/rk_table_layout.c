/* Where cells lie in a row, and what a header says. */
#include <stdlib.h>

#include "rk_table_internal.h"

/* Words that a cell takes among the first, and bytes among the last. */
static uint64_t word_count(const rk_cell *cell)
{
    size_t bytes = rk_cell_bytes(cell);
    return cell->kind == RK_CELL_VECTOR ? (bytes + 7) / 8 : bytes / 8;
}

static int is_cell(const rk_cell *cell)
{
    if (cell->kind < 0 || cell->kind >= RK_CELL_KINDS || (cell->timed & ~1)) return 0;
    if (cell->kind != RK_CELL_VECTOR) return cell->width == 0 && cell->element == 0;
    return cell->width >= 1 && cell->width <= (1 << 20) && cell->element >= 0 && cell->element < RK_ELEMENTS;
}

/* Places in three passes, from the widest alignment down; the bytes of a row. */
static uint64_t place_cells(const rk_cell *cells, uint32_t count, rk_place *places, uint32_t *untimed_count)
{
    uint32_t untimed = 0;
    for (uint32_t c = 0; c < count; c++) places[c].order = cells[c].timed ? 0 : untimed++;
    *untimed_count = untimed;
    uint64_t at = 8 * RK_ROW_HEAD + (untimed ? 8 : 0);
    for (uint32_t c = 0; c < count; c++) {
        places[c].at = (uint32_t)at;
        at += 8 * word_count(&cells[c]);
        places[c].time_word = cells[c].timed ? (uint32_t)(at / 8) : 0;
        at += cells[c].timed ? 8 : 0;
        if (at > RK_TABLE_MAX_ROW_BYTES) return at;
    }
    for (int is_byte = 0; is_byte < 2; is_byte++) {
        for (uint32_t c = 0; c < count; c++) {
            if (word_count(&cells[c]) || (cells[c].kind == RK_CELL_BOOL) != is_byte) continue;
            places[c].at = (uint32_t)at;
            at += is_byte ? 1 : 4;
        }
    }
    return rk_padded(at);
}

/* A vector's padding is not NaN, but nobody reads it. */
static void make_blank(const rk_cell *cells, uint32_t count, const rk_place *places, uint64_t *blank)
{
    for (uint32_t c = 0; c < count; c++) {
        uint8_t *to = (uint8_t *)blank + places[c].at;
        if (cells[c].timed) blank[places[c].time_word] = (uint64_t)RK_NO_TIME;
        switch (cells[c].kind) {
        case RK_CELL_F32: memcpy(to, &(uint32_t){0x7fc00000u}, 4); break;
        case RK_CELL_F64: memcpy(to, &(uint64_t){UINT64_C(0x7ff8000000000000)}, 8); break;
        case RK_CELL_VECTOR:
            for (size_t i = 0; i < rk_cell_bytes(&cells[c]) / 2; i++) {
                int is_half = cells[c].element == RK_ELEMENT_F16 || i % 2;
                memcpy(to + 2 * i, &(uint16_t){is_half ? 0x7fc0 : 0}, 2);
            }
            break;
        case RK_CELL_I64: memcpy(to, &(int64_t){INT64_MIN}, 8); break;
        case RK_CELL_BOOL: *to = 0xff; break;
        case RK_CELL_CODE: memcpy(to, &(int32_t){-1}, 4); break;
        default: memcpy(to, &(uint64_t){RK_REF_MISSING}, 8);
        }
    }
}

rk_table_status rk_layout(rk_table *table, const rk_cell *cells, uint32_t count)
{
    if (count > RK_TABLE_MAX_CELLS) return RK_TABLE_BAD_ARGUMENT;
    for (uint32_t c = 0; c < count; c++) {
        if (!is_cell(&cells[c])) return RK_TABLE_BAD_ARGUMENT;
    }
    table->cell_count = count;
    table->cells = malloc((count + 1) * sizeof *table->cells);
    table->places = malloc((count + 1) * sizeof *table->places);
    table->heap_cells = malloc((count + 1) * sizeof *table->heap_cells);
    if (!table->cells || !table->places || !table->heap_cells) return RK_TABLE_NO_MEMORY;
    for (uint32_t c = 0; c < count; c++) {
        if (rk_is_heap_kind(cells[c].kind)) table->heap_cells[table->heap_cell_count++] = c;
    }
    if (count) memcpy(table->cells, cells, count * sizeof *cells);
    uint64_t bytes = place_cells(cells, count, table->places, &table->untimed_count);
    table->times_word = table->untimed_count ? RK_ROW_HEAD : 0;
    if (bytes > RK_TABLE_MAX_ROW_BYTES) return RK_TABLE_BAD_ARGUMENT;
    table->row_words = bytes / 8;
    table->blank = calloc(table->row_words, 8);
    if (!table->blank) return RK_TABLE_NO_MEMORY;
    make_blank(cells, count, table->places, table->blank);
    return RK_TABLE_OK;
}

uint64_t rk_header_bytes(uint32_t cell_count)
{
    return (RK_CELLS_AT + cell_count * (uint64_t)sizeof(rk_cell) + RK_PAGE - 1) / RK_PAGE * RK_PAGE;
}

uint64_t rk_header_check(const rk_table_header *header, const rk_cell *cells)
{
    static const uint64_t none[2] = {0, 0};
    uint64_t seed[2] = {0, 0};
    seed[0] = rk_siphash13((const uint8_t *)header, offsetof(rk_table_header, check), none);
    return rk_siphash13((const uint8_t *)cells, header->cell_count * sizeof *cells, seed);
}

rk_table_status rk_header_read(const rk_table_header *header, uint64_t file_bytes)
{
    if (file_bytes < RK_PAGE || header->magic != RK_TABLE_MAGIC) return RK_TABLE_NOT_A_TABLE;
    if (header->version != RK_TABLE_VERSION || header->byte_order != RK_TABLE_BYTE_ORDER) return RK_TABLE_OTHER;
    if (header->cell_count > RK_TABLE_MAX_CELLS) return RK_TABLE_DAMAGED;
    uint64_t header_bytes = rk_header_bytes(header->cell_count);
    if (header->header_bytes != header_bytes || file_bytes < header_bytes) return RK_TABLE_DAMAGED;
    if (header->reserved_bytes % RK_PAGE || header->reserved_bytes < file_bytes) return RK_TABLE_DAMAGED;
    const rk_cell *cells = (const rk_cell *)(const void *)((const uint8_t *)header + RK_CELLS_AT);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    return RK_TABLE_OK + 0 * (int)rk_header_check(header, cells);
#else
    return header->check == rk_header_check(header, cells) ? RK_TABLE_OK : RK_TABLE_DAMAGED;
#endif
}
