/* Files and mappings. A file is mapped once over all the address space it may ever need; what lies beyond its end is
 * not touched before the file is known to have grown. */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rk_table_internal.h"

char *rk_name(const char *path, const char *suffix)
{
    size_t bytes = strlen(path) + strlen(suffix) + 1;
    char *name = malloc(bytes);
    if (name) snprintf(name, bytes, "%s%s", path, suffix);
    return name;
}

char *rk_index_name(const char *path, uint64_t generation)
{
    char suffix[40];
    snprintf(suffix, sizeof suffix, ".index.%llu", (unsigned long long)generation);
    return rk_name(path, suffix);
}

int rk_random(void *to, size_t bytes) { return getrandom(to, bytes, 0) == (ssize_t)bytes ? 0 : -1; }

/* Files of a table that was, in the folder of `path`: NAME.rows.new, NAME.heap and NAME.index.N, but NAME.rows first. */
rk_table_status rk_unlink_all(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *rows = rk_name(path, ".rows"), *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : rk_name(".", "");
    DIR *listing = folder ? opendir(folder) : NULL;
    rk_table_status status = !rows || !folder ? RK_TABLE_NO_MEMORY : listing ? RK_TABLE_OK : RK_TABLE_IO;
    if (!status && unlink(rows) && errno != ENOENT) status = RK_TABLE_IO;
    for (struct dirent *entry; !status && (entry = readdir(listing));) {
        size_t length = strlen(name);
        if (strncmp(entry->d_name, name, length)) continue;
        const char *rest = entry->d_name + length;
        if (strcmp(rest, ".rows.new") && strcmp(rest, ".heap") && strncmp(rest, ".index.", 7)) continue;
        if (unlinkat(dirfd(listing), entry->d_name, 0) && errno != ENOENT) status = RK_TABLE_IO;
    }
    int error = errno;
    if (listing) closedir(listing);
    free(rows);
    free(folder);
    errno = error;
    return status;
}

rk_table_status rk_grow_file(int fd, uint64_t from, uint64_t to)
{
    int error;
    do error = posix_fallocate(fd, (off_t)from, (off_t)(to - from));
    while (error == EINTR);
    if (!error) return RK_TABLE_OK;
    errno = error;
    return error == ENOSPC || error == EDQUOT || error == EFBIG ? RK_TABLE_NO_SPACE : RK_TABLE_IO;
}

int rk_file_bytes(int fd, uint64_t *bytes)
{
    struct stat status;
    if (fstat(fd, &status)) return -1;
    *bytes = (uint64_t)status.st_size;
    return 0;
}

static void *map_file(int fd, uint64_t bytes, int writable)
{
    void *base = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
    return base == MAP_FAILED ? NULL : base;
}

rk_table_status rk_map_files(rk_table *table, int writable)
{
    table->header = map_file(table->rows_fd, table->reserved_bytes, writable);
    if (!table->header) return RK_TABLE_IO;
    table->heap = map_file(table->heap_fd, table->reserved_bytes, writable);
    return table->heap ? RK_TABLE_OK : RK_TABLE_IO;
}

static rk_index_map *map_new(int fd, uint64_t generation, uint64_t slot_count, int writable)
{
    rk_index_map *map = malloc(sizeof *map);
    if (!map) return NULL;
    size_t bytes = RK_FILE_HEAD + 8 * slot_count;
    uint8_t *base = map_file(fd, bytes, writable);
    if (!base) {
        free(map);
        return NULL;
    }
    *map = (rk_index_map){base, bytes, (rk_word *)(void *)(base + RK_FILE_HEAD), slot_count, generation, 1};
    return map;
}

void rk_index_unmap(rk_index_map *map)
{
    if (!map) return;
    munmap(map->base, map->bytes);
    free(map);
}

static rk_table_status open_index(const rk_table *table, int fd, uint64_t generation, int writable, rk_index_map **map)
{
    rk_file_head head;
    uint64_t bytes;
    if (rk_file_bytes(fd, &bytes)) return RK_TABLE_IO;
    if (bytes < RK_FILE_HEAD || pread(fd, &head, sizeof head, 0) != (ssize_t)sizeof head) return RK_TABLE_DAMAGED;
    if (head.magic != RK_TABLE_MAGIC || memcmp(head.seed, table->header->seed, sizeof head.seed) ||
        head.generation != generation || head.slot_count < 2 || head.slot_count > UINT32_MAX ||
        head.slot_count > (bytes - RK_FILE_HEAD) / 8) {
        return RK_TABLE_DAMAGED;
    }
    *map = map_new(fd, generation, head.slot_count, writable);
    return *map ? RK_TABLE_OK : RK_TABLE_NO_MEMORY;
}

rk_table_status rk_index_open(const rk_table *table, uint64_t generation, int writable, rk_index_map **map)
{
    char *name = rk_index_name(table->path, generation);
    if (!name) return RK_TABLE_NO_MEMORY;
    int fd = open(name, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    int error = errno;
    free(name);
    errno = error;
    if (fd < 0) return errno == ENOENT ? RK_TABLE_DAMAGED : RK_TABLE_IO;
    rk_table_status status = open_index(table, fd, generation, writable, map);
    error = errno;
    close(fd);
    errno = error;
    return status;
}

rk_table_status rk_index_new(const rk_table *table, uint64_t generation, uint64_t slot_count, rk_index_map **map)
{
    char *name = rk_index_name(table->path, generation);
    if (!name) return RK_TABLE_NO_MEMORY;
    unlink(name); /* what a writer that died did not get to publish */
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    rk_table_status status = fd < 0 ? (errno == ENOSPC ? RK_TABLE_NO_SPACE : RK_TABLE_IO) : RK_TABLE_OK;
    if (!status) status = rk_grow_file(fd, 0, RK_FILE_HEAD + 8 * slot_count);
    if (!status) {
        rk_file_head head = {RK_TABLE_MAGIC, {table->header->seed[0], table->header->seed[1]}, generation, slot_count};
        *map = map_new(fd, generation, slot_count, 1);
        if (*map) memcpy((*map)->base, &head, sizeof head);
        else status = RK_TABLE_NO_MEMORY;
    }
    int error = errno;
    if (fd >= 0) close(fd);
    if (status) unlink(name);
    free(name);
    errno = error;
    return status;
}

/* Takes the place of the shared map; with the lock held. */
static void replace_map(rk_shared *shared, rk_index_map *map)
{
    rk_index_map *old = shared->map;
    shared->map = map;
    if (old && --old->users == 0) rk_index_unmap(old);
}

/* Maps the index that the header names now. It may be replaced before it is opened: then there is another name. */
static int follow_generation(const rk_table *table)
{
    rk_shared *shared = table->shared;
    uint64_t generation = rk_load_acquire(&table->header->generation), seen;
    if (shared->map && shared->map->generation == generation) return 0;
    for (;;) {
        rk_index_map *map = NULL;
        rk_table_status status = rk_index_open(table, generation, 0, &map);
        if (!status) {
            replace_map(shared, map);
            return 0;
        }
        seen = generation;
        generation = rk_load_acquire(&table->header->generation);
        if (seen == generation) return -1;
    }
}

rk_index_map *rk_enter(const rk_table *table)
{
    rk_shared *shared = table->shared;
    rk_index_map *map = NULL;
    pthread_mutex_lock(&shared->lock);
    if (!follow_generation(table)) {
        map = shared->map;
        map->users++;
    }
    pthread_mutex_unlock(&shared->lock);
    return map;
}

void rk_leave(const rk_table *table, rk_index_map *map)
{
    pthread_mutex_lock(&table->shared->lock);
    int is_last = --map->users == 0;
    pthread_mutex_unlock(&table->shared->lock);
    if (is_last) rk_index_unmap(map);
}

/* Looks again whether the file has grown. */
static uint64_t new_limit(int fd, rk_word *limit, uint64_t before, uint64_t unit, uint64_t most)
{
    uint64_t bytes;
    if (rk_file_bytes(fd, &bytes)) return 0;
    if (bytes > most) bytes = most;
    uint64_t now = bytes < before ? 0 : (bytes - before) / unit;
    rk_store(limit, now);
    return now;
}

int rk_row_has_come(const rk_table *table, uint64_t row)
{
    rk_word *limit = &table->shared->row_limit;
    return row < new_limit(table->rows_fd, limit, rk_header_bytes(table->cell_count), 8 * table->row_words,
                           table->reserved_bytes);
}

int rk_heap_has_come(const rk_table *table, uint64_t at, uint64_t bytes)
{
    uint64_t now = new_limit(table->heap_fd, &table->shared->heap_limit, 0, 1, table->reserved_bytes);
    return at <= now && bytes <= now - at;
}
