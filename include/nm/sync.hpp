// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// txsync and rxsync, and the two batches that they and the fused loops (fuse.hpp) are made of. A batch keeps what the
// loop needs in locals (a copy of the backend, the indexes, the sums) and stores it back once: the compiler can then
// hold it in registers although the loop writes to shared memory. So nothing in a batch may have its address taken by a
// function that is not inlined; and what is not a whole good frame in one slot (fragments, holes, nonsense) leaves the
// loop: the batch is stored back, the ring deals with the slot, the batch is loaded again.

#include <cstdint>
#include <type_traits>
#include <utility>

#include "nm/concepts.hpp"
#include "nm/ring_base.hpp"

namespace nm {

template <tx_backend B>
class tx_batch;
template <rx_backend B>
class rx_batch;

/// For a batch that starts where the ring stands, without looking at what the user did.
struct as_it_is {};

/// A transmit ring over backend B.
template <tx_backend B>
class tx_ring : public ring_base {
public:
    using backend_type = B;
    tx_ring(ring* shared, index_t num_slots, const region& m, B b) noexcept
        : ring_base(shared, num_slots, m), b_(std::move(b)) {
        k_.hwtail = num_slots - 1;
        finish();
    }

    /// Pushes out what the user queued (slots before head) and takes back what has been sent: tail goes forward.
    /// Returns the number of slots pushed.
    index_t txsync(sync_flags f = sync_flags::force_reclaim) noexcept {
        const index_t head = prologue();
        const index_t pushed = ring_distance(k_.hwcur, head, k_.num_slots);
        if (pushed != 0) push(head);
        b_.publish(whole());
        k_.hwtail = b_.reclaim(head, f);
        finish();
        return pushed;
    }

    [[nodiscard]] B& backend() noexcept { return b_; }
    [[nodiscard]] const B& backend() const noexcept { return b_; }
    /// Whether something is under way: queued and not synced, or synced and not yet taken back (nm_tx_pending).
    [[nodiscard]] bool pending() const noexcept { return k_.next(tail()) != head(); }

private:
    friend class tx_batch<B>;

    // Takes over what the user queued by hand, without publishing it.
    [[gnu::noinline]] void push(index_t head) noexcept {
        tx_batch<B> batch(*this, as_it_is{});
        while (batch.at() != head) {
            const nm::slot s = batch.template peek<false>();
            batch.put(s, s);
        }
        batch.store_back();
    }

    // Slot hwcur goes out as s, which is a fragment, a hole, or nothing that can be sent. A bad slot takes its whole
    // frame with it; its place is kept by holes.
    [[gnu::noinline, gnu::cold]] void put_odd(nm::slot s, const nm::slot before) noexcept {
        const index_t i = k_.hwcur;
        const bool more = (s.flags & ns_morefrag) != 0;
        const bool last_that_fits = chain_.frags + 1 == max_frags || chain_.frags + 2 >= k_.num_slots;
        if (!bufs_.valid(s.buf_idx)) reject(s, cause::bad_idx);
        else if (s.len > bufs_.size) reject(s, cause::bad_len);
        else if (s.len == 0 && !more && chain_.idle()) hole(s);  // the user's own
        else if (chain_.discard || s.len == 0 || (more && last_that_fits)) reject(s, cause::bad_chain);
        else {
            chain_.frags = more ? chain_.frags + 1 : 0;
            c_.frames += more ? 0U : 1U;
            c_.bytes += s.len;
            b_.put(i, s);
        }
        ++c_.slots;
        s.flags = static_cast<std::uint16_t>(s.flags & ~ns_buf_changed);
        update_slot(slots_[i], s, before);
        k_.hwcur = k_.next(i);
    }

    void reject(nm::slot& s, cause why) noexcept {
        if (!chain_.discard) {
            b_.cancel(k_.hwcur, chain_.frags);
            c_.drop(why);
            ++c_.frames;
        }
        chain_ = {0, (s.flags & ns_morefrag) != 0};
        hole(s);
    }

    // The buffer stays with the slot if it is one; a bad index becomes the junk buffer's, unless the backend knows
    // better.
    void hole(nm::slot& s) noexcept {
        if (!bufs_.valid(s.buf_idx)) s.buf_idx = 0;
        s.len = 0;
        s.flags = static_cast<std::uint16_t>(s.flags & ns_buf_changed);
        b_.hole(k_.hwcur, s);
    }

    // Where the last whole frame ends.
    [[nodiscard]] index_t whole() const noexcept {
        const index_t frags = chain_.frags;
        return k_.hwcur >= frags ? k_.hwcur - frags : k_.hwcur + k_.num_slots - frags;
    }

    B b_;
    chain_state chain_;
};

/// A receive ring over backend B.
template <rx_backend B>
class rx_ring : public ring_base {
public:
    using backend_type = B;
    rx_ring(ring* shared, index_t num_slots, const region& m, B b) noexcept
        : ring_base(shared, num_slots, m), b_(std::move(b)) {
        finish();
    }

    /// Gives back what the user released (slots before head) and takes what has arrived: tail goes forward. Returns
    /// the number of new slots. Stamps `ts` unless timestamps are off.
    index_t rxsync() noexcept {
        const index_t head = prologue();
        if (head != k_.hwcur) take_back(head);
        rx_batch<B> batch(*this, as_it_is{});
        const index_t n = batch.receive_all();
        if (stamps_ || (load_once(r_->flags) & nr_timestamp) != 0) stamp();
        return n;
    }

    void set_timestamps(bool on) noexcept { stamps_ = on; }
    [[nodiscard]] B& backend() noexcept { return b_; }
    [[nodiscard]] const B& backend() const noexcept { return b_; }

private:
    friend class rx_batch<B>;

    // Takes back what the user released by hand, without publishing it. Whether he swapped a buffer is his to know:
    // it is taken for granted.
    [[gnu::noinline]] void take_back(index_t head) noexcept {
        rx_batch<B> batch(*this, as_it_is{});
        while (batch.at() != head) batch.give_user();
        batch.store_back();
    }

    B b_;
    chain_state verdict_;  // of the frame that a forward has begun
    bool stamps_ = true;
};

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

    /// Free slots.
    [[nodiscard]] [[gnu::always_inline]] index_t room() const noexcept { return ring_distance(i_, r_.k_.hwtail, n_); }
    [[nodiscard]] [[gnu::always_inline]] index_t at() const noexcept { return i_; }
    /// The free slot that the next put() fills. Prefetches ahead for who will write the buffer.
    template <bool Prefetch>
    [[nodiscard]] [[gnu::always_inline]] slot peek() const noexcept {
        if constexpr (Prefetch) {
            index_t ahead = i_ + prefetch_distance;
            if (ahead >= n_) ahead -= n_;
            if (ahead < n_) prefetch_write(bufs_.hint(slots_[ahead].buf_idx));
        }
        return load_slot(slots_[i_]);
    }
    /// Whether the free slot's buffer is one: it lies where the user can write to it.
    [[nodiscard]] [[gnu::always_inline]] bool usable(const slot& s) const noexcept { return bufs_.valid(s.buf_idx); }
    [[nodiscard]] [[gnu::always_inline]] std::byte* data(const slot& s) const noexcept { return bufs_.of(s.buf_idx); }
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t capacity() const noexcept { return bufs_.size; }

    /// Slot i goes out as `s`; `before` is what lies in the ring.
    [[gnu::always_inline]] void put(slot s, const slot& before) noexcept {
        if (!bufs_.valid(s.buf_idx) || odd_length(s.len, bufs_.size) || (s.flags & ns_morefrag) != 0 || open_)
            [[unlikely]] {
            store_back();
            r_.put_odd(s, before);
            if constexpr (!unchanging) b_ = r_.b_;
            i_ = r_.k_.hwcur;
            open_ = !r_.chain_.idle();
            return;
        }
        bytes_ += s.len;
        b_.put(i_, s);
        s.flags = static_cast<std::uint16_t>(s.flags & ~ns_buf_changed);
        update_slot(slots_[i_], s, before);
        i_ = ring_next(i_, n_);
    }

    /// Ends the visit of a loop that filled the slots itself: head and cur are where it stopped.
    [[gnu::always_inline]] void commit() noexcept {
        store_back();
        r_.set_head(i_);
        r_.b_.publish(r_.whole());
        r_.finish();
    }

    [[gnu::always_inline]] void store_back() noexcept {
        const index_t slots = ring_distance(r_.k_.hwcur, i_, n_);
        if constexpr (!unchanging) r_.b_ = b_;
        r_.k_.hwcur = i_;
        r_.c_.frames += slots;
        r_.c_.slots += slots;
        r_.c_.bytes += bytes_;
        bytes_ = 0;
    }

    static constexpr index_t prefetch_distance = 8;

private:
    [[gnu::always_inline]] static tx_ring<B>& ready(tx_ring<B>& r, index_t want) noexcept {
        const index_t head = r.prologue();
        if (head != r.k_.hwcur) [[unlikely]]
            r.push(head);
        if (ring_distance(head, r.k_.hwtail, r.k_.num_slots) < want) r.k_.hwtail = r.b_.reclaim(head, sync_flags::none);
        return r;
    }

    // A backend whose put changes nothing in it (a pipe's) need not be stored back.
    static constexpr bool unchanging = requires(const B& b, slot& s) { b.put(0, s); };

    tx_ring<B>& r_;
    std::conditional_t<unchanging, const B, B> b_;
    slot* const slots_;
    const buffer_space bufs_;
    const index_t n_;
    index_t i_;
    bool open_;  // inside a frame of several slots
    std::uint64_t bytes_ = 0;
};

/// What rx_batch::next() found: nothing; a whole frame; or a fragment or a hole.
enum class found : unsigned { nothing, frame, odd };

/// One visit to a receive ring. Construction takes back what the user released by hand; then while next(s): use it and
/// give() it, or leave() it; then commit().
template <rx_backend B>
class rx_batch {
public:
    [[gnu::always_inline]] rx_batch(rx_ring<B>& r, as_it_is) noexcept
        : r_(r), b_(r.b_), slots_(r.slots_), bufs_(r.bufs_), n_(r.k_.num_slots), i_(r.k_.hwcur),
          seen_(ring_distance(i_, r.k_.hwtail, n_)) {}
    [[gnu::always_inline]] explicit rx_batch(rx_ring<B>& r) noexcept : rx_batch(ready(r), as_it_is{}) {}
    rx_batch(const rx_batch&) = delete;
    rx_batch& operator=(const rx_batch&) = delete;

    [[nodiscard]] [[gnu::always_inline]] index_t at() const noexcept { return i_; }
    /// The next filled slot: one that the user has seen already (by rxsync) and not passed, or one that has just
    /// arrived. Its buffer is valid, unless it is a hole.
    template <bool Prefetch>
    [[nodiscard]] [[gnu::always_inline]] found next(slot& s) noexcept {
        if constexpr (Prefetch) {
            index_t ahead = i_ + prefetch_distance;
            if (ahead >= n_) ahead -= n_;
            if (ahead < n_) prefetch_read(bufs_.hint(slots_[ahead].buf_idx));
        }
        if (seen_ != 0) [[unlikely]] {
            --seen_;
            s = load_slot(slots_[i_]);
            if (odd(s)) {
                if (!bufs_.valid(s.buf_idx) || s.len > bufs_.size) s.len = s.flags = 0;
                return found::odd;
            }
            return found::frame;
        }
        if (!b_.ready(i_)) return found::nothing;
        return arrive(i_, s);
    }
    [[nodiscard]] [[gnu::always_inline]] std::byte* data(const slot& s) const noexcept { return bufs_.of(s.buf_idx); }
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t capacity() const noexcept { return bufs_.size; }
    /// Where the open frame stands, across visits.
    [[nodiscard]] [[gnu::always_inline]] chain_state& verdict() noexcept { return r_.verdict_; }

    /// The user is done with the slot; `s` goes back in its place, `before` is what lies there.
    [[gnu::always_inline]] void give(const slot& s, const slot& before) noexcept {
        update_slot(slots_[i_], s, before);
        give(s, s.buf_idx != before.buf_idx);
    }
    /// The same for a slot that the user passed by himself.
    [[gnu::always_inline]] void give_user() noexcept {
        slot s = load_slot(slots_[i_]);
        if (!bufs_.valid(s.buf_idx)) [[unlikely]] {
            if (s.len != 0) r_.c_.drop(cause::bad_idx);  // a hole was counted when it arrived
            s.buf_idx = 0;
        }
        --seen_;
        give(s, true);
    }
    /// The slot that next() returned stays where it is.
    [[gnu::always_inline]] void leave() noexcept { ++seen_; }

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
        const index_t before = seen_;
        slot s;
        for (index_t t = tail(); t != last && b_.ready(t); t = ring_next(t, n_)) {
            (void)arrive(t, s);
            ++seen_;
        }
        store_back();
        r_.b_.publish(i_);
        r_.finish();
        return seen_ - before;
    }

    [[gnu::always_inline]] void store_back() noexcept {
        const index_t arrived = ring_distance(r_.k_.hwtail, tail(), n_);
        r_.b_ = b_;
        r_.k_.hwcur = i_;
        r_.k_.hwtail = tail();
        r_.c_.frames += arrived;
        r_.c_.slots += arrived;
        r_.c_.bytes += bytes_;
    }

    static constexpr index_t prefetch_distance = 8;

private:
    [[gnu::always_inline]] static rx_ring<B>& ready(rx_ring<B>& r) noexcept {
        const index_t head = r.prologue();
        if (head != r.k_.hwcur) [[unlikely]]
            r.take_back(head);
        return r;
    }

    [[nodiscard]] [[gnu::always_inline]] index_t tail() const noexcept {
        const index_t t = i_ + seen_;
        return t >= n_ ? t - n_ : t;
    }

    [[nodiscard]] [[gnu::always_inline]] bool odd(const slot& s) const noexcept {
        return !bufs_.valid(s.buf_idx) || odd_length(s.len, bufs_.size) || (s.flags & ns_morefrag) != 0;
    }

    [[gnu::always_inline]] found arrive(index_t i, slot& s) noexcept {
        const slot before = load_slot(slots_[i]);
        s = before;
        b_.get(i, s);
        const bool is_odd = odd(s);
        if (is_odd) [[unlikely]] {
            // A fragment, or what cannot be a frame: that becomes a hole, and a bad index the junk buffer's.
            if (!bufs_.valid(s.buf_idx) || s.len > bufs_.size) {
                r_.c_.drop(bufs_.valid(s.buf_idx) ? cause::bad_len : cause::bad_idx);
                s = {bufs_.valid(s.buf_idx) ? s.buf_idx : 0, 0, 0, 0};
            }
            if (s.len == 0 || (s.flags & ns_morefrag) != 0) --r_.c_.frames;  // store_back counts every slot as one
        }
        bytes_ += s.len;
        update_slot(slots_[i], s, before);
        return is_odd ? found::odd : found::frame;
    }

    [[gnu::always_inline]] void give(slot s, bool changed) noexcept {
        s.flags = static_cast<std::uint16_t>(changed ? s.flags | ns_buf_changed : s.flags & ~ns_buf_changed);
        b_.give(i_, s);
        i_ = ring_next(i_, n_);
    }

    rx_ring<B>& r_;
    B b_;
    slot* const slots_;
    const buffer_space bufs_;
    const index_t n_;
    index_t i_;
    index_t seen_;  // slots from i_ on that have arrived and are the user's
    std::uint64_t bytes_ = 0;
};

}  // namespace nm
