// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <atomic>
#include <sched.h>

#include "nm/cpu.hpp"

namespace nm {

/// For a few instructions in private memory, at the one place where several senders meet (inbox.hpp). Never held during
/// a copy, never in memory that somebody else can write to (rule R6).
class spin_lock {
public:
    [[gnu::always_inline]] void lock() noexcept {
        if (held_.exchange(true, std::memory_order_acquire)) [[unlikely]]
            wait();
    }
    [[gnu::always_inline]] void unlock() noexcept { held_.store(false, std::memory_order_release); }

private:
    // Whoever holds it may have lost its core: then spinning does not help, giving ours away does.
    [[gnu::noinline, gnu::cold]] void wait() noexcept {
        for (int spins = 0;; ++spins) {
            while (held_.load(std::memory_order_relaxed)) {
                if (++spins < patience) {
                    cpu_pause();
                } else {
                    ::sched_yield();
                    spins = 0;
                }
            }
            if (!held_.exchange(true, std::memory_order_acquire)) return;
        }
    }
    static constexpr int patience = 200;
    std::atomic<bool> held_{false};
};

}  // namespace nm
