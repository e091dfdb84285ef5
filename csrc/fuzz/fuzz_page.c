/* Page tokens that nobody made. Input: the list's length, then the token's bytes before base64url. What is accepted
 * holds distinct positions below the length, and is written back as the same token. */
#include <stdlib.h>
#include <string.h>

#include "../rk_page.h"

enum { HEADER = 29, MOST = 1 << 12 };

static size_t to_base64(const uint8_t *raw, size_t length, uint8_t *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    int held = 0;
    size_t made = 0;
    for (size_t i = 0; i < length; i++) {
        bits = bits << 8 | raw[i];
        for (held += 8; held >= 6; held -= 6) out[made++] = (uint8_t)digits[bits >> (held - 6) & 63];
    }
    if (held) out[made++] = (uint8_t)digits[bits << (6 - held) & 63];
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    size_t n = (data[0] | (size_t)data[1] << 8) % MOST, length = size - 2;
    rk_arena *arena = rk_arena_new();
    uint8_t *token = malloc(2 * length + 4);
    if (!arena || !token) abort();
    uint64_t fingerprint = 0;
    for (size_t i = 0; length >= HEADER && i < 8; i++) fingerprint |= (uint64_t)data[2 + 5 + i] << 8 * i;
    rk_text text = {token, to_base64(data + 2, length, token)};
    rk_page_cursor cursor;
    if (rk_page_decode(text, n, fingerprint, arena, &cursor) == RK_PAGE_OK) {
        uint8_t seen[MOST] = {0};
        for (size_t i = 0; i < n - cursor.offset; i++) {
            if (cursor.remaining[i] < 0 || (size_t)cursor.remaining[i] >= n || seen[cursor.remaining[i]]++) abort();
        }
        rk_text again = rk_page_encode(&cursor, n, fingerprint, arena);
        rk_page_cursor back;
        if (rk_page_decode(again, n, fingerprint, arena, &back) != RK_PAGE_OK || back.offset != cursor.offset) abort();
    }
    rk_page_decode((rk_text){data, size}, n, 0, arena, &cursor);
    free(token);
    rk_arena_free(arena);
    return 0;
}
