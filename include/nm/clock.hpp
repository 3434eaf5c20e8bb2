// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <ctime>

namespace nm {

struct time_stamp {
    std::int64_t sec;
    std::int64_t usec;
};

/// The machine's clocks. A test passes another type with the same two functions, stepped by hand.
struct system_clock {
    /// Wall time, as netmap(4) puts it into a ring's `ts`.
    [[nodiscard]] static time_stamp wall() noexcept {
        timespec t{};
        ::clock_gettime(CLOCK_REALTIME, &t);
        return {t.tv_sec, t.tv_nsec / 1000};
    }
    /// Nanoseconds that only go forward.
    [[nodiscard]] static std::uint64_t now_ns() noexcept {
        timespec t{};
        ::clock_gettime(CLOCK_MONOTONIC, &t);
        return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
    }
};

}  // namespace nm
