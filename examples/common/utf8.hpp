// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <string_view>

namespace tool {

inline constexpr std::string_view replacement = "\xef\xbf\xbd";  ///< U+FFFD: there was something that is no character

/// How many bytes the character at the beginning has; 0: it is none (RFC 3629).
[[nodiscard]] inline std::size_t utf8_bytes(std::string_view s) noexcept {
    const auto at = [s](std::size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0U; };
    const auto more = [&at](std::size_t i) { return (at(i) & 0xc0U) == 0x80U; };
    const unsigned c = at(0);
    if (c < 0x80) return s.empty() ? 0 : 1;
    if (c >= 0xc2 && c < 0xe0) return more(1) ? 2 : 0;
    if (c >= 0xe0 && c < 0xf0) {
        const bool fits = !(c == 0xe0 && at(1) < 0xa0) && !(c == 0xed && at(1) >= 0xa0);
        return fits && more(1) && more(2) ? 3 : 0;
    }
    if (c >= 0xf0 && c < 0xf5) {
        const bool fits = !(c == 0xf0 && at(1) < 0x90) && !(c == 0xf4 && at(1) >= 0x90);
        return fits && more(1) && more(2) && more(3) ? 4 : 0;
    }
    return 0;
}

/// C0, DEL and C1: what a terminal may take for a command.
[[nodiscard]] inline bool is_control(std::string_view character) noexcept {
    const auto c = static_cast<unsigned char>(character[0]);
    return c < 0x20 || c == 0x7f || (c == 0xc2 && character.size() > 1 && static_cast<unsigned char>(character[1]) < 0xa0);
}

}  // namespace tool
