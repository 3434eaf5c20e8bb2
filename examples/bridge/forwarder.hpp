// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "common/account.hpp"
#include "common/idle.hpp"
#include "common/report.hpp"
#include "common/run.hpp"
#include "settings.hpp"

namespace bridge {

/// What the forwarding thread shares with the reporting one: a tally per direction.
struct shared {
    tool::run& run;
    const settings& s;
    tool::tally forth = {}, back = {};
};

template <class P>
void throw_if_lost(P& port) {
    if (auto ok = port.status(); !ok) throw tool::run_error(ok.error().text);
}

/// Whether each tx ring of a port has room: where one has none, waiting for more to send would not be waiting.
template <class P>
[[nodiscard]] bool has_room(P& port) noexcept {
    for (nm::index_t i = 0; i < port.num_tx_rings(); ++i)
        if (port.tx(i).empty()) return false;
    return true;
}

/// What has gone into a port so far: nobody else sends there.
template <class P>
void look_at(P& port, tool::tally& t, nm::index_t moved) noexcept {
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;
    std::uint32_t space = 0;
    for (nm::index_t i = 0; i < port.num_tx_rings(); ++i) {
        const auto& ring = port.tx(i);
        packets += ring.stats().frames;
        bytes += ring.stats().bytes;
        space = std::max(space, ring.space());
    }
    t.set(packets, bytes);
    if (moved != 0) t.event(space);
}

/// What was queued on a port gets to go out, as long as some of it still does.
template <class P>
void flush(P& port) {
    std::uint64_t before = 0;
    std::uint64_t since = nm::system_clock::now_ns();
    for (;;) {
        std::uint64_t waiting = 0;
        for (nm::index_t i = 0; i < port.num_tx_rings(); ++i) {
            (void)port.tx(i).txsync();
            waiting += tool::pending_slots(port.tx(i));
        }
        const std::uint64_t now = nm::system_clock::now_ns();
        if (waiting != before) since = now;
        if (waiting == 0 || now - since > 500'000'000) return;
        before = waiting;
        tool::idle::nap();
    }
}

/// Moves frames both ways between two ports until the run is over: busy while there is something to do, asleep when
/// there was nothing for a while.
template <class A, class B>
void forward_both(A& a, B& b, shared& w) {
    const auto& s = w.s;
    tool::idle rest;
    std::uint64_t moved = 0;
    unsigned rounds = 0;
    while (!w.run.stopped() && (s.count == 0 || moved < s.count)) {
        const auto batch = [&] {
            return s.count == 0 ? s.burst : static_cast<nm::index_t>(std::min<std::uint64_t>(s.burst, s.count - moved));
        };
        const nm::index_t forth = nm::forward(a, b, batch());
        moved += forth;
        const nm::index_t back = s.count != 0 && moved >= s.count ? 0 : nm::forward(b, a, batch());
        moved += back;
        look_at(b, w.forth, forth);
        look_at(a, w.back, back);
        if (forth + back != 0) {
            rest.busy();
            if ((++rounds & 1023U) != 0) continue;
            throw_if_lost(a);
            throw_if_lost(b);
        } else if (rest.should_sleep()) {
            using nm::events;
            const bool room_a = has_room(a);
            const bool room_b = has_room(b);
            const auto found =
                nm::wait_any(tool::nap_limit,
                             nm::watch{a, (room_b ? events::rx : events::none) | (room_a ? events::none : events::tx)},
                             nm::watch{b, (room_a ? events::rx : events::none) | (room_b ? events::none : events::tx)});
            if (any(found[0] & events::error)) throw_if_lost(a);
            if (any(found[1] & events::error)) throw_if_lost(b);
        }
    }
    flush(a);
    flush(b);
}

/// One port: what comes goes back.
template <class A>
void forward_back(A& a, shared& w) {
    const auto& s = w.s;
    tool::idle rest;
    std::uint64_t moved = 0;
    unsigned rounds = 0;
    while (!w.run.stopped() && (s.count == 0 || moved < s.count)) {
        const nm::index_t batch =
            s.count == 0 ? s.burst : static_cast<nm::index_t>(std::min<std::uint64_t>(s.burst, s.count - moved));
        const nm::index_t n = nm::forward(a, a, batch);
        moved += n;
        look_at(a, w.forth, n);
        if (n != 0) {
            rest.busy();
            if ((++rounds & 1023U) == 0) throw_if_lost(a);
        } else if (rest.should_sleep()) {
            const auto wanted = has_room(a) ? nm::events::rx : nm::events::tx;
            if (any(nm::wait(a, wanted, tool::nap_limit) & nm::events::error)) throw_if_lost(a);
        }
    }
    flush(a);
}

}  // namespace bridge
