/* Opening, closing, and what a header tells. */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rk_table_internal.h"

static inline uint64_t load32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, 4);
    return value;
}

static inline uint64_t load64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, 8);
    return value;
}

/* Two loads that overlap take the place of a loop over bytes. */
rk_key rk_key_of(const rk_table *table, rk_id id)
{
    const uint8_t *bytes = id.bytes;
    size_t length = id.length;
    rk_key key = {{(uint32_t)length, 0}, 0};
    if (length >= 4) {
        key.word[0] |= load32(bytes) << 32;
        if (length > RK_INLINE_ID) key.word[1] = load64(bytes + 4);
        else if (length >= 8) key.word[1] = load64(bytes + length - 8) >> 8 * (12 - length);
        else key.word[1] = load32(bytes + length - 4) >> 8 * (8 - length);
    } else {
        for (size_t i = 0; i < length; i++) key.word[0] |= (uint64_t)bytes[i] << 8 * (4 + i);
    }
    key.tag = (uint32_t)(rk_siphash13(bytes, length, table->header->seed) >> 32);
    return key;
}

/* ---- Making and opening. ---- */

static rk_shared *shared_new(void)
{
    rk_shared *shared = calloc(1, sizeof *shared);
    if (shared && pthread_mutex_init(&shared->lock, NULL)) {
        free(shared);
        shared = NULL;
    }
    return shared;
}

static rk_table_status table_new(const char *path, rk_table **made)
{
    rk_table *table = calloc(1, sizeof *table);
    *made = table;
    if (!table) return RK_TABLE_NO_MEMORY;
    table->rows_fd = table->heap_fd = -1;
    table->path = rk_name(path, "");
    table->shared = shared_new();
    return table->path && table->shared ? RK_TABLE_OK : RK_TABLE_NO_MEMORY;
}

static rk_table_status open_file(const char *path, const char *suffix, int flags, int *fd)
{
    char *name = rk_name(path, suffix);
    if (!name) return RK_TABLE_NO_MEMORY;
    *fd = open(name, flags | O_CLOEXEC, 0600);
    int error = errno;
    free(name);
    errno = error;
    return *fd < 0 ? (error == ENOSPC || error == EDQUOT ? RK_TABLE_NO_SPACE : RK_TABLE_IO) : RK_TABLE_OK;
}

/* One process writes. The lock goes with the process, however it ends. */
static rk_table_status lock(int fd)
{
    if (!flock(fd, LOCK_EX | LOCK_NB)) return RK_TABLE_OK;
    return errno == EWOULDBLOCK ? RK_TABLE_IN_USE : RK_TABLE_IO;
}

/* The layout, from the header as it lies in the file. */
static rk_table_status read_header(rk_table *table)
{
    uint64_t file_bytes;
    if (rk_file_bytes(table->rows_fd, &file_bytes)) return RK_TABLE_IO;
    if (file_bytes < RK_PAGE) return RK_TABLE_NOT_A_TABLE;
    rk_table_header *header = mmap(NULL, file_bytes, PROT_READ, MAP_SHARED, table->rows_fd, 0);
    if (header == MAP_FAILED) return RK_TABLE_IO;
    rk_table_status status = rk_header_read(header, file_bytes);
    if (!status) {
        status = rk_layout(table, (const rk_cell *)(const void *)((const uint8_t *)header + RK_CELLS_AT),
                           header->cell_count);
        if (status == RK_TABLE_BAD_ARGUMENT) status = RK_TABLE_DAMAGED;
    }
    if (!status && header->row_words != table->row_words) status = RK_TABLE_DAMAGED;
    table->reserved_bytes = header->reserved_bytes;
    munmap(header, file_bytes);
    return status;
}

static int is_right_heap(const rk_table *table)
{
    uint64_t bytes;
    rk_file_head head;
    if (rk_file_bytes(table->heap_fd, &bytes) || bytes < RK_PAGE || bytes > table->reserved_bytes) return 0;
    memcpy(&head, table->heap, sizeof head);
    return head.magic == RK_TABLE_MAGIC && !memcmp(head.seed, table->header->seed, sizeof head.seed);
}

static rk_table_status map_all(rk_table *table, int writable)
{
    rk_table_status status = rk_map_files(table, writable);
    if (status) return status;
    table->rows = (rk_word *)(void *)((uint8_t *)table->header + rk_header_bytes(table->cell_count));
    return is_right_heap(table) ? RK_TABLE_OK : RK_TABLE_DAMAGED;
}

static rk_table_status open_reader(rk_table *table)
{
    rk_table_status status = open_file(table->path, ".rows", O_RDONLY, &table->rows_fd);
    if (!status) status = read_header(table);
    if (!status) status = open_file(table->path, ".heap", O_RDONLY, &table->heap_fd);
    if (!status) status = map_all(table, 0);
    if (status) return status;
    rk_index_map *map = rk_enter(table);
    if (!map) return RK_TABLE_DAMAGED;
    rk_leave(table, map);
    return RK_TABLE_OK;
}

static rk_table_status finish(rk_table *made, rk_table_status status, rk_table **table)
{
    int error = errno;
    if (status) rk_table_close(made);
    *table = status ? NULL : made;
    errno = error;
    return status;
}

rk_table_status rk_table_open(const char *path, rk_table **table)
{
    rk_table *made;
    rk_table_status status = table_new(path, &made);
    if (!status) status = open_reader(made);
    return finish(made, status, table);
}

static rk_table_status check_options(const rk_table *table, const rk_table_options *options)
{
    static const uint8_t zeros[RK_TABLE_FINGERPRINT_BYTES];
    const uint8_t *fingerprint = options->fingerprint ? options->fingerprint : zeros;
    if (options->cell_count != table->cell_count || options->max_bytes > table->reserved_bytes) return RK_TABLE_OTHER;
    if (memcmp(fingerprint, table->header->fingerprint, RK_TABLE_FINGERPRINT_BYTES)) return RK_TABLE_OTHER;
    size_t bytes = table->cell_count * sizeof(rk_cell);
    return bytes && memcmp(options->cells, table->cells, bytes) ? RK_TABLE_OTHER : RK_TABLE_OK;
}

static rk_table_status open_writer(rk_table *table, const rk_table_options *options)
{
    rk_table_status status = open_file(table->path, ".rows", O_RDWR, &table->rows_fd);
    if (!status) status = lock(table->rows_fd);
    if (!status) status = read_header(table);
    if (!status) status = open_file(table->path, ".heap", O_RDWR, &table->heap_fd);
    if (!status) status = map_all(table, 1);
    if (!status) status = check_options(table, options);
    if (!status) status = rk_writer_new(table, options);
    return status;
}

rk_table_status rk_table_attach(const char *path, const rk_table_options *options, rk_table **table)
{
    rk_table *made;
    rk_table_status status = table_new(path, &made);
    if (!status) status = open_writer(made, options);
    return finish(made, status, table);
}

static void fill_header(rk_table *table, const rk_table_options *options, const uint64_t seed[2])
{
    rk_table_header *header = table->header;
    header->magic = RK_TABLE_MAGIC;
    header->version = RK_TABLE_VERSION;
    header->byte_order = RK_TABLE_BYTE_ORDER;
    header->header_bytes = rk_header_bytes(table->cell_count);
    header->reserved_bytes = table->reserved_bytes;
    memcpy(header->seed, seed, sizeof header->seed);
    header->set_id = options->set_id;
    header->cell_count = table->cell_count;
    header->row_words = (uint32_t)table->row_words;
    if (options->fingerprint) memcpy(header->fingerprint, options->fingerprint, sizeof header->fingerprint);
    memcpy((uint8_t *)header + RK_CELLS_AT, table->cells, table->cell_count * sizeof *table->cells);
    header->check = rk_header_check(header, table->cells);
    rk_file_head head = {RK_TABLE_MAGIC, {seed[0], seed[1]}, 0, 0};
    memcpy(table->heap, &head, sizeof head);
}

/* Everything but the name of PATH.rows, which comes last: a table is there whole or not at all. */
static rk_table_status make_files(rk_table *table, const rk_table_options *options)
{
    enum { FIRST_SLOTS = 64 };
    uint64_t seed[2], header_bytes = rk_header_bytes(options->cell_count);
    rk_table_status status = rk_layout(table, options->cells, options->cell_count);
    if (status) return status;
    table->reserved_bytes = (options->max_bytes + RK_PAGE - 1) / RK_PAGE * RK_PAGE;
    if (table->reserved_bytes < header_bytes + RK_PAGE + RK_FILE_HEAD + 8 * FIRST_SLOTS) return RK_TABLE_FULL_BYTES;
    if (rk_random(seed, sizeof seed)) return RK_TABLE_IO;
    status = open_file(table->path, ".rows.new", O_RDWR | O_CREAT | O_EXCL, &table->rows_fd);
    if (!status) status = lock(table->rows_fd);
    if (!status) status = rk_grow_file(table->rows_fd, 0, header_bytes);
    if (!status) status = open_file(table->path, ".heap", O_RDWR | O_CREAT | O_EXCL, &table->heap_fd);
    if (!status) status = rk_grow_file(table->heap_fd, 0, RK_PAGE);
    if (!status) status = rk_map_files(table, 1);
    if (status) return status;
    fill_header(table, options, seed);
    rk_index_map *map;
    status = rk_index_new(table, 1, FIRST_SLOTS, &map);
    if (status) return status;
    rk_index_unmap(map);
    rk_store_release(&table->header->generation, 1);
    table->rows = (rk_word *)(void *)((uint8_t *)table->header + header_bytes);
    return rk_writer_new(table, options);
}

static rk_table_status rename_rows(const rk_table *table)
{
    char *from = rk_name(table->path, ".rows.new"), *to = rk_name(table->path, ".rows");
    rk_table_status status = !from || !to ? RK_TABLE_NO_MEMORY : rename(from, to) ? RK_TABLE_IO : RK_TABLE_OK;
    free(from);
    free(to);
    return status;
}

rk_table_status rk_table_create(const char *path, const rk_table_options *options, rk_table **table)
{
    rk_table *made;
    int old = -1;
    rk_table_status status = table_new(path, &made);
    /* Whoever is writing what is there keeps it. */
    if (!status && !open_file(path, ".rows", O_RDWR, &old)) status = lock(old);
    if (!status) status = rk_unlink_all(path);
    if (!status) status = make_files(made, options);
    if (!status) status = rename_rows(made);
    if (old >= 0) close(old);
    return finish(made, status, table);
}

void rk_table_end_writing(rk_table *table)
{
    if (!table->writer) return;
    rk_writer_free(table);
    flock(table->rows_fd, LOCK_UN);
}

void rk_table_close(rk_table *table)
{
    if (!table) return;
    rk_writer_free(table);
    if (table->shared) {
        rk_index_unmap(table->shared->map);
        pthread_mutex_destroy(&table->shared->lock);
    }
    if (table->header) munmap(table->header, table->reserved_bytes);
    if (table->heap) munmap(table->heap, table->reserved_bytes);
    if (table->rows_fd >= 0) close(table->rows_fd);
    if (table->heap_fd >= 0) close(table->heap_fd);
    free(table->shared);
    free(table->cells);
    free(table->places);
    free(table->heap_cells);
    free(table->blank);
    free(table->path);
    free(table);
}

/* ---- What the header tells. ---- */

const rk_cell *rk_table_cells(const rk_table *table, uint32_t *count)
{
    *count = table->cell_count;
    return table->cells;
}

const uint8_t *rk_table_fingerprint(const rk_table *table) { return table->header->fingerprint; }
uint64_t rk_table_set_id(const rk_table *table) { return table->header->set_id; }
uint64_t rk_table_count(const rk_table *table) { return rk_load(&table->header->count); }
uint64_t rk_table_applied(const rk_table *table) { return rk_load_acquire(&table->header->applied); }
int rk_table_is_retired(const rk_table *table) { return rk_load_acquire(&table->header->is_retired) != 0; }

int rk_table_is_clean(const rk_table *table, uint8_t boot[RK_TABLE_BOOT_BYTES])
{
    if (boot) memcpy(boot, table->header->boot, RK_TABLE_BOOT_BYTES);
    return rk_load_acquire(&table->header->is_clean) != 0;
}

uint64_t rk_table_used_bytes(const rk_table *table)
{
    uint64_t rows = 0, heap = 0, index = 0;
    rk_index_map *map = rk_enter(table);
    if (map) {
        index = map->bytes;
        rk_leave(table, map);
    }
    if (rk_file_bytes(table->rows_fd, &rows) || rk_file_bytes(table->heap_fd, &heap)) return 0;
    return rows + heap + index;
}

void rk_table_set_applied(rk_table *table, uint64_t applied) { rk_store_release(&table->header->applied, applied); }
void rk_table_retire(rk_table *table) { rk_store_release(&table->header->is_retired, 1); }

void rk_table_set_clean(rk_table *table, int is_clean, const uint8_t boot[RK_TABLE_BOOT_BYTES])
{
    rk_store(&table->header->is_clean, 0);
    atomic_thread_fence(memory_order_seq_cst);
    memcpy(table->header->boot, boot, RK_TABLE_BOOT_BYTES);
    rk_store_release(&table->header->is_clean, is_clean != 0);
}

rk_table_status rk_table_flush(rk_table *table)
{
    rk_index_map *map = rk_enter(table);
    int failed = !map || msync(map->base, map->bytes, MS_SYNC) || fsync(table->rows_fd) || fsync(table->heap_fd);
    int error = errno;
    if (map) rk_leave(table, map);
    errno = error;
    return failed ? RK_TABLE_IO : RK_TABLE_OK;
}
