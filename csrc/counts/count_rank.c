/* Instructions of a call of rk_rank from bytes to bytes, and of its stages: 10, 100 and 1,000 candidates with ids of 8
 * bytes and a base score each, 20 signals that are the features, a forest of 100 trees of 31 leaves, answers with ids,
 * ranks and scores. `prepare` decodes and checks; what a call has besides its stages is the rest. `joined` is the call
 * with the signals in an entity whose key is the query and the candidate. */
#define _GNU_SOURCE

#include <math.h>
#include <unistd.h>

#include "counts.h"

#include "../rk_ops.h"
#include "../rk_order.h"
#include "../rk_rank.h"
#include "../rk_wire.h"
#include "../tests/random_forest.h"

enum { ROWS = 20000, MOST = 1000, SIGNALS = 20, ID_BYTES = 16, JOINED_BYTES = 32 };

static char names[ROWS][ID_BYTES], joined_names[ROWS][JOINED_BYTES];
static rk_id ids[ROWS], joined_ids[ROWS], asked[MOST];
static float values[SIGNALS * ROWS], matrix[SIGNALS * MOST];
static double base_scores[MOST], scores[MOST];
static int64_t positions[ROWS], order[MOST];
static uint8_t found[MOST], request[1 << 16], *answer_bytes;
static size_t request_length, n;
static rk_column columns[SIGNALS];
static rk_input inputs[SIGNALS];
static rk_binding bindings[SIGNALS];
static rk_text feature_names[SIGNALS];
static rk_table_reading *reading, *known, *joined;
static rk_plan_read reads[2];
static rk_forest *forest;
static rk_scorer scorer;
static rk_program *program;
static rk_plan plan;
static const rk_plan *plans[1] = {&plan};
static rk_plan_set set;
static rk_arena *arena, *scratch;

static rk_text text_of(const char *words) { return (rk_text){(const uint8_t *)words, strlen(words)}; }

/* Files without a name are enough, as in count_table.c. */
static rk_table *make_table(const rk_id *row_ids)
{
    static const char *const ends[] = {"rows", "heap", "index.1", "index.2", "index.3", "index.4", "index.5", "index.6"};
    static int64_t now_ms = 1000;
    rk_cell cells[SIGNALS];
    rk_table_write writes[SIGNALS];
    rk_table_room room;
    rk_table *table;
    char folder[] = "/tmp/rankd-count-XXXXXX", path[64], name[96];
    for (int c = 0; c < SIGNALS; c++) {
        cells[c] = (rk_cell){RK_CELL_F32, 0, 0, 0};
        writes[c] = (rk_table_write){.cell = (uint32_t)c, .rows = positions, .count = ROWS,
                                     .values = values + (size_t)c * ROWS, .value_count = ROWS};
    }
    for (int i = 0; i < SIGNALS * ROWS; i++) values[i] = (float)(2 * count_uniform() - 1);
    const rk_table_options options = {.cells = cells, .cell_count = SIGNALS, .max_rows = ROWS, .max_bytes = 1 << 28};
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/t", folder);
    const rk_table_batch batch = {row_ids, ROWS, writes, SIGNALS, &now_ms, 1, NULL, 0};
    if (rk_table_create(path, &options, &table) || rk_table_hold(table, &batch, &room)) abort();
    rk_table_publish(table, &batch, &room, NULL);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "%s.%s", path, ends[i]);
        unlink(name);
    }
    rmdir(folder);
    return table;
}

static void make_tables(void)
{
    rk_table_column wanted[SIGNALS];
    for (int c = 0; c < SIGNALS; c++) wanted[c] = (rk_table_column){.cell = (uint32_t)c, .divisor = 1, .missing = NAN};
    for (int i = 0; i < ROWS; i++) {
        ids[i] = (rk_id){(uint8_t *)names[i], (size_t)snprintf(names[i], ID_BYTES, "sku%05d", i)};
        joined_ids[i] = (rk_id){(uint8_t *)joined_names[i],
                                (size_t)snprintf(joined_names[i], JOINED_BYTES, "8:red shoe/sku%05d", i)};
        positions[i] = i;
    }
    rk_table *items = make_table(ids);
    reading = rk_table_reading_new(items, wanted, SIGNALS);
    known = rk_table_reading_new(items, wanted, 0);
    joined = rk_table_reading_new(make_table(joined_ids), wanted, SIGNALS);
}

static void make_plan(int is_joined)
{
    static const rk_id_part pair[] = {{RK_ID_QUERY, 0}, {RK_ID_CANDIDATE, 0}};
    const forest_plan grown = {.n_features = SIGNALS, .n_outputs = 1, .n_trees = 100, .flags = RK_FOREST_FLUSH_ZERO,
                               .grow = GROW_ANY, .least_leaves = 31, .most_leaves = 31, .n_thresholds = 60};
    rk_op ops[SIGNALS];
    int32_t outputs[SIGNALS], position;
    rk_program_status status;
    rk_forest_fault fault;
    for (int32_t i = 0; i < SIGNALS; i++) {
        inputs[i] = (rk_input){RK_KIND_NUMBER, 1, 0};
        bindings[i] = (rk_binding){RK_SOURCE_SIGNAL, i, is_joined, RK_KIND_NUMBER, 0};
        ops[i] = (rk_op){RK_OP_load, {i}, 0};
        outputs[i] = i;
        feature_names[i] = text_of("feature");
    }
    const rk_program_spec spec = {inputs, ops, outputs, NULL, SIGNALS, SIGNALS, SIGNALS, 0};
    program = rk_program_new(&spec, &status, &position);
    forest = rk_forest_build(&random_forest_of(&grown)->source, &fault);
    if (!program || !forest) abort();
    /* valgrind has no AVX-512: what AUTO takes here is the tier of an AVX2 machine. */
    scorer = (rk_scorer){.features = SIGNALS, .outputs = 1, .forest = forest, .tier = RK_FOREST_AUTO, .scale = 1,
                         .divisor = 1, .transform = RK_TRANSFORM_IDENTITY};
    reads[0] = (rk_plan_read){is_joined ? known : reading, reading, feature_names, &pair[1],
                              is_joined ? 0 : SIGNALS, 1, 0, 0};
    reads[1] = (rk_plan_read){joined, joined, feature_names, pair, SIGNALS, 2, 0, 0};
    plan = (rk_plan){
        .name = text_of("search"), .profile_version = text_of("0123456789abcdef"),
        .model_version = text_of("0123456789abcdef"), .schema_version = text_of("0123456789abcdef"),
        .features = {program, bindings, SIGNALS}, .feature_names = feature_names, .feature_count = SIGNALS,
        .scorer = &scorer, .rerank_count = SIZE_MAX, .reads = reads, .read_count = is_joined ? 2 : 1,
    };
    static const int32_t first = 0;
    set = (rk_plan_set){.plans = plans, .names = {&plan.name, &first, 1}, .seed = {1, 2},
                        .limits = {.candidates = MOST, .id_bytes = 64, .query_bytes = 64, .request_id_bytes = 64}};
    if (rk_plan_check(&plan)) abort();
}

static void put_bytes(uint8_t **at, uint32_t tag, const void *bytes, size_t length)
{
    *at = rk_wire_put_block(*at, tag, length);
    if (length) memcpy(*at, bytes, length);
    *at += length;
}

static void make_request(void)
{
    static uint8_t list[1 << 16], query[64];
    uint8_t *at = list, *out = request, *end = query;
    for (size_t i = 0; i < n; i++) {
        asked[i] = ids[i * 7919 % ROWS];
        base_scores[i] = count_uniform();
        put_bytes(&at, RK_TAG_CANDIDATES_IDS, asked[i].bytes, asked[i].length);
    }
    put_bytes(&at, RK_TAG_CANDIDATES_BASE_SCORES, base_scores, n * sizeof *base_scores);
    put_bytes(&out, RK_TAG_RANK_REQUEST_PROFILE, plan.name.bytes, plan.name.length);
    put_bytes(&end, RK_TAG_QUERY_TEXT, "Red shoe", 8);
    put_bytes(&out, RK_TAG_RANK_REQUEST_QUERY, query, (size_t)(end - query));
    put_bytes(&out, RK_TAG_RANK_REQUEST_CANDIDATES, list, (size_t)(at - list));
    out = rk_wire_put_number(out, RK_TAG_RANK_REQUEST_VIEW, 2);
    request_length = (size_t)(out - request);
}

static rk_rank_call prepared(void)
{
    const rk_rank_options options = {.request_id = text_of("an-id-of-request"), .now_s = 1000, .deadline_ns = INT64_MAX,
                                     .max_rescored = SIZE_MAX};
    rk_rank_call call = {.arena = arena, .scratch = scratch, .plans = &set};
    rk_arena_reset(arena);
    rk_arena_reset(scratch);
    rk_rank_prepare(&call, RK_METHOD_RANK, (rk_text){request, request_length}, &options);
    if (call.fault.kind != RK_FAULT_NONE || call.need_count) abort();
    return call;
}

static void run_prepare(void) { prepared(); }

static void run_call(void)
{
    rk_rank_call call = prepared();
    rk_rank_run(&call);
    if (call.fault.kind != RK_FAULT_NONE || call.rescored_count != n || call.missing_count) abort();
}

static void run_read(void)
{
    rk_arena_reset(scratch);
    if (rk_table_read(reading, asked, n, 1000, scratch, columns, found)) abort();
}

static void run_features(void)
{
    int32_t position;
    if (rk_program_run(program, (int64_t)n, columns, 0, matrix, &position)) abort();
}

static void run_model(void)
{
    if (rk_scorer_score(&scorer, matrix, n, (ptrdiff_t)n, 1, 0, scores)) abort();
}

static void run_order(void)
{
    const rk_order_list list = {.scores = scores, .n = n};
    int tied;
    if (rk_order_top(&list, n, order, &tied)) abort();
}

static void run_encode(void)
{
    const rk_wire_answer answer = {
        .request_id = text_of("an-id-of-request"), .profile_version = plan.profile_version,
        .model_version = plan.model_version, .schema_version = plan.schema_version, .ids = asked, .indexes = order,
        .count = n, .first_rank = 1, .total_count = (uint32_t)n, .rescored_count = (uint32_t)n, .scores = scores,
        .base_scores = base_scores,
    };
    if (rk_wire_encode_answer(&answer, answer_bytes) != answer_bytes + rk_wire_answer_size(&answer)) abort();
}

/* Once through everything, so that each stage finds what the one before it leaves, and memory that was touched. */
static void prepare_for(size_t candidates, int is_joined)
{
    n = candidates;
    make_tables();
    make_plan(is_joined);
    make_request();
    arena = rk_arena_new();
    scratch = rk_arena_new();
    answer_bytes = malloc(1 << 20);
    if (!reading || !known || !joined || !arena || !scratch || !answer_bytes) abort();
    run_read();
    run_features();
    run_model();
    run_order();
    run_encode();
    run_call();
    run_read();
}

static void prepare_10(void) { prepare_for(10, 0); }
static void prepare_100(void) { prepare_for(100, 0); }
static void prepare_1000(void) { prepare_for(1000, 0); }
static void prepare_joined_100(void) { prepare_for(100, 1); }
static void prepare_joined_1000(void) { prepare_for(1000, 1); }

static const count_case cases[] = {
    {"call_10", prepare_10, run_call, 3},
    {"call_100", prepare_100, run_call, 3},
    {"joined_100", prepare_joined_100, run_call, 3},
    {"prepare_100", prepare_100, run_prepare, 3},
    {"read_100", prepare_100, run_read, 3},
    {"features_100", prepare_100, run_features, 3},
    {"model_100", prepare_100, run_model, 3},
    {"order_100", prepare_100, run_order, 3},
    {"encode_100", prepare_100, run_encode, 3},
    {"call_1000", prepare_1000, run_call, 3},
    {"joined_1000", prepare_joined_1000, run_call, 3},
    {"prepare_1000", prepare_1000, run_prepare, 3},
    {"read_1000", prepare_1000, run_read, 3},
    {"features_1000", prepare_1000, run_features, 3},
    {"model_1000", prepare_1000, run_model, 3},
    {"order_1000", prepare_1000, run_order, 3},
    {"encode_1000", prepare_1000, run_encode, 3},
};

COUNT_MAIN(cases)
