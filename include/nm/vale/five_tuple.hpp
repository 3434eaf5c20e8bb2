// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A load balancer: a whole lookup, and an example of how to write one.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "nm/cpu.hpp"
#include "nm/vale/keyed_hash.hpp"
#include "nm/vale/lookup.hpp"
#include "nm/vale/peek.hpp"

namespace nm::vale {

/// Spreads the frames of all other ports over the workers: both directions of a TCP, UDP or SCTP connection to the same
/// one, and so all fragments of what lies between two addresses, and other protocols by address. What is not IP goes to
/// one worker, always the same. What a worker sends goes to all ports that are not workers.
///
/// A fragment is not looked into: the first one has ports, the others do not, and they would part. So connections some of
/// whose packets are fragmented may reach two workers. IPv6 extension headers are treated likewise.
class five_tuple {
public:
    explicit five_tuple(std::initializer_list<port_number> workers = {},
                        keyed_hash hash = keyed_hash::random()) noexcept
        : hash_(hash) {
        buckets_.fill(nobody);
        for (const auto p : workers) add(p);
    }

    [[nodiscard]] [[gnu::always_inline]] destination operator()(const packet& p) noexcept {
        if (workers_.test(p.from)) return destination::to(others_);
        const port_number worker = load_once(buckets_[flow(p.data, p.len) % buckets_.size()]);
        return worker == nobody ? destination::drop(cause::no_dst) : destination::to(worker);
    }

    /// The same for both directions of a connection; 0 for what is not IP.
    [[nodiscard]] [[gnu::always_inline]] std::uint64_t flow(const std::uint8_t* data, std::size_t len) const noexcept {
        const std::uint8_t *at = data + 12, *const end = data + len;
        std::uint16_t type = peek16(at);
        for (at += 2; (type == ether_vlan || type == ether_service_vlan) && end - at >= 4; at += 4)
            type = peek16(at + 2);
        if (type == ether_ipv4 && end - at >= 20) {
            const std::ptrdiff_t header = (peek<std::uint8_t>(at) & 15) * 4;
            const bool fragment = (peek16(at + 6) & 0x3fff) != 0;
            const std::uint32_t ports = header < 20 || fragment ? 0 : ports_of(at + 9, at, header, end);
            return both_ways(hash_, peek<std::uint32_t>(at + 12), peek<std::uint32_t>(at + 16), ports, peek<std::uint8_t>(at + 9));
        }
        if (type == ether_ipv6 && end - at >= 40) {
            const auto address = [&](std::ptrdiff_t i) {
                return hash_(peek<std::uint64_t>(at + i)) + peek<std::uint64_t>(at + i + 8);
            };
            return both_ways(hash_, address(8), address(24), ports_of(at + 6, at, 40, end), peek<std::uint8_t>(at + 6));
        }
        return 0;
    }

    /// Gives a port its share of the flows, or its share back to the others. The other flows stay where they are.
    void add(port_number p) noexcept {
        if (workers_.test(p)) return;
        workers_.add(p);
        others_.remove(p);
        share();
    }
    void remove(port_number p) noexcept {
        workers_.remove(p);
        for (auto& b : buckets_)
            if (b == p) store_once(b, nobody);
        share();
    }
    /// Who has which 256th of the flows; 255: nobody.
    [[nodiscard]] const std::array<port_number, 256>& buckets() const noexcept { return buckets_; }
    void attached(port_number p, std::string_view) noexcept {
        if (!workers_.test(p)) others_.add(p);
    }
    void detached(port_number p) noexcept {
        others_.remove(p);
        remove(p);
    }

private:
    static constexpr port_number nobody = 255;

    /// Both ports, if the protocol (at `protocol`) has any and they are there.
    [[nodiscard]] [[gnu::always_inline]] static std::uint32_t ports_of(const std::uint8_t* protocol,
                                                                       const std::uint8_t* ip, std::ptrdiff_t header,
                                                                       const std::uint8_t* end) noexcept {
        constexpr std::uint8_t tcp = 6, udp = 17, sctp = 132;
        const auto p = peek<std::uint8_t>(protocol);
        return (p == tcp || p == udp || p == sctp) && end - ip >= header + 4 ? peek<std::uint32_t>(ip + header) : 0;
    }

    /// As many buckets for each worker, give or take one; no more of them change hands than must.
    void share() noexcept {
        std::array<int, max_ports> has{}, quota{};
        int n = 0;
        for (const auto b : buckets_)
            if (b != nobody) ++has[b];
        for (port_number p = 0; p < max_ports; ++p) n += workers_.test(p) ? 1 : 0;
        if (n == 0) return;
        const int even = static_cast<int>(buckets_.size()) / n;
        int left = static_cast<int>(buckets_.size()) % n;
        for (const bool first : {true, false})  // who has one more may keep it; what is left goes to the others
            for (port_number p = 0; p < max_ports; ++p) {
                if (!workers_.test(p)) continue;
                if (first) quota[p] = even;
                if (left > 0 && (has[p] > even) == first) --left, ++quota[p];
            }
        port_number to = 0;
        for (auto& b : buckets_) {
            if (b != nobody && has[b] <= quota[b]) continue;
            while (has[to] >= quota[to]) ++to;
            if (b != nobody) --has[b];
            ++has[to];
            store_once(b, to);
        }
    }

    keyed_hash hash_;
    std::array<port_number, 256> buckets_;
    port_set workers_, others_;
};
static_assert(vale_lookup<five_tuple>);

}  // namespace nm::vale
