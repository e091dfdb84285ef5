/* PLAIN: the walk in the vectors that every processor of the architecture has. */
#define RK_SHAP_WALK rk_shap_walk_plain
#define RK_SHAP_VECTOR_BYTES 16
#define RK_SHAP_WALK_ROWS 8
#include "rk_shap_walk.h"
