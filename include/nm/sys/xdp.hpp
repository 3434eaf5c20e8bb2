// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// AF_XDP set-up: the XDP program that hands a queue to a socket, and the socket with its four rings. The rings are
// exposed as they lie in memory, since moving packets through them is the port's business, inline in its loops.

#include <array>
#include <cstddef>
#include <cstdint>
#include <linux/if_xdp.h>

#include "nm/base/os.hpp"
#include "nm/result.hpp"
#include "nm/sys/link.hpp"

namespace nm::sys {

/// The kernel puts this much room before a received frame, whatever headroom was asked for (XDP_PACKET_HEADROOM).
inline constexpr std::uint32_t xdp_headroom = 256;
/// In unaligned mode a received address carries the offset of the frame above bit 48.
inline constexpr unsigned xdp_offset_shift = 48;
inline constexpr std::uint64_t xdp_address_mask = (std::uint64_t{1} << xdp_offset_shift) - 1;
/// Descriptor option: more of the same packet follows. Missing from Linux 6.1's headers.
inline constexpr std::uint32_t xdp_more = 1;
/// Generic transmit refuses longer packets (MAX_SKB_FRAGS + 1).
inline constexpr unsigned xdp_max_tx_frags = 18;

enum class xdp_attach { skb, native };

/// The one program that nm attaches: frames of a queue that has a socket go there, all others pass. It lives as long as
/// anybody holds the link; ports on other queues, of this process or another, join it.
class xdp_program {
public:
    /// `multi_buffer`: frames may be longer than a buffer. Not for nothing: generic receive then copies every frame
    /// into pages that it could otherwise have left where they were.
    [[nodiscard]] static result<xdp_program> open(const link_info& link, xdp_attach how, bool multi_buffer) noexcept;
    [[nodiscard]] result<void> insert(unsigned queue, int socket) noexcept;
    [[nodiscard]] bool joined() const noexcept { return joined_; }

private:
    base::unique_fd map_;
    base::unique_fd program_;
    base::unique_fd link_;
    bool joined_ = false;
};

/// One of the four rings. Whoever owns an index may read it plainly; the opposite one is acquired, the own released.
struct xdp_ring {
    std::uint32_t* producer = nullptr;
    std::uint32_t* consumer = nullptr;
    const std::uint32_t* flags = nullptr;
    void* descriptors = nullptr;  // xdp_desc for rx and tx, uint64_t for fill and completion
    std::uint32_t mask = 0;
    std::uint32_t size = 0;
};

enum class xdp_copy { any, copy, zero_copy };

struct xdp_socket_options {
    const link_info* link = nullptr;
    unsigned queue = 0;
    std::byte* memory = nullptr;  // page-aligned; the whole region
    std::size_t memory_size = 0;
    std::uint32_t stride = 0;     // of the region's buffers: frames land at offset 0 of a buffer
    std::uint32_t rx_size = 2048;  // powers of two
    std::uint32_t tx_size = 2048;
    xdp_copy copy = xdp_copy::any;
    bool multi_buffer = true;     // tried, and reported by multi_buffer()
};

struct xdp_statistics {
    std::uint64_t rx_dropped = 0;  // too long, or bad in another way
    std::uint64_t rx_invalid_descs = 0;
    std::uint64_t tx_invalid_descs = 0;
    std::uint64_t rx_ring_full = 0;
    std::uint64_t rx_fill_ring_empty_descs = 0;
};

class xdp_socket {
public:
    [[nodiscard]] static result<xdp_socket> open(const xdp_socket_options& options) noexcept;
    xdp_socket() noexcept = default;
    xdp_socket(xdp_socket&&) noexcept = default;
    xdp_socket& operator=(xdp_socket&& other) noexcept;
    ~xdp_socket() { close(); }

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] const xdp_ring& rx() const noexcept { return rx_; }
    [[nodiscard]] const xdp_ring& tx() const noexcept { return tx_; }
    [[nodiscard]] const xdp_ring& fill() const noexcept { return fill_; }
    [[nodiscard]] const xdp_ring& completion() const noexcept { return completion_; }
    [[nodiscard]] bool zero_copy() const noexcept { return zero_copy_; }
    [[nodiscard]] bool multi_buffer() const noexcept { return multi_buffer_; }
    [[nodiscard]] xdp_statistics statistics() const noexcept;

    /// One system call each; 0 or errno. In copy mode EAGAIN means "there is more to do", EBUSY that a frame was
    /// dropped by the kernel and completed all the same.
    [[nodiscard, gnu::cold]] int kick_tx() const noexcept;
    [[nodiscard, gnu::cold]] int kick_rx() const noexcept;

    /// Unmaps first: the kernel keeps a queue busy while its rings are mapped.
    void close() noexcept;

private:
    [[nodiscard]] result<void> map_rings(const std::string& what) noexcept;

    base::unique_fd fd_;
    std::array<base::mapping, 4> maps_;
    xdp_ring rx_, tx_, fill_, completion_;
    bool zero_copy_ = false;
    bool multi_buffer_ = false;
};

}  // namespace nm::sys
