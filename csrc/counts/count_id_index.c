/* Instructions of rk_id_index, per call over 1,000 ids. */
#include "counts.h"

#include "../rk_id_index.h"

enum { STORED = 20000, ASKED = 1000 };

static char names[STORED + ASKED][24];
static rk_id ids[STORED + ASKED];
static int64_t rows[ASKED];
static rk_id_index *held;
static const uint64_t seed[2] = {1, 2};

static void prepare(void) {
    held = rk_id_index_create(seed);
    for (int i = 0; i < STORED + ASKED; i++) {
        int length = snprintf(names[i], sizeof names[i], "product-%d", i * 7919);
        ids[i] = (rk_id){(const uint8_t *)names[i], (size_t)length};
        uint32_t row;
        if (i < STORED && rk_id_index_insert(held, ids[i], &row) != 1) abort();
    }
}

static void find_known(void) { rk_id_index_find_many(held, ids + STORED / 2, ASKED, rows); }
static void find_unknown(void) { rk_id_index_find_many(held, ids + STORED, ASKED, rows); }

static void first_duplicate(void) {
    size_t first, second;
    if (rk_first_duplicate(ids, ASKED, seed, &first, &second)) abort();
}

static const count_case cases[] = {
    {"find_known_1000", prepare, find_known, 10},
    {"find_unknown_1000", prepare, find_unknown, 10},
    {"first_duplicate_1000", prepare, first_duplicate, 10},
};

COUNT_MAIN(cases)
