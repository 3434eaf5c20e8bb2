// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <optional>
#include <span>
#include <string>

#include "common/cli.hpp"
#include "common/expect.hpp"
#include "common/flows.hpp"
#include "common/report.hpp"

namespace pkt_gen {

enum class function { tx, rx, ping, pong };

struct settings {
    std::string port;
    std::string peer;
    function what = function::rx;
    std::uint64_t count = 0;  ///< 0: no end
    double seconds = 0;       ///< 0: no end
    std::optional<unsigned> length;
    unsigned min_length = 0;  ///< -l given twice: random lengths from here to length
    unsigned burst = 512;
    int family = 0;  ///< 4, 6, or what the addresses say
    std::optional<tool::endpoint_range> src, dst;
    std::optional<tool::mac_address> src_mac, dst_mac;
    bool random_src = false, random_dst = false;
    int cpu = -1;
    unsigned cpus = 0;
    unsigned threads = 1;
    unsigned report_ms = 1000;
    double wait_link = 0;
    bool exit_when_quiet = false;
    int verbose = 0;
    double rate = 0;  ///< packets per second; 0: as fast as it goes
    bool dump = false, rubbish = false, always_copy = false, touch = false;
    unsigned frags = 0, frag_size = 0;
    unsigned tx_slots = 0, rx_slots = 0, tx_rings = 0, rx_rings = 0;
    std::string pcap;
    std::string require_mode;
    bool watchable = false;
    std::string hgrm, metrics;
    tool::report_style style;
    tool::expectations expect;
    std::vector<std::string> notes;  ///< what a letter cannot do here, and what to use
};

[[nodiscard]] std::span<const tool::option<settings>> option_table();
/// Fills in what follows from other settings and refuses what contradicts itself.
void settle(settings& s);

[[nodiscard]] inline const char* name_of(function f) noexcept {
    constexpr const char* names[] = {"tx", "rx", "ping", "pong"};
    return names[static_cast<int>(f)];
}

}  // namespace pkt_gen
