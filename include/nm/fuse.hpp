// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// forward, generate and drain: one loop each, in which the one-slot steps of whatever is connected to whatever are
// inlined. They leave in the rings what rxsync, a loop of the user's and txsync would leave: the same indexes, the same
// bytes. The difference is that a slot is touched once.

#include <algorithm>
#include <type_traits>

#include "nm/copy.hpp"
#include "nm/frame.hpp"
#include "nm/sync.hpp"

namespace nm {

/// The two slots of a swap: what goes out of the tx slot, what goes back into the rx slot (netmap(4), "Zero-copy
/// forwarding"). Fragments stay fragments, and the virtio-net header goes with its frame.
struct swapped {
    slot out;
    slot back;
};
[[nodiscard]] [[gnu::always_inline]] inline swapped swap_of(const slot& rx, const slot& tx) noexcept {
    constexpr std::uint16_t travels = ns_morefrag | ns_vnet;
    return {slot{rx.buf_idx, rx.len, static_cast<std::uint16_t>((rx.flags & travels) | ns_buf_changed), rx.ptr},
            slot{tx.buf_idx, rx.len, ns_buf_changed, rx.ptr}};
}

/// Copies the frame at the head of rx into the slot at the head of tx: for rings of two regions.
template <class Rx, class Tx>
    requires ring_type<Rx> && ring_type<Tx>
void copy_slot(Rx& rx, Tx& tx) noexcept {
    const slot s = load_slot(rx.slot());
    const slot t = load_slot(tx.slot());
    const std::uint16_t len = s.len <= rx.buf_size() ? s.len : std::uint16_t{0};
    if (len <= tx.buf_size()) copy_frame(tx.buf(t), rx.buf(s), len);
    const auto flags = static_cast<std::uint16_t>(s.flags & (ns_morefrag | ns_vnet));
    store_slot(tx.slot(), slot{t.buf_idx, len, flags, s.ptr});
}

/// Swaps the slots at the heads of two rings: the frame moves without a copy. The user then advances both. Rings of two
/// regions have no buffers to swap: there it copies.
template <class Rx, class Tx>
    requires ring_type<Rx> && ring_type<Tx>
void swap_slots(Rx& rx, Tx& tx) noexcept {
    if (rx.buffers().base != tx.buffers().base) return copy_slot(rx, tx);
    const swapped s = swap_of(load_slot(rx.slot()), load_slot(tx.slot()));
    store_slot(tx.slot(), s.out);
    store_slot(rx.slot(), s.back);
}

/// A callable that passes everything; a loop without a callable is a loop with this one.
struct pass_all {
    void operator()(slot&) const noexcept {}
};

namespace detail {

enum class step : unsigned { slot, frame, stop };  // what an odd slot was: a part or a hole, the end of a frame, left

/// What goes out of the tx slot `t` and what goes back into the rx slot `s`, in words.
struct moved {
    slot_words out;
    slot_words back;
};
template <bool Same>
[[nodiscard]] [[gnu::always_inline]] inline moved move_of(const slot_words& s, const slot_words& t) noexcept {
    constexpr std::uint64_t flags = slot_words::bits(ns_morefrag | ns_vnet);
    constexpr std::uint64_t index = slot_words::index_bits, len = slot_words::len_bits;
    if constexpr (Same)
        return {{s.lo & (index | len | flags), s.hi},
                {(t.lo & index) | (s.lo & len) | slot_words::bits(ns_buf_changed), s.hi}};
    else return {{(t.lo & index) | (s.lo & (len | flags)), s.hi}, s};
}

/// What goes back of a slot that was only looked at: the buffer's identity. What a callable did to len or flags of its
/// copy does not.
[[nodiscard]] [[gnu::always_inline]] inline slot_words returned(const slot_words& s, const slot& view) noexcept {
    return {(s.lo & ~slot_words::index_bits) | view.buf_idx, s.hi};
}

// A slot that cannot be part of a frame. What was one when the user saw it, and no more, is counted.
template <class B>
[[nodiscard]] bool hole(rx_ring<B>& from, const rx_batch<B>& rx, const slot_words& w) noexcept {
    if (w.len() == 0) return true;
    if (rx.valid(w) && w.len() <= rx.capacity()) return false;
    from.live().drop(rx.valid(w) ? cause::bad_len : cause::bad_idx);
    return true;
}

/// One slot that is not a whole good frame, or that meets a tx slot that is not usable. It has been parked. A frame of
/// several slots goes to one destination as a whole, whatever `budget` says: another ring's frames may come next.
template <bool Same, class RxB, class TxB, class F>
[[nodiscard]] [[gnu::noinline, gnu::cold]] step forward_odd(rx_ring<RxB>& from, tx_ring<TxB>& to, index_t& budget, F& fn) noexcept {
    rx_batch<RxB> rx(from, as_it_is{});
    tx_batch<TxB> tx(to, as_it_is{});
    chain_state open = from.verdict();
    slot_words w;
    if (rx.run(1) == 0 || !rx.template fetch<false>(w)) return step::stop;
    slot s = from_words(w);
    const bool ends = (s.flags & ns_morefrag) == 0;
    const bool first = open.frags == 0;
    bool drop = open.discard;
    if (!drop && first ? hole(from, rx, w) : drop) {
        // Nothing to send, and the rest of such a frame goes the same way.
        from.verdict() = {ends ? 0U : 1U, !ends};
        rx.give(w, false);
        rx.ran(1, w.len(), false);
        rx.store_back();
        return ends && !first ? step::frame : step::slot;
    }
    if (!rx.valid(w) || s.len > rx.capacity()) s.len = 0;  // takes the whole frame with it when it is put
    if (first && !ends) {
        const index_t slots = rx.frame_slots();
        rx.store_back();
        if (slots == 0) return step::stop;
        if (slots > tx.longest_frame()) {
            drop = true;
            ++to.live().frames;
            to.live().drop(cause::bad_chain);
        } else if (slots > tx.free() && slots > tx.more_room()) {
            return step::stop;
        }
        budget = std::max(budget, slots);
        if (!rx.template fetch<false>(w)) return step::stop;
    }
    if (!drop && s.len != 0) {
        const verdict v = show(fn, rx.data(w), s, rx.capacity(), first);
        if (v == verdict::stop) {
            if (first) return step::stop;
            budget = rx.frame_slots();  // the verdict on the first holds: the loop ends behind the frame
            if (!rx.template fetch<false>(w)) return step::stop;
        }
        drop = v == verdict::drop && first;
        if (drop) from.live().drop(cause::policy);
    }
    if (drop) {
        rx.give(w, false);
    } else {
        const slot_words t = tx.template peek<false>();
        const bool swaps = Same && tx.usable(t) && rx.valid(w);
        const moved m = swaps ? move_of<true>(words(s), t) : move_of<false>(words(s), t);
        if constexpr (!Same)
            if (tx.usable(t) && s.len <= rx.capacity() && s.len <= tx.capacity())
                copy_frame(tx.data(t), rx.data(w), s.len);
        tx.put(m.out, t);
        rx.give(swaps ? m.back : w, swaps);
    }
    rx.ran(1, w.len(), Same && !drop);
    from.verdict() = {ends ? 0U : 1U, !ends && drop};
    rx.store_back();
    tx.store_back();
    return ends ? step::frame : step::slot;
}

enum class why : unsigned { over, dry, odd, stop };  // a run of whole good frames ended

/// One loop for every forward. Same: the rings share a region, buffers are swapped; else frames are copied.
template <bool Same, class RxB, class TxB, class F>
[[gnu::always_inline]] inline index_t forward_loop(rx_ring<RxB>& from, tx_ring<TxB>& to, index_t max, F& fn) noexcept {
    constexpr bool looks = !std::is_same_v<std::remove_cvref_t<F>, pass_all>;
    constexpr bool prefetch = frame_callable<F> || !Same;
    rx_batch<RxB> rx(from);
    tx_batch<TxB> tx(to, max);
    from.verdict().discard = from.verdict().frags != 0;  // what is left of a frame that a drain began
    index_t frames = 0;
    for (index_t budget = max; budget != 0;) {
        const index_t all = rx.run(std::min(budget, tx.room()));
        if (all == 0) break;
        const bool clear = from.verdict().idle() && !tx.open() && !rx.skips();  // no frame of several slots is under way
        const index_t run = clear ? all : 0;
        index_t left = run;
        std::uint64_t bytes = 0;
        slot_words s{};
        why end = clear ? why::over : rx.template fetch<false>(s) ? why::odd : why::dry;
        for (; left != 0; --left) {
            if (!rx.template fetch<prefetch>(s)) {
                end = why::dry;
                break;
            }
            const slot_words t = tx.template peek<!Same>();
            if (!rx.plain(s) || !(Same ? rx.valid(t) : tx.usable(t)) || !tx.takes(s)) [[unlikely]] {
                end = why::odd;
                break;
            }
            bytes += s.len();
            slot_words now = s;
            if constexpr (looks) {
                slot view = from_words(s);
                const verdict v = show(fn, rx.data(s), view, rx.capacity(), true);
                now = words(view);
                if (v == verdict::stop) [[unlikely]] {
                    bytes -= s.len();
                    end = why::stop;
                    break;
                }
                if (v == verdict::drop) {
                    from.live().drop(cause::policy);
                    rx.give(s, false);
                    continue;
                }
            }
            const moved m = move_of<Same>(now, t);
            if constexpr (!Same)
                if (now.len() <= tx.capacity()) copy_frame(tx.data(t), rx.data(s), now.len());
            if constexpr (Same && !looks) tx.put_plain(m.out, t);  // checked as it arrived
            else tx.put(m.out, t);
            rx.give(Same ? m.back : s, Same);
        }
        rx.ran(run - left, bytes, Same);
        tx.wrap();
        if constexpr (Same && !looks) tx.count(bytes);
        frames += run - left;
        budget -= run - left;
        if (end == why::over) continue;
        if (end == why::dry) break;
        rx.park(s);
        if (end == why::stop) break;
        rx.store_back();
        tx.store_back();
        const step what = forward_odd<Same>(from, to, budget, fn);
        rx.load_again();
        tx.load_again();
        if (what == step::stop) break;
        --budget;
        frames += what == step::frame ? 1U : 0U;
    }
    tx.commit();
    rx.commit();
    return frames;
}

/// One slot that is not a whole good frame, or that follows a part of one. It has been parked.
template <class B, class F>
[[nodiscard]] [[gnu::noinline, gnu::cold]] step drain_odd(rx_ring<B>& from, index_t& budget, F& fn) noexcept {
    rx_batch<B> rx(from, as_it_is{});
    const bool open = from.verdict().frags != 0;
    slot_words w;
    if (rx.run(1) == 0 || !rx.template fetch<false>(w)) return step::stop;
    slot s = from_words(w);
    const bool ends = (s.flags & ns_morefrag) == 0;
    if (hole(from, rx, w)) {
        if (ends) from.verdict() = {};
        rx.give(w, false);
        rx.ran(1, w.len(), false);
        rx.store_back();
        return step::slot;
    }
    if (show(fn, rx.data(w), s, rx.capacity(), !open) == verdict::stop) return step::stop;
    if (!ends) budget = std::max(budget, 2U);  // a frame that was begun is finished
    const bool changed = s.buf_idx != w.buf_idx();
    rx.give(returned(w, s), changed);
    rx.ran(1, w.len(), changed);
    from.verdict() = {ends ? 0U : 1U, false};
    rx.store_back();
    return ends ? step::frame : step::slot;
}

}  // namespace detail

/// Moves up to `max` slots from a receive ring to a transmit ring, past `fn` if there is one, in one loop. Buffers are
/// swapped when both rings live in one region, else frames are copied. Stops when nothing has arrived, when there is no
/// room (nothing is lost: what does not fit stays), or at verdict::stop. Returns the frames that it took the end of,
/// the ones that `fn` dropped included. A frame of several slots goes as a whole: if need be past `max`, and not before there
/// is room for all of it.
template <rx_backend RxB, tx_backend TxB, packet_callable F = pass_all>
index_t forward(rx_ring<RxB>& from, tx_ring<TxB>& to, index_t max, F&& fn = {}) noexcept {
    if (from.buffers().base == to.buffers().base) return detail::forward_loop<true>(from, to, max, fn);
    return detail::forward_loop<false>(from, to, max, fn);
}

/// Sends up to `max` slots that `fn` writes: it fills data(), calls resize(), returns nothing or a verdict (anything but
/// pass: this slot stays unsent and the loop ends). Returns the frames that ended in them; fewer than max when the ring
/// is full.
template <tx_backend B, packet_callable F>
index_t generate(tx_ring<B>& to, index_t max, F&& fn) noexcept {
    tx_batch<B> tx(to, max);
    const std::uint64_t before_all = to.live().frames;
    bool first = !tx.open();
    for (index_t budget = max, run = 0; (run = std::min(tx.room(), budget)) != 0; budget -= run) {
        index_t left = run;
        for (; left != 0; --left) {
            const slot_words before = tx.template peek<frame_callable<F>>();
            slot s = from_words(before);
            s.flags = 0;
            if (tx.usable(before)) [[likely]] {
                if (show(fn, tx.data(before), s, tx.capacity(), first) != verdict::pass) break;
                first = (s.flags & ns_morefrag) == 0;
            }
            tx.put(words(s), before);
        }
        tx.wrap();
        if (left != 0) break;
    }
    tx.commit();
    return static_cast<index_t>(to.live().frames - before_all);
}

/// Takes up to `max` slots out of a receive ring, and the rest of a frame that these began, and shows each to `fn`.
/// Returns the frames that it took the end of.
template <rx_backend B, packet_callable F = pass_all>
index_t drain(rx_ring<B>& from, index_t max, F&& fn = {}) noexcept {
    using detail::step;
    using detail::why;
    rx_batch<B> rx(from);
    index_t frames = 0;
    for (index_t budget = max; budget != 0;) {
        const index_t all = rx.run(budget);
        if (all == 0) break;
        const bool clear = from.verdict().frags == 0 && !rx.skips();
        const index_t run = clear ? all : 0;
        index_t left = run;
        std::uint64_t bytes = 0;
        bool changed = false;
        slot_words s{};
        why end = clear ? why::over : rx.template fetch<false>(s) ? why::odd : why::dry;
        for (; left != 0; --left) {
            if (!rx.template fetch<frame_callable<F>>(s)) {
                end = why::dry;
                break;
            }
            if (!rx.plain(s)) [[unlikely]] {
                end = why::odd;
                break;
            }
            slot view = from_words(s);
            if (show(fn, rx.data(s), view, rx.capacity(), true) == verdict::stop) [[unlikely]] {
                end = why::stop;
                break;
            }
            bytes += s.len();
            changed |= view.buf_idx != s.buf_idx();
            rx.give(detail::returned(s, view), view.buf_idx != s.buf_idx());
        }
        rx.ran(run - left, bytes, changed);
        frames += run - left;
        budget -= run - left;
        if (end == why::over) continue;
        if (end == why::dry) break;
        rx.park(s);
        if (end == why::stop) break;
        rx.store_back();
        const step what = detail::drain_odd(from, budget, fn);
        rx.load_again();
        if (what == step::stop) break;
        --budget;
        frames += what == step::frame ? 1U : 0U;
    }
    rx.commit();
    return frames;
}

// The same over whole ports: ring i of one side to ring i of the other, wrapping where one side has fewer.

template <port_type P, port_type Q, packet_callable F = pass_all>
index_t forward(P& from, Q& to, index_t max, F&& fn = {}) noexcept {
    index_t frames = 0;
    const index_t outputs = to.num_tx_rings();
    for (index_t i = 0; i < from.num_rx_rings() && outputs != 0; ++i)
        frames += forward(from.rx(i), to.tx(i % outputs), max, fn);
    return frames;
}

template <port_type P, packet_callable F>
index_t generate(P& to, index_t max, F&& fn) noexcept {
    index_t frames = 0;
    for (index_t i = 0; i < to.num_tx_rings(); ++i) frames += generate(to.tx(i), max, fn);
    return frames;
}

template <port_type P, packet_callable F = pass_all>
index_t drain(P& from, index_t max, F&& fn = {}) noexcept {
    index_t frames = 0;
    for (index_t i = 0; i < from.num_rx_rings(); ++i) frames += drain(from.rx(i), max, fn);
    return frames;
}

}  // namespace nm
