// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The way to and from the host's stack on an interface: a TAP that nobody sees the name of. What is written to it, the
// stack hears as if the interface had received it; what the stack sends on the interface is read from it once a cutoff
// diverts it there. The interface keeps its addresses, routes and connections. All of it is gone with the descriptor.

#include <cstdint>

#include "nm/base/os.hpp"
#include "nm/result.hpp"
#include "nm/sys/link.hpp"

namespace nm::sys {

/// What the TAP's frames carry on their way into the stack, so that a port on the same interface does not take them for
/// frames from the wire, and a cutoff lets them pass (and takes it off).
inline constexpr std::uint32_t host_mark = 0x6e6e0001U;

class host_tap {
public:
    [[nodiscard]] static result<host_tap> open(const link_info& link) noexcept;
    /// For packet_batch: frames behind a virtio-net header of 10 bytes, one per readv or writev.
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] unsigned index() const noexcept { return index_; }
    /// Since it was opened, as an interface would count them on the other side of the TAP: in is what the stack sent, dropped
    /// what found the TAP full (and counts as in).
    [[nodiscard]] link_counters counters() const noexcept;

private:
    base::unique_fd fd_;
    base::unique_fd marks_;  // the program that puts the mark on, where there is one
    unsigned index_ = 0;
};

}  // namespace nm::sys
