// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "balancer.hpp"
#include "common/account.hpp"
#include "common/expect.hpp"

namespace lb {

struct pipe_books {
    std::string name;
    bool swaps = false;          ///< with the input: one memory
    bool consumer = false;       ///< somebody has the other end open
    flow_count count;
    std::uint64_t waiting = 0;   ///< of those forwarded: in the pipe, not taken yet
};

/// The closing account. `received` is what the input has counted as delivered, not what this program believes.
struct books {
    std::string input;
    nm::port_info info;
    nm::counters rx;
    std::uint64_t left = 0;      ///< arrived and not taken
    std::optional<nm::sys::link_counters> kernel;  ///< of a kernel interface or a NIC, while lb had it
    std::uint64_t received = 0, bytes = 0, broken = 0;
    std::array<std::uint64_t, nm::vale::told_bys> told{};
    std::vector<group> groups;
    std::vector<pipe_books> pipes;
    std::size_t extra = 0, extra_free = 0;
    double seconds = 0;

    [[nodiscard]] flow_count sum(const group& g) const noexcept;
    [[nodiscard]] bool conserved(const group& g) const noexcept;
    [[nodiscard]] bool conserved() const noexcept;
    [[nodiscard]] double pps() const noexcept { return seconds > 0 ? static_cast<double>(received) / seconds : 0; }
    [[nodiscard]] std::vector<tool::outcome> judge(const tool::expectations& e) const;
    [[nodiscard]] std::string table(const settings& s, const std::vector<tool::outcome>& outcomes) const;
    [[nodiscard]] std::string to_json(const std::vector<tool::outcome>& outcomes) const;
};

/// When the working thread is done. `then`: what the kernel had counted when the input was opened.
[[nodiscard]] books close_books(const settings& s, tool::any_port& input, const std::optional<nm::sys::link_counters>& then,
                                std::deque<pipe_outlet>& outlets, pipe_spreader& spread, double seconds);

/// What each pipe did between two looks.
class live_counts {
public:
    explicit live_counts(const std::deque<pipe_outlet>& outlets) : outlets_(outlets), then_(outlets.size()) {}
    /// Since the last time; `queued` is as it is.
    [[nodiscard]] std::vector<flow_count> since();
    [[nodiscard]] static std::string line(const std::vector<flow_count>& pipes);
    [[nodiscard]] tool::json json(const std::vector<flow_count>& pipes) const;

private:
    const std::deque<pipe_outlet>& outlets_;
    std::vector<flow_count> then_;
};

/// -o and -s: lines as netmap's lb writes them.
class netmap_statistics {
public:
    netmap_statistics(std::string input, const std::deque<pipe_outlet>& outlets)
        : input_(std::move(input)), outlets_(outlets), live_(outlets), then_(nm::system_clock::now_ns()) {}
    /// `received`, without_ip: so far; `free`: extra buffers.
    [[nodiscard]] std::vector<std::string> lines(std::uint64_t received, std::uint64_t without_ip, std::uint64_t free);

private:
    std::string input_;
    const std::deque<pipe_outlet>& outlets_;
    live_counts live_;
    std::uint64_t then_;
};

}  // namespace lb
