// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// forward, generate and drain: one loop each, in which the one-slot steps of whatever is connected to whatever are
// inlined. They leave in the rings what rxsync, a loop of the user's and txsync would leave: the same indexes, the same
// bytes. The difference is that a slot is touched once.

#include <concepts>
#include <type_traits>

#include "nm/copy.hpp"
#include "nm/frame.hpp"
#include "nm/sync.hpp"

namespace nm {

template <class R>
inline constexpr bool is_tx_ring = false;
template <class B>
inline constexpr bool is_tx_ring<tx_ring<B>> = true;
template <class R>
inline constexpr bool is_rx_ring = false;
template <class B>
inline constexpr bool is_rx_ring<rx_ring<B>> = true;

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

/// Swaps the slots at the heads of two rings of one region: the frame moves without a copy. The user then advances
/// both.
template <class Rx, class Tx>
    requires ring_type<Rx> && ring_type<Tx>
void swap_slots(Rx& rx, Tx& tx) noexcept {
    const swapped s = swap_of(load_slot(rx.slot()), load_slot(tx.slot()));
    store_slot(tx.slot(), s.out);
    store_slot(rx.slot(), s.back);
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

/// A callable that passes everything; a loop without a callable is a loop with this one.
struct pass_all {
    void operator()(slot&) const noexcept {}
};

namespace detail {

/// One loop for every forward. Same: the rings share a region, buffers are swapped; else frames are copied.
template <bool Same, class RxB, class TxB, class F>
[[gnu::always_inline]] inline index_t forward_loop(rx_ring<RxB>& from, tx_ring<TxB>& to, index_t max, F& fn) noexcept {
    constexpr bool touches = frame_callable<F> || !Same;
    constexpr std::uint16_t travels = ns_morefrag | ns_vnet;
    rx_batch<RxB> rx(from);
    tx_batch<TxB> tx(to, max);
    chain_state open = rx.verdict();
    index_t budget = max;
    index_t room = tx.room();
    index_t frames = 0;
    slot s;
    for (; budget != 0 && room != 0; --budget) {
        const found what = rx.template next<touches>(s);
        if (what == found::nothing) break;
        const slot arrived = s;
        const bool first = open.frags == 0;
        bool drop = false;
        bool ends = true;
        if (what == found::odd || !open.idle()) [[unlikely]] {
            ends = (s.flags & ns_morefrag) == 0;
            if (s.len == 0 && ends && open.idle()) {
                rx.give(s, arrived);  // a hole
                continue;
            }
            drop = open.discard;
        }
        if (!drop) {
            const verdict v = show(fn, rx.data(s), s, rx.capacity(), first);
            if (v == verdict::stop) [[unlikely]] {
                rx.leave();
                break;
            }
            if (v == verdict::drop && first) {
                drop = true;
                from.stats().drop(cause::policy);
            }
        }
        if (drop) {
            rx.give(s, arrived);
        } else {
            const slot t = tx.template peek<!Same>();
            if constexpr (Same) {
                const swapped w = swap_of(s, t);
                tx.put(w.out, t);
                rx.give(w.back, arrived);
            } else {
                // A frame that does not fit keeps its length, so that put counts it as what it is.
                if (tx.usable(t) && s.len <= rx.capacity() && s.len <= tx.capacity())
                    copy_frame(tx.data(t), rx.data(s), s.len);
                tx.put(slot{t.buf_idx, s.len, static_cast<std::uint16_t>(s.flags & travels), s.ptr}, t);
                rx.give(s, arrived);
            }
            --room;
        }
        frames += ends ? 1U : 0U;
        open = {ends ? 0U : 1U, !ends && drop};
    }
    rx.verdict() = open;
    tx.commit();
    rx.commit();
    return frames;
}

}  // namespace detail

/// Moves up to `max` slots from a receive ring to a transmit ring, past `fn` if there is one, in one loop. Buffers are
/// swapped when both rings live in one region, else frames are copied. Stops when nothing has arrived, when there is no
/// room (nothing is lost: what does not fit stays), or at verdict::stop. Returns the frames that it took the end of,
/// the ones that `fn` dropped included. A frame of several slots may be cut by `max`; the next call goes on with it.
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
    const std::uint64_t before_all = to.stats().frames;
    bool first = true;
    for (index_t budget = tx.room() < max ? tx.room() : max; budget != 0; --budget) {
        const slot before = tx.template peek<frame_callable<F>>();
        slot s = before;
        s.flags = 0;
        if (tx.usable(s)) [[likely]] {
            if (show(fn, tx.data(s), s, tx.capacity(), first) != verdict::pass) break;
            first = (s.flags & ns_morefrag) == 0;
        }
        tx.put(s, before);
    }
    tx.commit();
    return static_cast<index_t>(to.stats().frames - before_all);
}

/// Takes up to `max` slots out of a receive ring and shows each to `fn`. Returns the frames that it took the end of.
template <rx_backend B, packet_callable F = pass_all>
index_t drain(rx_ring<B>& from, index_t max, F&& fn = {}) noexcept {
    rx_batch<B> rx(from);
    bool open = rx.verdict().frags != 0;
    index_t no_frames = 0;
    index_t budget = max;
    slot s;
    for (; budget != 0; --budget) {
        const found what = rx.template next<frame_callable<F>>(s);
        if (what == found::nothing) break;
        const slot arrived = s;
        bool first = true;
        if (what == found::odd || open) [[unlikely]] {
            const bool more = (s.flags & ns_morefrag) != 0;
            if (s.len == 0 && !more && !open) {
                ++no_frames;
                rx.give(s, arrived);  // a hole
                continue;
            }
            first = !open;
            open = more;
            no_frames += more ? 1U : 0U;
        }
        if (show(fn, rx.data(s), s, rx.capacity(), first) == verdict::stop) [[unlikely]] {
            rx.leave();
            break;
        }
        // Only the buffer's identity goes back; what fn did to len or flags of its copy does not.
        slot back = arrived;
        back.buf_idx = s.buf_idx;
        rx.give(back, arrived);
    }
    rx.verdict() = {open ? 1U : 0U, false};
    rx.commit();
    return max - budget - no_frames;
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
