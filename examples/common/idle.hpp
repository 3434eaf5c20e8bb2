// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <sched.h>
#include <thread>

#include "nm/nm.hpp"

namespace tool {

/// What a loop does when it found nothing to do: looks again a number of times, since work that comes within
/// microseconds is cheaper found than slept for, then sleeps.
class idle {
public:
    void busy() noexcept { rounds_ = 0; }

    /// True when it is time to sleep; until then it takes a breath.
    [[nodiscard]] bool should_sleep() noexcept {
        if (++rounds_ > limit) return true;
        nm::cpu_pause();
        // On few cores the one who could bring work may be waiting for this one.
        if (rounds_ % 64 == 0) ::sched_yield();
        return false;
    }

    /// For a thread that shares its port with others, and so may not arm it.
    static void nap() { std::this_thread::sleep_for(std::chrono::microseconds(50)); }

private:
    static constexpr unsigned limit = 512;
    unsigned rounds_ = 0;
};

/// The most that a thread sleeps before it looks whether the run was stopped.
inline constexpr std::chrono::milliseconds nap_limit{100};

}  // namespace tool
