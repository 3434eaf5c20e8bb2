// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// examples/common/nat.hpp against a slow reader with a map. Returns what is wrong, or nothing.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../examples/common/nat.hpp"

namespace nm::test {

/// A frame in memory of its own, at whose end a sanitizer stands; each access is checked.
struct nat_frame {
    std::vector<std::uint8_t> b;

    [[nodiscard]] unsigned n8(std::size_t i) const { return b.at(i); }
    [[nodiscard]] unsigned n16(std::size_t i) const { return n8(i) << 8 | n8(i + 1); }
    [[nodiscard]] std::uint32_t n32(std::size_t i) const { return n16(i) << 16 | n16(i + 2); }
    void set16(std::size_t i, unsigned v) { b.at(i) = static_cast<std::uint8_t>(v >> 8), b.at(i + 1) = static_cast<std::uint8_t>(v); }
    void set32(std::size_t i, std::uint32_t v) { set16(i, v >> 16), set16(i + 2, v & 0xffffU); }
    [[nodiscard]] std::size_t l4() const { return 14 + (n8(14) & 15U) * 4U; }
    [[nodiscard]] unsigned protocol() const { return n8(23); }

    /// IPv4 that is no fragment, of UDP, TCP or ICMP, all there.
    [[nodiscard]] bool good() const {
        if (b.size() < 34 || n16(12) != 0x0800 || n8(14) / 16 != 4 || (n8(14) & 15U) < 5 || n16(20) % 0x4000 != 0) return false;
        const std::size_t need = protocol() == 6 ? 20 : protocol() == 17 || protocol() == 1 ? 8 : 0x10000;
        return l4() + need <= 14 + n16(16) && 14 + n16(16) <= b.size();
    }
    [[nodiscard]] std::uint64_t sum(std::size_t from, std::size_t to) const {
        std::uint64_t s = 0;
        for (std::size_t i = from; i < to; ++i) s += (i - from) % 2 == 0 ? n8(i) << 8 : n8(i);
        return s;
    }
    /// What the two checksums are wrong by: 0 if they are right, or (UDP) not there.
    [[nodiscard]] std::pair<unsigned, unsigned> wrong() const {
        const std::size_t end = 14 + n16(16), at = l4();
        std::uint64_t s = sum(at, end);
        if (protocol() != 1) s += sum(26, 34) + protocol() + (end - at);
        if (protocol() == 17 && n16(at + 6) == 0) s = 0;
        return {static_cast<unsigned>(sum(14, at) % 0xffff), static_cast<unsigned>(s % 0xffff)};
    }
};

class nat_check {
public:
    static constexpr std::uint32_t address = 0xc0000201;  // 192.0.2.1

    /// From inside; then an answer, an error about it, and what is none of these.
    std::string from_inside(const nat_frame& in) {
        nat_frame f = in;
        const bool arp = in.b.size() >= 42 && in.n16(12) == 0x0806;
        const bool known = in.good() && in.n32(30) != address && (in.protocol() != 1 || in.n8(in.l4()) == 8);
        const then what = nat_.out(f.b);
        if (arp) return what == then::pass && f.b == in.b ? "" : "ARP does not pass as it is";
        if (what == then::answer) return "an answer to inside";
        if (what == then::drop) {
            if (f.b != in.b) return "dropped, and changed";
            return known && !full() ? "dropped without a reason" : "";
        }
        if (!known) return "let out what it cannot know";
        const std::size_t at = in.l4(), port = at + (in.protocol() == 1 ? 4 : 0), check = at + (in.protocol() == 1 ? 2 : in.protocol() == 17 ? 6 : 16);
        if (f.wrong() != in.wrong()) return "a checksum does not follow";
        if (in.protocol() == 17 && (in.n16(check) == 0) != (f.n16(check) == 0)) return "UDP's checksum comes or goes";
        if (f.n32(26) != address || f.n16(port) < tool::nat::first_port) return "not from the address";
        nat_frame back = f;  // with all that may change as it was
        std::copy_n(in.b.begin() + 6, 6, back.b.begin() + 6);
        back.set16(24, in.n16(24)), back.set32(26, in.n32(26)), back.set16(port, in.n16(port)), back.set16(check, in.n16(check));
        if (back.b != in.b) return "changed more than it may";
        const auto id = std::tuple{in.n32(26), in.n32(30), in.n16(port), in.protocol() == 1 ? 0 : in.n16(at + 2), in.protocol()};
        if (const auto had = ports_.find(id); had != ports_.end() && had->second != f.n16(port)) return "another port than before";
        ports_[id] = f.n16(port);
        for (const auto& [other, p] : ports_)
            if (p == f.n16(port) && other != id) return "one port for two connections";
        if (auto w = answer(in, f); !w.empty()) return w;
        return error(in, f);
    }

    std::string from_outside(const nat_frame& in) {
        nat_frame f = in;
        const then what = nat_.in(f.b);
        if (what == then::drop) return f.b == in.b ? "" : "dropped, and changed";
        if (in.b.size() >= 42 && in.n16(12) == 0x0806) {
            const bool asks = in.n16(14) == 1 && in.n16(16) == 0x0800 && in.n16(18) == 0x0604 && in.n16(20) == 1 && in.n32(38) == address;
            if (!asks) return what == then::pass && f.b == in.b ? "" : "an ARP that is not for it";
            const bool tells = what == then::answer && f.n16(20) == 2 && f.n32(28) == address && f.n32(38) == in.n32(28) && std::equal(f.b.begin(), f.b.begin() + 6, in.b.begin() + 6);
            return tells && f.b.size() == in.b.size() ? "" : "not the answer";
        }
        if (what == then::answer || !in.good() || in.n32(30) != address) return "let in what it cannot know";
        if (f.wrong() != in.wrong()) return "a checksum does not follow";
        return ports_.empty() ? "let in, and nobody had asked" : "";
    }

    void pass_time(unsigned seconds) {
        now_ += seconds;
        nat_.at(now_);
        if (seconds >= tool::nat::idle(6)) ports_.clear();
    }

private:
    using then = tool::nat::then;
    [[nodiscard]] bool full() const { return ports_.size() >= tool::nat::reach; }

    // The same with sender and receiver exchanged. Its checksums stay right, or as wrong as they were.
    std::string answer(const nat_frame& in, const nat_frame& out) {
        nat_frame f = out;
        const std::size_t at = out.l4();
        f.set32(26, out.n32(30)), f.set32(30, out.n32(26));
        if (out.protocol() == 1) f.b.at(at) = 0;
        else f.set16(at, out.n16(at + 2)), f.set16(at + 2, out.n16(at));
        nat_frame got = f;
        const std::size_t port = at + (in.protocol() == 1 ? 4 : 2), from = at + (in.protocol() == 1 ? 4 : 0);
        if (nat_.in(got.b) != then::pass) return "an answer is dropped";
        if (got.n32(30) != in.n32(26) || got.n16(port) != in.n16(from)) return "an answer goes elsewhere";
        if (!std::equal(got.b.begin(), got.b.begin() + 6, in.b.begin() + 6)) return "an answer goes to another station";
        if (got.wrong() != f.wrong()) return "an answer's checksum does not follow";
        nat_frame stranger = f;
        stranger.b.at(29) ^= 1;
        if (nat_.in(stranger.b) != then::drop) return "a stranger gets in";
        if (in.protocol() == 1) return "";
        stranger = f;
        stranger.b.at(at + 1) ^= 1;
        if (nat_.in(stranger.b) != then::drop) return "a stranger's port gets in";
        return "";
    }

    // A router quotes the frame, or its first bytes: inside sees what it has sent.
    std::string error(const nat_frame& in, const nat_frame& out) {
        const std::size_t quotes = std::min<std::size_t>(out.n16(16), in.n8(15) % 2 == 0 ? out.l4() - 14 + 8 : 548);
        nat_frame f{std::vector<std::uint8_t>(42 + quotes)};
        f.set16(12, 0x0800), f.set16(14, 0x4500), f.set16(16, static_cast<unsigned>(28 + quotes)), f.set16(22, 0x4001);
        f.set32(26, 0x0a000001), f.set32(30, address);
        f.set16(34, (in.n8(15) % 3 == 0 ? 11U : 3U) << 8);
        std::copy_n(out.b.begin() + 14, quotes, f.b.begin() + 42);
        f.set16(24, static_cast<unsigned>(~(f.sum(14, 34) % 0xffff)) & 0xffffU), f.set16(36, static_cast<unsigned>(~(f.sum(34, f.b.size()) % 0xffff)) & 0xffffU);
        if (f.wrong() != std::pair{0U, 0U}) return "the test is wrong";
        nat_frame cut = f;  // the quotation ends before the packet's ports, and what follows is not part of it
        cut.set16(16, static_cast<unsigned>(28 + out.l4() - 14 + 7));
        if (nat_.in(cut.b) != then::drop) return "an error that quotes too little";
        if (nat_.in(f.b) != then::pass) return "an error is dropped";
        if (!std::equal(f.b.begin(), f.b.begin() + 6, in.b.begin() + 6)) return "an error goes to another station";
        if (f.n32(30) != in.n32(26) || f.wrong() != std::pair{0U, 0U}) return "an error goes elsewhere";
        for (std::size_t i = 0; i < quotes; ++i) {
            const std::size_t check = in.l4() + (in.protocol() == 1 ? 2 : in.protocol() == 17 ? 6 : 16);
            const bool sum = i + 14 == 24 || i + 14 == 25 || i + 14 == check || i + 14 == check + 1;
            if (!sum && f.b[42 + i] != in.b[14 + i]) return "an error quotes something else";
        }
        return "";
    }

    tool::nat nat_{address, vale::keyed_hash::from(7, 8)};
    std::map<std::tuple<std::uint32_t, std::uint32_t, unsigned, unsigned, unsigned>, unsigned> ports_;
    std::uint64_t now_ = 1000;
};

/// What chance alone seldom makes: an IPv4 packet of one of the three protocols, for the address or from anybody.
inline void repair(nat_frame& f) {
    if (f.b.size() < 54) return;
    f.set16(12, 0x0800), f.b[14] = static_cast<std::uint8_t>(0x45 + f.b[14] % 4), f.set16(16, static_cast<unsigned>(f.b.size() - 14)), f.set16(20, 0x4000);
    f.b[23] = std::array<std::uint8_t, 4>{1, 6, 17, 17}[f.b[23] % 4U];
    f.set32(26, 0x0a000000U | f.b[29] % 4U), f.set32(30, f.b[30] % 2 != 0 ? nat_check::address : 0x08080800U | f.b[33] % 4U);
    if (f.b[23] == 1 && f.b[f.l4()] % 4 == 0) f.b[f.l4()] = 8;
}

/// Frames, each after two bytes: what to do with it, and its length.
inline std::string fuzz_nat(std::span<const std::uint8_t> in) {
    const auto check = std::make_unique<nat_check>();
    check->pass_time(0);
    for (unsigned n = 0; n < 64 && in.size() > 2; ++n) {
        const unsigned what = in[0];
        const std::size_t len = std::min<std::size_t>(in[1], in.size() - 2);
        nat_frame f{{in.begin() + 2, in.begin() + 2 + static_cast<std::ptrdiff_t>(len)}};
        in = in.subspan(2 + len);
        if (what % 8 < 6) repair(f);
        if (what >= 250) check->pass_time(8000);
        if (auto wrong = what % 3 == 0 ? check->from_outside(f) : check->from_inside(f); !wrong.empty()) return wrong;
    }
    return "";
}

}  // namespace nm::test
