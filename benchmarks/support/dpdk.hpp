// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// How the DPDK peers start: no devices, no hugepages (nm gets none either), lcores where they are told to be.

#include <rte_config.h>

#include <rte_eal.h>

#include "sample.hpp"

namespace bench {

/// `lcores` as in "0@0,1@1".
inline void start_eal(const std::string& lcores) {
    std::array<const char*, 10> args{"bench", "--no-huge", "--no-pci", "--no-shconf", "-m", "512", "--no-telemetry", "--log-level=5",
                                     "--lcores", lcores.c_str()};
    std::array<char*, 10> argv{};
    std::transform(args.begin(), args.end(), argv.begin(), [](const char* s) { return const_cast<char*>(s); });
    if (rte_eal_init(static_cast<int>(argv.size()), argv.data()) < 0) die("rte_eal_init failed");
}

}  // namespace bench
