/* rk_forest_open: a valid image whose bytes the input changes (and whose checksum is not compared in fuzz builds) is
 * refused, or can be scored by every tier without a crash, a hang or a byte read outside. Scores may then differ from
 * the oracle's: what is checked is memory, not sense. */
#include "../rk_forest_internal.h"
#include "../tests/random_forest.h"

/* The header of rk_forest_image.c: its table of sections starts at TABLE. */
enum {
#define S(name, type) SECTION_##name,
    RK_SECTIONS(S)
#undef S
        N_SECTIONS,
    TABLE = 48,
    ENTRY = 16
};

enum { N_IMAGES = 8, MOST_ROWS = 140, MOST_FEATURES = 8 };

static uint8_t *images[N_IMAGES];
static size_t sizes[N_IMAGES];

static const size_t row_counts[] = {1, 2, 1, 20, 64, 65, 129, MOST_ROWS};

static void prepare(void) {
    const uint32_t zero = RK_FOREST_FLUSH_ZERO, floats = RK_FOREST_FLOAT_SUMS, vectors = RK_FOREST_VECTOR_LEAVES;
    const forest_plan plans[N_IMAGES] = {
        {2, 1, 3, zero, GROW_ANY, 1, 6, 4, 0, 0, 1, 0, 0, 0},       {3, 2, 4, 0, GROW_MIXED, 2, 9, 20, 2, 1, 1, 1, 1, 0},
        {2, 1, 3, vectors, GROW_ANY, 2, 9, 3, 1, 0, 0, 0, 0, 0},    {2, 3, 4, vectors | floats, GROW_MIXED, 1, 9, 5, 0, 0, 1, 0, 0, 0},
        {1, 1, 2, floats, GROW_COMPLETE, 30, 70, 300, 0, 0, 0, 0, 0, 0}, {3, 1, 5, 0, GROW_OBLIVIOUS, 2, 16, 9, 0, 0, 0, 0, 0, 0},
        {2, 1, 20, zero, GROW_ANY, 2, 4, 9, 1, 0, 0, 0, 0, 0},      {2, 1, 2, 0, GROW_LEFT, 20, 40, 40, 0, 0, 0, 0, 0, 0}};
    for (int i = 0; i < N_IMAGES; i++) {
        rk_forest_fault fault;
        random_forest *random = random_forest_of(&plans[i]);
        rk_forest *forest = rk_forest_build(&random->source, &fault);
        if (!forest) abort();
        images[i] = image_copy(forest, &sizes[i]);
        uint64_t first;
        memcpy(&first, images[i] + TABLE, sizeof first);
        if (first != (TABLE + N_SECTIONS * ENTRY + 63) / 64 * 64) abort(); /* the header has another layout */
        rk_forest_free(forest);
        random_forest_free(random);
    }
}

/* Where section `which` starts and how long it is, with what fills it up. */
static size_t section(const uint8_t *image, size_t bytes, unsigned which, size_t *length) {
    uint64_t begin, end = bytes;
    memcpy(&begin, image + TABLE + ENTRY * (which % N_SECTIONS), sizeof begin);
    if (which % N_SECTIONS + 1 < N_SECTIONS) memcpy(&end, image + TABLE + ENTRY * (which % N_SECTIONS + 1), sizeof end);
    *length = (size_t)(end - begin);
    return (size_t)begin;
}

/* Changes of 6 bytes: how, which section, where in it (2), what (2). `from` is the image before all changes. */
static void mutate(uint8_t *image, const uint8_t *from, size_t bytes, const uint8_t *data, size_t size) {
    for (; size >= 6; data += 6, size -= 6) {
        size_t length, start = section(from, bytes, data[1], &length), at = data[2] | (size_t)data[3] << 8;
        uint32_t word = data[4] | (uint32_t)data[5] << 8, old;
        if (data[0] >> 5 == 0) { /* the header */
            start = 0;
            length = TABLE + N_SECTIONS * ENTRY;
        }
        if (length < 4) continue;
        if (data[0] & 1) {
            image[start + at % length] = data[4];
            continue;
        }
        at = start + 4 * (at % (length / 4));
        memcpy(&old, image + at, sizeof old);
        word = data[0] & 2 ? 0u - word : word;
        word = data[0] & 4 ? word + old : word; /* near what it was */
        memcpy(image + at, &word, sizeof word);
    }
}

static void score(const rk_forest *forest, size_t rows) {
    static const float values[] = {NAN, -INFINITY, INFINITY, 0.0f, -0.0f, 1.0f, -1.0f, 3.0f, 1e-35f, 17.0f, 64.0f, -0.5f, 2.5f};
    const rk_forest_source *s = rk_forest_as_source(forest);
    float matrix[MOST_FEATURES * MOST_ROWS];
    for (size_t i = 0; i < MOST_FEATURES * rows; i++) matrix[i] = values[i * 7 % (sizeof values / sizeof *values)];
    ptrdiff_t stride = s->n_features > MOST_FEATURES ? 0 : (ptrdiff_t)rows; /* of too many features, all are one */
    double *out = malloc(s->n_outputs * rows * sizeof *out);
    int32_t *leaves = malloc(s->n_trees * rows * sizeof *leaves);
    if (!out || !leaves) abort();
    for (int tier = 0; tier < RK_FOREST_N_TIERS; tier++) {
        if (rk_forest_has_tier(forest, (rk_forest_tier)tier)) {
            rk_forest_score(forest, (rk_forest_tier)tier, matrix, rows, stride, 1, out);
        }
    }
    rk_forest_leaf(forest, matrix, rows, stride, 1, leaves);
    free(leaves);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!images[0]) prepare();
    if (size < 2) return 0;
    unsigned which = data[0] % N_IMAGES;
    uint8_t *image = aligned_alloc(64, sizes[which]);
    if (!image) abort();
    memcpy(image, images[which], sizes[which]);
    mutate(image, images[which], sizes[which], data + 2, size - 2);
    rk_forest_fault fault;
    rk_forest *forest = rk_forest_open(image, sizes[which], &fault);
    if ((forest != NULL) != (fault.status == RK_FOREST_OK)) abort();
    if (forest) score(forest, row_counts[data[1] % (sizeof row_counts / sizeof *row_counts)]);
    rk_forest_free(forest);
    free(image);
    return 0;
}
