// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "nm/port_spec.hpp"
#include "nm/region.hpp"

namespace nm {

/// How a kernel interface is driven. `best` is the fastest that is correct (docs/ports.md).
enum class netdev_mode { best, af_xdp_zero_copy, af_xdp_copy, af_packet };

/// What an open may ask for. What the name says (`@conf:`, /x ...) wins over what stands here.
struct open_options {
    region_ptr memory{};               ///< live in this region; ports of one region are a trust group
    std::optional<unsigned> mem_id{};  ///< or in the context's region of this number (`@N`)
    std::optional<unsigned> tx_rings{}, rx_rings{}, tx_slots{}, rx_slots{};
    std::uint32_t extra_bufs = 0;  ///< buffers bound to no ring, listed from ni_bufs_head
    bool exclusive = false;
    bool no_tx_poll = false;  ///< wait() pushes tx rings only when tx is asked for
    bool do_rx_poll = false;  ///< wait() reads rx rings also when rx is not asked for
    bool timestamps = true;   ///< rxsync stamps the ring's ts

    netdev_mode mode = netdev_mode::best;
    bool require_mode = false;  ///< fail rather than open in another mode
    bool offloads = false;      ///< frames may carry a virtio-net header in their slot (ns_vnet)
    bool promiscuous = true;
    /// NICs by VFIO (a kernel interface has its own): longer frames are not sent, and those that do not fit a buffer take several slots.
    /// 1500, or what the device can if that is less, unless asked for.
    std::optional<unsigned> mtu{};
    bool allow_no_iommu = false;  ///< NICs by VFIO: also one that no IOMMU keeps from writing anywhere (sys/vfio.hpp)
    /// netmap:eth0*: what is released by hand goes on to the other endpoint, flagged or not (netmap's sysctl fwd=1).
    bool transparent = false;

    std::uint32_t vnet_hdr = 0;  ///< ports of a switch: bytes of virtio-net header before each frame (0, 10, 12)
    bool indirect = false;       ///< ports of a switch: ns_indirect is taken, with addresses of this process
    std::uint64_t storm_copies = 1'000'000;  ///< ports of a switch: copies of frames flooded to more than 4 ports, per second; 0: no limit

    std::uint32_t mitigation_ns = 0;  ///< at least this long between two wake-ups (generic_mit); 0: none
};

/// What a port is, opened or only asked about.
struct port_info {
    std::string name;
    std::string mode;    ///< "pipe", "null", "af_xdp zero-copy", "af_xdp copy", "af_packet" ...
    std::string reason;  ///< why this mode
    std::string advice;  ///< what would make a better one possible, as a command; empty when there is none
    index_t tx_rings = 0, rx_rings = 0, tx_slots = 0, rx_slots = 0;
    std::size_t memory = 0;  ///< bytes of the region
    std::uint32_t buf_size = 0;
};

/// Events, as a bit mask: what a wait asks for and what it found. `unsent` is for arm(): frames that were accepted, and that the
/// kernel had no room for, can go on with the next txsync.
enum class events : unsigned { none = 0, rx = 1, tx = 2, error = 4, unsent = 8 };
[[nodiscard]] constexpr events operator|(events a, events b) noexcept {
    return static_cast<events>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
[[nodiscard]] constexpr events operator&(events a, events b) noexcept {
    return static_cast<events>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}
[[nodiscard]] constexpr bool any(events e) noexcept { return e != events::none; }

}  // namespace nm
