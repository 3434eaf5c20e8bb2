// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <ctime>
#include <sys/random.h>

namespace nm::vale {

/// Hash of a 64-bit word under a secret key, so that nobody outside can choose addresses that collide: the two halves of a
/// 128-bit product. Not crc32 and the like: those are linear, and addresses that collide under one key do so under all.
struct keyed_hash {
    std::uint64_t add;
    std::uint64_t multiply;

    [[nodiscard]] [[gnu::always_inline]] constexpr std::uint64_t operator()(std::uint64_t x) const noexcept {
        const auto product = static_cast<wide>(x ^ add) * multiply;
        return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
    }

    /// A key out of two words, of which any will do: a multiplier with few bits would be a poor one.
    [[nodiscard]] static constexpr keyed_hash from(std::uint64_t a, std::uint64_t b) noexcept {
        return {a, (b ^ 0x9e3779b97f4a7c15U) | 1U | std::uint64_t{1} << 63};
    }
    [[nodiscard]] static keyed_hash random() noexcept {
        std::uint64_t words[2];
        if (::getrandom(words, sizeof words, 0) !=
            static_cast<ssize_t>(sizeof words)) {  // a kernel before 3.17, a filter
            timespec t{};
            ::clock_gettime(CLOCK_MONOTONIC, &t);
            words[0] = reinterpret_cast<std::uintptr_t>(&words) * 0xd6e8feb86659fd93U;
            words[1] = static_cast<std::uint64_t>(t.tv_nsec) * 0xd6e8feb86659fd93U;
        }
        return from(words[0], words[1]);
    }

private:
    __extension__ using wide = unsigned __int128;
};

/// Of two sides that talk: the same whichever of them sends, since it is a sum over both. `ports` has the sender's in its low half.
[[nodiscard]] [[gnu::always_inline]] constexpr std::uint64_t both_ways(const keyed_hash& hash, std::uint64_t from, std::uint64_t to,
                                                                       std::uint32_t ports, std::uint8_t protocol) noexcept {
    return hash(hash(hash(from) + (ports & 0xffffU)) + hash(hash(to) + (ports >> 16)) + protocol);
}

}  // namespace nm::vale
