// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The two ways to a kernel interface behind one type, so that code which holds rings need not know which it is. The
// branch goes the same way every time; no step is an indirect call.

#include "nm/ports/packet_rx.hpp"
#include "nm/ports/xdp.hpp"

namespace nm {

struct netdev_tx {
    xdp_tx x;
    packet_tx p;

    [[gnu::always_inline]] void put(index_t i, slot& s) noexcept {
        if (p.state != nullptr) p.put(i, s);
        else x.put(s);
    }
    [[nodiscard]] [[gnu::always_inline]] bool takes(const slot_words& s) const noexcept {
        return p.state != nullptr || x.takes(s);
    }
    [[gnu::always_inline]] void put_plain(index_t i, const slot_words& s) noexcept {
        if (p.state != nullptr) p.put(i, from_words(s));
        else x.put_plain(s);
    }
    void hole(index_t i, const slot& s) noexcept {
        if (p.state != nullptr) p.put(i, s);
        else x.at = x.state->put_special(s, x.at);
    }
    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (p.state != nullptr) p.state->publish(i);
        else x.state->publish(x.at.complete);
    }
    [[nodiscard]] [[gnu::always_inline]] index_t reclaim(index_t, sync_flags) noexcept {
        return p.state != nullptr ? p.state->reclaim() : x.state->reclaim();
    }
    /// AF_XDP's buffers come back in any order.
    [[nodiscard]] bool returns_frames() const noexcept { return p.state != nullptr; }
    void cancel(index_t i, index_t k) noexcept {
        if (p.state != nullptr) p.cancel(i, k);
        else x.at.written = x.state->take_back(x.at);
    }
};

struct netdev_rx {
    xdp_rx x;
    packet_rx p;

    [[nodiscard]] [[gnu::always_inline]] bool ready(index_t) noexcept {
        return p.state != nullptr ? p.ready() : x.ready();
    }
    [[nodiscard]] [[gnu::always_inline]] index_t available(index_t) noexcept {
        return p.state != nullptr ? p.available() : x.available();
    }
    [[gnu::always_inline]] void get(index_t, slot& s) noexcept {
        if (p.state != nullptr) p.get(s);
        else x.get(s);
    }
    [[gnu::always_inline]] void give(index_t, slot& s) noexcept {
        if (p.state != nullptr) p.give(s);
        else x.give(s);
    }
    [[gnu::always_inline]] void publish(index_t) noexcept {
        if (p.state != nullptr) p.state->publish();
        else x.state->publish(x.taken, x.given);
    }
};

static_assert(tx_backend<netdev_tx> && rx_backend<netdev_rx>);

}  // namespace nm
