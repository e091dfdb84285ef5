/* A program is constant: threads that run one at the same time get what one alone gets. For ThreadSanitizer. */
#include "../rk_program.h"

#include <pthread.h>
#include <string.h>

#include "minunit.h"

enum { THREADS = 4, RUNS = 50, LENGTH = 300 };

static rk_program *program;
static double numbers[LENGTH];
static int32_t codes[LENGTH];
static double expected[3 * LENGTH];

static rk_program_status run(double *out) {
    int32_t position;
    rk_column columns[2] = {{.data = numbers, .rows = LENGTH}, {.data = codes, .rows = LENGTH}};
    return rk_program_run(program, LENGTH, columns, 1, out, &position);
}

static void *work(void *wrong) {
    double out[3 * LENGTH];
    for (int i = 0; i < RUNS; i++) {
        *(int *)wrong += run(out) != RK_PROGRAM_OK || memcmp(out, expected, sizeof out) != 0;
    }
    return NULL;
}

static int32_t code_of(const char *name) {
    int32_t code = 0;
    while (strcmp(rk_op_name(code), name)) code++;
    return code;
}

int main(void) {
    static const rk_input inputs[] = {{RK_KIND_NUMBER, 1, 0}, {RK_KIND_CATEGORY, 1, 0}};
    const rk_op ops[] = {
        {code_of("load"), {0}, 0},      {code_of("load"), {1}, 0},       {code_of("constant"), {0}, 2},
        {code_of("mul"), {0, 2}, 0},    {code_of("list_rank"), {3}, 0},  {code_of("add"), {4, 1}, 0},
    };
    static const int32_t outputs[] = {5, 4, 2};
    const rk_program_spec spec = {inputs, ops, outputs, NULL, 2, 6, 3, 0};
    rk_program_status status;
    int32_t position;
    pthread_t threads[THREADS];
    int wrong[THREADS] = {0};
    for (int i = 0; i < LENGTH; i++) {
        numbers[i] = i * 7919 % 101;
        codes[i] = i % 5 - 1;
    }
    program = rk_program_new(&spec, &status, &position);
    CHECK(program != NULL);
    CHECK(run(expected) == RK_PROGRAM_OK);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, &wrong[i]) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0 && wrong[i] == 0);
    rk_program_free(program);
    FINISH();
}
