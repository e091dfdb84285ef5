/* Vectors in fewer bytes (IEEE 754-2019, binary16), as plain arithmetic that a compiler makes vector instructions of. */
#include "rk_table_internal.h"

static inline uint32_t bits_of(float number)
{
    uint32_t bits;
    memcpy(&bits, &number, 4);
    return bits;
}

static inline float float_of(uint32_t bits)
{
    float number;
    memcpy(&number, &bits, 4);
    return number;
}

/* Below 2^-14 the addition of 0.5 rounds to multiples of 2^-24, halves' smallest; above, to 10 bits by hand. */
static inline uint16_t to_half(float number)
{
    uint32_t bits = bits_of(number), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    uint32_t normal = (size + 0xfff + (size >> 13 & 1) - (UINT32_C(112) << 23)) >> 13;
    uint32_t small = bits_of(float_of(size < 0x38800000 ? size : 0) + 0.5f) - 0x3f000000;
    uint32_t half = size < 0x38800000 ? small : normal;
    half = size >= 0x477ff000 ? 0x7c00 : half; /* 65520 */
    half = size > 0x7f800000 ? 0x7e00 : half;
    return (uint16_t)(sign | half);
}

/* Read as a float with the exponent of a half, 2^-112 too small; the multiplication is exact. */
static inline float from_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, size = (uint32_t)(half & 0x7fff) << 13;
    uint32_t bits = bits_of(float_of(size) * 0x1p112f);
    uint32_t none = 0u - (uint32_t)((int32_t)size >= 0x0f800000); /* infinite, NaN: all ones */
    return float_of(sign | bits | (none & (size | 0x7f800000)));
}

/* To the nearest whole number, ties to even: above 2^23 floats have no other. */
static inline float nearest(float number) { return (number + 0x1.8p23f) - 0x1.8p23f; }

static void put_bytes(const float *from, size_t width, uint8_t *to)
{
    float most = 0, scale;
    for (size_t i = 0; i < width; i++) {
        float size = float_of(bits_of(from[i]) & 0x7fffffff);
        most = size > most ? size : most;
    }
    scale = from[0] == from[0] ? float_of(bits_of(most / 127) & 0xffffff80) : NAN;
    memcpy(to, &scale, 4);
    for (size_t i = 0; i < width; i++) {
        float number = from[i] / (scale > 0 ? scale : 1);
        number = number > -127 ? number : -127; /* NaN, too */
        number = number < 127 ? number : 127;
        to[4 + i] = (uint8_t)(int8_t)nearest(scale > 0 ? number : 0);
    }
}

void rk_vector_put(const rk_cell *cell, const float *from, uint8_t *to)
{
    size_t width = (size_t)cell->width;
    if (cell->element == RK_ELEMENT_I8) {
        put_bytes(from, width, to);
    } else if (cell->element == RK_ELEMENT_F16) {
        for (size_t i = 0; i < width; i++) {
            uint16_t half = to_half(from[i]);
            memcpy(to + 2 * i, &half, 2);
        }
    } else {
        memcpy(to, from, 4 * width);
    }
}

void rk_vector_get(const rk_cell *cell, const uint8_t *from, float *to)
{
    size_t width = (size_t)cell->width;
    if (cell->element == RK_ELEMENT_I8) {
        float scale;
        memcpy(&scale, from, 4);
        for (size_t i = 0; i < width; i++) to[i] = scale * (float)(int8_t)from[4 + i];
    } else if (cell->element == RK_ELEMENT_F16) {
        for (size_t i = 0; i < width; i++) {
            uint16_t half;
            memcpy(&half, from + 2 * i, 2);
            to[i] = from_half(half);
        }
    } else {
        memcpy(to, from, 4 * width);
    }
}
