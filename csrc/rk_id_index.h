/* rk_id_index: a hash index from ids (any bytes) to dense row numbers.
 *
 * Ids are 1 to UINT32_MAX bytes, compared byte for byte; nothing is assumed about their encoding.
 * Rows are numbered from 0 without gaps; a removed row's number is given to a later insert.
 *
 * Ownership: the index copies the ids it keeps; ids passed in are only read during the call.
 * Hashing: SipHash-1-3 under the caller's random seed, so that a client who chooses ids
 * cannot choose collisions (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012).
 * Layout: open addressing with linear probing at a load of at most 3/4, removal by shifting
 * back (no tombstones), 8 bytes a slot; ids lie in one growing arena.
 * Limits: 2^31 - 1 rows. Threads: none; callers exclude writers from everybody else.
 */
#ifndef RK_ID_INDEX_H
#define RK_ID_INDEX_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *bytes;
    size_t length;
} rk_id;

typedef struct rk_id_index rk_id_index;

#define RK_ID_INDEX_MAX_ROWS 2147483647u

/* SipHash-1-3 of `length` bytes under a 128-bit key. */
uint64_t rk_siphash13(const uint8_t *bytes, size_t length, const uint64_t seed[2]);

/* An empty index, or NULL without memory. Free it with rk_id_index_destroy (NULL is allowed). */
rk_id_index *rk_id_index_create(const uint64_t seed[2]);
void rk_id_index_destroy(rk_id_index *index);

/* Ids held now. */
uint32_t rk_id_index_count(const rk_id_index *index);

/* Every row number is below this; it never falls. */
uint32_t rk_id_index_row_bound(const rk_id_index *index);

/* Bytes the index occupies. */
size_t rk_id_index_memory_bytes(const rk_id_index *index);

/* Makes room so that inserting `ids` more ids of `bytes` bytes in all cannot fail.
 * 0, or -1 without memory or past RK_ID_INDEX_MAX_ROWS (nothing changed that could be seen). */
int rk_id_index_reserve(rk_id_index *index, size_t ids, size_t bytes);

/* Finds or inserts. 1: inserted, 0: was there, -1: no memory, too many rows or a bad length
 * (nothing changed). `row` is written unless -1. */
int rk_id_index_insert(rk_id_index *index, rk_id id, uint32_t *row);

/* The id's row, or -1. An empty id is never found. */
int64_t rk_id_index_find(const rk_id_index *index, rk_id id);

/* rk_id_index_find for each of n ids, with the misses of the cache overlapped. */
void rk_id_index_find_many(const rk_id_index *index, const rk_id *ids, size_t n, int64_t *rows);

/* Removes the id and returns the row that became free, or -1 if it was not there. Cannot fail. */
int64_t rk_id_index_remove(rk_id_index *index, rk_id id);

/* The id of a row, or length 0 if the row is free. Valid until the next insert, reserve or remove. */
rk_id rk_id_index_id(const rk_id_index *index, uint32_t row);

/* Looks for the least j such that ids[i] equals ids[j] for an i < j.
 * 1: found, `first` = i and `second` = j; 0: all distinct; -1: no memory. n is at most RK_ID_INDEX_MAX_ROWS. */
int rk_first_duplicate(const rk_id *ids, size_t n, const uint64_t seed[2], size_t *first, size_t *second);

#endif
