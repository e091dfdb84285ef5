/* rk_rank: several threads rank by one set of plans while the signals that they read are written. */
#define _GNU_SOURCE

#include <pthread.h>
#include <stdatomic.h>

#include "minunit.h"
#include "rank_plan.h"

enum { THREADS = 3, ROUNDS = 100, CANDIDATES = 25 };

static rank_plans *plans;
static rank_bytes request;
static uint8_t expected[1 << 14];
static size_t expected_length;
static atomic_int ranking = THREADS;

static rk_rank_call call_in(rk_arena *arena, rk_arena *scratch)
{
    const rk_rank_options options = {.request_id = text_of("made"), .now_s = 1000, .deadline_ns = INT64_MAX,
                                     .max_rescored = SIZE_MAX};
    rk_rank_call call = {.arena = arena, .scratch = scratch, .plans = &plans->set};
    rk_arena_reset(arena);
    rk_arena_reset(scratch);
    rank_whole(&call, RK_METHOD_RANK, (rk_text){request.bytes, request.length}, &options);
    return call;
}

/* NULL if every answer was the one expected. */
static void *ranks(void *argument)
{
    rk_arena *arena = rk_arena_new(), *scratch = rk_arena_new();
    int wrong = 0;
    for (int i = 0; i < ROUNDS; i++) {
        rk_rank_call call = call_in(arena, scratch);
        wrong |= call.fault.kind != RK_FAULT_NONE || call.answer.length != expected_length ||
                 memcmp(call.answer.bytes, expected, expected_length);
    }
    rk_arena_free(arena);
    rk_arena_free(scratch);
    ranking--;
    return wrong ? argument : NULL;
}

static void make_request(void)
{
    rank_bytes list = {.length = 0};
    char id[24];
    for (int i = 0; i < CANDIDATES; i++) {
        snprintf(id, sizeof id, "sku-%d", 2 * i);
        put_words(&list, RK_TAG_CANDIDATES_IDS, id);
    }
    put_words(&request, RK_TAG_RANK_REQUEST_PROFILE, "full");
    put_block(&request, RK_TAG_RANK_REQUEST_CANDIDATES, list.bytes, list.length);
    put_number(&request, RK_TAG_RANK_REQUEST_VIEW, 3);
}

int main(void)
{
    pthread_t threads[THREADS];
    rk_arena *arena = rk_arena_new(), *scratch = rk_arena_new();
    int number = 1, written = 0;
    plans = rank_plans_new();
    make_request();
    rk_rank_call first = call_in(arena, scratch);
    CHECK(first.fault.kind == RK_FAULT_NONE && first.returned_count == CANDIDATES && first.answer.length < sizeof expected);
    expected_length = first.answer.length;
    memcpy(expected, first.answer.bytes, expected_length);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, ranks, &number) == 0);
    for (; ranking; written++) plan_fill(plans->tables[PLAN_ITEMS], PLAN_ITEMS); /* new versions of the same values */
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        CHECK(pthread_join(threads[i], &wrong) == 0 && wrong == NULL);
    }
    CHECK(written > 0);
    rank_plans_free(plans);
    rk_arena_free(arena);
    rk_arena_free(scratch);
    FINISH();
}
