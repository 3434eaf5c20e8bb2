// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// One visit to a receive ring; batch.hpp says what a visit is.

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "nm/batch.hpp"

namespace nm {

template <rx_backend B>
class rx_ring;

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
        if constexpr (doubts_peer<B>) {
            if (s.has(ns_morefrag) || r_.skips_) return park_chain();
        }
        settle(i_, s);
        ++seen_;
        ++arrived_;
    }

    /// The rest of a frame that was not taken comes next.
    [[nodiscard]] [[gnu::always_inline]] bool skips() const noexcept {
        if constexpr (doubts_peer<B>) return r_.skips_;
        else return false;
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
                const slot_words s = get(t, before_);
                if constexpr (doubts_peer<B>)
                    if (s.has(ns_morefrag) || r_.skips_) [[unlikely]] {
                        const index_t taken = r_.take_chain(t, run);
                        run -= taken - 1;
                        seen_ += taken - 1;
                        t = (t + taken - 1) % n_;
                        continue;
                    }
                settle(t, s);
            }
        arrived_ += seen_ - seen;
        store_back();
        r_.b_.publish(i_);
        r_.finish();
        return seen_ - seen;
    }

    [[gnu::always_inline]] void store_back() noexcept {
        if constexpr (doubts_peer<B>) r_.c_.reinits += b_.take_violations();
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

    [[gnu::always_inline]] void park_chain() noexcept {
        store_back();
        const index_t taken = r_.take_chain(i_, b_.available(i_));
        seen_ += taken;
        arrived_ += taken;
    }

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
