// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "nm/ports/nic_device.hpp"

namespace nm::intel {

/// A station's address in a pair of registers, RAL and RAH (82574 datasheet, 10.2.5.15; 82599, 8.2.3.7.8).
struct address_registers {
    static constexpr std::uint32_t valid = 1U << 31;  // AV, in the high one
    std::uint32_t low = 0, high = 0;

    constexpr address_registers(std::uint32_t l, std::uint32_t h) noexcept : low(l), high(h) {}
    explicit constexpr address_registers(const mac_address& m) noexcept : high(valid) {
        for (unsigned i = 0; i < 4; ++i) low |= std::uint32_t{m[i]} << 8 * i;
        for (unsigned i = 4; i < 6; ++i) high |= std::uint32_t{m[i]} << 8 * (i - 4);
    }
    [[nodiscard]] constexpr mac_address mac() const noexcept {
        mac_address m{};
        for (unsigned i = 0; i < 6; ++i) m[i] = static_cast<std::uint8_t>(i < 4 ? low >> 8 * i : high >> 8 * (i - 4));
        return m;
    }
};

}  // namespace nm::intel
