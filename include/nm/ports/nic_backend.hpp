// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A device's queues as the backends of rings. What all devices have in common is here: frames of several slots, frames that
// must not be sent, sleepers; and the rings to the host's stack, which pass a TAP in the device's place, with one branch per
// step that always goes the same way.

#include <atomic>

#include "nm/offload.hpp"
#include "nm/ports/nic_device.hpp"
#include "nm/ports/packet_rx.hpp"

namespace nm {

/// One ring of one direction, as far as sleeping goes.
struct nic_side {
    std::atomic<bool> armed{false};  ///< somebody sleeps, or is about to
    void (*disarm)(nic_side&) noexcept = nullptr;
    void* port = nullptr;
    unsigned ring = 0;

    [[gnu::always_inline]] void after_publish() noexcept {
        if (armed.load(std::memory_order_relaxed)) [[unlikely]]
            disarm(*this);
    }
};

template <nic_tx_queue Q>
struct nic_tx {
    Q q;
    nic_side* side = nullptr;
    region* memory = nullptr;
    index_t num_slots = 0;
    std::uint32_t min_frame = 0, max_frame = 0;
    packet_tx host{};
    // Of a frame of several slots that is under way.
    std::uint32_t length = 0;
    index_t frags = 0;
    bool bad_header = false;

    [[nodiscard]] [[gnu::always_inline]] bool takes(const slot_words& s) const noexcept {
        return (s.len() - min_frame <= max_frame - min_frame && !s.has(ns_report | ns_vnet)) || host.state != nullptr;
    }
    [[gnu::always_inline]] void put_plain(index_t i, const slot_words& s) noexcept {
        if (host.state != nullptr) [[unlikely]]
            host.put(i, from_words(s));
        else q.put(i, s.buf_idx(), s.len(), true);
    }
    /// What is not a plain frame in one slot. Whether a frame can be sent is known at its last slot.
    void put(index_t i, slot& s) noexcept {
        if (host.state != nullptr) return host.put(i, s);
        const bool last = (s.flags & ns_morefrag) == 0;
        if (frags == 0) {
            length = 0;
            bad_header = (s.flags & ns_vnet) != 0 && !finish_frame(s, {reinterpret_cast<std::uint8_t*>(memory->buf(s.buf_idx)), s.len});
        }
        length += s.len;
        const bool reported = (s.flags & ns_report) != 0;
        s.flags = static_cast<std::uint16_t>(s.flags & ~ns_report);
        if (!last) {
            ++frags;
            q.put(i, s.buf_idx, s.len, false);
            return;
        }
        const bool fits = length - min_frame <= max_frame - min_frame;
        if (bad_header || !fits) {
            q.rewind(frags);
            q.stats->drop(bad_header ? cause::bad_hdr : cause::bad_len);
        } else {
            q.put(i, s.buf_idx, s.len, true);
            if (reported) q.report(i);
        }
        frags = 0;
    }
    void hole(index_t i, const slot& s) noexcept {
        if (host.state != nullptr) host.put(i, s);
    }
    void cancel(index_t i, index_t k) noexcept {
        if (host.state != nullptr) return host.cancel(i, k);
        q.rewind(frags);
        frags = 0;
    }
    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (host.state != nullptr) [[unlikely]]
            return host.state->publish(i);
        q.publish(i);
        side->after_publish();
    }
    [[nodiscard]] [[gnu::always_inline]] index_t reclaim(index_t, sync_flags) noexcept {
        if (host.state != nullptr) [[unlikely]]
            return host.state->reclaim();
        return ring_prev(q.reclaim(), num_slots);
    }
    [[nodiscard]] static bool returns_frames() noexcept { return true; }
};

template <class Q>
concept counts_ready = requires(Q& q, index_t i) { { q.available(i) } noexcept -> std::same_as<index_t>; };

template <nic_rx_queue Q>
struct nic_rx {
    Q q;
    nic_side* side = nullptr;
    packet_rx host{};

    [[nodiscard]] [[gnu::always_inline]] bool ready(index_t i) noexcept {
        if (host.state != nullptr) [[unlikely]]
            return host.ready();
        return q.ready(i);
    }
    [[nodiscard]] [[gnu::always_inline]] index_t available(index_t i) noexcept
        requires counts_ready<Q>
    {
        if (host.state != nullptr) [[unlikely]]
            return host.available();
        return q.available(i);
    }
    [[gnu::always_inline]] void get(index_t i, slot& s) noexcept {
        if (host.state != nullptr) [[unlikely]]
            host.get(s);
        else q.get(i, s);
    }
    [[gnu::always_inline]] void give(index_t i, slot& s) noexcept {
        if (host.state != nullptr) [[unlikely]]
            host.give(s);
        else q.give(i, s.buf_idx);
    }
    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (host.state != nullptr) [[unlikely]]
            return host.state->publish();
        q.publish(i);
        side->after_publish();
    }
};

}  // namespace nm
