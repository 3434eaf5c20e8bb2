// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>

#include "nm/nm.hpp"

namespace pkt_gen {

/// A token bucket: so many packets per second, in pieces of half a millisecond; what a late wake-up missed, up to 50 ms
/// of it, is made good.
class pacer {
public:
    pacer(double pps, nm::index_t burst)
        : per_ns_(pps / 1e9), depth_(std::max(1.0, pps * 0.05)),
          piece_(std::clamp(pps * 0.0005, 1.0, static_cast<double>(burst))), then_(nm::system_clock::now_ns()),
          tokens_(piece_) {}

    /// How many may go now, at most `want`; none: wait().
    [[nodiscard]] nm::index_t allowed(nm::index_t want) noexcept {
        if (per_ns_ <= 0) return want;
        const std::uint64_t now = nm::system_clock::now_ns();
        tokens_ = std::min(depth_, tokens_ + static_cast<double>(now - then_) * per_ns_);
        then_ = now;
        if (tokens_ < std::min<double>(piece_, want)) return 0;
        return std::min(want, static_cast<nm::index_t>(std::min(tokens_, 1e9)));
    }
    void took(nm::index_t n) noexcept { tokens_ -= n; }

    void wait() const noexcept {
        const double ns = std::max(0.0, piece_ - tokens_) / per_ns_;
        if (ns < 60'000) return nm::cpu_pause();
        const auto bounded = static_cast<long>(std::min(ns, 5e7));  // to look whether the run was stopped
        const timespec t{0, bounded};
        ::nanosleep(&t, nullptr);
    }

private:
    double per_ns_, depth_, piece_;
    std::uint64_t then_;
    double tokens_;
};

}  // namespace pkt_gen
