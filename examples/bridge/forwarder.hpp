// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <poll.h>

#include "common/idle.hpp"
#include "common/run.hpp"
#include "settings.hpp"
#include "side.hpp"

namespace bridge {

/// What the forwarding thread shares with the reporting one: a tally per direction.
struct shared {
    tool::run& run;
    const settings& s;
    tool::tally forth = {}, back = {};
};

/// Two ports and how frames move between them.
struct pair {
    std::unique_ptr<side> a, b;
    mover forth, back;
};

/// Sleeps until there is work on either side, or it is time to look whether the run was stopped.
inline void wait_for_either(side& a, nm::events of_a, side& b, nm::events of_b) {
    using nm::events;
    const events now_a = a.look(of_a), now_b = b.look(of_b);
    if (any(now_a & events::error)) a.throw_if_lost();
    if (any(now_b & events::error)) b.throw_if_lost();
    if (any(now_a | now_b)) return;
    a.arm(of_a);
    b.arm(of_b);
    std::array<pollfd, 2> fds{pollfd{a.fd(), POLLIN, 0}, pollfd{b.fd(), POLLIN, 0}};
    (void)::poll(fds.data(), fds.size(), static_cast<int>(tool::nap_limit.count()));
}

/// Moves frames both ways between two ports until the run is over: busy while there is something to do, asleep when
/// there was nothing for a while. One port: what comes goes back.
inline void forward_between(pair& p, shared& w) {
    using nm::events;
    const auto& s = w.s;
    side& a = *p.a;
    side& b = p.b ? *p.b : a;
    const bool both = p.b != nullptr;
    tool::idle rest;
    std::uint64_t moved = 0;
    unsigned rounds = 0;
    while (!w.run.stopped() && (s.count == 0 || moved < s.count)) {
        const auto batch = [&] {
            return s.count == 0 ? s.burst : static_cast<nm::index_t>(std::min<std::uint64_t>(s.burst, s.count - moved));
        };
        const nm::index_t forth = p.forth(a, b, batch());
        moved += forth;
        const nm::index_t back = !both || (s.count != 0 && moved >= s.count) ? 0 : p.back(b, a, batch());
        moved += back;
        b.look_at(w.forth, forth);
        if (both) a.look_at(w.back, back);
        if (forth + back != 0) {
            rest.busy();
            if ((++rounds & 1023U) != 0) continue;
            a.throw_if_lost();
            b.throw_if_lost();
        } else if (rest.should_sleep()) {
            const bool room_a = a.has_room();
            const bool room_b = b.has_room();
            if (both)
                wait_for_either(a, (room_b ? events::rx : events::none) | (room_a ? events::none : events::tx), b,
                                (room_a ? events::rx : events::none) | (room_b ? events::none : events::tx));
            else wait_for_either(a, room_a ? events::rx : events::tx, a, room_a ? events::rx : events::tx);
        }
    }
    a.flush();
    if (both) b.flush();
}

}  // namespace bridge
