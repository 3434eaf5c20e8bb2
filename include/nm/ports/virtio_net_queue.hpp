// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The two queues of a pair, of whichever format was negotiated: a branch that goes the same way every time.

#include "nm/ports/virtqueue_packed.hpp"
#include "nm/ports/virtqueue_split.hpp"

namespace nm {

template <bar_access Bar>
struct virtio_tx {
    virtio_tx(virtio::queue_memory m, std::uint32_t* flight, std::uint64_t header, virtio::doorbell<Bar> bell, const nic_buffers& b,
              bool is_packed) noexcept
        : buffers(b), packed(is_packed) {
        if (packed) p = {m, flight, header, bell};
        else s = {m, flight, bell};
    }

    [[gnu::always_inline]] void put(index_t i, std::uint32_t buf, std::uint32_t len, bool last) noexcept {
        if (packed) p.put(i, buffers.at(buf), len, last);
        else s.put(i, buffers.at(buf), len, last);
    }
    /// Every frame is reported (2.7.8).
    void report(index_t) noexcept {}
    void rewind(index_t) noexcept {
        if (packed) p.rewind();
        else s.rewind();
    }
    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (packed) p.publish(i);
        else s.publish(i);
    }
    [[nodiscard]] [[gnu::always_inline]] index_t reclaim() noexcept { return packed ? p.reclaim(stats) : s.reclaim(stats); }

    virtio::split_tx<Bar> s;
    virtio::packed_tx<Bar> p;
    nic_buffers buffers;
    live_counters* stats = nullptr;
    bool packed;
};

template <bar_access Bar>
struct virtio_rx {
    virtio_rx(virtio::queue_memory m, const virtio::postings& state, std::uint64_t headers, virtio::doorbell<Bar> bell,
              const nic_buffers& b, bool is_packed) noexcept
        : buffers(b), packed(is_packed) {
        if (packed) p = {m, state, headers, bell};
        else s = {m, state, bell};
    }

    [[nodiscard]] [[gnu::always_inline]] bool ready(index_t) noexcept { return packed ? p.ready(stats) : s.ready(stats); }
    [[gnu::always_inline]] void get(index_t i, slot& to) noexcept {
        if (packed) p.get(i, to, buffers, stats);
        else s.get(i, to, buffers, stats);
    }
    [[gnu::always_inline]] void give(index_t i, std::uint32_t buf) noexcept {
        if (packed) p.give(i, buf, buffers.at(buf));
        else s.give(i, buf, buffers.at(buf));
    }
    void begin() noexcept {
        if (packed) p.begin();
        else s.begin();
    }
    [[gnu::always_inline]] void publish(index_t) noexcept {
        if (packed) p.publish();
        else s.publish();
    }
    /// The device may have filled any of its buffers for any slot: those that the user does not hold get the ones that it has.
    void restore(slot* slots, index_t hwcur, index_t hwtail) const noexcept { (packed ? p.p : s.p).restore(slots, hwcur, hwtail); }

    virtio::split_rx<Bar> s;
    virtio::packed_rx<Bar> p;
    nic_buffers buffers;
    live_counters* stats = nullptr;
    bool packed;
};

}  // namespace nm
