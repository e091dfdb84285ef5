/* Instructions of feature operations, per call over 1,000 candidates: both arguments columns, or the second one the
 * request's. One in eight values is missing. */
#include "counts.h"

#include "../rk_ops.h"

enum { N = 1000, DIMENSION = 64 };

static double columns[RK_PROGRAM_ARITY][N], out[N], broadcast[RK_PROGRAM_ARITY][RK_BLOCK];
static float vectors[2][N * DIMENSION];
static int32_t codes[N];
static rk_column embeddings[2];
static rk_call call;
static rk_program *program;
static float outputs[4 * N];
static rk_column program_columns[4];

static void prepare(void) {
    call = (rk_call){.out = out, .count = N, .length = N, .broadcast = broadcast, .tier = rk_ops_widest()};
    for (int k = 0; k < RK_PROGRAM_ARITY; k++) {
        for (int i = 0; i < N; i++) columns[k][i] = count_random() % 8 ? count_uniform() * 4 - 1 : NAN;
        call.arg[k] = (rk_operand){.values = columns[k], .stride = 1};
    }
}

static void prepare_request(void) {
    prepare();
    call.arg[1].stride = 0;
    columns[1][0] = 0.5;
}

static void prepare_embeddings(void) {
    prepare();
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < N * DIMENSION; i++) vectors[k][i] = (float)count_uniform() - 0.5f;
        for (int i = 0; i < N; i += 8) vectors[0][i * DIMENSION] = NAN;
        embeddings[k] = (rk_column){.data = vectors[k], .rows = N};
        call.arg[k] = (rk_operand){.column = &embeddings[k], .stride = k == 0, .dimension = DIMENSION};
    }
}

/* coalesce(a, 0) * (b + 1) where c < 1, else max(a, b); and a category's code: four inputs, four outputs. */
static void prepare_program(void) {
    static const rk_input inputs[] = {{RK_KIND_NUMBER, 1, 0}, {RK_KIND_NUMBER, 1, 0}, {RK_KIND_NUMBER, 1, 0},
                                      {RK_KIND_CATEGORY, 1, 0}};
    static const rk_op ops[] = {
        {RK_OP_load, {0}, 0},       {RK_OP_load, {1}, 0},          {RK_OP_load, {2}, 0},
        {RK_OP_load, {3}, 0},       {RK_OP_constant, {0}, 0},      {RK_OP_constant, {0}, 1},
        {RK_OP_coalesce, {0, 4}, 0}, {RK_OP_add, {1, 5}, 0},       {RK_OP_mul, {6, 7}, 0},
        {RK_OP_lt, {2, 5}, 0},      {RK_OP_max, {0, 1}, 0},        {RK_OP_where, {9, 8, 10}, 0},
    };
    static const int32_t outs[] = {11, 3, 0, 5};
    const rk_program_spec spec = {inputs, ops, outs, NULL, 4, sizeof ops / sizeof ops[0], 4, 0};
    rk_program_status status;
    int32_t position;
    prepare();
    program = rk_program_new(&spec, &status, &position);
    if (!program) abort();
    for (int i = 0; i < N; i++) codes[i] = (int32_t)(count_random() % 50) - 1;
    for (int k = 0; k < 4; k++) program_columns[k] = (rk_column){.data = columns[k], .rows = N};
    program_columns[3].data = codes;
}

static void run_program(void) {
    int32_t position;
    if (rk_program_run(program, N, program_columns, 0, outputs, &position)) abort();
}

#define EACH(X)                                                                                          \
    X(round32) X(neg) X(add) X(sub) X(mul) X(div) X(floordiv) X(mod) X(pow) X(min) X(max) X(lt) X(le)    \
    X(eq) X(ne) X(and) X(or) X(not) X(where) X(coalesce) X(is_missing) X(abs) X(floor) X(sqrt)           \
    X(exp) X(log) X(log1p) X(decay) X(haversine) X(list_min) X(list_mean) X(list_zscore)

#define RUN(name) static void run_##name(void) { rk_run_##name(&call); }
#define CASE(name) {#name, prepare, run_##name, 4},
#define CASE_REQUEST(name) {#name "_request", prepare_request, run_##name, 4},

EACH(RUN)
RUN(dot)
RUN(cosine)
RUN(embedding_missing)

static const count_case cases[] = {
    EACH(CASE)
    CASE_REQUEST(add) CASE_REQUEST(min) CASE_REQUEST(lt)
    {"dot_64", prepare_embeddings, run_dot, 4},
    {"cosine_64", prepare_embeddings, run_cosine, 4},
    {"embedding_missing", prepare_embeddings, run_embedding_missing, 4},
    {"program", prepare_program, run_program, 4},
};

COUNT_MAIN(cases)
