// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <poll.h>

#include "nm/ports/netdev_wait.hpp"
#include "nm/ports/packet_rx.hpp"

namespace nm {

/// A pair of rings whose frames pass one descriptor: an AF_PACKET socket, or a TAP to the host's stack.
struct packet_rings {
    packet_tx_state tx;
    packet_rx_state rx;

    struct place {
        int fd;
        region* memory;
        netdev_sleeper* sleeper;
        slot* tx;
        slot* rx;
        index_t tx_slots, rx_slots;
        std::uint32_t max_len;  ///< of a frame without a VLAN tag
        bool offloads;
    };
    void set_up(const place& p) {
        tx.socket = rx.socket = p.fd;
        p.sleeper->over(p.fd);
        p.sleeper->serve<events::tx>(tx, p.memory, p.tx, p.tx_slots);
        p.sleeper->serve<events::rx>(rx, p.memory, p.rx, p.rx_slots);
        tx.queue.resize(p.tx_slots);
        tx.max_len = p.max_len;
        rx.offloads = p.offloads;
        rx.ready.resize(p.rx_slots);
        rx.free.resize(p.rx_slots);
        rx.lent.resize(std::size_t{packet_rx_state::batch_frames} * packet_rx_state::most_pieces);
    }
    [[nodiscard]] packet_tx tx_steps() noexcept { return {&tx, tx.queue.data()}; }
    /// With the buffers that lie in the slots, the first of which is taken first.
    [[nodiscard]] packet_rx rx_steps() noexcept {
        packet_rx p{&rx, rx.ready.data(), rx.free.data()};
        for (index_t k = rx.num_slots; k-- != 0;) p.give(rx.slots[k]);
        return p;
    }

    /// Whether frames that were accepted wait for the kernel to have room, and somebody is to be woken then.
    [[nodiscard]] bool waits(events e) const noexcept {
        return any(e & (events::tx | events::unsent)) && tx.sent != tx.published;
    }
    /// Whether there is work already, for who is about to sleep.
    template <class RxRing>
    [[nodiscard]] bool look(events e, RxRing& r, bool unsent) noexcept {
        bool ready = false;
        if (any(e & events::rx) && !r.waits_in_vain()) {
            rx.dry = false;
            ready = r.backend().ready(r.truth().hwtail);
            rx.dry = false;
        }
        pollfd room{tx.socket, POLLOUT, 0};
        return ready || (unsent && ::poll(&room, 1, 0) == 1);
    }
    /// Every slot gets a buffer again, so that the region's pool gets all of them back.
    void restore(index_t hwtail, const packet_rx& b) noexcept { rx.restore(hwtail, b.at, b.end, b.free_count); }
};

}  // namespace nm
