// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What the fuzzers (tests/fuzz) and the test with fixed seeds (tests/model/fuzz_test.cpp) do with their input. Each returns
// what is wrong, or nothing.

#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nm/offload.hpp"
#include "nm/port_spec.hpp"

namespace nm::test {

using bytes = std::vector<std::uint8_t>;

/// The name that a specification came from, or another one for the same.
inline std::string spell(const port_spec& s) {
    std::string t = s.kind == port_kind::vale ? "" : s.kind == port_kind::ptnet ? "ptnet:" : "netmap:";
    t += s.name;
    if (!s.pipe_id.empty()) t += (s.pipe_slave ? "}" : "{") + s.pipe_id;
    if (s.mode == ring_mode::one) t += "-" + std::to_string(s.ring);
    if (s.mode == ring_mode::host) t += "^";
    if (s.mode == ring_mode::one_host) t += "^" + std::to_string(s.ring);
    if (s.mode == ring_mode::all_and_host) t += "*";
    t += "/";
    if (s.exclusive) t += "x";
    if (s.zero_copy_monitor) t += "z";
    if (s.monitor_tx) t += "t";
    if (s.monitor_rx) t += "r";
    if (s.rx_only) t += "R";
    if (s.tx_only) t += "T";
    if (s.mem_id) t += "@" + std::to_string(*s.mem_id);
    if (!s.share.empty()) t += "@share=" + s.share;
    const auto conf = [&t](const char* key, const std::optional<unsigned>& n) {
        if (n) t += std::string("@conf:") + key + "=" + std::to_string(*n);
    };
    conf("tx-rings", s.tx_rings);
    conf("rx-rings", s.rx_rings);
    conf("tx-slots", s.tx_slots);
    conf("rx-slots", s.rx_slots);
    conf("host-rings", s.host_rings);
    conf("mit", s.mitigation_us);
    if (!s.conf_mode.empty()) t += "@conf:mode=" + s.conf_mode;
    return t;
}

inline std::string fuzz_port_name(std::string_view text) {
    const auto r = parse_port(text);
    if (!r) {
        if (r.error().code.value() != EINVAL) return "an error other than EINVAL";
        return r.error().text.size() > 20 ? "" : "an error without a sentence";
    }
    const port_spec& s = *r;
    if (s.name.empty() && s.kind != port_kind::null) return "no name";
    if (s.kind == port_kind::pipe && s.pipe_id.empty()) return "a pipe without a name";
    if (s.kind == port_kind::netdev && s.name.size() > 15) return "a name that no interface can have";
    if (s.rx_only && s.tx_only) return "neither direction";
    for (const auto* n : {&s.tx_rings, &s.rx_rings, &s.tx_slots, &s.rx_slots, &s.host_rings})
        if (*n && (**n == 0 || **n > 1'000'000)) return "a number out of range";
    if (s.mitigation_us && *s.mitigation_us * std::uint64_t{1000} > 0xffffffffU) return "a mitigation that wraps";
    // The kind of a pipe's parent is not kept, and a null port's name may be anything.
    if (s.kind == port_kind::pipe || s.kind == port_kind::null) return {};
    const auto again = parse_port(spell(s));
    if (spell(s).size() > 255) return {};
    if (!again) return "does not parse again as " + spell(s) + ": " + again.error().text;
    if (again->kind != s.kind || spell(*again) != spell(s)) return "another meaning as " + spell(s);
    return {};
}

namespace slow {

inline std::size_t be16(const bytes& b, std::size_t at) { return static_cast<std::size_t>(b.at(at) << 8 | b.at(at + 1)); }
inline void set16(bytes& b, std::size_t at, std::size_t v) {
    b.at(at) = static_cast<std::uint8_t>(v >> 8);
    b.at(at + 1) = static_cast<std::uint8_t>(v);
}
/// RFC 1071 with a remainder in place of carries.
inline std::size_t sum(const bytes& b, std::size_t from, std::size_t to) {
    std::uint64_t s = 0;
    for (std::size_t i = from; i < to; ++i) s += std::uint64_t{b.at(i)} << ((i - from) % 2 == 0 ? 8 : 0);
    return s == 0 ? 0 : static_cast<std::size_t>((s - 1) % 0xffff + 1);
}
inline std::size_t complement(std::size_t sum) { return 0xffff - sum; }

struct layout {
    bool ok = false, tcp = false, v6 = false;
    std::size_t l3 = 0, l4 = 0, payload = 0;
};

inline layout look(const bytes& f, const vnet_hdr& h) {
    layout l;
    const auto type = h.gso_type & 0x7f;
    l.tcp = type == vnet_gso_tcpv4 || type == vnet_gso_tcpv6;
    if ((!l.tcp && type != vnet_gso_udp_l4) || h.flags == 0 || (h.flags & ~3U) != 0 || (h.flags & vnet_needs_csum) == 0) return l;
    if (!l.tcp && (h.gso_type & vnet_gso_ecn) != 0) return l;
    if (h.gso_size == 0 || h.csum_offset != (l.tcp ? 16 : 6)) return l;
    l.l3 = 14;
    if (f.size() < 14) return l;
    std::size_t ether = be16(f, 12);
    for (int i = 0; i < 2 && (ether == 0x8100 || ether == 0x88a8); ++i) {
        if (f.size() < l.l3 + 4) return l;
        ether = be16(f, l.l3 + 2);
        l.l3 += 4;
    }
    l.l4 = h.csum_start;
    l.v6 = ether == 0x86dd;
    if (l.v6) {
        if (type == vnet_gso_tcpv4 || f.size() < l.l3 + 40 || f[l.l3] >> 4 != 6 || l.l4 < l.l3 + 40) return l;
    } else {
        if (ether != 0x0800 || type == vnet_gso_tcpv6 || f.size() < l.l3 + 20 || f[l.l3] >> 4 != 4) return l;
        if ((f[l.l3] & 15) < 5 || l.l4 != l.l3 + (f[l.l3] & 15U) * 4U || f[l.l3 + 9] != (l.tcp ? 6 : 17)) return l;
        if ((be16(f, l.l3 + 6) & 0x3fff) != 0) return l;
    }
    if (f.size() < l.l4 + (l.tcp ? 20U : 8U)) return l;
    l.payload = l.l4 + (l.tcp ? (f[l.l4 + 12] >> 4) * 4U : 8U);
    l.ok = l.payload >= l.l4 + (l.tcp ? 20U : 8U) && l.payload < f.size() && l.payload <= 256;
    return l;
}

/// A UDP datagram as IP fragments (RFC 791, RFC 8200), one byte at a time; none when it is not one. IPv6's identification is
/// the cutter's to choose: it is left 0.
inline std::vector<bytes> fragments(const bytes& f, const vnet_hdr& h) {
    const bool sums = (h.flags & vnet_needs_csum) != 0;
    const std::size_t size = h.gso_size / 8 * 8;
    if ((h.flags & ~3U) != 0 || (h.gso_type & vnet_gso_ecn) != 0 || size == 0 || f.size() < 34) return {};
    std::size_t l3 = 14, ether = be16(f, 12);
    for (int i = 0; i < 2 && (ether == 0x8100 || ether == 0x88a8); ++i, l3 += 4) ether = be16(f, l3 + 2);
    std::size_t l4 = 0, names_next = l3 + 6;
    if (ether == 0x0800) {
        if (f.size() < l3 + 20 || f[l3] >> 4 != 4 || (f[l3] & 15) < 5 || f[l3 + 9] != 17 || (be16(f, l3 + 6) & 0x3fff) != 0) return {};
        l4 = l3 + (f[l3] & 15U) * 4U;
        if (f.size() - l3 > 65535) return {};
    } else if (ether == 0x86dd) {
        if (f.size() < l3 + 40 || f[l3] >> 4 != 6) return {};
        l4 = l3 + 40;
        bool after_routing = false;
        while (f[names_next] != 17) {
            const int what = f[names_next];
            if (what == 43) after_routing = true;
            else if (what != 0 && (what != 60 || after_routing)) return {};
            if (l4 + 8 > std::min<std::size_t>(f.size(), 256)) return {};
            names_next = l4;
            l4 += 8U + 8U * f[l4 + 1];
        }
        if (f.size() - l3 - 40 > 65535) return {};
    } else {
        return {};
    }
    if (l4 + 8 > 256 || l4 + 8 >= f.size()) return {};
    if (sums && (h.csum_start != l4 || h.csum_offset != 6 || l4 + 8 > f.size())) return {};
    const bool v6 = ether == 0x86dd;
    bytes datagram(f.begin() + static_cast<long>(l4), f.end());
    if (sums) {
        set16(datagram, 4, datagram.size());
        set16(datagram, 6, 0);
        bytes pseudo(f.begin() + static_cast<long>(l3 + (v6 ? 8 : 12)), f.begin() + static_cast<long>(l3 + (v6 ? 40 : 20)));
        for (const auto b : {std::size_t{0}, std::size_t{17}, datagram.size() >> 8, datagram.size() & 0xff}) pseudo.push_back(static_cast<std::uint8_t>(b));
        pseudo.insert(pseudo.end(), datagram.begin(), datagram.end());
        const std::size_t c = complement(sum(pseudo, 0, pseudo.size()));
        set16(datagram, 6, c == 0 ? 0xffff : c);
    }
    std::vector<bytes> all;
    for (std::size_t at = 0; at < datagram.size(); at += size) {
        const std::size_t end = std::min(datagram.size(), at + size);
        const bool more = end < datagram.size(), several = datagram.size() > size;
        bytes s(f.begin(), f.begin() + static_cast<long>(l4));
        if (v6 && several) {
            s[names_next] = 44;
            for (const auto b : {std::size_t{17}, std::size_t{0}, at >> 8, (at & 0xff) | (more ? 1U : 0U)}) s.push_back(static_cast<std::uint8_t>(b));
            s.resize(s.size() + 4);
        }
        s.insert(s.end(), datagram.begin() + static_cast<long>(at), datagram.begin() + static_cast<long>(end));
        if (v6) {
            set16(s, l3 + 4, s.size() - l3 - 40);
        } else {
            set16(s, l3 + 2, s.size() - l3);
            if (several) set16(s, l3 + 6, at / 8 + (more ? 0x2000 : 0));
            set16(s, l3 + 10, 0);
            set16(s, l3 + 10, complement(sum(s, l3, l4)));
        }
        all.push_back(std::move(s));
    }
    return all;
}

/// The identification of a fragment as fragments() leaves it; what it was, or 0.
inline std::uint32_t forget_id(bytes& s, const bytes& whole) {
    // A fragment header is where the frame had none.
    std::size_t l3 = 14;
    for (int i = 0; i < 2 && (be16(s, l3 - 2) == 0x8100 || be16(s, l3 - 2) == 0x88a8); ++i) l3 += 4;
    if (be16(s, l3 - 2) != 0x86dd || s.size() < l3 + 48) return 0;
    std::size_t at = l3 + 6, next = l3 + 40;
    while (s[at] != 44) {
        if (s[at] == 17 || s[at] != whole[at]) return 0;
        at = next;
        next += 8U + 8U * s.at(next + 1);
    }
    std::uint32_t id = 0;
    for (std::size_t k = 4; k < 8; ++k) id = id << 8 | std::exchange(s.at(next + k), 0);
    return id;
}

/// The segments of a large frame, one byte at a time; none when it is not one.
inline std::vector<bytes> cut(const bytes& f, const vnet_hdr& h) {
    if ((h.gso_type & 0x7f) == vnet_gso_udp) return fragments(f, h);
    const layout l = look(f, h);
    std::vector<bytes> all;
    if (!l.ok) return all;
    for (std::size_t at = l.payload; at < f.size(); at += h.gso_size) {
        const std::size_t end = std::min(f.size(), at + h.gso_size);
        bytes s(f.begin(), f.begin() + static_cast<long>(l.payload));
        s.insert(s.end(), f.begin() + static_cast<long>(at), f.begin() + static_cast<long>(end));
        if (l.v6) {
            set16(s, l.l3 + 4, s.size() - l.l3 - 40);
        } else {
            set16(s, l.l3 + 2, s.size() - l.l3);
            set16(s, l.l3 + 4, be16(f, l.l3 + 4) + all.size());
            set16(s, l.l3 + 10, 0);
            set16(s, l.l3 + 10, complement(sum(s, l.l3, l.l4)));
        }
        if (l.tcp) {
            const auto sequence = (be16(f, l.l4 + 4) << 16 | be16(f, l.l4 + 6)) + at - l.payload;
            set16(s, l.l4 + 4, sequence >> 16);
            set16(s, l.l4 + 6, sequence);
            if (end != f.size()) s[l.l4 + 13] = static_cast<std::uint8_t>(s[l.l4 + 13] & ~0x09);
            if (at != l.payload) s[l.l4 + 13] = static_cast<std::uint8_t>(s[l.l4 + 13] & ~0x80);
        } else {
            set16(s, l.l4 + 4, s.size() - l.l4);
        }
        const std::size_t field = l.l4 + h.csum_offset;
        set16(s, field, 0);
        bytes pseudo(s.begin() + static_cast<long>(l.l3 + (l.v6 ? 8 : 12)), s.begin() + static_cast<long>(l.l3 + (l.v6 ? 40 : 20)));
        const std::size_t n = s.size() - l.l4;
        for (const auto b : {std::size_t{0}, std::size_t{l.tcp ? 6U : 17U}, n >> 8, n & 0xff}) pseudo.push_back(static_cast<std::uint8_t>(b));
        pseudo.insert(pseudo.end(), s.begin() + static_cast<long>(l.l4), s.end());
        const std::size_t c = complement(sum(pseudo, 0, pseudo.size()));
        set16(s, field, c == 0 && !l.tcp ? 0xffff : c);
        all.push_back(std::move(s));
    }
    return all;
}

}  // namespace slow

/// The first 10 bytes are a virtio-net header, the rest is the frame.
inline std::string fuzz_offload(std::span<const std::uint8_t> input) {
    vnet_hdr h{};
    if (input.size() < sizeof h || input.size() > 70'000) return {};
    std::memcpy(&h, input.data(), sizeof h);
    const bytes frame(input.begin() + sizeof h, input.end());  // an allocation of its own: a sanitizer sees its end
    if (valid_vnet(h, frame.size())) {
        const vnet_hdr back = unpack(pack(h));
        vnet_hdr want = h;
        if ((h.flags & vnet_needs_csum) == 0) want.csum_offset &= 0xff;  // means nothing
        if (std::memcmp(&back, &want, sizeof back) != 0) return "a valid header is not what it was after pack and unpack";
    }

    bytes done(frame);
    const bool finished = finish_checksum(done, h);
    bytes expected(frame);
    if ((h.flags & vnet_needs_csum) != 0) {
        const std::size_t field = std::size_t{h.csum_start} + h.csum_offset;
        if (finished != (field + 2 <= frame.size())) return "a checksum's place was misjudged";
        if (finished) {
            const auto c = slow::complement(slow::sum(expected, h.csum_start, expected.size()));
            slow::set16(expected, field, c == 0 ? 0xffff : c);
        }
    } else if (!finished) {
        return "nothing to do, and not done";
    }
    if (done != expected) return "another checksum than the slow one";

    segmenter cut(frame, h);
    const bool valid = cut.valid();
    const auto want = slow::cut(frame, h);
    if (valid != !want.empty()) return valid ? "cuts what should not be" : "does not cut what should be";
    if (cut.segments() != want.size()) return "another number of segments";
    std::uint32_t id = 0;
    if (valid && cut.last_size() != want.back().size()) return "another length of the last segment";
    for (const auto& w : want) {
        bytes out(cut.next_size());
        bytes small(out.empty() ? 0 : out.size() - 1);
        if (cut.next(small) != 0) return "wrote where there was no room";
        if (cut.next(out) != w.size()) return "another length than the slow one";
        if (h.gso_type == vnet_gso_udp) {
            const auto now = slow::forget_id(out, frame);
            if (&w != &want.front() && now != id) return "fragments of several datagrams";
            id = now;
        }
        if (out != w) return "another segment than the slow one";
    }
    if (!cut.done() || cut.next_size() != 0) return "does not end";
    return {};
}

}  // namespace nm::test
