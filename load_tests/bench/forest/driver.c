/* The clock of bench_forest.py: calls an engine's C function in a loop, so that no engine pays for Python.
 *
 * A call scores one block of rows. The blocks are different rows, taken in turn, so that no branch predictor
 * learns one row by heart. An engine is a step: how its function is called for block b. The types of the
 * engines' functions stand here as their headers state them; nothing of theirs is included.
 */
#define _POSIX_C_SOURCE 199309L
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

typedef struct {
    void *function;     /* of the engine's library */
    void *handle;       /* its model or session, where it has one */
    void *const *input; /* per block: rows or a description of them, in the engine's own form */
    double *out;        /* blocks * rows scores */
    size_t blocks;
    size_t rows; /* in a block */
    size_t features;
    void *extra[4]; /* the step's own */
} bench_call;

typedef int (*bench_step)(const bench_call *call, size_t block);

/* lleaves' root function: row-major doubles. */
static int step_lleaves(const bench_call *call, size_t block) {
    void (*score)(const double *, double *, int, int) = (void (*)(const double *, double *, int, int))call->function;
    score(call->input[block], call->out + block * call->rows, 0, (int)call->rows);
    return 0;
}

/* LGBM_BoosterPredictForMatSingleRowFast, row by row; the handle is the FastConfigHandle. */
static int step_lightgbm_row(const bench_call *call, size_t block) {
    int (*score)(void *, const void *, int64_t *, double *) =
        (int (*)(void *, const void *, int64_t *, double *))call->function;
    const float *row = call->input[block];
    double *out = call->out + block * call->rows;
    int64_t length;
    for (size_t r = 0; r < call->rows; r++, row += call->features) {
        int status = score(call->handle, row, &length, out + r);
        if (status) {
            return status;
        }
    }
    return 0;
}

/* LGBM_BoosterPredictForMat: float32, row-major, raw scores of all trees, one thread. */
static int step_lightgbm(const bench_call *call, size_t block) {
    typedef int (*predict)(void *, const void *, int, int32_t, int32_t, int, int, int, int, const char *, int64_t *,
                           double *);
    int64_t length;
    return ((predict)call->function)(call->handle, call->input[block], 0, (int32_t)call->rows, (int32_t)call->features,
                                     1, 1, 0, -1, "num_threads=1", &length, call->out + block * call->rows);
}

/* predict() of TL2cgen's generated code, with thresholds and leaves in double. It takes one row of entries and
 * overwrites them, so filling them belongs to a call; TL2cgen's own runtime does the same. */
typedef union {
    int missing;
    double value;
} tl2cgen_entry;

static int step_tl2cgen(const bench_call *call, size_t block) {
    void (*predict)(tl2cgen_entry *, int, double *) = (void (*)(tl2cgen_entry *, int, double *))call->function;
    tl2cgen_entry *entries = call->extra[0];
    const float *row = call->input[block];
    double *out = call->out + block * call->rows;
    for (size_t r = 0; r < call->rows; r++, row += call->features) {
        for (size_t f = 0; f < call->features; f++) {
            if (row[f] == row[f]) {
                entries[f].value = row[f];
            } else {
                entries[f].missing = -1;
            }
        }
        out[r] = 0.0;
        predict(entries, 1, out + r);
    }
    return 0;
}

/* XGBoosterPredictFromDense: the input is an array interface in JSON, extra[0] the configuration. */
static int step_xgboost(const bench_call *call, size_t block) {
    typedef int (*predict)(void *, const char *, const char *, void *, const uint64_t **, uint64_t *, const float **);
    const uint64_t *shape;
    uint64_t dimensions;
    const float *scores;
    int status = ((predict)call->function)(call->handle, call->input[block], call->extra[0], NULL, &shape, &dimensions,
                                           &scores);
    for (size_t r = 0; r < call->rows && !status; r++) {
        call->out[block * call->rows + r] = (double)scores[r];
    }
    return status;
}

/* OrtApi.Run: input and output are tensors over memory of the caller's; extra: names in, names out, tensors out,
 * their memory. */
static int step_onnxruntime(const bench_call *call, size_t block) {
    typedef void *(*run)(void *, const void *, const char *const *, void *const *, size_t, const char *const *, size_t,
                         void **);
    void **tensors = call->extra[2];
    const float *scores = (const float *)call->extra[3] + block * call->rows;
    if (((run)call->function)(call->handle, NULL, call->extra[0], &call->input[block], 1, call->extra[1], 1,
                              &tensors[block])) {
        return -1;
    }
    for (size_t r = 0; r < call->rows; r++) {
        call->out[block * call->rows + r] = (double)scores[r];
    }
    return 0;
}

/* rk_forest_score; extra[0] is the tier, extra[1] and extra[2] are the strides of features and of rows. */
static int step_rankd(const bench_call *call, size_t block) {
    typedef int (*score)(const void *, int, const float *, size_t, ptrdiff_t, ptrdiff_t, double *);
    return ((score)call->function)(call->handle, (int)(intptr_t)call->extra[0], call->input[block], call->rows,
                                   (ptrdiff_t)(intptr_t)call->extra[1], (ptrdiff_t)(intptr_t)call->extra[2],
                                   call->out + block * call->rows);
}

/* In the order of Step in clock.py. */
static const bench_step STEPS[] = {step_lleaves, step_lightgbm_row, step_lightgbm, step_tl2cgen,
                                   step_xgboost, step_onnxruntime,  step_rankd};

/* Scores `calls` blocks from block `first` on, around; *seconds is the CPU time of all threads of the process that it
 * took: other processes do not add to it, threads that a library starts do. 0, or the step's error. */
int bench_run(int step, const bench_call *call, size_t first, size_t calls, double *seconds) {
    struct timespec begin, end;
    bench_step run = STEPS[step];
    size_t block = first % call->blocks;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    for (size_t i = 0; i < calls; i++) {
        int status = run(call, block);
        if (status) {
            return status;
        }
        block = block + 1 == call->blocks ? 0 : block + 1;
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    *seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    return 0;
}
