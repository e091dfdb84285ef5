/* rk_packed: a row byte by byte as the header says, round trips, and what is refused. */
#include <stdlib.h>
#include <string.h>

#include "../rk_packed.h"
#include "minunit.h"

enum { CELLS = 4, ROWS = 3 };

static const rk_packed_cell cells[CELLS] = {{0, 0, 0, 4}, {0, 0, 1, 0}, {0, 1, 0, 0}, {1, 1, 1, 4}};
static const rk_packed_layout layout = {cells, CELLS, 0x01020304};

static rk_id text(const char *s) { return (rk_id){(const uint8_t *)s, strlen(s)}; }

/* Three rows: all there at one time; times differ and one value cleared; a tombstone. */
typedef struct {
    uint8_t states[CELLS][ROWS];
    int64_t times[CELLS][ROWS];
    int64_t lengths[1], ints[2], list_ints[2];
    rk_id texts[1], list_texts[2];
    uint8_t fixed[8], list_fixed[8];
    rk_packed_column columns[CELLS];
    uint8_t status[ROWS];
    rk_id ids[ROWS];
    int64_t versions[ROWS], latest[ROWS];
    rk_packed_heads heads;
} sample;

static void fill(sample *s) {
    static const uint8_t states[CELLS][ROWS] = {{1, 1, 0}, {1, 1, 0}, {1, 2, 0}, {1, 0, 0}};
    memset(s, 0, sizeof *s);
    memcpy(s->states, states, sizeof states);
    for (int c = 0; c < CELLS; c++) {
        s->times[c][0] = RK_PACKED_EPOCH_MS;
        s->times[c][1] = RK_PACKED_EPOCH_MS + 1000 - (c == 1 ? 300 : 0);
        s->columns[c].state = s->states[c];
        s->columns[c].times = s->times[c];
    }
    memcpy(s->fixed, "abcdefgh", 8);
    memcpy(s->list_fixed, "ijklmnop", 8);
    s->columns[0].fixed = s->fixed;
    s->ints[0] = -1;
    s->ints[1] = INT64_MIN;
    s->columns[1].ints = s->ints;
    s->texts[0] = text("hi");
    s->columns[2].texts = s->texts;
    s->lengths[0] = 2;
    s->list_texts[0] = text("x");
    s->list_texts[1] = text("");
    s->list_ints[0] = INT64_MAX;
    s->list_ints[1] = INT64_MIN;
    s->columns[3] = (rk_packed_column){s->states[3], s->times[3], s->lengths, s->list_texts, s->list_ints, s->list_fixed};
    uint8_t status[ROWS] = {RK_PACKED_LIVE, RK_PACKED_LIVE, RK_PACKED_TOMBSTONE};
    memcpy(s->status, status, sizeof status);
    s->ids[0] = text("id");
    s->ids[1] = text("");
    s->ids[2] = text("gone");
    s->versions[0] = 0x0102030405;
    s->versions[1] = RK_PACKED_MOST_VERSION;
    s->latest[0] = RK_PACKED_EPOCH_MS;
    s->latest[1] = RK_PACKED_EPOCH_MS + 1000;
    s->latest[2] = -5;
    s->heads = (rk_packed_heads){s->status, s->ids, NULL, s->versions, s->latest};
}

static size_t pack(sample *s, uint8_t *memory[ROWS], size_t sizes[ROWS]) {
    rk_packed_extent places[CELLS];
    size_t total = 0;
    rk_packed_sizes(&layout, &s->heads, s->columns, ROWS, places, sizes);
    for (int i = 0; i < ROWS; i++) {
        memory[i] = malloc(sizes[i]); /* of exactly its size: what is written beyond is seen */
        total += sizes[i];
    }
    rk_packed_pack(&layout, &s->heads, s->columns, ROWS, places, memory);
    return total;
}

static rk_packed_status check_one(const uint8_t *bytes, size_t length, const rk_packed_layout *as, const rk_id *id) {
    uint8_t status;
    rk_id row = {bytes, length}, found;
    uint32_t fingerprint;
    int64_t version, latest;
    rk_packed_extent extents[CELLS];
    rk_packed_heads heads = {&status, &found, &fingerprint, &version, &latest};
    rk_packed_check(as, &row, id, 1, &heads, extents);
    return (rk_packed_status)status;
}

static void test_bytes(sample *s) {
    uint8_t *memory[ROWS];
    size_t sizes[ROWS];
    pack(s, memory, sizes);
    static const uint8_t first[] = {4, 3, 2, 1, 1, 2, 3, 4, 5, 0, 2, 'i', 'd', 0, 0xF, 'a', 'b', 'c', 'd', 1, 2, 'h', 'i', 2,
                                    1, 'x', 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 'i', 'j', 'k', 'l',
                                    0, 2, 'm', 'n', 'o', 'p'};
    CHECK(memory[0][0] == 1 && sizes[0] == 5 + sizeof first && !memcmp(memory[0] + 5, first, sizeof first));
    static const uint8_t second[] = {4, 3, 2, 1, 255, 255, 255, 255, 255, 6, 0, 0xD0, 0xF, 3, 4, 2, 0xAC, 2, 'e', 'f',
                                     'g', 'h', 255, 255, 255, 255, 255, 255, 255, 255, 255, 1};
    CHECK(sizes[1] == 5 + sizeof second && !memcmp(memory[1] + 5, second, sizeof second));
    CHECK(memory[2][RK_PACKED_FLAGS_AT] == 1);
    for (int i = 0; i < ROWS; i++) free(memory[i]);
}

static void test_round_trip(sample *s) {
    uint8_t *memory[ROWS];
    size_t sizes[ROWS];
    pack(s, memory, sizes);
    rk_id rows[ROWS + 1], ids[ROWS + 1];
    for (int i = 0; i < ROWS; i++) {
        rows[i] = (rk_id){memory[i], sizes[i]};
        ids[i] = s->ids[i];
    }
    rows[ROWS] = (rk_id){NULL, 0};
    ids[ROWS] = text("nobody");
    uint8_t status[ROWS + 1], states[CELLS][ROWS + 1], fixed[CELLS][8];
    rk_id found[ROWS + 1], texts[CELLS][2];
    uint32_t fingerprints[ROWS + 1];
    int64_t versions[ROWS + 1], latest[ROWS + 1], times[CELLS][ROWS + 1], lengths[1], ints[CELLS][2];
    rk_packed_heads heads = {status, found, fingerprints, versions, latest};
    rk_packed_extent extents[CELLS];
    rk_packed_check(&layout, rows, ids, ROWS + 1, &heads, extents);
    static const rk_packed_extent expected[CELLS] = {{2, 2}, {2, 2}, {1, 1}, {1, 2}};
    CHECK(!memcmp(extents, expected, sizeof expected));
    CHECK(status[0] == RK_PACKED_LIVE && status[1] == RK_PACKED_LIVE && status[2] == RK_PACKED_TOMBSTONE);
    CHECK(status[3] == RK_PACKED_MISSING);
    CHECK(!memcmp(versions, s->versions, sizeof s->versions) && !memcmp(latest, s->latest, sizeof s->latest));
    rk_packed_column columns[CELLS];
    for (int c = 0; c < CELLS; c++)
        columns[c] = (rk_packed_column){states[c], times[c], lengths, texts[c], ints[c], fixed[c]};
    rk_packed_unpack(&layout, rows, ROWS + 1, &heads, extents, columns);
    CHECK(!memcmp(extents, expected, sizeof expected));
    for (int c = 0; c < CELLS; c++)
        for (int i = 0; i < ROWS; i++) {
            CHECK(states[c][i] == s->states[c][i]);
            if (states[c][i]) CHECK(times[c][i] == s->times[c][i]);
        }
    CHECK(!memcmp(fixed[0], s->fixed, 8) && !memcmp(fixed[3], s->list_fixed, 8));
    CHECK(!memcmp(ints[1], s->ints, sizeof s->ints) && !memcmp(ints[3], s->list_ints, sizeof s->list_ints));
    CHECK(lengths[0] == 2 && texts[2][0].length == 2 && !memcmp(texts[2][0].bytes, "hi", 2));
    CHECK(texts[3][0].length == 1 && texts[3][1].length == 0);
    for (int i = 0; i < ROWS; i++) free(memory[i]);
}

static void test_refusals(sample *s) {
    uint8_t *memory[ROWS];
    size_t sizes[ROWS];
    pack(s, memory, sizes);
    rk_packed_layout other = layout;
    other.fingerprint++;
    rk_id right = text("id"), wrong = text("ie");
    CHECK(check_one(memory[0], sizes[0], &layout, &right) == RK_PACKED_LIVE);
    CHECK(check_one(memory[0], sizes[0], &layout, &wrong) == RK_PACKED_WRONG_ID);
    CHECK(check_one(memory[2], sizes[2], &layout, &right) == RK_PACKED_WRONG_ID);
    CHECK(check_one(memory[0], sizes[0], &other, NULL) == RK_PACKED_OTHER_LAYOUT);
    CHECK(check_one(memory[2], sizes[2], &other, NULL) == RK_PACKED_TOMBSTONE);
    for (int i = 0; i < ROWS; i++) {
        for (size_t cut = 0; cut < sizes[i]; cut++) {
            uint8_t *copy = malloc(cut ? cut : 1);
            memcpy(copy, memory[i], cut);
            CHECK(check_one(copy, cut, &layout, NULL) == RK_PACKED_DAMAGED);
            free(copy);
        }
        for (size_t bit = 0; bit < 8 * sizes[i]; bit++) {
            memory[i][bit / 8] ^= (uint8_t)(1 << bit % 8);
            CHECK(check_one(memory[i], sizes[i], &layout, NULL) == RK_PACKED_DAMAGED);
            memory[i][bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        free(memory[i]);
    }
}

int main(void) {
    sample s;
    fill(&s);
    test_bytes(&s);
    test_round_trip(&s);
    test_refusals(&s);
    FINISH();
}
