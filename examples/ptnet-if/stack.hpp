// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The stack's side of a joint: an interface that the system sees, whose frames come and go here behind a virtio-net header of 10
// bytes. What the stack leaves to its card (checksums, segments) is in that header.

#include <array>
#include <cerrno>
#include <cstdint>
#include <linux/if_tun.h>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include "common/failure.hpp"
#include "common/values.hpp"

#include "nm/nm.hpp"
#include "nm/sys/tap.hpp"

namespace ptnet_if {

/// The largest frame that the stack hands over with segmentation left to its card: 64 KiB of IP, Ethernet and VLAN headers.
inline constexpr std::size_t largest_frame = 65536 + 14 + 8;
inline constexpr std::size_t header_bytes = sizeof(nm::vnet_hdr);

class stack_interface {
public:
    stack_interface(const std::string& name, const tool::mac_address& mac, unsigned mtu) : tap_(make(name, mac, mtu)) {
        if (const auto c = nm::sys::read_link_counters(tap_.index())) first_ = *c;
    }

    [[nodiscard]] const std::string& name() const noexcept { return tap_.name(); }
    [[nodiscard]] int fd() const noexcept { return tap_.fd(); }

    /// Checksums are left to us still, but no frame is longer than the MTU says.
    void no_large_frames() {
        if (::ioctl(tap_.fd(), TUNSETOFFLOAD, TUN_F_CSUM) != 0) throw tool::run_error(name() + ": cannot switch TSO off: " + nm::base::errno_text(errno));
    }
    /// Whether the system sees a cable in it.
    void set_carrier(bool on) noexcept {
        int value = on ? 1 : 0;
        (void)::ioctl(tap_.fd(), TUNSETCARRIER, &value);
    }

    /// One frame, header first: its bytes, or 0 when there is none.
    [[nodiscard]] std::size_t read(std::span<const iovec> to) {
        const auto n = ::readv(tap_.fd(), to.data(), static_cast<int>(to.size()));
        if (n > 0) return static_cast<std::size_t>(n);
        if (errno != EAGAIN && errno != EINTR && errno != EIO) gone(errno);
        return 0;
    }
    /// One frame, header first. Why the stack did not take it, or nothing.
    [[nodiscard]] std::optional<nm::cause> write(std::span<const iovec> from) {
        if (::writev(tap_.fd(), from.data(), static_cast<int>(from.size())) >= 0) return std::nullopt;
        switch (errno) {
        case EIO: return nm::cause::no_dst;  // it is down
        case EINVAL: return nm::cause::bad_hdr;
        case EMSGSIZE: return nm::cause::bad_len;
        case EBADFD:
        case EFAULT: gone(errno);
        default: return nm::cause::full;
        }
    }

    /// What the kernel has counted since the interface was made, seen from its card: rx is what the stack sent. None when the
    /// interface is in another namespace now.
    [[nodiscard]] std::optional<nm::sys::link_counters> kernel_counters() const {
        const auto c = nm::sys::read_link_counters(tap_.index());
        if (!c) return std::nullopt;
        nm::sys::link_counters now;
        now.rx_packets = c->tx_packets - first_.tx_packets;
        now.tx_packets = c->rx_packets - first_.rx_packets;
        now.rx_dropped = c->tx_dropped - first_.tx_dropped;
        return now;
    }

    /// An address of our own making, for a port that has none.
    [[nodiscard]] static tool::mac_address any_mac() {
        std::random_device random;
        tool::mac_address mac{};
        for (auto& b : mac) b = static_cast<std::uint8_t>(random());
        mac[0] = static_cast<std::uint8_t>((mac[0] & 0xfcU) | 2U);
        return mac;
    }

private:
    [[nodiscard]] static nm::sys::host_tap make(const std::string& name, const tool::mac_address& mac, unsigned mtu) {
        if (nm::base::interface_exists(name.c_str())) throw tool::run_error("there is an interface " + name + " already; choose another name (-n)");
        auto tap = nm::sys::host_tap::stand_in(name, mac, mtu);
        if (!tap) throw tool::run_error(tap.error().text);
        return std::move(*tap);
    }
    [[noreturn]] void gone(int e) const { throw tool::run_error("interface " + name() + " has been deleted: " + nm::base::errno_text(e)); }

    nm::sys::host_tap tap_;
    nm::sys::link_counters first_{};
};

}  // namespace ptnet_if
