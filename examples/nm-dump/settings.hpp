// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/cli.hpp"
#include "common/expect.hpp"
#include "common/report.hpp"

namespace nm_dump {

struct settings {
    std::vector<std::string> ports;
    std::string file;  ///< empty: a line per packet; "-": standard output
    std::string filter, metrics;
    std::string feed, drain;
    std::uint64_t count = 0;  ///< 0: no end
    double seconds = 0;       ///< 0: no end
    std::uint32_t snaplen = 262144;
    unsigned report_ms = 0;   ///< 0: no line meanwhile
    tool::report_style style;
    tool::expectations expect;

    [[nodiscard]] bool to_stdout() const { return file == "-"; }
};

[[nodiscard]] std::span<const tool::option<settings>> option_table();
/// Refuses what contradicts itself.
void settle(settings& s);

}  // namespace nm_dump
