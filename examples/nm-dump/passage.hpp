// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "common/idle.hpp"
#include "common/run.hpp"

#include "nm/nm.hpp"

namespace nm_dump {

/// An interface and the host's stack on it, joined as `bridge -i` does, so that the host notices nothing while a monitor
/// watches what passes.
class passage {
public:
    passage(nm::context& ctx, const std::string& interface)
        : wire_(nm::open<nm::netdev>(ctx, "netmap:" + interface, options())),
          host_(nm::open<nm::netdev>(ctx, "netmap:" + interface + "^", options())) {
        if (!wire_.carries_headers()) host_.deliver_headers(false);
    }

    [[nodiscard]] const nm::port_info& info() const noexcept { return wire_.info(); }

    void work(const tool::run& run) {
        using nm::events;
        tool::idle rest;
        while (!run.stopped()) {
            if (nm::forward(wire_, host_, batch) + nm::forward(host_, wire_, batch) != 0) {
                rest.busy();
            } else if (rest.should_sleep()) {
                const auto found = nm::wait_any(tool::nap_limit, nm::watch{wire_, wanted(wire_, host_)}, nm::watch{host_, wanted(host_, wire_)});
                if (any(found[0] & events::error)) throw tool::run_error(wire_.status().error().text);
                if (any(found[1] & events::error)) throw tool::run_error(host_.status().error().text);
            }
        }
    }

private:
    static constexpr nm::index_t batch = 256;

    [[nodiscard]] static nm::open_options options() {
        nm::open_options o;
        o.offloads = true;
        o.tx_slots = o.rx_slots = 2048;
        return o;
    }
    [[nodiscard]] static bool has_room(nm::netdev& p) noexcept {
        for (nm::index_t i = 0; i < p.num_tx_rings(); ++i)
            if (p.tx(i).empty()) return false;
        return true;
    }
    /// What to wait for on `p`: frames, if `other` has room for them, and room, if it has none.
    [[nodiscard]] static nm::events wanted(nm::netdev& p, nm::netdev& other) noexcept {
        using nm::events;
        return (has_room(other) ? events::rx : events::none) | (has_room(p) ? events::none : events::tx);
    }

    nm::netdev wire_, host_;
};

}  // namespace nm_dump
