/* Any bytes are unpacked or refused; what was unpacked and packed again is the same row. The checksum is made right, so
 * that what stands behind it is reached; the first byte says which layout. */
#include <stdlib.h>
#include <string.h>

#include "../rk_packed.h"
#include "../rk_utf8.h"

enum { CELLS = 11, FINGERPRINT = 7 };

static const rk_packed_cell cells[CELLS] = {{0, 0, 0, 4}, {0, 0, 1, 0}, {0, 1, 0, 0}, {1, 1, 0, 0}, {1, 1, 0, 4}, {1, 0, 1, 4},
                                            {1, 1, 1, 0}, {0, 0, 0, 8}, {1, 0, 0, 2}, {0, 1, 1, 1}, {0, 0, 0, 1}};

static void *room(size_t count, size_t size) {
    void *memory = malloc(count && size ? count * size : 1); /* of exactly its size */
    if (!memory) abort();
    return memory;
}

/* Format, fingerprint and checksum as the reader expects them. */
static void seal(uint8_t *row, size_t size) {
    static const uint64_t key[2] = {UINT64_C(0x72616e6b64207061), UINT64_C(0x636b656420726f77)};
    for (int i = 0; i < 4; i++) row[5 + i] = (uint8_t)(FINGERPRINT >> 8 * i);
    uint32_t check = (uint32_t)rk_siphash13(row + 5, size - 5, key);
    for (int i = 0; i < 4; i++) row[1 + i] = (uint8_t)(check >> 8 * i);
    row[0] = RK_PACKED_FORMAT;
}

static void again(const rk_packed_layout *layout, const rk_packed_heads *heads, const rk_packed_column *columns, rk_id row) {
    rk_packed_extent places[CELLS];
    size_t size;
    rk_packed_sizes(layout, heads, columns, 1, places, &size);
    uint8_t *out = room(size, 1);
    rk_packed_pack(layout, heads, columns, 1, places, &out);
    if (size != row.length || memcmp(out, row.bytes, size)) abort(); /* a row has one form */
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 + RK_PACKED_HEAD) return 0;
    rk_packed_layout layout = {cells, data[0] % (CELLS + 1), FINGERPRINT};
    rk_id row = {room(size - 1, 1), size - 1};
    memcpy((uint8_t *)row.bytes, data + 1, size - 1);
    seal((uint8_t *)row.bytes, row.length);
    uint8_t status, state[CELLS];
    rk_id id;
    uint32_t fingerprint;
    int64_t version, latest, times[CELLS];
    rk_packed_extent extents[CELLS];
    rk_packed_column columns[CELLS];
    rk_packed_heads heads = {&status, &id, &fingerprint, &version, &latest};
    rk_packed_check(&layout, &row, NULL, 1, &heads, extents);
    for (size_t c = 0; c < layout.count; c++)
        columns[c] = (rk_packed_column){&state[c],
                                        &times[c],
                                        room(extents[c].values, sizeof(int64_t)),
                                        room(extents[c].elements, sizeof(rk_id)),
                                        room(extents[c].elements, sizeof(int64_t)),
                                        room(extents[c].elements, cells[c].width)};
    rk_packed_unpack(&layout, &row, 1, &heads, extents, columns);
    if (status == RK_PACKED_LIVE) {
        for (size_t c = 0; c < layout.count; c++)
            for (size_t e = 0; cells[c].has_text && e < extents[c].elements; e++) {
                rk_id text = columns[c].texts[e];
                if (text.bytes < row.bytes || text.bytes + text.length > row.bytes + row.length) abort();
                if (!rk_utf8_valid(text.bytes, text.length)) abort();
            }
        again(&layout, &heads, columns, row);
    }
    for (size_t c = 0; c < layout.count; c++) {
        free(columns[c].lengths);
        free(columns[c].texts);
        free(columns[c].ints);
        free(columns[c].fixed);
    }
    free((uint8_t *)row.bytes);
    return 0;
}
