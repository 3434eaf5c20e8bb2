// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Receiving from a ring whose slots are filled in place.

#include <atomic>
#include <utility>

#include "nm/concepts.hpp"
#include "nm/notifier.hpp"
#include "nm/ring.hpp"

namespace nm {

/// What the two sides of one receive ring tell each other, each word on lines of its own.
///  tail: all slots before it have been filled. head: the receiver has given back all slots before it (low half);
///  the high half counts the times that it gave back other buffers than it got. One word, so that the sender cannot see
///  one half older than the other.
struct ring_link {
    alignas(128) std::atomic<std::uint32_t> tail{0};
    alignas(128) std::atomic<std::uint64_t> head{0};
    sleep_word rx_sleeps;
    sleep_word tx_sleeps;
};

/// Whether the other side of a link can be believed. In the same program it is: nothing is protected from it there.
struct trusted_peer {
    static constexpr bool checked = false;
};
/// Another process can write any shared word at any time, out of malice or because it has gone mad. An index of its has to lie where
/// private truth allows; one that does not is counted, and this side goes on as if it had not been written.
struct checked_peer {
    static constexpr bool checked = true;
    std::uint32_t violations = 0;  ///< not yet in the ring's counters
    std::uint32_t* given = nullptr;  ///< per slot, in shared memory: the buffer that the receiver gave back there. He alone writes it
};

/// Receives what somebody else writes into the ring's slots: the other end of a pipe, the senders on a switch, the port
/// that a monitor watches. Publishing the index that has been given back is all there is to do.
template <notifier N = eventfd_notifier, class Peer = trusted_peer>
struct link_rx {
    ring_link* link;
    index_t num_slots;
    N peer;  ///< to wake the sender
    int my_fd = -1;
    const sleep_word* beside = nullptr;  ///< of the tx ring with the same descriptor
    bool asymmetric = true;
    bool armed = false;
    bool swapped = false;   ///< buffers other than the ones that were got have been given back
    index_t seen = 0;       ///< the sender's tail, as last read
    index_t published = 0;
    std::uint32_t swaps = 0;
    [[no_unique_address]] Peer doubt{};

    /// What has arrived lies in the ring's own slots: there is nothing to get.
    static constexpr bool keeps_slots = true;

    [[nodiscard]] [[gnu::always_inline]] bool ready(index_t i) noexcept { return available(i) != 0; }
    /// Filled slots from i on; looks at the sender's index when it knows of none.
    [[nodiscard]] [[gnu::always_inline]] index_t available(index_t i) noexcept {
        if (i == seen) {
            const index_t tail = link->tail.load(std::memory_order_acquire);  // C1
            if (may_be(tail)) [[likely]]
                seen = tail;
            else if constexpr (Peer::checked)
                ++doubt.violations;
        }
        return ring_distance(i, seen, num_slots);
    }
    /// The sender fills, going forward from what it had filled, no more than it was given back, and leaves one slot empty.
    [[nodiscard]] [[gnu::always_inline]] bool may_be(index_t tail) const noexcept {
        if constexpr (Peer::checked)
            return tail < num_slots &&
                   ring_distance(seen, tail, num_slots) <= ring_distance(seen, ring_prev(published, num_slots), num_slots);
        else
            return tail < num_slots;
    }
    [[nodiscard]] std::uint32_t take_violations() noexcept
        requires(Peer::checked)
    {
        return std::exchange(doubt.violations, 0);
    }
    [[gnu::always_inline]] void get(index_t, slot&) noexcept {}
    [[gnu::always_inline]] void give(index_t, slot&) noexcept {}
    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (i != published) {
            published = i;
            swaps += swapped ? 1U : 0U;
            swapped = false;
            link->head.store(static_cast<std::uint64_t>(swaps) << 32 | i, std::memory_order_release);  // P1
            link->tx_sleeps.wake(peer, asymmetric);
        }
        if (armed) [[unlikely]] {
            armed = false;
            link->rx_sleeps.disarm();
            base::eventfd_clear(my_fd);
            if (beside != nullptr && beside->pending()) base::eventfd_signal(my_fd);
        }
    }
};
static_assert(rx_backend<link_rx<>>);

}  // namespace nm
