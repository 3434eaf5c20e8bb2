// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What queues of both formats (virtqueue_split.hpp, virtqueue_packed.hpp) have in common. Each frame, and each buffer to
// receive into, takes a descriptor for the virtio-net header and one for the data: the header lies in memory of the driver's,
// so that a netmap buffer begins with the frame. What the driver must know of a descriptor it knows from private memory.

#include <algorithm>
#include <atomic>
#include <cstring>

#include "nm/ports/nic_device.hpp"
#include "nm/ports/virtio_net_regs.hpp"
#include "nm/ring.hpp"

namespace nm::virtio {

/// 2.7.7.2, 2.7.10: whether a counter that went from `old` to `now` has passed the other side's event.
[[nodiscard]] [[gnu::always_inline]] constexpr bool passes(std::uint16_t event, std::uint16_t now, std::uint16_t old) noexcept {
    return static_cast<std::uint16_t>(now - event - 1) < static_cast<std::uint16_t>(now - old);
}

/// A queue's three areas (2.6), as we see them and as the device does.
struct queue_memory {
    dma_memory::piece descriptors, driver, device;
    std::uint32_t size = 0;  ///< descriptors: a power of two, twice the slots
};

/// How a queue is told of something new: by a store, never by a read.
template <bar_access Bar>
struct doorbell {
    Bar bar{};
    std::size_t at = 0;
    std::uint16_t queue = 0;
    bool event_idx = false;
    [[gnu::always_inline]] void ring() const noexcept {
        doorbell_barrier();
        bar.template write<std::uint16_t>(at, queue);
    }
};

/// The device named a buffer that it does not have, or more than it was given.
[[gnu::noinline, gnu::cold]] inline void lied(live_counters* stats) noexcept { stats->drop(cause::bad_idx); }

/// Frames under way, in the order in which they went out: those from `first` up to `published`, both counts of slots that
/// run on. A frame is named by the place of its first slot; there is written which slot that was and how many it has.
struct flights {
    static constexpr std::uint32_t one = 1U << 24, slot_bits = one - 1, ahead = 1U << 31;

    std::uint32_t* of = nullptr;  // by place
    std::uint32_t mask = 0;       // places - 1
    std::uint32_t at = 0, whole = 0, published = 0, first = 0;
    std::uint32_t early = 0;  // frames that are done before an older one
    index_t open_slot = 0, published_slot = 0;

    [[nodiscard]] [[gnu::always_inline]] std::uint32_t place() const noexcept { return at & mask; }
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t head() const noexcept { return whole & mask; }
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t oldest() const noexcept { return first & mask; }
    [[nodiscard]] [[gnu::always_inline]] static constexpr std::uint32_t slots_of(std::uint32_t flight) noexcept {
        return flight >> 24 & 0x7f;
    }

    [[gnu::always_inline]] void put(index_t i, bool last) noexcept {
        if (at == whole) open_slot = i;
        of[at & mask] = 0;
        ++at;
        if (!last) return;
        of[whole & mask] = open_slot | (at - whole) << 24;
        whole = at;
    }
    /// The oldest is done; and those that were done before it.
    [[gnu::always_inline]] void land() noexcept {
        first += slots_of(of[oldest()]);
        if (early != 0) [[unlikely]]
            catch_up();
    }
    [[gnu::always_inline]] void catch_up() noexcept {
        while (early != 0 && (of[oldest()] & ahead) != 0) {
            first += slots_of(of[oldest()]);
            --early;
        }
    }
    /// The first slot that has not been sent.
    [[nodiscard]] [[gnu::always_inline]] index_t sent() const noexcept {
        return first == published ? published_slot : of[oldest()] & slot_bits;
    }
    /// 2.7.8: a device may be done with buffers in any order. Slots of the frame at `place`, which is now marked; 0: there is none.
    [[nodiscard]] [[gnu::noinline, gnu::cold]] static std::uint32_t overtake(std::uint32_t* of, std::uint32_t mask, std::uint32_t place,
                                                                            std::uint32_t first, std::uint32_t published,
                                                                            live_counters* stats) noexcept {
        const bool outstanding = place <= mask && ((place - first) & mask) < published - first;
        if (!outstanding || slots_of(of[place]) == 0 || (of[place] & ahead) != 0) {
            lied(stats);
            return 0;
        }
        of[place] |= ahead;
        return slots_of(of[place]);
    }
};

/// Buffers to receive into. Each has an id, and a slot holds the id of the frame that it shows until it is given back.
struct postings {
    static constexpr std::uint32_t nobody = ~0U;
    struct entry {
        std::uint32_t buf = nobody;  // nobody: the user has it
        std::uint32_t turn = 0;      // when it was given
    };
    struct found {
        std::uint32_t id, len;
    };

    entry* of = nullptr;            // by id
    std::uint16_t* held = nullptr;  // by slot
    std::byte* headers = nullptr;   // by id
    std::uint32_t slots = 0;
    std::uint32_t given = 0, published = 0;  // counts that run on
    std::uint32_t capacity = 0;              // bytes of a buffer that are offered
    std::uint32_t parts = 0;                 // that the frame still has, where buffers are merged
    bool merges = false;

    /// Whether the device has that id: it was told of it, and did not give it back yet.
    [[nodiscard]] [[gnu::always_inline]] bool outstanding(std::uint32_t id) const noexcept {
        if (id >= slots) return false;
        const entry e = of[id];
        return e.buf != nobody && static_cast<std::int32_t>(published - e.turn) > 0;
    }
    /// The buffer of `f` becomes slot s, which is slot i.
    [[gnu::always_inline]] void take(index_t i, found f, slot& s, const nic_buffers& buffers, live_counters* stats) noexcept {
        const std::uint32_t buf = of[f.id].buf;
        of[f.id].buf = nobody;
        held[i] = static_cast<std::uint16_t>(f.id);
        std::uint32_t len = f.len < header_bytes ? 0 : f.len - header_bytes;
        std::uint16_t flags = s.buf_idx == buf ? std::uint16_t{0} : ns_buf_changed;
        if (merges) [[unlikely]] {
            if (parts != 0) len = f.len;
            parts = part(parts, headers + f.id * header_stride, buffers.base + static_cast<std::size_t>(buf) * buffers.stride, len, capacity);
            if (parts != 0) flags |= ns_morefrag;
        }
        // More than was offered is for the ring to count; more than a slot can say must not look like less.
        s.buf_idx = buf;
        s.len = static_cast<std::uint16_t>(std::min(len, 0xffffU));
        s.flags = flags;
        if (len == 0) [[unlikely]]
            stats->drop(cause::bad_len);
    }
    /// The id that slot i's buffer now has.
    [[nodiscard]] [[gnu::always_inline]] std::uint32_t give(index_t i, std::uint32_t buf) noexcept {
        const std::uint32_t id = held[i];
        of[id] = {buf, given++};
        return id;
    }
    /// 5.1.6.4: the first buffer of a frame begins with the header; the others are filled from their first byte on, which is
    /// the header's place: those bytes move to where data begin. Returns how many more parts there are.
    [[nodiscard]] [[gnu::noinline, gnu::cold]] static std::uint32_t part(std::uint32_t parts, std::byte* header, std::byte* data,
                                                                        std::uint32_t len, std::uint32_t capacity) noexcept {
        if (parts == 0) {
            const std::uint32_t n = load_once(reinterpret_cast<const net_header*>(header)->num_buffers);
            return n == 0 ? 0 : n - 1;
        }
        const std::uint32_t all = std::min(len, capacity + header_bytes);
        if (all > header_bytes) std::memmove(data + header_bytes, data, all - header_bytes);
        std::memcpy(data, header, std::min(all, header_bytes));
        return parts - 1;
    }
    /// The buffers that the device has go to the slots which the user does not have.
    void restore(slot* ring, index_t hwcur, index_t hwtail) const noexcept {
        const index_t users = hwtail >= hwcur ? hwtail - hwcur : hwtail + slots - hwcur;
        std::uint32_t id = 0;
        for (index_t k = users, i = hwtail; k < slots; ++k, i = ring_next(i, slots)) {
            while (id < slots && of[id].buf == nobody) ++id;
            if (id == slots) return;
            ring[i].buf_idx = of[id++].buf;
        }
    }
};

}  // namespace nm::virtio
