/* As little as a C test needs: CHECK counts and reports, FINISH gives main's status. */
#ifndef MINUNIT_H
#define MINUNIT_H

#include <stdio.h>

static int mu_checks;
static int mu_failures;

#define CHECK(condition)                                                              \
    do {                                                                              \
        mu_checks++;                                                                  \
        if (!(condition)) {                                                           \
            mu_failures++;                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                             \
    } while (0)

/* No checks at all is a failure too: such a test cannot fail. */
#define FINISH()                                                              \
    do {                                                                      \
        printf("%d checks, %d failures\n", mu_checks, mu_failures);           \
        return mu_failures != 0 || mu_checks == 0;                            \
    } while (0)

#endif
