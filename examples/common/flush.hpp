// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/account.hpp"
#include "common/idle.hpp"

namespace tool {

/// What was queued on some tx rings gets to go out, as long as some of it still does.
template <class P>
void flush_tx(P& port, nm::index_t first, nm::index_t rings) {
    const auto waiting = [&] {
        std::uint64_t slots = 0;
        for (nm::index_t i = first; i < std::min(first + rings, port.num_tx_rings()); ++i) {
            (void)port.tx(i).txsync();
            slots += pending_slots(port.tx(i));
        }
        return slots;
    };
    idle rest;
    std::uint64_t since = nm::system_clock::now_ns();
    for (std::uint64_t before = waiting(); before != 0;) {
        const std::uint64_t now_waiting = waiting();
        const std::uint64_t now = nm::system_clock::now_ns();
        if (now_waiting != before)
            since = now;
        else if (now - since > 1'000'000'000)
            return;
        before = now_waiting;
        if (rest.should_sleep()) idle::nap();
    }
}

}  // namespace tool
