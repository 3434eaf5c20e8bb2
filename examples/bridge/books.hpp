// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/account.hpp"
#include "common/expect.hpp"
#include "common/open.hpp"
#include "settings.hpp"

namespace bridge {

/// One port's side of the closing account.
struct port_books {
    std::string name;
    nm::port_info info;
    nm::counters rx;
    tool::tx_account tx;
    std::uint64_t left = 0;                        ///< arrived and not taken
    std::optional<nm::sys::link_counters> kernel;  ///< since the bridge opened it
};

/// From one port's rx to another's tx: what came in is what went out, was dropped or is still there.
struct direction {
    const port_books& from;
    const port_books& to;

    [[nodiscard]] std::uint64_t dropped() const noexcept {
        return to.tx.counters.dropped() + from.rx.dropped(nm::cause::policy);
    }
    [[nodiscard]] bool conserved() const noexcept {
        return from.rx.frames == to.tx.completed + to.tx.pending + dropped() + from.left;
    }
};

struct books {
    std::vector<port_books> ports;
    double seconds = 0;
    std::uint64_t packets = 0, bytes = 0;

    [[nodiscard]] std::vector<direction> directions() const {
        if (ports.size() == 1) return {{ports[0], ports[0]}};
        return {{ports[0], ports[1]}, {ports[1], ports[0]}};
    }
    [[nodiscard]] double pps() const noexcept { return seconds > 0 ? static_cast<double>(packets) / seconds : 0; }
    [[nodiscard]] bool conserved() const {
        for (const auto& d : directions())
            if (!d.conserved()) return false;
        return true;
    }
    [[nodiscard]] std::vector<tool::outcome> judge(const tool::expectations& e) const;
    [[nodiscard]] std::string table(const settings& s, const std::vector<tool::outcome>& outcomes) const;
    [[nodiscard]] std::string to_json(const std::vector<tool::outcome>& outcomes) const;
};

[[nodiscard]] inline nm::sys::link_counters since(nm::sys::link_counters now, const nm::sys::link_counters& then) {
    now.rx_packets -= then.rx_packets;
    now.tx_packets -= then.tx_packets;
    now.rx_bytes -= then.rx_bytes;
    now.tx_bytes -= then.tx_bytes;
    now.rx_dropped -= then.rx_dropped;
    now.tx_dropped -= then.tx_dropped;
    return now;
}

template <class P>
[[nodiscard]] port_books close_books(std::string name, P& port, const std::optional<nm::sys::link_counters>& then) {
    port_books b;
    b.name = std::move(name);
    b.info = port.info();
    b.info.name = b.name;
    b.rx = port.rx_stats();
    for (nm::index_t i = 0; i < port.num_tx_rings(); ++i) b.tx.add(port.tx(i));
    for (nm::index_t i = 0; i < port.num_rx_rings(); ++i) b.left += tool::left_frames(port.rx(i));
    if (const auto now = tool::kernel_counters(port); now && then) b.kernel = since(*now, *then);
    return b;
}

}  // namespace bridge
