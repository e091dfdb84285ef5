/* Into and out of a program's registers. NaNs go out in their one canonical form. */
#include "rk_ops.h"

#define TIERS(name, from_type, to_type)                                                                      \
    static void name##_plain(const from_type *from, int64_t count, to_type *restrict out)                    \
    {                                                                                                        \
        name##_loop(from, count, out);                                                                       \
    }                                                                                                        \
    RK_OPS_AVX2_FUNCTION(static void name##_avx2(const from_type *from, int64_t count, to_type *restrict out) \
    {                                                                                                        \
        name##_loop(from, count, out);                                                                       \
    })                                                                                                       \
    void rk_##name(const from_type *from, int64_t count, to_type *restrict out, int tier)                    \
    {                                                                                                        \
        if (tier == RK_OPS_AVX2)                                                                             \
            RK_OPS_AVX2_OR(name##_avx2, name##_plain)(from, count, out);                                     \
        else                                                                                                 \
            name##_plain(from, count, out);                                                                  \
    }

#define LOOP(name, from_type, to_type)                \
    static inline __attribute__((always_inline)) void \
    name##_loop(const from_type *from, int64_t count, to_type *restrict out)

LOOP(load_codes, int32_t, double)
{
    for (int64_t i = 0; i < count; i++) {
        double code = (double)from[i];
        out[i] = code < 0 ? NAN : code;
    }
}

/* Rounded first: comparing what comes out keeps the loop to vectors of one width. Only a NaN becomes one. */
LOOP(write_floats, double, float)
{
    for (int64_t i = 0; i < count; i++) {
        float x = (float)from[i];
        out[i] = x != x ? NAN : x;
    }
}

LOOP(write_doubles, double, double)
{
    for (int64_t i = 0; i < count; i++) {
        double x = from[i];
        out[i] = x != x ? NAN : x;
    }
}

TIERS(load_codes, int32_t, double)
TIERS(write_floats, double, float)
TIERS(write_doubles, double, double)
