// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What netmap's nmreplay calls bandwidth, delay and loss: -B, -D, -L. The words are its own (nmreplay(8)). All of it is plain
// arithmetic on a generator whose output the C++ standard fixes: with the same seed the same frames are lost, on any machine.

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "common/values.hpp"

namespace nmreplay {

/// Equally distributed over [0, 1).
class dice {
public:
    explicit dice(std::uint64_t seed) : engine_(seed) {}
    [[nodiscard]] double operator()() noexcept { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

private:
    std::mt19937_64 engine_;
};

/// When frames go: as they were captured, or each as long after the one before as a link of some speed would take.
struct bandwidth {
    enum class kind { real, constant, ether, packets, unlimited };
    kind what = kind::real;
    double value = 1;  ///< real: how many times as fast; constant, ether: bits, packets: frames per second

    /// Nanoseconds that a frame takes on the link; of no meaning for real.
    [[nodiscard]] double takes(std::uint32_t length) const noexcept {
        constexpr double framing = 24;  // preamble, gap and CRC
        switch (what) {
            case kind::constant: return 8e9 * length / value;
            case kind::ether: return 8e9 * (length + framing) / value;
            case kind::packets: return 1e9 / value;
            case kind::real:
            case kind::unlimited: break;
        }
        return 0;
    }
};

struct delay {
    enum class kind { none, constant, uniform, exponential };
    kind what = kind::none;
    double least = 0, other = 0;  ///< nanoseconds; other: uniform's most, exponential's mean

    [[nodiscard]] double draw(dice& d) const noexcept {
        switch (what) {
            case kind::none: break;
            case kind::constant: return least;
            case kind::uniform: return least + (other - least) * d();
            case kind::exponential: return least - (other - least) * std::log(1 - d());
        }
        return 0;
    }
};

struct loss {
    enum class kind { none, packets, bits };
    kind what = kind::none;
    double rate = 0;

    [[nodiscard]] bool hits(dice& d, std::uint32_t length) const noexcept {
        switch (what) {
            case kind::none: break;
            case kind::packets: return d() < rate;
            // Of n bits all survive with (1 - rate)^n; with log1p since rates are small.
            case kind::bits: return d() < -std::expm1(8.0 * length * std::log1p(-rate));
        }
        return false;
    }
};

namespace detail {

[[nodiscard]] inline std::vector<std::string_view> fields(std::string_view text) {
    std::vector<std::string_view> out;
    for (;;) {
        const std::size_t comma = text.find(',');
        out.push_back(text.substr(0, comma));
        if (comma == std::string_view::npos) return out;
        text.remove_prefix(comma + 1);
    }
}
// netmap takes whatever begins so.
[[nodiscard]] inline bool is_constant(std::string_view word) noexcept { return word.starts_with("const"); }

}  // namespace detail

/// 0.01, 1e-7, 1%
[[nodiscard]] inline double parse_probability(std::string_view text) {
    std::string_view number = text;
    const bool percent = number.ends_with('%');
    if (percent) number.remove_suffix(1);
    double v = 0;
    const auto [end, ec] = std::from_chars(number.data(), number.data() + number.size(), v);
    if (ec != std::errc{} || end != number.data() + number.size()) tool::bad_value(text, "is no rate (0.01, 1e-7 and 1% are)");
    if (percent) v /= 100;
    if (!(v >= 0 && v <= 1)) tool::bad_value(text, "is not between 0 and 1");
    return v;
}

[[nodiscard]] inline bandwidth parse_bandwidth(std::string_view text) {
    const auto f = detail::fields(text);
    const auto rate = [](std::string_view v, bandwidth::kind k) {
        const double bps = tool::parse_si(v);
        return bps > 0 ? bandwidth{k, bps} : bandwidth{bandwidth::kind::unlimited, 0};
    };
    using kind = bandwidth::kind;
    if (f.size() == 1 && f[0] == "real") return {};
    if (f.size() == 2 && f[0] == "real") {
        const double speed = tool::parse_si(f[1]);
        if (!(speed > 0 && speed <= 1000)) tool::bad_value(text, "has a speed that is not above 0 and at most 1000");
        return {kind::real, speed};
    }
    if (f.size() == 2 && f[0] == "ether") return rate(f[1], kind::ether);
    if (f.size() == 2 && detail::is_constant(f[0])) return rate(f[1], kind::constant);
    if (f.size() == 1) return rate(f[0], kind::constant);
    tool::bad_value(text, "is no bandwidth; there are BPS, const,BPS, ether,BPS and real,SPEED");
}

[[nodiscard]] inline delay parse_delay(std::string_view text) {
    const auto f = detail::fields(text);
    using kind = delay::kind;
    const auto ns = [](std::string_view v) { return static_cast<double>(tool::parse_duration(v)); };
    if (f.size() == 1) return {kind::constant, ns(f[0]), 0};
    if (f.size() == 2 && detail::is_constant(f[0])) return {kind::constant, ns(f[1]), 0};
    if (f.size() == 3 && f[0] == "uniform") {
        const delay d{kind::uniform, ns(f[1]), ns(f[2])};
        if (d.least > d.other) tool::bad_value(text, "has a minimum above its maximum");
        return d;
    }
    // netmap's manual page has the minimum first, its program the mean; the minimum is the smaller one.
    if (f.size() == 3 && f[0] == "exp") return {kind::exponential, std::min(ns(f[1]), ns(f[2])), std::max(ns(f[1]), ns(f[2]))};
    tool::bad_value(text, "is no delay; there are TIME, const,TIME, uniform,MIN,MAX and exp,MIN,MEAN");
}

[[nodiscard]] inline loss parse_loss(std::string_view text) {
    const auto f = detail::fields(text);
    if (f.size() == 1) return {loss::kind::packets, parse_probability(f[0])};
    if (f.size() == 2 && f[0] == "plr") return {loss::kind::packets, parse_probability(f[1])};
    if (f.size() == 2 && f[0] == "ber") return {loss::kind::bits, parse_probability(f[1])};
    tool::bad_value(text, "is no loss; there are RATE, plr,RATE and ber,RATE");
}

}  // namespace nmreplay
