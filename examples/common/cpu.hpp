// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <pthread.h>
#include <sched.h>
#include <string>
#include <string_view>
#include <thread>

#include "common/failure.hpp"

namespace tool {

/// The calling thread runs on this CPU from here on. `option` is what asked for it.
inline void pin_to(int cpu, std::string_view option) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(cpu), &set);
    if (::pthread_setaffinity_np(::pthread_self(), sizeof set, &set) != 0)
        throw run_error(std::string(option) + ": cannot run on CPU " + std::to_string(cpu) + "; this machine has " +
                        std::to_string(std::thread::hardware_concurrency()) + ", counted from 0");
}

/// The calling thread goes before all that are not of this kind, SCHED_RR, and gives up its CPU when it waits.
inline void run_in_real_time(std::string_view option) {
    sched_param p{};
    p.sched_priority = ::sched_get_priority_min(SCHED_RR) + 9;
    if (::pthread_setschedparam(::pthread_self(), SCHED_RR, &p) != 0)
        throw run_error(std::string(option) + ": not permitted here; it takes root, or CAP_SYS_NICE");
}

}  // namespace tool
