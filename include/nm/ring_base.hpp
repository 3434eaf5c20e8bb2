// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>

#include "nm/concepts.hpp"
#include "nm/counters.hpp"
#include "nm/kring.hpp"
#include "nm/region.hpp"
#include "nm/ring.hpp"

namespace nm {

/// Where the buffers are, in private memory: what a slot says is checked against this, never against shared memory.
struct buffer_space {
    std::byte* base = nullptr;  ///< buffer 0
    std::uint32_t count = 0;
    std::uint32_t size = 0;  ///< bytes per buffer, and their distance

    buffer_space() = default;
    explicit buffer_space(const region& m) noexcept : base(m.buf(0)), count(m.num_bufs()), size(m.buf_size()) {}

    [[nodiscard]] [[gnu::always_inline]] bool valid(std::uint32_t idx) const noexcept { return idx - 2 < count - 2; }
    /// A bad index is given the junk buffer 0, as in netmap: never a fault.
    [[nodiscard]] std::byte* at(std::uint32_t idx) const noexcept {
        return base + static_cast<std::size_t>(idx < count ? idx : 0) * size;
    }
    /// An index that was found valid.
    [[nodiscard]] [[gnu::always_inline]] std::byte* of(std::uint32_t idx) const noexcept {
        return base + static_cast<std::size_t>(idx) * size;
    }
    /// For prefetching: any index, checked by nobody, touched by nobody.
    [[nodiscard]] [[gnu::always_inline]] const std::byte* hint(std::uint32_t idx) const noexcept {
        return reinterpret_cast<const std::byte*>(reinterpret_cast<std::uintptr_t>(base) +
                                                  static_cast<std::size_t>(idx) * size);
    }
};

/// Nothing, or more than a buffer holds: one comparison for both.
[[nodiscard]] [[gnu::always_inline]] constexpr bool odd_length(std::uint32_t len, std::uint32_t size) noexcept { return len - 1 >= size; }

template <class B>
[[nodiscard]] [[gnu::always_inline]] inline slot_words put_one(B& b, index_t i, const slot_words& w) noexcept {
    if constexpr (puts_words<B>) {
        b.put(i, w);
        return w;
    } else {
        slot s = from_words(w);
        b.put(i, s);
        return words(s);
    }
}

class ring_taps;  // taps.hpp

/// What tx and rx rings share: netmap's ring as the user sees it, and the private truth behind it. One thread at a
/// time per ring. Two rings of one port may be two threads', so they share no cache line (nor a pair of lines, which is
/// what is fetched): 3 times slower on a channel at batch 1 otherwise.
class alignas(128) ring_base {
public:
    ring_base(ring* shared, index_t num_slots, const region& m) noexcept
        : r_(shared), slots_(shared->slots()), bufs_(m) {
        k_.num_slots = num_slots;
    }

    [[nodiscard]] index_t num_slots() const noexcept { return k_.num_slots; }
    /// Bytes in one buffer: the most that one slot holds.
    [[nodiscard]] std::uint32_t buf_size() const noexcept { return bufs_.size; }

    [[nodiscard]] index_t head() const noexcept { return load_once(r_->head); }
    [[nodiscard]] index_t cur() const noexcept { return load_once(r_->cur); }
    [[nodiscard]] index_t tail() const noexcept { return load_once(r_->tail); }
    /// Slots between cur and tail: frames to read, or room to write (nm_ring_space).
    [[nodiscard]] index_t space() const noexcept { return ring_distance(cur(), tail(), k_.num_slots) % k_.num_slots; }
    [[nodiscard]] bool empty() const noexcept { return cur() == tail(); }
    /// Every slot is the user's, and he wants more: that cannot be before he gives some back.
    [[nodiscard]] bool waits_in_vain() const noexcept { return empty() && k_.next(k_.hwtail) == k_.hwcur; }
    [[nodiscard]] index_t next(index_t i) const noexcept { return k_.next(i); }

    [[nodiscard]] nm::slot& slot(index_t i) noexcept { return slots_[i < k_.num_slots ? i : 0]; }
    [[nodiscard]] nm::slot& slot() noexcept { return slot(head()); }
    /// Buffer of a slot; of slot head when none is given.
    [[nodiscard]] std::uint8_t* buf(const nm::slot& s) const noexcept {
        return reinterpret_cast<std::uint8_t*>(bufs_.at(s.buf_idx));
    }
    [[nodiscard]] std::uint8_t* buf() noexcept { return buf(slot()); }

    /// The user is done with n slots: head and cur go forward together.
    void advance(index_t n = 1) noexcept {
        index_t h = head();
        for (; n != 0; --n) h = k_.next(h);
        set_head(h);
    }
    void set_head(index_t h) noexcept {
        store_once(r_->head, h);
        store_once(r_->cur, h);
    }
    /// Moves the wake-up point only: "wake me when tail passes this".
    void set_cur(index_t c) noexcept { store_once(r_->cur, c); }

    /// netmap's own structure, for who wants to walk it.
    [[nodiscard]] ring& shared() noexcept { return *r_; }
    [[nodiscard]] const kring& truth() const noexcept { return k_; }
    [[nodiscard]] counters stats() const noexcept { return c_.now(); }
    /// For backends and loops, which add to them.
    [[nodiscard]] live_counters& live() noexcept { return c_; }
    [[nodiscard]] const buffer_space& buffers() const noexcept { return bufs_; }

    /// From now on the ring's user is on the other side of a boundary (ptnet/served.hpp), and the header in shared memory is his: head, cur
    /// and tail as this side knows them are in `mine`, which stays as long as the ring. The slots stay where they are.
    void use_header(ring* mine) noexcept {
        *mine = *r_;
        r_ = mine;
        set_head(k_.hwcur);
        finish();
    }

    /// A ring that goes on where another process left it.
    void start_at(index_t hwcur, index_t hwtail) noexcept {
        k_.hwcur = hwcur;
        k_.hwtail = hwtail;
        set_head(hwcur);
        finish();
    }

    /// Where monitors are (taps.hpp), of which the port keeps hold; null as long as it never had one. By any thread.
    void set_taps(ring_taps* t) noexcept { __atomic_store_n(&taps_, t, __ATOMIC_RELEASE); }  // P1

protected:
    [[nodiscard]] [[gnu::always_inline]] ring_taps* taps() const noexcept { return __atomic_load_n(&taps_, __ATOMIC_ACQUIRE); }  // C1

    /// The user's head if head and cur make sense; else the ring is put back to private truth and counted.
    [[nodiscard]] [[gnu::always_inline]] index_t prologue() noexcept {
        const index_t h = head();
        const index_t c = cur();
        if (h == k_.hwcur && c == h) [[likely]]
            return h;  // where a fused loop left them
        if (k_.legal(h, c)) [[likely]]
            return h;
        reinit();
        return k_.hwcur;
    }

    [[gnu::noinline, gnu::cold]] void reinit() noexcept {
        ++c_.reinits;
        set_head(k_.hwcur);
        finish();
        for (index_t i = k_.hwcur; i != k_.hwtail; i = k_.next(i)) {
            nm::slot s = load_slot(slots_[i]);
            const nm::slot before = s;
            if (!bufs_.valid(s.buf_idx)) s.buf_idx = 0;
            if (s.buf_idx == 0 || s.len > bufs_.size) s.len = 0;
            update_slot(slots_[i], s, before);
        }
    }

    void finish() noexcept {
        if (load_once(r_->tail) != k_.hwtail) store_once(r_->tail, k_.hwtail);
    }

    void stamp() noexcept { r_->ts = system_clock::wall(); }

    ring* r_;
    nm::slot* slots_;
    buffer_space bufs_;
    kring k_;
    ring_taps* taps_ = nullptr;
    live_counters c_;
};

}  // namespace nm
