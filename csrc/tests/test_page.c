/* Page tokens: round trips of every width, and everything that is not a token of the request. */
#include <math.h>
#include <string.h>

#include "../rk_page.h"
#include "minunit.h"

static rk_arena *arena;

static int64_t order[2000];

static rk_text encode(size_t n, size_t offset, double as_of_s, uint64_t fingerprint)
{
    rk_page_cursor cursor = {as_of_s, offset, n / 2, order + offset};
    return rk_page_encode(&cursor, n, fingerprint, arena);
}

static void shuffle(size_t n)
{
    uint64_t state = n + 1;
    for (size_t i = 0; i < n; i++) order[i] = (int64_t)i;
    for (size_t i = n; i > 1; i--) {
        state = state * UINT64_C(6364136223846793005) + 1;
        size_t j = (state >> 33) % i;
        int64_t held = order[i - 1];
        order[i - 1] = order[j];
        order[j] = held;
    }
}

static void test_round_trips(void)
{
    for (size_t n = 0; n < 1100; n += n < 40 ? 1 : 97) {
        shuffle(n);
        for (size_t offset = 0; offset <= n; offset += 1 + n / 5) {
            rk_page_cursor back;
            rk_text token = encode(n, offset, 1234.5, 77);
            CHECK(token.bytes != NULL);
            CHECK(rk_page_decode(token, n, 77, arena, &back) == RK_PAGE_OK);
            CHECK(back.as_of_s == 1234.5 && back.offset == offset && back.rescored_count == n / 2);
            CHECK(n == offset || !memcmp(back.remaining, order + offset, (n - offset) * sizeof *order));
            CHECK(rk_page_decode(token, n, 78, arena, &back) == RK_PAGE_OTHER);
        }
        rk_arena_reset(arena);
    }
}

static void test_changed_tokens(void)
{
    rk_page_cursor back;
    uint8_t bytes[256];
    shuffle(30);
    rk_text token = encode(30, 3, 1.0, 5);
    memcpy(bytes, token.bytes, token.length);
    for (size_t length = 0; length < token.length; length++) {
        rk_page_status status = rk_page_decode((rk_text){bytes, length}, 30, 5, arena, &back);
        CHECK(status == RK_PAGE_FORM || status == RK_PAGE_DAMAGED);
    }
    for (size_t i = 0; i < token.length; i++) {
        for (int c = 0; c < 256; c++) {
            bytes[i] = (uint8_t)c;
            rk_page_status status = rk_page_decode((rk_text){bytes, token.length}, 30, 5, arena, &back);
            CHECK(c == token.bytes[i] ? status == RK_PAGE_OK : status == RK_PAGE_FORM || status == RK_PAGE_DAMAGED);
            rk_arena_reset(arena);
            token = encode(30, 3, 1.0, 5);
        }
        bytes[i] = token.bytes[i];
    }
}

/* Whole and of this request, but no order of what is left. */
static void test_forged_orders(void)
{
    static const int64_t forged[][3] = {{0, 0, 1}, {2, 1, 1}, {7, 1, 0}};
    rk_page_cursor back;
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        rk_page_cursor cursor = {1.0, 2, 0, forged[i]};
        rk_text token = rk_page_encode(&cursor, 5, 9, arena);
        CHECK(rk_page_decode(token, 5, 9, arena, &back) == RK_PAGE_ORDER);
    }
    shuffle(5);
    CHECK(rk_page_decode(encode(5, 2, 1.0, 9), 4, 9, arena, &back) == RK_PAGE_ORDER);
    CHECK(rk_page_decode(encode(5, 2, 1.0, 9), 100, 9, arena, &back) == RK_PAGE_ORDER);
    CHECK(rk_page_decode(encode(5, 2, (double)NAN, 9), 5, 9, arena, &back) == RK_PAGE_ORDER);
    CHECK(rk_page_decode(encode(5, 2, 1e300, 9), 5, 9, arena, &back) == RK_PAGE_ORDER);
    rk_page_cursor many = {1.0, 2, 6, order + 2};
    CHECK(rk_page_decode(rk_page_encode(&many, 5, 9, arena), 5, 9, arena, &back) == RK_PAGE_ORDER);
}

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

static void test_fingerprints(void)
{
    const rk_wire_label labels[] = {{TEXT("a"), TEXT("x")}, {TEXT("b"), TEXT("y")}};
    const rk_wire_label turned[] = {{TEXT("b"), TEXT("y")}, {TEXT("a"), TEXT("x")}};
    const rk_wire_label crossed[] = {{TEXT("a"), TEXT("y")}, {TEXT("b"), TEXT("x")}};
    rk_wire_request request = {.profile = TEXT("p"), .labels = labels, .label_count = 2}, other = request;
    uint64_t plain = rk_page_fingerprint(&request);
    other.labels = turned;
    CHECK(rk_page_fingerprint(&other) == plain);
    other.labels = crossed;
    CHECK(rk_page_fingerprint(&other) != plain);
    other = request;
    other.page_size = 3, other.has_page_size = 1, other.view = 2, other.request_id = (rk_text)TEXT("id");
    CHECK(rk_page_fingerprint(&other) == plain);
    other.has_as_of = 1;
    CHECK(rk_page_fingerprint(&other) != plain);
    const rk_text ids[] = {TEXT("ab"), TEXT("c")}, moved[] = {TEXT("a"), TEXT("bc")};
    rk_wire_candidates list = {.ids = ids, .id_count = 2}, shifted = {.ids = moved, .id_count = 2};
    CHECK(rk_page_list_fingerprint(plain, &list) != rk_page_list_fingerprint(plain, &shifted));
    CHECK(rk_page_list_fingerprint(plain, &list) == rk_page_list_fingerprint(plain, &list));
}

int main(void)
{
    arena = rk_arena_new();
    CHECK(arena != NULL);
    test_round_trips();
    test_changed_tokens();
    test_forged_orders();
    test_fingerprints();
    rk_arena_free(arena);
    FINISH();
}
