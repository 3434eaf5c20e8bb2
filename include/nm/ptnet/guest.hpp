// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The using side of a boundary: rings whose slots and buffers are the host's, and of which nothing is copied or converted. The host is
// not believed either: an index that it may not say is ignored, and counted.

#include <cstdint>

#include "nm/base/os.hpp"
#include "nm/concepts.hpp"
#include "nm/counters.hpp"
#include "nm/ptnet/csb.hpp"

namespace nm::ptnet {

/// How the host is woken: an eventfd that it sleeps on, or a doorbell of a PCI device.
struct bell {
    int fd = -1;
    volatile std::uint32_t* door = nullptr;
    std::uint32_t value = 0;

    [[gnu::cold]] void notify() const noexcept {
        if (door != nullptr) *door = value;
        else if (fd >= 0) base::eventfd_signal(fd);
    }
};
static_assert(notifier<bell>);

/// What both directions do: say where the user is, and hear where the host is.
struct guest_side {
    csb_user<> csb;
    index_t num_slots = 0;
    bell host;
    int my_fd = -1;  ///< the host signals it
    live_counters* stats = nullptr;
    bool armed = false;
    index_t published = 0;  ///< head, as the host has been told
    index_t tail = 0;       ///< hwtail, as it was last believed

    /// The host owns [tail, published - 1]: it may hand over any part of that, and nothing else.
    [[gnu::always_inline]] void hear() noexcept {
        const index_t said = csb.read().second;
        if (said == tail) return;
        const index_t most = ring_distance(tail, ring_prev(published, num_slots), num_slots);
        if (said < num_slots && ring_distance(tail, said, num_slots) <= most) [[likely]]
            tail = said;
        else nonsense();
    }
    [[gnu::always_inline]] void say(index_t i) noexcept {
        if (i != published) {
            published = i;
            if (csb.publish(i, i)) [[unlikely]]
                host.notify();
        }
        if (armed) [[unlikely]]
            disarm();
    }
    [[gnu::noinline, gnu::cold]] void disarm() noexcept {
        armed = false;
        csb.disarm();
        if (my_fd >= 0) base::eventfd_clear(my_fd);
    }
    [[gnu::noinline, gnu::cold]] void nonsense() noexcept {
        if (stats != nullptr) ++stats->reinits;
    }
};

/// Sending: the slots are where the host reads them.
struct guest_tx : guest_side {
    static constexpr bool peer_polls = true;
    slot* slots = nullptr;

    [[gnu::always_inline]] void put(index_t, const slot_words&) const noexcept {}
    [[gnu::always_inline]] void put(index_t, slot&) const noexcept {}
    void hole(index_t, slot&) const noexcept {}
    void cancel(index_t i, index_t k) const noexcept {
        for (; k != 0; --k) {
            i = ring_prev(i, num_slots);
            const slot before = load_slot(slots[i]);
            slot s = before;
            s.len = 0;
            s.flags = 0;
            update_slot(slots[i], s, before);
        }
    }
    [[gnu::always_inline]] void publish(index_t i) noexcept { say(i); }
    // A host that sleeps has armed its port for what is under way: it need not be asked.
    [[gnu::always_inline]] index_t reclaim(index_t, sync_flags) noexcept {
        hear();
        return tail;
    }
    /// Whether slots came back that reclaim has not seen.
    [[nodiscard]] bool freed() noexcept {
        const index_t before = tail;
        hear();
        return tail != before;
    }
};
static_assert(tx_backend<guest_tx>);

/// Receiving: what has come lies in the slots.
struct guest_rx : guest_side {
    static constexpr bool keeps_slots = true;
    bool swapped = false;

    [[nodiscard]] [[gnu::always_inline]] bool ready(index_t i) noexcept { return available(i) != 0; }
    [[nodiscard]] [[gnu::always_inline]] index_t available(index_t i) noexcept {
        if (i == tail) hear();
        return ring_distance(i, tail, num_slots);
    }
    [[gnu::always_inline]] void get(index_t, slot&) noexcept {}
    [[gnu::always_inline]] void give(index_t, slot&) noexcept {}
    [[gnu::always_inline]] void publish(index_t i) noexcept { say(i); }
};
static_assert(rx_backend<guest_rx>);

}  // namespace nm::ptnet
