// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

// Functions on a packet's road are always_inline: one that a compiler finds too much in a large loop would be a call per
// packet.
namespace nm {

/// Bytes per cache line. A constant, not hardware_destructive_interference_size: this one is part of layouts that two
/// separately compiled programs share.
inline constexpr std::size_t cache_line = 64;

/// In a spin loop: tells the core that it spins.
inline void cpu_pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield" ::: "memory");
#endif
}

[[gnu::always_inline]] inline void prefetch_read(const void* p) noexcept { __builtin_prefetch(p, 0, 3); }
[[gnu::always_inline]] inline void prefetch_write(const void* p) noexcept { __builtin_prefetch(p, 1, 3); }

/// An 8-byte word that may be part of anything.
using u64_alias [[gnu::may_alias]] = std::uint64_t;

/// One load, exactly one: the compiler may neither repeat it nor split it. All that lies in shared memory is read so.
template <class T>
[[nodiscard]] [[gnu::always_inline]] inline T load_once(const T& shared) noexcept {
    return __atomic_load_n(&shared, __ATOMIC_RELAXED);
}

template <class T>
[[gnu::always_inline]] inline void store_once(T& shared, T value) noexcept {
    __atomic_store_n(&shared, value, __ATOMIC_RELAXED);
}

}  // namespace nm
