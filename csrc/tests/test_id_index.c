/* rk_id_index: SipHash against vectors, the index against an array, odd bytes, growth and removal. */
#include "../rk_id_index.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "minunit.h"

static const uint64_t SEED[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};

static rk_id text(const char *s) { return (rk_id){(const uint8_t *)s, strlen(s)}; }

/* SipHash-1-3 of 00 01 02 … under the key 00 01 … 0f, computed by an independent implementation that
 * gives the vector of the paper's appendix A with two rounds and four (a129ca6149be45e5 for 15 bytes). */
static void test_siphash(void) {
    const struct {
        size_t length;
        uint64_t hash;
    } vectors[] = {
        {0, UINT64_C(0xabac0158050fc4dc)},
        {1, UINT64_C(0xc9f49bf37d57ca93)},
        {7, UINT64_C(0xd3927d989bb11140)},
        {8, UINT64_C(0x369095118d299a8e)},
        {9, UINT64_C(0x25a48eb36c063de4)},
        {15, UINT64_C(0xd320d86d2a519956)},
        {16, UINT64_C(0xcc4fdd1a7d908b66)},
        {63, UINT64_C(0x9d199062b7bbb3a8)},
    };
    uint8_t bytes[64];
    for (int i = 0; i < 64; i++) bytes[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        CHECK(rk_siphash13(bytes, vectors[i].length, SEED) == vectors[i].hash);
    }
}

static void test_basics(void) {
    rk_id_index *index = rk_id_index_create(SEED);
    uint32_t row = 99;
    CHECK(rk_id_index_find(index, text("a")) == -1);
    CHECK(rk_id_index_remove(index, text("a")) == -1);
    CHECK(rk_id_index_insert(index, text(""), &row) == -1 && row == 99);
    CHECK(rk_id_index_find(index, text("")) == -1);
    CHECK(rk_id_index_remove(index, text("")) == -1);
    CHECK(rk_id_index_insert(index, text("a"), &row) == 1 && row == 0);
    CHECK(rk_id_index_insert(index, text("b"), &row) == 1 && row == 1);
    CHECK(rk_id_index_insert(index, text("a"), &row) == 0 && row == 0);
    CHECK(rk_id_index_count(index) == 2 && rk_id_index_row_bound(index) == 2);
    CHECK(rk_id_index_remove(index, text("a")) == 0);
    CHECK(rk_id_index_find(index, text("a")) == -1 && rk_id_index_find(index, text("b")) == 1);
    CHECK(rk_id_index_id(index, 0).length == 0 && rk_id_index_id(index, 2).length == 0);
    CHECK(rk_id_index_id(index, 1).length == 1 && rk_id_index_id(index, 1).bytes[0] == 'b');
    CHECK(rk_id_index_insert(index, text("c"), &row) == 1 && row == 0); /* the free row is used again */
    CHECK(rk_id_index_count(index) == 2 && rk_id_index_row_bound(index) == 2);
    rk_id_index_destroy(index);
    rk_id_index_destroy(NULL);
}

static void test_odd_bytes(void) {
    static uint8_t large[70000];
    memset(large, 0xff, sizeof large);
    const rk_id ids[] = {
        {(const uint8_t *)"\0", 1},     {(const uint8_t *)"\0\0", 2},   {(const uint8_t *)"\0\0\0\0\0\0\0\0", 8},
        {(const uint8_t *)"a\0b", 3},   {(const uint8_t *)"a\0c", 3},   {(const uint8_t *)"a", 1},
        {(const uint8_t *)"\xff\xfe", 2}, {large, sizeof large},        {large, sizeof large - 1},
    };
    const size_t n = sizeof ids / sizeof ids[0];
    int64_t rows[sizeof ids / sizeof ids[0]];
    rk_id_index *index = rk_id_index_create(SEED);
    uint32_t row;
    for (size_t i = 0; i < n; i++) CHECK(rk_id_index_insert(index, ids[i], &row) == 1 && row == i);
    rk_id_index_find_many(index, ids, n, rows);
    for (size_t i = 0; i < n; i++) {
        rk_id stored = rk_id_index_id(index, (uint32_t)i);
        CHECK(rows[i] == (int64_t)i);
        CHECK(stored.length == ids[i].length && !memcmp(stored.bytes, ids[i].bytes, stored.length));
    }
    rk_id_index_destroy(index);
}

enum { IDS = 100000 };

static uint8_t names[IDS][24];
static rk_id ids[IDS];
static int64_t row_of[IDS], found[IDS];
static uint8_t row_taken[IDS];

static uint32_t next_random(void) {
    static uint64_t state = 42;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33);
}

/* The index against row_of: every id is where the array says, and live rows are distinct. */
static void check_all(const rk_id_index *index) {
    size_t wrong = 0, live = 0;
    memset(row_taken, 0, sizeof row_taken);
    rk_id_index_find_many(index, ids, IDS, found);
    for (size_t i = 0; i < IDS; i++) {
        wrong += found[i] != row_of[i] || rk_id_index_find(index, ids[i]) != row_of[i];
        if (row_of[i] < 0) continue;
        rk_id stored = rk_id_index_id(index, (uint32_t)row_of[i]);
        wrong += row_taken[row_of[i]]++;
        wrong += stored.length != ids[i].length || memcmp(stored.bytes, ids[i].bytes, stored.length) != 0;
        live++;
    }
    CHECK(wrong == 0);
    CHECK(rk_id_index_count(index) == live);
}

static void test_many(void) {
    rk_id_index *index = rk_id_index_create(SEED);
    size_t wrong = 0;
    uint32_t row;
    for (int i = 0; i < IDS; i++) {
        int length = snprintf((char *)names[i], sizeof names[i], "product-%d", i * 7919);
        ids[i] = (rk_id){names[i], (size_t)length};
        wrong += rk_id_index_insert(index, ids[i], &row) != 1 || row != (uint32_t)i;
        row_of[i] = i;
    }
    CHECK(wrong == 0);
    check_all(index);
    /* Remove most (the arena is compacted), put some back, and again; rows must never be shared. */
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < IDS; i++) {
            if (next_random() % 4 == 0) continue;
            wrong += rk_id_index_remove(index, ids[i]) != row_of[i];
            row_of[i] = -1;
        }
        CHECK(wrong == 0);
        check_all(index);
        for (int i = 0; i < IDS; i++) {
            if (row_of[i] >= 0 || next_random() % 2) continue;
            wrong += rk_id_index_insert(index, ids[i], &row) != 1;
            row_of[i] = row;
        }
        CHECK(wrong == 0);
        check_all(index);
    }
    CHECK(rk_id_index_row_bound(index) == IDS);
    for (int i = 0; i < IDS; i++) {
        wrong += rk_id_index_remove(index, ids[i]) != row_of[i];
        row_of[i] = -1;
    }
    CHECK(wrong == 0 && rk_id_index_count(index) == 0);
    check_all(index);
    rk_id_index_destroy(index);
}

/* Ids that share a home slot in small tables, so that runs are long and wrap around the end. */
static void test_collisions(void) {
    static uint8_t colliding[12][8];
    rk_id list[12];
    size_t n = 0;
    for (uint64_t i = 0; n < 12; i++) {
        uint8_t bytes[8];
        memcpy(bytes, &i, 8);
        if ((rk_siphash13(bytes, 8, SEED) & 15) != 14) continue;
        memcpy(colliding[n], bytes, 8);
        list[n] = (rk_id){colliding[n], 8};
        n++;
    }
    for (size_t gone = 0; gone < 12; gone++) {
        rk_id_index *index = rk_id_index_create(SEED);
        uint32_t row;
        for (size_t i = 0; i < 12; i++) CHECK(rk_id_index_insert(index, list[i], &row) == 1 && row == i);
        CHECK(rk_id_index_remove(index, list[gone]) == (int64_t)gone);
        for (size_t i = 0; i < 12; i++) CHECK(rk_id_index_find(index, list[i]) == (i == gone ? -1 : (int64_t)i));
        for (size_t i = 0; i < 12; i += 2) rk_id_index_remove(index, list[i]);
        for (size_t i = 0; i < 12; i++) {
            CHECK(rk_id_index_find(index, list[i]) == (i == gone || i % 2 == 0 ? -1 : (int64_t)i));
        }
        rk_id_index_destroy(index);
    }
}

static void test_reserve(void) {
    rk_id_index *index = rk_id_index_create(SEED);
    CHECK(rk_id_index_reserve(index, 1000, 10000) == 0);
    CHECK(rk_id_index_count(index) == 0 && rk_id_index_row_bound(index) == 0);
    CHECK(rk_id_index_memory_bytes(index) > 10000);
    CHECK(rk_id_index_reserve(index, (size_t)RK_ID_INDEX_MAX_ROWS + 1, 0) == -1);
    CHECK(rk_id_index_reserve(index, 1, SIZE_MAX / 2) == -1);
    uint32_t row;
    CHECK(rk_id_index_insert(index, text("still works"), &row) == 1);
    rk_id_index_destroy(index);
}

static void test_first_duplicate(void) {
    size_t first = 0, second = 0;
    CHECK(rk_first_duplicate(NULL, 0, SEED, &first, &second) == 0);
    const rk_id few[] = {text("a"), text("b"), text(""), text("c"), text("b"), text("a"), text("")};
    CHECK(rk_first_duplicate(few, 4, SEED, &first, &second) == 0);
    CHECK(rk_first_duplicate(few, 7, SEED, &first, &second) == 1 && first == 1 && second == 4);
    /* Both sides of the table on the stack, and a large one. */
    const size_t sizes[] = {1023, 1024, 1025, IDS};
    for (size_t i = 0; i < 4; i++) {
        rk_id last = ids[sizes[i] - 1];
        CHECK(rk_first_duplicate(ids, sizes[i], SEED, &first, &second) == 0);
        ids[sizes[i] - 1] = ids[17];
        CHECK(rk_first_duplicate(ids, sizes[i], SEED, &first, &second) == 1);
        CHECK(first == 17 && second == sizes[i] - 1);
        ids[sizes[i] - 1] = last;
    }
}

int main(void) {
    test_siphash();
    test_basics();
    test_odd_bytes();
    test_many();
    test_collisions();
    test_reserve();
    test_first_duplicate();
    FINISH();
}
