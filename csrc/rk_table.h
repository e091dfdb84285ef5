/* rk_table: the signals of one entity in files that every process of a machine maps: one writer, any number of
 * readers without locks.
 *
 * A row is an id, a write time and a value (or none) for each cell of the layout. Rows are immutable once published:
 * an update writes a new version into a free row and then swaps the index's entry, one atomic store, so a reader sees
 * the old version or the new one, whole, and a writer that dies at any point leaves the old one in place. A superseded
 * row may be used again; a row's sequence number, odd while it is being written, tells a reader who was slow to look the
 * id up again. Values of any length (texts, sets, maps) lie in a heap beside the rows and are copied out under the same
 * check.
 *
 * Files: PATH.rows (header and rows), PATH.heap, PATH.index.N; each only grows, a larger index is a new file, published
 * by its number N in the header. Room is taken from the file system before it is used (posix_fallocate), so a full disk
 * is an error of the writer and never a SIGBUS of a reader. Address space for `max_bytes` is reserved once: growth moves nothing.
 *
 * Ownership: a table is the caller's, to be closed once. Readings borrow their table.
 * Threads: one writer at a time (of one process); readers share nothing but the files.
 * Trust: files are written by rankd; opening checks the header (magic, version, byte order, layout, sizes), and no
 * reader follows an offset out of its mapping, whatever the files say.
 * Ids: any bytes, 1 to RK_TABLE_MAX_ID_BYTES, hashed with SipHash-1-3 under the table's own random seed.
 * Missing: NaN, INT64_MIN, -1 by kind; a vector that starts with NaN; a text, set or map of length -1.
 */
#ifndef RK_TABLE_H
#define RK_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "rk_arena.h"
#include "rk_id_index.h"
#include "rk_program.h"

#define RK_TABLE_MAX_ID_BYTES 65536u
#define RK_TABLE_MAX_CELLS 65536u

typedef enum {
    RK_CELL_F32,    /* float */
    RK_CELL_I64,    /* int64 */
    RK_CELL_BOOL,   /* int8: 0, 1, or -1: missing */
    RK_CELL_CODE,   /* int32: a row of the dictionary, or -1 */
    RK_CELL_VECTOR, /* `width` floats */
    RK_CELL_TEXT,   /* bytes */
    RK_CELL_SET,    /* ascending distinct int32 codes */
    RK_CELL_MAP,    /* ascending distinct int32 codes with a float each */
    RK_CELL_KINDS
} rk_cell_kind;

typedef struct {
    int32_t kind;  /* of rk_cell_kind */
    int32_t width; /* of RK_CELL_VECTOR, at least 1; else 0 */
    int32_t timed; /* 1: the value has a write time of its own, because it expires */
} rk_cell;

typedef struct rk_table rk_table;

/* ---- Reading (any process, any thread). ---- */

/* One column of a reading. Numbers come out as double, divided by `divisor`; a missing or expired one as `missing`. */
typedef struct {
    uint32_t cell;
    double divisor; /* of RK_CELL_I64; else 1 */
    double missing; /* of F32, I64 and BOOL: NaN, or a default */
    int64_t ttl_ms; /* of a timed cell: missing where now_ms - its write time >= ttl_ms; 0: never */
} rk_table_column;

typedef struct rk_table_reading rk_table_reading;

/* Which columns a caller wants, checked once; NULL without memory or if a column is no column of the table. */
rk_table_reading *rk_table_reading_new(const rk_table *table, const rk_table_column *columns, size_t count);
void rk_table_reading_free(rk_table_reading *reading);

/* Looks up n ids and gives one rk_column per column of the reading, of n rows, as rk_program_run takes them: doubles,
 * int32 codes, floats, and texts, sets and maps as data, offsets and lengths. Everything is copied into `arena`.
 * found[i] is 1 if ids[i] has a row. Ids come as they are: distinct or not, empty ones are not found.
 * Each row is one version, whole; every write that was published before the call is seen. 0, or -1 without memory. */
int rk_table_read(const rk_table_reading *reading, const rk_id *ids, size_t n, int64_t now_ms, rk_arena *arena,
                  rk_column *columns, uint8_t *found);

/* A dictionary is a table without cells to which ids are only added (rk_table_intern): then the number of an id's row
 * never changes and is its code. The code of a text, or -1. */
int64_t rk_table_code(const rk_table *dictionary, rk_id text);

#endif
