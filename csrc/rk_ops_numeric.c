/* Numeric operations, one tight loop each, over blocks in which every argument is an array.
 * Oracle: tests/features/oracle.py. NaN in gives NaN out unless an operation says otherwise. */
#include "rk_ops.h"

typedef void (*block_fn)(const double *const *arg, double *restrict out, int64_t count);

/* Feeds `block` arrays: an argument of stride 0 is spread over a block-sized buffer once. */
static void run_blocks(const rk_call *call, int arity, block_fn block)
{
    const double *arg[RK_PROGRAM_ARITY] = {0};
    for (int k = 0; k < arity; k++) {
        arg[k] = call->arg[k].values;
        if (call->arg[k].stride == 0 && call->count > 1) {
            double value = arg[k][0];
            int64_t filled = call->count < RK_BLOCK ? call->count : RK_BLOCK;
            for (int64_t i = 0; i < filled; i++)
                call->broadcast[k][i] = value;
            arg[k] = call->broadcast[k];
        }
    }
    for (int64_t start = 0; start < call->count; start += RK_BLOCK) {
        int64_t left = call->count - start;
        block(arg, call->out + start, left < RK_BLOCK ? left : RK_BLOCK);
        for (int k = 0; k < arity; k++)
            arg[k] += call->arg[k].stride ? RK_BLOCK : 0;
    }
}

#define UNARY(name, expression)                                                                \
    static void name##_block(const double *const *arg, double *restrict out, int64_t count)    \
    {                                                                                          \
        const double *xs = arg[0];                                                             \
        for (int64_t i = 0; i < count; i++) {                                                  \
            double x = xs[i];                                                                  \
            out[i] = (expression);                                                             \
        }                                                                                      \
    }                                                                                          \
    void rk_run_##name(const rk_call *call) { run_blocks(call, 1, name##_block); }

#define BINARY(name, expression)                                                               \
    static void name##_block(const double *const *arg, double *restrict out, int64_t count)    \
    {                                                                                          \
        const double *xs = arg[0], *ys = arg[1];                                               \
        for (int64_t i = 0; i < count; i++) {                                                  \
            double x = xs[i], y = ys[i];                                                       \
            out[i] = (expression);                                                             \
        }                                                                                      \
    }                                                                                          \
    void rk_run_##name(const rk_call *call) { run_blocks(call, 2, name##_block); }

#define EITHER_MISSING(x, y) __builtin_isunordered(x, y)

UNARY(round32, (double)(float)x)
UNARY(neg, -x)
UNARY(abs, fabs(x))
UNARY(floor, floor(x))
UNARY(sqrt, sqrt(x))
UNARY(exp, exp(x))
UNARY(log, log(x))
UNARY(log1p, log1p(x))
BINARY(add, x + y)
BINARY(sub, x - y)
BINARY(mul, x * y)
BINARY(div, x / y)

/* Of equal arguments (0 and -0) the first, as Python's min and max. */
BINARY(min, EITHER_MISSING(x, y) ? NAN : y < x ? y : x)
BINARY(max, EITHER_MISSING(x, y) ? NAN : y > x ? y : x)

BINARY(lt, EITHER_MISSING(x, y) ? NAN : x < y ? 1.0 : 0.0)
BINARY(le, EITHER_MISSING(x, y) ? NAN : x <= y ? 1.0 : 0.0)
BINARY(eq, EITHER_MISSING(x, y) ? NAN : x == y ? 1.0 : 0.0)
BINARY(ne, EITHER_MISSING(x, y) ? NAN : x != y ? 1.0 : 0.0)

/* Kleene's logic: a false side decides `and`, a true one `or`, whatever the other is. True is any number but 0. */
BINARY(and, ((x == 0) | (y == 0)) ? 0.0 : EITHER_MISSING(x, y) ? NAN : 1.0)
BINARY(or, (((x < 0) | (x > 0)) | ((y < 0) | (y > 0))) ? 1.0 : EITHER_MISSING(x, y) ? NAN : 0.0)
UNARY(not, x != x ? NAN : x == 0 ? 1.0 : 0.0)

/* Missing only where the first is; the others then count as they are. */
BINARY(coalesce, x != x ? y : x)
UNARY(is_missing, x != x ? 1.0 : 0.0)

/* C says pow(NaN, 0) and pow(1, NaN) are 1; here missing stays missing. Squares are rounded once. */
BINARY(pow, EITHER_MISSING(x, y) ? NAN : y == 2 ? x * x : pow(x, y))

/* The quotient rounded down and the remainder with the divisor's sign, as numpy.floor_divide and numpy.remainder. */
static inline double floor_remainder(double x, double y)
{
    double rest = fmod(x, y);
    if (y == 0)
        return rest;
    if (rest == 0)
        return copysign(0.0, y);
    return (y < 0) != (rest < 0) ? rest + y : rest;
}

static inline double floor_quotient(double x, double y)
{
    if (y == 0)
        return x / y;
    double rest = fmod(x, y);
    double quotient = (x - rest) / y;
    if (rest != 0 && (y < 0) != (rest < 0))
        quotient -= 1.0;
    if (quotient == 0)
        return copysign(0.0, x / y);
    double whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1.0 : whole;
}

BINARY(mod, floor_remainder(x, y))
BINARY(floordiv, floor_quotient(x, y))

/* x: an age, y: a half-life in the same unit. The future counts as now. */
BINARY(decay, exp2(-(x < 0 ? 0.0 : x) / y))

static void where_block(const double *const *arg, double *restrict out, int64_t count)
{
    const double *conditions = arg[0], *xs = arg[1], *ys = arg[2];
    for (int64_t i = 0; i < count; i++) {
        double condition = conditions[i], x = xs[i], y = ys[i];
        double chosen = condition == 0 ? y : x;
        out[i] = condition != condition ? NAN : chosen;
    }
}

void rk_run_where(const rk_call *call) { run_blocks(call, 3, where_block); }

/* Degrees in, kilometres out, on a sphere of the Earth's mean radius (IUGG R1).
 * R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984). */
static void haversine_block(const double *const *arg, double *restrict out, int64_t count)
{
    const double radius_km = 6371.0088, radians = 3.14159265358979323846 / 180.0;
    const double *lat1 = arg[0], *lon1 = arg[1], *lat2 = arg[2], *lon2 = arg[3];
    for (int64_t i = 0; i < count; i++) {
        double sin_lat = sin((lat2[i] - lat1[i]) * radians / 2);
        double sin_lon = sin((lon2[i] - lon1[i]) * radians / 2);
        double h = sin_lat * sin_lat + cos(lat1[i] * radians) * cos(lat2[i] * radians) * (sin_lon * sin_lon);
        out[i] = 2 * radius_km * asin(sqrt(h > 1 ? 1 : h));
    }
}

void rk_run_haversine(const rk_call *call) { run_blocks(call, 4, haversine_block); }
