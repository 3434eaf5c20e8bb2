// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Packet by packet, as libpcap's programs and netmap's nm_dispatch, nm_nextpkt and nm_inject have it, on any kind of port or on one of
// its rings. For who has a program of that shape: the loops of fuse.hpp are faster, and wait.hpp is how to sleep. None of these blocks,
// allocates or fails: what there is not (a frame, room) the result says. What is wrong with a port, `status()` says, and wait.
//
// Threads: as for all that touches rings, one thread per ring at a time, here: one that receives on a port and one that sends.

#include <algorithm>
#include <cstring>
#include <span>
#include <type_traits>

#include "nm/frame.hpp"
#include "nm/sync.hpp"

namespace nm {

/// A frame that has arrived, where it lies in the ring: a view. Nearly all have one slot, and are bytes(); one that was longer than a
/// buffer has more, part by part.
class received {
public:
    received() noexcept = default;
    received(ring_base& r, index_t at, index_t slots) noexcept : r_(&r), at_(at), slots_(slots) {}

    /// Whether there is a frame.
    [[nodiscard]] explicit operator bool() const noexcept { return slots_ != 0; }
    /// What lies in one piece: all of it, if slots() is 1 (pcap's caplen).
    [[nodiscard]] std::span<std::uint8_t> bytes() const noexcept { return part(0); }
    [[nodiscard]] index_t slots() const noexcept { return slots_; }
    /// What slot `i` of the frame holds; nothing behind the last.
    [[nodiscard]] std::span<std::uint8_t> part(index_t i) const noexcept {
        if (i >= slots_) return {};
        const slot s = load_slot(r_->slot((at_ + i) % r_->num_slots()));
        if (!r_->buffers().valid(s.buf_idx) || s.len > r_->buf_size()) return {};
        return {r_->buf(s), s.len};
    }
    /// Bytes of the whole frame (pcap's len).
    [[nodiscard]] std::size_t size() const noexcept {
        std::size_t sum = 0;
        for (index_t i = 0; i < slots_; ++i) sum += part(i).size();
        return sum;
    }
    /// The frame in one piece, as far as it fits; returns the bytes copied.
    std::size_t copy(std::span<std::uint8_t> to) const noexcept {
        std::size_t at = 0;
        for (index_t i = 0; i < slots_; ++i) {
            const auto from = part(i);
            const std::size_t n = std::min(from.size(), to.size() - at);
            if (n != 0) std::memcpy(to.data() + at, from.data(), n);
            at += n;
        }
        return at;
    }

private:
    ring_base* r_ = nullptr;
    index_t at_ = 0, slots_ = 0;
};

namespace detail {

// The whole frame at the ring's head. Passes holes, and what is no frame: one with a hole in it (counted when it arrived), one
// without an end.
template <rx_queue R>
[[nodiscard]] received frame_at_head(R& ring) noexcept {
    const index_t n = ring.num_slots();
    index_t left = std::min(ring_distance(ring.head(), ring.tail(), n), n - 1);
    const bool full = left == n - 1;
    while (left != 0) {
        const index_t at = ring.head();
        index_t slots = 0, i = at;
        bool more = true, good = true;
        for (; more && slots != std::min(left, max_frags); ++slots, i = ring.next(i)) {
            const slot s = load_slot(ring.slot(i));
            more = (s.flags & ns_morefrag) != 0;
            good = good && s.len != 0;
        }
        if (good && !more) return {ring, at, slots};
        if (more && slots != max_frags && !full) return {};  // the rest is still to come
        if (more) ring.live().drop(cause::bad_chain);
        ring.advance(slots);
        left -= slots;
    }
    return {};
}

// 0 as a limit: none.
template <rx_queue R, class F>
index_t dispatch(R& ring, index_t count, F& f, bool& stopped) noexcept(std::is_nothrow_invocable_v<F&, const received&>) {
    index_t done = 0;
    // What the last sync left, then what has arrived since.
    for (const bool again : {true, false}) {
        const index_t before = done;
        while (count == 0 || done != count) {
            const received frame = frame_at_head(ring);
            if (!frame) break;
            if constexpr (std::is_same_v<std::invoke_result_t<F&, const received&>, verdict>) {
                stopped = f(frame) == verdict::stop;
                if (stopped) break;
            } else {
                f(frame);
            }
            ring.advance(frame.slots());
            ++done;
        }
        if (again || done != before) (void)ring.rxsync();
        if (stopped || (count != 0 && done == count)) break;
    }
    return done;
}

}  // namespace detail

/// Shows up to `count` frames (0: all that are there) to `f`, which takes a `const received&`, in the order in which they arrived on
/// each ring, ring after ring. Does not wait; returns how many it took. They are given back before it returns: what `f` is shown is
/// its own, to read and to write, for the length of the call. `f` may return a verdict: at `stop` the frame stays where it is and the
/// loop ends (pcap_breakloop). If `f` throws, its frame stays, too.
template <rx_queue R, class F>
index_t dispatch(R& ring, index_t count, F&& f) noexcept(std::is_nothrow_invocable_v<F&, const received&>) {
    bool stopped = false;
    return detail::dispatch(ring, count, f, stopped);
}
template <port_type P, class F>
index_t dispatch(P& port, index_t count, F&& f) noexcept(std::is_nothrow_invocable_v<F&, const received&>) {
    bool stopped = false;
    index_t done = 0;
    for (index_t i = 0; i < port.num_rx_rings() && !stopped && (count == 0 || done != count); ++i)
        done += detail::dispatch(port.rx(i), count == 0 ? 0 : count - done, f, stopped);
    return done;
}

/// The next frame, or none: `while (auto frame = nm::next(port))`. It does not wait. The frame's bytes stay until the next call that
/// syncs the ring: this, dispatch, wait, rxsync, forward, drain.
template <rx_queue R>
[[nodiscard]] received next(R& ring) noexcept {
    received frame = detail::frame_at_head(ring);
    if (!frame) {
        (void)ring.rxsync();
        frame = detail::frame_at_head(ring);
    }
    ring.advance(frame.slots());
    return frame;
}
template <port_type P>
[[nodiscard]] received next(P& port) noexcept {
    received frame;
    for (index_t i = 0; i < port.num_rx_rings() && !frame; ++i) frame = next(port.rx(i));
    return frame;
}

/// Queues a copy of `bytes` as one frame, in as many slots as it takes. Returns bytes.size(), or 0 and nothing is queued: there is no
/// room (try again after `wait` for events::tx), or never will be (no bytes, or more than 64 buffers or the ring hold). What is queued
/// goes out together, with the next wait or txsync of the port, or when the ring is full; `flush` sends it now. A frame that the link
/// does not carry is counted then (`tx_stats()`, bad length).
template <tx_queue R>
[[nodiscard]] std::size_t inject(R& ring, std::span<const std::uint8_t> bytes) noexcept {
    const index_t n = ring.num_slots();
    const std::size_t each = std::min<std::size_t>(ring.buf_size(), 0xffff);
    if (bytes.empty() || bytes.size() > each * std::min(max_frags, n - 1)) return 0;
    const auto slots = static_cast<index_t>((bytes.size() + each - 1) / each);
    if (ring_distance(ring.head(), ring.tail(), n) < slots) {
        (void)ring.txsync();
        if (ring_distance(ring.head(), ring.tail(), n) < slots) return 0;
    }
    index_t i = ring.head();
    for (auto left = bytes; !left.empty(); i = ring.next(i)) {
        slot s = load_slot(ring.slot(i));
        s.len = static_cast<std::uint16_t>(std::min(left.size(), each));
        s.flags = static_cast<std::uint16_t>((s.flags & ns_buf_changed) | (left.size() > each ? ns_morefrag : 0));
        std::memcpy(ring.buf(s), left.data(), s.len);
        store_slot(ring.slot(i), s);
        left = left.subspan(s.len);
    }
    ring.set_head(i);
    return bytes.size();
}
/// On the first ring that has room.
template <port_type P>
[[nodiscard]] std::size_t inject(P& port, std::span<const std::uint8_t> bytes) noexcept {
    std::size_t sent = 0;
    for (index_t i = 0; i < port.num_tx_rings() && sent == 0; ++i) sent = inject(port.tx(i), bytes);
    return sent;
}

/// Sends what has been queued on all of the port's rings.
template <port_type P>
void flush(P& port) noexcept {
    for (index_t i = 0; i < port.num_tx_rings(); ++i) (void)port.tx(i).txsync();
}

}  // namespace nm
