/* Files of a table with bytes changed or cut off are refused or read, attached to and written; nothing outside is
 * touched. Byte 0 says what is done; then come changes of 4 bytes: which file, where (two bytes), what. */
#define _GNU_SOURCE

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../rk_table.h"

enum { FILES = 3, IDS = 40, CELLS = 8, PARTS = 11, MOST_BYTES = 1 << 20 };

static const char *const ends[FILES] = {".rows", ".heap", ".index.1"};
static const rk_cell cells[CELLS] = {
    {RK_CELL_F32, 0, 1, 0}, {RK_CELL_TEXT, 0, 0, 0}, {RK_CELL_MAP, 0, 0, 0}, {RK_CELL_VECTOR, 3, 0, 0}, {RK_CELL_SET, 0, 1, 0},
    {RK_CELL_F64, 0, 0, 0}, {RK_CELL_VECTOR, 3, 0, RK_ELEMENT_F16}, {RK_CELL_VECTOR, 3, 0, RK_ELEMENT_I8}};
/* What is read beside the cells. */
static const rk_table_column derived[PARTS] = {
    {.cell = 1, .part = RK_PART_TIME}, {.cell = 2, .part = RK_PART_TIME}, {.cell = 3, .part = RK_PART_TIME},
    {.cell = 5, .part = RK_PART_TIME}, {.cell = 4, .part = RK_PART_CHANGED}, {.cell = 6, .part = RK_PART_CHANGED},
    {.cell = 0, .part = RK_PART_DECAYED, .half_life_ms = 2}, {.cell = 5, .part = RK_PART_DECAYED, .half_life_ms = 2},
    {.cell = 2, .part = RK_PART_DECAYED, .half_life_ms = 2},
    {.cell = 2, .part = RK_PART_WINDOW, .bucket_ms = 1, .bucket_count = 5},
    {.cell = 2, .part = RK_PART_RATIO, .bucket_ms = 1, .bucket_count = 5, .below = {2, 9, 2, 1000}}};
static char path[64], names[FILES][80], ids_bytes[IDS][32];
static rk_id ids[IDS];
static uint8_t *good[FILES];
static size_t sizes[FILES];

static rk_table_options options(void)
{
    return (rk_table_options){.cells = cells, .cell_count = CELLS, .max_rows = 1000, .max_bytes = MOST_BYTES};
}

static int upsert(rk_table *table)
{
    int64_t rows[IDS], lengths[IDS], now_ms = 5;
    float floats[IDS * 3];
    double doubles[IDS];
    int64_t times[IDS];
    int32_t codes[IDS];
    rk_table_room room;
    for (int i = 0; i < IDS; i++) {
        rows[i] = i;
        lengths[i] = 1;
        codes[i] = i;
        doubles[i] = i;
        times[i] = i % 3;
        for (int k = 0; k < 3; k++) floats[3 * i + k] = (float)i;
    }
    const rk_table_write writes[CELLS] = {
        {.cell = 0, .rows = rows, .count = IDS, .values = floats, .value_count = IDS},
        {.cell = 1, .rows = rows, .count = IDS, .values = codes, .value_count = IDS, .lengths = lengths},
        {.cell = 2, .rows = rows, .count = IDS, .values = codes, .value_count = IDS, .lengths = lengths,
         .map_values = floats},
        {.cell = 3, .rows = rows, .count = IDS, .values = floats, .value_count = 3 * IDS, .times_ms = times},
        {.cell = 4, .rows = rows, .count = IDS, .values = codes, .value_count = IDS, .lengths = lengths},
        {.cell = 5, .rows = rows, .count = IDS, .values = doubles, .value_count = IDS, .times_ms = rows},
        {.cell = 6, .rows = rows, .count = IDS / 2, .values = floats, .value_count = 3 * IDS / 2, .times_ms = rows + 1},
        {.cell = 7, .rows = rows, .count = IDS, .values = floats, .value_count = 3 * IDS, .times_ms = rows},
    };
    const rk_table_batch batch = {ids, IDS, writes, CELLS, &now_ms, 1, NULL, 0};
    if (rk_table_hold(table, &batch, &room)) return -1;
    rk_table_publish(table, &batch, &room, NULL);
    return 0;
}

static void remove_files(void)
{
    for (int f = 0; f < FILES; f++) unlink(names[f]);
    path[strlen(path) - 2] = 0;
    rmdir(path);
}

/* A table as a writer leaves it, in memory. */
static void make_good(void)
{
    rk_table *table;
    rk_table_options wanted = options();
    snprintf(path, sizeof path, "%s/rankd-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(path)) abort();
    strcat(path, "/t");
    for (int i = 0; i < IDS; i++) {
        int length = snprintf(ids_bytes[i], sizeof ids_bytes[i], i % 2 ? "%d" : "longer than its row %d", i);
        ids[i] = (rk_id){(const uint8_t *)ids_bytes[i], (size_t)length};
    }
    if (rk_table_create(path, &wanted, &table) || upsert(table) || rk_table_delete(table, ids, 3) != 3) abort();
    rk_table_close(table);
    for (int f = 0; f < FILES; f++) {
        struct stat status;
        snprintf(names[f], sizeof names[f], "%s%s", path, ends[f]);
        int fd = open(names[f], O_RDONLY);
        if (fd < 0 || fstat(fd, &status)) abort();
        sizes[f] = (size_t)status.st_size;
        good[f] = malloc(sizes[f]);
        if (!good[f] || read(fd, good[f], sizes[f]) != (ssize_t)sizes[f]) abort();
        close(fd);
    }
    atexit(remove_files);
}

static void write_changed(const uint8_t *data, size_t size)
{
    for (int f = 0; f < FILES; f++) {
        size_t bytes = sizes[f];
        uint8_t *changed = malloc(bytes);
        if (!changed) abort();
        memcpy(changed, good[f], bytes);
        for (size_t i = 0; i + 4 <= size; i += 4) {
            size_t at = (size_t)(data[i + 1] | data[i + 2] << 8);
            if (data[i] % FILES != f) continue;
            if (data[i] & 0x40) bytes = at < bytes ? at : bytes;
            else changed[at % sizes[f]] = data[i + 3];
        }
        int fd = open(names[f], O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || write(fd, changed, bytes) != (ssize_t)bytes) abort();
        close(fd);
        free(changed);
    }
}

static volatile double sum;

/* Whatever comes out, all of it can be looked at. */
static void read_all(const rk_table *table)
{
    rk_table_column columns[CELLS + PARTS];
    rk_column out[CELLS + PARTS];
    uint8_t found[IDS];
    rk_arena *arena = rk_arena_new();
    for (uint32_t c = 0; c < CELLS; c++) columns[c] = (rk_table_column){.cell = c, .divisor = 1, .missing = NAN, .ttl_ms = 9};
    memcpy(columns + CELLS, derived, sizeof derived);
    rk_table_reading *reading = rk_table_reading_new(table, columns, CELLS + PARTS);
    if (reading && !rk_table_read(reading, ids, IDS, 10, arena, out, found)) {
        for (int i = 0; i < IDS; i++) {
            sum += ((const double *)out[0].data)[i] + ((const float *)out[3].data)[3 * i];
            sum += ((const double *)out[5].data)[i] + ((const float *)out[6].data)[3 * i] + ((const float *)out[7].data)[i];
            for (int p = 0; p < PARTS; p++) {
                if (p < 6) sum += (double)((const int64_t *)out[CELLS + p].data)[i];
                else if (p != 8) sum += ((const double *)out[CELLS + p].data)[i];
            }
            for (int k = 0; k < out[CELLS + 8].lengths[i]; k++) sum += (double)out[CELLS + 8].values[out[CELLS + 8].offsets[i] + k];
            for (int k = 0; k < out[1].lengths[i]; k++) sum += ((const uint8_t *)out[1].data)[out[1].offsets[i] + k];
            for (int k = 0; k < out[2].lengths[i]; k++) sum += (double)out[2].values[out[2].offsets[i] + k];
            for (int k = 0; k < out[4].lengths[i]; k++) sum += ((const int32_t *)out[4].data)[out[4].offsets[i] + k];
        }
    }
    size_t count;
    uint64_t next, generation = 0;
    rk_id copies[IDS];
    if (!rk_table_ids(table, 0, IDS, arena, copies, &count, &next, &generation) && count > IDS) abort();
    for (int64_t code = -1; code < 400; code++) sum += (double)rk_table_text(table, code).length;
    rk_table_reading_free(reading);
    rk_arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rk_table *table;
    rk_table_options wanted = options();
    if (!good[0]) make_good();
    if (!size) return 0;
    write_changed(data + 1, size - 1);
    if (!rk_table_open(path, &table)) {
        uint32_t count;
        rk_table_cells(table, &count);
        if (count == CELLS && !memcmp(rk_table_cells(table, &count), cells, sizeof cells)) read_all(table);
        rk_table_close(table);
    }
    if (data[0] & 1 && !rk_table_attach(path, &wanted, &table)) {
        upsert(table);
        rk_table_delete(table, ids, 5);
        read_all(table);
        rk_table_close(table);
    }
    for (unsigned generation = 0; generation < 4; generation++) {
        char name[96];
        snprintf(name, sizeof name, "%s.index.%u", path, generation);
        unlink(name);
    }
    return 0;
}
