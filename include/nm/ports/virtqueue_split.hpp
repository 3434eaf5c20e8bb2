// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Split virtqueues (2.7). Descriptors 2p and 2p+1 are the header's and the data's of place p, and the former never change.

#include "nm/ports/virtqueue.hpp"

namespace nm::virtio {

/// The available and the used ring, in 16-bit words: flags, index, entries, event.
struct split_rings {
    descriptor* table = nullptr;
    std::uint16_t* avail = nullptr;
    std::uint16_t* used = nullptr;
    std::uint32_t mask = 0;  // descriptors - 1

    split_rings() = default;
    explicit split_rings(const queue_memory& m) noexcept
        : table(m.descriptors.as<descriptor>()), avail(m.driver.as<std::uint16_t>()), used(m.device.as<std::uint16_t>()), mask(m.size - 1) {}

    [[nodiscard]] static constexpr std::size_t driver_bytes(std::uint32_t size) noexcept { return 6 + 2 * std::size_t{size}; }
    [[nodiscard]] static constexpr std::size_t device_bytes(std::uint32_t size) noexcept { return 6 + 8 * std::size_t{size}; }

    /// What never changes of a queue's descriptors: all that send have the one header, each that receives has its own.
    void prepare_tx(std::uint64_t header) const noexcept {
        for (std::uint32_t d = 0; d < mask; d += 2) table[d] = {header, header_bytes, desc::next, static_cast<std::uint16_t>(d + 1)};
    }
    void prepare_rx(std::uint64_t headers, std::uint32_t capacity) const noexcept {
        for (std::uint32_t d = 0; d < mask; d += 2) {
            table[d] = {headers + d / 2 * header_stride, header_bytes, desc::next | desc::write, static_cast<std::uint16_t>(d + 1)};
            table[d + 1] = {0, capacity, desc::write, 0};
        }
    }

    [[gnu::always_inline]] void offer(std::uint16_t turn, std::uint32_t head) const noexcept {
        store_once(avail[2 + (turn & mask)], static_cast<std::uint16_t>(head));
    }
    [[nodiscard]] [[gnu::always_inline]] std::uint16_t used_index() const noexcept {
        return __atomic_load_n(used + 1, __ATOMIC_ACQUIRE);  // C3: the index before the entries and the buffers
    }
    [[nodiscard]] [[gnu::always_inline]] used_element entry(std::uint16_t turn) const noexcept {
        const std::uint16_t* e = used + 2 + 4 * (turn & mask);
        return {static_cast<std::uint32_t>(load_once(*reinterpret_cast<const u32_alias*>(e))),
                static_cast<std::uint32_t>(load_once(*reinterpret_cast<const u32_alias*>(e + 2)))};
    }
    [[gnu::always_inline]] void show(std::uint16_t index) const noexcept {
        __atomic_store_n(avail + 1, index, __ATOMIC_RELEASE);  // P3: descriptors and entries before the index
    }
    /// Whether the device wants to hear that the index went from `old` to `now`.
    [[nodiscard]] [[gnu::always_inline]] bool wants(bool event_idx, std::uint16_t now, std::uint16_t old) const noexcept {
        std::atomic_thread_fence(std::memory_order_seq_cst);  // W: the index before the look at its word
        if (event_idx) return passes(load_once(used[2 + 4 * (std::size_t{mask} + 1)]), now, old);
        return (load_once(used[0]) & no_notify) == 0;
    }
    /// Interrupts. The port looks again afterwards, so the store must be out before that.
    void interrupt(bool event_idx, bool on) const noexcept {
        if (event_idx) {
            const std::uint16_t now = load_once(used[1]);
            store_once(avail[2 + std::size_t{mask} + 1], static_cast<std::uint16_t>(on ? now : now - 1));
        } else {
            store_once(avail[0], on ? std::uint16_t{0} : no_interrupt);
        }
        std::atomic_thread_fence(std::memory_order_seq_cst);  // W
    }

private:
    using u32_alias [[gnu::may_alias]] = std::uint32_t;
};

template <bar_access Bar>
struct split_tx {
    split_rings rings;
    flights f;
    doorbell<Bar> bell;
    std::uint16_t offered = 0, shown = 0, seen = 0;

    /// `flight`: a word for each slot, private.
    split_tx() = default;
    split_tx(const queue_memory& m, std::uint32_t* flight, const doorbell<Bar>& b) noexcept : rings(m), bell(b) {
        f.of = flight;
        f.mask = m.size / 2 - 1;
    }

    [[gnu::always_inline]] void put(index_t i, std::uint64_t address, std::uint32_t len, bool last) noexcept {
        const std::uint32_t p = f.place(), head = f.head();
        rings.table[2 * p + 1] = {address, len, last ? std::uint16_t{0} : desc::next,
                                  static_cast<std::uint16_t>(last ? 0 : 2 * ((p + 1) & f.mask) + 1)};
        f.put(i, last);
        if (last) rings.offer(offered++, 2 * head);
    }
    void rewind() noexcept { f.at = f.whole; }
    [[gnu::always_inline]] void publish(index_t i) noexcept {
        f.published_slot = i;
        if (offered == shown) return;
        rings.show(offered);
        const std::uint16_t old = shown;
        shown = offered;
        f.published = f.whole;
        if (rings.wants(bell.event_idx, shown, old)) bell.ring();
    }
    [[nodiscard]] [[gnu::always_inline]] index_t reclaim(live_counters* stats) noexcept {
        auto left = static_cast<std::uint16_t>(rings.used_index() - seen);
        if (left > static_cast<std::uint16_t>(shown - seen)) [[unlikely]] {
            lied(stats);
            left = 0;
        }
        for (; left != 0; --left, ++seen) {
            const std::uint32_t id = rings.entry(seen).id;
            if (id == 2 * f.oldest()) [[likely]] f.land();
            else if (flights::overtake(f.of, f.mask, (id & 1) != 0 ? ~0U : id / 2, f.first, f.published, stats) != 0) ++f.early;
        }
        return f.sent();
    }
};

struct split_next {
    std::uint16_t seen;
    postings::found what;
};
/// Entries that name no buffer of the device's are counted, and passed.
[[nodiscard]] [[gnu::noinline, gnu::cold]] inline split_next skip(std::uint16_t* used, std::uint32_t mask, postings::entry* of, std::uint32_t slots,
                                                                 std::uint32_t published, std::uint16_t seen, std::uint16_t known,
                                                                 live_counters* stats) noexcept {
    split_rings rings;
    rings.used = used, rings.mask = mask;
    postings p;
    p.of = of, p.slots = slots, p.published = published;
    for (; seen != known; ++seen) {
        const used_element e = rings.entry(seen);
        if ((e.id & 1) == 0 && p.outstanding(e.id / 2)) return {seen, {e.id / 2, e.len}};
        lied(stats);
    }
    return {seen, {}};
}

template <bar_access Bar>
struct split_rx {
    split_rings rings;
    postings p;
    doorbell<Bar> bell;
    std::uint16_t seen = 0, known = 0;
    postings::found now{};

    split_rx() = default;
    split_rx(const queue_memory& m, const postings& state, const doorbell<Bar>& b) noexcept : rings(m), p(state), bell(b) {}

    [[nodiscard]] [[gnu::always_inline]] bool ready(live_counters* stats) noexcept {
        if (seen == known) {
            const std::uint16_t index = rings.used_index();
            if (index == seen) return false;
            if (static_cast<std::uint16_t>(index - seen) > static_cast<std::uint16_t>(p.published - seen)) [[unlikely]] {
                lied(stats);
                return false;
            }
            known = index;
        }
        const used_element e = rings.entry(seen);
        now = {e.id / 2, e.len};
        if ((e.id & 1) == 0 && p.outstanding(now.id)) [[likely]]
            return true;
        const split_next n = skip(rings.used, rings.mask, p.of, p.slots, p.published, seen, known, stats);
        seen = n.seen;
        now = n.what;
        return seen != known;
    }
    [[gnu::always_inline]] void get(index_t i, slot& s, const nic_buffers& buffers, live_counters* stats) noexcept {
        p.take(i, now, s, buffers, stats);
        ++seen;
    }
    [[gnu::always_inline]] void give(index_t i, std::uint32_t buf, std::uint64_t address) noexcept {
        const auto turn = static_cast<std::uint16_t>(p.given);
        const std::uint32_t id = p.give(i, buf);
        rings.table[2 * id + 1].address = address;
        rings.offer(turn, 2 * id);
    }
    /// Without a doorbell: that is not allowed before DRIVER_OK (3.1.1).
    void begin() noexcept {
        p.published = p.given;
        rings.show(static_cast<std::uint16_t>(p.given));
    }
    [[gnu::always_inline]] void publish() noexcept {
        if (p.given == p.published) return;
        const auto old = static_cast<std::uint16_t>(p.published);
        begin();
        if (rings.wants(bell.event_idx, static_cast<std::uint16_t>(p.given), old)) bell.ring();
    }
};

}  // namespace nm::virtio
