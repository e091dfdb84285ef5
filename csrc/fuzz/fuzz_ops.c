/* An operation on numbers or embeddings gives the same bits in the widest tier as in plain C. A header chooses it and
 * which arguments are the request's; the rest is values. */
#include <stdlib.h>
#include <string.h>

#include "../rk_ops.h"

enum { HEADER = 3, MOST = 600 };

static double broadcast[RK_PROGRAM_ARITY][RK_BLOCK];

static void compare(const rk_op_info *info, rk_call call) {
    double plain[MOST], wide[MOST];
    call.tier = RK_OPS_PLAIN;
    call.out = plain;
    info->run(&call);
    call.tier = rk_ops_widest();
    call.out = wide;
    info->run(&call);
    for (int64_t i = 0; i < call.count; i++) {
        if ((plain[i] == plain[i] || wide[i] == wide[i]) && memcmp(&plain[i], &wide[i], sizeof plain[i])) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rk_column columns[RK_PROGRAM_ARITY] = {{0}};
    if (size < HEADER) return 0;
    const rk_op_info *info = rk_op_lookup(data[0] % RK_OP_COUNT);
    int usable = info->run && !info->scratch && info->shape == RK_SHAPE_EACH && info->arity;
    for (int k = 0; k < info->arity; k++) {
        usable &= info->kinds[k] == RK_KIND_NUMBER || info->kinds[k] == RK_KIND_EMBEDDING;
    }
    if (!usable) return 0;
    int is_embedding = info->kinds[0] == RK_KIND_EMBEDDING;
    size_t dimension = is_embedding ? data[2] % 40 + 1u : 1;
    size_t element = is_embedding ? sizeof(float) * dimension : sizeof(double);
    size_t count = (size - HEADER) / element / (size_t)info->arity;
    if (count > MOST) count = MOST;
    if (!count) return 0;
    rk_call call = {.count = (int64_t)count, .length = (int64_t)count, .broadcast = broadcast};
    for (int k = 0; k < info->arity; k++) {
        void *values = malloc(count * element);
        if (!values) abort();
        memcpy(values, data + HEADER + (size_t)k * count * element, count * element);
        columns[k] = (rk_column){.data = values, .rows = (int64_t)count};
        call.arg[k] = (rk_operand){.values = is_embedding ? NULL : values, .column = &columns[k],
                                   .stride = !(data[1] >> k & 1), .dimension = (int32_t)dimension};
    }
    compare(info, call);
    for (int k = 0; k < info->arity; k++) free((void *)columns[k].data);
    return 0;
}
