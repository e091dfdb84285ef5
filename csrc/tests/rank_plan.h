/* Plans over a small table, and requests for them, byte by byte: what tests and fuzzing of rk_rank share. Every source of
 * inputs and every kind is read by the plans "full", "linear", "wide" (two outputs), "queries" (ids are texts' keys) and
 * "yonder" (rows but the candidates' are to be brought); "plain" has neither model nor base scores of its own. */
#ifndef RANK_PLAN_H
#define RANK_PLAN_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../rk_ops.h"
#include "../rk_rank.h"
#include "../rk_wire.h"
#include "random_forest.h"

enum {
    PLAN_ROWS = 40, PLAN_CELLS = 8, PLAN_INPUTS = 28, PLAN_FEATURES = 22, PLAN_READS = 5, PLAN_RERANK = 8, PLAN_WIDTH = 3,
    PLAN_TERMS = 6, PLAN_CODES = 10, PLAN_CONTEXTS = 7, PLAN_COUNT = 6, PLAN_MOST_CANDIDATES = 300,
    PLAN_MOST_LISTS = 4, PLAN_MOST_TEXT = 48,
};

static inline rk_text text_of(const char *words) { return (rk_text){(const uint8_t *)words, strlen(words)}; }

/* ---- Tables. ---- */

static const char *const plan_terms[PLAN_TERMS] = {"acme", "red", "shoe", "search", "en", "vip"};

/* No names in the file system are left behind, whatever becomes of the test. */
static inline rk_table *plan_table(const rk_cell *cells, uint32_t cell_count)
{
    static const char *const ends[] = {"rows", "heap", "index.1", "index.2", "index.3"};
    const rk_table_options options = {.cells = cells, .cell_count = cell_count, .max_rows = 1000, .max_bytes = 1 << 22};
    char folder[] = "/tmp/rankd-rank-XXXXXX", path[64], name[80];
    rk_table *table;
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/t", folder);
    if (rk_table_create(path, &options, &table)) abort();
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        snprintf(name, sizeof name, "%s.%s", path, ends[i]);
        unlink(name);
    }
    rmdir(folder);
    return table;
}

static const rk_cell plan_cells[PLAN_CELLS] = {
    {RK_CELL_F32, 0, 0, 0}, {RK_CELL_I64, 0, 0, 0}, {RK_CELL_BOOL, 0, 0, 0}, {RK_CELL_CODE, 0, 0, 0},
    {RK_CELL_VECTOR, PLAN_WIDTH, 0, 0}, {RK_CELL_TEXT, 0, 0, 0}, {RK_CELL_SET, 0, 1, 0}, {RK_CELL_MAP, 0, 0, 0}};

/* Ids of candidates; of a query and a candidate; of the candidate's category, a session and the candidate. */
typedef enum { PLAN_ITEMS, PLAN_PAIRS, PLAN_TRIPLES, PLAN_IDS } plan_ids;

static inline size_t plan_id(plan_ids which, size_t i, char *out, size_t room)
{
    const char *term = plan_terms[i % PLAN_TERMS];
    if (which == PLAN_ITEMS) return (size_t)snprintf(out, room, "sku-%zu", i);
    if (which == PLAN_PAIRS) return (size_t)snprintf(out, room, "8:red shoe/sku-%zu", i);
    return (size_t)snprintf(out, room, "%zu:%s/3:s-1/sku-%zu", strlen(term), term, i);
}

/* The same values every time; the last rows have none but numbers. */
static inline void plan_fill(rk_table *table, plan_ids which)
{
    static const char title[] = "red shoe acme";
    char names[PLAN_ROWS][40];
    rk_id ids[PLAN_ROWS];
    int64_t rows[PLAN_ROWS], numbers[PLAN_ROWS], sizes[PLAN_ROWS], now_ms = 1000;
    float floats[PLAN_ROWS * PLAN_WIDTH];
    int8_t flags[PLAN_ROWS];
    int32_t codes[PLAN_ROWS];
    uint8_t titles[PLAN_ROWS * sizeof title];
    const size_t n = PLAN_ROWS, some = PLAN_ROWS - 8;
    size_t title_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        ids[i] = (rk_id){(uint8_t *)names[i], plan_id(which, i, names[i], sizeof names[i])};
        rows[i] = numbers[i] = (int64_t)i;
        flags[i] = i % 2;
        codes[i] = (int32_t)(i % PLAN_TERMS);
        for (size_t k = 0; k < PLAN_WIDTH; k++) floats[PLAN_WIDTH * i + k] = (float)(i % 7) - (float)k;
        sizes[i] = (int64_t)(i % sizeof title);
        memcpy(titles + title_bytes, title, (size_t)sizes[i]);
        title_bytes += i < some ? (size_t)sizes[i] : 0;
    }
    int64_t ones[PLAN_ROWS];
    for (size_t i = 0; i < n; i++) ones[i] = 1;
    const rk_table_write writes[PLAN_CELLS] = {
        {.cell = 0, .rows = rows, .count = n, .values = floats, .value_count = n},
        {.cell = 1, .rows = rows, .count = n, .values = numbers, .value_count = n},
        {.cell = 2, .rows = rows, .count = some, .values = flags, .value_count = some},
        {.cell = 3, .rows = rows, .count = some, .values = codes, .value_count = some},
        {.cell = 4, .rows = rows, .count = some, .values = floats, .value_count = some * PLAN_WIDTH},
        {.cell = 5, .rows = rows, .count = some, .values = titles, .value_count = title_bytes, .lengths = sizes},
        {.cell = 6, .rows = rows, .count = some, .values = codes, .value_count = some, .lengths = ones},
        {.cell = 7, .rows = rows, .count = some, .values = codes, .value_count = some, .lengths = ones,
         .map_values = floats},
    };
    const rk_table_batch batch = {ids, n, writes, PLAN_CELLS, &now_ms, 1, NULL, 0};
    rk_table_room room;
    if (rk_table_hold(table, &batch, &room)) abort();
    rk_table_publish(table, &batch, &room, NULL);
}

/* ---- Programs. ---- */

#define PLAN_SIGNAL(cell, kind, width) {{kind, 1, width}, {RK_SOURCE_SIGNAL, cell, 0, kind, width}}
#define PLAN_GIVEN(source, index, kind, each, width) {{kind, each, width}, {source, index, 0, kind, width}}

static const struct {
    rk_input input;
    rk_binding binding;
} plan_inputs[PLAN_INPUTS] = {
    PLAN_SIGNAL(0, RK_KIND_NUMBER, 0),
    PLAN_SIGNAL(1, RK_KIND_NUMBER, 0),
    PLAN_SIGNAL(2, RK_KIND_NUMBER, 0),
    PLAN_SIGNAL(3, RK_KIND_CATEGORY, 0),
    PLAN_SIGNAL(4, RK_KIND_EMBEDDING, PLAN_WIDTH),
    PLAN_SIGNAL(5, RK_KIND_TEXT, 0),
    PLAN_SIGNAL(6, RK_KIND_SET, 0),
    PLAN_SIGNAL(7, RK_KIND_MAP, 0),
    PLAN_GIVEN(RK_SOURCE_COLUMN, 0, RK_KIND_NUMBER, 1, 0),
    PLAN_GIVEN(RK_SOURCE_COLUMN, 1, RK_KIND_NUMBER, 1, 0),
    PLAN_GIVEN(RK_SOURCE_CONTEXT, 0, RK_KIND_NUMBER, 0, 0),
    PLAN_GIVEN(RK_SOURCE_CONTEXT, 1, RK_KIND_CATEGORY, 0, 0),
    PLAN_GIVEN(RK_SOURCE_CONTEXT, 2, RK_KIND_TEXT, 0, 0),
    PLAN_GIVEN(RK_SOURCE_CONTEXT, 3, RK_KIND_EMBEDDING, 0, PLAN_WIDTH),
    PLAN_GIVEN(RK_SOURCE_CONTEXT, 4, RK_KIND_SET, 0, 0),
    PLAN_GIVEN(RK_SOURCE_CONTEXT, 5, RK_KIND_NUMBER, 0, 0),
    PLAN_GIVEN(RK_SOURCE_CONTEXT, 6, RK_KIND_NUMBER, 0, 0),
    PLAN_GIVEN(RK_SOURCE_BASE_SCORE, 0, RK_KIND_NUMBER, 1, 0),
    PLAN_GIVEN(RK_SOURCE_POSITION, 0, RK_KIND_NUMBER, 1, 0),
    PLAN_GIVEN(RK_SOURCE_NOW, 0, RK_KIND_NUMBER, 0, 0),
    PLAN_GIVEN(RK_SOURCE_QUERY, 0, RK_KIND_TEXT, 0, 0),
    PLAN_GIVEN(RK_SOURCE_LANGUAGE, 0, RK_KIND_CATEGORY, 0, 0),
    PLAN_GIVEN(RK_SOURCE_SURFACE, 0, RK_KIND_CATEGORY, 0, 0),
    PLAN_GIVEN(RK_SOURCE_SEGMENTS, 0, RK_KIND_SET, 0, 0),
    {{RK_KIND_CATEGORY, 0, 0}, {RK_SOURCE_SIGNAL, 3, 1, RK_KIND_CATEGORY, 0}},
    {{RK_KIND_MAP, 0, 0}, {RK_SOURCE_SIGNAL, 7, 2, RK_KIND_MAP, 0}},
    {{RK_KIND_NUMBER, 1, 0}, {RK_SOURCE_SIGNAL, 1, 3, RK_KIND_NUMBER, 0}},
    {{RK_KIND_TEXT, 1, 0}, {RK_SOURCE_SIGNAL, 5, 4, RK_KIND_TEXT, 0}},
};

/* Input i is register i. */
static const rk_op plan_ops[PLAN_FEATURES] = {
    {RK_OP_log1p, {0}, 0},           {RK_OP_add, {1, 2}, 0},          {RK_OP_eq, {3, 11}, 0},
    {RK_OP_dot, {4, 13}, 0},         {RK_OP_trigram_similarity, {20, 5}, 0}, {RK_OP_jaccard, {6, 14}, 0},
    {RK_OP_lookup, {7, 21}, 0},      {RK_OP_list_rank, {8}, 0},       {RK_OP_mul, {9, 10}, 0},
    {RK_OP_token_overlap, {12, 5}, 0}, {RK_OP_sub, {19, 15}, 0},      {RK_OP_where, {16, 17, 18}, 0},
    {RK_OP_overlap, {6, 23}, 0},     {RK_OP_contains, {6, 24}, 0},    {RK_OP_lookup, {25, 3}, 0},
    {RK_OP_eq, {22, 3}, 0},          {RK_OP_list_zscore, {0}, 0},     {RK_OP_coalesce, {8, 17}, 0},
    {RK_OP_edit_similarity, {20, 5}, 0}, {RK_OP_prefix_match, {20, 5}, 0}, {RK_OP_add, {26, 26}, 0},
    {RK_OP_token_overlap, {20, 27}, 0},
};

static inline rk_program *plan_program(const rk_program_spec *spec)
{
    rk_program_status status;
    int32_t position;
    rk_program *program = rk_program_new(spec, &status, &position);
    if (!program) abort();
    return program;
}

static inline rk_bound_program plan_features(void)
{
    static rk_input inputs[PLAN_INPUTS];
    static rk_binding bindings[PLAN_INPUTS];
    rk_op ops[PLAN_INPUTS + PLAN_FEATURES];
    int32_t outputs[PLAN_FEATURES];
    for (int32_t i = 0; i < PLAN_INPUTS; i++) {
        inputs[i] = plan_inputs[i].input;
        bindings[i] = plan_inputs[i].binding;
        ops[i] = (rk_op){RK_OP_load, {i}, 0};
    }
    for (int32_t i = 0; i < PLAN_FEATURES; i++) {
        ops[PLAN_INPUTS + i] = plan_ops[i];
        outputs[i] = PLAN_INPUTS + i;
    }
    const rk_program_spec spec = {inputs, ops, outputs, NULL, PLAN_INPUTS, PLAN_INPUTS + PLAN_FEATURES, PLAN_FEATURES, 0};
    return (rk_bound_program){plan_program(&spec), bindings, PLAN_INPUTS};
}

/* The caller's base score, else the sum of a feature and a column. */
static inline rk_bound_program plan_base(void)
{
    static const rk_input number = {RK_KIND_NUMBER, 1, 0};
    static const rk_binding bindings[] = {{RK_SOURCE_FEATURE, 0, 0, RK_KIND_NUMBER, 0},
                                          {RK_SOURCE_BASE_SCORE, 0, 0, RK_KIND_NUMBER, 0},
                                          {RK_SOURCE_COLUMN, 0, 0, RK_KIND_NUMBER, 0}};
    const rk_input inputs[] = {number, number, number};
    const rk_op ops[] = {{RK_OP_load, {0}, 0},   {RK_OP_load, {1}, 0},    {RK_OP_load, {2}, 0},
                         {RK_OP_add, {0, 2}, 0}, {RK_OP_coalesce, {1, 3}, 0}};
    const int32_t output = 4;
    const rk_program_spec spec = {inputs, ops, &output, NULL, 3, 5, 1, 0};
    return (rk_bound_program){plan_program(&spec), bindings, 3};
}

/* ---- Plans. ---- */

typedef struct {
    rk_table *tables[PLAN_IDS], *dictionary;
    rk_table_reading *readings[PLAN_IDS], *dated[PLAN_IDS], *categories;
    rk_text signal_names[PLAN_CELLS];
    rk_plan_read reads[PLAN_READS], keyed[PLAN_READS], afar[PLAN_READS];
    rk_bound_program features, base;
    rk_forest *forests[2];
    rk_scorer forest, linear, wide;
    int32_t model_rows[PLAN_FEATURES];
    double weights[PLAN_FEATURES], substitutes[PLAN_FEATURES];
    char feature_names[PLAN_FEATURES][16];
    rk_text features_text[PLAN_FEATURES], outputs_text[2], plan_texts[PLAN_COUNT];
    rk_plan plans[PLAN_COUNT];
    const rk_plan *pointers[PLAN_COUNT];
    rk_plan_set set;
} rank_plans;

static const char *const plan_names[PLAN_COUNT] = {"full", "linear", "plain", "queries", "wide", "yonder"}; /* ascending */
static const int32_t plan_sorted[PLAN_CONTEXTS] = {0, 1, 2, 3, 4, 5, 6};
static const char *const plan_contexts[PLAN_CONTEXTS] = {"a", "b", "c", "d", "e", "f", "g"};
static const char *const plan_columns[2] = {"bm25", "ctr"};

static inline rk_forest *plan_forest(uint32_t outputs)
{
    const forest_plan plan = {.n_features = PLAN_FEATURES, .n_outputs = outputs, .n_trees = 6,
                              .flags = RK_FOREST_FLUSH_ZERO, .grow = GROW_ANY, .least_leaves = 2, .most_leaves = 9,
                              .n_thresholds = 12, .tree_output = outputs > 1};
    random_forest *random = random_forest_of(&plan);
    rk_forest_fault fault;
    rk_forest *forest = rk_forest_build(&random->source, &fault);
    random_forest_free(random);
    if (!forest) abort();
    return forest;
}

static inline void plan_models(rank_plans *p)
{
    for (uint32_t i = 0; i < 2; i++) p->forests[i] = plan_forest(i + 1);
    p->forest = (rk_scorer){.features = PLAN_FEATURES, .outputs = 1, .forest = p->forests[0], .tier = RK_FOREST_AUTO,
                            .scale = 1, .divisor = 1, .transform = RK_TRANSFORM_SIGMOID, .parameter = 1};
    p->wide = p->forest;
    p->wide.outputs = 2;
    p->wide.forest = p->forests[1];
    p->linear = (rk_scorer){.features = PLAN_FEATURES, .outputs = 1, .scale = 1, .divisor = 1, .weights = p->weights,
                            .substitutes = p->substitutes, .intercept = 0.5, .transform = RK_TRANSFORM_IDENTITY};
    for (int32_t i = 0; i < PLAN_FEATURES; i++) {
        p->model_rows[i] = PLAN_FEATURES - 1 - i;
        p->weights[i] = 0.25 * (i % 5);
        p->substitutes[i] = i % 3 ? NAN : 1;
        snprintf(p->feature_names[i], sizeof p->feature_names[i], "f%02d", i);
        p->features_text[i] = text_of(p->feature_names[i]);
    }
    p->outputs_text[0] = text_of("click");
    p->outputs_text[1] = text_of("buy");
}

static const char *const plan_signals[PLAN_CELLS] = {"price", "stock", "new", "brand", "vector", "title", "tags", "taste"};

static inline void plan_tables(rank_plans *p)
{
    static const rk_id_part candidate = {RK_ID_CANDIDATE, 0}, user = {RK_ID_USER, 0}, query = {RK_ID_QUERY, 0};
    static const rk_id_part pair[] = {{RK_ID_QUERY, 0}, {RK_ID_CANDIDATE, 0}};
    static const rk_id_part triple[] = {{RK_ID_CATEGORY, 3}, {RK_ID_SESSION, 0}, {RK_ID_CANDIDATE, 0}};
    static const rk_id_part *const parts[PLAN_READS] = {&candidate, &user, &query, pair, triple};
    static const size_t counts[PLAN_READS] = {1, 1, 1, 2, 3};
    rk_table_column columns[2 * PLAN_CELLS];
    rk_id terms[PLAN_TERMS];
    int32_t codes[PLAN_TERMS];
    for (uint32_t c = 0; c < PLAN_CELLS; c++) columns[c] = (rk_table_column){.cell = c, .divisor = 1, .missing = NAN};
    columns[6].ttl_ms = INT64_C(1) << 40;
    for (uint32_t c = 0; c < PLAN_CELLS; c++) {
        p->signal_names[c] = text_of(plan_signals[c]);
        columns[PLAN_CELLS + c] = columns[c];
        columns[PLAN_CELLS + c].part = RK_PART_TIME;
    }
    for (int i = 0; i < PLAN_TERMS; i++) terms[i] = text_of(plan_terms[i]);
    p->dictionary = plan_table(NULL, 0);
    if (rk_table_intern(p->dictionary, terms, PLAN_TERMS, codes)) abort();
    for (int i = 0; i < PLAN_IDS; i++) {
        p->tables[i] = plan_table(plan_cells, PLAN_CELLS);
        plan_fill(p->tables[i], (plan_ids)i);
        p->readings[i] = rk_table_reading_new(p->tables[i], columns, PLAN_CELLS);
        p->dated[i] = rk_table_reading_new(p->tables[i], columns, 2 * PLAN_CELLS);
    }
    p->categories = rk_table_reading_new(p->tables[PLAN_ITEMS], columns, 4);
    for (int i = 0; i < PLAN_READS; i++) {
        const plan_ids ids = counts[i] == 3 ? PLAN_TRIPLES : counts[i] == 2 ? PLAN_PAIRS : PLAN_ITEMS;
        p->reads[i] = p->keyed[i] = p->afar[i] = (rk_plan_read){p->readings[ids], p->dated[ids], p->signal_names,
                                                               parts[i], PLAN_CELLS, counts[i], 0, 0};
        p->keyed[i].by_key = i == 0;
        p->afar[i].is_fetched = i > 0;
    }
}

static inline rank_plans *rank_plans_new(void)
{
    static const rk_declared_context declared[PLAN_CONTEXTS] = {
        {RK_CONTEXT_NUMBER, 0}, {RK_CONTEXT_CATEGORY, 0}, {RK_CONTEXT_TEXT, 0}, {RK_CONTEXT_VECTOR, PLAN_WIDTH},
        {RK_CONTEXT_SET, 0}, {RK_CONTEXT_TIMESTAMP, 0}, {RK_CONTEXT_FLAG, 0}};
    static rk_text contexts[PLAN_CONTEXTS], columns[2];
    rank_plans *p = calloc(1, sizeof *p);
    if (!p) abort();
    plan_tables(p);
    plan_models(p);
    p->features = plan_features();
    p->base = plan_base();
    for (int i = 0; i < PLAN_CONTEXTS; i++) contexts[i] = text_of(plan_contexts[i]);
    for (int i = 0; i < 2; i++) columns[i] = text_of(plan_columns[i]);
    const rk_plan common = {
        .profile_version = text_of("p1"), .model_version = text_of("m1"), .schema_version = text_of("s1"),
        .features = p->features, .feature_names = p->features_text, .feature_count = PLAN_FEATURES,
        .output_names = p->outputs_text, .rerank_count = SIZE_MAX, .reads = p->reads, .read_count = PLAN_READS,
        .columns = {columns, plan_sorted, 2}, .contexts = {contexts, plan_sorted, PLAN_CONTEXTS}, .declared = declared,
        .dictionary = p->dictionary, .candidate_cost = 100, .scored_cost = 1000,
    };
    for (int i = 0; i < PLAN_COUNT; i++) {
        p->plans[i] = common;
        p->plans[i].name = p->plan_texts[i] = text_of(plan_names[i]);
        p->pointers[i] = &p->plans[i];
    }
    p->plans[0].base = p->plans[3].base = p->base;
    p->plans[0].scorer = p->plans[3].scorer = &p->forest;
    p->plans[0].model_rows = p->plans[3].model_rows = p->model_rows;
    p->plans[0].rerank_count = PLAN_RERANK;
    p->plans[1].scorer = &p->linear;
    p->plans[3].reads = p->keyed;
    p->plans[4].scorer = &p->wide;
    p->plans[5].scorer = &p->linear;
    p->plans[5].reads = p->afar;
    p->plans[5].fetched_count = PLAN_READS - 1;
    p->plans[5].categories = p->categories;
    p->plans[5].category_count = 4;
    p->set = (rk_plan_set){
        .plans = p->pointers, .names = {p->plan_texts, plan_sorted, PLAN_COUNT}, .seed = {1, 2},
        .limits = {.candidates = PLAN_MOST_CANDIDATES, .columns = 2, .id_bytes = PLAN_MOST_TEXT,
                   .batch_lists = PLAN_MOST_LISTS, .batch_candidates = PLAN_MOST_CANDIDATES, .query_bytes = PLAN_MOST_TEXT,
                   .language_bytes = 8, .request_id_bytes = PLAN_MOST_TEXT, .segments = 8, .labels = 4,
                   .label_bytes = 16, .set_members = 8},
    };
    for (int i = 0; i < PLAN_COUNT; i++) {
        if (rk_plan_check(&p->plans[i])) abort();
    }
    return p;
}

static inline void rank_plans_free(rank_plans *p)
{
    rk_program_free((rk_program *)p->features.program);
    rk_program_free((rk_program *)p->base.program);
    for (int i = 0; i < 2; i++) rk_forest_free(p->forests[i]);
    rk_table_reading_free(p->categories);
    for (int i = 0; i < PLAN_IDS; i++) {
        rk_table_reading_free(p->readings[i]);
        rk_table_reading_free(p->dated[i]);
        rk_table_close(p->tables[i]);
    }
    rk_table_close(p->dictionary);
    free(p);
}

/* ---- Requests: bytes that grow at the end. ---- */

typedef struct {
    uint8_t bytes[1 << 15];
    size_t length;
} rank_bytes;

static inline void put_raw(rank_bytes *b, const void *bytes, size_t length)
{
    if (length > sizeof b->bytes - b->length) return; /* a request cut short is one, too */
    if (length) memcpy(b->bytes + b->length, bytes, length);
    b->length += length;
}

static inline void put_block(rank_bytes *b, uint32_t tag, const void *bytes, size_t length)
{
    uint8_t head[16];
    put_raw(b, head, (size_t)(rk_wire_put_block(head, tag, length) - head));
    put_raw(b, bytes, length);
}

static inline void put_words(rank_bytes *b, uint32_t tag, const char *words) { put_block(b, tag, words, strlen(words)); }

static inline void put_number(rank_bytes *b, uint32_t tag, uint64_t value)
{
    uint8_t head[24];
    put_raw(b, head, (size_t)(rk_wire_put_varint(rk_wire_put_varint(head, tag), value) - head));
}

static inline void put_fixed64(rank_bytes *b, uint32_t tag, double value)
{
    uint8_t head[8];
    put_raw(b, head, (size_t)(rk_wire_put_varint(head, tag) - head));
    put_raw(b, &value, sizeof value);
}

/* A context feature whose ContextValue is `value`. */
static inline void put_context(rank_bytes *b, const char *name, const rank_bytes *value)
{
    rank_bytes entry = {.length = 0};
    put_words(&entry, RK_TAG_RANK_REQUEST_CONTEXT_FEATURES_ENTRY_KEY, name);
    put_block(&entry, RK_TAG_RANK_REQUEST_CONTEXT_FEATURES_ENTRY_VALUE, value->bytes, value->length);
    put_block(b, RK_TAG_RANK_REQUEST_CONTEXT_FEATURES, entry.bytes, entry.length);
}

/* ---- Answers. ---- */

typedef struct {
    size_t ids, scores, results, features, ages, timings;
    rk_text token;
    int is_sound; /* every field could be read to the answer's very end */
} rank_seen;

static inline rank_seen rank_look(rk_text answer, rk_arena *arena)
{
    rank_seen seen = {.is_sound = 0};
    uint32_t tag = 0;
    rk_wire_reader r = rk_wire_open(answer.bytes, answer.length, arena);
    while (rk_wire_next(&r, &tag)) {
        seen.ids += tag == RK_TAG_RANK_RESPONSE_IDS;
        seen.results += tag == RK_TAG_BATCH_RANK_RESPONSE_RESULTS;
        seen.features += tag == RK_TAG_RANK_RESPONSE_FEATURES;
        seen.ages += tag == RK_TAG_RANK_RESPONSE_SIGNAL_AGES;
        seen.timings += tag == RK_TAG_RANK_RESPONSE_TIMINGS;
        if (tag == RK_TAG_RANK_RESPONSE_NEXT_PAGE_TOKEN) {
            seen.token = rk_wire_text(&r);
        } else if (tag == RK_TAG_RANK_RESPONSE_SCORES) {
            seen.scores = rk_wire_length(&r) / sizeof(double);
            r.at += seen.scores * sizeof(double);
        } else {
            rk_wire_skip(&r, tag);
        }
    }
    seen.is_sound = r.status == RK_WIRE_OK && r.at == r.end;
    return seen;
}

/* Prepares and runs; texts that are not ASCII count as normal as they are. */
static inline void rank_whole(rk_rank_call *call, rk_method method, rk_text request, const rk_rank_options *options)
{
    rk_rank_prepare(call, method, request, options);
    if (call->fault.kind != RK_FAULT_NONE) return;
    for (size_t i = 0; i < call->need_count; i++) call->needs[i].normal = call->needs[i].text;
    if (call->plan->fetched_count) rk_rank_want_rows(call);
    if (call->fault.kind == RK_FAULT_NONE) rk_rank_run(call);
}

#endif
