/* Aggregates over the candidates of one request. Missing values are left out of every aggregate;
 * where all are missing, or there are no candidates, the result is missing.
 * A request-level argument counts as that value held by every candidate. */
#include "rk_ops.h"

#include <string.h>

typedef struct {
    double low, high, mean; /* NaN if nothing is known */
    int64_t known;
} list_summary;

/* Sums run in candidate order. The mean of equal values is that value, exactly. */
static list_summary summarise(const rk_call *call)
{
    const double *values = call->arg[0].values;
    int64_t stride = call->arg[0].stride;
    list_summary s = {NAN, NAN, NAN, 0};
    double sum = 0;
    for (int64_t i = 0; i < call->length; i++) {
        double x = values[i * stride];
        if (x != x)
            continue;
        if (s.known == 0)
            s.low = s.high = x;
        s.low = x < s.low ? x : s.low;
        s.high = x > s.high ? x : s.high;
        s.known++;
        sum += x;
    }
    if (s.known)
        s.mean = s.low == s.high ? s.low : sum / (double)s.known;
    return s;
}

void rk_run_list_min(const rk_call *call) { call->out[0] = summarise(call).low; }
void rk_run_list_max(const rk_call *call) { call->out[0] = summarise(call).high; }
void rk_run_list_mean(const rk_call *call) { call->out[0] = summarise(call).mean; }

/* (x - mean) / population standard deviation; 0 where all known values are equal. */
void rk_run_list_zscore(const rk_call *call)
{
    const double *values = call->arg[0].values;
    int64_t stride = call->arg[0].stride;
    list_summary s = summarise(call);
    double squares = 0;
    for (int64_t i = 0; i < call->length; i++) {
        double d = values[i * stride] - s.mean;
        if (d == d)
            squares += d * d;
    }
    double deviation = sqrt(squares / (double)s.known);
    for (int64_t i = 0; i < call->count; i++) {
        double x = values[i * stride];
        if (s.low == s.high && x == x)
            call->out[i] = 0;
        else
            call->out[i] = (x - s.mean) / deviation;
    }
}

/* A double as an integer that sorts the other way round: the highest value has the least key. -0 equals 0. */
static uint64_t descending_key(double x)
{
    uint64_t bits;
    x += 0.0;
    memcpy(&bits, &x, sizeof bits);
    uint64_t ascending = bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
    return ~ascending;
}

typedef struct {
    uint64_t key;
    int64_t index;
} ranked;

int rk_scratch_list_rank(const rk_call *call, size_t *bytes)
{
    return __builtin_mul_overflow((size_t)call->length, 2 * sizeof(ranked), bytes) ? -1 : 0;
}

/* Least significant byte first; a byte that all keys share costs nothing (float32 values have three). */
static ranked *radix_sort(ranked *from, ranked *to, int64_t count)
{
    uint32_t counts[8][256];
    memset(counts, 0, sizeof counts);
    for (int64_t i = 0; i < count; i++)
        for (int byte = 0; byte < 8; byte++)
            counts[byte][from[i].key >> 8 * byte & 255]++;
    for (int byte = 0; byte < 8; byte++) {
        uint32_t *bucket = counts[byte];
        if (bucket[from[0].key >> 8 * byte & 255] == count)
            continue;
        for (uint32_t value = 0, start = 0; value < 256; value++) {
            uint32_t size = bucket[value];
            bucket[value] = start;
            start += size;
        }
        for (int64_t i = 0; i < count; i++)
            to[bucket[from[i].key >> 8 * byte & 255]++] = from[i];
        ranked *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

/* 1 + the number of candidates with a higher value: equal values share the better rank. Missing stays missing. */
void rk_run_list_rank(const rk_call *call)
{
    const double *values = call->arg[0].values;
    if (call->arg[0].stride == 0) {
        for (int64_t i = 0; i < call->count; i++)
            call->out[i] = values[0] == values[0] ? 1 : NAN;
        return;
    }
    ranked *entries = call->scratch;
    int64_t known = 0;
    for (int64_t i = 0; i < call->length; i++) {
        call->out[i] = NAN;
        if (values[i] == values[i])
            entries[known++] = (ranked){descending_key(values[i]), i};
    }
    if (known == 0)
        return;
    ranked *sorted = radix_sort(entries, entries + call->length, known);
    for (int64_t i = 0, rank = 1; i < known; i++) {
        if (i && sorted[i].key != sorted[i - 1].key)
            rank = i + 1;
        call->out[sorted[i].index] = (double)rank;
    }
}
