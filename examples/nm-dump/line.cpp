// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "line.hpp"

#include <arpa/inet.h>
#include <ctime>
#include <fmt/format.h>

namespace nm_dump {

namespace {

using bytes_view = std::span<const std::uint8_t>;

[[nodiscard]] unsigned word(bytes_view b, std::size_t at) { return at + 2 <= b.size() ? static_cast<unsigned>(b[at] << 8 | b[at + 1]) : 0; }

[[nodiscard]] std::string mac(bytes_view b, std::size_t at) {
    return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4], b[at + 5]);
}
[[nodiscard]] std::string address(int family, bytes_view b, std::size_t at) {
    char text[INET6_ADDRSTRLEN] = "?";
    if (at + (family == AF_INET ? 4U : 16U) <= b.size()) ::inet_ntop(family, b.data() + at, text, sizeof text);
    return text;
}
[[nodiscard]] std::string protocol(unsigned p) {
    switch (p) {
        case 1: return "ICMP";
        case 6: return "TCP";
        case 17: return "UDP";
        case 58: return "ICMPv6";
        default: return fmt::format("protocol {}", p);
    }
}
// `with_ports`: there is a transport header at `l4`.
[[nodiscard]] std::string internet(int family, bytes_view b, std::size_t src, std::size_t dst, unsigned proto, std::size_t l4,
                                   bool with_ports) {
    std::string from = address(family, b, src);
    std::string to = address(family, b, dst);
    if (with_ports && (proto == 6 || proto == 17) && l4 + 4 <= b.size()) {
        const char* form = family == AF_INET ? "{}:{}" : "[{}]:{}";
        from = fmt::format(fmt::runtime(form), from, word(b, l4));
        to = fmt::format(fmt::runtime(form), to, word(b, l4 + 2));
    }
    return fmt::format("{} > {} {}", from, to, protocol(proto));
}

[[nodiscard]] std::string payload(bytes_view b, std::size_t at, unsigned type) {
    if (type == 0x0800 && b.size() >= at + 20)
        return internet(AF_INET, b, at + 12, at + 16, b[at + 9], at + (b[at] & 15U) * 4, (word(b, at + 6) & 0x1fff) == 0);
    if (type == 0x86dd && b.size() >= at + 40) return internet(AF_INET6, b, at + 8, at + 24, b[at + 6], at + 40, true);
    if (type == 0x0806 && b.size() >= at + 28)
        return fmt::format("ARP {} {} > {}", word(b, at + 6) == 1 ? "who-has" : "reply", address(AF_INET, b, at + 14),
                           address(AF_INET, b, at + 24));
    std::string out = fmt::format("{:04x}", type);
    for (std::size_t i = at; i < b.size() && i < at + 16; ++i) out += fmt::format("{}{:02x}", i == at ? " " : "", b[i]);
    return out;
}

}  // namespace

std::string line_of(std::string_view port, std::uint64_t when_ns, direction d, bytes_view b, std::size_t length) {
    const auto seconds = static_cast<std::time_t>(when_ns / 1'000'000'000);
    std::tm t{};
    ::localtime_r(&seconds, &t);
    const char* way = d == direction::inbound ? "in " : d == direction::outbound ? "out" : "   ";
    std::string out = fmt::format("{:02}:{:02}:{:02}.{:09} {} {} ", t.tm_hour, t.tm_min, t.tm_sec, when_ns % 1'000'000'000, port, way);
    if (b.size() < 14) return out + fmt::format("length {}\n", length);
    std::size_t at = 12;
    out += mac(b, 6) + " > " + mac(b, 0);
    if (word(b, at) == 0x8100 && b.size() >= 18) {
        out += fmt::format(" vlan {}", word(b, 14) & 0xfff);
        at = 16;
    }
    return out + fmt::format(", {}, length {}\n", payload(b, at + 2, word(b, at)), length);
}

}  // namespace nm_dump
