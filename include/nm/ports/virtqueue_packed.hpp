// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Packed virtqueues (2.8): one ring in which both sides write. Positions are counts that run on; a position's bit above the
// ring's size is its wrap counter, turned round. Whatever is put before a publish() stays invisible because the flags of its
// first descriptor are written by that, last.

#include "nm/ports/virtqueue.hpp"

namespace nm::virtio {

struct packed_ring {
    packed_descriptor* table = nullptr;
    const std::uint16_t* device = nullptr;  // device event suppression: position, flags
    std::uint32_t mask = 0;                 // descriptors - 1
    std::uint32_t put_at = 0, shown = 0, used_at = 0;

    packed_ring() = default;
    explicit packed_ring(const queue_memory& m) noexcept
        : table(m.descriptors.as<packed_descriptor>()), device(m.device.as<const std::uint16_t>()), mask(m.size - 1) {}

    [[nodiscard]] static constexpr std::size_t event_bytes() noexcept { return 4; }

    [[nodiscard]] [[gnu::always_inline]] bool odd_lap(std::uint32_t at) const noexcept { return (at & (mask + 1)) != 0; }
    /// 2.8.1: available in this lap; used in it; neither.
    [[nodiscard]] [[gnu::always_inline]] std::uint16_t available(std::uint32_t at) const noexcept {
        return odd_lap(at) ? packed::used : packed::avail;
    }
    [[nodiscard]] [[gnu::always_inline]] std::uint16_t done(std::uint32_t at) const noexcept {
        return odd_lap(at) ? std::uint16_t{0} : static_cast<std::uint16_t>(packed::avail | packed::used);
    }
    [[nodiscard]] [[gnu::always_inline]] std::uint16_t hidden(std::uint32_t at) const noexcept {
        return static_cast<std::uint16_t>(done(at) ^ (packed::avail | packed::used));
    }
    [[gnu::always_inline]] void write(std::uint32_t at, std::uint64_t address, std::uint32_t len, std::uint32_t id,
                                      std::uint32_t flags) const noexcept {
        table[at & mask] = {address, len, static_cast<std::uint16_t>(id), static_cast<std::uint16_t>(flags)};
    }
    /// Whether the device has used a descriptor here.
    [[nodiscard]] [[gnu::always_inline]] bool returned(std::uint32_t at) const noexcept {
        constexpr std::uint16_t both = packed::avail | packed::used;
        return (__atomic_load_n(&table[at & mask].flags, __ATOMIC_ACQUIRE) & both) == done(at);  // C3: flags before the rest
    }
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t id(std::uint32_t at) const noexcept { return load_once(table[at & mask].id); }
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t len(std::uint32_t at) const noexcept { return load_once(table[at & mask].len); }
    [[gnu::always_inline]] void used(std::uint32_t descriptors) noexcept { used_at += std::min(descriptors, shown - used_at); }

    /// All up to `to` is the device's, beginning with a descriptor of these flags.
    [[gnu::always_inline]] void show(std::uint32_t to, std::uint16_t flags) noexcept {
        const auto first = static_cast<std::uint16_t>(flags | available(shown));
        __atomic_store_n(&table[shown & mask].flags, first, __ATOMIC_RELEASE);  // P3: everything else before the first flags
        shown = to;
    }
    /// 2.8.10: whether the device wants to hear of what was shown.
    [[nodiscard]] [[gnu::always_inline]] bool wants() const noexcept {
        std::atomic_thread_fence(std::memory_order_seq_cst);  // W: the flags before the look at its word
        return (load_once(device[1]) & 3) != packed::event_disable;
    }
    static void interrupt(std::uint16_t* driver, bool on) noexcept {
        store_once(driver[1], on ? packed::event_enable : packed::event_disable);
        std::atomic_thread_fence(std::memory_order_seq_cst);  // W
    }
};

template <bar_access Bar>
struct packed_tx {
    packed_ring ring;
    flights f;
    doorbell<Bar> bell;
    std::uint64_t header = 0;
    std::uint32_t frame_at = 0;  // where the frame that is being put begins

    packed_tx() = default;
    packed_tx(const queue_memory& m, std::uint32_t* flight, std::uint64_t header_address, const doorbell<Bar>& b) noexcept
        : ring(m), bell(b), header(header_address) {
        f.of = flight;
        f.mask = m.size / 2 - 1;
    }

    [[gnu::always_inline]] void put(index_t i, std::uint64_t address, std::uint32_t len, bool last) noexcept {
        const std::uint32_t id = f.head();
        if (f.at == f.whole) ring.write(ring.put_at++, header, header_bytes, id, ring.hidden(frame_at));
        ring.write(ring.put_at, address, len, id, ring.available(ring.put_at) | (last ? 0U : desc::next));
        ++ring.put_at;
        f.put(i, last);
        if (!last) return;
        if (frame_at != ring.shown)
            __atomic_store_n(&ring.table[frame_at & ring.mask].flags, static_cast<std::uint16_t>(ring.available(frame_at) | desc::next),
                             __ATOMIC_RELAXED);
        frame_at = ring.put_at;
    }
    void rewind() noexcept {
        for (; ring.put_at != frame_at; --ring.put_at)
            ring.table[(ring.put_at - 1) & ring.mask].flags = ring.hidden(ring.put_at - 1);
        f.at = f.whole;
    }
    [[gnu::always_inline]] void publish(index_t i) noexcept {
        f.published_slot = i;
        if (frame_at == ring.shown) return;
        ring.show(frame_at, desc::next);
        f.published = f.whole;
        if (ring.wants()) bell.ring();
    }
    [[nodiscard]] [[gnu::always_inline]] index_t reclaim(live_counters* stats) noexcept {
        while (f.first != f.published && ring.used_at != ring.shown && ring.returned(ring.used_at)) {
            const std::uint32_t id = ring.id(ring.used_at);
            if (id == f.oldest()) [[likely]] {
                ring.used(flights::slots_of(f.of[id]) + 1);
                f.land();
                continue;
            }
            const std::uint32_t slots = flights::overtake(f.of, f.mask, id, f.first, f.published, stats);
            f.early += slots != 0 ? 1U : 0U;
            ring.used(slots != 0 ? slots + 1 : 2);  // the shortest that it can be
        }
        return f.sent();
    }
};

struct packed_next {
    std::uint32_t used_at;
    postings::found what;
    bool there;
};
/// Descriptors that name no buffer of the device's are counted, and passed.
[[nodiscard]] [[gnu::noinline, gnu::cold]] inline packed_next skip(packed_descriptor* table, std::uint32_t mask, std::uint32_t used_at,
                                                                  std::uint32_t shown, postings::entry* of, std::uint32_t slots,
                                                                  std::uint32_t published, live_counters* stats) noexcept {
    packed_ring ring;
    ring.table = table, ring.mask = mask, ring.used_at = used_at, ring.shown = shown;
    postings p;
    p.of = of, p.slots = slots, p.published = published;
    while (ring.used_at != ring.shown && ring.returned(ring.used_at)) {
        const postings::found what{ring.id(ring.used_at), ring.len(ring.used_at)};
        if (p.outstanding(what.id)) return {ring.used_at, what, true};
        lied(stats);
        ring.used(2);
    }
    return {ring.used_at, {}, false};
}

template <bar_access Bar>
struct packed_rx {
    packed_ring ring;
    postings p;
    doorbell<Bar> bell;
    std::uint64_t headers = 0;
    postings::found now{};

    packed_rx() = default;
    packed_rx(const queue_memory& m, const postings& state, std::uint64_t header_addresses, const doorbell<Bar>& b) noexcept
        : ring(m), p(state), bell(b), headers(header_addresses) {}

    [[nodiscard]] [[gnu::always_inline]] bool ready(live_counters* stats) noexcept {
        if (ring.used_at == ring.shown || !ring.returned(ring.used_at)) return false;
        now = {ring.id(ring.used_at), ring.len(ring.used_at)};
        if (p.outstanding(now.id)) [[likely]]
            return true;
        const packed_next n = skip(ring.table, ring.mask, ring.used_at, ring.shown, p.of, p.slots, p.published, stats);
        ring.used_at = n.used_at;
        now = n.what;
        return n.there;
    }
    [[gnu::always_inline]] void get(index_t i, slot& s, const nic_buffers& buffers, live_counters* stats) noexcept {
        p.take(i, now, s, buffers, stats);
        ring.used_at += 2;
    }
    [[gnu::always_inline]] void give(index_t i, std::uint32_t buf, std::uint64_t address) noexcept {
        const std::uint32_t id = p.give(i, buf), at = ring.put_at;
        constexpr std::uint32_t kind = desc::next | desc::write;
        ring.write(at + 1, address, p.capacity, id, ring.available(at + 1) | desc::write);
        ring.write(at, headers + id * header_stride, header_bytes, id, at == ring.shown ? ring.hidden(at) : ring.available(at) | kind);
        ring.put_at += 2;
    }
    /// Without a doorbell: that is not allowed before DRIVER_OK (3.1.1).
    void begin() noexcept {
        p.published = p.given;
        ring.show(ring.put_at, desc::next | desc::write);
    }
    [[gnu::always_inline]] void publish() noexcept {
        if (ring.put_at == ring.shown) return;
        begin();
        if (ring.wants()) bell.ring();
    }
};

}  // namespace nm::virtio
