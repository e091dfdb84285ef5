/* rk_bits_kernel.h for blocks of 64 rows in a word of plain C: score_64 and so on. */
#define NAME(x) x##_64
#define ROWS ((size_t)64)
#define VECTOR uint64_t
#define V_LOAD(p) (*(const uint64_t *)(p))
#define V_STORE(p, v) (*(uint64_t *)(p) = (v))
#define V_ZERO ((uint64_t)0)
#define V_ONES (~(uint64_t)0)
#define V_AND(a, b) ((a) & (b))
#define V_ANDNOT(a, b) ((a) & ~(b))
#define V_OR(a, b) ((a) | (b))
#define V_XOR(a, b) ((a) ^ (b))
#define V_BOUND(lo, hi, met) ((lo) & ((hi) | ~(met)))
#define V_PREFETCH(p) (void)(p)
#include "rk_bits_kernel.h"
