/* Feature programs under sanitizers: hostile programs and columns, odd bytes, and random ones that must not crash. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "minunit.h"
#include "rk_ops.h"
#include "rk_utf8.h"

/* A program of `op_count` operations and one output, the last register. */
static rk_program *program_of(const rk_op *ops, int op_count, const rk_input *inputs, int input_count,
                              rk_program_status *status)
{
    static const uint8_t text[] = "red shoe";
    int32_t output = op_count - 1, position;
    rk_program_spec spec = {inputs, ops, &output, text, input_count, op_count, 1, sizeof text - 1};
    return rk_program_new(&spec, status, &position);
}

static void refuses(const rk_op *ops, int op_count, const rk_input *inputs, int input_count, rk_program_status expected)
{
    rk_program_status status;
    rk_program *program = program_of(ops, op_count, inputs, input_count, &status);
    CHECK(program == NULL);
    CHECK(status == expected);
    rk_program_free(program);
}

static void test_hostile_programs(void)
{
    rk_input number = {RK_KIND_NUMBER, 1, 0}, text = {RK_KIND_TEXT, 1, 0}, odd = {17, 1, 0};
    rk_input vectors[2] = {{RK_KIND_EMBEDDING, 1, 4}, {RK_KIND_EMBEDDING, 0, 5}};
    refuses((rk_op[]){{RK_OP_load, {1}, 0}}, 1, &number, 1, RK_PROGRAM_BAD_ARG);
    refuses((rk_op[]){{RK_OP_load, {-1}, 0}}, 1, &number, 1, RK_PROGRAM_BAD_ARG);
    refuses((rk_op[]){{RK_OP_load, {INT32_MAX}, 0}}, 1, &number, 1, RK_PROGRAM_BAD_ARG);
    refuses((rk_op[]){{RK_OP_load, {0}, 0}, {RK_OP_neg, {1}, 0}}, 2, &number, 1, RK_PROGRAM_BAD_ARG);
    refuses((rk_op[]){{RK_OP_load, {0}, 0}, {RK_OP_neg, {INT32_MIN}, 0}}, 2, &number, 1, RK_PROGRAM_BAD_ARG);
    refuses((rk_op[]){{RK_OP_load, {0}, 0}, {RK_OP_neg, {0}, 0}}, 2, &text, 1, RK_PROGRAM_BAD_ARG);
    refuses((rk_op[]){{RK_OP_load, {0}, 0}}, 1, &text, 1, RK_PROGRAM_BAD_OUTPUT);
    refuses((rk_op[]){{RK_OP_COUNT, {0}, 0}}, 1, &number, 1, RK_PROGRAM_BAD_CODE);
    refuses((rk_op[]){{INT32_MIN, {0}, 0}}, 1, &number, 1, RK_PROGRAM_BAD_CODE);
    refuses((rk_op[]){{RK_OP_constant, {0}, 1}}, 1, &odd, 1, RK_PROGRAM_BAD_INPUT);
    refuses((rk_op[]){{RK_OP_load, {0}, 0}, {RK_OP_load, {1}, 0}, {RK_OP_dot, {0, 1}, 0}}, 3, vectors, 2,
            RK_PROGRAM_BAD_ARG);
    refuses((rk_op[]){{RK_OP_text, {8, 1}, 0}, {RK_OP_token_count, {0}, 0}}, 2, NULL, 0, RK_PROGRAM_BAD_ARG);
    refuses((rk_op[]){{RK_OP_text, {INT32_MAX, INT32_MAX}, 0}}, 1, NULL, 0, RK_PROGRAM_BAD_ARG);
    refuses(NULL, 0, NULL, 0, RK_PROGRAM_BAD_OUTPUT);
    refuses(NULL, -1, NULL, 0, RK_PROGRAM_BAD_SIZE);
    refuses(NULL, RK_PROGRAM_MAX_OPS + 1, NULL, 0, RK_PROGRAM_BAD_SIZE);
}

static void test_hostile_columns(void)
{
    rk_input text = {RK_KIND_TEXT, 1, 0};
    rk_program_status status;
    rk_program *program =
        program_of((rk_op[]){{RK_OP_load, {0}, 0}, {RK_OP_token_count, {0}, 0}}, 2, &text, 1, &status);
    CHECK(program != NULL);
    static const struct { int64_t offset; int32_t length; int bad; } rows[] = {
        {0, 4, 0}, {4, 0, 0}, {3, 1, 0}, {INT64_MIN, -1, 0}, {0, 5, 1}, {4, 1, 1}, {5, 0, 1}, {-1, 1, 1},
        {INT64_MAX, INT32_MAX, 1}, {INT64_MIN, INT32_MAX, 1}, {0, -2, 1}, {0, INT32_MIN, 1},
    };
    char data[4] = {'a', ' ', 'b', 'c'};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rk_column column = {data, NULL, &rows[i].offset, &rows[i].length, 1, 4, 0};
        double out = 0;
        int32_t position;
        status = rk_program_run(program, 1, &column, 1, &out, &position);
        CHECK(status == (rows[i].bad ? RK_PROGRAM_BAD_SPAN : RK_PROGRAM_OK));
    }
    rk_column two_rows = {data, NULL, NULL, NULL, 2, 4, 0};
    int32_t position;
    CHECK(rk_program_run(program, 1, &two_rows, 1, NULL, &position) == RK_PROGRAM_BAD_ROWS);
    CHECK(rk_program_run(program, -1, &two_rows, 1, NULL, &position) == RK_PROGRAM_BAD_SIZE);
    rk_program_free(program);

    rk_input number = {RK_KIND_CATEGORY, 1, 0};
    program = program_of((rk_op[]){{RK_OP_load, {0}, 0}, {RK_OP_neg, {0}, 0}}, 2, &number, 1, &status);
    rk_column endless = {data, NULL, NULL, NULL, INT64_MAX, 0, 0};
    CHECK(rk_program_run(program, INT64_MAX, &endless, 1, NULL, &position) == RK_PROGRAM_BAD_SIZE);
    rk_program_free(program);
}

static void test_utf8(void)
{
    static const struct { const char *bytes; uint32_t point; int length; } cases[] = {
        {"a", 'a', 1}, {"\xC3\xA9", 0xE9, 2}, {"\xE6\x97\xA5", 0x65E5, 3}, {"\xF0\x9D\x92\xB3", 0x1D4B3, 4},
        {"\xF4\x8F\xBF\xBF", 0x10FFFF, 4}, {"\xC0\x80", 0xDCC0, 1}, {"\xC3", 0xDCC3, 1}, {"\xC3 ", 0xDCC3, 1},
        {"\xE0\x80\x80", 0xDCE0, 1}, {"\xED\xA0\x80", 0xDCED, 1}, {"\xF4\x90\x80\x80", 0xDCF4, 1},
        {"\xF8\x88\x80\x80", 0xDCF8, 1}, {"\x80", 0xDC80, 1}, {"\xFF", 0xDCFF, 1}, {"\xF0\x9D\x92", 0xDCF0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size = strlen(cases[i].bytes);
        uint8_t *exact = malloc(size); /* so that a byte too many is seen */
        memcpy(exact, cases[i].bytes, size);
        const uint8_t *at = exact;
        CHECK(rk_utf8_next(&at, exact + size) == cases[i].point);
        CHECK(at - exact == cases[i].length);
        free(exact);
    }
}

static uint64_t state = 1;

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t random_below(uint64_t bound)
{
    uint64_t z = (state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (z ^ z >> 31) % bound;
}

/* Any two texts: what similarity says of them is missing or within [0, 1], and the same both ways round. */
static void test_texts_of_odd_bytes(void)
{
    static const int32_t codes[] = {RK_OP_token_overlap, RK_OP_prefix_match, RK_OP_trigram_similarity,
                                    RK_OP_edit_similarity};
    static const char bytes[] = "  ab\x80\xC3\xA9\xE6\x97\xA5\xF0\xFF\0";
    rk_input inputs[2] = {{RK_KIND_TEXT, 0, 0}, {RK_KIND_TEXT, 1, 0}};
    for (int round = 0; round < 400; round++) {
        int32_t lengths[2] = {(int32_t)random_below(12), (int32_t)random_below(round % 8 ? 12 : 700)};
        uint8_t *data = malloc((size_t)(lengths[0] + lengths[1]));
        for (int32_t i = 0; i < lengths[0] + lengths[1]; i++)
            data[i] = (uint8_t)bytes[random_below(sizeof bytes - 1)];
        int64_t offsets[2] = {0, lengths[0]}, total = lengths[0] + lengths[1];
        for (int k = 0; k < 4; k++) {
            rk_op ops[] = {{RK_OP_load, {0}, 0}, {RK_OP_load, {1}, 0}, {codes[k], {0, 1}, 0}};
            rk_op swapped[] = {{RK_OP_load, {0}, 0}, {RK_OP_load, {1}, 0}, {codes[k], {1, 0}, 0}};
            double there = -1, back = -1;
            for (int way = 0; way < 2; way++) {
                rk_program_status status;
                rk_column columns[2] = {{data, NULL, &offsets[0], &lengths[0], 1, total, 0},
                                        {data, NULL, &offsets[1], &lengths[1], 1, total, 0}};
                rk_program *program = program_of(way ? swapped : ops, 3, inputs, 2, &status);
                int32_t position;
                CHECK(rk_program_run(program, 1, columns, 1, way ? &back : &there, &position) == RK_PROGRAM_OK);
                rk_program_free(program);
            }
            CHECK(there != there || (there >= 0 && there <= 1));
            if (codes[k] == RK_OP_trigram_similarity || codes[k] == RK_OP_edit_similarity)
                CHECK(there == back || (there != there && back != back));
        }
        free(data);
    }
}

enum { ROWS = 300, OPS = 12 };

/* Random programs over columns of every kind: some are refused, the others must run clean. */
static int run_random_program(rk_column *columns)
{
    rk_input inputs[6] = {{RK_KIND_NUMBER, 1, 0}, {RK_KIND_CATEGORY, 1, 0}, {RK_KIND_TEXT, 1, 0},
                          {RK_KIND_SET, 0, 0},    {RK_KIND_MAP, 1, 0},      {RK_KIND_EMBEDDING, 1, 2}};
    rk_op ops[OPS];
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < OPS; i++) {
        ops[i].code = i < 6 ? RK_OP_load : (int32_t)random_below(RK_OP_COUNT);
        ops[i].constant = (double)random_below(5);
        ops[i].arg[0] = i;
        for (int k = 0; i >= 6 && k < RK_PROGRAM_ARITY; k++) {
            int kind = rk_op_lookup(ops[i].code)->kinds[k];
            ops[i].arg[k] = kind == RK_KIND_NUMBER ? (int32_t)random_below(2) : kind; /* a load of that kind */
            if (kind == RK_KIND_NUMBER && random_below(2))
                ops[i].arg[k] = (int32_t)random_below((uint64_t)i + 1);
        }
    }
    rk_program_status status;
    rk_program *program = program_of(ops, OPS, inputs, 6, &status);
    if (!program)
        return 0;
    double *out = malloc(ROWS * sizeof *out);
    int32_t position;
    CHECK(rk_program_run(program, ROWS, columns, 1, out, &position) == RK_PROGRAM_OK);
    free(out);
    rk_program_free(program);
    return 1;
}

static void test_random_programs(void)
{
    double *numbers = malloc(ROWS * sizeof *numbers);
    int32_t *codes = malloc(ROWS * sizeof *codes), *lengths = malloc(ROWS * sizeof *lengths);
    float *floats = malloc(2 * ROWS * sizeof *floats);
    int64_t *offsets = malloc(ROWS * sizeof *offsets);
    uint8_t *bytes = malloc(ROWS);
    for (int i = 0; i < ROWS; i++) {
        numbers[i] = i % 7 ? (double)(i % 11) - 5 : NAN;
        codes[i] = i - 1;
        floats[2 * i] = floats[2 * i + 1] = i % 5 ? (float)i : NAN;
        offsets[i] = i;
        lengths[i] = i % 6 ? (int32_t)random_below((uint64_t)(ROWS - i) + 1) : -1;
        bytes[i] = (uint8_t)random_below(256);
    }
    lengths[0] = ROWS; /* the set of the request */
    rk_column columns[6] = {
        {numbers, NULL, NULL, NULL, ROWS, 0, 0},        {codes, NULL, NULL, NULL, ROWS, 0, 0},
        {bytes, NULL, offsets, lengths, ROWS, ROWS, 0}, {codes, NULL, offsets, lengths, 1, ROWS, 0},
        {codes, floats, offsets, lengths, ROWS, ROWS, 0}, {floats, NULL, NULL, NULL, ROWS, 0, 0},
    };
    int ran = 0;
    for (int round = 0; round < 3000 && ran < 500; round++)
        ran += run_random_program(columns);
    CHECK(ran >= 100);
    free(numbers);
    free(codes);
    free(lengths);
    free(floats);
    free(offsets);
    free(bytes);
}

static void test_names(void)
{
    CHECK(strcmp(rk_op_name(RK_OP_log1p), "log1p") == 0);
    CHECK(rk_op_name(RK_OP_COUNT) == NULL);
    CHECK(rk_op_name(-1) == NULL);
    CHECK(rk_op_arity(RK_OP_haversine) == 4);
    CHECK(rk_op_arity(RK_OP_COUNT) == -1);
}

int main(void)
{
    test_names();
    test_hostile_programs();
    test_hostile_columns();
    test_utf8();
    test_texts_of_odd_bytes();
    test_random_programs();
    FINISH();
}
