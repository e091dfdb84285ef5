/* A list of blocks, the newest first, each as large as all before it together, so that a call that needs more than the
 * last one did soon has it in one block. */
#include <stdint.h>
#include <stdlib.h>

#include "rk_arena.h"

enum { ALIGNMENT = 64, FIRST_BYTES = 1 << 16 };

typedef struct block {
    struct block *older;
    size_t size, used; /* of the bytes after the header, which is ALIGNMENT bytes long */
} block;

struct rk_arena {
    block *newest;
    size_t total;
};

static block *block_new(block *older, size_t size)
{
    block *made = aligned_alloc(ALIGNMENT, ALIGNMENT + size);
    if (made) *made = (block){older, size, 0};
    return made;
}

rk_arena *rk_arena_new(void)
{
    rk_arena *arena = malloc(sizeof *arena);
    if (!arena) return NULL;
    *arena = (rk_arena){block_new(NULL, FIRST_BYTES), FIRST_BYTES};
    if (!arena->newest) {
        free(arena);
        return NULL;
    }
    return arena;
}

static void free_blocks(block *at)
{
    while (at) {
        block *older = at->older;
        free(at);
        at = older;
    }
}

void rk_arena_free(rk_arena *arena)
{
    if (arena) free_blocks(arena->newest);
    free(arena);
}

void *rk_arena_take(rk_arena *arena, size_t bytes)
{
    if (bytes > RK_ARENA_MOST) return NULL;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    block *at = arena->newest;
    if (at->size - at->used < bytes) {
        size_t size = bytes > arena->total ? bytes : arena->total;
        if (size > RK_ARENA_MOST - arena->total) return NULL;
        at = block_new(at, size);
        if (!at) return NULL;
        arena->newest = at;
        arena->total += size;
    }
    char *piece = (char *)at + ALIGNMENT + at->used;
    at->used += bytes;
    return piece;
}

void *rk_arena_array(rk_arena *arena, size_t count, size_t size)
{
    if (size && count > RK_ARENA_MOST / size) return NULL;
    return rk_arena_take(arena, count * size);
}

void rk_arena_reset(rk_arena *arena)
{
    block *kept = arena->newest;
    free_blocks(kept->older);
    if (kept->size > RK_ARENA_KEPT) {
        block *small = block_new(NULL, FIRST_BYTES);
        if (small) {
            free(kept);
            kept = small;
        }
    }
    kept->older = NULL;
    kept->used = 0;
    arena->newest = kept;
    arena->total = kept->size;
}
