/* Numeric operations, one tight loop each, over blocks in which every argument is an array.
 * Oracle: tests/support/feature_oracle.py. NaN in gives NaN out unless an operation says otherwise. */
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

/* A loop is compiled for each tier. Nothing but the width of its vectors differs: every operation of IEEE 754 here is
 * rounded by itself, so all tiers give the same bits. */
#define LOOP(name) static inline __attribute__((always_inline)) void name##_loop(ARGUMENTS)
#define ARGUMENTS const double *const *arg, double *restrict out, int64_t count

#define TIERS(name, arity)                                                                     \
    static void name##_plain(ARGUMENTS) { name##_loop(arg, out, count); }                      \
    RK_OPS_AVX2_FUNCTION(static void name##_avx2(ARGUMENTS) { name##_loop(arg, out, count); }) \
    void rk_run_##name(const rk_call *call)                                                    \
    {                                                                                          \
        static const block_fn tiers[] = {name##_plain, RK_OPS_AVX2_OR(name##_avx2, name##_plain)}; \
        run_blocks(call, arity, tiers[call->tier]);                                            \
    }

/* One loop for operations that call libm for each element: a tier would gain nothing. */
#define UNTIERED(name, arity)                                                                  \
    static void name##_plain(ARGUMENTS) { name##_loop(arg, out, count); }                      \
    void rk_run_##name(const rk_call *call) { run_blocks(call, arity, name##_plain); }

#define UNARY_LOOP(name, expression)                                                           \
    LOOP(name)                                                                                 \
    {                                                                                          \
        const double *xs = arg[0];                                                             \
        for (int64_t i = 0; i < count; i++) {                                                  \
            double x = xs[i];                                                                  \
            out[i] = (expression);                                                             \
        }                                                                                      \
    }

#define BINARY_LOOP(name, expression)                                                          \
    LOOP(name)                                                                                 \
    {                                                                                          \
        const double *xs = arg[0], *ys = arg[1];                                               \
        for (int64_t i = 0; i < count; i++) {                                                  \
            double x = xs[i], y = ys[i];                                                       \
            out[i] = (expression);                                                             \
        }                                                                                      \
    }

#define UNARY(name, expression) UNARY_LOOP(name, expression) TIERS(name, 1)
#define BINARY(name, expression) BINARY_LOOP(name, expression) TIERS(name, 2)
#define UNARY_LIBM(name, expression) UNARY_LOOP(name, expression) UNTIERED(name, 1)
#define BINARY_LIBM(name, expression) BINARY_LOOP(name, expression) UNTIERED(name, 2)

#define EITHER_MISSING(x, y) __builtin_isunordered(x, y)

UNARY(round32, (double)(float)x)
UNARY(neg, -x)
UNARY(abs, fabs(x))
UNARY(floor, floor(x))
UNARY(sqrt, sqrt(x))
UNARY_LIBM(exp, exp(x))
UNARY_LIBM(log, log(x))
UNARY_LIBM(log1p, log1p(x))
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
BINARY_LIBM(pow, EITHER_MISSING(x, y) ? NAN : y == 2 ? x * x : pow(x, y))

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

BINARY_LIBM(mod, floor_remainder(x, y))
BINARY_LIBM(floordiv, floor_quotient(x, y))

/* x: an age, y: a half-life in the same unit. The future counts as now. */
BINARY_LIBM(decay, exp2(-(x < 0 ? 0.0 : x) / y))

LOOP(where)
{
    const double *conditions = arg[0], *xs = arg[1], *ys = arg[2];
    for (int64_t i = 0; i < count; i++) {
        double condition = conditions[i], x = xs[i], y = ys[i];
        double chosen = condition == 0 ? y : x;
        out[i] = condition != condition ? NAN : chosen;
    }
}

TIERS(where, 3)

/* Degrees in, kilometres out, on a sphere of the Earth's mean radius (IUGG R1).
 * R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (1984). */
LOOP(haversine)
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

UNTIERED(haversine, 4)
