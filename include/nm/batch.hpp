// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// One visit to a ring: what txsync, rxsync and the fused loops (fuse.hpp) are made of. A batch keeps what the loop needs
// in locals (a copy of the backend, the indexes, the sums) and stores it back once: the compiler can then hold it in
// registers although the loop writes to shared memory. So nothing in a batch may have its address taken by a function
// that is not inlined. What is not a whole good frame in one slot (fragments, holes, nonsense) leaves the loop: the
// batch is stored back, a cold function deals with the slot, the batch is loaded again.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "nm/concepts.hpp"
#include "nm/ring_base.hpp"

namespace nm {

template <tx_backend B>
class tx_ring;
template <rx_backend B>
class rx_ring;

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

/// One visit to a receive ring. Construction takes back what the user released by hand. Then, as long as run() says that
/// there is something: fetch() slots, and give() each back; say with ran() how it went; one that is not plain is parked,
/// and found again by who deals with it. Then commit().
template <rx_backend B>
class rx_batch {
public:
    [[gnu::always_inline]] rx_batch(rx_ring<B>& r, as_it_is) noexcept
        : r_(r), b_(r.b_), slots_(r.slots_), bufs_(r.bufs_), n_(r.k_.num_slots), i_(r.k_.hwcur),
          seen_(ring_distance(i_, r.k_.hwtail, n_)), tapped_(r.tapped()) {}
    [[gnu::always_inline]] explicit rx_batch(rx_ring<B>& r) noexcept : rx_batch(r.visited(), as_it_is{}) {}
    rx_batch(const rx_batch&) = delete;
    rx_batch& operator=(const rx_batch&) = delete;

    [[nodiscard]] [[gnu::always_inline]] index_t at() const noexcept { return i_; }

    /// How many of the next `most` slots may be fetched in a row, up to the ring's end: those that the user has seen already (by rxsync) and
    /// not passed, or, when there are none of these, those that have arrived, as far as the backend knows.
    [[nodiscard]] [[gnu::always_inline]] index_t run(index_t most) noexcept {
        most = std::min(most, n_ - i_);
        arriving_ = seen_ == 0;
        if (!arriving_) return std::min(most, seen_);
        if (tapped_) [[unlikely]]
            return 0;  // what comes now waits for the next visit, so that monitors see it first
        if constexpr (counts) return there(i_, most);
        else return most;
    }
    /// The next slot of the run; false when there is none after all. What follows is give() or park().
    template <bool Prefetch>
    [[nodiscard]] [[gnu::always_inline]] bool fetch(slot_words& s) noexcept {
        if constexpr (!counts)
            if (arriving_ && !b_.ready(i_)) return false;
        if constexpr (Prefetch) {
            index_t ahead = i_ + prefetch_distance;
            if (ahead >= n_) ahead -= n_;
            if (ahead < n_) prefetch_read(bufs_.hint(load_once(slots_[ahead].buf_idx)));
        }
        s = before_ = load_words(slots_[i_]);
        if constexpr (!keeps_slots)
            if (arriving_) s = get(i_, s);
        return true;
    }
    [[nodiscard]] [[gnu::always_inline]] bool valid(const slot_words& s) const noexcept {
        return bufs_.valid(s.buf_idx());
    }
    /// A whole good frame in one slot.
    [[nodiscard]] [[gnu::always_inline]] bool plain(const slot_words& s) const noexcept {
        return bufs_.valid(s.buf_idx()) && !odd_length(s.len(), bufs_.size) && !s.has(ns_morefrag);
    }
    [[nodiscard]] [[gnu::always_inline]] std::byte* data(const slot_words& s) const noexcept {
        return bufs_.of(s.buf_idx());
    }
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t capacity() const noexcept { return bufs_.size; }

    /// The user is done with the slot that was fetched; `back` goes back in its place, with another buffer or not.
    [[gnu::always_inline]] void give(const slot_words& back, bool changed) noexcept {
        update_words(slots_[i_], back, before_);
        give_back(back, changed);
    }
    /// Of the run, so many slots were given back, with so many bytes that were fetched, some with other buffers or none.
    [[gnu::always_inline]] void ran(index_t slots, std::uint64_t bytes, bool changed) noexcept {
        i_ = i_ == n_ ? 0 : i_;
        if (arriving_) bytes_ += bytes, arrived_ += slots;
        else seen_ -= slots;
        if constexpr (keeps_slots) b_.swapped |= changed && slots != 0;
    }
    /// The same for a slot that the user passed by himself.
    [[gnu::always_inline]] void give_user() noexcept {
        const slot_words s = load_words(slots_[i_]);
        if (!bufs_.valid(s.buf_idx()) && s.len() != 0) [[unlikely]]
            r_.c_.drop(cause::bad_idx);  // a hole was counted when it arrived
        if (!s.has(ns_morefrag)) r_.verdict_ = {};
        --seen_;
        give_back(s, true);
        i_ = i_ == n_ ? 0 : i_;
        if constexpr (keeps_slots) b_.swapped = true;
    }
    /// The slot that was fetched as `s` stays, and is one that the user has seen. What cannot be a frame becomes a hole.
    [[gnu::always_inline]] void park(const slot_words& s) noexcept {
        if (!arriving_) return;
        settle(i_, s);
        ++seen_;
        ++arrived_;
    }

    /// Slots of the frame that begins with the parked slot; 0: its end has not arrived; more than max_frags: it is longer
    /// than any may be, or than this ring.
    [[nodiscard]] index_t frame_slots() noexcept {
        index_t t = i_;
        for (index_t k = 1; k <= max_frags && k < n_; ++k, t = ring_next(t, n_)) {
            if (k > seen_) {
                if (tapped_ || !b_.ready(t)) return 0;
                before_ = load_words(slots_[t]);
                settle(t, get(t, before_));
                ++seen_;
                ++arrived_;
            }
            if (!load_words(slots_[t]).has(ns_morefrag)) return k;
        }
        return max_frags + 1;
    }

    [[gnu::always_inline]] void commit() noexcept {
        store_back();
        r_.set_head(i_);
        r_.b_.publish(i_);
        if ((load_once(r_.r_->flags) & nr_timestamp) != 0) [[unlikely]]
            r_.stamp();
        r_.finish();
    }

    /// rxsync's second half: everything that is there, up to the one slot that stays empty.
    [[gnu::always_inline]] index_t receive_all() noexcept {
        const index_t last = ring_prev(i_, n_);
        const index_t seen = seen_;
        index_t t = tail();
        for (index_t run = 0; (run = there(t, ring_distance(t, last, n_))) != 0;)
            for (; run != 0; --run, ++seen_, t = ring_next(t, n_)) {
                before_ = load_words(slots_[t]);
                settle(t, get(t, before_));
            }
        arrived_ += seen_ - seen;
        store_back();
        r_.b_.publish(i_);
        r_.finish();
        return seen_ - seen;
    }

    [[gnu::always_inline]] void store_back() noexcept {
        if constexpr (!keeps_slots) r_.b_ = b_;
        r_.k_.hwcur = i_;
        r_.k_.hwtail = tail();
        r_.c_.frames += arrived_;
        r_.c_.slots += arrived_;
        r_.c_.bytes += bytes_;
        arrived_ = 0;
        bytes_ = 0;
    }
    [[gnu::always_inline]] void load_again() noexcept {
        if constexpr (!keeps_slots) b_ = r_.b_;
        i_ = r_.k_.hwcur;
        seen_ = ring_distance(i_, r_.k_.hwtail, n_);
    }

    static constexpr index_t prefetch_distance = 8;

private:
    // A backend that knows how many slots are filled spares the loop a question per slot; one whose slots lie filled in
    // the ring (a pipe's) spares it get() and give(), and is told once a run whether buffers were swapped.
    static constexpr bool counts = requires(B& b) { { b.available(0) } noexcept -> std::same_as<index_t>; };
    static constexpr bool keeps_slots = requires { requires B::keeps_slots; };

    // Of the `most` slots from i on, how many can be got in a row (one at most of a backend that does not count).
    [[nodiscard]] [[gnu::always_inline]] index_t there(index_t i, index_t most) noexcept {
        if (most == 0) return 0;
        if constexpr (counts) return std::min(most, b_.available(i));
        else return b_.ready(i) ? 1 : 0;
    }

    [[nodiscard]] [[gnu::always_inline]] index_t tail() const noexcept {
        const index_t t = i_ + seen_;
        return t >= n_ ? t - n_ : t;
    }

    [[nodiscard]] [[gnu::always_inline]] slot_words get(index_t i, const slot_words& before) noexcept {
        slot s = from_words(before);
        b_.get(i, s);
        return words(s);
    }

    // An arrived slot is written to the ring and counted. store_back counts every arrival as a frame; a fragment or a
    // hole is none.
    [[gnu::always_inline]] void settle(index_t i, slot_words s) noexcept {
        if (!plain(s)) [[unlikely]] {
            const bool valid = bufs_.valid(s.buf_idx());
            if (!valid || s.len() > bufs_.size) {
                if (s.len() != 0) r_.c_.drop(valid ? cause::bad_len : cause::bad_idx);
                s = {(valid ? s.buf_idx() : 0U) | (s.lo & slot_words::bits(ns_morefrag)), 0};
            }
            if (s.len() == 0 || s.has(ns_morefrag)) --r_.c_.frames;
        }
        bytes_ += s.len();
        update_words(slots_[i], s, before_);
    }

    [[gnu::always_inline]] void give_back(const slot_words& back, bool changed) noexcept {
        if constexpr (!keeps_slots) {
            constexpr std::uint64_t flag = slot_words::bits(ns_buf_changed);
            slot s = from_words({changed ? back.lo | flag : back.lo & ~flag, back.hi});
            // A backend hands the buffer on to a kernel or a device: nonsense becomes the junk buffer.
            if (!bufs_.valid(s.buf_idx)) [[unlikely]]
                s.buf_idx = 0;
            b_.give(i_, s);
        }
        ++i_;
    }

    rx_ring<B>& r_;
    // What the loop itself does not touch is not copied: it is looked at once a run.
    std::conditional_t<keeps_slots, B&, B> b_;
    slot* const slots_;
    const buffer_space bufs_;
    const index_t n_;
    index_t i_;
    index_t seen_;  // slots from i_ on that have arrived and are the user's
    index_t arrived_ = 0;  // not counted yet; may be more than the ring has slots: a backend can refill it in one visit
    const bool tapped_;
    bool arriving_ = false;
    slot_words before_{};  // what lies in the ring where the fetched slot goes
    std::uint64_t bytes_ = 0;
};

}  // namespace nm
