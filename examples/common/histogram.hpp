// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fmt/format.h>
#include <string>

namespace tool {

/// Counts of values in a fixed memory: linear up to 256, then 128 steps per power of two, so that a value is known to
/// better than 1 %. Up to 2^40 (18 minutes in nanoseconds); larger ones count as that.
class histogram {
public:
    void add(std::uint64_t v) noexcept {
        v = std::min(v, top);
        ++counts_[index(v)];
        ++total_;
        min_ = std::min(min_, v);
        max_ = std::max(max_, v);
        const auto d = static_cast<double>(v);
        sum_ += d;
        squares_ += d * d;
    }

    [[nodiscard]] std::uint64_t count() const noexcept { return total_; }
    [[nodiscard]] std::uint64_t min() const noexcept { return total_ != 0 ? min_ : 0; }
    [[nodiscard]] std::uint64_t max() const noexcept { return max_; }
    [[nodiscard]] double mean() const noexcept { return total_ != 0 ? sum_ / static_cast<double>(total_) : 0; }
    [[nodiscard]] double deviation() const noexcept {
        if (total_ == 0) return 0;
        return std::sqrt(std::max(0.0, squares_ / static_cast<double>(total_) - mean() * mean()));
    }

    /// The value that `percent` of all are not above.
    [[nodiscard]] std::uint64_t percentile(double percent) const noexcept {
        if (total_ == 0) return 0;
        const double rank = std::ceil(percent / 100 * static_cast<double>(total_));
        const auto wanted = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(rank), 1, total_);
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < buckets; ++i) {
            seen += counts_[i];
            if (seen >= wanted) return std::clamp(last_of(i), min_, max_);
        }
        return max_;
    }

    /// HdrHistogram's text format (.hgrm), one row per bucket in use; values are divided by `unit`.
    [[nodiscard]] std::string hgrm(double unit) const {
        std::string out = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n";
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < buckets; ++i) {
            if (counts_[i] == 0) continue;
            seen += counts_[i];
            const double p = static_cast<double>(seen) / static_cast<double>(total_);
            const double value = static_cast<double>(std::min(last_of(i), max_)) / unit;
            out += fmt::format("{:12.3f} {:.12f} {:10}", value, p, seen);
            out += seen != total_ ? fmt::format(" {:14.2f}\n", 1 / (1 - p)) : "\n";
        }
        out += fmt::format("#[Mean    = {:12.3f}, StdDeviation   = {:12.3f}]\n", mean() / unit, deviation() / unit);
        out += fmt::format("#[Max     = {:12.3f}, Total count    = {:12}]\n", static_cast<double>(max_) / unit, total_);
        out += fmt::format("#[Buckets = {:12}, SubBuckets     = {:12}]\n", octaves + 1, steps);
        return out;
    }

private:
    static constexpr unsigned step_bits = 7;
    static constexpr std::size_t steps = std::size_t{1} << step_bits;
    static constexpr unsigned octaves = 40 - step_bits - 1;
    static constexpr std::uint64_t top = (std::uint64_t{1} << 40) - 1;
    static constexpr std::size_t buckets = steps * (octaves + 2);

    [[nodiscard]] static std::size_t index(std::uint64_t v) noexcept {
        if (v < 2 * steps) return static_cast<std::size_t>(v);
        const unsigned shift = static_cast<unsigned>(std::bit_width(v)) - step_bits - 1;
        return steps * shift + static_cast<std::size_t>(v >> shift);
    }
    [[nodiscard]] static std::uint64_t last_of(std::size_t i) noexcept {
        if (i < 2 * steps) return i;
        const std::size_t shift = i / steps - 1;
        return ((static_cast<std::uint64_t>(i % steps + steps) + 1) << shift) - 1;
    }

    std::array<std::uint64_t, buckets> counts_{};
    std::uint64_t total_ = 0;
    std::uint64_t min_ = top;
    std::uint64_t max_ = 0;
    double sum_ = 0;
    double squares_ = 0;
};

}  // namespace tool
