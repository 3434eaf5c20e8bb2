// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <cerrno>
#include <chrono>
#include <poll.h>
#include <tuple>

#include "nm/clock.hpp"
#include "nm/port.hpp"

namespace nm {

/// A port and what one wants of it, for wait_any.
template <class P>
struct watch {
    P& port;
    events wanted;
};
template <class P>
watch(P&, events) -> watch<P>;

/// No limit.
inline constexpr std::chrono::milliseconds forever{-1};

namespace detail {

// netmap's poll: tx rings are pushed even when only reading is asked for, unless no_tx_poll; rx rings are read only
// when reading is asked for, unless do_rx_poll. A direction is ready when some ring has cur != tail.
template <class P>
[[nodiscard]] events sync_and_look(P& p, events wanted) noexcept {
    events found = events::none;
    if (any(wanted & events::tx) || !p.no_tx_poll())
        for (index_t i = 0; i < p.num_tx_rings(); ++i) (void)p.tx(i).txsync();
    if (any(wanted & events::rx) || p.do_rx_poll())
        for (index_t i = 0; i < p.num_rx_rings(); ++i) (void)p.rx(i).rxsync();
    if (any(wanted & events::tx))
        for (index_t i = 0; i < p.num_tx_rings(); ++i)
            if (!p.tx(i).empty()) found = found | events::tx;
    if (any(wanted & events::rx))
        for (index_t i = 0; i < p.num_rx_rings(); ++i)
            if (!p.rx(i).empty()) found = found | events::rx;
    if (!any(found) && !p.status()) found = events::error;
    return found;
}

}  // namespace detail

/// Waits until one of several ports has what was asked of it, at most `timeout` (forever: no limit; 0: look once). The
/// result has one entry per port: what is ready there, error when a port can do no more, none for the rest; all none
/// on a timeout or a signal. netmap's poll semantics: rings are synced on the way, before the first look too.
template <class... Ports>
[[nodiscard]] std::array<events, sizeof...(Ports)> wait_any(std::chrono::milliseconds timeout, watch<Ports>... w) {
    std::array<events, sizeof...(Ports)> found{};
    const std::uint64_t start = system_clock::now_ns();
    for (;;) {
        std::size_t at = 0;
        bool some = false;
        ((found[at] = detail::sync_and_look(w.port, w.wanted), some |= any(found[at]), ++at), ...);
        if (some || timeout.count() == 0) return found;
        int ms = -1;
        if (timeout.count() > 0) {
            const auto passed = static_cast<std::int64_t>((system_clock::now_ns() - start) / 1'000'000);
            if (passed >= timeout.count()) return found;
            ms = static_cast<int>(std::min<std::int64_t>(timeout.count() - passed, 1'000'000'000));
        }
        // What the syncs above could not push may be pushed when there is room.
        (w.port.arm(w.port.no_tx_poll() ? w.wanted : w.wanted | events::unsent), ...);
        std::array<pollfd, sizeof...(Ports)> fds{pollfd{w.port.fd(), POLLIN, 0}...};
        if (::poll(fds.data(), fds.size(), ms) < 0 && errno == EINTR) return found;
    }
}

/// wait_any for one port.
template <class P>
[[nodiscard]] events wait(P& p, events wanted, std::chrono::milliseconds timeout = forever) {
    return wait_any(timeout, watch<P>{p, wanted})[0];
}

}  // namespace nm
