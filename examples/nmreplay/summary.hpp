// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <vector>

#include "common/account.hpp"
#include "common/switch_drops.hpp"
#include "recorder.hpp"
#include "sender.hpp"

namespace nmreplay {

/// What a run came to.
struct summary {
    tool::totals done;
    double seconds = 0;

    // of a replay
    load from_file;
    sending sent;
    tool::tx_account tx;
    nm::counters at_switch;
    bool has_peer = false;
    nm::counters peer_received;

    // of a recording
    recording recorded;
    nm::counters rx;

    [[nodiscard]] std::uint64_t packets(const settings& s) const { return s.records() ? recorded.packets : tx.queued; }
    [[nodiscard]] std::uint64_t bytes(const settings& s) const { return s.records() ? recorded.bytes : tx.counters.bytes; }
    [[nodiscard]] double pps(const settings& s) const { return seconds > 0 ? static_cast<double>(packets(s)) / seconds : 0; }
    /// Read, and left when the run ended early.
    [[nodiscard]] std::uint64_t unsent() const {
        return from_file.read - from_file.lost - from_file.too_long - from_file.too_short - std::min(tx.queued, from_file.read);
    }
    [[nodiscard]] std::vector<tool::outcome> judge(const settings& s) const;
    void print(const settings& s, const std::vector<tool::outcome>& outcomes, const nm::port_info& port) const;

private:
    [[nodiscard]] std::string replay_text(const settings& s) const;
    [[nodiscard]] std::string record_text() const;
    void add_replay(tool::json& j, const settings& s) const;
    void add_record(tool::json& j, const settings& s) const;
};

}  // namespace nmreplay
