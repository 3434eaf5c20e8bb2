// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Which connection a frame belongs to, as far as its bytes tell: for who spreads frames and must not part those of one
// connection. More patient than five_tuple.hpp, which is made for a switch: it walks IPv6 extension headers, remembers where the
// first fragment of a datagram went, and knows what to do with frames that are not IP.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "nm/vale/keyed_hash.hpp"
#include "nm/vale/peek.hpp"

namespace nm::vale {

/// What a frame's place was told by.
enum class told_by : std::uint8_t {
    ports,      ///< addresses, protocol and ports
    fragment,   ///< the datagram's first fragment, which came before
    addresses,  ///< IP addresses alone: there are no ports, or not in this frame
    stations,   ///< MAC addresses: not IP, or not whole
    nothing,    ///< too short for an Ethernet header
};
inline constexpr std::size_t told_bys = 5;

/// A frame's connection: frames of one have the same number, in both directions.
struct connection {
    std::uint64_t hash;
    told_by by;
};

/// Where the first fragments of datagrams went; the others have no ports. It holds a fixed number, and forgets the
/// oldest of a set of four: who sends first fragments only makes others forgotten, and theirs go by address.
class fragment_table {
public:
    static constexpr std::size_t ways = 4;
    explicit fragment_table(std::size_t sets = 2048) : sets_(sets) {}

    void remember(std::uint64_t key, std::uint64_t hash) noexcept {
        key |= 1;  // 0: nothing yet
        set& s = sets_[place(key)];
        std::size_t i = 0;
        while (i + 1 < ways && s.key[i] != key) ++i;
        for (; i != 0; --i) s.key[i] = s.key[i - 1], s.hash[i] = s.hash[i - 1];
        s.key[0] = key;
        s.hash[0] = hash;
    }
    [[nodiscard]] const std::uint64_t* find(std::uint64_t key) const noexcept {
        key |= 1;
        const set& s = sets_[place(key)];
        for (std::size_t i = 0; i < ways; ++i)
            if (s.key[i] == key) return &s.hash[i];
        return nullptr;
    }

private:
    struct alignas(64) set {
        std::array<std::uint64_t, ways> key{}, hash{};
    };
    [[nodiscard]] std::size_t place(std::uint64_t key) const noexcept { return static_cast<std::size_t>((key >> 32) % sets_.size()); }

    std::vector<set> sets_;
};

/// Tells connections apart. A header is anybody's to write: nothing is read beyond the frame, a chain of extension headers
/// or of VLAN tags has a limit, and a byte that was checked is not read again. One thread's.
class connection_reader {
public:
    explicit connection_reader(keyed_hash hash = keyed_hash::random()) : hash_(hash) {}

    [[nodiscard]] connection operator()(const std::uint8_t* data, std::size_t len) noexcept {
        if (len < 14) return {0, told_by::nothing};
        const std::uint8_t *at = data + 14, *const end = data + len;
        std::uint16_t type = peek16(data + 12);
        for (unsigned tags = 0; tagged(type) && end - at >= 4 && tags < most_tags; ++tags, at += 4) type = peek16(at + 2);
        if (type == ether_ipv4 && end - at >= 20) {
            const auto first = peek<std::uint8_t>(at);
            if (first >> 4 == 4 && (first & 15) >= 5) return ipv4(at, (first & 15) * 4, end);
        } else if (type == ether_ipv6 && end - at >= 40 && peek<std::uint8_t>(at) >> 4 == 6) {
            return ipv6(at, end);
        }
        constexpr std::uint64_t six_bytes = 0xffff'ffff'ffffU;
        return {both_ways(hash_, peek<std::uint64_t>(data + 6) & six_bytes, peek<std::uint64_t>(data) & six_bytes, 0, 1), told_by::stations};
    }

    static constexpr unsigned most_tags = 8, most_headers = 8;

private:
    [[nodiscard]] static constexpr bool tagged(std::uint16_t type) noexcept {
        return type == ether_vlan || type == ether_service_vlan || type == 0x9100;  // 0x9100: before 802.1ad
    }
    /// Source and destination port are the first four bytes behind the header of TCP, UDP, SCTP, DCCP and UDP-Lite.
    [[nodiscard]] static constexpr bool has_ports(std::uint8_t protocol) noexcept {
        return protocol == 6 || protocol == 17 || protocol == 132 || protocol == 33 || protocol == 136;
    }

    /// All that has no ports goes by addresses, whatever its protocol: so do fragments without their first one.
    struct parties {
        std::uint64_t from, to;
    };
    [[nodiscard]] connection by_addresses(const parties& p) const noexcept { return {both_ways(hash_, p.from, p.to, 0, 0), told_by::addresses}; }
    [[nodiscard]] connection whole(const parties& p, std::uint8_t protocol, const std::uint8_t* at, const std::uint8_t* end) const noexcept {
        if (!has_ports(protocol) || end - at < 4) return by_addresses(p);
        return {both_ways(hash_, p.from, p.to, peek<std::uint32_t>(at), protocol), told_by::ports};
    }
    /// A datagram of which there are several frames: who to whom, and its number.
    [[nodiscard]] std::uint64_t datagram(const parties& p, std::uint64_t number) const noexcept {
        return hash_(hash_(hash_(p.from) + p.to) + number);
    }
    [[nodiscard]] connection later(const parties& p, std::uint64_t key) const noexcept {
        const std::uint64_t* first = fragments_.find(key);
        return first != nullptr ? connection{*first, told_by::fragment} : by_addresses(p);
    }

    [[nodiscard]] connection ipv4(const std::uint8_t* at, std::ptrdiff_t header, const std::uint8_t* end) noexcept {
        const parties p{peek<std::uint32_t>(at + 12), peek<std::uint32_t>(at + 16)};
        const auto protocol = peek<std::uint8_t>(at + 9);
        const std::uint16_t fragment = peek16(at + 6);
        // RFC 791: addresses, protocol and identification say which datagram.
        const std::uint64_t number = std::uint64_t{protocol} << 32 | std::uint64_t{1} << 48 | peek<std::uint16_t>(at + 4);
        if ((fragment & 0x1fff) != 0) return later(p, datagram(p, number));
        const connection c = end - at >= header ? whole(p, protocol, at + header, end) : by_addresses(p);
        if ((fragment & 0x2000) != 0) fragments_.remember(datagram(p, number), c.hash);
        return c;
    }

    [[nodiscard]] connection ipv6(const std::uint8_t* at, const std::uint8_t* end) noexcept {
        const auto address = [&](std::ptrdiff_t i) { return hash_(peek<std::uint64_t>(at + i)) + peek<std::uint64_t>(at + i + 8); };
        const parties p{address(8), address(24)};
        auto next = peek<std::uint8_t>(at + 6);
        std::uint64_t key = 0;
        bool first = false;
        at += 40;
        connection c = by_addresses(p);
        for (unsigned i = 0; i <= most_headers; ++i) {
            const kind k = kind_of(next);
            if (k == kind::payload) {
                c = whole(p, next, at, end);
                break;
            }
            if (end - at < 8) break;
            const auto after = peek<std::uint8_t>(at);
            std::ptrdiff_t size = 8;
            if (k == kind::fragment) {
                // RFC 8200 4.5: addresses and identification; the next header need not be the same in all.
                const std::uint16_t place = peek16(at + 2);
                const std::uint64_t here = datagram(p, peek<std::uint32_t>(at + 4));
                if ((place & 0xfff8) != 0) return later(p, here);
                if (first) break;
                first = (place & 1) != 0;
                key = here;
            } else {
                const std::ptrdiff_t units = peek<std::uint8_t>(at + 1);
                size = k == kind::authentication ? (units + 2) * 4 : (units + 1) * 8;
            }
            if (end - at < size) break;
            at += size;
            next = after;
        }
        if (first) fragments_.remember(key, c.hash);
        return c;
    }

    enum class kind : std::uint8_t { payload, options, authentication, fragment };
    [[nodiscard]] static constexpr kind kind_of(std::uint8_t header) noexcept {
        switch (header) {
            case 0:      // hop by hop
            case 43:     // routing
            case 60:     // destination options
            case 135:    // mobility
            case 139:    // HIP
            case 140:    // shim6
                return kind::options;
            case 51: return kind::authentication;
            case 44: return kind::fragment;
            default: return kind::payload;
        }
    }

    keyed_hash hash_;
    fragment_table fragments_;
};

}  // namespace nm::vale
