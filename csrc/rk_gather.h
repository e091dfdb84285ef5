/* rk_gather: rows of many columns of a table, by row number, in one call.
 *
 * A column is an array of `bound + 1` elements, by row; its last element is the missing one (a NaN, the least int64,
 * -1, a vector of NaN), which is what a row number below 0 or not below `bound` reads: nothing outside an array is
 * ever read. A column with write times reads as missing where now_ms - written_ms >= ttl_ms (a difference beyond int64
 * wraps).
 *
 * Missing: numbers come out as double, their missing values as `missing` (NaN, or a default). A NaN in a column of
 * float is missing, whatever its bits. The other kinds are copied bit for bit.
 * Ownership: everything is borrowed; `out` of each column, which aliases nothing, gets n elements (times width).
 * Threads: nothing is shared; whoever writes to the table is kept away by the caller.
 */
#ifndef RK_GATHER_H
#define RK_GATHER_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    RK_GATHER_FLOAT,  /* float -> double */
    RK_GATHER_INT64,  /* int64 -> double, divided by `divisor`; INT64_MIN is missing */
    RK_GATHER_INT8,   /* int8 -> double; below 0 is missing */
    RK_GATHER_CODE,   /* int32 -> int32 */
    RK_GATHER_OFFSET, /* int64 -> int64 */
    RK_GATHER_VECTOR, /* `width` floats -> the same */
    RK_GATHER_KINDS
} rk_gather_kind;

typedef struct {
    const void *data;
    void *out;
    const int64_t *written_ms; /* bound + 1 write times, or NULL: values never expire */
    int64_t ttl_ms;
    double divisor;
    double missing;
    int32_t kind;              /* of rk_gather_kind */
    int32_t width;             /* of RK_GATHER_VECTOR */
} rk_gather_column;

/* Gathers n rows of each column. */
void rk_gather(const rk_gather_column *columns, size_t count, const int64_t *rows, size_t n, size_t bound,
               int64_t now_ms);

/* The same value by value: the oracle. */
void rk_gather_scalar(const rk_gather_column *columns, size_t count, const int64_t *rows, size_t n, size_t bound,
                      int64_t now_ms);

#endif
