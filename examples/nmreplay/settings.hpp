// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "common/cli.hpp"
#include "common/expect.hpp"
#include "common/report.hpp"
#include "models.hpp"

namespace nmreplay {

struct settings {
    std::string port, peer;
    std::string file;    ///< to replay; "-": standard input
    std::string record;  ///< to write; "-": standard output
    std::optional<bandwidth> rate;
    std::optional<nmreplay::delay> delay;
    std::optional<nmreplay::loss> loss;
    std::optional<double> speed;
    std::optional<double> pps;
    std::optional<std::uint64_t> seed;
    std::optional<std::uint64_t> loops;
    std::optional<unsigned> burst;
    std::optional<std::uint64_t> read_ahead;
    std::uint64_t count = 0;  ///< 0: no end
    double seconds = 0;       ///< 0: no end
    double wait_link = 0;
    bool exit_when_quiet = false;
    int cpu = -1, other_cpu = -1;  ///< of the thread at the port, of the one at the file
    bool realtime = false;
    int verbose = 0;
    unsigned report_ms = 1000;
    std::string require_mode, metrics;
    tool::report_style style;
    tool::expectations expect;
    std::optional<std::uint64_t> expect_lateness;  ///< nanoseconds that 99 % may be late at most
    std::string hgrm;

    [[nodiscard]] bool records() const { return !record.empty(); }
    [[nodiscard]] bool to_stdout() const { return record == "-"; }
    [[nodiscard]] bool from_stdin() const { return file == "-"; }
    /// -B, --rate and --speed are three ways to say one thing.
    [[nodiscard]] bandwidth pace() const {
        if (rate) return *rate;
        if (pps) return *pps > 0 ? bandwidth{bandwidth::kind::packets, *pps} : bandwidth{bandwidth::kind::unlimited, 0};
        if (speed) return *speed > 0 ? bandwidth{bandwidth::kind::real, *speed} : bandwidth{bandwidth::kind::unlimited, 0};
        return {};
    }
};

[[nodiscard]] std::span<const tool::option<settings>> option_table();
/// Refuses what contradicts itself.
void settle(settings& s);

}  // namespace nmreplay
