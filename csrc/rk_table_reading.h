/* A reading and a call of it: what rk_table_read.c (rows) shares with rk_table_columns.c (their columns). */
#ifndef RK_TABLE_READING_H
#define RK_TABLE_READING_H

#include "rk_table_internal.h"

enum { RK_READ_BLOCK = 32 }; /* ids whose cache misses overlap; their rows lie in the first-level cache */

/* Words of a row that are copied to scratch memory. */
typedef struct {
    uint32_t from, to, count;
} rk_run;

/* A time to be found for a cell that is not timed, and where it goes (words). */
typedef struct {
    uint32_t order, to;
} rk_read_time;

/* A map whose window is summed: where its reference and its time lie in scratch memory (words). */
typedef struct {
    uint32_t word, time_word;
    rk_table_window asked;
} rk_read_window;

/* What comes out of a column. */
typedef enum { RK_AS_DOUBLES, RK_AS_TIMES, RK_AS_STORED, RK_AS_SPANS, RK_AS_SUMS } rk_read_shape;

/* A column, and where its cell's parts lie in scratch memory (bytes; words). */
typedef struct {
    rk_table_column asked;
    rk_cell cell;
    rk_read_shape shape;
    uint32_t at, time_word;
    uint32_t row_word;        /* of a vector of floats: where it lies in the row; else 0 */
    int checks_time;          /* values expire */
    rk_read_window windows[2]; /* of RK_AS_SUMS; the second: of RK_PART_RATIO */
} rk_read_column;

struct rk_table_reading {
    const rk_table *table;
    rk_read_column *columns;
    size_t count;
    rk_run *runs;
    size_t run_count;
    uint32_t *lines; /* words of a row to prefetch */
    size_t line_count;
    uint32_t *vectors, *spans; /* columns that are vectors of floats, and those that lie in the heap */
    size_t vector_count, span_count;
    rk_read_time *times;
    size_t time_count;
    uint32_t times_word; /* where the row's times lie in scratch memory, if they are read */
    uint64_t *blank;     /* scratch memory of a row that is not there */
    size_t scratch_words;
};

/* What is joined of a column of texts, sets or maps. */
typedef struct {
    uint8_t *data;
    float *values;
    uint64_t begin, used, capacity; /* elements; `begin`: where the row being read starts */
} rk_joined;

/* One call, of which `size` ids from position `start` on are being read. */
typedef struct {
    const rk_table_reading *reading;
    const rk_table *table;
    rk_index_map *map;
    rk_arena *arena;
    rk_column *columns;
    rk_joined *joined; /* by column */
    uint64_t *scratch;
    const rk_id *ids;
    uint8_t *found;
    size_t start, size;
    int64_t now_ms;
    rk_key keys[RK_READ_BLOCK];
    uint64_t slots[RK_READ_BLOCK];
    uint64_t rows[RK_READ_BLOCK];
} rk_read;

static inline uint64_t *rk_scratch(const rk_read *read, size_t i)
{
    return read->scratch + i * read->reading->scratch_words;
}

/* Outside [.., ttl_ms) after the write; a difference beyond int64 wraps. */
static inline int rk_is_past(int64_t now_ms, uint64_t time_ms, int64_t ttl_ms)
{
    return (int64_t)((uint64_t)now_ms - time_ms) >= ttl_ms;
}

static inline int rk_is_expired(const rk_read_column *column, const uint64_t *row, int64_t now_ms)
{
    return column->checks_time && rk_is_past(now_ms, row[column->time_word], column->asked.ttl_ms);
}

/* Looks up the block's ids and copies their rows to scratch memory. 0, or -1 if a new index cannot be mapped. */
int rk_read_rows(rk_read *read);

/* Elements of a column's output, without what is joined. 0, or -1 without memory. */
int rk_columns_begin(rk_read *read, size_t n);
/* Copies row i's vectors to their columns. */
void rk_columns_copy_vectors(rk_read *read, size_t i, const rk_word *row);
/* Copies what row i refers to behind what is joined already, at `used`. 0, or -1 without memory. */
int rk_columns_copy_spans(rk_read *read, size_t i);
/* Columns of a block's rows, from scratch memory. */
void rk_columns_decode(rk_read *read);
void rk_columns_end(rk_read *read);

/* ---- rk_table_derived.c: what is computed from values and their times. ---- */

/* 2^-(age / half-life). */
double rk_decay(const rk_read_column *column, const uint64_t *row, int64_t now_ms);
/* A column of sums or ratios: that of row i. */
double rk_sum(const rk_read *read, const rk_read_column *column, const uint64_t *row);

#endif
