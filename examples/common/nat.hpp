// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Source NAT of IPv4 (RFC 4787's words: address and port dependent, in mapping and in filtering, so it is a firewall, too): what inside
// begins leaves with one address and a port of its own; of what comes back only answers go in, and the ICMP errors about what left.
// The table has a fixed size and forgets what was silent. Every header is a stranger's: nothing is read or written beyond the frame.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "nm/vale/keyed_hash.hpp"

namespace tool {

class nat {
public:
    using bytes = std::span<std::uint8_t>;
    using mac = std::array<std::uint8_t, 6>;
    enum class then : std::uint8_t { pass, drop, answer };  ///< answer: the frame, as it is now, goes back to where it came from

    static constexpr std::size_t most = 16'384;  ///< connections; the place of one is its port outside, counted from first_port
    static constexpr std::uint16_t first_port = 49'152;
    static constexpr std::size_t reach = 16;  ///< places that a connection may have

    explicit nat(std::uint32_t address, nm::vale::keyed_hash hash = nm::vale::keyed_hash::random())
        : address_(address), hash_(hash), flows_(most) {}

    /// The time, now and then: what was silent for longer than its protocol's idle time is forgotten.
    void at(std::uint64_t seconds) noexcept { now_ = seconds; }
    [[nodiscard]] static constexpr std::uint64_t idle(std::uint8_t protocol) noexcept {
        return protocol == tcp ? 7'440 : protocol == udp ? 300 : 60;  // RFC 5382, 4787, 5508
    }
    static constexpr std::uint64_t unanswered = 240;  ///< and no longer as long as nobody answered (RFC 5382): a scan must not take all places for hours
    /// What the address answers to: one made of it.
    [[nodiscard]] mac own_mac() const noexcept {
        return {2, 0, static_cast<std::uint8_t>(address_ >> 24), static_cast<std::uint8_t>(address_ >> 16),
                static_cast<std::uint8_t>(address_ >> 8), static_cast<std::uint8_t>(address_)};
    }
    [[nodiscard]] std::size_t connections() const noexcept {
        return static_cast<std::size_t>(std::ranges::count_if(flows_, [this](const flow& f) { return alive(f); }));
    }

    /// A frame from inside.
    [[nodiscard]] then out(bytes f) noexcept {
        if (is_arp(f)) return then::pass;
        const auto h = read(f, 14, true);
        if (!h || get16(f, 12) != 0x0800 || (h->protocol == icmp && f[h->l4] != 8)) return then::drop;
        const key k{get32(f, h->ip + 12), get32(f, h->ip + 16), port(f, *h, true), peer_port(f, *h, false), h->protocol};
        flow* const c = k.peer == address_ ? nullptr : place_of(k);
        if (c == nullptr) return then::drop;
        c->used = now_;
        std::copy_n(f.begin() + 6, 6, c->station.begin());
        std::ranges::copy(own_mac(), f.begin() + 6);
        rewrite(f, *h, true, address_, port_of(*c));
        return then::pass;
    }

    /// A frame from outside.
    [[nodiscard]] then in(bytes f) noexcept {
        if (is_arp(f)) return answers(f) ? then::answer : then::pass;
        const auto h = read(f, 14, true);
        if (!h || get16(f, 12) != 0x0800 || get32(f, h->ip + 16) != address_) return then::drop;
        if (h->protocol == icmp && f[h->l4] != 0) return error(f, *h);
        flow* const c = answered(h->protocol, port(f, *h, false), get32(f, h->ip + 12), peer_port(f, *h, true));
        if (c == nullptr) return then::drop;
        c->used = now_;
        c->answered = true;
        std::ranges::copy(c->station, f.begin());
        rewrite(f, *h, false, c->id.inside, c->id.port);
        return then::pass;
    }

private:
    static constexpr std::uint8_t icmp = 1, tcp = 6, udp = 17;

    struct key {
        std::uint32_t inside, peer;
        std::uint16_t port, peer_port;
        std::uint8_t protocol;
        friend bool operator==(const key&, const key&) = default;
    };
    struct flow {
        key id{};
        mac station{};
        std::uint64_t used = 0;
        bool answered = false;
    };
    /// Where things are in a frame. All of them lie in it.
    struct header {
        std::size_t ip, l4, end;
        std::uint8_t protocol;
        /// The port of who sent it, or of who is to get it; a ping has one number, which stands for the port of who asks.
        [[nodiscard]] std::size_t port(bool sender) const noexcept { return l4 + (protocol == icmp ? 4U : sender ? 0U : 2U); }
        [[nodiscard]] std::size_t checksum() const noexcept { return l4 + (protocol == icmp ? 2U : protocol == udp ? 6U : 16U); }
    };

    [[nodiscard]] static std::uint16_t port(bytes f, const header& h, bool sender) noexcept { return get16(f, h.port(sender)); }
    [[nodiscard]] static std::uint16_t peer_port(bytes f, const header& h, bool sender) noexcept {
        return h.protocol == icmp ? std::uint16_t{0} : port(f, h, sender);
    }

    /// An IPv4 packet of UDP, TCP or ICMP that is no fragment; whole, or quoted in an error: its header and 8 bytes more.
    [[nodiscard]] static std::optional<header> read(bytes f, std::size_t ip, bool whole) noexcept {
        if (f.size() < ip + 28 || f[ip] >> 4 != 4 || (get16(f, ip + 6) & 0x3fffU) != 0) return {};
        const std::size_t length = (f[ip] & 15U) * 4U, total = get16(f, ip + 2);
        const std::uint8_t protocol = f[ip + 9];
        if (protocol != icmp && protocol != tcp && protocol != udp) return {};
        const std::size_t least = length + (protocol == tcp && whole ? 20U : 8U);
        const std::size_t end = whole ? ip + total : f.size();
        if (length < 20 || end > f.size() || end - ip < least) return {};
        return header{ip, ip + length, end, protocol};
    }

    /// An error about a packet that left: its quotation gets back the address and port that the packet had inside.
    [[nodiscard]] then error(bytes f, const header& h) noexcept {
        if (f[h.l4] != 3 && f[h.l4] != 11 && f[h.l4] != 12) return then::drop;
        const auto quoted = read(f.first(h.end), h.l4 + 8, false);
        if (!quoted || get32(f, quoted->ip + 12) != address_ || (quoted->protocol == icmp && f[quoted->l4] != 8)) return then::drop;
        const flow* const c = answered(quoted->protocol, port(f, *quoted, true), get32(f, quoted->ip + 16), peer_port(f, *quoted, false));
        if (c == nullptr) return then::drop;
        settle(f, h.l4 + 2, rewrite(f.first(h.end), *quoted, true, c->id.inside, c->id.port));
        std::uint32_t change = 0;
        put32(f, h.ip + 16, c->id.inside, change);
        settle(f, h.ip + 10, change);
        std::ranges::copy(c->station, f.begin());
        return then::pass;
    }

    [[nodiscard]] static bool is_arp(bytes f) noexcept { return f.size() >= 42 && get16(f, 12) == 0x0806; }
    /// Who asks for the address is told.
    [[nodiscard]] bool answers(bytes f) const noexcept {
        constexpr std::array<std::uint8_t, 8> request{0, 1, 8, 0, 6, 4, 0, 1};
        if (!std::equal(request.begin(), request.end(), f.begin() + 14) || get32(f, 38) != address_) return false;
        std::uint32_t ignored = 0;
        std::copy_n(f.begin() + 6, 6, f.begin());
        std::copy_n(f.begin() + 22, 10, f.begin() + 32);
        std::ranges::copy(own_mac(), f.begin() + 6);
        std::ranges::copy(own_mac(), f.begin() + 22);
        put32(f, 28, address_, ignored);
        f[21] = 2;
        return true;
    }

    [[nodiscard]] bool alive(const flow& c) const noexcept {
        const std::uint64_t silence = idle(c.id.protocol);
        return c.id.protocol != 0 && now_ - c.used < (c.answered ? silence : std::min(silence, unanswered));
    }
    [[nodiscard]] std::uint16_t port_of(const flow& c) const noexcept {
        return static_cast<std::uint16_t>(first_port + (&c - flows_.data()));
    }
    /// The connection's own place, or a free one for it; none if all that it may have are taken.
    [[nodiscard]] flow* place_of(const key& k) noexcept {
        const std::uint64_t ends = std::uint64_t{k.inside} << 32 | k.peer;
        const std::uint64_t ports = std::uint64_t{k.port} << 24 | std::uint64_t{k.peer_port} << 8 | k.protocol;
        const std::size_t first = hash_(hash_(ends) ^ ports) % most;
        flow* found = nullptr;
        for (std::size_t i = 0; i < reach; ++i) {
            flow& c = flows_[(first + i) % most];
            if (alive(c) && c.id == k) return &c;
            if (found == nullptr && !alive(c)) found = &c;
        }
        if (found != nullptr) found->id = k, found->answered = false;
        return found;
    }
    /// The connection that an answer to `port` from this peer belongs to.
    [[nodiscard]] flow* answered(std::uint8_t protocol, std::uint16_t port, std::uint32_t peer, std::uint16_t peer_port) noexcept {
        if (port < first_port) return nullptr;
        flow& c = flows_[port - first_port];
        return alive(c) && c.id.protocol == protocol && c.id.peer == peer && c.id.peer_port == peer_port ? &c : nullptr;
    }

    // RFC 1624: a checksum follows a change of what it covers, and an error in it stays one. A change is the sum of what came and the
    // complement of what went, word by word.
    static std::uint32_t rewrite(bytes f, const header& h, bool source, std::uint32_t address, std::uint16_t port) noexcept {
        std::uint32_t ip = 0;
        put32(f, h.ip + (source ? 12 : 16), address, ip);
        std::uint32_t all = ip + settle(f, h.ip + 10, ip), covered = h.protocol == icmp ? 0 : ip, changed = 0;
        put16(f, h.port(source), port, changed);
        all += changed;
        const std::size_t sum = h.checksum();
        if (sum + 2 > h.end || (h.protocol == udp && get16(f, sum) == 0)) return all;  // not quoted; there is none
        return all + settle(f, sum, covered + changed, h.protocol == udp);
    }
    static std::uint32_t settle(bytes f, std::size_t at, std::uint32_t change, bool never_zero = false) noexcept {
        std::uint32_t sum = (~std::uint32_t{get16(f, at)} & 0xffffU) + change;
        while (sum >> 16 != 0) sum = (sum & 0xffffU) + (sum >> 16);
        const auto now = static_cast<std::uint16_t>(~sum);
        std::uint32_t own = 0;
        put16(f, at, never_zero && now == 0 ? std::uint16_t{0xffff} : now, own);
        return own;
    }

    [[nodiscard]] static std::uint16_t get16(bytes f, std::size_t at) noexcept {
        return static_cast<std::uint16_t>(f[at] << 8 | f[at + 1]);
    }
    [[nodiscard]] static std::uint32_t get32(bytes f, std::size_t at) noexcept {
        return std::uint32_t{get16(f, at)} << 16 | get16(f, at + 2);
    }
    static void put16(bytes f, std::size_t at, std::uint16_t v, std::uint32_t& change) noexcept {
        change += (~std::uint32_t{get16(f, at)} & 0xffffU) + v;
        f[at] = static_cast<std::uint8_t>(v >> 8);
        f[at + 1] = static_cast<std::uint8_t>(v);
    }
    static void put32(bytes f, std::size_t at, std::uint32_t v, std::uint32_t& change) noexcept {
        put16(f, at, static_cast<std::uint16_t>(v >> 16), change);
        put16(f, at + 2, static_cast<std::uint16_t>(v), change);
    }

    std::uint32_t address_;
    nm::vale::keyed_hash hash_;
    std::uint64_t now_ = 0;
    std::vector<flow> flows_;
};

}  // namespace tool
