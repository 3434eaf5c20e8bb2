// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// One transmit ring of a VALE port: where a frame enters the switch. txsync there forwards, in the sender's context.

#include <array>
#include <atomic>
#include <cstring>
#include <memory>

#include "nm/clock.hpp"
#include "nm/concepts.hpp"
#include "nm/link.hpp"
#include "nm/ring_base.hpp"
#include "nm/vnet_hdr.hpp"
#include "nm/vale/lookup.hpp"

namespace nm::vale {

class switch_core;

/// Most slots that are classified before they are delivered (netmap's bridge_batch).
inline constexpr index_t max_batch = 1024;

/// How a port's frames carry a virtio-net header: not at all, as the frame's first 10 or 12 bytes (netmap's PORT_HDR_SET),
/// or packed in slot.ptr with ns_vnet, as kernel interfaces opened with offloads have them.
enum class header : std::uint8_t { none = 0, in_slot = 1, ten = 10, twelve = 12 };
[[nodiscard]] constexpr std::uint32_t bytes_in_frame(header h) noexcept {
    return h == header::ten || h == header::twelve ? static_cast<std::uint32_t>(h) : 0U;
}

/// Copies of flooded frames that a port may cause: so many per second, saved up for a while. 0: no limit. A frame for few
/// ports costs its sender more than it costs them, and is not limited.
struct storm_budget {
    std::uint64_t copies_per_s = 1'000'000;
    std::uint64_t burst = 500'000;
    static constexpr std::uint64_t few = 4;
};

/// Where one frame goes: its first slot by ring index, and the receive ring.
struct decision {
    std::uint16_t at;
    std::uint16_t key;
};

/// One destination's share of a batch: a list through classified::next.
struct bucket {
    std::uint16_t last;
    std::uint16_t count;
};

/// A batch between classify and deliver. Owned by one transmit ring, used by its thread.
struct classified {
    static constexpr std::size_t keys = std::size_t{256} * max_rings;
    static constexpr std::uint16_t flood = 0xffff;
    [[nodiscard]] static constexpr std::uint32_t key(port_number p, unsigned ring) noexcept { return ring << 8U | p; }

    // A bucket's list begins behind the ring's indexes, at slots + key: so that its first frame is appended as any other.
    explicit classified(index_t num_slots) : slots(num_slots), next(std::make_unique<std::uint16_t[]>(num_slots + keys)) {
        for (std::uint32_t k = 0; k < keys; ++k) clear(k);
    }
    void clear(std::uint32_t k) noexcept { buckets[k] = {static_cast<std::uint16_t>(slots + k), 0}; }
    [[nodiscard]] index_t first(std::uint32_t k) const noexcept { return next[slots + k]; }

    index_t slots;
    std::unique_ptr<std::uint16_t[]> next;
    std::array<bucket, keys> buckets;
    std::array<decision, max_batch> decided;        // in order
    std::array<const port_set*, max_batch> sets;    // of those that are flooded, whose
    std::array<std::uint16_t, max_batch> touched;   // keys of buckets in use
    std::array<std::uint16_t, max_batch> flooded;   // places in `decided`
    std::array<std::uint16_t, max_batch> order;     // one destination's frames, floods among them
    index_t num_decided = 0, num_touched = 0, num_flooded = 0;
    bool odd = false;  // some frame is not one plain slot
};

/// Private memory for frames that are more than one plain slot (odd.hpp). Not touched before there is such a frame.
struct odd_work {
    /// The longest frame whose checksum is finished or that is cut: 64 KB and its headers.
    static constexpr std::size_t longest = 65536 + 512;

    explicit odd_work(index_t num_slots)
        : headers(std::make_unique_for_overwrite<vnet_hdr[]>(num_slots)),
          linear(std::make_unique_for_overwrite<std::uint8_t[]>(longest)),
          segment(std::make_unique_for_overwrite<std::uint8_t[]>(longest)) {}

    std::unique_ptr<vnet_hdr[]> headers;      // by ring index of a frame's first slot: read once, and found valid
    std::unique_ptr<std::uint8_t[]> linear;   // a frame of several slots in one piece
    std::unique_ptr<std::uint8_t[]> segment;  // what is cut from it and longer than a buffer
    std::array<std::uint16_t, max_batch> frames{};  // one destination's
};

/// The switch's view of one transmit ring.
struct alignas(128) source {
    using flush_function = void (*)(source&, index_t base, index_t count) noexcept;

    flush_function flush = nullptr;  ///< one indirect call per batch: the switch's loop with its lookup inlined
    switch_core* sw = nullptr;
    slot* slots = nullptr;  ///< of the tx ring: buffers that are swapped away are replaced there
    index_t num_slots = 0;
    buffer_space bufs;
    std::unique_ptr<slot_words[]> fwd;  ///< the checked copies of what goes out, by ring index
    std::unique_ptr<classified> work;
    std::shared_ptr<void> lane;  ///< the lookup's, if it keeps one
    live_counters* stats = nullptr;  ///< the ring's: its user sees there what was dropped
    live_counters forwarded;         ///< frames that came to the switch, and those that went no further
    counter replicas;  ///< copies of flooded frames, and segments of large ones, beyond the first of each
    counter floods;    ///< frames that went to several
    port_number port = 0;
    std::uint8_t ring = 0;
    header head = header::none;
    bool indirect = false;
    bool asymmetric = false;
    std::atomic<bool> attached{false};
    std::atomic<bool> busy{false};
    storm_budget storm;
    std::uint64_t storm_left = 0, storm_seen_ns = 0;
    std::unique_ptr<odd_work> odd;

    [[nodiscard]] [[gnu::always_inline]] index_t at(index_t base, index_t k) const noexcept {
        const index_t i = base + k;
        return i >= num_slots ? i - num_slots : i;
    }

    void drop(cause why, std::uint64_t n = 1) noexcept {
        stats->drop(why, n);
        forwarded.drop(why, n);
    }

    /// Frames that end among the `count` slots from `base` on.
    [[nodiscard]] std::uint64_t frames_in(index_t base, index_t count) const noexcept {
        std::uint64_t frames = 0;
        for (index_t k = 0; k < count; ++k) {
            const slot_words& w = fwd[at(base, k)];
            frames += w.len() != 0 && !w.has(ns_morefrag) ? 1U : 0U;
        }
        return frames;
    }

    /// Whether `copies` more may be made for a flooded frame.
    [[nodiscard]] bool may_flood(std::uint64_t copies) noexcept {
        if (copies <= storm_budget::few || storm.copies_per_s == 0) return true;
        if (storm_left < copies) refill();
        if (storm_left < copies) return false;
        storm_left -= copies;
        return true;
    }

    /// Forwards what was put from `base` on. A port that is not on a switch any more discards (netmap: "a port not attached
    /// to a bridge").
    void send(index_t base, index_t count) noexcept {
        busy.store(true, std::memory_order_relaxed);
        // Pairs with leave(): either it sees busy, or we see that we are not attached.
        if (asymmetric) [[likely]]
            std::atomic_signal_fence(std::memory_order_seq_cst);
        else
            std::atomic_thread_fence(std::memory_order_seq_cst);
        if (attached.load(std::memory_order_acquire)) [[likely]]
            flush(*this, base, count);
        else
            stats->drop(cause::no_dst, frames_in(base, count));  // not the switch's any more
        busy.store(false, std::memory_order_release);
    }

    /// After it no frame from here is on its way.
    void leave() noexcept {
        attached.store(false, std::memory_order_release);
        sleep_barrier(asymmetric);
        while (busy.load(std::memory_order_acquire)) ::sched_yield();
    }

private:
    [[gnu::noinline, gnu::cold]] void refill() noexcept {
        const std::uint64_t now = system_clock::now_ns();
        const double earned = static_cast<double>(now - storm_seen_ns) * 1e-9 * static_cast<double>(storm.copies_per_s);
        if (earned < static_cast<double>(storm.burst)) {
            const auto whole = static_cast<std::uint64_t>(earned);
            storm_left = std::min(storm.burst, storm_left + whole);
            // What is less than a copy is earned further on: who asks all the time would earn nothing.
            const double rest = (earned - static_cast<double>(whole)) * 1e9 / static_cast<double>(storm.copies_per_s);
            storm_seen_ns = now - static_cast<std::uint64_t>(rest);
        } else {
            storm_left = storm.burst;
            storm_seen_ns = now;
        }
    }
};

/// The sending half of a VALE port. put() keeps a private copy; publish() forwards the batch; reclaim() gives back all
/// slots but one at once: a switch loses frames with a count, it never pushes back.
struct vale_tx {
    slot_words* fwd;
    source* from;
    ring_link* link;  ///< of the rx ring with the same descriptor
    index_t num_slots;
    int my_fd = -1;
    bool armed = false;
    index_t published = 0;

    [[gnu::always_inline]] void put(index_t i, const slot_words& w) const noexcept { fwd[i] = w; }
    [[gnu::always_inline]] void put(index_t i, slot& s) noexcept { put(i, words(s)); }
    void hole(index_t i, slot& s) noexcept { fwd[i] = {s.buf_idx, 0}; }
    void cancel(index_t i, index_t k) noexcept {
        for (; k != 0; --k) {
            i = ring_prev(i, num_slots);
            fwd[i] = {fwd[i].buf_idx(), 0};
        }
    }
    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (i != published) {
            const index_t base = published;
            published = i;
            from->send(base, ring_distance(base, i, num_slots));
        }
        if (armed) [[unlikely]]
            disarm();
    }
    [[nodiscard]] [[gnu::always_inline]] index_t reclaim(index_t, sync_flags) const noexcept {
        return ring_prev(published, num_slots);
    }
    [[nodiscard]] bool takes_indirect() const noexcept { return from->indirect; }

private:
    [[gnu::noinline, gnu::cold]] void disarm() noexcept {
        armed = false;
        link->tx_sleeps.disarm();
        base::eventfd_clear(my_fd);
        if (link->rx_sleeps.pending()) base::eventfd_signal(my_fd);
    }
};
static_assert(tx_backend<vale_tx> && puts_words<vale_tx> && may_take_indirect<vale_tx>);

}  // namespace nm::vale
