/* The writer's side of the index: finding where an id goes, and a larger index when this one fills up. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "rk_table_internal.h"

/* Loads in percent: one that is full is replaced by one this empty. */
enum { FULL_LOAD = 85, NEW_LOAD = 65, LEAST_SLOTS = 64 };

/* Whether a live row, which nobody changes but this writer, is that of an id. */
static int row_has_id(const rk_table *table, uint64_t row, const rk_key *key, rk_id id)
{
    const rk_word *words = rk_row_at(table, row);
    if (rk_load(words + 1) != key->word[0]) return 0;
    uint64_t second = rk_load(words + 2);
    if (id.length <= RK_INLINE_ID) return second == key->word[1];
    return !memcmp(table->heap + second, id.bytes, id.length);
}

int rk_writer_find(const rk_table *table, const rk_key *key, rk_id id, uint64_t *slot)
{
    const rk_index_map *map = table->writer->map;
    uint64_t at = rk_home(key->tag, map->slot_count), hole = map->slot_count;
    for (;; at = rk_slot_next(at, map->slot_count)) {
        uint64_t found = rk_load(&map->slots[at]);
        if (found == RK_SLOT_EMPTY) break;
        if (found == RK_SLOT_DELETED && hole == map->slot_count) hole = at;
        if (rk_slot_fits(found, key->tag) && row_has_id(table, rk_slot_row(found), key, id)) {
            *slot = at;
            return 1;
        }
    }
    *slot = hole < map->slot_count ? hole : at;
    return 0;
}

void rk_writer_set_slot(rk_table *table, uint64_t slot, uint64_t value)
{
    rk_word *at = &table->writer->map->slots[slot];
    table->writer->used_slots += rk_load(at) == RK_SLOT_EMPTY;
    rk_store_release(at, value);
}

/* A slot before an empty one can be empty itself: whoever comes to it would go on to the empty one and stop there. */
void rk_writer_clear_slot(rk_table *table, uint64_t slot)
{
    rk_index_map *map = table->writer->map;
    if (rk_load(&map->slots[rk_slot_next(slot, map->slot_count)]) != RK_SLOT_EMPTY) {
        rk_store_release(&map->slots[slot], RK_SLOT_DELETED);
        return;
    }
    do {
        rk_store_release(&map->slots[slot], RK_SLOT_EMPTY);
        table->writer->used_slots--;
        slot = slot ? slot - 1 : map->slot_count - 1;
    } while (rk_load(&map->slots[slot]) == RK_SLOT_DELETED);
}

/* All that is in one index into an empty one. Homes ascend with tags, so both are walked from one end to the other. */
static void copy_slots(const rk_index_map *from, rk_index_map *to)
{
    for (uint64_t i = 0; i < from->slot_count; i++) {
        uint64_t slot = rk_load(&from->slots[i]);
        if ((slot & UINT32_MAX) < RK_SLOT_ROW) continue;
        uint64_t at = rk_home((uint32_t)(slot >> 32), to->slot_count);
        while (rk_load(&to->slots[at])) at = rk_slot_next(at, to->slot_count);
        rk_store(&to->slots[at], slot);
    }
}

/* From here on readers find the new index; those that are in the old one find that its number is not the header's. */
static void publish(rk_table *table, rk_index_map *map)
{
    rk_shared *shared = table->shared;
    rk_index_map *old = table->writer->map;
    int is_last[2];
    map->users = 2; /* the writer and `shared` */
    pthread_mutex_lock(&shared->lock);
    rk_store_release(&table->header->generation, map->generation);
    is_last[0] = --shared->map->users == 0;
    if (is_last[0]) rk_index_unmap(shared->map);
    shared->map = map;
    is_last[1] = --old->users == 0;
    pthread_mutex_unlock(&shared->lock);
    if (is_last[1]) rk_index_unmap(old);
    table->writer->map = map;
}

rk_table_status rk_writer_index_room(rk_table *table, uint64_t new_rows)
{
    rk_writer *writer = table->writer;
    const rk_index_map *old = writer->map;
    uint64_t count = rk_load(&table->header->count) + new_rows;
    if ((writer->used_slots + new_rows) * 100 <= old->slot_count * FULL_LOAD) return RK_TABLE_OK;
    uint64_t slots = count * 100 / NEW_LOAD + LEAST_SLOTS;
    uint64_t total = rk_writer_total_bytes(table) - old->bytes + RK_FILE_HEAD + 8 * slots;
    if (slots > UINT32_MAX || total > writer->max_bytes) return RK_TABLE_FULL_BYTES;
    rk_index_map *map;
    rk_table_status status = rk_index_new(table, old->generation + 1, slots, &map);
    if (status) return status;
    copy_slots(old, map);
    char *name = rk_index_name(table->path, old->generation);
    writer->used_slots = rk_load(&table->header->count);
    publish(table, map);
    if (name) unlink(name);
    free(name);
    return RK_TABLE_OK;
}
