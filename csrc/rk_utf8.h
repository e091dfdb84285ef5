/* Reading UTF-8 that nobody promised is valid. */
#ifndef RK_UTF8_H
#define RK_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The code point at *at, which moves on by 1 to 4 bytes and never past `end`. A byte that starts no
 * well-formed sequence is a character of its own, U+DC80 .. U+DCFF (as Python's surrogateescape). */
static inline uint32_t rk_utf8_next(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *s = *at;
    uint32_t first = s[0];
    if (first < 0x80) {
        *at = s + 1;
        return first;
    }
    int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first >= 0xC2 && first < 0xF5 && end - s > more) {
        uint32_t point = first & (0x3Fu >> more);
        int good = 1;
        for (int i = 1; i <= more; i++) {
            good &= (s[i] & 0xC0) == 0x80;
            point = point << 6 | (s[i] & 0x3Fu);
        }
        static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
        if (good && point >= least[more] && point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF)) {
            *at = s + 1 + more;
            return point;
        }
    }
    *at = s + 1;
    return 0xDC00 | first;
}

/* Whether all of it is well-formed: no overlong forms, no surrogates, nothing above U+10FFFF (Unicode, table 3-7). */
static inline int rk_utf8_valid(const uint8_t *s, size_t length)
{
    size_t i = 0;
    while (i < length) {
        if (length - i >= 8) {
            uint64_t eight;
            memcpy(&eight, s + i, 8);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                i += 8;
                continue;
            }
        }
        uint8_t first = s[i++];
        if (first < 0x80) continue;
        if (first < 0xC2 || first > 0xF4) return 0;
        size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
        if (length - i < more) return 0;
        uint8_t least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        uint8_t most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (s[i] < least || s[i] > most) return 0;
        for (size_t j = 1; j < more; j++)
            if ((s[i + j] & 0xC0) != 0x80) return 0;
        i += more;
    }
    return 1;
}

#endif
