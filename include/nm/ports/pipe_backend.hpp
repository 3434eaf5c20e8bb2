// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The two halves of a pipe's ring pair: one-slot steps over slots that both ends see.

#include <atomic>

#include "nm/concepts.hpp"
#include "nm/notifier.hpp"
#include "nm/ring.hpp"

namespace nm {

/// What the two ends of one direction tell each other, each word on lines of its own.
///  tail: the sender has filled all slots before it. head: the receiver has given back all slots before it (low half);
///  the high half counts the times that it gave back other buffers than it got. One word, so that the sender cannot see
///  one half older than the other.
struct pipe_link {
    alignas(128) std::atomic<std::uint32_t> tail{0};
    alignas(128) std::atomic<std::uint64_t> head{0};
    sleep_word rx_sleeps;
    sleep_word tx_sleeps;
};

/// The sending half. Slot i of the tx ring and slot i of the peer's rx ring are a pair with one buffer, as in netmap:
/// put copies the slot across, and only where it differs. What comes back is the same buffer, unless the receiver says
/// that it swapped.
template <notifier N = eventfd_notifier>
struct pipe_tx {
    static constexpr bool peer_polls = true;  ///< the other side is a core: looking at its line slows it
    slot* mine;
    slot* peers;
    pipe_link* link;
    index_t num_slots;
    std::uint32_t num_bufs;
    N peer;  ///< to wake the receiver
    int my_fd = -1;
    const sleep_word* beside = nullptr;  ///< of the rx ring with the same descriptor: its wake-up is not ours to clear
    bool asymmetric = true;
    bool armed = false;
    index_t returned = 0;  ///< the receiver's head, as last read
    index_t published = 0;
    std::uint32_t swaps = 0;

    [[gnu::always_inline]] void put(index_t i, slot_words w) const noexcept {
        const slot_words there = load_words(peers[i]);
        constexpr std::uint64_t flag = slot_words::bits(ns_buf_changed);
        w.lo = w.buf_idx() != there.buf_idx() ? w.lo | flag : w.lo & ~flag;
        update_words(peers[i], w, there);
    }
    [[gnu::always_inline]] void put(index_t i, slot& s) const noexcept { put(i, words(s)); }

    void hole(index_t i, slot& s) noexcept {
        const slot there = load_slot(peers[i]);
        if (s.buf_idx < 2) s.buf_idx = there.buf_idx;  // the buffer of the pair
        store_slot(peers[i], s);
    }

    void cancel(index_t i, index_t k) noexcept {
        for (; k != 0; --k) {
            i = ring_prev(i, num_slots);
            slot s = load_slot(peers[i]);
            s.len = 0;
            s.flags = static_cast<std::uint16_t>(s.flags & ns_buf_changed);
            store_slot(peers[i], s);
        }
    }

    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (i != published) {
            published = i;
            link->tail.store(i, std::memory_order_release);  // P1: the slots before their index
            link->rx_sleeps.wake(peer, asymmetric);
        }
        if (armed) [[unlikely]] {
            armed = false;
            link->tx_sleeps.disarm();
            base::eventfd_clear(my_fd);
            if (beside != nullptr && beside->pending()) base::eventfd_signal(my_fd);
        }
    }

    [[gnu::always_inline]] index_t reclaim(index_t, sync_flags) noexcept {
        const std::uint64_t word = link->head.load(std::memory_order_acquire);  // C1
        const auto given = static_cast<index_t>(word & 0xffffffffU);
        const auto now = static_cast<std::uint32_t>(word >> 32);
        if (given >= num_slots) [[unlikely]]
            return ring_prev(returned, num_slots);
        if (now != swaps) {
            // All that was given back, the slot that stays empty for now included: its turn comes without a sign.
            swaps = now;
            for (index_t i = returned; i != given; i = ring_next(i, num_slots)) {
                const std::uint32_t idx = load_slot(peers[i]).buf_idx;
                slot s = load_slot(mine[i]);
                if (idx == s.buf_idx || idx - 2 >= num_bufs - 2) continue;
                s.buf_idx = idx;
                s.flags = static_cast<std::uint16_t>(s.flags | ns_buf_changed);
                store_slot(mine[i], s);
            }
        }
        returned = given;
        return ring_prev(returned, num_slots);
    }

    /// Before the pipe goes: the buffers of what is in the receiver's hands are those in his slots.
    void settle() noexcept {
        for (index_t i = returned; i != published; i = ring_next(i, num_slots)) {
            const std::uint32_t idx = load_slot(peers[i]).buf_idx;
            slot s = load_slot(mine[i]);
            if (idx - 2 >= num_bufs - 2) continue;
            s.buf_idx = idx;
            store_slot(mine[i], s);
        }
    }

    /// Whether slots came back that reclaim has not seen.
    [[nodiscard]] bool freed() const noexcept {
        const auto given = static_cast<index_t>(link->head.load(std::memory_order_acquire) & 0xffffffffU);
        return given < num_slots && given != returned;
    }
};

/// The receiving half. The rx ring's slots are written by the sender; publishing the index that has been given back is
/// all there is to do.
template <notifier N = eventfd_notifier>
struct pipe_rx {
    pipe_link* link;
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

    /// What has arrived lies in the ring's own slots: there is nothing to get.
    static constexpr bool keeps_slots = true;

    [[nodiscard]] [[gnu::always_inline]] bool ready(index_t i) noexcept { return available(i) != 0; }
    /// Filled slots from i on; looks at the sender's index when it knows of none.
    [[nodiscard]] [[gnu::always_inline]] index_t available(index_t i) noexcept {
        if (i == seen) {
            const index_t tail = link->tail.load(std::memory_order_acquire);  // C1
            if (tail < num_slots) [[likely]]
                seen = tail;
        }
        return ring_distance(i, seen, num_slots);
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
static_assert(tx_backend<pipe_tx<>> && rx_backend<pipe_rx<>>);

}  // namespace nm
