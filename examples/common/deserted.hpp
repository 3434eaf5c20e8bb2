// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <fmt/format.h>
#include <string>

#include "common/open.hpp"

#include "nm/clock.hpp"

namespace tool {

/// A pipe whose other end nobody opens is a place where packets stay. Empty: `port` is no such thing, or `peer` is the
/// other end; else the sentence for whoever waits there.
[[nodiscard]] inline std::string missing_end(const std::string& port, const std::string& peer) {
    const auto mine = spec_of(port);
    if (mine.kind != nm::port_kind::pipe) return {};
    if (!peer.empty()) {
        const auto other = spec_of(peer);
        if (other.identity() == mine.identity() && other.pipe_slave != mine.pipe_slave) return {};
    }
    return fmt::format("the other end of the pipe {} is not open here; open it in another program, or add --peer 'netmap:{}{}{}'", port,
                       mine.name, mine.pipe_slave ? '{' : '}', mine.pipe_id);
}

/// Gives up on a full pipe whose other end nobody has open, here or in another program.
class desertion {
public:
    explicit desertion(std::string sentence) : sentence_(std::move(sentence)) {}

    void busy() noexcept { since_ = 0; }
    /// Nothing could be sent.
    template <class P>
    void stuck(P& port) {
        if (sentence_.empty()) return;
        if constexpr (requires { port.peer_open(); })
            if (port.peer_open()) {
                since_ = 0;
                return;
            }
        const std::uint64_t now = nm::system_clock::now_ns();
        if (since_ == 0)
            since_ = now;
        else if (now - since_ > 200'000'000)
            throw run_error(sentence_);
    }

private:
    std::string sentence_;
    std::uint64_t since_ = 0;
};

}  // namespace tool
