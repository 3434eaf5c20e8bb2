// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Addresses, ports and ranges of them: `10.0.0.1:1234-10.0.0.9:2000`, `[fd00::1]:53`, `fd00::1`.

#include <arpa/inet.h>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/values.hpp"

namespace tool {

struct address {
    bool v6 = false;
    std::uint64_t high = 0;  ///< IPv6: the first 64 bits
    std::uint64_t low = 0;   ///< IPv6: the last 64 bits; IPv4: the 32 bits
    friend bool operator==(const address&, const address&) = default;
};

[[nodiscard]] inline address parse_address(std::string_view text) {
    const std::string s(text);
    std::array<std::uint8_t, 16> bytes{};
    address a;
    if (::inet_pton(AF_INET, s.c_str(), bytes.data()) == 1) {
        for (std::size_t i = 0; i < 4; ++i) a.low = a.low << 8 | bytes[i];
        return a;
    }
    if (::inet_pton(AF_INET6, s.c_str(), bytes.data()) != 1) bad_value(text, "is neither an IPv4 nor an IPv6 address");
    a.v6 = true;
    for (std::size_t i = 0; i < 8; ++i) a.high = a.high << 8 | bytes[i];
    for (std::size_t i = 8; i < 16; ++i) a.low = a.low << 8 | bytes[i];
    return a;
}

struct endpoint_range {
    address first, last;
    std::uint16_t first_port = 1234, last_port = 1234;
    [[nodiscard]] bool single() const noexcept { return first == last && first_port == last_port; }
};

namespace detail {

inline void parse_endpoint(std::string_view text, address& a, std::uint16_t& port) {
    std::string_view host = text;
    std::string_view number;
    if (!text.empty() && text[0] == '[') {
        const std::size_t close = text.find(']');
        if (close == std::string_view::npos) bad_value(text, "has a '[' and no ']'");
        host = text.substr(1, close - 1);
        number = text.substr(close + 1);
    } else if (const std::size_t colon = text.find(':'); colon != std::string_view::npos && colon == text.rfind(':')) {
        host = text.substr(0, colon);
        number = text.substr(colon);
    }
    a = parse_address(host);
    if (number.empty()) return;
    if (number[0] != ':') bad_value(text, "has something after ']' that is no :PORT");
    port = static_cast<std::uint16_t>(parse_unsigned(number.substr(1), 0, 65535));
}

}  // namespace detail

[[nodiscard]] inline endpoint_range parse_endpoints(std::string_view text) {
    endpoint_range r;
    const std::size_t dash = text.find('-');
    detail::parse_endpoint(text.substr(0, dash), r.first, r.first_port);
    r.last = r.first;
    r.last_port = r.first_port;
    if (dash == std::string_view::npos) return r;
    detail::parse_endpoint(text.substr(dash + 1), r.last, r.last_port);
    if (r.first.v6 != r.last.v6) bad_value(text, "goes from one IP version to the other");
    if (r.first.high != r.last.high) bad_value(text, "is a range that reaches beyond one IPv6 /64");
    if (r.first.low > r.last.low || r.first_port > r.last_port)
        bad_value(text, "is a range that ends before it begins");
    return r;
}

/// Who sends to whom.
struct flow {
    address src, dst;
    std::uint16_t src_port = 0, dst_port = 0;
};

/// Walks through all flows of two ranges, source port fastest, then source address, destination port, destination
/// address; or takes either side at random.
class flow_walk {
public:
    flow_walk(const endpoint_range& src, const endpoint_range& dst, bool random_src, bool random_dst,
              std::uint64_t seed)
        : src_(src), dst_(dst), random_src_(random_src), random_dst_(random_dst),
          state_(seed | 1), now_{src.first, dst.first, src.first_port, dst.first_port} {}

    [[nodiscard]] bool constant() const noexcept {
        return !random_src_ && !random_dst_ && src_.single() && dst_.single();
    }
    [[nodiscard]] const flow& now() const noexcept { return now_; }

    void next() noexcept {
        if (random_src_) randomise(now_.src, now_.src_port);
        if (random_dst_) randomise(now_.dst, now_.dst_port);
        bool carry = true;
        if (!random_src_) carry = step(src_, now_.src, now_.src_port);
        if (!random_dst_ && carry) (void)step(dst_, now_.dst, now_.dst_port);
    }

private:
    static bool step(const endpoint_range& r, address& a, std::uint16_t& port) noexcept {
        if (port != r.last_port) return ++port, false;
        port = r.first_port;
        if (a.low != r.last.low) return ++a.low, false;
        a.low = r.first.low;
        return true;
    }
    void randomise(address& a, std::uint16_t& port) noexcept {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        a.low = a.v6 ? state_ * 0x9e3779b97f4a7c15U : state_ >> 32;
        port = static_cast<std::uint16_t>(state_ >> 16);
    }

    endpoint_range src_, dst_;
    bool random_src_, random_dst_;
    std::uint64_t state_;
    flow now_;
};

}  // namespace tool
