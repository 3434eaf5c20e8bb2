// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// AF_PACKET: a raw socket that carries the offloads' metadata along (virtio-net header, VLAN tag), and batches of
// frames for recvmmsg and sendmmsg over plain iovecs that point straight at the region's buffers.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <sys/uio.h>

#include "nm/base/os.hpp"
#include "nm/result.hpp"
#include "nm/sys/link.hpp"

namespace nm::sys {

inline constexpr std::size_t vnet_header_bytes = 10;
/// The longest frame that the kernel hands over at once: a GSO frame with its headers.
inline constexpr std::size_t packet_max_frame = (std::size_t{1} << 16) + 256;

struct packet_options {
    const link_info* link = nullptr;
    bool promiscuous = true;
    std::optional<unsigned> queue{};  // only frames received on this queue
    std::uint32_t mark = 0;         // what lets its frames past the cut-off (cutoff::mark)
    int receive_buffer = 32 << 20;  // as much of it as the kernel lets us have
    int send_buffer = 8 << 20;
};

class packet_socket {
public:
    [[nodiscard]] static result<packet_socket> open(const packet_options& options) noexcept;
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    /// Frames that the kernel dropped because the socket was full, since it was opened.
    [[nodiscard]] std::uint64_t kernel_drops() noexcept;
    /// From here on frames with this mark are none of its business (host_mark).
    [[nodiscard]] result<void> ignore(std::uint32_t mark) noexcept;
    /// As packet_options::mark, later.
    [[nodiscard]] result<void> set_mark(std::uint32_t mark) noexcept;

private:
    base::unique_fd fd_;
    std::uint64_t drops_ = 0;
};

/// Makes an interface promiscuous for as long as the descriptor lives, and receives nothing.
[[nodiscard]] result<base::unique_fd> hold_promiscuous(const link_info& link) noexcept;

struct packet_info {
    std::uint32_t len = 0;    // of the frame as it was in the kernel, without a tag that is held outside it
    bool truncated = false;   // more than the pieces held
    bool tagged = false;      // a VLAN tag is to be put in after the addresses
    std::uint16_t tpid = 0;
    std::uint16_t tci = 0;
    std::array<std::byte, vnet_header_bytes> header{};  // virtio-net header, about the frame without that tag
};

/// For claim_interface, in place of a queue.
inline constexpr int whole_interface = -1, host_rings = -2;

/// Says to all programs of this network namespace that an interface, one of its queues, or its host rings are taken; gone
/// with the descriptor. EBUSY when they are. Two AF_PACKET sockets would both get every frame, and the kernel does not mind.
[[nodiscard]] result<base::unique_fd> claim_interface(unsigned index, int queue, const std::string& name);

/// Up to `frames` frames of up to `pieces` pieces each, to or from a packet_socket, or a host_tap, which takes and gives them
/// one by one.
class packet_batch {
public:
    enum class direction { receive, send };
    packet_batch(direction d, unsigned frames, unsigned pieces);
    packet_batch(packet_batch&&) noexcept;
    packet_batch& operator=(packet_batch&&) noexcept;
    ~packet_batch();

    [[nodiscard]] unsigned capacity() const noexcept { return frames_; }
    /// Where frame m's pieces are listed.
    [[nodiscard]] iovec* pieces(unsigned m) noexcept { return iov_ + static_cast<std::size_t>(m) * (pieces_ + 1) + 1; }
    void set_pieces(unsigned m, unsigned count) noexcept;
    void set_header(unsigned m, const std::array<std::byte, vnet_header_bytes>& header) noexcept;

    /// Never wait. Frames moved, or -errno when not even one was.
    [[nodiscard]] int receive(int fd, unsigned count) noexcept;
    [[nodiscard]] int send(int fd, unsigned first, unsigned count) noexcept;
    [[nodiscard]] packet_info info(unsigned m) const noexcept;
    void one_by_one() noexcept { single_ = true; }

private:
    [[nodiscard]] int receive_single(int fd, unsigned count) noexcept;
    [[nodiscard]] int send_single(int fd, unsigned first, unsigned count) noexcept;
    struct memory;
    std::unique_ptr<memory> memory_;
    iovec* iov_ = nullptr;
    unsigned frames_ = 0;
    unsigned pieces_ = 0;
    bool single_ = false;
};

}  // namespace nm::sys
