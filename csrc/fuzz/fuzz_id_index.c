/* rk_id_index beside an array: each pair of bytes inserts, finds or removes one of 256 ids of many lengths. */
#include <stdlib.h>
#include <string.h>

#include "../rk_id_index.h"

enum { IDS = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint64_t seed[2] = {1, 2};
    static uint8_t bytes[IDS][IDS];
    int64_t rows[IDS];
    uint32_t live = 0;
    rk_id_index *index = rk_id_index_create(seed);
    if (!index) return 0;
    for (int i = 0; i < IDS; i++) {
        memset(bytes[i], i, (size_t)i + 1);
        rows[i] = -1;
    }
    for (size_t i = 0; i + 1 < size; i += 2) {
        int which = data[i + 1];
        rk_id id = {bytes[which], (size_t)which + 1};
        uint32_t row = 0;
        if (rk_id_index_find(index, id) != rows[which]) abort();
        if (data[i] & 1) {
            int inserted = rk_id_index_insert(index, id, &row);
            if (inserted < 0 || inserted != (rows[which] < 0)) abort();
            if (!inserted && row != rows[which]) abort();
            rows[which] = row;
            live += (uint32_t)inserted;
        } else if (data[i] & 2) {
            if (rk_id_index_remove(index, id) != rows[which]) abort();
            live -= rows[which] >= 0;
            rows[which] = -1;
        }
        if (rk_id_index_count(index) != live) abort();
    }
    for (int i = 0; i < IDS; i++) {
        if (rows[i] < 0) continue;
        rk_id stored = rk_id_index_id(index, (uint32_t)rows[i]);
        if (stored.length != (size_t)i + 1 || memcmp(stored.bytes, bytes[i], stored.length)) abort();
    }
    rk_id_index_destroy(index);
    return 0;
}
