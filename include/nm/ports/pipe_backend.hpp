// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The sending half of a pipe: one-slot steps over slots that both ends see. The receiving half is link.hpp.

#include "nm/link.hpp"

namespace nm {

/// The sending half. Slot i of the tx ring and slot i of the peer's rx ring are a pair with one buffer, as in netmap:
/// put copies the slot across, and only where it differs. What comes back is the same buffer, unless the receiver says
/// that it swapped.
template <notifier N = eventfd_notifier, class Peer = trusted_peer>
struct pipe_tx {
    static constexpr bool peer_polls = true;  ///< the other side is a core: looking at its line slows it
    slot* mine;
    slot* peers;
    ring_link* link;
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
    [[no_unique_address]] Peer doubt{};

    [[gnu::always_inline]] void put(index_t i, slot_words w) const noexcept {
        const slot_words there = load_words(peers[i]);
        constexpr std::uint64_t flag = slot_words::bits(ns_buf_changed);
        w.lo = w.buf_idx() != there.buf_idx() ? w.lo | flag : w.lo & ~flag;
        update_words(peers[i], w, there);
    }
    [[gnu::always_inline]] void put(index_t i, slot& s) const noexcept { put(i, words(s)); }

    void hole(index_t i, slot& s) noexcept {
        const slot there = load_slot(peers[i]);
        if (const std::uint32_t idx = buffer_at(i); s.buf_idx < 2 && real(idx)) s.buf_idx = idx;  // the buffer of the pair
        update_slot(peers[i], s, there);
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
        if (!may_be(given)) [[unlikely]] {
            if constexpr (Peer::checked) ++doubt.violations;
            return ring_prev(returned, num_slots);
        }
        if (now != swaps) {
            // All that was given back, the slot that stays empty for now included: its turn comes without a sign.
            swaps = now;
            for (index_t i = returned; i != given; i = ring_next(i, num_slots)) {
                const std::uint32_t idx = buffer_at(i);
                slot s = load_slot(mine[i]);
                if (idx == s.buf_idx || !real(idx)) continue;
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
            const std::uint32_t idx = buffer_at(i);
            slot s = load_slot(mine[i]);
            if (!real(idx)) continue;
            s.buf_idx = idx;
            store_slot(mine[i], s);
        }
    }

    /// Whether slots came back that reclaim has not seen.
    [[nodiscard]] bool freed() const noexcept {
        const auto given = static_cast<index_t>(link->head.load(std::memory_order_acquire) & 0xffffffffU);
        return may_be(given) && given != returned;
    }
    /// The receiver gives back, going forward from what he had given back, no more than he was sent.
    [[nodiscard]] [[gnu::always_inline]] bool may_be(index_t given) const noexcept {
        if constexpr (Peer::checked)
            return given < num_slots && ring_distance(returned, given, num_slots) <= ring_distance(returned, published, num_slots);
        else
            return given < num_slots;
    }
    [[nodiscard]] std::uint32_t take_violations() noexcept
        requires(Peer::checked)
    {
        return std::exchange(doubt.violations, 0);
    }

private:
    [[nodiscard]] [[gnu::always_inline]] bool real(std::uint32_t buf_idx) const noexcept { return buf_idx - 2 < num_bufs - 2; }
    // The buffer that the receiver has left at slot i. Where he is another process the slots are only ours to write: a sender that
    // dies in mid-batch leaves the place where the next one looks as it was.
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t buffer_at(index_t i) const noexcept {
        if constexpr (Peer::checked) return load_once(doubt.given[i]);
        else return load_slot(peers[i]).buf_idx;
    }
};

static_assert(tx_backend<pipe_tx<>>);

}  // namespace nm
