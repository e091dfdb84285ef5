/* rk_arena: memory of one call, taken piece by piece and given back at once.
 *
 * Ownership: pieces live until rk_arena_reset or rk_arena_free. Threads: one at a time.
 * Limits: RK_ARENA_MOST bytes between two resets; what is beyond fails as if memory were short.
 */
#ifndef RK_ARENA_H
#define RK_ARENA_H

#include <stddef.h>

#define RK_ARENA_MOST ((size_t)4 << 30)
#define RK_ARENA_KEPT ((size_t)4 << 20) /* what a reset keeps for the next call, at most (but for one piece) */

typedef struct rk_arena rk_arena;

/* NULL without memory. */
rk_arena *rk_arena_new(void);
void rk_arena_free(rk_arena *arena); /* NULL is fine */

/* `bytes` bytes of any content, aligned to 64; never NULL for 0 bytes. NULL without memory. */
void *rk_arena_take(rk_arena *arena, size_t bytes);

/* The same for count elements of `size` bytes; NULL if the product overflows. */
void *rk_arena_array(rk_arena *arena, size_t count, size_t size);

/* Gives all pieces back. */
void rk_arena_reset(rk_arena *arena);

#endif
