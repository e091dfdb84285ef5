#include "rk_id_index.h"

#include <stdlib.h>
#include <string.h>

/* A slot holds the low 32 bits of the hash (its home position and its tag in one) and row + 1; 0 is empty. */
typedef struct {
    uint32_t hash;
    uint32_t row_plus_1;
} slot;

/* An id in the arena; length 0: the row is free and `offset` is the next free row + 1 (0: none). */
typedef struct {
    uint64_t offset;
    uint32_t length;
    uint32_t hash;
} entry;

struct rk_id_index {
    uint64_t seed[2];
    slot *slots;
    size_t slot_count; /* a power of two, at most 2^32 */
    entry *entries;
    size_t entry_capacity;
    uint32_t row_bound;
    uint32_t count;
    uint32_t free_row_plus_1;
    uint8_t *arena;
    size_t arena_used;
    size_t arena_capacity;
    size_t arena_garbage;
};

enum { MIN_SLOTS = 16, BLOCK = 32, MIN_COMPACT_BYTES = 1 << 16 };

static inline uint64_t rotate(uint64_t x, int b) { return (x << b) | (x >> (64 - b)); }

static inline uint64_t load64(const uint8_t *p) {
    uint64_t x = 0;
    for (int i = 0; i < 8; i++) x |= (uint64_t)p[i] << (8 * i); /* compilers make one load of it */
    return x;
}

static inline uint64_t load32(const uint8_t *p) {
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;
}

/* 1 to 7 bytes, by loads that overlap. */
static inline uint64_t load_short(const uint8_t *p, size_t length) {
    if (length >= 4) return load32(p) | load32(p + length - 4) << 8 * (length - 4);
    size_t middle = length / 2, end = length - 1;
    return (uint64_t)p[0] | (uint64_t)p[middle] << 8 * middle | (uint64_t)p[end] << 8 * end;
}

#define SIP_ROUND(a, b, c, d)                                     \
    do {                                                          \
        a += b; b = rotate(b, 13) ^ a; a = rotate(a, 32);         \
        c += d; d = rotate(d, 16) ^ c;                            \
        a += d; d = rotate(d, 21) ^ a;                            \
        c += b; b = rotate(b, 17) ^ c; c = rotate(c, 32);         \
    } while (0)

uint64_t rk_siphash13(const uint8_t *bytes, size_t length, const uint64_t seed[2]) {
    uint64_t a = seed[0] ^ UINT64_C(0x736f6d6570736575), b = seed[1] ^ UINT64_C(0x646f72616e646f6d);
    uint64_t c = seed[0] ^ UINT64_C(0x6c7967656e657261), d = seed[1] ^ UINT64_C(0x7465646279746573);
    size_t whole = length & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t m = load64(bytes + i);
        d ^= m;
        SIP_ROUND(a, b, c, d);
        a ^= m;
    }
    uint64_t last = (uint64_t)(length & 0xff) << 56;
    if (whole < length) last |= whole ? load64(bytes + length - 8) >> 8 * (8 - length % 8) : load_short(bytes, length);
    d ^= last;
    SIP_ROUND(a, b, c, d);
    a ^= last;
    c ^= 0xff;
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    return a ^ b ^ c ^ d;
}

rk_id_index *rk_id_index_create(const uint64_t seed[2]) {
    rk_id_index *index = calloc(1, sizeof *index);
    if (!index) return NULL;
    index->slots = calloc(MIN_SLOTS, sizeof *index->slots);
    if (!index->slots) {
        free(index);
        return NULL;
    }
    index->slot_count = MIN_SLOTS;
    index->seed[0] = seed[0];
    index->seed[1] = seed[1];
    return index;
}

void rk_id_index_destroy(rk_id_index *index) {
    if (!index) return;
    free(index->slots);
    free(index->entries);
    free(index->arena);
    free(index);
}

uint32_t rk_id_index_count(const rk_id_index *index) { return index->count; }

uint32_t rk_id_index_row_bound(const rk_id_index *index) { return index->row_bound; }

size_t rk_id_index_memory_bytes(const rk_id_index *index) {
    return sizeof *index + index->slot_count * sizeof(slot) + index->entry_capacity * sizeof(entry) +
           index->arena_capacity;
}

/* The id's slot, or the empty slot where it would go. */
static size_t probe(const rk_id_index *index, rk_id id, uint32_t hash) {
    size_t mask = index->slot_count - 1, at = hash & mask;
    for (;; at = (at + 1) & mask) {
        slot s = index->slots[at];
        if (!s.row_plus_1) return at;
        if (s.hash != hash) continue;
        const entry *e = &index->entries[s.row_plus_1 - 1];
        if (e->length == id.length && !memcmp(index->arena + e->offset, id.bytes, id.length)) return at;
    }
}

static int grow_slots(rk_id_index *index, size_t rows) {
    size_t wanted = index->slot_count;
    while (wanted / 4 * 3 < rows) wanted *= 2;
    if (wanted == index->slot_count) return 0;
    slot *slots = calloc(wanted, sizeof *slots);
    if (!slots) return -1;
    for (size_t i = 0; i < index->slot_count; i++) {
        slot s = index->slots[i];
        if (!s.row_plus_1) continue;
        size_t at = s.hash & (wanted - 1);
        while (slots[at].row_plus_1) at = (at + 1) & (wanted - 1);
        slots[at] = s;
    }
    free(index->slots);
    index->slots = slots;
    index->slot_count = wanted;
    return 0;
}

static int grow_entries(rk_id_index *index, size_t rows) {
    if (rows <= index->entry_capacity) return 0;
    size_t capacity = index->entry_capacity ? index->entry_capacity : MIN_SLOTS;
    while (capacity < rows) capacity *= 2;
    entry *entries = realloc(index->entries, capacity * sizeof *entries);
    if (!entries) return -1;
    index->entries = entries;
    index->entry_capacity = capacity;
    return 0;
}

static int grow_arena(rk_id_index *index, size_t bytes) {
    if (bytes <= index->arena_capacity - index->arena_used) return 0;
    if (bytes > SIZE_MAX / 4 - index->arena_used) return -1;
    size_t capacity = index->arena_capacity ? index->arena_capacity : 1024;
    while (capacity - index->arena_used < bytes) capacity *= 2;
    uint8_t *arena = realloc(index->arena, capacity);
    if (!arena) return -1;
    index->arena = arena;
    index->arena_capacity = capacity;
    return 0;
}

int rk_id_index_reserve(rk_id_index *index, size_t ids, size_t bytes) {
    /* Free rows are used up first, but counting from the bound is simple and at most a doubling early. */
    if (ids > RK_ID_INDEX_MAX_ROWS - (size_t)index->count) return -1;
    size_t free_rows = index->row_bound - index->count;
    size_t rows = index->row_bound + (ids > free_rows ? ids - free_rows : 0);
    if (grow_slots(index, index->count + ids) || grow_entries(index, rows)) return -1;
    return grow_arena(index, bytes);
}

int rk_id_index_insert(rk_id_index *index, rk_id id, uint32_t *row) {
    if (!id.length || id.length > UINT32_MAX) return -1;
    uint32_t hash = (uint32_t)rk_siphash13(id.bytes, id.length, index->seed);
    size_t at = probe(index, id, hash);
    if (index->slots[at].row_plus_1) {
        *row = index->slots[at].row_plus_1 - 1;
        return 0;
    }
    size_t slots_before = index->slot_count;
    if (rk_id_index_reserve(index, 1, id.length)) return -1;
    if (index->slot_count != slots_before) at = probe(index, id, hash);
    uint32_t r;
    if (index->free_row_plus_1) {
        r = index->free_row_plus_1 - 1;
        index->free_row_plus_1 = (uint32_t)index->entries[r].offset;
    } else {
        r = index->row_bound++;
    }
    index->entries[r] = (entry){index->arena_used, (uint32_t)id.length, hash};
    memcpy(index->arena + index->arena_used, id.bytes, id.length);
    index->arena_used += id.length;
    index->slots[at] = (slot){hash, r + 1};
    index->count++;
    *row = r;
    return 1;
}

int64_t rk_id_index_find(const rk_id_index *index, rk_id id) {
    if (!id.length) return -1;
    uint32_t hash = (uint32_t)rk_siphash13(id.bytes, id.length, index->seed);
    return (int64_t)index->slots[probe(index, id, hash)].row_plus_1 - 1;
}

void rk_id_index_find_many(const rk_id_index *index, const rk_id *ids, size_t n, int64_t *rows) {
    size_t mask = index->slot_count - 1;
    uint32_t hashes[BLOCK];
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t size = n - start < BLOCK ? n - start : BLOCK;
        for (size_t i = 0; i < size; i++) {
            hashes[i] = (uint32_t)rk_siphash13(ids[start + i].bytes, ids[start + i].length, index->seed);
            __builtin_prefetch(&index->slots[hashes[i] & mask]);
        }
        for (size_t i = 0; i < size; i++) {
            slot s = index->slots[hashes[i] & mask];
            if (s.row_plus_1) __builtin_prefetch(&index->entries[s.row_plus_1 - 1]);
        }
        for (size_t i = 0; i < size; i++) {
            slot s = index->slots[hashes[i] & mask];
            if (s.row_plus_1) __builtin_prefetch(index->arena + index->entries[s.row_plus_1 - 1].offset);
        }
        for (size_t i = 0; i < size; i++) {
            rk_id id = ids[start + i];
            rows[start + i] = id.length ? (int64_t)index->slots[probe(index, id, hashes[i])].row_plus_1 - 1 : -1;
        }
    }
}

/* Rewrites the arena without the removed ids' bytes; without memory it stays as it is. */
static void compact_arena(rk_id_index *index) {
    size_t live = index->arena_used - index->arena_garbage, used = 0;
    size_t capacity = live + live / 2 + 1024;
    uint8_t *arena = malloc(capacity);
    if (!arena) return;
    for (uint32_t row = 0; row < index->row_bound; row++) {
        entry *e = &index->entries[row];
        if (!e->length) continue;
        memcpy(arena + used, index->arena + e->offset, e->length);
        e->offset = used;
        used += e->length;
    }
    free(index->arena);
    index->arena = arena;
    index->arena_used = used;
    index->arena_capacity = capacity;
    index->arena_garbage = 0;
}

int64_t rk_id_index_remove(rk_id_index *index, rk_id id) {
    if (!id.length) return -1;
    uint32_t hash = (uint32_t)rk_siphash13(id.bytes, id.length, index->seed);
    size_t mask = index->slot_count - 1, hole = probe(index, id, hash);
    if (!index->slots[hole].row_plus_1) return -1;
    uint32_t row = index->slots[hole].row_plus_1 - 1;
    /* Move back every later slot of the run whose home does not lie after the hole. */
    for (size_t at = (hole + 1) & mask; index->slots[at].row_plus_1; at = (at + 1) & mask) {
        size_t home = index->slots[at].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            index->slots[hole] = index->slots[at];
            hole = at;
        }
    }
    index->slots[hole] = (slot){0, 0};
    index->arena_garbage += index->entries[row].length;
    index->entries[row] = (entry){index->free_row_plus_1, 0, 0};
    index->free_row_plus_1 = row + 1;
    index->count--;
    if (index->arena_garbage > MIN_COMPACT_BYTES && index->arena_garbage > index->arena_used / 2) compact_arena(index);
    return row;
}

rk_id rk_id_index_id(const rk_id_index *index, uint32_t row) {
    if (row >= index->row_bound || !index->entries[row].length) return (rk_id){NULL, 0};
    return (rk_id){index->arena + index->entries[row].offset, index->entries[row].length};
}

int rk_first_duplicate(const rk_id *ids, size_t n, const uint64_t seed[2], size_t *first, size_t *second) {
    slot fixed[2048]; /* up to 1,024 ids, the usual list, without an allocation */
    size_t slot_count = MIN_SLOTS;
    while (slot_count < 2 * n) slot_count *= 2;
    slot *slots = fixed;
    if (slot_count <= sizeof fixed / sizeof fixed[0]) {
        memset(fixed, 0, slot_count * sizeof *fixed);
    } else {
        slots = calloc(slot_count, sizeof *slots);
        if (!slots) return -1;
    }
    int found = 0;
    for (size_t j = 0; j < n && !found; j++) {
        uint32_t hash = (uint32_t)rk_siphash13(ids[j].bytes, ids[j].length, seed);
        size_t at = hash & (slot_count - 1);
        for (; slots[at].row_plus_1; at = (at + 1) & (slot_count - 1)) {
            if (slots[at].hash != hash) continue;
            size_t i = slots[at].row_plus_1 - 1;
            if (ids[i].length == ids[j].length && !memcmp(ids[i].bytes, ids[j].bytes, ids[j].length)) {
                *first = i;
                *second = j;
                found = 1;
                break;
            }
        }
        slots[at] = (slot){hash, (uint32_t)j + 1};
    }
    if (slots != fixed) free(slots);
    return found;
}
