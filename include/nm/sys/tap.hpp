// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The way to and from the host's stack on an interface: a TAP that nobody sees the name of. What is written to it, the
// stack hears as if the interface had received it; what the stack sends on the interface is read from it once a cutoff
// diverts it there. The interface keeps its addresses, routes and connections. All of it is gone with the descriptor.

#include <array>
#include <cstdint>
#include <string>

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
    /// An interface of that name and address, up, with no other behind it: the stack's end of a NIC that it does not see (a
    /// VFIO device's host rings). What is written to it, the stack receives; what the stack sends there is read from it.
    [[nodiscard]] static result<host_tap> stand_in(const std::string& name, const std::array<std::uint8_t, 6>& mac, unsigned mtu) noexcept;
    /// For packet_batch: frames behind a virtio-net header of 10 bytes, one per readv or writev.
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    [[nodiscard]] unsigned index() const noexcept { return index_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// Since it was opened, as an interface would count them on the other side of the TAP: in is what the stack sent, dropped
    /// what found the TAP full (and counts as in).
    [[nodiscard]] link_counters counters() const noexcept;

private:
    base::unique_fd fd_;
    base::unique_fd marks_;  // the program that puts the mark on, where there is one
    unsigned index_ = 0;
    std::string name_;

    [[nodiscard]] int make(const char* name) noexcept;
    [[nodiscard]] int take_offloads() noexcept;
};

}  // namespace nm::sys
