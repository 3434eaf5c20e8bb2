// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <atomic>
#include <cstdint>

#include "nm/base/os.hpp"
#include "nm/concepts.hpp"

namespace nm {

/// Wakes who sleeps on an eventfd. A system call: called only when somebody said that he sleeps.
struct eventfd_notifier {
    int fd = -1;
    [[gnu::cold]] void notify() const noexcept { base::eventfd_signal(fd); }
};
static_assert(notifier<eventfd_notifier>);

/// A word by which one side says that it is going to sleep. The sleeper arms, passes the heavy barrier, looks again and
/// sleeps; the other side publishes and then looks here. Its line is written only around a sleep, so looking costs
/// nothing (docs/memory-order.md, W).
struct alignas(128) sleep_word {
    static constexpr std::uint32_t awake = 0, asleep = 1, woken = 2;
    std::atomic<std::uint32_t> state{awake};

    void arm() noexcept { state.store(asleep, std::memory_order_relaxed); }
    void disarm() noexcept { state.store(awake, std::memory_order_relaxed); }
    /// The sleeper found work himself.
    void found() noexcept { state.store(woken, std::memory_order_relaxed); }
    /// Somebody has notified, and the sleeper has not disarmed since.
    [[nodiscard]] bool pending() const noexcept { return state.load(std::memory_order_seq_cst) == woken; }

    /// After a publication. `asymmetric` says that sleepers use membarrier_heavy; without it both sides need a fence.
    template <notifier N>
    [[gnu::always_inline]] void wake(const N& n, bool asymmetric) noexcept {
        if (asymmetric) [[likely]]
            std::atomic_signal_fence(std::memory_order_seq_cst);
        else
            std::atomic_thread_fence(std::memory_order_seq_cst);
        if (state.load(std::memory_order_relaxed) == asleep) [[unlikely]] {
            std::uint32_t expected = asleep;
            if (state.compare_exchange_strong(expected, woken)) n.notify();
        }
    }
};

/// The sleeper's half of the pair: between arming and looking again.
[[gnu::cold]] inline void sleep_barrier(bool asymmetric) noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (asymmetric) [[maybe_unused]]
        const bool done = base::membarrier_heavy();
}

}  // namespace nm
