/* What the sources of rk_table share: how rows, heap and index lie in their files.
 *
 * A row is a whole number of 8-byte words:
 *   word 0  journal key (40 bits, all ones: none) and sequence number (24 bits; odd: free or being written)
 *   word 1  length of the id (32 bits) and its first 4 bytes
 *   word 2  the 8 bytes after them, or, of an id longer than 12 bytes, where it lies in the heap, whole
 *   word 3  latest time, ms (of a free row: the next free row)
 *   word 4  times of the cells that are not timed, if there are any such
 *   then cells: first those of 8 bytes (double, int64, times of timed cells, references to the heap), vectors (each from
 *   a word on; i8: the scale, then bytes), then 4 bytes (float, code), then 1 (bool).
 * Times: the lowest two bits of word 4 say what the others are:
 *   RK_TIMES_ONE     the time of all values; what is missing never was set or cleared
 *   RK_TIMES_BOTH    the time of all values, and of all clears: what is missing was cleared then
 *   RK_TIMES_LISTED  a place in the heap in words (40 bits) and a number (22 bits, 1 to 255) of times that lie there;
 *                    behind them a byte for each such cell: which of them, from 1 on; 0: none
 *   RK_TIMES_EACH    a place in the heap of a time for each such cell
 * A reference is a place in the heap in words (40 bits) and a length in elements (24 bits); all ones: missing.
 * What readers may meet half-written is read and written by whole words, atomically: a reader that gets new bytes of a
 * row or of the heap also gets the row's changed sequence number afterwards (H.-J. Boehm, "Can seqlocks get along with
 * programming language memory models?", 2012).
 *
 * A slot of the index is a tag, the upper half of the id's hash (32 bits), and row + 2 (32 bits); 0: empty, 1: deleted.
 * Its home is tag * slots / 2^32, from where on it is looked for. Slots change, but never move within an index.
 */
#ifndef RK_TABLE_INTERNAL_H
#define RK_TABLE_INTERNAL_H

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "rk_table.h"

#define RK_TABLE_MAGIC UINT64_C(0x31656c6261746b72) /* "rktable1" */
#define RK_TABLE_VERSION 2u
#define RK_TABLE_BYTE_ORDER 0x01020304u
#define RK_SEGMENT_BYTES (UINT64_C(4) << 20)
#define RK_MOST_SPARE (UINT64_C(4) << 20)
#define RK_NO_ROW UINT32_MAX
#define RK_REF_MISSING UINT64_MAX
#define RK_SEQUENCE_MASK UINT64_C(0xffffff)

enum {
    RK_PAGE = 4096,
    RK_ROW_HEAD = 4,       /* words before the cells */
    RK_INLINE_ID = 12,     /* bytes of an id that lies in its row */
    RK_CELLS_AT = 512,     /* bytes of the header before the cells */
    RK_FILE_HEAD = 64,     /* bytes before the slots of an index, and before the values of a heap */
    RK_SLOT_EMPTY = 0,
    RK_SLOT_DELETED = 1,
    RK_SLOT_ROW = 2,       /* what is added to a row's number */
};

enum { RK_TIMES_ONE, RK_TIMES_BOTH, RK_TIMES_LISTED, RK_TIMES_EACH, RK_MOST_LISTED = 255 };

typedef _Atomic uint64_t rk_word;

/* The start of PATH.rows. What stands before `generation` never changes; `check` is its hash and the cells'. */
typedef struct {
    uint64_t magic;
    uint32_t version, byte_order;
    uint64_t header_bytes, reserved_bytes;
    uint64_t seed[2], set_id;
    uint32_t cell_count, row_words;
    uint8_t fingerprint[RK_TABLE_FINGERPRINT_BYTES];
    uint64_t check;
    _Alignas(64) rk_word generation;
    _Alignas(64) rk_word count, row_bound, applied, is_retired, is_clean;
    uint8_t boot[RK_TABLE_BOOT_BYTES];
} rk_table_header;

/* The start of an index and of a heap. */
typedef struct {
    uint64_t magic, seed[2], generation, slot_count;
} rk_file_head;

/* Where a cell lies in a row, in bytes; `time_word` 0: not timed, then `order` is its number among such cells. */
typedef struct {
    uint32_t at, time_word, order;
} rk_place;

/* An index as this process has it mapped. */
typedef struct {
    void *base;
    size_t bytes;
    rk_word *slots;
    uint64_t slot_count, generation;
    unsigned users;
} rk_index_map;

/* What threads of this process share about reading; `lock` keeps `map` and the maps' users. */
typedef struct {
    pthread_mutex_t lock;
    rk_index_map *map;
    rk_word row_limit, heap_limit; /* rows and bytes that the files are known to have */
} rk_shared;

typedef struct rk_writer rk_writer;

struct rk_table {
    char *path;
    int rows_fd, heap_fd;
    rk_table_header *header;
    uint8_t *heap;
    rk_word *rows;
    uint64_t reserved_bytes, row_words;
    rk_cell *cells;
    rk_place *places;
    uint64_t *blank; /* a row without values */
    uint32_t cell_count;
    uint32_t *heap_cells, heap_cell_count; /* those whose values lie in the heap */
    uint32_t untimed_count, times_word; /* cells that are not timed, and the word of their times (0: there are none) */
    rk_shared *shared;
    rk_writer *writer; /* NULL: opened for reading, or writing is over */
};

/* How far a write of the batch that is published has come. */
typedef struct {
    size_t value, from, clear; /* the next value, its first element, the next clear */
    uint64_t late;             /* values and clears that were */
    uint32_t at;               /* where its cell lies in a row, bytes */
    uint32_t dense_bytes;      /* 4 or 8: it has a plain value of as many bytes for each row, of the row's time; else 0 */
} rk_cursor;

struct rk_writer {
    pthread_mutex_t lock;
    uint64_t max_rows, max_bytes;
    rk_index_map *map;
    uint64_t used_slots; /* that are not empty */
    uint64_t row_capacity; /* rows that the file has room for */
    uint64_t free_count;   /* free rows below the bound, first in, first out */
    uint32_t free_first, free_last, free_kept;
    uint64_t heap_bytes; /* of the file */
    uint32_t *live;      /* by segment: bytes of values that live rows refer to */
    uint64_t segment, bump; /* being filled, and from where on, bytes from the heap's start */
    rk_table_room held;
    uint64_t largest_value; /* of what was ever held, bytes in the heap */
    uint64_t *image;        /* the row being made */
    int64_t *times;         /* of its cells that are not timed */
    rk_cursor *cursors;
    size_t cursor_count;
};

/* ---- Words. ---- */

static inline uint64_t rk_load(const rk_word *word) { return atomic_load_explicit(word, memory_order_relaxed); }
static inline uint64_t rk_load_acquire(const rk_word *word) { return atomic_load_explicit(word, memory_order_acquire); }
static inline void rk_store(rk_word *word, uint64_t value) { atomic_store_explicit(word, value, memory_order_relaxed); }
static inline void rk_store_release(rk_word *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
}

/* By how much a file of so many bytes is made longer than it must be. */
static inline uint64_t rk_spare(uint64_t bytes) { return bytes / 16 < RK_MOST_SPARE ? bytes / 16 : RK_MOST_SPARE; }

static inline uint64_t rk_padded(uint64_t bytes) { return (bytes + 7) & ~UINT64_C(7); }

/* Words copied out of what may be overwritten meanwhile. */
static inline void rk_copy_words(void *to, const rk_word *from, size_t count)
{
    uint8_t *out = to;
#pragma GCC unroll 4
    for (size_t i = 0; i < count; i++) {
        uint64_t word = rk_load(from + i);
        memcpy(out + 8 * i, &word, 8);
    }
}

/* The same of `bytes` bytes; only those are written. */
static inline void rk_copy_bytes(void *to, const rk_word *from, size_t bytes)
{
    rk_copy_words(to, from, bytes / 8);
    if (bytes % 8) {
        uint64_t word = rk_load(from + bytes / 8);
        memcpy((uint8_t *)to + bytes / 8 * 8, &word, bytes % 8);
    }
}

/* `bytes` bytes to whole words, filled up with zeros. */
static inline void rk_put_bytes(rk_word *to, const void *from, size_t bytes)
{
    const uint8_t *in = from;
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t word = 0;
        memcpy(&word, in + i, bytes - i < 8 ? bytes - i : 8);
        rk_store(to + i / 8, word);
    }
}

static inline rk_word *rk_row_at(const rk_table *table, uint64_t row) { return table->rows + row * table->row_words; }
static inline rk_word *rk_heap_at(const rk_table *table, uint64_t bytes)
{
    return (rk_word *)(void *)(table->heap + bytes);
}

/* ---- References. ---- */

static inline uint64_t rk_ref_at(uint64_t ref) { return ref >> 24 << 3; }
static inline uint64_t rk_ref_length(uint64_t ref) { return ref & 0xffffff; }
static inline uint64_t rk_ref_of(uint64_t at, uint64_t length) { return at >> 3 << 24 | length; }

/* Bytes in the heap of a text, set or map of `length` elements. */
static inline uint64_t rk_value_bytes(int32_t kind, uint64_t length)
{
    if (kind == RK_CELL_TEXT) return rk_padded(length);
    return rk_padded(4 * length) * (kind == RK_CELL_MAP ? 2 : 1);
}

static inline int rk_is_heap_kind(int32_t kind) { return kind >= RK_CELL_TEXT; }

/* ---- Values in rows. ---- */

/* Bytes of a cell's value in a row. */
static inline size_t rk_cell_bytes(const rk_cell *cell)
{
    static const size_t bytes[RK_CELL_KINDS] = {4, 8, 8, 1, 4, 0, 8, 8, 8};
    size_t width = (size_t)cell->width;
    if (cell->kind != RK_CELL_VECTOR) return bytes[cell->kind];
    return cell->element == RK_ELEMENT_F32 ? 4 * width : cell->element == RK_ELEMENT_F16 ? 2 * width : 4 + width;
}

/* Whether a value lies there. */
static inline int rk_has_value(const rk_cell *cell, const uint8_t *at)
{
    double wide;
    float number;
    int32_t code;
    uint64_t word;
    uint16_t half;
    switch (cell->kind) {
    case RK_CELL_VECTOR:
        if (cell->element != RK_ELEMENT_F16) break;
        memcpy(&half, at, 2);
        return (half & 0x7fff) <= 0x7c00;
    case RK_CELL_F32: break;
    case RK_CELL_F64: memcpy(&wide, at, 8); return wide == wide;
    case RK_CELL_BOOL: return *(const int8_t *)at >= 0;
    case RK_CELL_CODE: memcpy(&code, at, 4); return code >= 0;
    case RK_CELL_I64: memcpy(&word, at, 8); return word != (uint64_t)INT64_MIN;
    default: memcpy(&word, at, 8); return word != RK_REF_MISSING;
    }
    memcpy(&number, at, 4);
    return number == number;
}

/* ---- Times: rk_table_times.c. ---- */

static inline uint64_t rk_times_at(uint64_t word) { return word >> 24 << 3; }
static inline uint64_t rk_times_listed(uint64_t word) { return word >> 2 & 0x3fffff; }
static inline uint64_t rk_times_one(int64_t time_ms, int how) { return (uint64_t)time_ms << 2 | (uint64_t)how; }

/* Bytes in the heap. */
static inline uint64_t rk_times_bytes(const rk_table *table, uint64_t word)
{
    uint64_t how = word & 3, count = table->untimed_count;
    if (how < RK_TIMES_LISTED) return 0;
    return how == RK_TIMES_EACH ? 8 * count : 8 * rk_times_listed(word) + rk_padded(count);
}

/* The time of cell `order` of those not timed. Of RK_TIMES_ONE: that of values. Any thread: as it lies in the heap now. */
int64_t rk_time_of(const rk_table *table, uint64_t word, uint32_t order);
/* The image's times to `writer->times`, and back: takes room in the heap if they differ. */
void rk_writer_spread_times(rk_table *table);
void rk_writer_gather_times(rk_table *table);

/* ---- Vectors: rk_table_vector.c. ---- */

void rk_vector_put(const rk_cell *cell, const float *from, uint8_t *to);
void rk_vector_get(const rk_cell *cell, const uint8_t *from, float *to);

/* ---- Ids. ---- */

/* An id made ready to be looked for: words 1 and 2 of its row (of a long id, word 2 is not known). */
typedef struct {
    uint64_t word[2];
    uint32_t tag;
} rk_key;

rk_key rk_key_of(const rk_table *table, rk_id id);

static inline uint64_t rk_home(uint32_t tag, uint64_t slot_count) { return tag * slot_count >> 32; }
static inline uint64_t rk_slot_of(uint32_t tag, uint64_t row) { return (uint64_t)tag << 32 | (row + RK_SLOT_ROW); }
static inline uint64_t rk_slot_row(uint64_t slot) { return (slot & UINT32_MAX) - RK_SLOT_ROW; }
static inline uint64_t rk_slot_next(uint64_t at, uint64_t slot_count) { return at + 1 == slot_count ? 0 : at + 1; }
/* Whether a slot may be that of an id with this tag; empty and deleted ones have no row. */
static inline int rk_slot_fits(uint64_t slot, uint32_t tag)
{
    return slot >> 32 == tag && (slot & UINT32_MAX) >= RK_SLOT_ROW;
}

/* ---- rk_table_layout.c ---- */

/* Places of cells and a row without values. */
rk_table_status rk_layout(rk_table *table, const rk_cell *cells, uint32_t count);
uint64_t rk_header_bytes(uint32_t cell_count);
uint64_t rk_header_check(const rk_table_header *header, const rk_cell *cells);
rk_table_status rk_header_read(const rk_table_header *header, uint64_t file_bytes);

/* ---- rk_table_file.c ---- */

/* PATH and what follows, a new string; NULL without memory. */
char *rk_name(const char *path, const char *suffix);
char *rk_index_name(const char *path, uint64_t generation);
int rk_random(void *to, size_t bytes);
rk_table_status rk_unlink_all(const char *path);
rk_table_status rk_grow_file(int fd, uint64_t from, uint64_t to);
int rk_file_bytes(int fd, uint64_t *bytes);
rk_table_status rk_map_files(rk_table *table, int writable);
rk_table_status rk_index_open(const rk_table *table, uint64_t generation, int writable, rk_index_map **map);
rk_table_status rk_index_new(const rk_table *table, uint64_t generation, uint64_t slot_count, rk_index_map **map);
void rk_index_unmap(rk_index_map *map);

/* The current index, in use until rk_leave; NULL if it cannot be mapped. */
rk_index_map *rk_enter(const rk_table *table);
void rk_leave(const rk_table *table, rk_index_map *map);

/* Whether the files hold a row, and `bytes` bytes of the heap from `at` on; the size of a file is asked for only if what
 * is known of it is not enough. */
int rk_row_has_come(const rk_table *table, uint64_t row);
int rk_heap_has_come(const rk_table *table, uint64_t at, uint64_t bytes);

static inline int rk_row_is_there(const rk_table *table, uint64_t row)
{
    return row < rk_load(&table->shared->row_limit) || rk_row_has_come(table, row);
}

static inline int rk_heap_is_there(const rk_table *table, uint64_t at, uint64_t bytes)
{
    uint64_t limit = rk_load(&table->shared->heap_limit);
    return (at <= limit && bytes <= limit - at) || rk_heap_has_come(table, at, bytes);
}

/* ---- rk_table_index.c: the writer's. ---- */

/* The slot of an id (1), or where it would go (0). */
int rk_writer_find(const rk_table *table, const rk_key *key, rk_id id, uint64_t *slot);
rk_table_status rk_writer_index_room(rk_table *table, uint64_t new_rows);
void rk_writer_set_slot(rk_table *table, uint64_t slot, uint64_t value);
void rk_writer_clear_slot(rk_table *table, uint64_t slot);

/* ---- rk_table_rows.c: free rows. ---- */

rk_table_status rk_writer_row_room(rk_table *table, uint64_t new_rows);
uint64_t rk_writer_take_row(rk_table *table);
void rk_writer_free_row(rk_table *table, uint64_t row);

/* ---- rk_table_heap.c ---- */

rk_table_status rk_writer_heap_room(rk_table *table, uint64_t bytes);
uint64_t rk_writer_take_heap(rk_table *table, uint64_t bytes);
void rk_writer_free_heap(rk_table *table, uint64_t at, uint64_t bytes);
/* Gives back what a superseded row refers to and the image, which took its place, does not. */
void rk_writer_free_values(rk_table *table, const rk_word *old);
/* Gives back, or counts as live, all that a row (words in this process) refers to. */
void rk_writer_count_row(rk_table *table, const uint64_t *row, int is_live);
/* Bytes that the files take, and that they may take beside. */
uint64_t rk_writer_total_bytes(const rk_table *table);
uint64_t rk_writer_left_bytes(const rk_table *table);

/* ---- rk_table_compact.c ---- */

/* Makes segments free by moving what is in use of them, at most `room` bytes; whether there was any such segment. */
int rk_writer_compact(rk_table *table, uint64_t room);
int rk_writer_is_compaction_due(const rk_table *table);

/* ---- rk_table_write.c ---- */

/* Writes the image to a free row and lets the slot show it. */
void rk_writer_publish_image(rk_table *table, uint32_t tag, uint64_t slot);

/* ---- rk_table_attach.c ---- */

rk_table_status rk_writer_new(rk_table *table, const rk_table_options *options);
void rk_writer_free(rk_table *table);

#endif
