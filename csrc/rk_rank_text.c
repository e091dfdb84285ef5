/* Texts and categories of a request. types/text.py says what normal means; here it is done for ASCII. */
#include <stdlib.h>
#include <string.h>

#include "rk_rank_internal.h"

/* Codes of strings without one: from here on, as many again; above all that a dictionary gives. */
static const uint32_t UNKNOWN_CODES = UINT32_C(1) << 30;
static const uint64_t UNKNOWN_SEED[2] = {UINT64_C(0x72616e6b64), 0};

static const double MISSING_NUMBER = (double)__builtin_nanf("");
static const int32_t MISSING_CODE = -1, MISSING_LENGTH = -1;
static const int64_t NO_OFFSET = 0;

int rk_is_ascii(rk_text text)
{
    uint64_t bits = 0;
    size_t i = 0;
    for (; i + sizeof bits <= text.length; i += sizeof bits) {
        uint64_t word;
        memcpy(&word, text.bytes + i, sizeof word);
        bits |= word;
    }
    for (; i < text.length; i++) bits |= text.bytes[i];
    return !(bits & UINT64_C(0x8080808080808080));
}

static inline uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c; }

static inline int is_word(uint8_t c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

/* As Python's str.split has it. */
static inline int is_not_blank(uint8_t c) { return !(c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31)); }

/* Runs of the bytes that are kept, lower case, joined by single blanks. */
static rk_text runs_of(rk_text text, int (*is_kept)(uint8_t), rk_arena *arena)
{
    uint8_t *out = rk_arena_take(arena, text.length);
    size_t length = 0;
    int open = 0;
    if (!out) return (rk_text){NULL, 0};
    for (size_t i = 0; i < text.length; i++) {
        uint8_t c = lower(text.bytes[i]);
        int kept = is_kept(c);
        if (kept && !open && length) out[length++] = ' ';
        if (kept) out[length++] = c;
        open = kept;
    }
    return (rk_text){out, length};
}

rk_text rk_words_of(rk_text text, rk_arena *arena) { return runs_of(text, is_word, arena); }

rk_text rk_query_key_of(rk_text text, rk_arena *arena) { return runs_of(text, is_not_blank, arena); }

int32_t rk_code_of(const rk_table *dictionary, rk_text text)
{
    int64_t code = rk_table_code(dictionary, text);
    if (code >= 0) return (int32_t)code;
    return (int32_t)(UNKNOWN_CODES + rk_siphash13(text.bytes, text.length, UNKNOWN_SEED) % UNKNOWN_CODES);
}

int rk_one_number(rk_column *column, double value, rk_arena *arena)
{
    double *data = rk_arena_take(arena, sizeof *data);
    if (!data) return -1;
    *data = value;
    *column = (rk_column){.data = data, .rows = 1};
    return 0;
}

int rk_one_category(rk_column *column, const rk_table *dictionary, rk_text text, rk_arena *arena)
{
    int32_t *code = rk_arena_take(arena, sizeof *code);
    if (!code) return -1;
    *code = text.length ? rk_code_of(dictionary, text) : MISSING_CODE;
    *column = (rk_column){.data = code, .rows = 1};
    return 0;
}

int rk_one_text(rk_column *column, rk_text normal, rk_arena *arena)
{
    int32_t *length = rk_arena_take(arena, sizeof *length);
    if (!length) return -1;
    *length = (int32_t)normal.length;
    *column = (rk_column){.data = normal.bytes, .offsets = &NO_OFFSET, .lengths = length, .rows = 1,
                          .data_length = (int64_t)normal.length};
    return 0;
}

static int by_code(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

int rk_one_set(rk_column *column, const rk_table *dictionary, const rk_text *texts, size_t count, rk_arena *arena)
{
    int32_t *codes = rk_arena_array(arena, count, sizeof *codes), *length = rk_arena_take(arena, sizeof *length);
    size_t kept = 0;
    if (!codes || !length) return -1;
    for (size_t i = 0; i < count; i++) codes[i] = rk_code_of(dictionary, texts[i]);
    if (count) qsort(codes, count, sizeof *codes, by_code);
    for (size_t i = 0; i < count; i++) {
        if (!kept || codes[i] != codes[kept - 1]) codes[kept++] = codes[i];
    }
    *length = (int32_t)kept;
    *column = (rk_column){.data = codes, .offsets = &NO_OFFSET, .lengths = length, .rows = 1,
                          .data_length = (int64_t)kept};
    return 0;
}

int rk_one_missing(rk_column *column, const rk_binding *input, rk_arena *arena)
{
    *column = (rk_column){.data = &MISSING_NUMBER, .rows = 1};
    if (input->kind == RK_KIND_NUMBER) return 0;
    if (input->kind == RK_KIND_CATEGORY) {
        column->data = &MISSING_CODE;
    } else if (input->kind == RK_KIND_EMBEDDING) {
        float *vector = rk_arena_array(arena, (size_t)input->dimension, sizeof *vector);
        if (!vector) return -1;
        for (int32_t i = 0; i < input->dimension; i++) vector[i] = __builtin_nanf("");
        column->data = vector;
    } else {
        column->values = (const float *)&MISSING_NUMBER;
        column->offsets = &NO_OFFSET;
        column->lengths = &MISSING_LENGTH;
    }
    return 0;
}
