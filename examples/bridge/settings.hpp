// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <span>
#include <string>
#include <vector>

#include "common/cli.hpp"
#include "common/expect.hpp"
#include "common/report.hpp"

namespace bridge {

struct settings {
    std::vector<std::string> ports;
    std::string feed, drain;
    unsigned burst = 256;
    bool copy = false;
    bool loopback = false;
    bool with_host = false;  ///< one interface was given: the second port is its host rings
    int verbose = 0;
    double wait_link = 0;
    std::uint64_t count = 0;  ///< 0: no end
    double seconds = 0;       ///< 0: no end
    unsigned report_ms = 1000;
    std::string require_mode, metrics;
    bool watchable = false;
    tool::report_style style;
    tool::expectations expect;
    std::vector<std::string> notes;
};

[[nodiscard]] std::span<const tool::option<settings>> option_table();
/// Refuses what contradicts itself; afterwards there are two ports, or one and loopback. The
/// second port of one interface is the host's stack on it.
void settle(settings& s);

}  // namespace bridge
