// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Which connection a frame belongs to, against a slow reader that is plainly right. Returns what is wrong, or nothing.

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "nm/vale/connection.hpp"

namespace nm::test {

/// Reads frames with bounds checked at each byte, and says in words what they belong to.
class slow_connections {
public:
    using bytes = std::vector<std::uint8_t>;

    std::string operator()(const bytes& f) {
        if (f.size() < 14) return "nothing";
        std::size_t at = 12;
        for (int tags = 0; tags < 8 && is_tag(number(f, at)) && at + 6 <= f.size(); ++tags) at += 4;
        const unsigned type = number(f, at);
        const std::size_t ip = at + 2;
        if (type == 0x0800 && ip + 20 <= f.size() && f.at(ip) / 16 == 4 && f.at(ip) % 16 >= 5) return four(f, ip);
        if (type == 0x86dd && ip + 40 <= f.size() && f.at(ip) / 16 == 6) return six(f, ip);
        return two("stations", part(f, 0, 6), part(f, 6, 6));
    }

private:
    static unsigned number(const bytes& f, std::size_t i) { return unsigned{f.at(i)} << 8 | f.at(i + 1); }
    static bool is_tag(unsigned type) { return type == 0x8100 || type == 0x88a8 || type == 0x9100; }
    static std::string part(const bytes& f, std::size_t i, std::size_t n) {
        std::string s;
        for (std::size_t k = 0; k < n; ++k) s += std::to_string(f.at(i + k)) + ".";
        return s;
    }
    static std::string two(const std::string& what, std::string a, std::string b) {
        if (b < a) std::swap(a, b);
        return what + " " + a + " " + b;
    }
    static std::string transport(const bytes& f, std::size_t at, unsigned protocol, const std::string& from, const std::string& to) {
        const bool ports = protocol == 6 || protocol == 17 || protocol == 132 || protocol == 33 || protocol == 136;
        if (!ports || at + 4 > f.size()) return two("addresses", from, to);
        return two("ports " + std::to_string(protocol), from + ":" + std::to_string(number(f, at)), to + ":" + std::to_string(number(f, at + 2)));
    }
    std::string later(const std::string& datagram, const std::string& from, const std::string& to) const {
        const auto first = firsts_.find(datagram);
        return first != firsts_.end() ? first->second : two("addresses", from, to);
    }

    std::string four(const bytes& f, std::size_t ip) {
        const std::string from = part(f, ip + 12, 4), to = part(f, ip + 16, 4);
        const unsigned place = number(f, ip + 6), protocol = f.at(ip + 9);
        const std::string datagram = from + to + part(f, ip + 4, 2) + std::to_string(protocol);
        if (place % 0x2000 != 0) return later(datagram, from, to);
        const std::string c = transport(f, ip + f.at(ip) % 16U * 4U, protocol, from, to);
        if (place / 0x2000 % 2 != 0) firsts_[datagram] = c;
        return c;
    }
    std::string six(const bytes& f, std::size_t ip) {
        const std::string from = part(f, ip + 8, 16), to = part(f, ip + 24, 16);
        std::string c = two("addresses", from, to);
        std::optional<std::string> datagram;
        unsigned next = f.at(ip + 6);
        std::size_t at = ip + 40;
        for (unsigned headers = 0; headers < 9; ++headers) {
            if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60 && next != 135 && next != 139 && next != 140) {
                c = transport(f, at, next, from, to);
                break;
            }
            if (at + 8 > f.size()) break;
            std::size_t size = 8;
            if (next == 44) {
                const std::string here = from + to + part(f, at + 4, 4);
                if (number(f, at + 2) / 8 != 0) return later(here, from, to);
                if (datagram) break;
                if (number(f, at + 2) % 2 != 0) datagram = here;
            } else {
                size = next == 51 ? (f.at(at + 1) + 2U) * 4U : (f.at(at + 1) + 1U) * 8U;
            }
            if (at + size > f.size()) break;
            next = f.at(at);
            at += size;
        }
        if (datagram) firsts_[*datagram] = c;
        return c;
    }

    std::map<std::string, std::string> firsts_;
};

/// Some frames, each after a byte with its length: one number for one connection, and one connection for one number.
inline std::string fuzz_connection(std::span<const std::uint8_t> in) {
    vale::connection_reader fast(vale::keyed_hash::from(7, 8));
    slow_connections slow;
    std::map<std::string, std::uint64_t> numbers;
    std::map<std::uint64_t, std::string> names;
    for (unsigned frames = 0; !in.empty() && frames < 40; ++frames) {
        const std::size_t len = std::min<std::size_t>(in[0], in.size() - 1);
        const std::vector<std::uint8_t> f(in.begin() + 1, in.begin() + 1 + static_cast<std::ptrdiff_t>(len));  // at whose end a sanitizer stands
        in = in.subspan(1 + len);
        const std::string name = slow(f);
        const auto c = fast(f.data(), f.size());
        if (numbers.try_emplace(name, c.hash).first->second != c.hash) return "parted: " + name;
        if (names.try_emplace(c.hash, name).first->second != name) return "together: " + name + " and " + names[c.hash];
        if ((name == "nothing") != (c.by == vale::told_by::nothing)) return "too short, or not: " + name;
    }
    return "";
}

}  // namespace nm::test
