/* rk_forest_open: takes an image at any aligned place and refuses every other, cut, foreign or damaged one. What it does
 * with a damaged image whose checksum is right is fuzz_forest_image's to find. */
#define _POSIX_C_SOURCE 200112L

#include "minunit.h"
#include "random_forest.h"

static uint8_t *image;
static size_t size;

/* As in the header of rk_forest_image.c. */
enum { AT_VERSION = 8, AT_BYTE_ORDER = 12, AT_BYTES = 16, AT_CHECKSUM = 24, HEADER_BYTES = 32 };

/* Exactly so many bytes at an aligned place, so that ASan sees what is read behind them. */
static uint8_t *aligned_bytes(size_t bytes) {
    void *memory;
    if (posix_memalign(&memory, 64, bytes)) abort();
    return memory;
}

static int is_refused(const void *bytes, size_t n) {
    rk_forest_fault fault = {RK_FOREST_OK, 1, 1};
    rk_forest *forest = rk_forest_open(bytes, n, &fault);
    int refused = forest == NULL && fault.status == RK_FOREST_BAD_IMAGE;
    rk_forest_free(forest);
    return refused;
}

static void build(void) {
    const forest_plan plan = {.n_features = 3, .n_outputs = 2, .n_trees = 4, .grow = GROW_ANY, .least_leaves = 2,
                              .most_leaves = 5, .n_thresholds = 4, .n_sets = 2, .base = 1, .linear = 1, .cover = 1};
    random_forest *random = random_forest_of(&plan);
    rk_forest_fault fault;
    rk_forest *forest = rk_forest_build(&random->source, &fault), *again = rk_forest_build(&random->source, &fault);
    size_t again_size;
    const void *again_image = rk_forest_image(again, &again_size);
    image = image_copy(forest, &size);
    CHECK(again_size == size && memcmp(again_image, image, size) == 0); /* no byte is left to chance */
    CHECK(size % 64 == 0);
    rk_forest_free(forest);
    rk_forest_free(again);
    random_forest_free(random);
}

static void test_opens(void) {
    rk_forest_fault fault;
    uint8_t *place = aligned_bytes(size + 128);
    for (size_t at = 0; at <= 128; at += 64) {
        memcpy(place + at, image, size);
        rk_forest *forest = rk_forest_open(place + at, size, &fault);
        CHECK(forest && fault.status == RK_FOREST_OK && fault.tree == 0 && fault.index == 0);
        size_t bytes;
        CHECK(forest && rk_forest_image(forest, &bytes) == (const void *)(place + at) && bytes == size);
        const rk_forest_source *s = rk_forest_as_source(forest);
        CHECK(s->n_features == 3 && s->n_outputs == 2 && s->n_trees == 4 && s->n_sets == 2 && s->linear_begin && s->leaf_cover);
        rk_forest_free(forest);
    }
    free(place);
}

static void test_unaligned(void) {
    uint8_t *place = aligned_bytes(size + 64);
    for (size_t at = 1; at < 64; at++) {
        memcpy(place + at, image, size);
        CHECK(is_refused(place + at, size));
    }
    free(place);
}

/* Sections start at multiples of 64 bytes: their ends and beginnings are among these cuts, and the whole header. */
static void test_cut(void) {
    for (size_t bytes = 0; bytes < size; bytes++) {
        if (bytes > 1024 && (bytes + 1) % 64 > 2) continue;
        uint8_t *cut = aligned_bytes(bytes);
        memcpy(cut, image, bytes);
        CHECK(is_refused(cut, bytes));
        if (bytes >= HEADER_BYTES) { /* even if it says that this is all */
            uint64_t said = bytes;
            memcpy(cut + AT_BYTES, &said, sizeof said);
            CHECK(is_refused(cut, bytes));
        }
        free(cut);
    }
    uint8_t *longer = aligned_bytes(size + 64);
    memset(longer, 0, size + 64);
    memcpy(longer, image, size);
    CHECK(is_refused(longer, size + 64) && is_refused(longer, size + 1));
    free(longer);
}

static void test_foreign(void) {
    uint8_t *other = aligned_bytes(size);
    memcpy(other, image, size);
    other[AT_VERSION]++;
    CHECK(is_refused(other, size));
    memcpy(other, image, size);
    for (int i = 0; i < 4; i++) other[AT_BYTE_ORDER + i] = image[AT_BYTE_ORDER + 3 - i];
    CHECK(memcmp(other, image, size) != 0 && is_refused(other, size));
    memset(other, 0, size);
    CHECK(is_refused(other, size));
    memset(other, 0xff, size);
    CHECK(is_refused(other, size));
    free(other);
}

/* Every byte, another bit of it each; and all its bits. */
static void test_damaged(void) {
    uint8_t *damaged = aligned_bytes(size);
    memcpy(damaged, image, size);
    int all = 1;
    for (size_t at = 0; at < size; at++) {
        damaged[at] ^= (uint8_t)(1u << at % 8);
        all = all && is_refused(damaged, size);
        damaged[at] = (uint8_t)~image[at];
        all = all && is_refused(damaged, size);
        damaged[at] = image[at];
    }
    CHECK(all);
    for (int i = 0; i < 2000; i++) { /* two words exchanged */
        size_t a = random_below((uint32_t)(size / 8)) * 8, b = random_below((uint32_t)(size / 8)) * 8;
        if (memcmp(image + a, image + b, 8) == 0) continue;
        memcpy(damaged + a, image + b, 8);
        memcpy(damaged + b, image + a, 8);
        all = all && is_refused(damaged, size);
        memcpy(damaged + a, image + a, 8);
        memcpy(damaged + b, image + b, 8);
    }
    CHECK(all);
    CHECK(memcmp(damaged, image, size) == 0 && !is_refused(damaged, size));
    free(damaged);
}

int main(void) {
    build();
    test_opens();
    test_unaligned();
    test_cut();
    test_foreign();
    test_damaged();
    free(image);
    FINISH();
}
