// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/cli.hpp"
#include "common/expect.hpp"
#include "common/report.hpp"

namespace lb {

/// One -p: PREFIX:NUMBER. settle() gives a group without a name the input's, and its first pipe a number.
struct pipe_group {
    std::string prefix;
    unsigned first = 0, count = 2;
};

struct settings {
    std::string input;
    std::vector<pipe_group> groups;
    std::uint32_t extra_bufs = 0;
    unsigned burst = 512;
    unsigned slots = 1024;
    bool copy = false;
    bool busy_wait = false;
    double wait_link = 0;
    unsigned syslog_s = 0, stdout_s = 0;  ///< 0: never
    std::optional<std::uint64_t> hash_key;
    std::string feed;
    std::vector<std::string> drains;
    std::uint64_t count = 0;  ///< 0: no end
    double seconds = 0;       ///< 0: no end
    unsigned report_ms = 1000;
    std::string require_mode, metrics;
    tool::report_style style;
    tool::expectations expect;

    [[nodiscard]] std::size_t pipes() const noexcept {
        std::size_t n = 0;
        for (const auto& g : groups) n += g.count;
        return n;
    }
};

/// nm-host has 64 connections, two for each pipe, and one is for who wants to look.
inline constexpr unsigned most_pipes_of_a_host = 31, most_pipes = 128;

/// A pipe's end here, by the name that it is opened with.
[[nodiscard]] std::string pipe_name(const std::string& prefix, unsigned number);

[[nodiscard]] std::span<const tool::option<settings>> option_table();
/// Refuses what contradicts itself, and names what was left without a name.
void settle(settings& s);

}  // namespace lb
