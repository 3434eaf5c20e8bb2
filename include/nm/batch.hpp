// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// One visit to a ring, here a transmit ring; a receive ring's is in rx_batch.hpp. It is what txsync, rxsync and the fused loops
// (fuse.hpp) are made of. A batch keeps what the loop needs in locals (a copy of the backend, the indexes, the sums) and stores
// it back once: the compiler can then hold it in registers although the loop writes to shared memory. So nothing in a batch may
// have its address taken by a function that is not inlined. What is not a whole good frame in one slot (fragments, holes,
// nonsense) leaves the loop: the batch is stored back, a cold function deals with the slot, the batch is loaded again.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "nm/concepts.hpp"
#include "nm/ring_base.hpp"

namespace nm {

template <tx_backend B>
class tx_ring;

/// For a batch that starts where the ring stands, without looking at what the user did.
struct as_it_is {};

/// One visit to a transmit ring. Construction takes over what the user queued by hand; then put() any number of slots
/// up to room(); then commit().
template <tx_backend B>
class tx_batch {
public:
    [[gnu::always_inline]] tx_batch(tx_ring<B>& r, as_it_is) noexcept
        : r_(r), b_(r.b_), slots_(r.slots_), bufs_(r.bufs_), n_(r.k_.num_slots), i_(r.k_.hwcur),
          open_(!r.chain_.idle()) {}
    /// `want`: room for this many slots would be good.
    [[gnu::always_inline]] tx_batch(tx_ring<B>& r, index_t want) noexcept : tx_batch(ready(r, want), as_it_is{}) {}
    tx_batch(const tx_batch&) = delete;
    tx_batch& operator=(const tx_batch&) = delete;

    /// Free slots up to the ring's end: a run of them needs no look at the wrap. wrap() goes after it.
    [[nodiscard]] [[gnu::always_inline]] index_t room() const noexcept {
        return std::min(ring_distance(i_, r_.k_.hwtail, n_), n_ - i_);
    }
    [[gnu::always_inline]] void wrap() noexcept { i_ = i_ == n_ ? 0 : i_; }
    [[nodiscard]] [[gnu::always_inline]] index_t at() const noexcept { return i_; }
    /// The free slot that the next put() fills. Prefetches ahead for who will write the buffer.
    template <bool Prefetch>
    [[nodiscard]] [[gnu::always_inline]] slot_words peek() const noexcept {
        if constexpr (Prefetch) {
            index_t ahead = i_ + prefetch_distance;
            if (ahead >= n_) ahead -= n_;
            if (ahead < n_) prefetch_write(bufs_.hint(load_once(slots_[ahead].buf_idx)));
        }
        return load_words(slots_[i_]);
    }
    /// Whether a free slot's buffer is one.
    [[nodiscard]] [[gnu::always_inline]] bool usable(const slot_words& s) const noexcept {
        return bufs_.valid(s.buf_idx());
    }
    [[nodiscard]] [[gnu::always_inline]] std::byte* data(const slot_words& s) const noexcept {
        return bufs_.of(s.buf_idx());
    }
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t capacity() const noexcept { return bufs_.size; }

    /// Whether `s` can go out by put_plain: a whole frame in one slot, in its buffer, with no frame open before it.
    [[nodiscard]] [[gnu::always_inline]] bool plain(const slot_words& s) const noexcept {
        return bufs_.valid(s.buf_idx()) && !odd_length(s.len(), bufs_.size) && !s.has(ns_morefrag | ns_indirect) && !open_ && takes(s);
    }
    /// Whether the backend has no objection to a plain frame.
    [[nodiscard]] [[gnu::always_inline]] bool takes(const slot_words& s) const noexcept {
        if constexpr (picks_plain<B>) return b_.takes(s);
        else return true;
    }
    [[nodiscard]] [[gnu::always_inline]] bool open() const noexcept { return open_; }

    /// Slot i goes out as `s`; `before` is what lies in the ring.
    [[gnu::always_inline]] void put(const slot_words& s, const slot_words& before) noexcept {
        if (plain(s)) [[likely]] {
            count(s.len());
            put_plain(s, before);
        } else {
            put_odd(s, before);
        }
    }
    /// put() of what is known to be plain, and counted by the caller.
    [[gnu::always_inline]] void put_plain(const slot_words& s, const slot_words& before) noexcept {
        slot_words left = s;
        if constexpr (picks_plain<B>) b_.put_plain(i_, s);
        else left = put_one(b_, i_, s);
        left.lo &= ~slot_words::bits(ns_buf_changed);
        update_words(slots_[i_], left, before);
        ++i_;
    }
    [[gnu::always_inline]] void count(std::uint64_t bytes) noexcept { bytes_ += bytes; }
    [[gnu::always_inline]] void put_odd(const slot_words& s, const slot_words& before) noexcept {
        store_back();
        r_.put_odd(s, before);
        load_again();
    }

    /// Free slots after asking the other side once more.
    [[nodiscard]] index_t more_room() noexcept {
        store_back();
        r_.reclaim(i_, sync_flags::none);
        load_again();
        return free();
    }
    [[nodiscard]] index_t free() const noexcept { return ring_distance(i_, r_.k_.hwtail, n_); }
    /// Slots that one more frame may have.
    [[nodiscard]] index_t longest_frame() const noexcept { return std::min(max_frags, n_ - 1) - r_.chain_.frags; }

    /// Ends the visit of a loop that filled the slots itself: head and cur are where it stopped.
    [[gnu::always_inline]] void commit() noexcept {
        store_back();
        r_.set_head(i_);
        r_.publish();
        r_.finish();
    }

    [[gnu::always_inline]] void store_back() noexcept {
        wrap();
        const index_t slots = ring_distance(r_.k_.hwcur, i_, n_);
        if constexpr (!unchanging) r_.b_ = b_;
        r_.k_.hwcur = i_;
        r_.c_.frames += slots;
        r_.c_.slots += slots;
        r_.c_.bytes += bytes_;
        bytes_ = 0;
    }

    [[gnu::always_inline]] void load_again() noexcept {
        if constexpr (!unchanging) b_ = r_.b_;
        i_ = r_.k_.hwcur;
        open_ = !r_.chain_.idle();
    }

    static constexpr index_t prefetch_distance = 8;

private:
    [[gnu::always_inline]] static tx_ring<B>& ready(tx_ring<B>& r, index_t want) noexcept {
        const index_t head = r.prologue();
        if (head != r.k_.hwcur) [[unlikely]]
            r.push(head);
        if (ring_distance(head, r.k_.hwtail, r.k_.num_slots) < want) {
            r.reclaim(head, sync_flags::none);
            if constexpr (requires { requires B::peer_polls; })
                if (want <= few) wait_for_room(r, head);
        }
        return r;
    }

    // Somebody who sends frame by frame into a full ring would look at the receiver's index after each, take its line
    // away each time, and so make the receiver slow: 2.7 times on a channel at batch 1. He waits, about a microsecond at
    // most, until a part of the ring has come back.
    static constexpr index_t few = 8;
    static constexpr int patience = 32;
    [[gnu::noinline]] static void wait_for_room(tx_ring<B>& r, index_t head) noexcept {
        const index_t n = r.k_.num_slots;
        if (ring_distance(head, r.k_.hwtail, n) >= n / 16) return;
        for (int i = 0; i < patience; ++i) cpu_pause();
        r.reclaim(head, sync_flags::none);
    }

    // A backend whose put changes nothing in it (a pipe's) need not be stored back.
    static constexpr bool unchanging = puts_words<B>;

    tx_ring<B>& r_;
    std::conditional_t<unchanging, const B, B> b_;
    slot* const slots_;
    const buffer_space bufs_;
    const index_t n_;
    index_t i_;
    bool open_;  // inside a frame of several slots
    std::uint64_t bytes_ = 0;
};

}  // namespace nm
