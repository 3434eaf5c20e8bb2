// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What a kernel interface is, and what becomes of it. nm only asks: it never changes an interface's settings, since a
// kill -9 could not undo them.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nm/base/os.hpp"
#include "nm/result.hpp"

namespace nm::sys {

/// The offloads that decide whether a frame is complete when user space sees it.
struct offload_flags {
    bool rx_csum = false;
    bool tx_csum = false;
    bool tso = false;
    bool gso = false;
    bool gro = false;
    bool lro = false;
    bool rx_vlan = false;
    bool tx_vlan = false;
};

struct link_info {
    std::string name;
    unsigned index = 0;
    std::array<std::uint8_t, 6> mac{};
    unsigned mtu = 0;
    bool up = false;
    bool running = false;
    bool ethernet = false;
    bool loopback = false;
    std::string driver;  // ethtool's: "veth", "e1000e" ...
    std::string kind;    // IFLA_INFO_KIND: "veth", "tun", "bridge" ...; empty for hardware
    bool physical = false;
    unsigned rx_queues = 1;
    unsigned tx_queues = 1;
    offload_flags offloads;
    bool tun_vnet_hdr = false;      // a TAP whose owner may hand over partial checksums and GSO frames
    bool has_peer = false;          // a veth; its other end is known to the kernel
    std::string peer_name;          // empty if the other end is not visible from here
    std::string peer_netns;         // path of its network namespace, if that is another one
    std::optional<offload_flags> peer_offloads;
    bool carries_default_route = false;
    unsigned xdp_program_id = 0;    // 0: none attached
};

struct link_counters {
    std::uint64_t rx_packets = 0;
    std::uint64_t tx_packets = 0;
    std::uint64_t rx_bytes = 0;
    std::uint64_t tx_bytes = 0;
    std::uint64_t rx_dropped = 0;
    std::uint64_t tx_dropped = 0;
};

[[nodiscard]] bool link_exists(std::string_view name) noexcept;
[[nodiscard]] result<link_info> query_link(std::string_view name) noexcept;
[[nodiscard]] result<std::vector<std::string>> list_links() noexcept;
[[nodiscard]] result<link_counters> read_link_counters(unsigned index) noexcept;

/// What has happened to the watched interface since the last look; down and gone are states, mtu_changed is sticky.
struct link_state {
    bool down = false;
    bool gone = false;
    bool mtu_changed = false;
    unsigned mtu = 0;
    [[nodiscard]] bool lost() const noexcept { return down || gone || mtu_changed; }
};

/// Follows one interface by rtnetlink. fd() becomes readable when something may have happened; look() never waits.
class link_watch {
public:
    [[nodiscard]] static result<link_watch> open(const link_info& link) noexcept;
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    const link_state& look() noexcept;
    [[nodiscard]] const link_state& state() const noexcept { return state_; }

private:
    void ask() noexcept;

    base::unique_fd fd_;
    unsigned index_ = 0;
    unsigned mtu_ = 0;
    link_state state_;
};

}  // namespace nm::sys
