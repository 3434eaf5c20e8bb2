// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>

namespace nm::vale {

/// One load out of a frame at any address: a frame may change at any time, and what was checked must be what is used.
template <class T>
[[nodiscard]] [[gnu::always_inline]] inline T peek(const std::uint8_t* p) noexcept {
    struct [[gnu::packed, gnu::may_alias]] anywhere {
        T value;
    };
    return reinterpret_cast<const volatile anywhere*>(p)->value;
}

/// A 16-bit number in network order.
[[nodiscard]] [[gnu::always_inline]] inline std::uint16_t peek16(const std::uint8_t* p) noexcept {
    return __builtin_bswap16(peek<std::uint16_t>(p));
}

inline constexpr std::uint16_t ether_ipv4 = 0x0800, ether_ipv6 = 0x86dd, ether_vlan = 0x8100,
                               ether_service_vlan = 0x88a8;

}  // namespace nm::vale
