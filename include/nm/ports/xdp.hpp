// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// AF_XDP as a backend: a slot is a descriptor. The region's buffers are the UMEM, so a frame is where the kernel put it.
// What the loops need per packet is in xdp_tx and xdp_rx, small values that live in registers; what is done once per
// batch, or to a frame that is not one plain slot, is in the states behind them.

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <span>
#include <vector>

#include "nm/concepts.hpp"
#include "nm/counters.hpp"
#include "nm/offload.hpp"
#include "nm/region.hpp"
#include "nm/ring.hpp"
#include "nm/sys/xdp.hpp"

namespace nm {

/// Where buffers are in the UMEM, and back. The division by the stride is exact, so it is a multiplication by the
/// inverse of its odd part.
struct umem_map {
    std::uint64_t first = 0;  // offset of buffer 0
    std::uint32_t stride = 0;
    std::uint32_t inverse = 0;
    std::uint32_t shift = 0;

    umem_map() noexcept = default;
    explicit umem_map(const region& m) noexcept
        : first(m.bufs_offset()), stride(m.buf_size()), shift(static_cast<std::uint32_t>(std::countr_zero(stride))) {
        const std::uint32_t odd = stride >> shift;
        inverse = odd;  // Newton: each step doubles the bits that are right
        for (int i = 0; i < 5; ++i) inverse *= 2U - odd * inverse;
    }
    [[nodiscard]] std::uint64_t address(std::uint32_t idx) const noexcept {
        return first + static_cast<std::uint64_t>(idx) * stride;
    }
    [[nodiscard]] std::uint32_t index(std::uint64_t address) const noexcept {
        return static_cast<std::uint32_t>((address - first) >> shift) * inverse;
    }
};

/// What both halves of a queue keep about their ring.
struct xdp_side {
    sys::xdp_socket* socket = nullptr;
    region* memory = nullptr;
    umem_map map;
    slot* slots = nullptr;
    index_t num_slots = 0;
    live_counters* stats = nullptr;
    std::atomic<bool>* armed = nullptr;  // the port's, for this direction: somebody sleeps, or is about to
    void (*disarm)(void*) noexcept = nullptr;
    void* port = nullptr;
    std::vector<std::uint8_t> held;  // by buffer: the kernel has it

    void after_publish() noexcept {
        if (armed->load(std::memory_order_relaxed)) [[unlikely]]
            disarm(port);
    }
    [[nodiscard]] std::uint8_t* data(std::uint64_t address) const noexcept {
        return reinterpret_cast<std::uint8_t*>(memory->base()) + address;
    }
    /// When the socket is gone: the slots from `at` on, which were the kernel's, get its buffers back.
    void restore(index_t at, std::vector<std::uint32_t> spare) noexcept {
        for (std::uint32_t b = 0; b < held.size(); ++b)
            if (held[b] != 0) spare.push_back(b);
        if (spare.size() > num_slots) spare.resize(num_slots);
        for (const auto b : spare) {
            slots[at].buf_idx = b;
            at = ring_next(at, num_slots);
        }
        held.clear();
    }
};

/// One tx ring's cold half. A slot that comes back carries whichever buffer is free: one that the kernel completed, or
/// one whose slot went out without being sent (a hole, a drop).
struct xdp_tx_state : xdp_side {
    /// Descriptors written, and those of them that belong to complete frames.
    struct indexes {
        std::uint32_t written = 0;
        std::uint32_t complete = 0;
    };
    index_t done = 0;           // first slot that has not come back
    std::uint32_t max_len = 0;  // of a frame without a tag: MTU and Ethernet header
    std::uint32_t frame_len = 0;
    bool bad_header = false;
    std::vector<std::uint32_t> spare;

    /// What put does with anything but one plain frame in one slot.
    [[gnu::noinline, gnu::cold]] indexes put_special(slot s, indexes at) noexcept {
        const bool more = (s.flags & ns_morefrag) != 0;
        if (s.len == 0) {
            spare.push_back(s.buf_idx);
        } else {
            held[s.buf_idx] = 1;
            descriptor(at.written) = {map.address(s.buf_idx), s.len, sys::xdp_more};
            if (at.written == at.complete && (s.flags & ns_vnet) != 0) bad_header = !finish_frame(s, {data(map.address(s.buf_idx)), s.len});
            ++at.written;
            frame_len += s.len;
        }
        if (more) return at;
        if (at.written != at.complete) {
            const std::uint32_t frags = at.written - at.complete;
            const std::uint32_t most = socket->multi_buffer() ? sys::xdp_max_tx_frags : 1U;
            if (bad_header) drop_frame(at, cause::bad_hdr);
            else if (frame_len < 14 || !fits_link(first_bytes(at), frame_len, max_len)) drop_frame(at, cause::bad_len);
            else if (frags > most && !make_linear(at)) drop_frame(at, cause::bad_chain);
            else descriptor(at.written - 1).options = 0;
        }
        bad_header = false;
        frame_len = 0;
        at.complete = at.written;
        return at;
    }

    /// The descriptors of an unfinished frame are taken back.
    [[gnu::noinline, gnu::cold]] std::uint32_t take_back(indexes at) noexcept {
        for (auto i = at.complete; i != at.written; ++i) {
            const auto b = map.index(descriptor(i).addr);
            held[b] = 0;
            spare.push_back(b);
        }
        frame_len = 0;
        bad_header = false;
        return at.complete;
    }

    [[gnu::noinline]] void publish(std::uint32_t complete) noexcept {
        const auto& r = socket->tx();
        if (*r.producer != complete) {
            __atomic_store_n(r.producer, complete, __ATOMIC_RELEASE);  // P1: descriptors before the index
            kick();
        }
        after_publish();
    }

    /// Whether slots could come back now; pushes what the kernel has not taken yet.
    [[nodiscard]] bool freed() noexcept {
        if (sent() != *socket->tx().producer) kick();
        const auto& r = socket->completion();
        return !spare.empty() || *r.consumer != __atomic_load_n(r.producer, __ATOMIC_ACQUIRE);
    }

    [[gnu::noinline]] index_t reclaim() noexcept {
        const auto& r = socket->completion();
        auto at = *r.consumer;
        auto end = __atomic_load_n(r.producer, __ATOMIC_ACQUIRE);  // C1
        if (at == end && sent() != *socket->tx().producer) {
            kick();
            end = __atomic_load_n(r.producer, __ATOMIC_ACQUIRE);
        }
        for (; at != end; ++at) {
            const auto b = map.index(static_cast<const std::uint64_t*>(r.descriptors)[at & r.mask] & sys::xdp_address_mask);
            if (b >= held.size()) [[unlikely]] continue;
            held[b] = 0;
            come_back(b);
        }
        __atomic_store_n(r.consumer, end, __ATOMIC_RELEASE);
        for (; !spare.empty(); spare.pop_back()) come_back(spare.back());
        return ring_prev(done, num_slots);
    }

private:
    [[nodiscard]] xdp_desc& descriptor(std::uint32_t i) const noexcept {
        return static_cast<xdp_desc*>(socket->tx().descriptors)[i & socket->tx().mask];
    }
    [[nodiscard]] std::uint32_t sent() const noexcept { return __atomic_load_n(socket->tx().consumer, __ATOMIC_ACQUIRE); }

    [[nodiscard]] std::span<const std::uint8_t> first_bytes(indexes at) const noexcept {
        const auto& d = descriptor(at.complete);
        return {data(d.addr), d.len};
    }

    void come_back(std::uint32_t b) noexcept {
        const slot before = load_slot(slots[done]);
        slot s = before;
        s.flags = s.buf_idx != b ? ns_buf_changed : std::uint16_t{0};
        s.buf_idx = b;
        update_slot(slots[done], s, before);
        done = ring_next(done, num_slots);
    }

    // One sendto moves 32 descriptors, or the budget that the kernel agreed to.
    void kick() noexcept {
        const auto& r = socket->tx();
        const auto all = *r.producer;
        for (std::uint32_t budget = r.size; budget != 0; --budget) {
            if ((__atomic_load_n(r.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) == 0) return;
            const auto before = sent();
            const int e = socket->kick_tx();
            if (e == EBUSY) {
                stats->drop(cause::full);  // completed, and its buffer comes back, but it was never sent
                continue;
            }
            const auto now = sent();
            if (now == all || now == before || (e != 0 && e != EAGAIN)) return;
        }
    }

    [[nodiscard]] bool make_linear(indexes& at) noexcept {
        if (frame_len > map.stride) return false;
        auto& first = descriptor(at.complete);
        for (auto i = at.complete + 1; i != at.written; ++i) {
            const auto& d = descriptor(i);
            std::memcpy(data(first.addr) + first.len, data(d.addr), d.len);
            first.len += d.len;
            held[map.index(d.addr)] = 0;
            spare.push_back(map.index(d.addr));
        }
        first.options = 0;
        at.written = at.complete + 1;
        return true;
    }

    void drop_frame(indexes& at, cause why) noexcept {
        stats->drop(why);
        at.written = take_back(at);
    }
};

struct xdp_tx {
    xdp_tx_state* state = nullptr;
    xdp_desc* descriptors = nullptr;
    std::uint8_t* held = nullptr;
    std::uint64_t first = 0;
    std::uint32_t stride = 0;
    std::uint32_t mask = 0;
    std::uint32_t max_len = 0;
    xdp_tx_state::indexes at;

    /// Whether a whole frame in one slot needs nothing done to it, nor is longer than the link carries.
    [[nodiscard]] [[gnu::always_inline]] bool takes(const slot_words& s) const noexcept {
        return s.len() - 14U <= max_len - 14U && !s.has(ns_vnet);
    }
    [[gnu::always_inline]] void put_plain(const slot_words& s) noexcept {
        const std::uint32_t b = s.buf_idx();
        held[b] = 1;
        descriptors[at.written & mask] = {first + static_cast<std::uint64_t>(b) * stride, s.len(), 0};
        at.complete = ++at.written;
    }
    void put(slot& s) noexcept { at = state->put_special(s, at); }
};

/// One rx ring's cold half.
struct xdp_rx_state : xdp_side {
    /// What a frame of several descriptors, the first of which is at `at`, comes to: how many it has, whether they fit.
    struct chain {
        std::uint32_t length;
        bool deliver;
    };
    [[gnu::noinline, gnu::cold]] chain measure(std::uint32_t at, std::uint32_t end, std::uint32_t room) noexcept {
        const auto& r = socket->rx();
        std::uint32_t n = 1;
        for (; at != end; ++at, ++n) {
            const auto& d = static_cast<const xdp_desc*>(r.descriptors)[at & r.mask];
            if ((d.options & sys::xdp_more) != 0) continue;
            if (n > max_frags || n >= num_slots) {
                stats->drop(cause::bad_chain);
                return {n, false};
            }
            return {n <= room ? n : 0, true};
        }
        return {0, true};  // the rest has not arrived
    }

    [[gnu::noinline]] void publish(std::uint32_t taken, std::uint32_t given) noexcept {
        const auto& r = socket->rx();
        const auto& f = socket->fill();
        if (*r.consumer != taken) __atomic_store_n(r.consumer, taken, __ATOMIC_RELEASE);
        if (*f.producer != given) __atomic_store_n(f.producer, given, __ATOMIC_RELEASE);  // P1
        if ((__atomic_load_n(f.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0) (void)socket->kick_rx();
        after_publish();
    }
};

struct xdp_rx {
    xdp_rx_state* state = nullptr;
    const xdp_desc* descriptors = nullptr;
    std::uint32_t* producer = nullptr;
    std::uint64_t* fill = nullptr;
    std::uint8_t* held = nullptr;
    umem_map map;
    std::uint32_t mask = 0;
    std::uint32_t fill_mask = 0;
    std::uint32_t taken = 0;     // descriptors that became slots
    std::uint32_t seen = 0;      // the kernel's producer index, as last read
    std::uint32_t approved = 0;  // up to here frames are known to be whole and to fit
    std::uint32_t given = 0;     // buffers in the fill ring, ever
    bool chains = true;          // frames of several descriptors may come

    [[nodiscard]] [[gnu::always_inline]] bool ready() noexcept {
        if (taken == seen) {
            seen = __atomic_load_n(producer, __ATOMIC_ACQUIRE);  // C1
            if (taken == seen) return false;
        }
        if ((descriptors[taken & mask].options & sys::xdp_more) != 0) [[unlikely]]
            return whole();
        return true;
    }
    /// Descriptors that are there: those up to a frame of several, or all of such a frame.
    [[nodiscard]] [[gnu::always_inline]] index_t available() noexcept {
        if (!ready()) return 0;
        return chains ? until_chain() : seen - taken;
    }
    [[gnu::always_inline]] void get(slot& s) noexcept {
        const xdp_desc d = descriptors[taken & mask];
        s.buf_idx = index_of(d);
        s.len = static_cast<std::uint16_t>(d.len);
        s.flags = static_cast<std::uint16_t>(ns_buf_changed | ((d.options & sys::xdp_more) != 0 ? ns_morefrag : 0U));
        held[s.buf_idx] = 0;
        ++taken;
    }
    [[gnu::always_inline]] void give(const slot& s) noexcept {
        if (s.buf_idx >= 2) [[likely]]  // 0: the user lost the buffer
            give_buffer(s.buf_idx);
    }

private:
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t index_of(const xdp_desc& d) const noexcept {
        return map.index((d.addr & sys::xdp_address_mask) + (d.addr >> sys::xdp_offset_shift));
    }
    [[gnu::always_inline]] void give_buffer(std::uint32_t b) noexcept {
        held[b] = 1;
        fill[given & fill_mask] = map.address(b) - sys::xdp_headroom;
        ++given;
    }
    [[nodiscard]] index_t until_chain() const noexcept {
        if ((descriptors[taken & mask].options & sys::xdp_more) != 0) return approved - taken;
        std::uint32_t i = taken;
        while (i != seen && (descriptors[i & mask].options & sys::xdp_more) == 0) ++i;
        return i - taken;
    }
    // A frame of several slots is shown when all of it is there and the ring has room for it: half a frame never is.
    [[nodiscard]] bool whole() noexcept {
        while (static_cast<std::int32_t>(approved - taken) <= 0) {
            const auto c = state->measure(taken, seen, given - taken - 1);
            if (c.deliver) {
                approved = taken + c.length;
                return c.length != 0;
            }
            for (std::uint32_t i = 0; i < c.length; ++i, ++taken) give_buffer(index_of(descriptors[taken & mask]));
            if (taken == seen) return false;
            if ((descriptors[taken & mask].options & sys::xdp_more) == 0) return true;
        }
        return true;
    }
};

}  // namespace nm
