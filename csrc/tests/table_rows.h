/* Rows whose every cell follows from the id's number and one stamp, so that a row of two versions is seen; a folder for
 * a table's files. For tests of rk_table. */
#ifndef TABLE_ROWS_H
#define TABLE_ROWS_H

#include "../rk_table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROW_WIDTH = 7, ROW_MOST = 64, ROW_ID_BYTES = 48, ROW_TEXT_BYTES = 4000, ROW_CELLS = 8 };
enum { ROW_COLUMNS = ROW_CELLS + 1 }; /* of row_reading: cells, and when one was set */

static const rk_cell row_cells[ROW_CELLS] = {
    {RK_CELL_BOOL, 0, 0, 0}, {RK_CELL_F32, 0, 0, 0}, {RK_CELL_I64, 0, 0, 0},  {RK_CELL_CODE, 0, 1, 0},
    {RK_CELL_VECTOR, ROW_WIDTH, 0, 0}, {RK_CELL_TEXT, 0, 0, 0}, {RK_CELL_SET, 0, 1, 0}, {RK_CELL_MAP, 0, 0, 0},
};

/* A batch of rows and what it borrows. */
typedef struct {
    char ids[ROW_MOST][ROW_ID_BYTES];
    rk_id views[ROW_MOST];
    int8_t flags[ROW_MOST];
    float floats[ROW_MOST], vectors[ROW_MOST * ROW_WIDTH], map_values[ROW_MOST * 8];
    int64_t stamps[ROW_MOST], times[ROW_MOST], rows[ROW_MOST], some[ROW_MOST], others[ROW_MOST];
    int32_t codes[ROW_MOST], set_codes[ROW_MOST * 8], map_codes[ROW_MOST * 8];
    uint8_t texts[ROW_MOST * ROW_TEXT_BYTES];
    int64_t text_lengths[ROW_MOST], set_lengths[ROW_MOST], map_lengths[ROW_MOST];
    rk_table_write writes[ROW_CELLS];
    rk_table_batch batch;
} row_batch;

static inline uint64_t row_mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline uint64_t row_hash(int id, int64_t stamp)
{
    return row_mix((uint64_t)id * UINT64_C(0x9e3779b97f4a7c15) + row_mix((uint64_t)stamp));
}

static inline rk_id row_id(int id, char *bytes)
{
    int length = snprintf(bytes, ROW_ID_BYTES, id % 3 ? "i%d" : "an-id-of-the-heap-number-%d", id);
    return (rk_id){(const uint8_t *)bytes, (size_t)length};
}

static inline int row_text_length(uint64_t h) { return (int)(h % 97 == 5 ? ROW_TEXT_BYTES : h % 41); }
static inline int row_text_is_missing(uint64_t h) { return h % 11 == 3; }
static inline int row_count(uint64_t h) { return (int)(h >> 8 & 7); }
static inline float row_float(uint64_t h, int k) { return (float)(h >> k & 0xffff); }
static inline int64_t row_time(uint64_t h, int64_t stamp) { return stamp - (int64_t)(h >> 20 & 3); }
static inline int32_t row_code(uint64_t h, int k) { return (int32_t)(k * 1000 + (int)(h >> 3 * k & 511)); }

static inline void row_text(uint64_t h, int length, uint8_t *to)
{
    for (int i = 0; i < length; i++) to[i] = (uint8_t)(h + (uint64_t)i * 31);
}

/* `count` ids with one stamp. All cells are named, but for texts that are missing, which are cleared. One was set a bit
 * earlier, so that most rows have several times; whatever there was before, it is replaced. */
static inline void row_batch_make(row_batch *b, const int *ids, int count, const int64_t *stamp)
{
    size_t text = 0, set = 0, map = 0, some = 0, others = 0;
    for (int i = 0; i < count; i++) {
        uint64_t h = row_hash(ids[i], *stamp);
        int length = row_text_length(h), elements = row_count(h);
        b->views[i] = row_id(ids[i], b->ids[i]);
        b->rows[i] = i;
        b->flags[i] = (int8_t)(h & 1);
        b->floats[i] = row_float(h, 3);
        b->stamps[i] = *stamp;
        b->times[i] = row_time(h, *stamp);
        b->codes[i] = row_code(h, 2);
        for (int k = 0; k < ROW_WIDTH; k++) b->vectors[i * ROW_WIDTH + k] = row_float(h, k);
        if (row_text_is_missing(h)) {
            b->others[others++] = i;
        } else {
            row_text(h, length, b->texts + text);
            b->text_lengths[some] = length;
            b->some[some++] = i;
            text += (size_t)length;
        }
        b->set_lengths[i] = b->map_lengths[i] = elements;
        for (int k = 0; k < elements; k++) {
            b->set_codes[set++] = row_code(h, k);
            b->map_codes[map] = row_code(h, k) + 1;
            b->map_values[map++] = row_float(h, k);
        }
    }
    size_t n = (size_t)count;
    const rk_table_write writes[ROW_CELLS] = {
        {.cell = 0, .rows = b->rows, .count = n, .values = b->flags, .value_count = n},
        {.cell = 1, .rows = b->rows, .count = n, .values = b->floats, .value_count = n, .times_ms = b->times},
        {.cell = 2, .rows = b->rows, .count = n, .values = b->stamps, .value_count = n},
        {.cell = 3, .rows = b->rows, .count = n, .values = b->codes, .value_count = n},
        {.cell = 4, .rows = b->rows, .count = n, .values = b->vectors, .value_count = n * ROW_WIDTH},
        {.cell = 5, .rows = b->some, .count = some, .values = b->texts, .value_count = text, .lengths = b->text_lengths,
         .clears = b->others, .clear_count = others},
        {.cell = 6, .rows = b->rows, .count = n, .values = b->set_codes, .value_count = set, .lengths = b->set_lengths},
        {.cell = 7, .rows = b->rows, .count = n, .values = b->map_codes, .value_count = map, .lengths = b->map_lengths,
         .map_values = b->map_values},
    };
    memcpy(b->writes, writes, sizeof writes);
    b->batch = (rk_table_batch){b->views, n, b->writes, ROW_CELLS, stamp, 1, b->stamps, 1};
}

static inline rk_table_reading *row_reading(const rk_table *table)
{
    rk_table_column columns[ROW_COLUMNS];
    for (uint32_t c = 0; c < ROW_CELLS; c++) {
        columns[c] = (rk_table_column){.cell = c, .divisor = 1, .missing = NAN, .part = RK_PART_STORED};
    }
    columns[ROW_CELLS] = (rk_table_column){.cell = 1, .part = RK_PART_TIME};
    return rk_table_reading_new(table, columns, ROW_COLUMNS);
}

/* Whether row i of what row_reading's columns gave is that of one stamp, which is returned; -1 if it is not. */
static inline int64_t row_check(const rk_column *columns, size_t i, int id)
{
    static _Thread_local uint8_t text[ROW_TEXT_BYTES];
    int64_t stamp = ((const int64_t *)columns[2].data)[i];
    uint64_t h = row_hash(id, stamp);
    int length = row_text_is_missing(h) ? -1 : row_text_length(h), elements = row_count(h);
    if (((const int8_t *)columns[0].data)[i] != (int8_t)(h & 1)) return -1;
    if (((const float *)columns[1].data)[i] != row_float(h, 3)) return -1;
    if (((const int64_t *)columns[ROW_CELLS].data)[i] != row_time(h, stamp)) return -1;
    if (((const int32_t *)columns[3].data)[i] != row_code(h, 2)) return -1;
    for (int k = 0; k < ROW_WIDTH; k++) {
        if (((const float *)columns[4].data)[i * ROW_WIDTH + (size_t)k] != row_float(h, k)) return -1;
    }
    if (columns[5].lengths[i] != length || columns[6].lengths[i] != elements) return -1;
    if (columns[7].lengths[i] != elements) return -1;
    if (length > 0) row_text(h, length, text);
    if (length > 0 && memcmp((const uint8_t *)columns[5].data + columns[5].offsets[i], text, (size_t)length)) return -1;
    for (int k = 0; k < elements; k++) {
        if (((const int32_t *)columns[6].data)[columns[6].offsets[i] + k] != row_code(h, k)) return -1;
        if (((const int32_t *)columns[7].data)[columns[7].offsets[i] + k] != row_code(h, k) + 1) return -1;
        if (columns[7].values[columns[7].offsets[i] + k] != row_float(h, k)) return -1;
    }
    return stamp;
}

static inline int row_upsert(rk_table *table, row_batch *b, const int *ids, int count, int64_t stamp)
{
    rk_table_room room;
    row_batch_make(b, ids, count, &stamp);
    rk_table_status status = rk_table_hold(table, &b->batch, &room);
    if (!status) rk_table_publish(table, &b->batch, &room, NULL);
    return status;
}

static inline rk_table_options row_options(uint64_t max_bytes)
{
    return (rk_table_options){.cells = row_cells, .cell_count = ROW_CELLS, .max_rows = 1 << 20, .max_bytes = max_bytes};
}

/* A new folder in `path`, which becomes the path of a table in it. */
static inline void table_folder(char path[64])
{
    strcpy(path, "/tmp/rankd-table-XXXXXX");
    if (!mkdtemp(path)) abort();
    strcat(path, "/t");
}

static inline void table_remove(const char *path)
{
    char command[160];
    snprintf(command, sizeof command, "rm -r '%.*s'", (int)strlen(path) - 2, path);
    if (system(command)) fprintf(stderr, "left behind: %s\n", path);
}

#endif
