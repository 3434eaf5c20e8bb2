// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// txsync and rxsync: netmap's two operations, over the batches of batch.hpp and rx_batch.hpp.

#include <algorithm>
#include <cstdint>
#include <utility>

#include "nm/batch.hpp"
#include "nm/concepts.hpp"
#include "nm/ring_base.hpp"
#include "nm/rx_batch.hpp"
#include "nm/taps.hpp"

namespace nm {

/// A transmit ring over backend B.
template <tx_backend B>
class tx_ring : public ring_base {
public:
    using backend_type = B;
    tx_ring(ring* shared, index_t num_slots, const region& m, B b) noexcept
        : tx_ring(shared, num_slots, m, std::move(b), {num_slots, 0, num_slots - 1}) {}
    /// One that stands somewhere already.
    tx_ring(ring* shared, index_t num_slots, const region& m, B b, const kring& at) noexcept
        : ring_base(shared, num_slots, m), b_(std::move(b)), shown_(at.hwcur) {
        k_ = at;
        finish();
    }

    /// Pushes out what the user queued (slots before head) and takes back what has been sent: tail goes forward.
    /// Returns the number of slots pushed.
    index_t txsync(sync_flags f = sync_flags::force_reclaim) noexcept {
        const index_t head = prologue();
        const index_t pushed = ring_distance(k_.hwcur, head, k_.num_slots);
        if (pushed != 0) push(head);
        publish();
        reclaim(head, f);
        finish();
        return pushed;
    }

    /// The user has gone in the middle of a frame of several slots: what there is of it is dropped, and the next slot begins a frame.
    void abandon() noexcept {
        if (chain_.frags != 0) {
            b_.cancel(k_.hwcur, chain_.frags);
            c_.drop(cause::bad_chain);
            ++c_.frames;
            shown_ = k_.hwcur;  // nor do monitors see it, as the beginning of who comes next's first frame
        }
        chain_ = {};
    }

    [[nodiscard]] B& backend() noexcept { return b_; }
    [[nodiscard]] const B& backend() const noexcept { return b_; }
    void start_at(index_t hwcur, index_t hwtail) noexcept {
        ring_base::start_at(hwcur, hwtail);
        shown_ = hwcur;
    }
    /// Whether something is under way: queued and not synced, or synced and not yet taken back (nm_tx_pending).
    [[nodiscard]] bool pending() const noexcept { return k_.next(tail()) != head(); }

private:
    friend class tx_batch<B>;

    // Takes over what the user queued by hand, without publishing it.
    [[gnu::noinline]] void push(index_t head) noexcept {
        tx_batch<B> batch(*this, as_it_is{});
        while (batch.at() != head) {
            const slot_words s = batch.template peek<false>();
            batch.put(s, s);
            batch.wrap();
        }
        batch.store_back();
    }

    // Slot hwcur goes out as s, which is a fragment, an address, a hole, or nothing that can be sent. A bad slot takes its
    // whole frame with it; its place is kept by holes.
    [[gnu::noinline, gnu::cold]] void put_odd(const slot_words w, const slot_words before) noexcept {
        nm::slot s = from_words(w);
        const index_t i = k_.hwcur;
        const bool more = (s.flags & ns_morefrag) != 0;
        const bool last_that_fits = chain_.frags + 1 == max_frags || chain_.frags + 2 >= k_.num_slots;
        const bool indirect = (s.flags & ns_indirect) != 0;
        if (!bufs_.valid(s.buf_idx) || (indirect && !address(s))) reject(s, cause::bad_idx);
        else if (s.len > bufs_.size && !indirect) reject(s, cause::bad_len);
        else if (s.len == 0 && !more && chain_.idle()) hole(s);  // the user's own
        else if (chain_.discard || s.len == 0 || (more && last_that_fits)) reject(s, cause::bad_chain);
        else {
            chain_.frags = more ? chain_.frags + 1 : 0;
            c_.frames += more ? 0U : 1U;
            c_.bytes += s.len;
            s = from_words(put_one(b_, i, words(s)));
        }
        ++c_.slots;
        s.flags = static_cast<std::uint16_t>(s.flags & ~ns_buf_changed);
        update_words(slots_[i], words(s), before);
        k_.hwcur = k_.next(i);
    }

    // Whether an address may stand in for the slot's buffer here. Where it may, the memory behind it is the sender's own to
    // vouch for (the same process: nothing to be protected from); null is what an unset field holds.
    [[nodiscard]] bool address(const nm::slot& s) const noexcept {
        if constexpr (may_take_indirect<B>) return b_.takes_indirect() && (s.ptr != 0 || s.len == 0);
        else return false;
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

    // A backend whose slots come back with the buffers they went out with, unread and unwritten, once they are sent.
    [[nodiscard]] bool returns_frames() const noexcept {
        if constexpr (requires { { b_.returns_frames() } noexcept -> std::same_as<bool>; }) return b_.returns_frames();
        else return false;
    }
    [[gnu::always_inline]] void publish() noexcept {
        const index_t end = whole();
        if (taps() != nullptr) [[unlikely]]
            show(end);
        shown_ = end;
        b_.publish(end);
    }
    [[gnu::always_inline]] void reclaim(index_t head, sync_flags f) noexcept {
        k_.hwtail = b_.reclaim(head, f);
        if constexpr (doubts_peer<B>) c_.reinits += b_.take_violations();
        if (taps() != nullptr) [[unlikely]]
            returned();
    }
    // Before frames go, monitors look at them: whole ones, since the last time.
    [[gnu::noinline, gnu::cold]] void show(index_t end) noexcept {
        if (ring_taps* t = taps(); t->live() && shown_ != end) t->show(look(), shown_, end, returns_frames());
    }
    [[nodiscard]] tapped_ring look() const noexcept {
        if constexpr (may_take_indirect<B>) return {slots_, k_.num_slots, bufs_, b_.takes_indirect()};
        else return {slots_, k_.num_slots, bufs_};
    }
    [[gnu::noinline, gnu::cold]] void returned() noexcept {
        ring_taps* t = taps();
        if (returns_frames() && t->live())
            t->released(look(), k_.hwcur, ring_distance(k_.hwcur, k_.hwtail, k_.num_slots));
    }

    // Where the last whole frame ends.
    [[nodiscard]] index_t whole() const noexcept {
        const index_t frags = chain_.frags;
        return k_.hwcur >= frags ? k_.hwcur - frags : k_.hwcur + k_.num_slots - frags;
    }

    B b_;
    chain_state chain_;
    index_t shown_ = 0;  // where the last publication ended
};

/// A receive ring over backend B.
template <rx_backend B>
class rx_ring : public ring_base {
public:
    using backend_type = B;
    rx_ring(ring* shared, index_t num_slots, const region& m, B b) noexcept
        : rx_ring(shared, num_slots, m, std::move(b), {num_slots, 0, 0}) {}
    /// One that stands somewhere already.
    rx_ring(ring* shared, index_t num_slots, const region& m, B b, const kring& at) noexcept
        : ring_base(shared, num_slots, m), b_(std::move(b)) {
        k_ = at;
        finish();
    }

    /// Gives back what the user released (slots before head) and takes what has arrived: tail goes forward. Returns
    /// the number of new slots. Stamps `ts` unless timestamps are off.
    index_t rxsync() noexcept {
        const index_t head = prologue();
        if (head != k_.hwcur) take_back(head);
        const index_t from = k_.hwtail;
        rx_batch<B> batch(*this, as_it_is{});
        const index_t n = batch.receive_all();
        if (n != 0 && tapped()) [[unlikely]]
            taps()->show(look(), from, k_.hwtail, true);
        if (stamps_ || (load_once(r_->flags) & nr_timestamp) != 0) stamp();
        return n;
    }

    /// Called with the slots from hwcur to `head`, which the user released by hand, before they are taken back.
    struct release_hook {
        void (*call)(void* with, rx_ring& ring, index_t head) noexcept = nullptr;
        void* with = nullptr;
    };
    void on_release(release_hook h) noexcept { released_ = h; }

    void set_timestamps(bool on) noexcept { stamps_ = on; }
    /// Where a fused loop stands in a frame of several slots, from one call to the next.
    [[nodiscard]] chain_state& verdict() noexcept { return verdict_; }
    [[nodiscard]] B& backend() noexcept { return b_; }
    [[nodiscard]] const B& backend() const noexcept { return b_; }

private:
    friend class rx_batch<B>;

    // Takes back what the user released by hand, without publishing it. Whether he swapped a buffer is his to know:
    // it is taken for granted.
    [[gnu::noinline]] void take_back(index_t head) noexcept {
        if (released_.call != nullptr) [[unlikely]]
            released_.call(released_.with, *this, head);
        if (tapped()) [[unlikely]]
            taps()->released(look(), k_.hwcur, ring_distance(k_.hwcur, head, k_.num_slots));
        rx_batch<B> batch(*this, as_it_is{});
        while (batch.at() != head) batch.give_user();
        batch.store_back();
    }

    // Before a fused loop: what the user released by hand has been taken back. Where monitors look, the loop does first what
    // rxsync does, and then finds only what has been seen.
    [[nodiscard]] [[gnu::always_inline]] rx_ring& visited() noexcept {
        if (const index_t head = prologue(); head != k_.hwcur) [[unlikely]]
            take_back(head);
        if (taps() != nullptr) [[unlikely]]
            arrive();
        return *this;
    }
    [[nodiscard]] [[gnu::always_inline]] bool tapped() const noexcept {
        const ring_taps* t = taps();
        return t != nullptr && t->live();
    }
    [[nodiscard]] tapped_ring look() const noexcept { return {slots_, k_.num_slots, bufs_}; }
    // The loop may move buffers on: what rxsync left for monitors to have at the time of release is copied now.
    [[gnu::noinline, gnu::cold]] void arrive() noexcept {
        if (!taps()->live()) return;
        taps()->copy_kept(look());
        const index_t from = k_.hwtail;
        rx_batch<B> batch(*this, as_it_is{});
        if (batch.receive_all() != 0) taps()->show(look(), from, k_.hwtail, false);
    }

    // Of a backend that is not to be believed: the frame of several slots that begins at t, of which `avail` slots have arrived. It is
    // taken as a whole, or all of it becomes holes. Who plays by the rules publishes whole frames; of one that is not, what follows
    // up to its end goes the same way. Returns the slots taken. Each is read from shared memory once, here.
    [[nodiscard]] [[gnu::noinline, gnu::cold]] index_t take_chain(index_t t, index_t avail) noexcept
        requires(doubts_peer<B>)
    {
        const index_t most = skips_ ? 1 : std::min({avail, max_frags, k_.num_slots - 1});
        const bool skips = skips_;
        cause why = cause::bad_chain;
        bool good = !skips, ends = false;
        index_t k = 0;
        std::uint64_t bytes = 0;
        for (index_t i = t; k < most && !ends; ++k, i = k_.next(i)) {
            nm::slot s = load_slot(slots_[i]);
            const nm::slot before = s;
            b_.get(i, s);
            update_slot(slots_[i], s, before);
            const bool valid = bufs_.valid(s.buf_idx);
            if (good && (!valid || s.len == 0 || s.len > bufs_.size)) {
                good = false;
                why = !valid ? cause::bad_idx : s.len == 0 ? cause::bad_chain : cause::bad_len;
            }
            bytes += s.len;
            ends = (s.flags & ns_morefrag) == 0;
        }
        skips_ = !ends;
        if (good && ends) {
            c_.bytes += bytes;
            c_.frames -= k - 1;  // all are counted as frames when they have been taken
            return k;
        }
        if (!skips) c_.drop(why);
        c_.frames -= k;
        index_t i = t;
        for (index_t j = 0; j != k; ++j, i = k_.next(i)) {
            const nm::slot s = load_slot(slots_[i]);
            store_slot(slots_[i], {bufs_.valid(s.buf_idx) ? s.buf_idx : 0, 0, 0, 0});
        }
        return k;
    }

    B b_;
    bool skips_ = false;  // what arrives is the rest of a frame that was not taken
    chain_state verdict_;  // of the frame that a forward has begun
    release_hook released_;
    bool stamps_ = true;
};

}  // namespace nm
