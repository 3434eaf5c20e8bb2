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

}  // namespace tool
