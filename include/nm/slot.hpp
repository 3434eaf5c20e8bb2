// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "nm/cpu.hpp"

namespace nm {

/// Index of a slot in a ring, or of a buffer in a region.
using index_t = std::uint32_t;

/// netmap_slot, byte for byte (API 14): one buffer of one frame.
struct slot {
    std::uint32_t buf_idx;  ///< buffer index in the region; 0 and 1 are reserved
    std::uint16_t len;      ///< bytes of this fragment; 0 makes the slot a hole: no frame, skipped by everyone
    std::uint16_t flags;    ///< ns_* below
    std::uint64_t ptr;      ///< ns_indirect: an address; ns_vnet: a packed virtio-net header; else unused
};
static_assert(sizeof(slot) == 16 && alignof(slot) == 8 && std::is_trivially_copyable_v<slot>);
static_assert(offsetof(slot, buf_idx) == 0 && offsetof(slot, len) == 4 && offsetof(slot, flags) == 6);
static_assert(offsetof(slot, ptr) == 8);

inline constexpr std::uint16_t ns_buf_changed = 0x0001;  ///< buf_idx is not the one that was here before
inline constexpr std::uint16_t ns_report = 0x0002;       ///< tell me when this one has been sent
inline constexpr std::uint16_t ns_forward = 0x0004;      ///< transparent mode: pass to the other endpoint
inline constexpr std::uint16_t ns_no_learn = 0x0008;     ///< the switch must not learn this source address
inline constexpr std::uint16_t ns_indirect = 0x0010;     ///< payload at `ptr` (VALE tx only)
inline constexpr std::uint16_t ns_morefrag = 0x0020;     ///< the frame goes on in the next slot
inline constexpr std::uint16_t ns_txmon = 0x0040;        ///< monitor: seen on the tx side
/// nm's own, in the one bit that netmap left free: `ptr` carries the frame's virtio-net header (vnet_hdr.hpp). Only
/// ports opened with open_options::offloads produce it.
inline constexpr std::uint16_t ns_vnet = 0x0080;

/// Most slots that one frame may span (NETMAP_MAX_FRAGS).
inline constexpr index_t max_frags = 64;

/// Slots that the frame still has, this one included (netmap's NS_RFRAGS; VALE rx only).
[[nodiscard]] constexpr unsigned ns_rfrags(const slot& s) noexcept { return (s.flags >> 8) & 0xffU; }

/// A slot as two words: the unit of every access to one in shared memory, and what the fused loops work with. lo has the
/// buffer index in its low half, then length and flags; hi is ptr.
struct slot_words {
    std::uint64_t lo;
    std::uint64_t hi;
    friend bool operator==(const slot_words&, const slot_words&) = default;

    [[nodiscard]] constexpr std::uint32_t buf_idx() const noexcept { return static_cast<std::uint32_t>(lo); }
    [[nodiscard]] constexpr std::uint16_t len() const noexcept { return static_cast<std::uint16_t>(lo >> 32); }
    [[nodiscard]] constexpr bool has(std::uint16_t flag) const noexcept { return (lo & bits(flag)) != 0; }
    [[nodiscard]] static constexpr std::uint64_t bits(std::uint16_t flags) noexcept {
        return static_cast<std::uint64_t>(flags) << 48;
    }
    static constexpr std::uint64_t index_bits = 0xffffffffU;
    static constexpr std::uint64_t len_bits = std::uint64_t{0xffff} << 32;
};

// Little endian, which vnet_hdr and every machine that nm runs on are too. Written with shifts, so that a compiler that
// keeps the fields in registers sees through it.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
[[nodiscard]] [[gnu::always_inline]] constexpr slot_words words(const slot& s) noexcept {
    return {s.buf_idx | static_cast<std::uint64_t>(s.len) << 32 | static_cast<std::uint64_t>(s.flags) << 48, s.ptr};
}
[[nodiscard]] [[gnu::always_inline]] constexpr slot from_words(const slot_words& w) noexcept {
    return {static_cast<std::uint32_t>(w.lo), static_cast<std::uint16_t>(w.lo >> 32),
            static_cast<std::uint16_t>(w.lo >> 48), w.hi};
}

/// Single fetch (rule R1): two loads, and what is checked afterwards is the copy.
[[nodiscard]] [[gnu::always_inline]] inline slot_words load_words(const slot& shared) noexcept {
    const auto* w = reinterpret_cast<const u64_alias*>(&shared);
    return {__atomic_load_n(w, __ATOMIC_RELAXED), __atomic_load_n(w + 1, __ATOMIC_RELAXED)};
}
[[nodiscard]] [[gnu::always_inline]] inline slot load_slot(const slot& shared) noexcept { return from_words(load_words(shared)); }

/// Writes a slot only where it differs from `before`, which is known to lie there: an unwritten line stays shared
/// between the cores, which is worth 1.8x on a channel (docs/bench.md).
[[gnu::always_inline]] inline void update_words(slot& shared, const slot_words& now, const slot_words& before) noexcept {
    auto* w = reinterpret_cast<u64_alias*>(&shared);
    if (now.lo != before.lo) __atomic_store_n(w, now.lo, __ATOMIC_RELAXED);
    if (now.hi != before.hi) __atomic_store_n(w + 1, now.hi, __ATOMIC_RELAXED);
}

[[gnu::always_inline]] inline void update_slot(slot& shared, const slot& now, const slot& before) noexcept {
    update_words(shared, words(now), words(before));
}
[[gnu::always_inline]] inline void store_slot(slot& shared, const slot& now) noexcept {
    update_words(shared, words(now), load_words(shared));
}

}  // namespace nm
