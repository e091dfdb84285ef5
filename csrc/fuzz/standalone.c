/* Runs a fuzz target where libFuzzer is not installed: random inputs and mutations of earlier ones, the same
 * on every machine. Takes libFuzzer's -max_total_time=SECONDS, -runs=N, -seed=N, -max_len=BYTES and
 * -exact_artifact_path=FILE (where the input that killed the program is left); other arguments are files to run. */
#define _POSIX_C_SOURCE 200809L

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ASan's runtime calls it before it ends the program; without that runtime there is none. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

enum { POOL = 256, MOST_BYTES = 1 << 20 };

static uint8_t *pool[POOL];
static size_t pool_sizes[POOL];
static const uint8_t *current;
static size_t current_size;
static const char *artifact = "crash-input";
static uint64_t state;

/* splitmix64: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators" (2014). */
static uint64_t next_random(void) {
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static size_t below(size_t bound) { return bound ? (size_t)(next_random() % bound) : 0; }

static void keep_culprit(void) {
    FILE *file = current ? fopen(artifact, "wb") : NULL;
    if (!file) return;
    if (current_size) fwrite(current, 1, current_size, file);
    fclose(file);
    current = NULL;
}

static void on_signal(int number) {
    keep_culprit();
    signal(number, SIG_DFL);
    raise(number);
}

/* A copy of exactly its size, so that ASan sees a byte read beyond. */
static void run_one(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) abort();
    memcpy(copy, data, size);
    current = copy;
    current_size = size;
    LLVMFuzzerTestOneInput(copy, size);
    current = NULL;
    free(copy);
}

/* Few inputs are long: sizes are spread over their logarithm. */
static size_t random_size(size_t most) {
    size_t bits = 0;
    while (most >> bits) bits++;
    size_t size = below((size_t)1 << below(bits + 1));
    return size > most ? most : size;
}

static void mutate_once(uint8_t *bytes, size_t *size, size_t most) {
    static const uint64_t special[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7f800000, 0x7fc00000, 0x80000000,
                                       0xffffffff, UINT64_C(0x7ff0000000000000), UINT64_C(0x7ff8000000000000),
                                       UINT64_C(0x8000000000000000), UINT64_MAX};
    size_t at = below(*size), length = 1 + below(16);
    switch (below(7)) {
    case 0:
        if (*size) bytes[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        if (*size) bytes[at] = (uint8_t)next_random();
        break;
    case 2: { /* a number at the edge of its type */
        uint64_t value = special[below(sizeof special / sizeof special[0])];
        length = (size_t)1 << below(4);
        if (*size >= length) memcpy(bytes + below(*size - length + 1), &value, length);
        break;
    }
    case 3: /* leave out */
        if (length > *size - at) length = *size - at;
        memmove(bytes + at, bytes + at + length, *size - at - length);
        *size -= length;
        break;
    case 4: /* put in */
        if (length > most - *size) length = most - *size;
        memmove(bytes + at + length, bytes + at, *size - at);
        for (size_t i = 0; i < length; i++) bytes[at + i] = (uint8_t)next_random();
        *size += length;
        break;
    case 5: { /* repeat a piece elsewhere */
        size_t to = below(*size);
        if (length > *size - (at > to ? at : to)) length = *size - (at > to ? at : to);
        memmove(bytes + to, bytes + at, length);
        break;
    }
    default: { /* the tail of another */
        size_t other = below(POOL);
        if (pool_sizes[other] <= at) break;
        size_t tail = pool_sizes[other] - at;
        memcpy(bytes + at, pool[other] + at, tail);
        *size = at + tail;
    }
    }
}

static void one_round(uint8_t *bytes, size_t most) {
    size_t place = below(POOL), size;
    if (!pool[place] || below(4) == 0) {
        size = random_size(most);
        uint64_t mask = below(3) ? UINT64_MAX : UINT64_C(0x0101010101010101) * below(16);
        for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(next_random() & (mask & 0xff));
    } else {
        size = pool_sizes[place];
        memcpy(bytes, pool[place], size);
        for (size_t steps = 1 + below(8); steps > 0; steps--) mutate_once(bytes, &size, most);
    }
    run_one(bytes, size);
    uint8_t *kept = realloc(pool[place], size ? size : 1);
    if (!kept) abort();
    memcpy(kept, bytes, size);
    pool[place] = kept;
    pool_sizes[place] = size;
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int run_file(const char *path, uint8_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "cannot read %s\n", path);
        return 1;
    }
    run_one(bytes, fread(bytes, 1, MOST_BYTES, file));
    fclose(file);
    return 0;
}

int main(int count, char **arguments) {
    double seconds = 0;
    unsigned long long runs = 0, done = 0;
    size_t most = 4096;
    int files = 0, failed = 0;
    uint8_t *bytes = malloc(MOST_BYTES);
    if (!bytes) return 1;
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(keep_culprit);
    signal(SIGABRT, on_signal);
    for (int i = 1; i < count; i++) {
        const char *argument = arguments[i];
        if (!strncmp(argument, "-max_total_time=", 16)) seconds = strtod(argument + 16, NULL);
        else if (!strncmp(argument, "-runs=", 6)) runs = strtoull(argument + 6, NULL, 10);
        else if (!strncmp(argument, "-seed=", 6)) state = strtoull(argument + 6, NULL, 10);
        else if (!strncmp(argument, "-max_len=", 9)) most = strtoull(argument + 9, NULL, 10);
        else if (!strncmp(argument, "-exact_artifact_path=", 21)) artifact = argument + 21;
        else if (argument[0] != '-') files++, failed |= run_file(argument, bytes);
    }
    if (most > MOST_BYTES) most = MOST_BYTES;
    if (seconds <= 0 && !runs) runs = 10000;
    double end = now_s() + seconds;
    run_one(bytes, 0);
    while (!files && (runs ? done < runs : done % 16 || now_s() < end)) one_round(bytes, most), done++;
    for (int i = 0; i < POOL; i++) free(pool[i]);
    free(bytes);
    printf("stat::number_of_executed_units: %llu\n", done + 1);
    return failed;
}
