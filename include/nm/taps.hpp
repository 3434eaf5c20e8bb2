// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What monitors see of one ring, and how. The ring's own thread shows its frames, once per batch, to whoever has tapped
// it; a ring that nobody has tapped has no list, and its loops look at one null pointer. Frames are read again from slots
// that the user may write to, so each slot is checked again, in a private copy.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <ctime>
#include <mutex>
#include <utility>
#include <vector>

#include "nm/copy.hpp"
#include "nm/inbox.hpp"

namespace nm {

/// One monitor's place at one ring of its parent.
struct tap {
    inbox* box = nullptr;
    std::uint32_t id = 0;    ///< what the inbox was opened with
    std::uint16_t side = 0;  ///< ns_txmon at a tx ring
    bool swap = false;       ///< takes the parent's buffers where it can (/z)
};

/// The ring that is looked at, from its private truth.
struct tapped_ring {
    slot* slots;
    index_t num_slots;
    const buffer_space& bufs;
    bool indirect = false;  ///< ns_indirect is taken here: the bytes are at `ptr`

    [[nodiscard]] bool elsewhere(const slot& s) const noexcept { return indirect && (s.flags & ns_indirect) != 0; }
    void copy(std::byte* to, const slot& s, std::uint32_t len) const noexcept {
        if (elsewhere(s)) std::memcpy(to, reinterpret_cast<const void*>(s.ptr), len);
        else copy_frame(to, bufs.of(s.buf_idx), len);
    }
};

class ring_taps {
public:
    explicit ring_taps(bool sends) noexcept : sends_(sends) {}

    // By any thread, one at a time (tap_point.hpp sees to that). After remove() nothing of that monitor is touched any more;
    // it waits for one batch at most.
    void add(const tap& t, index_t num_slots) {
        std::vector<tap> more;
        std::vector<slot> kept(t.swap ? num_slots : 0U);
        more.reserve(taps_.size() + 1);  // nothing is allocated under the lock
        const std::lock_guard guard(lock_);
        more.assign(taps_.begin(), taps_.end());
        more.push_back(t);
        if (t.swap && !swaps()) {
            kept_.swap(kept);
            kept_from_ = kept_to_ = 0;
        }
        taps_.swap(more);
        live_.store(true, std::memory_order_relaxed);
    }
    void remove(const inbox* box) noexcept {
        const std::lock_guard guard(lock_);
        std::erase_if(taps_, [box](const tap& t) { return t.box == box; });
        live_.store(!taps_.empty(), std::memory_order_relaxed);
    }
    [[nodiscard]] bool live() const noexcept { return live_.load(std::memory_order_relaxed); }

    // By the ring's thread.

    /// The slots from `from` to `to` have arrived, or are about to be sent. `keep`: their buffers will be there when the
    /// user, or whoever they are sent to, is done with them; who wants to swap is served then, by released().
    [[gnu::noinline, gnu::cold]] void show(const tapped_ring& r, index_t from, index_t to, bool keep) noexcept {
        const std::lock_guard guard(lock_);
        keep = keep && swaps();
        if (keep) remember(r, from, to);
        if (sends_) skip_ = false;  // what is sent begins with a frame
        walk(r, from, to, [keep](const tap& t) { return !keep || !t.swap; });
    }

    /// The `count` slots from `from` on are the user's no more (rx), or his again (tx): of those that were kept, buffers are
    /// swapped.
    [[gnu::noinline, gnu::cold]] void released(const tapped_ring& r, index_t from, index_t count) noexcept {
        const std::lock_guard guard(lock_);
        const index_t ahead = ring_distance(from, kept_from_, r.num_slots);
        if (!keeps(r) || ahead >= count) return;
        for (index_t left = std::min(kept(r), count - ahead); left != 0;) {
            const index_t k = kept_frame(r, left);
            hand_over(r, kept_from_, k);
            kept_from_ = after(kept_from_, k, r.num_slots);
            left -= k;
        }
    }
    /// A loop comes that may move the buffers of what was kept on: it is copied now.
    [[gnu::noinline, gnu::cold]] void copy_kept(const tapped_ring& r) noexcept {
        const std::lock_guard guard(lock_);
        if (!keeps(r)) return;
        const bool skip = std::exchange(skip_, false);
        walk(r, kept_from_, kept_to_, [](const tap& t) { return t.swap; });
        skip_ = skip;
        kept_from_ = kept_to_;
    }

private:
    static constexpr index_t most = 256;  // slots that are looked at before they are handed on
    static_assert(most >= 2 * max_frags);

    [[nodiscard]] bool swaps() const noexcept {
        return std::any_of(taps_.begin(), taps_.end(), [](const tap& t) { return t.swap; });
    }
    [[nodiscard]] index_t kept(const tapped_ring& r) const noexcept { return ring_distance(kept_from_, kept_to_, r.num_slots); }
    [[nodiscard]] bool keeps(const tapped_ring& r) const noexcept { return swaps() && kept(r) != 0; }
    [[nodiscard]] static index_t after(index_t i, index_t k, index_t n) noexcept { return i + k >= n ? i + k - n : i + k; }

    // Whole frames, as they were found.
    struct found {
        std::array<slot, most> slots;
        index_t count = 0;
        std::array<std::uint32_t, causes> spoilt{};  // frames that were one when the port took them, and are no more

        [[nodiscard]] bool nothing() const noexcept {
            return count == 0 && std::all_of(spoilt.begin(), spoilt.end(), [](std::uint32_t n) { return n == 0; });
        }
    };

    template <class Wanted>
    void walk(const tapped_ring& r, index_t from, index_t to, Wanted wanted) noexcept {
        found f;
        index_t whole = 0;   // slots of f that belong to whole frames
        const auto spoil = [&](const slot& s, cause why) {
            f.count = whole;
            ++f.spoilt[static_cast<std::size_t>(why)];
            skip_ = (s.flags & ns_morefrag) != 0;
        };
        for (index_t i = from; i != to; i = ring_next(i, r.num_slots)) {
            const slot s = load_slot(r.slots[i]);
            const bool more = (s.flags & ns_morefrag) != 0;
            if (skip_) {
                skip_ = more;
            } else if (s.len == 0) {  // a hole: neither it nor the frame around it is one
                f.count = whole;
                skip_ = more;
            } else if (!r.bufs.valid(s.buf_idx) || (r.elsewhere(s) && s.ptr == 0)) {
                spoil(s, cause::bad_idx);
            } else if (s.len > r.bufs.size && !r.elsewhere(s)) {
                spoil(s, cause::bad_len);
            } else if (more && f.count - whole + 1 == max_frags) {
                spoil(s, cause::bad_chain);
            } else {
                f.slots[f.count++] = s;
                if (more) continue;
                whole = f.count;
                if (f.count + max_frags <= most) continue;
                hand_out(r, f, wanted);
                whole = 0;
            }
        }
        if (f.count != whole) spoil(slot{0, 0, ns_morefrag, 0}, cause::bad_chain);
        hand_out(r, f, wanted);
    }

    template <class Wanted>
    void hand_out(const tapped_ring& r, found& f, Wanted wanted) noexcept {
        if (f.nothing()) return;
        const std::uint64_t now = stamp();
        for (const tap& t : taps_)
            if (wanted(t)) copy_to(t, r, f, now);
        f.count = 0;
        f.spoilt = {};
    }

    // Wall time in nanoseconds: a frame without a virtio-net header carries it in its slot.
    [[nodiscard]] static std::uint64_t stamp() noexcept {
        timespec t{};
        ::clock_gettime(CLOCK_REALTIME, &t);
        return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
    }
    [[nodiscard]] static slot seen_as(const slot& s, const tap& t, std::uint64_t now) noexcept {
        const auto flags = static_cast<std::uint16_t>((s.flags & (ns_morefrag | ns_vnet)) | t.side);
        return {s.buf_idx, s.len, flags, (s.flags & ns_vnet) != 0 ? s.ptr : now};
    }

    static void copy_to(const tap& t, const tapped_ring& from, const found& f, std::uint64_t now) noexcept {
        bool gone = false;
        const lease l = t.box->reserve_slots(t.id, f.count, gone);
        if (gone) return;
        delivery d;
        for (std::size_t i = 0; i < causes; ++i)
            if (f.spoilt[i] != 0) d.drop(static_cast<cause>(i), f.spoilt[i]);
        const index_t n = t.box->num_slots();
        index_t at = l.first;
        for (index_t k = 0, end = 0; k < f.count; k = end) {
            while ((f.slots[end++].flags & ns_morefrag) != 0) {}
            if (end - k > l.count - d.slots) d.drop(cause::full);
            else copy_frame_to(t, from, &f.slots[k], end - k, at, d, now);
            at = after(l.first, d.slots, n);
        }
        t.box->complete(l, d);
    }

    // The free slots have the buffers that the monitor's user left there: what is none of its region takes the frame.
    static void copy_frame_to(const tap& t, const tapped_ring& from, const slot* s, index_t count, index_t at, delivery& d,
                              std::uint64_t now) noexcept {
        const buffer_space& to = t.box->buffers();
        slot* const slots = t.box->slots();
        const index_t n = t.box->num_slots();
        std::array<slot, max_frags> free;
        bool usable = true;
        for (index_t k = 0; k < count; ++k) {
            free[k] = load_slot(slots[after(at, k, n)]);
            usable &= to.valid(free[k].buf_idx);
        }
        d.slots += count;
        if (!usable) d.drop(cause::bad_idx);
        else ++d.frames;
        for (index_t k = 0; k < count; ++k) {
            slot out{free[k].buf_idx, 0, 0, 0};
            if (usable) {
                const std::uint32_t len = std::min<std::uint32_t>(s[k].len, to.size);
                from.copy(to.of(free[k].buf_idx), s[k], len);
                out = seen_as(s[k], t, now);
                out.buf_idx = free[k].buf_idx;
                out.len = static_cast<std::uint16_t>(len);
                d.bytes += len;
            }
            update_slot(slots[after(at, k, n)], out, free[k]);
        }
    }

    // What is kept is remembered in private: which buffer, how long.
    void remember(const tapped_ring& r, index_t from, index_t to) noexcept {
        if (kept_from_ == kept_to_) kept_from_ = from;
        for (index_t i = from; i != to; i = ring_next(i, r.num_slots)) {
            kept_[i] = load_slot(r.slots[i]);
            if (!r.bufs.valid(kept_[i].buf_idx) || kept_[i].len > r.bufs.size) kept_[i].len = 0;
        }
        kept_to_ = to;
    }
    // Slots of the frame that begins at kept_from_, `left` at most.
    [[nodiscard]] index_t kept_frame(const tapped_ring& r, index_t left) const noexcept {
        index_t k = 1;
        for (index_t i = kept_from_; k != left && (kept_[i].flags & ns_morefrag) != 0; ++k) i = ring_next(i, r.num_slots);
        return k;
    }

    // A frame of `count` slots from `at` on goes to all who wait for buffers. The last of them gets the buffers, the others
    // copies. What the user has put elsewhere meanwhile (a swap by hand) cannot be found any more.
    void hand_over(const tapped_ring& r, index_t at, index_t count) noexcept {
        found f;
        const index_t last_slot = after(at, count - 1, r.num_slots);
        const bool ends = (kept_[last_slot].flags & ns_morefrag) == 0;
        if (!ends) forget_rest(r, last_slot);
        for (index_t k = 0; k < count; ++k) {
            const slot& s = kept_[after(at, k, r.num_slots)];
            if (s.len == 0) return;  // a hole, which the port has counted, or the rest of what was counted here
            if (k < max_frags) f.slots[k] = s;
        }
        if (count > max_frags || !ends) f.spoilt[static_cast<std::size_t>(cause::bad_chain)] = 1;
        for (index_t k = 0; k < count && f.nothing(); ++k)
            if (load_slot(r.slots[after(at, k, r.num_slots)]).buf_idx != f.slots[k].buf_idx)
                f.spoilt[static_cast<std::size_t>(cause::bad_idx)] = 1;
        const bool there = f.nothing();
        if (there) f.count = count;
        const std::uint64_t now = stamp();
        const tap* last = nullptr;
        for (const tap& t : taps_) {
            if (!t.swap) continue;
            if (last != nullptr) copy_to(*last, r, f, now);
            last = &t;
        }
        if (there) swap_to(*last, r, f, at, now);
        else copy_to(*last, r, f, now);
    }
    // The user gave back a part of a frame: what follows of it is none.
    void forget_rest(const tapped_ring& r, index_t i) noexcept {
        for (bool more = true; more && (i = ring_next(i, r.num_slots)) != kept_to_;) {
            more = (kept_[i].flags & ns_morefrag) != 0;
            kept_[i].len = 0;
        }
    }

    static void swap_to(const tap& t, const tapped_ring& r, const found& f, index_t at, std::uint64_t now) noexcept {
        bool gone = false;
        const lease l = t.box->reserve_slots(t.id, f.count, gone);
        if (gone) return;
        delivery d;
        const index_t n = t.box->num_slots();
        slot* const slots = t.box->slots();
        if (l.count < f.count) {
            d.drop(cause::full);
        } else {
            std::array<slot, max_frags> free;
            bool usable = true;
            for (index_t k = 0; k < f.count; ++k) {
                free[k] = load_slot(slots[after(l.first, k, n)]);
                usable &= r.bufs.valid(free[k].buf_idx);
            }
            d.slots = f.count;
            if (usable) ++d.frames;
            else d.drop(cause::bad_idx);
            for (index_t k = 0; k < f.count; ++k) {
                slot out{free[k].buf_idx, 0, 0, 0};
                if (usable) {
                    out = seen_as(f.slots[k], t, now);
                    out.flags |= ns_buf_changed;
                    d.bytes += out.len;
                    slot& theirs = r.slots[after(at, k, r.num_slots)];
                    slot s = load_slot(theirs);
                    s.buf_idx = free[k].buf_idx;
                    s.flags |= ns_buf_changed;
                    store_slot(theirs, s);
                }
                update_slot(slots[after(l.first, k, n)], out, free[k]);
            }
        }
        t.box->complete(l, d);
    }

    const bool sends_;
    spin_lock lock_;
    std::atomic<bool> live_{false};
    bool skip_ = false;  // inside a frame whose beginning was not shown
    std::vector<tap> taps_;
    std::vector<slot> kept_;  // by ring position, when somebody wants to swap
    index_t kept_from_ = 0, kept_to_ = 0;
};

}  // namespace nm
