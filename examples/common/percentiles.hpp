// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <fmt/format.h>
#include <string>
#include <string_view>

#include "common/histogram.hpp"
#include "common/json.hpp"

namespace tool {

inline constexpr double percents[] = {50, 90, 99, 99.9, 99.99};

/// A line on times in nanoseconds: "Round trip in us: min 1.200 p50 ...".
[[nodiscard]] inline std::string percentiles_text(std::string_view what, const histogram& h) {
    const auto us = [](std::uint64_t ns) { return static_cast<double>(ns) / 1000; };
    std::string out = fmt::format("{} in us: min {:.3f}", what, us(h.min()));
    for (const double p : percents) out += fmt::format(" p{} {:.3f}", p, us(h.percentile(p)));
    return out + fmt::format(" max {:.3f} mean {:.3f}\n", us(h.max()), h.mean() / 1000);
}

[[nodiscard]] inline json percentiles_json(const histogram& h) {
    json out;
    out.add("count", h.count()).add("min", h.min());
    for (const double p : percents) out.add(fmt::format("p{}", p), h.percentile(p));
    return out.add("max", h.max()).add("mean", h.mean()).add("stddev", h.deviation());
}

}  // namespace tool
