// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <vector>

#include "common/account.hpp"
#include "common/expect.hpp"
#include "common/histogram.hpp"
#include "common/open.hpp"
#include "common/switch_drops.hpp"
#include "worker.hpp"

namespace pkt_gen {

/// What a run came to.
struct summary {
    tool::totals done;
    tool::tx_account tx;
    nm::counters rx, at_switch;
    tool::histogram times;
    std::uint64_t pings = 0;
    bool has_peer = false;
    nm::counters peer_received, peer_sent;
    double seconds = 0;

    template <class P>
    void collect(P& port, const std::vector<std::unique_ptr<worker>>& workers, const tool::totals& all) {
        done = all;
        for (nm::index_t i = 0; i < port.num_tx_rings(); ++i) tx.add(port.tx(i));
        rx = port.rx_stats();
        std::uint64_t began = ~std::uint64_t{0};
        std::uint64_t ended = 0;
        for (const auto& w : workers) {
            began = std::min(began, w->began);
            ended = std::max(ended, w->ended);
        }
        if (ended > began) seconds = static_cast<double>(ended - began) / 1e9;
    }

    [[nodiscard]] double pps() const noexcept { return seconds > 0 ? static_cast<double>(done.packets) / seconds : 0; }

    /// As far as it is known here.
    [[nodiscard]] std::uint64_t arrived() const noexcept { return tx.completed - std::min(tx.completed, at_switch.dropped()); }

    [[nodiscard]] std::vector<tool::outcome> judge(const settings& s) const {
        std::uint64_t sent = 0;
        std::uint64_t lost = 0;
        switch (s.what) {
            case function::tx: {
                sent = tx.queued;
                lost = sent - (has_peer ? std::min(peer_received.frames, arrived()) : arrived());
                break;
            }
            case function::pong:
                sent = tx.queued;
                lost = sent - arrived();
                break;
            case function::rx:
                sent = rx.frames + rx.dropped();
                lost = rx.dropped();
                break;
            case function::ping: sent = pings; lost = pings - times.count();
        }
        return tool::judge(s.expect, sent, lost, pps());
    }

    void print(const settings& s, const std::vector<tool::outcome>& outcomes, const nm::port_info& port) const;
};

}  // namespace pkt_gen
