// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>

namespace nm {

/// The virtio-net header without num_buffers (virtio 1.2, 5.1.6): what a frame still wants done. 10 bytes, little
/// endian, as the kernel and virtual machines exchange it.
struct vnet_hdr {
    std::uint8_t flags;
    std::uint8_t gso_type;
    std::uint16_t hdr_len;
    std::uint16_t gso_size;     ///< bytes of payload per segment
    std::uint16_t csum_start;   ///< checksum covers from here to the end
    std::uint16_t csum_offset;  ///< and is stored here, counted from csum_start
};
static_assert(sizeof(vnet_hdr) == 10 && offsetof(vnet_hdr, csum_offset) == 8);

inline constexpr std::uint8_t vnet_needs_csum = 1;
inline constexpr std::uint8_t vnet_data_valid = 2;
inline constexpr std::uint8_t vnet_gso_none = 0;
inline constexpr std::uint8_t vnet_gso_tcpv4 = 1;
inline constexpr std::uint8_t vnet_gso_udp = 3;  ///< UDP by IP fragmentation
inline constexpr std::uint8_t vnet_gso_tcpv6 = 4;
inline constexpr std::uint8_t vnet_gso_udp_l4 = 5;  ///< UDP datagram by datagram
inline constexpr std::uint8_t vnet_gso_ecn = 0x80;

/// A header folded into a slot's `ptr` (with ns_vnet): flags 2 bits, type 4 with ecn, gso_size 16, csum_start 16,
/// csum_offset 8, hdr_len 16: 62 bits. Lossless for every header that valid_vnet accepts.
[[nodiscard]] constexpr std::uint64_t pack(const vnet_hdr& h) noexcept {
    const auto type = static_cast<std::uint64_t>((h.gso_type & 7U) | (h.gso_type & vnet_gso_ecn ? 8U : 0U));
    return (h.flags & 3U) | type << 2 | static_cast<std::uint64_t>(h.csum_offset & 0xffU) << 8 |
           static_cast<std::uint64_t>(h.gso_size) << 16 | static_cast<std::uint64_t>(h.csum_start) << 32 |
           static_cast<std::uint64_t>(h.hdr_len) << 48;
}

[[nodiscard]] constexpr vnet_hdr unpack(std::uint64_t p) noexcept {
    vnet_hdr h{};
    h.flags = static_cast<std::uint8_t>(p & 3U);
    h.gso_type = static_cast<std::uint8_t>(((p >> 2) & 7U) | ((p >> 2) & 8U ? vnet_gso_ecn : 0U));
    h.csum_offset = static_cast<std::uint16_t>((p >> 8) & 0xffU);
    h.gso_size = static_cast<std::uint16_t>(p >> 16);
    h.csum_start = static_cast<std::uint16_t>(p >> 32);
    h.hdr_len = static_cast<std::uint16_t>(p >> 48);
    return h;
}

/// Whether a header is one that a frame of `len` bytes may carry. Headers come from kernels, guests and other
/// processes: nothing in one is used before this said yes.
[[nodiscard]] constexpr bool valid_vnet(const vnet_hdr& h, std::size_t len) noexcept {
    if ((h.flags & ~(vnet_needs_csum | vnet_data_valid)) != 0) return false;
    if (h.flags & vnet_needs_csum) {
        if (h.csum_offset > 0xff) return false;
        if (static_cast<std::size_t>(h.csum_start) + h.csum_offset + 2 > len) return false;
    }
    switch (h.gso_type & ~vnet_gso_ecn) {
        case vnet_gso_none: return h.gso_type == vnet_gso_none;
        case vnet_gso_tcpv4:
        case vnet_gso_tcpv6: return h.gso_size != 0 && (h.flags & vnet_needs_csum) != 0;
        case vnet_gso_udp:
        case vnet_gso_udp_l4: return h.gso_size != 0 && (h.gso_type & vnet_gso_ecn) == 0;
        default: return false;
    }
}

}  // namespace nm
