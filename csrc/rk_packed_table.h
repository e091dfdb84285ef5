/* rk_packed_table: packed rows straight into a table of a process's own, for rows that are fetched for a request.
 *
 * What compiled code reads of them is put there: of a text its normal form, of a list its members as a set. What only
 * tells how a value was written is not; who wants that has the packed row. Rows come whole: each replaces what was there.
 *
 * Some rows need Python: texts that are not ASCII have to be normalised (types/text.py), strings that the dictionary does
 * not know have to be given codes. Then nothing is put. Any bytes may come: see rk_packed.h.
 * Ownership: nothing is kept but in the arena. Threads: as rk_table_publish; others may read the table meanwhile.
 */
#ifndef RK_PACKED_TABLE_H
#define RK_PACKED_TABLE_H

#include "rk_arena.h"
#include "rk_packed.h"
#include "rk_table.h"

/* What a packed cell becomes. */
typedef enum {
    RK_INTO_F32,    /* 4 bytes: F32 */
    RK_INTO_F64,    /* 8 bytes: F64 */
    RK_INTO_I64,    /* an integer: I64 */
    RK_INTO_BOOL,   /* a byte: BOOL */
    RK_INTO_CODE,   /* a text: CODE */
    RK_INTO_TEXT,   /* a text: TEXT, normal */
    RK_INTO_SET,    /* texts: SET (integers beside them are left out) */
    RK_INTO_MAP,    /* texts with 4 bytes each: MAP */
    RK_INTO_WINDOW, /* integers with 4 bytes each: MAP whose codes are the integers */
    RK_INTO_F32S,   /* 4 * width bytes: VECTOR */
    RK_INTO_F16S,   /* 2 * width bytes */
    RK_INTO_I8S,    /* 4 + width bytes: a scale and whole numbers */
    RK_INTOS
} rk_into_kind;

typedef struct {
    int32_t kind;  /* of rk_into_kind */
    uint32_t cell; /* of the table */
    uint32_t width;
} rk_into;

typedef struct {
    const rk_packed_layout *layout;
    const rk_into *into; /* one per cell of the layout; no two of them the same cell */
    rk_table *table;
    const rk_table *dictionary;
} rk_packed_target;

/* Whether the parts fit each other. */
int rk_packed_target_fits(const rk_packed_target *target);

typedef enum {
    RK_PUT_OK,
    RK_PUT_UNKNOWN, /* unknown[0 .. unknown_count): strings without a code, some maybe more than once */
    RK_PUT_OTHER,   /* a text that is not ASCII */
    RK_PUT_FAILED   /* see table_status */
} rk_put_status;

typedef struct {
    rk_table_status table_status;
    const rk_id *unknown; /* in the packed rows; the array in the arena */
    size_t unknown_count;
} rk_put;

/* Puts the rows that are live (see rk_packed_check; `heads` is filled in) into the table and leaves the others to the
 * caller. `ids`: whose rows they must be; distinct. */
rk_put_status rk_packed_put(const rk_packed_target *target, const rk_id *rows, const rk_id *ids, size_t n,
                            const rk_packed_heads *heads, rk_arena *arena, rk_put *put);

#endif
