// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What lies at the beginning of the memory that a boundary is crossed in: a directory of ports, and for each the registers of
// netmap's ptnet device (netmap_virt.h, PTNET_IO_*), as words in memory. The host writes all but three of them.

#include <array>
#include <cstddef>
#include <cstdint>

#include "nm/slot.hpp"

namespace nm::ptnet {

inline constexpr std::uint64_t memory_magic = 0x3174656e74706d6eULL;  // "nmptnet1"
inline constexpr std::uint32_t memory_version = 1;
inline constexpr std::size_t max_ports = 16;  ///< in one memory
inline constexpr index_t max_rings = 32;      ///< of a port, both directions together
inline constexpr std::size_t page = 4096;

/// Vectors of a port with so many rings: one for control, then one for each.
[[nodiscard]] constexpr unsigned vectors_of(index_t tx_rings, index_t rx_rings) noexcept { return 1 + tx_rings + rx_rings; }

inline constexpr std::uint32_t feature_vnet_hdr = 1;  ///< PTNETMAP_F_VNET_HDR: each frame begins with a virtio-net header

enum class port_control : std::uint32_t { none = 0, create = 1, remove = 2 };  ///< PTNETMAP_PTCTL_*
enum class port_status : std::uint32_t { idle = 0, running = 1, gone = 2, refused = 3 };

/// One port. Guest: `wanted`, `vnet_hdr_len` asked for, `control`, in this order, then a kick of vector 0. Host: the rest;
/// `answered` last, equal to the control word that it answers (rule R5: geometry is latched by the guest when it opens).
struct alignas(64) port_registers {
    // Host, before the guest sees the memory.
    std::uint64_t region_offset;  ///< of the port's region in the memory, a multiple of a page
    std::uint64_t region_size;    ///< bytes
    std::uint64_t bufs_offset;    ///< of buffer 0 in the region
    std::uint64_t nifp_offset;    ///< of the netmap_if in the region
    std::uint64_t csb_gh_offset;  ///< of csb_atok[rings] in the region: guest to host, tx rings first
    std::uint64_t csb_hg_offset;  ///< of csb_ktoa[rings]
    std::uint32_t num_bufs;
    std::uint32_t buf_size;
    std::uint32_t num_tx_rings, num_rx_rings;
    std::uint32_t num_tx_slots, num_rx_slots;
    std::uint32_t first_vector;  ///< doorbell vectors in both directions: this one for control, then one per ring
    std::uint32_t features;      ///< offered
    std::uint32_t mac_lo, mac_hi;
    std::uint32_t mtu;
    std::array<std::uint32_t, max_rings> ring_offset;  ///< of each ring in the region, tx rings first
    std::array<char, 128> name;                        ///< on the host, ends with 0
    std::array<char, 64> mode;
    // Host, at any time.
    alignas(64) std::uint32_t link;  ///< 1: frames can pass
    std::uint32_t status;            ///< port_status
    std::uint32_t answered;          ///< the control word that has been dealt with
    std::uint32_t acked;             ///< features that both want
    // Guest.
    alignas(64) std::uint32_t control;  ///< port_control in the low byte, above it a number that is another each time
    std::uint32_t wanted;               ///< features
    std::uint32_t vnet_hdr_len;         ///< 0, 10 or 12
};
static_assert(sizeof(port_registers) % 64 == 0 && sizeof(port_registers) <= 1024);

struct alignas(64) memory_directory {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t ports;
    std::uint64_t size;     ///< of the whole memory
    std::uint32_t host_id;  ///< whom doorbells go to, where the transport numbers its peers
    std::uint64_t identity; ///< no other memory's; by it a guest finds memory that is not in the device's own BAR
    std::array<port_registers, max_ports> port;
};

/// Bytes that the directory takes; regions begin behind it.
inline constexpr std::size_t directory_bytes = (sizeof(memory_directory) + page - 1) / page * page;

}  // namespace nm::ptnet
