// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Every public concept of nm: the page to learn it from. A port is a set of rings; a ring is netmap's ring in shared
// memory, private truth about it, and a backend; a backend is a few one-slot steps. The loops are written once, in
// sync.hpp and fuse.hpp, over these steps.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "nm/slot.hpp"

namespace nm {

/// How hard a sync should try.
enum class sync_flags : unsigned {
    none = 0,
    force_reclaim = 1,  ///< look at the other side even when there is room enough (NAF_FORCE_RECLAIM)
};
[[nodiscard]] constexpr bool has(sync_flags f, sync_flags bit) noexcept {
    return (static_cast<unsigned>(f) & static_cast<unsigned>(bit)) != 0;
}

/// 16 bytes with netmap's four fields.
template <class S>
concept slot_type = std::is_trivially_copyable_v<S> && sizeof(S) == 16 && requires(S s) {
    { s.buf_idx } -> std::convertible_to<std::uint32_t>;
    { s.len } -> std::convertible_to<std::uint16_t>;
    { s.flags } -> std::convertible_to<std::uint16_t>;
    { s.ptr } -> std::convertible_to<std::uint64_t>;
};

/// Where frames go.
///  - put(i, s): slot i goes out; s is a checked private copy, and what put leaves in it is written back to the ring.
///  - hole(i, s): slot i keeps its place and nothing is sent. s has len 0; a buffer of 0 means that the slot's was lost,
///    and a backend that knows which one it was puts it back.
///  - cancel(i, k): the k slots before i, put but not published, become holes (a chain that turned out bad).
///  - publish(i): once per batch, all before i is out: a release store, a doorbell, a system call. i is the end of the
///    last whole frame, so that nobody sees a part of one.
///  - reclaim(i, f): i is the ring's hwcur; returns the new hwtail, having written the buf_idx of each slot it returns.
/// A backend is a small trivially copyable value: loops work on a copy in registers and store it back.
template <class B, class S = slot>
concept tx_backend = slot_type<S> && std::is_trivially_copyable_v<B> && requires(B& b, S& s, index_t i, sync_flags f) {
    { b.put(i, s) } noexcept;
    { b.publish(i) } noexcept;
    { b.reclaim(i, f) } noexcept -> std::same_as<index_t>;
    { b.hole(i, s) } noexcept;
    { b.cancel(i, i) } noexcept;
};

/// Where frames come from.
///  - ready(i): whether slot i is filled.
///  - get(i, s): descriptor to slot; s comes in as what lies in the ring.
///  - give(i, s): the user is done with slot i; s holds the buffer that goes back, which may be another one
///    (ns_buf_changed).
///  - publish(i): once per batch, all before i has been given back.
template <class B, class S = slot>
concept rx_backend = slot_type<S> && std::is_trivially_copyable_v<B> && requires(B& b, S& s, index_t i) {
    { b.ready(i) } noexcept -> std::same_as<bool>;
    { b.get(i, s) } noexcept;
    { b.give(i, s) } noexcept;
    { b.publish(i) } noexcept;
};

/// A backend that takes its slots as words is spared the way through the fields.
template <class B>
concept puts_words = requires(const B& b, index_t i, const slot_words& w) { b.put(i, w); };

/// A backend for which not every whole frame is plain: takes() says which are, put_plain() is put() for those.
template <class B>
concept picks_plain = requires(B& b, const B& c, index_t i, const slot_words& w) {
    { c.takes(w) } noexcept -> std::same_as<bool>;
    { b.put_plain(i, w) } noexcept;
};

/// A backend that may take slots with ns_indirect, and says whether it does. To any other they are bad slots.
template <class B>
concept may_take_indirect = requires(const B& b) { { b.takes_indirect() } noexcept -> std::same_as<bool>; };

/// A backend whose other side may break the rules: it says how often that was seen, since it was last asked. What arrives through one
/// that receives is taken only as whole good frames.
template <class B>
concept doubts_peer = requires(B& b) { { b.take_violations() } noexcept -> std::same_as<std::uint32_t>; };

/// What the user sees of any ring, in netmap's words.
template <class R>
concept ring_type = requires(R& r, const R& c, index_t i) {
    { c.num_slots() } noexcept -> std::same_as<index_t>;
    { c.head() } noexcept -> std::same_as<index_t>;
    { c.cur() } noexcept -> std::same_as<index_t>;
    { c.tail() } noexcept -> std::same_as<index_t>;
    { r.slot(i) } noexcept;
    { r.advance(i) } noexcept;
    { c.space() } noexcept -> std::same_as<index_t>;
};

template <class R>
concept tx_queue = ring_type<R> && requires(R& r, sync_flags f) {
    { r.txsync(f) } noexcept;
};

template <class R>
concept rx_queue = ring_type<R> && requires(R& r) {
    { r.rxsync() } noexcept;
};

/// A set of rings over one region. (`p.tx(i)` is an lvalue: the concept is asked of the type behind the reference.)
template <class P>
concept port_type = requires(P& p, index_t i) {
    { p.num_tx_rings() } -> std::same_as<index_t>;
    { p.num_rx_rings() } -> std::same_as<index_t>;
    requires tx_queue<std::remove_reference_t<decltype(p.tx(i))>>;
    requires rx_queue<std::remove_reference_t<decltype(p.rx(i))>>;
    p.region();
    p.name();
    p.mode();
};

/// A port that can be slept on (wait.hpp): a descriptor that is readable when there is work in an armed direction.
template <class P>
concept waitable = port_type<P> && requires(P& p) {
    { p.fd() } -> std::same_as<int>;
    p.arm({});  // events
    p.status();
};

/// Tells a sleeping peer. A test's counts; a spinning program's does nothing.
template <class N>
concept notifier = std::is_trivially_copyable_v<N> && requires(const N& n) {
    { n.notify() } noexcept;
};

template <class C>
concept clock_type = requires {
    C::wall();
    C::now_ns();
};

/// Memory that ports live in; dma_region adds the address a device sees.
template <class R>
concept region_type = requires(const R& r, std::uint32_t i) {
    { r.base() } -> std::same_as<std::byte*>;
    { r.size() } -> std::same_as<std::size_t>;
    { r.buf(i) } -> std::same_as<std::byte*>;
    { r.num_bufs() } -> std::same_as<std::uint32_t>;
    { r.buf_size() } -> std::same_as<std::uint32_t>;
};
template <class R>
concept dma_region = region_type<R> && requires(const R& r, std::uint32_t i) {
    { r.iova(i) } -> std::same_as<std::uint64_t>;
};

}  // namespace nm
