// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <fmt/format.h>
#include <limits>
#include <string>
#include <string_view>

#include "common/failure.hpp"
#include "common/json.hpp"

#include "nm/base/os.hpp"
#include "nm/clock.hpp"

namespace tool {

/// Writes to stdout at once, whatever stdout is; a reader that has gone is an error, not a signal.
inline void print_out(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
        throw run_error("cannot write to stdout: " + nm::base::errno_text(errno));
}
inline void print_err(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); }

/// What a working thread has done so far; it alone writes, the reporting thread looks.
struct alignas(128) tally {
    std::atomic<std::uint64_t> packets{0}, bytes{0}, events{0};
    std::atomic<std::uint32_t> min_space{std::numeric_limits<std::uint32_t>::max()};

    void set(std::uint64_t p, std::uint64_t b) noexcept {
        packets.store(p, std::memory_order_relaxed);
        bytes.store(b, std::memory_order_relaxed);
    }
    void event(std::uint32_t space) noexcept {
        events.store(events.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        if (space < min_space.load(std::memory_order_relaxed)) min_space.store(space, std::memory_order_relaxed);
    }
};

struct totals {
    std::uint64_t packets = 0, bytes = 0, events = 0;
    std::uint32_t min_space = std::numeric_limits<std::uint32_t>::max();

    /// Takes a look; min_space starts anew.
    void add(tally& t) noexcept {
        packets += t.packets.load(std::memory_order_relaxed);
        bytes += t.bytes.load(std::memory_order_relaxed);
        events += t.events.load(std::memory_order_relaxed);
        min_space = std::min(
            min_space, t.min_space.exchange(std::numeric_limits<std::uint32_t>::max(), std::memory_order_relaxed));
    }
};

struct report_style {
    bool json = false, csv = false;
    bool normal_units = true;  ///< -N: no
    bool framing = false;      ///< -B: count preamble, gap and CRC as the wire does
    bool statistics = false;   ///< -A: mean and deviation over a window
};

/// 1234567 -> "1.235 M" (netmap's norm), or "1234567 ".
[[nodiscard]] inline std::string in_units(double v, bool normal = true) {
    if (!normal) return fmt::format("{:.0f} ", v);
    constexpr const char* prefix[] = {"", "K", "M", "G", "T"};
    std::size_t i = 0;
    for (; v >= 1000 && i < 4; ++i) v /= 1000;
    return fmt::format("{:.3f} {}", v, prefix[i]);
}

[[nodiscard]] inline double bits_of(std::uint64_t packets, std::uint64_t bytes, bool framing) noexcept {
    return 8.0 * (static_cast<double>(bytes) + (framing ? 24.0 * static_cast<double>(packets) : 0));
}

inline void csv_row(std::string_view type, double seconds, std::uint64_t packets, std::uint64_t bytes, double pps,
                    double bps, double batch) {
    print_out(fmt::format("{},{:.6f},{},{},{:.0f},{:.0f},{:.2f}\n", type, seconds, packets, bytes, pps, bps, batch));
}

/// A row about all of a run.
inline void csv_sum(std::string_view what, double seconds, const totals& t) {
    const double per_second = seconds > 0 ? 1 / seconds : 0;
    csv_row(what, seconds, t.packets, t.bytes, static_cast<double>(t.packets) * per_second, bits_of(t.packets, t.bytes, false) * per_second,
            t.events != 0 ? static_cast<double>(t.packets) / static_cast<double>(t.events) : 0);
}

/// The line per interval: pkt-gen's on stderr, and one JSON object or CSV row on stdout.
class rate_report {
public:
    explicit rate_report(const report_style& s) : style_(s), start_(nm::system_clock::now_ns()), then_(start_) {
        if (s.csv) print_out("type,seconds,packets,bytes,pps,bps,avg_batch\n");
    }

    /// `more`: what a tool has to add to the JSON object.
    void interval(const totals& now, const json& more = {}) {
        const std::uint64_t t = nm::system_clock::now_ns();
        const double usec = std::max(1.0, static_cast<double>(t - then_) / 1000);
        const std::uint64_t packets = now.packets - last_.packets;
        const std::uint64_t events = now.events - last_.events;
        const double bits = bits_of(packets, now.bytes - last_.bytes, style_.framing);
        const double pps = static_cast<double>(packets) * 1e6 / usec;
        const double batch = events != 0 ? static_cast<double>(packets) / static_cast<double>(events) : 0;
        const std::uint32_t space = now.min_space == std::numeric_limits<std::uint32_t>::max() ? 0 : now.min_space;
        const auto wall = nm::system_clock::wall();
        const bool n = style_.normal_units;
        print_err(
            fmt::format("{:03}.{:06} main_thread [nm] {}pps {}({}pkts {}bps in {:.0f} usec) {:.2f} avg_batch "
                        "{} min_space\n",
                        wall.sec % 1000, wall.usec, in_units(pps, n), window(pps),
                        in_units(static_cast<double>(packets), n), in_units(bits * 1e6 / usec, n), usec, batch, space));
        const double since = static_cast<double>(t - start_) / 1e9;
        if (style_.json)
            print_out(json()
                          .add("type", "interval")
                          .add("seconds", since)
                          .add("usec", static_cast<std::uint64_t>(usec))
                          .add("packets", packets)
                          .add("bytes", now.bytes - last_.bytes)
                          .add("pps", pps)
                          .add("bps", bits * 1e6 / usec)
                          .add("avg_batch", batch)
                          .add("min_space", space)
                          .add_all(more)
                          .text() +
                      "\n");
        if (style_.csv) csv_row("interval", since, packets, now.bytes - last_.bytes, pps, bits * 1e6 / usec, batch);
        last_ = now;
        then_ = t;
    }

private:
    static constexpr std::size_t window_size = 10;

    std::string window(double pps) {
        if (!style_.statistics) return {};
        recent_.push_back(pps);
        if (recent_.size() > window_size) recent_.pop_front();
        double sum = 0;
        double squares = 0;
        for (const double v : recent_) sum += v, squares += v * v;
        const auto n = static_cast<double>(recent_.size());
        const double mean = sum / n;
        const double deviation = std::sqrt(std::max(0.0, squares / n - mean * mean));
        return fmt::format("[avg/std {}pps/{}pps over {}] ", in_units(mean, style_.normal_units),
                           in_units(deviation, style_.normal_units), recent_.size());
    }

    report_style style_;
    std::uint64_t start_, then_;
    totals last_;
    std::deque<double> recent_;
};

}  // namespace tool
