// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Values as people write them on a command line. Whatever is not one is a usage_error that quotes it.

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "common/failure.hpp"

namespace tool {

[[noreturn]] inline void bad_value(std::string_view text, const std::string& why) {
    throw usage_error("\"" + std::string(text) + "\" " + why);
}

/// 10, 10k, 14.88M, 1G, 2T: suffixes are powers of 1000.
[[nodiscard]] inline double parse_si(std::string_view text) {
    double v = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), v, std::chars_format::fixed);
    const std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
    if (ec == std::errc::result_out_of_range) bad_value(text, "is too large a number");
    if (ec != std::errc{} || suffix.size() > 1 || !std::isfinite(v))
        bad_value(text, "is not a number (10, 10k, 14.88M, 1G and the like are)");
    if (!suffix.empty()) {
        constexpr std::string_view letters = "kMGT";
        const std::size_t at = letters.find(suffix[0] == 'K' ? 'k' : suffix[0] == 'm' ? 'M' : suffix[0]);
        if (at == std::string_view::npos) bad_value(text, "has a suffix that is not k, M, G or T");
        for (std::size_t i = 0; i <= at; ++i) v *= 1000;
    }
    if (v < 0) bad_value(text, "is negative");
    if (v > 1e19) bad_value(text, "is too large a number");
    return v;
}

/// A whole number from min to max, suffixes allowed.
[[nodiscard]] inline std::uint64_t parse_count(std::string_view text, std::uint64_t min,
                                               std::uint64_t max = std::numeric_limits<std::uint64_t>::max()) {
    std::uint64_t v = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), v);
    if (ec == std::errc::result_out_of_range) bad_value(text, "is too large a number");
    if (ec != std::errc{} || end != text.data() + text.size()) {
        const double d = parse_si(text);
        if (d >= 18446744073709551616.0) bad_value(text, "is too large a number");
        v = static_cast<std::uint64_t>(std::llround(std::min(d, 9.2e18)));
        if (std::abs(d - static_cast<double>(v)) > 1e-6 * d) bad_value(text, "is not a whole number");
    }
    if (v < min || v > max) {
        const bool open = max == std::numeric_limits<std::uint64_t>::max();
        bad_value(text, "is out of range: " + std::to_string(min) + (open ? " or more" : " to " + std::to_string(max)));
    }
    return v;
}

[[nodiscard]] inline unsigned parse_unsigned(std::string_view text, unsigned min, unsigned max) {
    return static_cast<unsigned>(parse_count(text, min, max));
}

[[nodiscard]] inline double parse_seconds(std::string_view text) {
    if (!text.empty() && text.back() == 's') text.remove_suffix(1);
    const double v = parse_si(text);
    if (v > 1e9) bad_value(text, "is more than thirty years");
    return v;
}

/// 20ms, 5us, 0.5s, 100n; without a unit seconds. netmap's tools look at the first letter of the unit only.
[[nodiscard]] inline std::uint64_t parse_duration(std::string_view text) {
    double v = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), v, std::chars_format::fixed);
    const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    if (ec == std::errc::result_out_of_range) bad_value(text, "is too large a number");
    if (ec != std::errc{} || !std::isfinite(v)) bad_value(text, "is no time (2, 0.5s, 20ms, 5us, 100ns and the like are)");
    if (unit.empty() || unit == "s") v *= 1e9;
    else if (unit == "m" || unit == "ms") v *= 1e6;
    else if (unit == "u" || unit == "us") v *= 1e3;
    else if (unit != "n" && unit != "ns") bad_value(text, "has a unit that is not s, ms, us or ns");
    if (v < 0) bad_value(text, "is negative");
    if (v > 1e18) bad_value(text, "is more than thirty years");
    return static_cast<std::uint64_t>(std::llround(v));
}

using mac_address = std::array<std::uint8_t, 6>;

/// aa:bb:cc:dd:ee:ff
[[nodiscard]] inline mac_address parse_mac(std::string_view text) {
    mac_address mac{};
    const char* p = text.data();
    const char* const end = p + text.size();
    for (std::size_t i = 0; i < mac.size(); ++i) {
        const auto [next, ec] = std::from_chars(p, end, mac[i], 16);
        const bool last = i + 1 == mac.size();
        if (ec != std::errc{} || (last ? next != end : next == end || *next != ':'))
            bad_value(text, "is not a MAC address; write aa:bb:cc:dd:ee:ff");
        p = last ? next : next + 1;
    }
    return mac;
}

}  // namespace tool
