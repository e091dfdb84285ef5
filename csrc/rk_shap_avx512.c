/* AVX512: the walk with one vector for 8 rows. */
#include "rk_shap_internal.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq")
#endif
#define RK_SHAP_WALK rk_shap_walk_avx512
#define RK_SHAP_VECTOR_BYTES 64
#define RK_SHAP_WALK_ROWS 64
#include "rk_shap_walk.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
