/* The operations, inside csrc only: one table names each, its arguments' kinds and its code. */
#ifndef RK_OPS_H
#define RK_OPS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "rk_program.h"

enum { RK_BLOCK = 256 }; /* candidates a numeric operation handles at a time */

/* How wide the vectors are that loops over candidates were compiled for; results are the same bits in every tier.
 * RK_OPS_PLAIN is what the compiler makes of C alone, and the oracle of the others. */
enum rk_ops_tier { RK_OPS_PLAIN, RK_OPS_AVX2, RK_OPS_TIERS };

/* The widest tier of this processor. */
static inline int rk_ops_widest(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") ? RK_OPS_AVX2 : RK_OPS_PLAIN;
#else
    return RK_OPS_PLAIN;
#endif
}

/* What stands before and in place of the code of a tier. */
#if defined(__x86_64__)
#define RK_OPS_AVX2_FUNCTION(...) __attribute__((target("avx2"))) __VA_ARGS__
#define RK_OPS_AVX2_OR(tier, other) tier
#else
#define RK_OPS_AVX2_FUNCTION(...)
#define RK_OPS_AVX2_OR(tier, other) other
#endif

/* An argument while running: `values` of numbers, `column` of the others. Element i is at i * stride. */
typedef struct {
    const double *values;
    const rk_column *column;
    int64_t stride;
    int32_t dimension;
} rk_operand;

/* One operation about to run: `count` results to write to `out`, which aliases no argument;
 * `length` candidates; `scratch` as large as the operation's own estimate. */
typedef struct {
    rk_operand arg[RK_PROGRAM_ARITY];
    double *out;
    int64_t count;
    int64_t length;
    void *scratch;
    double (*broadcast)[RK_BLOCK];
    int tier; /* of enum rk_ops_tier, not beyond rk_ops_widest() */
} rk_call;

typedef void (*rk_op_fn)(const rk_call *call);

/* Scratch bytes an operation needs; 0 on success, -1 if the size overflows. NULL: none. */
typedef int (*rk_op_scratch_fn)(const rk_call *call, size_t *bytes);

enum rk_shape { RK_SHAPE_EACH, RK_SHAPE_LIST }; /* a result per element; one result per list */

typedef struct {
    const char *name;
    int8_t shape;
    int8_t arity;
    int8_t kinds[RK_PROGRAM_ARITY];
    rk_op_fn run;
    rk_op_scratch_fn scratch;
} rk_op_info;

/* X(name, shape, arity, argument kinds by initial, function, scratch) */
#define RK_OPS(X)                                                                   \
    X(load, EACH, 0, 0, 0, 0, 0, NULL, NULL)                                        \
    X(constant, EACH, 0, 0, 0, 0, 0, NULL, NULL)                                    \
    X(text, EACH, 0, 0, 0, 0, 0, NULL, NULL)                                        \
    X(round32, EACH, 1, N, 0, 0, 0, rk_run_round32, NULL)                           \
    X(neg, EACH, 1, N, 0, 0, 0, rk_run_neg, NULL)                                   \
    X(add, EACH, 2, N, N, 0, 0, rk_run_add, NULL)                                   \
    X(sub, EACH, 2, N, N, 0, 0, rk_run_sub, NULL)                                   \
    X(mul, EACH, 2, N, N, 0, 0, rk_run_mul, NULL)                                   \
    X(div, EACH, 2, N, N, 0, 0, rk_run_div, NULL)                                   \
    X(floordiv, EACH, 2, N, N, 0, 0, rk_run_floordiv, NULL)                         \
    X(mod, EACH, 2, N, N, 0, 0, rk_run_mod, NULL)                                   \
    X(pow, EACH, 2, N, N, 0, 0, rk_run_pow, NULL)                                   \
    X(min, EACH, 2, N, N, 0, 0, rk_run_min, NULL)                                   \
    X(max, EACH, 2, N, N, 0, 0, rk_run_max, NULL)                                   \
    X(lt, EACH, 2, N, N, 0, 0, rk_run_lt, NULL)                                     \
    X(le, EACH, 2, N, N, 0, 0, rk_run_le, NULL)                                     \
    X(eq, EACH, 2, N, N, 0, 0, rk_run_eq, NULL)                                     \
    X(ne, EACH, 2, N, N, 0, 0, rk_run_ne, NULL)                                     \
    X(and, EACH, 2, N, N, 0, 0, rk_run_and, NULL)                                   \
    X(or, EACH, 2, N, N, 0, 0, rk_run_or, NULL)                                     \
    X(not, EACH, 1, N, 0, 0, 0, rk_run_not, NULL)                                   \
    X(where, EACH, 3, N, N, N, 0, rk_run_where, NULL)                               \
    X(coalesce, EACH, 2, N, N, 0, 0, rk_run_coalesce, NULL)                         \
    X(is_missing, EACH, 1, N, 0, 0, 0, rk_run_is_missing, NULL)                     \
    X(abs, EACH, 1, N, 0, 0, 0, rk_run_abs, NULL)                                   \
    X(floor, EACH, 1, N, 0, 0, 0, rk_run_floor, NULL)                               \
    X(sqrt, EACH, 1, N, 0, 0, 0, rk_run_sqrt, NULL)                                 \
    X(exp, EACH, 1, N, 0, 0, 0, rk_run_exp, NULL)                                   \
    X(log, EACH, 1, N, 0, 0, 0, rk_run_log, NULL)                                   \
    X(log1p, EACH, 1, N, 0, 0, 0, rk_run_log1p, NULL)                               \
    X(decay, EACH, 2, N, N, 0, 0, rk_run_decay, NULL)                               \
    X(haversine, EACH, 4, N, N, N, N, rk_run_haversine, NULL)                       \
    X(list_min, LIST, 1, N, 0, 0, 0, rk_run_list_min, NULL)                         \
    X(list_max, LIST, 1, N, 0, 0, 0, rk_run_list_max, NULL)                         \
    X(list_mean, LIST, 1, N, 0, 0, 0, rk_run_list_mean, NULL)                       \
    X(list_rank, EACH, 1, N, 0, 0, 0, rk_run_list_rank, rk_scratch_list_rank)       \
    X(list_zscore, EACH, 1, N, 0, 0, 0, rk_run_list_zscore, NULL)                   \
    X(set_missing, EACH, 1, S, 0, 0, 0, rk_run_span_missing, NULL)                  \
    X(map_missing, EACH, 1, M, 0, 0, 0, rk_run_span_missing, NULL)                  \
    X(text_missing, EACH, 1, T, 0, 0, 0, rk_run_span_missing, NULL)                 \
    X(contains, EACH, 2, S, N, 0, 0, rk_run_contains, NULL)                         \
    X(overlap, EACH, 2, S, S, 0, 0, rk_run_overlap, NULL)                           \
    X(jaccard, EACH, 2, S, S, 0, 0, rk_run_jaccard, NULL)                           \
    X(lookup, EACH, 2, M, N, 0, 0, rk_run_lookup, NULL)                             \
    X(embedding_missing, EACH, 1, E, 0, 0, 0, rk_run_embedding_missing, NULL)       \
    X(dot, EACH, 2, E, E, 0, 0, rk_run_dot, NULL)                                   \
    X(cosine, EACH, 2, E, E, 0, 0, rk_run_cosine, NULL)                             \
    X(token_count, EACH, 1, T, 0, 0, 0, rk_run_token_count, NULL)                   \
    X(token_overlap, EACH, 2, T, T, 0, 0, rk_run_token_overlap, rk_scratch_tokens)  \
    X(prefix_match, EACH, 2, T, T, 0, 0, rk_run_prefix_match, rk_scratch_tokens)    \
    X(trigram_similarity, EACH, 2, T, T, 0, 0, rk_run_trigrams, rk_scratch_trigrams) \
    X(edit_similarity, EACH, 2, T, T, 0, 0, rk_run_edit_similarity, NULL)

/* LOAD, CONSTANT and TEXT name where a register comes from; nothing runs for them. */
enum rk_op_code {
#define X(name, ...) RK_OP_##name,
    RK_OPS(X)
#undef X
        RK_OP_COUNT
};

/* What rk_ops_*.c define; `rk_run_x` writes call->count results. */
void rk_run_round32(const rk_call *), rk_run_neg(const rk_call *), rk_run_add(const rk_call *);
void rk_run_sub(const rk_call *), rk_run_mul(const rk_call *), rk_run_div(const rk_call *);
void rk_run_floordiv(const rk_call *), rk_run_mod(const rk_call *), rk_run_pow(const rk_call *);
void rk_run_min(const rk_call *), rk_run_max(const rk_call *), rk_run_lt(const rk_call *);
void rk_run_le(const rk_call *), rk_run_eq(const rk_call *), rk_run_ne(const rk_call *);
void rk_run_and(const rk_call *), rk_run_or(const rk_call *), rk_run_not(const rk_call *);
void rk_run_where(const rk_call *), rk_run_coalesce(const rk_call *), rk_run_is_missing(const rk_call *);
void rk_run_abs(const rk_call *), rk_run_floor(const rk_call *), rk_run_sqrt(const rk_call *);
void rk_run_exp(const rk_call *), rk_run_log(const rk_call *), rk_run_log1p(const rk_call *);
void rk_run_decay(const rk_call *), rk_run_haversine(const rk_call *);
void rk_run_list_min(const rk_call *), rk_run_list_max(const rk_call *), rk_run_list_mean(const rk_call *);
void rk_run_list_rank(const rk_call *), rk_run_list_zscore(const rk_call *);
void rk_run_span_missing(const rk_call *), rk_run_contains(const rk_call *), rk_run_overlap(const rk_call *);
void rk_run_jaccard(const rk_call *), rk_run_lookup(const rk_call *);
void rk_run_embedding_missing(const rk_call *), rk_run_dot(const rk_call *), rk_run_cosine(const rk_call *);
void rk_run_token_count(const rk_call *), rk_run_token_overlap(const rk_call *);
void rk_run_prefix_match(const rk_call *), rk_run_trigrams(const rk_call *), rk_run_edit_similarity(const rk_call *);
int rk_scratch_list_rank(const rk_call *, size_t *), rk_scratch_tokens(const rk_call *, size_t *);
int rk_scratch_trigrams(const rk_call *, size_t *);

/* Inputs and outputs of a run: codes as numbers; numbers as floats and doubles, NaNs in their one form. */
void rk_load_codes(const int32_t *codes, int64_t count, double *restrict out, int tier);
void rk_write_floats(const double *values, int64_t count, float *restrict out, int tier);
void rk_write_doubles(const double *values, int64_t count, double *restrict out, int tier);

/* NULL past the last code. */
const rk_op_info *rk_op_lookup(int32_t code);

/* A row of a text, set or map column; `length` -1: missing, and then `start` means nothing. */
typedef struct {
    int64_t start;
    int32_t length;
} rk_span;

static inline rk_span rk_span_at(const rk_operand *operand, int64_t i)
{
    int64_t row = i * operand->stride;
    return (rk_span){operand->column->offsets[row], operand->column->lengths[row]};
}

static inline const uint8_t *rk_span_text(const rk_operand *operand, rk_span span)
{
    return (const uint8_t *)operand->column->data + span.start;
}

/* The code in a numeric register; -1 if it is missing or no code. */
static inline int32_t rk_category_code(double value)
{
    return value >= 0 && value <= INT32_MAX ? (int32_t)value : -1;
}

#endif
