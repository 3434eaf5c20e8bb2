// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The lookups of a switch against slow ones that are plainly right. Returns what is wrong, or nothing.

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "nm/vale/five_tuple.hpp"
#include "nm/vale/learning.hpp"
#include "nm/vale/vlan.hpp"

namespace nm::test {

using bytes = std::vector<std::uint8_t>;

/// What a frame says about its connection, read with bounds checked at each byte.
struct connection {
    int version = 0;  // 4, 6, or 0 for what is not IP
    bytes from, to;
    unsigned from_port = 0, to_port = 0;
    std::uint8_t protocol = 0;
};

inline connection slow_connection(const bytes& f) {
    const auto number = [&f](std::size_t i) -> unsigned { return unsigned{f.at(i)} << 8 | f.at(i + 1); };
    const auto part = [&f](std::size_t i, std::size_t n) {
        return bytes(f.begin() + static_cast<std::ptrdiff_t>(i), f.begin() + static_cast<std::ptrdiff_t>(i + n));
    };
    std::size_t at = 12;
    while (number(at) == 0x8100 || number(at) == 0x88a8) {
        if (at + 6 > f.size()) return {};
        at += 4;
    }
    const unsigned type = number(at);
    const std::size_t ip = at + 2;
    connection c;
    std::size_t ports = 0;
    if (type == 0x0800 && ip + 20 <= f.size()) {
        c = {4, part(ip + 12, 4), part(ip + 16, 4), 0, 0, f.at(ip + 9)};
        const std::size_t header = (f.at(ip) % 16U) * 4U;
        if (header >= 20 && number(ip + 6) % 0x4000 == 0) ports = ip + header;
    } else if (type == 0x86dd && ip + 40 <= f.size()) {
        c = {6, part(ip + 8, 16), part(ip + 24, 16), 0, 0, f.at(ip + 6)};
        ports = ip + 40;
    }
    const bool has_ports = c.protocol == 6 || c.protocol == 17 || c.protocol == 132;
    if (c.version != 0 && ports != 0 && has_ports && ports + 4 <= f.size()) {
        c.from_port = number(ports);
        c.to_port = number(ports + 2);
    }
    return c;
}

/// The plainest frame of a connection.
inline bytes frame_of(const connection& c) {
    bytes f(12);
    const auto number = [&f](unsigned v) {
        f.insert(f.end(), {static_cast<std::uint8_t>(v >> 8), static_cast<std::uint8_t>(v)});
    };
    number(c.version == 4 ? 0x0800 : c.version == 6 ? 0x86dd : 0x0806);
    bytes ip(c.version == 4 ? 12 : c.version == 6 ? 8 : 0);
    if (c.version == 4) ip[0] = 0x45, ip[9] = c.protocol;
    if (c.version == 6) ip[0] = 0x60, ip[6] = c.protocol;
    f.insert(f.end(), ip.begin(), ip.end());
    f.insert(f.end(), c.from.begin(), c.from.end());
    f.insert(f.end(), c.to.begin(), c.to.end());
    number(c.from_port);
    number(c.to_port);
    return f;
}

inline std::string fuzz_five_tuple(const bytes& f) {
    constexpr auto hash = vale::keyed_hash::from(3, 4);
    vale::five_tuple lb({1, 2, 3}, hash);
    for (vale::port_number p = 0; p < 6; ++p) lb.attached(p, "");
    const auto flow = [&lb](const bytes& frame) {
        const bytes exact(frame);  // in memory of its own, at whose end a sanitizer stands
        return lb.flow(exact.data(), exact.size());
    };
    connection c = slow_connection(f);
    const auto id = flow(f);
    if (id != flow(frame_of(c))) return "not the connection that a slow reader sees";
    if (c.version == 0) return id == 0 ? "" : "a flow without IP";
    std::swap(c.from, c.to);
    std::swap(c.from_port, c.to_port);
    if (id != flow(frame_of(c))) return "the two directions part";
    if (c.from != c.to && c.from_port != c.to_port) {
        std::swap(c.from_port, c.to_port);
        if (id == flow(frame_of(c))) return "a port does not belong to its address";
        std::swap(c.from_port, c.to_port);
    }
    connection other = c;
    other.to.back() = static_cast<std::uint8_t>(other.to.back() ^ 1U);
    if (id == flow(frame_of(other))) return "the address does not count";
    // One more in the address and one less in the port, as one word would hold them.
    other = c;
    if (other.from[0] != 255 && other.from_port >= 256 && c.version == 4 && c.from != c.to) {
        ++other.from[0];
        other.from_port -= 256;
        if (id == flow(frame_of(other))) return "address and port run together";
    }
    other = c;
    ++other.protocol;
    other.from_port = other.to_port = 0;
    if (id == flow(frame_of(other))) return "the protocol does not count";
    const auto len = static_cast<std::uint16_t>(f.size());
    const auto to = lb({f.data(), len, 0, 5, 0});
    if (!to.one() || to.port() < 1 || to.port() > 3) return "not to a worker";
    const auto back = lb({f.data(), len, 0, to.port(), 0});
    if (!back.flood() || back.ports() == nullptr || !back.ports()->test(0) || back.ports()->test(2)) return "not back";
    return "";
}

/// Where stations are, without any limit.
class slow_learning {
public:
    /// The port, or nothing for all.
    std::optional<vale::port_number> operator()(const bytes& f, unsigned flags, vale::port_number from) {
        const bytes to(f.begin(), f.begin() + 6), source(f.begin() + 6, f.begin() + 12);
        if (source[0] % 2 == 0 && source != bytes(6) && (flags & ns_no_learn) == 0) at_[source] = from;
        const auto found = to[0] % 2 == 0 ? at_.find(to) : at_.end();
        return found == at_.end() ? std::nullopt : std::optional(found->second);
    }
    void forget(vale::port_number p) {
        std::erase_if(at_, [p](const auto& s) { return s.second == p; });
    }

private:
    std::map<bytes, vale::port_number> at_;
};

/// Some frames, each four bytes (port, flags, length, cut) and the frame, on a learning and on a VLAN switch. Addresses are
/// few: of each only the last byte and some bits of the first are taken as they come.
inline std::string fuzz_learning(std::span<const std::uint8_t> in) {
    constexpr vale::port_number ports = 8;
    const vale::learning_options options{
        .stations = 100'000, .ageing = std::chrono::seconds(0), .hash = vale::keyed_hash::from(5, 6)};
    const auto fast = std::make_unique<vale::learning>(options);
    const auto tagged = std::make_unique<vale::vlan>(options);
    slow_learning slow, slow_tagged;
    std::array<std::array<vale::learning::lane, ports>, 2> lanes{};
    // 0: trunk, 4095: none
    std::array<unsigned, ports> access{1, 1, 5, 0, 4095, 0, 4094, 5};
    for (vale::port_number p = 0; p < ports; ++p) tagged->attached(p, "");
    for (vale::port_number p = 2; p < ports; ++p)
        access[p] == 0 ? tagged->trunk(p) : tagged->access(p, static_cast<std::uint16_t>(access[p]));
    for (unsigned frames = 0; in.size() > 18 && frames < 200; ++frames) {
        const auto port = static_cast<vale::port_number>(in[0] % ports);
        const unsigned flags = in[1] % 4 == 0 ? ns_no_learn : 0;
        const std::size_t len = std::min<std::size_t>(14U + in[2] % 16U, in.size() - 4);
        const bool new_batch = in[3] % 2 == 0;
        if (in[3] == 255) {
            fast->detached(port), slow.forget(port);
            tagged->detached(port), slow_tagged.forget(port);
            tagged->attached(port, ""), access[port] = 1;
        }
        bytes f(in.begin() + 4, in.begin() + 4 + static_cast<std::ptrdiff_t>(len));
        in = in.subspan(4 + len);
        for (const std::size_t at : {0U, 6U}) {
            const std::uint8_t last = f[at + 5] & 7;
            std::fill_n(f.begin() + static_cast<std::ptrdiff_t>(at + 1), 5,
                        last == 0 ? std::uint8_t{0} : std::uint8_t{0xff});
            f[at] &= 3;
            f[at + 5] = last;
        }
        if (new_batch || flags != 0 || frames % 3 == 0)
            for (vale::port_number p = 0; p < ports; ++p) fast->begin(lanes[0][p]), tagged->begin(lanes[1][p]);
        else
            fast->begin(lanes[0][port]), tagged->begin(lanes[1][port]);
        const vale::packet p{f.data(), static_cast<std::uint16_t>(f.size()), static_cast<std::uint16_t>(flags), port,
                             0};
        const auto want = slow(f, flags, port);
        const auto got = (*fast)(p, lanes[0][port]);
        if (want ? !got.one() || got.port() != *want : !got.flood() || got.ports() != nullptr)
            return "learning: another place";
        if (fast->where(vale::to_mac(vale::load_mac(f.data()))) != want && (f[0] & 1) == 0)
            return "learning: where() says otherwise";

        const unsigned type = unsigned{f[12]} << 8 | f[13];
        unsigned id = (type == 0x8100 || type == 0x88a8) && f.size() >= 18 ? (unsigned{f[14]} << 8 | f[15]) % 4096 : 0;
        const unsigned own = access[port];
        if (id == 0) id = own;
        const auto there = (*tagged)(p, lanes[1][port]);
        if (id == 0 || id == 4095 || (own != 0 && own != id)) {
            if (there.one() || there.flood() || there.why() != cause::policy) return "vlan: let in";
            continue;
        }
        const auto in_vlan = [&](vale::port_number q) { return access[q] == 0 || access[q] == id; };
        const auto place = slow_tagged(f, flags, port);
        if (place && in_vlan(*place)) {
            if (!there.one() || there.port() != *place) return "vlan: another place";
            continue;
        }
        if (!there.flood() || there.ports() == nullptr) return "vlan: not flooded";
        for (vale::port_number q = 0; q < ports; ++q)
            if (there.ports()->test(q) != in_vlan(q)) return "vlan: flooded elsewhere";
    }
    return "";
}

/// The first byte chooses which.
inline std::string fuzz_lookup(std::span<const std::uint8_t> in) {
    if (in.empty()) return "";
    const auto rest = in.subspan(1);
    if (in[0] % 2 != 0) return fuzz_learning(rest);
    return rest.size() < 14 || rest.size() > 0xffff ? "" : fuzz_five_tuple(bytes(rest.begin(), rest.end()));
}

}  // namespace nm::test
