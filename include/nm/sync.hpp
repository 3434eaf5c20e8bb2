// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// txsync and rxsync, and the two batches that they and the fused loops (fuse.hpp) are made of. A batch keeps what the
// loop needs in locals (a copy of the backend, the indexes, the sums) and stores it back once: the compiler can then
// hold it in registers although the loop writes to shared memory. For that reason nothing in a batch has its address
// taken by a function that is not inlined.

#include <cstdint>
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

/// What is left of a slot that cannot be sent.
struct rejected {
    slot hole;
    chain_state chain;
};

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
        b_.publish(head);
        k_.hwtail = b_.reclaim(head, f);
        finish();
        return pushed;
    }

    [[nodiscard]] B& backend() noexcept { return b_; }
    /// Slots that were put into an unfinished frame, or queued by the user and not yet synced.
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

    // A bad slot takes its whole frame with it; its place is kept by holes.
    [[gnu::noinline, gnu::cold]] rejected reject(index_t i, chain_state chain, nm::slot s, cause why) noexcept {
        const bool more = (s.flags & ns_morefrag) != 0;
        if (!chain.discard) {
            b_.cancel(i, chain.frags);
            c_.drop(why);
            ++c_.frames;
        }
        // The buffer stays with the slot if it is one; a bad index becomes the junk buffer's.
        if (!bufs_.valid(s.buf_idx)) s.buf_idx = 0;
        s.len = 0;
        s.flags = static_cast<std::uint16_t>(s.flags & ns_buf_changed);
        return {s, {0, more}};
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
/// while room(); then commit().
template <tx_backend B>
class tx_batch {
public:
    [[gnu::always_inline]] tx_batch(tx_ring<B>& r, as_it_is) noexcept
        : r_(r), b_(r.b_), slots_(r.slots_), bufs_(r.bufs_), n_(r.k_.num_slots), start_(r.k_.hwcur), i_(start_),
          tail_(r.k_.hwtail), chain_(r.chain_) {}
    /// `want`: room for this many slots would be good.
    [[gnu::always_inline]] tx_batch(tx_ring<B>& r, index_t want) noexcept : tx_batch(ready(r, want), as_it_is{}) {}
    tx_batch(const tx_batch&) = delete;
    tx_batch& operator=(const tx_batch&) = delete;

    [[nodiscard]] [[gnu::always_inline]] bool room() const noexcept { return i_ != tail_; }
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
    [[nodiscard]] [[gnu::always_inline]] std::byte* data(const slot& s) const noexcept { return bufs_.at(s.buf_idx); }
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t capacity() const noexcept { return bufs_.size; }

    /// Slot i goes out as `s`; `before` is what lies in the ring.
    [[gnu::always_inline]] void put(slot s, const slot& before) noexcept {
        const bool more = (s.flags & ns_morefrag) != 0;
        if (!bufs_.valid(s.buf_idx) || s.len > bufs_.size) [[unlikely]]
            s = reject(s, bufs_.valid(s.buf_idx) ? cause::bad_len : cause::bad_idx);
        else if (more || !chain_.idle()) [[unlikely]]
            s = fragment(s, more);
        else
            frames_ += s.len != 0 ? 1U : 0U;
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
        r_.b_.publish(i_);
        r_.finish();
    }

    [[gnu::always_inline]] void store_back() noexcept {
        r_.b_ = b_;
        r_.chain_ = chain_;
        r_.k_.hwcur = i_;
        r_.k_.hwtail = tail_;
        r_.c_.frames += frames_;
        r_.c_.bytes += bytes_;
        r_.c_.slots += ring_distance(start_, i_, n_);
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

    // Cold work goes through the ring's own copy of the backend: the address of this one stays unknown.
    [[gnu::always_inline]] slot reject(const slot& s, cause why) noexcept {
        r_.b_ = b_;
        const rejected r = r_.reject(i_, chain_, s, why);
        b_ = r_.b_;
        chain_ = r.chain;
        return r.hole;
    }

    [[gnu::always_inline]] slot fragment(const slot& s, bool more) noexcept {
        if (chain_.discard || s.len == 0 || (more && (chain_.frags + 1 == max_frags || chain_.frags + 2 >= n_)))
            return reject(s, cause::bad_chain);
        chain_.frags = more ? chain_.frags + 1 : 0;
        frames_ += more ? 0U : 1U;
        return s;
    }

    tx_ring<B>& r_;
    B b_;
    slot* const slots_;
    const buffer_space bufs_;
    const index_t n_;
    const index_t start_;
    index_t i_;
    index_t tail_;
    chain_state chain_;
    std::uint64_t frames_ = 0;
    std::uint64_t bytes_ = 0;
};

/// One visit to a receive ring. Construction takes back what the user released by hand; then while next(s): use it,
/// give() it; then commit().
template <rx_backend B>
class rx_batch {
public:
    [[gnu::always_inline]] rx_batch(rx_ring<B>& r, as_it_is) noexcept
        : r_(r), b_(r.b_), slots_(r.slots_), bufs_(r.bufs_), n_(r.k_.num_slots), i_(r.k_.hwcur), tail_(r.k_.hwtail) {}
    [[gnu::always_inline]] explicit rx_batch(rx_ring<B>& r) noexcept : rx_batch(ready(r), as_it_is{}) {}
    rx_batch(const rx_batch&) = delete;
    rx_batch& operator=(const rx_batch&) = delete;

    [[nodiscard]] [[gnu::always_inline]] index_t at() const noexcept { return i_; }
    /// The next filled slot: one that the user has seen already (by rxsync) and left, or one that has just arrived.
    template <bool Prefetch>
    [[nodiscard]] [[gnu::always_inline]] bool next(slot& s) noexcept {
        if (i_ == tail_) {
            if (!b_.ready(i_)) return false;
            tail_ = ring_next(i_, n_);
            s = arrive(i_);
        } else {
            s = load_slot(slots_[i_]);
        }
        if constexpr (Prefetch) {
            index_t ahead = i_ + prefetch_distance;
            if (ahead >= n_) ahead -= n_;
            if (ahead < n_) prefetch_read(bufs_.hint(slots_[ahead].buf_idx));
        }
        return true;
    }
    [[nodiscard]] [[gnu::always_inline]] std::byte* data(const slot& s) const noexcept { return bufs_.at(s.buf_idx); }
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t capacity() const noexcept { return bufs_.size; }
    /// Where the open frame stands, across visits.
    [[nodiscard]] [[gnu::always_inline]] chain_state& verdict() noexcept { return r_.verdict_; }

    /// The user is done with the slot; `s` goes back in its place, `before` is what lies there.
    [[gnu::always_inline]] void give(const slot& s, const slot& before) noexcept {
        update_slot(slots_[i_], s, before);
        give_checked(s, s.buf_idx != before.buf_idx);
    }
    /// The same for a slot that the user passed by himself.
    [[gnu::always_inline]] void give_user() noexcept { give_checked(load_slot(slots_[i_]), true); }

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
        while (tail_ != last && b_.ready(tail_)) {
            (void)arrive(tail_);
            tail_ = ring_next(tail_, n_);
        }
        store_back();
        r_.b_.publish(i_);
        r_.finish();
        return static_cast<index_t>(arrived_);
    }

    [[gnu::always_inline]] void store_back() noexcept {
        r_.b_ = b_;
        r_.k_.hwcur = i_;
        r_.k_.hwtail = tail_;
        r_.c_.frames += frames_;
        r_.c_.bytes += bytes_;
        r_.c_.slots += arrived_;
    }

    static constexpr index_t prefetch_distance = 8;

private:
    [[gnu::always_inline]] static rx_ring<B>& ready(rx_ring<B>& r) noexcept {
        const index_t head = r.prologue();
        if (head != r.k_.hwcur) [[unlikely]]
            r.take_back(head);
        return r;
    }

    [[gnu::always_inline]] slot arrive(index_t i) noexcept {
        const slot before = load_slot(slots_[i]);
        slot s = before;
        b_.get(i, s);
        if (!bufs_.valid(s.buf_idx) || s.len > bufs_.size) [[unlikely]] {
            r_.c_.drop(bufs_.valid(s.buf_idx) ? cause::bad_len : cause::bad_idx);
            if (!bufs_.valid(s.buf_idx)) s.buf_idx = 0;
            s.len = 0;
        }
        frames_ += s.len != 0 && (s.flags & ns_morefrag) == 0 ? 1U : 0U;
        bytes_ += s.len;
        ++arrived_;
        update_slot(slots_[i], s, before);
        return s;
    }

    [[gnu::always_inline]] void give_checked(slot s, bool changed) noexcept {
        if (!bufs_.valid(s.buf_idx)) [[unlikely]] {
            r_.c_.drop(cause::bad_idx);
            s.buf_idx = 0;
        }
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
    index_t tail_;
    std::uint64_t frames_ = 0;
    std::uint64_t bytes_ = 0;
    std::uint64_t arrived_ = 0;
};

}  // namespace nm
