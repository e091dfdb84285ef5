/* rk_bits_kernel.h for blocks of 128 rows: score_128 and so on. X86_BOUND_128(lo, hi, met) is the tier's V_BOUND. */
#define NAME(x) x##_128
#define ROWS ((size_t)128)
#define VECTOR __m128i
#define V_LOAD(p) _mm_load_si128((const __m128i *)(p))
#define V_STORE(p, v) _mm_store_si128((__m128i *)(p), v)
#define V_ZERO _mm_setzero_si128()
#define V_ONES _mm_set1_epi32(-1)
#define V_AND(a, b) _mm_and_si128(a, b)
#define V_ANDNOT(a, b) _mm_andnot_si128(b, a)
#define V_OR(a, b) _mm_or_si128(a, b)
#define V_XOR(a, b) _mm_xor_si128(a, b)
#define V_BOUND(lo, hi, met) X86_BOUND_128(lo, hi, met)
#define V_PREFETCH(p) (void)(p)
#include "rk_bits_kernel.h"
