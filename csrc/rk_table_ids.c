/* Ids: what a dictionary is asked for, and a list of all. */
#include "rk_table_reading.h"

int rk_table_codes(const rk_table *dictionary, const rk_id *texts, size_t n, int32_t *codes)
{
    static uint64_t blank[RK_ROW_HEAD];
    const rk_table_reading reading = {.table = dictionary, .blank = blank, .scratch_words = RK_ROW_HEAD};
    uint64_t scratch[RK_READ_BLOCK * RK_ROW_HEAD];
    uint8_t found[RK_READ_BLOCK];
    rk_read read = {.reading = &reading, .table = dictionary, .scratch = scratch, .found = found};
    read.map = rk_enter(dictionary);
    if (!read.map) return -1;
    int status = 0;
    for (size_t done = 0; !status && done < n; done += read.size) {
        read.ids = texts + done;
        read.size = n - done < RK_READ_BLOCK ? n - done : RK_READ_BLOCK;
        status = rk_read_rows(&read);
        for (size_t i = 0; !status && i < read.size; i++) codes[done + i] = found[i] ? (int32_t)read.rows[i] : -1;
    }
    rk_leave(dictionary, read.map);
    return status;
}

int64_t rk_table_code(const rk_table *dictionary, rk_id text)
{
    int32_t code;
    return rk_table_codes(dictionary, &text, 1, &code) ? -1 : code;
}

/* The id of a row as it stands there, or one without bytes. The 12 bytes of a short id lie behind its length. */
static rk_id id_of(const rk_table *table, const rk_word *row)
{
    uint64_t length = rk_load(row + 1) & UINT32_MAX;
    if (length <= RK_INLINE_ID) return (rk_id){(const uint8_t *)row + 12, length};
    uint64_t at = rk_load(row + 2);
    if (length > RK_TABLE_MAX_ID_BYTES || at % 8 || !rk_heap_is_there(table, at, length)) return (rk_id){NULL, 0};
    return (rk_id){table->heap + at, length};
}

rk_id rk_table_text(const rk_table *dictionary, int64_t code)
{
    rk_id none = {NULL, 0};
    if (code < 0 || code >= RK_TABLE_MAX_ROWS || !rk_row_is_there(dictionary, (uint64_t)code)) return none;
    const rk_word *row = rk_row_at(dictionary, (uint64_t)code);
    uint64_t version = rk_load_acquire(row);
    return !version || (version & 1) ? none : id_of(dictionary, row);
}

/* A copy of a row's id, under the check of its sequence number: 1, 0 if it changed, -1 without memory. */
static int copy_id(const rk_table *table, const rk_word *row, rk_arena *arena, rk_id *id)
{
    uint64_t version = rk_load_acquire(row);
    rk_id found = id_of(table, row);
    if ((version & 1) || !found.bytes) return 0;
    uint8_t *copy = rk_arena_take(arena, found.length);
    if (!copy) return -1;
    if (found.length <= RK_INLINE_ID) {
        uint64_t words[2];
        rk_copy_words(words, row + 1, 2);
        memcpy(copy, (const uint8_t *)words + 4, found.length);
    } else {
        rk_copy_bytes(copy, (const rk_word *)(const void *)found.bytes, found.length);
    }
    atomic_thread_fence(memory_order_acquire);
    *id = (rk_id){copy, found.length};
    return rk_load(row) == version;
}

/* A row that changes while it is copied has another version, which its slot shows. */
static int copy_slot(const rk_table *table, const rk_word *slot, rk_arena *arena, rk_id *id)
{
    for (int tries = 0; tries < 1000; tries++) {
        uint64_t value = rk_load_acquire(slot), row = rk_slot_row(value);
        if ((value & UINT32_MAX) < RK_SLOT_ROW || !rk_row_is_there(table, row)) return 0;
        int copied = copy_id(table, rk_row_at(table, row), arena, id);
        if (copied) return copied;
    }
    return 0;
}

rk_table_status rk_table_ids(const rk_table *table, uint64_t start, size_t most, rk_arena *arena, rk_id *ids,
                             size_t *count, uint64_t *next, uint64_t *generation)
{
    rk_index_map *map = rk_enter(table);
    int copied = 0;
    *count = 0;
    *next = 0;
    if (!map) return RK_TABLE_IO;
    uint64_t at = *generation == map->generation ? start : 0;
    *generation = map->generation;
    for (; at < map->slot_count && *count < most; at++) {
        copied = copy_slot(table, &map->slots[at], arena, &ids[*count]);
        if (copied < 0) break;
        *count += (size_t)copied;
    }
    if (at < map->slot_count) *next = at;
    rk_leave(table, map);
    return copied < 0 ? RK_TABLE_NO_MEMORY : RK_TABLE_OK;
}
