/* rk_arena: pieces are apart, aligned and stay; a reset gives all back and keeps little; too much is refused. */
#include "../rk_arena.h"

#include <stdint.h>
#include <string.h>

#include "minunit.h"

enum { PIECES = 2000 };

static void test_pieces(rk_arena *arena)
{
    uint8_t *pieces[PIECES];
    int wrong = 0;
    for (size_t i = 0; i < PIECES; i++) {
        pieces[i] = rk_arena_take(arena, i * 7 % 999);
        if (!pieces[i] || (uintptr_t)pieces[i] % 64) wrong++;
        else memset(pieces[i], (int)(i % 251), i * 7 % 999);
    }
    for (size_t i = 0; i < PIECES && !wrong; i++) {
        for (size_t k = 0; k < i * 7 % 999; k++) wrong += pieces[i][k] != i % 251;
    }
    CHECK(wrong == 0);
}

int main(void)
{
    rk_arena *arena = rk_arena_new();
    CHECK(arena != NULL);
    for (int round = 0; round < 3; round++) {
        test_pieces(arena);
        rk_arena_reset(arena);
    }
    void *first = rk_arena_take(arena, 1);
    rk_arena_reset(arena);
    CHECK(rk_arena_take(arena, 1) == first); /* a reset keeps the block */
    CHECK(rk_arena_take(arena, 0) != NULL && rk_arena_array(arena, 0, 8) != NULL && rk_arena_array(arena, 8, 0) != NULL);
    uint8_t *large = rk_arena_array(arena, RK_ARENA_KEPT / 8, 16);
    CHECK(large != NULL);
    if (large) memset(large, 1, 2 * RK_ARENA_KEPT);
    rk_arena_reset(arena);
    test_pieces(arena); /* in a small block again */
    CHECK(rk_arena_take(arena, RK_ARENA_MOST + 1) == NULL);
    CHECK(rk_arena_take(arena, RK_ARENA_MOST) == NULL); /* beside what was taken already */
    CHECK(rk_arena_take(arena, SIZE_MAX) == NULL);
    CHECK(rk_arena_array(arena, SIZE_MAX / 4, 8) == NULL && rk_arena_array(arena, 8, SIZE_MAX / 4) == NULL);
    CHECK(rk_arena_take(arena, 100) != NULL); /* what was refused changed nothing */
    rk_arena_free(arena);
    rk_arena_free(NULL);
    FINISH();
}
