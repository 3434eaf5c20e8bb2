// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <sys/types.h>

#include "nm/ring.hpp"

namespace nm {

inline constexpr std::uint32_t api_version = 14;  ///< NETMAP_API
inline constexpr std::uint32_t ni_priv_mem = 0x1;

/// netmap_if, byte for byte (API 14): where a port's rings are. 56 bytes, then one offset per ring, in the order tx,
/// host tx, rx, host rx; 0 for a ring that is not open. Offsets are from this struct, in bytes. Rings are counted from the
/// port's own on: ring ni_tx_rings is the first host tx ring.
struct interface {
    char ni_name[16];
    std::uint32_t ni_version;
    std::uint32_t ni_flags;
    std::uint32_t ni_tx_rings;
    std::uint32_t ni_rx_rings;
    std::uint32_t ni_bufs_head;  ///< extra buffers: a list through the first u32 of each, ended by 0
    std::uint32_t ni_host_tx_rings;
    std::uint32_t ni_host_rx_rings;
    std::uint32_t ni_spare[3];

    [[nodiscard]] std::int64_t* ring_ofs() noexcept { return reinterpret_cast<std::int64_t*>(this + 1); }
    [[nodiscard]] ring* ring_at(std::size_t entry) noexcept {
        return reinterpret_cast<ring*>(reinterpret_cast<std::byte*>(this) + ring_ofs()[entry]);
    }
    [[nodiscard]] ring* tx_ring(std::size_t i) noexcept { return ring_at(i); }
    [[nodiscard]] ring* rx_ring(std::size_t i) noexcept { return ring_at(ni_tx_rings + ni_host_tx_rings + i); }
};

static_assert(sizeof(interface) == 56 && sizeof(ssize_t) == sizeof(std::int64_t));
static_assert(offsetof(interface, ni_version) == 16 && offsetof(interface, ni_flags) == 20);
static_assert(offsetof(interface, ni_tx_rings) == 24 && offsetof(interface, ni_rx_rings) == 28);
static_assert(offsetof(interface, ni_bufs_head) == 32 && offsetof(interface, ni_host_tx_rings) == 36);
static_assert(offsetof(interface, ni_host_rx_rings) == 40 && offsetof(interface, ni_spare) == 44);

/// Bytes of an interface with `rings` rings in all.
[[nodiscard]] constexpr std::size_t interface_bytes(std::size_t rings) noexcept {
    return sizeof(interface) + rings * sizeof(std::int64_t);
}

}  // namespace nm
