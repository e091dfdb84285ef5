/* rk_table: the signals of one entity in files that every process of a machine maps: one writer, any number of
 * readers without locks.
 *
 * A row is an id, a write time, a journal key and a value (or none) for each cell of the layout. Rows are immutable
 * once published: an update writes a new version into a free row and then swaps the index's entry, one atomic store,
 * so a reader sees the old version or the new one, whole, and a writer that dies at any point leaves the old one in
 * place. A row's sequence number is odd while the row is free or being written; it tells a reader who was slow to look
 * the id up again. Values of any length (texts, sets, maps, long ids) lie in a heap beside the rows and are copied out
 * under the same check.
 *
 * Files: PATH.rows (header and rows), PATH.heap, PATH.index.N; each only grows, a larger index is a new file, published
 * by its number N in the header. Room is taken from the file system before it is used (posix_fallocate), so a full disk
 * is an error of the writer and never a SIGBUS of a reader. Address space for `max_bytes` is reserved once: growth moves
 * nothing. PATH must mean the same as long as a table is open.
 *
 * Ownership: a table is the caller's, to be closed once. Readings borrow their table.
 * Threads: any thread of any process may read at any time, the writer's own included. Functions for writing exclude
 * each other, whatever threads call them; one process at a time is the writer (a lock on PATH.rows sees to it).
 * Old indexes are unmapped by the first read after their replacement that no other thread is still using them in.
 * Trust: files are written by rankd; opening checks the header (magic, version, byte order, layout, sizes), and no
 * reader follows an offset out of its mapping, whatever the files say. Cutting a file short while it is mapped is
 * beyond that.
 * Ids: any bytes, 1 (texts of a dictionary: 0) to RK_TABLE_MAX_ID_BYTES, hashed with SipHash-1-3 under the table's own
 * random seed.
 * Missing: NaN, INT64_MIN, -1 by kind; a vector that starts with NaN; a text, set or map of length -1.
 * Times: every cell of a row has the time at which its value was set or cleared, or none if it never was (RK_NO_TIME).
 * Times are above -RK_TABLE_MOST_TIME and below it. Cells of one row that all have one time need no room for it.
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
#define RK_TABLE_MAX_VALUE_BYTES (1u << 20) /* of one text; of a set's codes; of a map's codes and values */
#define RK_TABLE_MAX_ROW_BYTES (1u << 20)
#define RK_TABLE_MAX_ROWS (2147483647u - 256)
#define RK_TABLE_NO_KEY (-1)
#define RK_TABLE_MAX_KEY ((INT64_C(1) << 40) - 2)
#define RK_TABLE_FINGERPRINT_BYTES 32
#define RK_TABLE_BOOT_BYTES 32
#define RK_TABLE_MOST_TIME (INT64_C(1) << 61)
#define RK_NO_TIME INT64_MIN

typedef enum {
    RK_CELL_F32,    /* float */
    RK_CELL_F64,    /* double */
    RK_CELL_I64,    /* int64 */
    RK_CELL_BOOL,   /* int8: 0, 1, or -1: missing */
    RK_CELL_CODE,   /* int32: a row of the dictionary, or -1 */
    RK_CELL_VECTOR, /* `width` numbers, kept as `element` says: written and read as floats */
    RK_CELL_TEXT,   /* bytes */
    RK_CELL_SET,    /* ascending distinct int32 codes */
    RK_CELL_MAP,    /* ascending distinct int32 codes with a float each */
    RK_CELL_KINDS
} rk_cell_kind;

/* Conversions of vectors. What is read and written again is the same bytes.
 * F16: IEEE 754 binary16, to the nearest, ties to even; from 65520 on infinite: a caller who minds rejects that.
 * I8: one float a row, `scale`: the largest magnitude / 127, cut to 17 significant bits, so that 127 * scale is exact;
 * each number is scale * a whole number of -127 to 127, the nearest, ties to even. Numbers that are not finite give a
 * vector that makes no sense. */
typedef enum { RK_ELEMENT_F32, RK_ELEMENT_F16, RK_ELEMENT_I8, RK_ELEMENTS } rk_element;

typedef struct {
    int32_t kind;    /* of rk_cell_kind */
    int32_t width;   /* of RK_CELL_VECTOR, at least 1; else 0 */
    int32_t timed;   /* 1: its time lies beside the value: 8 bytes more, but it is never looked for elsewhere */
    int32_t element; /* of RK_CELL_VECTOR, of rk_element; else 0 */
} rk_cell;

typedef enum {
    RK_TABLE_OK,
    RK_TABLE_NO_MEMORY,
    RK_TABLE_NO_SPACE,    /* the disk is full, or a file may not grow */
    RK_TABLE_IO,          /* a call of the system failed: errno says which way; ENOENT: no files of that name */
    RK_TABLE_FULL_ROWS,   /* max_rows is reached */
    RK_TABLE_FULL_BYTES,  /* max_bytes is reached */
    RK_TABLE_NOT_A_TABLE,
    RK_TABLE_DAMAGED,     /* sizes or numbers that the writer cannot have left */
    RK_TABLE_OTHER,       /* another version, byte order, cells or fingerprint, or less address space than max_bytes */
    RK_TABLE_IN_USE,      /* another writer has it */
    RK_TABLE_BAD_ARGUMENT /* cells, ids, positions or values that the contract does not allow */
} rk_table_status;

typedef struct rk_table rk_table;

/* ---- Any process, any thread. ---- */

/* Opens for reading. */
rk_table_status rk_table_open(const char *path, rk_table **table);

/* Unmaps and lets go; a writer's lock, too. Nothing else may be going on. NULL is fine. */
void rk_table_close(rk_table *table);

/* What the creator gave; valid while the table is open. */
const rk_cell *rk_table_cells(const rk_table *table, uint32_t *count);
const uint8_t *rk_table_fingerprint(const rk_table *table);
uint64_t rk_table_set_id(const rk_table *table);

uint64_t rk_table_count(const rk_table *table);      /* live rows */
uint64_t rk_table_used_bytes(const rk_table *table); /* of the files */

/* What the writer says of the table; each is one atomic word (or, the boot, bytes that change only while not clean). */
uint64_t rk_table_applied(const rk_table *table);
int rk_table_is_retired(const rk_table *table);
int rk_table_is_clean(const rk_table *table, uint8_t boot[RK_TABLE_BOOT_BYTES]); /* boot may be NULL */

typedef enum {
    RK_PART_NUMBER,  /* F32, F64, I64 and BOOL: double, divided by `divisor`, `missing` where there is none */
    RK_PART_STORED,  /* float, double, int64, int8 as they are */
    RK_PART_TIME,    /* int64 ms: the value's time, RK_NO_TIME where there is no value */
    RK_PART_CHANGED, /* int64 ms: when the value was set or cleared, RK_NO_TIME: never */
    RK_PART_DECAYED, /* F32, F64: value * 2^-(age / half_life_ms) as double, or `missing`; MAP: a map of such values (float).
                        The age is now_ms - the value's time, but not below 0: what is of later is read as it is. */
    RK_PART_WINDOW,  /* MAP whose codes are buckets of time, floor(ms / bucket_ms): as double, the sum of the values of
                        the last bucket_count buckets, now_ms's own included; `missing` if the map is */
    RK_PART_RATIO,   /* of such sums of `cell` and of `below`: (sum + prior_mean * prior_weight) / (sum below +
                        prior_weight) as double; maps that are missing count as 0; 0 / 0: `missing` */
    RK_PARTS
} rk_table_part;

/* A window of a map: ttl_ms as of a column. */
typedef struct {
    uint32_t cell;
    int64_t ttl_ms, bucket_ms, bucket_count;
} rk_table_window;

/* One column of a reading. The other kinds are the same in NUMBER and STORED. */
typedef struct {
    uint32_t cell;
    double divisor;     /* of RK_CELL_I64; else 1 */
    double missing;     /* of what comes out as double: NaN, or a default */
    int64_t ttl_ms;     /* missing where now_ms - the value's time >= ttl_ms; 0: never; CHANGED: is not asked for */
    rk_table_part part;
    double half_life_ms;             /* of DECAYED: above 0 */
    int64_t bucket_ms, bucket_count; /* of WINDOW and RATIO: at least 1 */
    rk_table_window below;           /* of RATIO */
    double prior_mean, prior_weight; /* of RATIO: finite, the weight not negative; 0: none */
} rk_table_column;

typedef struct rk_table_reading rk_table_reading;

/* Which columns a caller wants, checked once; NULL without memory or if a column is no column of the table. */
rk_table_reading *rk_table_reading_new(const rk_table *table, const rk_table_column *columns, size_t count);
void rk_table_reading_free(rk_table_reading *reading);

/* Looks up n ids and gives one rk_column per column of the reading, of n rows, as rk_program_run takes them: doubles,
 * int32 codes, floats, and texts, sets and maps as data, offsets and lengths. Everything is copied into `arena`.
 * found[i] is 1 if ids[i] has a row. Ids come as they are: distinct or not, empty ones are not found.
 * Each row is one version, whole; every write that was published before the call is seen.
 * 0, or -1 without memory, or if a new index cannot be mapped. */
int rk_table_read(const rk_table_reading *reading, const rk_id *ids, size_t n, int64_t now_ms, rk_arena *arena,
                  rk_column *columns, uint8_t *found);

/* The same, and of each row its latest time (0: not found) and its journal key (RK_TABLE_NO_KEY: not found, or
 * none); either may be NULL. */
int rk_table_read_rows(const rk_table_reading *reading, const rk_id *ids, size_t n, int64_t now_ms, rk_arena *arena,
                       rk_column *columns, uint8_t *found, int64_t *written_ms, int64_t *keys);

/* A dictionary is a table without cells to which ids are only added (rk_table_intern): then the number of an id's row
 * never changes and is its code. The code of a text, or -1. */
int64_t rk_table_code(const rk_table *dictionary, rk_id text);

/* Codes of n texts, -1 where unknown. 0, or -1 as rk_table_read. */
int rk_table_codes(const rk_table *dictionary, const rk_id *texts, size_t n, int32_t *codes);

/* The text of a code: valid while the dictionary is open; its bytes are NULL if there is none. */
rk_id rk_table_text(const rk_table *dictionary, int64_t code);

/* ---- The writer. ---- */

typedef struct {
    const rk_cell *cells;
    uint32_t cell_count;
    const uint8_t *fingerprint; /* RK_TABLE_FINGERPRINT_BYTES; NULL: zeros */
    uint64_t set_id;            /* rk_table_create only */
    uint64_t max_rows;
    uint64_t max_bytes; /* of the files together; rk_table_attach: not above what the table was created with */
} rk_table_options;

/* New files; those of that name are unlinked, but who has them open keeps them. */
rk_table_status rk_table_create(const char *path, const rk_table_options *options, rk_table **table);

/* Goes on with what another writer left, whether it ended well or was killed. */
rk_table_status rk_table_attach(const char *path, const rk_table_options *options, rk_table **table);

/* Values of one cell for some ids of a batch. Of a text, set or map, values are joined and `lengths` says how many
 * elements each has. Positions of `rows` and of `clears` ascend, and are disjoint. */
typedef struct {
    uint32_t cell;
    const int64_t *rows; /* `count` positions in the batch's ids */
    size_t count;
    const void *values;      /* float, double, int64, int8, int32; floats; bytes; int32 codes */
    const float *map_values; /* of RK_CELL_MAP */
    const int64_t *lengths;  /* of TEXT, SET and MAP */
    size_t value_count;      /* elements of `values` (floats of a VECTOR) */
    const int64_t *times_ms; /* by value; NULL: the row's */
    const int64_t *clears;   /* `clear_count` positions whose value becomes missing */
    size_t clear_count;
    const int64_t *clear_times_ms; /* by clear; NULL: the row's; RK_NO_TIME: as if it had never been written */
} rk_table_write;

/* An upsert of n distinct ids. Cells that are not named keep their value and time (missing in a new row); a key that is
 * RK_TABLE_NO_KEY (or keys NULL) is kept, too. Borrows everything.
 *
 * Newer wins: a value or a clear that is older than what was last set or cleared in its cell is late and left out; what
 * is of the same time replaces. The row's latest time is that of the row before, of the batch and of what was not late.
 * is_absolute: nothing is late, and the row's latest time is written_ms, whatever it was. */
typedef struct {
    const rk_id *ids;
    size_t n;
    const rk_table_write *writes;
    size_t write_count;
    const int64_t *written_ms; /* `n` of them, or one with `one_time` */
    int one_time;
    const int64_t *keys; /* `n` of them, or NULL */
    int is_absolute;
} rk_table_batch;

/* Room that a batch will need at most: held from rk_table_hold until rk_table_publish or rk_table_drop. */
typedef struct {
    uint64_t rows, heap_bytes;
} rk_table_room;

/* Checks a batch and holds room for it beside what is held already, so that rk_table_publish cannot fail whatever is
 * published or deleted before. If it is not RK_TABLE_OK, nothing is held. */
rk_table_status rk_table_hold(rk_table *table, const rk_table_batch *batch, rk_table_room *room);
void rk_table_drop(rk_table *table, const rk_table_room *room);

/* Publishes a batch for which `room` was held, row by row in its order; each row becomes its new version at once. How
 * many values and clears were late; late_by_write (NULL, or write_count numbers): added to, of each write. */
uint64_t rk_table_publish(rk_table *table, const rk_table_batch *batch, const rk_table_room *room,
                          uint64_t *late_by_write);

/* Removes ids; how many there were. */
uint64_t rk_table_delete(rk_table *table, const rk_id *ids, size_t n);

/* Codes of n texts (distinct or not) in a dictionary, given to those that have none; if it is not RK_TABLE_OK, to none. */
rk_table_status rk_table_intern(rk_table *dictionary, const rk_id *texts, size_t n, int32_t *codes);

/* Ids of live rows from place `start` (0: the first) on, at most `most` of them, copied into `arena`. Gives how many,
 * and the next place, 0: that was all. A place is one of an index, which `generation` names: where it is another than the
 * table's now, reading starts over; it is set to the table's. A row that is there all the time comes at least once. */
rk_table_status rk_table_ids(const rk_table *table, uint64_t start, size_t most, rk_arena *arena, rk_id *ids,
                             size_t *count, uint64_t *next, uint64_t *generation);

void rk_table_set_applied(rk_table *table, uint64_t applied);
void rk_table_set_clean(rk_table *table, int is_clean, const uint8_t boot[RK_TABLE_BOOT_BYTES]);
void rk_table_retire(rk_table *table);

/* Gives up the writer's lock; the table stays open for reading, writing is over: nothing is being written by then. */
void rk_table_end_writing(rk_table *table);

/* Writes everything to the disk. RK_TABLE_IO with errno. */
rk_table_status rk_table_flush(rk_table *table);

#endif
