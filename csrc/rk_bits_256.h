/* rk_bits_kernel.h for blocks of 256 rows: score_256 and so on. X86_BOUND_256(lo, hi, met) is the tier's V_BOUND. */
#define NAME(x) x##_256
#define ROWS ((size_t)256)
#define VECTOR __m256i
#define V_LOAD(p) _mm256_load_si256((const __m256i *)(p))
#define V_STORE(p, v) _mm256_store_si256((__m256i *)(p), v)
#define V_ZERO _mm256_setzero_si256()
#define V_ONES _mm256_set1_epi32(-1)
#define V_AND(a, b) _mm256_and_si256(a, b)
#define V_ANDNOT(a, b) _mm256_andnot_si256(b, a)
#define V_OR(a, b) _mm256_or_si256(a, b)
#define V_XOR(a, b) _mm256_xor_si256(a, b)
#define V_BOUND(lo, hi, met) X86_BOUND_256(lo, hi, met)
#define V_PREFETCH(p) (void)(p)
#include "rk_bits_kernel.h"
