/* Embeddings: products of float32 summed in double, in eight lanes whose order is fixed,
 * so that the compiler may use vectors and every machine gets the same bits. */
#include "rk_ops.h"

enum { LANES = 8 };

static const float *row_of(const rk_operand *operand, int64_t i)
{
    return (const float *)operand->column->data + i * operand->stride * operand->dimension;
}

static double dot(const float *a, const float *b, int32_t dimension)
{
    double sums[LANES] = {0};
    int32_t i = 0;
    for (; i + LANES <= dimension; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            sums[lane] += (double)a[i + lane] * (double)b[i + lane];
    for (int lane = 0; i + lane < dimension; lane++)
        sums[lane] += (double)a[i + lane] * (double)b[i + lane];
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

void rk_run_embedding_missing(const rk_call *call)
{
    for (int64_t i = 0; i < call->count; i++)
        call->out[i] = row_of(&call->arg[0], i)[0] != row_of(&call->arg[0], i)[0];
}

/* A missing embedding has NaN in it, so the sum is NaN. */
void rk_run_dot(const rk_call *call)
{
    const rk_operand *a = &call->arg[0], *b = &call->arg[1];
    for (int64_t i = 0; i < call->count; i++)
        call->out[i] = dot(row_of(a, i), row_of(b, i), a->dimension);
}

/* The product of squared norms stays within double for any float32. A zero vector has no direction: 0 / 0, missing. */
void rk_run_cosine(const rk_call *call)
{
    const rk_operand *a = &call->arg[0], *b = &call->arg[1];
    double a_square = 0, b_square = 0;
    for (int64_t i = 0; i < call->count; i++) {
        const float *x = row_of(a, i), *y = row_of(b, i);
        if (i == 0 || a->stride)
            a_square = dot(x, x, a->dimension);
        if (i == 0 || b->stride)
            b_square = dot(y, y, a->dimension);
        call->out[i] = dot(x, y, a->dimension) / sqrt(a_square * b_square);
    }
}
