// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>

#include "nm/clock.hpp"
#include "nm/slot.hpp"

namespace nm {

/// netmap_ring, byte for byte (API 14): 256 bytes of header, then num_slots slots. It lies in shared memory and is
/// output only: the truth is the kring in private memory (kring.hpp), and this is rewritten from it at every sync.
struct alignas(128) ring {
    std::int64_t buf_ofs;       ///< bytes from this header to buffer 0 of the region
    std::uint32_t num_slots;    ///< not necessarily a power of two; one slot is always empty
    std::uint32_t nr_buf_size;  ///< bytes per buffer, which is also their distance
    std::uint16_t ringid;
    std::uint16_t dir;   ///< 0 transmit, 1 receive
    std::uint32_t head;  ///< (user) first slot that the user owns
    std::uint32_t cur;   ///< (user) wake-up point: waiting ends when tail passes it
    std::uint32_t tail;  ///< (port) first slot that the port owns
    std::uint32_t flags;  ///< nr_*
    time_stamp ts;        ///< (port) wall time of the last rxsync
    std::uint64_t offset_mask;
    std::uint64_t buf_align;
    alignas(128) std::uint8_t sem[128];  ///< room for the user; nm never touches it

    [[nodiscard]] slot* slots() noexcept { return reinterpret_cast<slot*>(this + 1); }
    [[nodiscard]] const slot* slots() const noexcept { return reinterpret_cast<const slot*>(this + 1); }
};

inline constexpr std::uint32_t nr_timestamp = 0x2;  ///< stamp `ts` on every sync, fused loops included
inline constexpr std::uint32_t nr_forward = 0x4;    ///< transparent mode for this ring

static_assert(sizeof(ring) == 256 && alignof(ring) == 128);
static_assert(offsetof(ring, buf_ofs) == 0 && offsetof(ring, num_slots) == 8 && offsetof(ring, nr_buf_size) == 12);
static_assert(offsetof(ring, ringid) == 16 && offsetof(ring, dir) == 18 && offsetof(ring, head) == 20);
static_assert(offsetof(ring, cur) == 24 && offsetof(ring, tail) == 28 && offsetof(ring, flags) == 32);
static_assert(offsetof(ring, ts) == 40 && offsetof(ring, offset_mask) == 56 && offsetof(ring, buf_align) == 64);
static_assert(offsetof(ring, sem) == 128);

/// Bytes that a ring of `slots` slots takes.
[[nodiscard]] constexpr std::size_t ring_bytes(index_t slots) noexcept {
    return sizeof(ring) + static_cast<std::size_t>(slots) * sizeof(slot);
}

[[nodiscard]] [[gnu::always_inline]] constexpr index_t ring_next(index_t i, index_t n) noexcept { return i + 1 == n ? 0 : i + 1; }
[[nodiscard]] [[gnu::always_inline]] constexpr index_t ring_prev(index_t i, index_t n) noexcept { return i == 0 ? n - 1 : i - 1; }
/// Steps from `from` forward to `to`.
[[nodiscard]] [[gnu::always_inline]] constexpr index_t ring_distance(index_t from, index_t to, index_t n) noexcept {
    return to >= from ? to - from : to + n - from;
}

}  // namespace nm
