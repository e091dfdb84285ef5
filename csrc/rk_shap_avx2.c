/* AVX2: the walk with two vectors of 256 bits for 8 rows. */
#include "rk_shap_internal.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#define RK_SHAP_WALK rk_shap_walk_avx2
#define RK_SHAP_VECTOR_BYTES 32
#define RK_SHAP_WALK_ROWS 16
#include "rk_shap_walk.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
