/* What a driver of tools/instruction_counts.py needs: a table of cases and COUNT_MAIN.
 *
 * Without an argument the program prints the names of its cases; with one it prepares that case and runs it
 * `repeats` times inside rk_counted, the only function whose instructions (and those it calls) are counted. */
#ifndef COUNTS_H
#define COUNTS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;      /* letters, digits and _ */
    void (*prepare)(void); /* not counted; may be NULL */
    void (*run)(void);
    int repeats;           /* what is counted is divided by it */
} count_case;

__attribute__((noinline)) void rk_counted(const count_case *counted) {
    for (int i = 0; i < counted->repeats; i++) counted->run();
    __asm__ volatile("" ::: "memory"); /* nothing is left for the caller, no tail call */
}

/* The same numbers on every machine. */
static inline uint64_t count_random(void) {
    static uint64_t state = 42;
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Uniform in [0, 1). */
static inline double count_uniform(void) { return (double)(count_random() >> 11) * 0x1p-53; }

#define COUNT_MAIN(cases)                                                       \
    int main(int count, char **arguments) {                                     \
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {           \
            if (count < 2) printf("%s %d\n", cases[i].name, cases[i].repeats);  \
            if (count < 2 || strcmp(arguments[1], cases[i].name)) continue;     \
            if (cases[i].prepare) cases[i].prepare();                           \
            rk_counted(&cases[i]);                                              \
            return 0;                                                           \
        }                                                                       \
        return count < 2 ? 0 : 1;                                               \
    }

#endif
