// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Several writers, one receive ring: what a VALE port's senders and a monitored port's threads have before them. Room is
// leased under a short private lock, filled outside it, and published by whoever finishes the oldest lease, with all that
// are done by then: a writer that loses its core in mid-copy keeps nobody from going on (Rizzo, Lettieri: "VALE", CoNEXT
// 2012, section 3.3, has leases that wait for each other).

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "nm/counters.hpp"
#include "nm/link.hpp"
#include "nm/ring_base.hpp"
#include "nm/spin_lock.hpp"

namespace nm {

/// Slots that one writer may fill: `count` of them from `first` on, past the ring's end to its beginning.
struct lease {
    index_t first = 0;
    index_t count = 0;
};

/// What a writer did with a lease, and with what it had no room for.
struct delivery {
    std::uint64_t frames = 0;
    std::uint64_t bytes = 0;
    index_t slots = 0;  ///< filled, from the first on; the rest of the lease is given back
    std::uint32_t dropped = 0;
    std::array<std::uint32_t, causes> drops{};

    void drop(cause c, std::uint32_t n = 1) noexcept {
        drops[static_cast<std::size_t>(c)] += n;
        dropped += n;
    }
};

/// The writers' side of a ring that is read through link_rx. May be closed and opened again for another ring while
/// writers come and go: each says which opening it means.
class alignas(128) inbox {
public:
    /// Any id but 2^32 - 1; from now on leases are given to whoever says `id`. The ring, the link and the region must stay until close().
    void open(std::uint32_t id, ring* r, index_t num_slots, const region& m, ring_link& link, eventfd_notifier reader,
              bool asymmetric) {
        std::vector<index_t> done(num_slots, none);
        const std::lock_guard guard(lock_);
        slots_ = r->slots();
        num_slots_ = num_slots;
        bufs_ = buffer_space(m);
        link_ = &link;
        reader_ = reader;
        asymmetric_ = asymmetric;
        reserved_ = oldest_ = link.tail.load(std::memory_order_relaxed);
        given_ = static_cast<index_t>(link.head.load(std::memory_order_acquire) & 0xffffffffU);
        pending_ = 0;
        done_ = std::move(done);
        total_ = {};
        id_ = id;
    }

    /// No more leases; returns when those that are out have been completed. Wakes the reader: he may find out why.
    void close() noexcept {
        std::unique_lock guard(lock_);
        const bool was_open = std::exchange(id_, closed) != closed;
        while (reserved_ != oldest_) {
            guard.unlock();
            ::sched_yield();
            guard.lock();
        }
        if (was_open) link_->rx_sleeps.wake(reader_, asymmetric_);
    }

    /// Up to `want` free slots. None when the ring is full, or when `id` is not what it was opened with (then `gone`). One
    /// frame per slot: what does not fit is counted here, and a lease without slots need not be completed.
    [[nodiscard]] [[gnu::always_inline]] lease reserve(std::uint32_t id, index_t want, bool& gone) noexcept {
        return reserve<true>(id, want, gone);
    }
    /// The same for frames of several slots: who leases counts.
    [[nodiscard]] lease reserve_slots(std::uint32_t id, index_t want, bool& gone) noexcept {
        return reserve<false>(id, want, gone);
    }

    /// The lease has been filled as far as `d` says. Once per lease, also for an empty one when there are drops to count.
    [[gnu::always_inline]] void complete(const lease& l, const delivery& d) noexcept {
        lock_.lock();
        index_t end = after(l.first, l.count);
        if (d.slots != l.count) [[unlikely]]
            end = give_up(l, d.slots, end);
        bool published = false;
        if (end != l.first) {
            if (l.first == oldest_) [[likely]] {
                oldest_ = end;
                while (pending_ != 0 && done_[oldest_] != none) [[unlikely]] {
                    oldest_ = std::exchange(done_[oldest_], none);
                    --pending_;
                }
                link_->tail.store(oldest_, std::memory_order_release);  // P1: slots and buffers before their index
                published = true;
            } else {
                done_[l.first] = end;
                ++pending_;
            }
        }
        count(d);
        // Under the lock, since close() must not return, and the descriptor go, before it is done. A system call only when
        // the reader sleeps.
        if (published) link_->rx_sleeps.wake(reader_, asymmetric_);
        lock_.unlock();
    }

    /// Counts what a writer without a lease dropped here. False when this is not the opening `id` any more.
    [[nodiscard]] bool drop(std::uint32_t id, const delivery& d) noexcept {
        const std::lock_guard guard(lock_);
        if (id != id_) return false;
        count(d);
        return true;
    }

    /// Where writers find the slots of their lease, and the buffers that lie in them.
    [[nodiscard]] slot* slots() const noexcept { return slots_; }
    [[nodiscard]] index_t num_slots() const noexcept { return num_slots_; }
    [[nodiscard]] const buffer_space& buffers() const noexcept { return bufs_; }

    /// Frames that were put into the ring, and those dropped here, since it was opened.
    [[nodiscard]] counters total() noexcept {
        const std::lock_guard guard(lock_);
        return total_;
    }
    /// The same of one opening; nothing when that is not the present one.
    [[nodiscard]] counters total(std::uint32_t id) noexcept {
        const std::lock_guard guard(lock_);
        return id == id_ ? total_ : counters{};
    }

private:
    static constexpr index_t none = ~index_t{0};
    static constexpr std::uint32_t closed = ~0U;  // nobody says so

    template <bool FramePerSlot>
    [[nodiscard]] [[gnu::always_inline]] lease reserve(std::uint32_t id, index_t want, bool& gone) noexcept {
        lock_.lock();
        lease l{reserved_, 0};
        gone = id_ != id;
        if (!gone) [[likely]] {
            index_t free = ring_distance(reserved_, ring_prev(given_, num_slots_), num_slots_);
            if (free < want) {
                const auto given = static_cast<index_t>(link_->head.load(std::memory_order_acquire) & 0xffffffffU);  // C1
                if (given < num_slots_) given_ = given;
                free = ring_distance(reserved_, ring_prev(given_, num_slots_), num_slots_);
            }
            l.count = std::min(free, want);
            reserved_ = after(reserved_, l.count);
            if constexpr (FramePerSlot)
                if (l.count != want) total_.drop(cause::full, want - l.count);
        }
        lock_.unlock();
        return l;
    }

    [[nodiscard]] [[gnu::always_inline]] index_t after(index_t i, index_t k) const noexcept {
        i += k;
        return i >= num_slots_ ? i - num_slots_ : i;
    }

    // The end of a lease that was not used up: nobody may have leased what follows, else the rest becomes holes.
    [[gnu::noinline, gnu::cold]] index_t give_up(const lease& l, index_t used, index_t end) noexcept {
        const index_t last = after(l.first, used);
        if (reserved_ == end) {
            reserved_ = last;
            return last;
        }
        for (index_t i = last; i != end; i = ring_next(i, num_slots_)) {
            const slot before = load_slot(slots_[i]);
            update_slot(slots_[i], {before.buf_idx, 0, 0, 0}, before);
        }
        return end;
    }

    [[gnu::always_inline]] void count(const delivery& d) noexcept {
        total_.frames += d.frames;
        total_.bytes += d.bytes;
        total_.slots += d.slots;
        if (d.dropped != 0) [[unlikely]]
            for (std::size_t i = 0; i < causes; ++i) total_.drops[i] += d.drops[i];
    }

    spin_lock lock_;
    bool asymmetric_ = false;
    std::uint32_t id_ = closed;
    index_t num_slots_ = 0;
    index_t reserved_ = 0;  // the next lease begins here
    index_t oldest_ = 0;    // all before it has been published
    index_t given_ = 0;     // the reader's head, as last read
    index_t pending_ = 0;   // leases that are done and not published
    slot* slots_ = nullptr;
    ring_link* link_ = nullptr;
    eventfd_notifier reader_;
    buffer_space bufs_;
    std::vector<index_t> done_;  // where the lease that begins at this slot ends, once it is done
    counters total_;
};

}  // namespace nm
