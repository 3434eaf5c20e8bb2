// SPDX-License-Identifier: BSD-2-Clause
// Which connection a frame belongs to. Against a slow reader: tests/model/connection_fuzz_test.cpp.
#include <algorithm>
#include <gtest/gtest.h>
#include <set>

#include "nm/vale/connection.hpp"
#include "support/frames_on_wire.hpp"

namespace {

using namespace nm::test;
using nm::vale::connection;
using nm::vale::told_by;

constexpr endpoint a{0x0a000001, 1000}, b{0x0a000002, 53}, c{0x0a000003, 53};
constexpr std::uint8_t tcp = 6, udp = 17, icmp = 1;

struct connection_reader : testing::Test {
    nm::vale::connection_reader reader{nm::vale::keyed_hash::from(1, 2)};

    connection of(const bytes& f) {
        const bytes exact(f);  // in memory of its own, at whose end a sanitizer stands
        return reader(exact.data(), exact.size());
    }
    std::uint64_t hash(const bytes& f, told_by by) {
        const connection x = of(f);
        EXPECT_EQ(int(x.by), int(by));
        return x.hash;
    }
};

TEST_F(connection_reader, both_directions_are_one_and_each_part_counts) {
    constexpr std::uint8_t with_ports[] = {6, 17, 132, 33, 136};
    for (const std::uint8_t protocol : with_ports) {
        const auto forth = hash(ipv4(a, b, protocol), told_by::ports);
        EXPECT_EQ(hash(ipv4(b, a, protocol), told_by::ports), forth);
        EXPECT_NE(hash(ipv4(a, c, protocol), told_by::ports), forth);
        EXPECT_NE(hash(ipv4({a.host, 1001}, b, protocol), told_by::ports), forth);
        EXPECT_NE(hash(ipv4({a.host, b.port}, {b.host, a.port}, protocol), told_by::ports), forth);
        EXPECT_NE(hash(ipv4(a, b, protocol == 6 ? 17 : 6), told_by::ports), forth);
        const auto six = hash(ipv6(a, b, protocol), told_by::ports);
        EXPECT_EQ(hash(ipv6(b, a, protocol), told_by::ports), six);
        EXPECT_NE(hash(ipv6(a, c, protocol), told_by::ports), six);
        EXPECT_NE(six, forth);
    }
    const auto ping = hash(ipv4(a, b, icmp), told_by::addresses);
    EXPECT_EQ(hash(ipv4({b.host, 7}, {a.host, 8}, icmp), told_by::addresses), ping);
}

TEST_F(connection_reader, tags_and_header_options_do_not_matter) {
    const auto plain = hash(ipv4(a, b, udp), told_by::ports);
    EXPECT_EQ(hash(ipv4(a, b, udp, 0, 0, {0x8100}), told_by::ports), plain);
    EXPECT_EQ(hash(ipv4(a, b, udp, 0, 0, {0x88a8, 0x8100}), told_by::ports), plain);
    EXPECT_EQ(hash(ipv4(a, b, udp, 0, 0, {0x9100, 0x8100}), told_by::ports), plain);
    EXPECT_EQ(hash(ipv4(a, b, udp, 0, 0, {}, 15), told_by::ports), plain);
    EXPECT_EQ(hash(ipv4(a, b, udp, 9, 0x4000), told_by::ports), plain);  // "do not fragment"
    const auto six = hash(ipv6(a, b, tcp), told_by::ports);
    EXPECT_EQ(hash(ipv6(a, b, tcp, {}, {0x88a8, 0x8100}), told_by::ports), six);
    EXPECT_EQ(hash(ipv6(a, b, tcp, {options(0), options(60, 3), options(43, 2), options(135)}), told_by::ports), six);
    EXPECT_EQ(hash(ipv6(a, b, tcp, {{51, bytes{4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}), told_by::ports), six);
    EXPECT_EQ(hash(ipv6(a, b, tcp, {fragment(1, 0, false)}), told_by::ports), six);  // RFC 6946: a fragment that is the whole
    hash(ipv6(a, b, 50), told_by::addresses);                                        // ESP: nobody sees what is inside
    hash(ipv4(a, b, udp, 0, 0, {0x8100, 0x8100, 0x8100, 0x8100, 0x8100, 0x8100, 0x8100, 0x8100, 0x8100}), told_by::stations);
    const std::vector<extension> longest(nm::vale::connection_reader::most_headers, options(60));
    EXPECT_EQ(hash(ipv6(a, b, tcp, longest), told_by::ports), six);
    std::vector<extension> longer = longest;
    longer.push_back(options(60));
    hash(ipv6(a, b, tcp, longer), told_by::addresses);
}

TEST_F(connection_reader, later_fragments_follow_the_first) {
    const auto whole = hash(ipv4(a, b, udp), told_by::ports);
    const auto addresses = hash(ipv4(a, b, icmp), told_by::addresses);
    EXPECT_EQ(hash(ipv4(a, b, udp, 7, 100), told_by::addresses), addresses);  // before the first one
    EXPECT_EQ(hash(ipv4(a, b, udp, 7, 0x2000), told_by::ports), whole);
    EXPECT_EQ(hash(ipv4({a.host, 1}, {b.host, 2}, udp, 7, 0x2064), told_by::fragment), whole);
    EXPECT_EQ(hash(ipv4(a, b, udp, 7, 100), told_by::fragment), whole);
    EXPECT_EQ(hash(ipv4(a, b, udp, 7, 100), told_by::fragment), whole);  // once more: who is to say that it was the last
    // Another datagram: number, protocol, direction.
    EXPECT_EQ(hash(ipv4(a, b, udp, 8, 100), told_by::addresses), addresses);
    EXPECT_EQ(hash(ipv4(a, b, tcp, 7, 100), told_by::addresses), addresses);
    EXPECT_EQ(hash(ipv4(b, a, udp, 7, 100), told_by::addresses), addresses);
    hash(ipv4(a, c, udp, 7, 100), told_by::addresses);
    // The number comes again.
    const auto other = hash(ipv4({a.host, 2222}, b, udp, 7, 0x2000), told_by::ports);
    EXPECT_NE(other, whole);
    EXPECT_EQ(hash(ipv4(a, b, udp, 7, 100), told_by::fragment), other);
    // No room for ports in the first: all go by address.
    bytes tiny = ipv4(a, b, udp, 9, 0x2000);
    tiny.resize(14 + 20 + 3);
    EXPECT_EQ(hash(tiny, told_by::addresses), addresses);
    EXPECT_EQ(hash(ipv4(a, b, udp, 9, 1), told_by::fragment), addresses);
}

TEST_F(connection_reader, fragments_of_ipv6) {
    const auto whole = hash(ipv6(a, b, udp), told_by::ports);
    const auto addresses = hash(ipv6(a, b, 58), told_by::addresses);
    EXPECT_EQ(hash(ipv6(a, b, udp, {fragment(7, 10, true)}), told_by::addresses), addresses);
    EXPECT_EQ(hash(ipv6(a, b, udp, {options(0), fragment(7, 0, true), options(60)}), told_by::ports), whole);
    EXPECT_EQ(hash(ipv6({a.host, 5}, {b.host, 6}, udp, {options(0), fragment(7, 10, true)}), told_by::fragment), whole);
    EXPECT_EQ(hash(ipv6(a, b, 99, {fragment(7, 20, false)}), told_by::fragment), whole);  // RFC 8200 4.5: that protocol does not count
    EXPECT_EQ(hash(ipv6(a, b, udp, {fragment(0x10007, 10, true)}), told_by::addresses), addresses);
    EXPECT_EQ(hash(ipv6(b, a, udp, {fragment(7, 10, true)}), told_by::addresses), addresses);
    EXPECT_EQ(hash(ipv6(a, b, udp, {fragment(9, 0, true), fragment(10, 0, true)}), told_by::addresses), addresses);  // within each other
}

TEST_F(connection_reader, what_is_not_ip_goes_by_station) {
    const auto arp = [](std::uint8_t from, std::uint8_t to) {
        bytes f = ethernet(0x0806, {}, from, to);
        f.resize(60);
        return f;
    };
    const auto forth = hash(arp(1, 2), told_by::stations);
    EXPECT_EQ(hash(arp(2, 1), told_by::stations), forth);
    EXPECT_NE(hash(arp(1, 3), told_by::stations), forth);
    bytes wrong = ipv4(a, b, udp);
    wrong[14] = 0x55;  // no version
    EXPECT_EQ(hash(wrong, told_by::stations), forth);
    wrong[14] = 0x44;  // no header
    EXPECT_EQ(hash(wrong, told_by::stations), forth);
    wrong = ipv6(a, b, udp);
    wrong[14] = 0x40;
    EXPECT_EQ(hash(wrong, told_by::stations), forth);
}

TEST_F(connection_reader, reads_nothing_that_is_not_there) {
    const bytes frames[] = {ipv4(a, b, udp, 0, 0, {0x88a8, 0x8100}, 15), ipv4(a, b, udp, 3, 0x2000), ipv6(a, b, tcp, {options(0), options(60, 2), fragment(5, 0, true)})};
    for (const bytes& f : frames)
        for (std::size_t n = 0; n <= f.size(); ++n) {
            const auto x = of(bytes(f.begin(), f.begin() + static_cast<std::ptrdiff_t>(n)));
            if (n < 14) {
                EXPECT_EQ(int(x.by), int(told_by::nothing));
            } else if (n + 20 <= f.size()) {
                EXPECT_NE(int(x.by), int(told_by::ports)) << n;
            }
        }
}

TEST_F(connection_reader, connections_are_spread_evenly) {
    std::array<int, 3> shares{};
    for (std::uint16_t port = 0; port < 3000; ++port) ++shares[of(ipv4({a.host, port}, b, tcp)).hash % 3];
    for (const int n : shares) EXPECT_NEAR(n, 1000, 150);
    const nm::vale::keyed_hash other = nm::vale::keyed_hash::from(3, 4);
    EXPECT_NE(nm::vale::connection_reader(other)(ipv4(a, b, tcp).data(), 50).hash, of(ipv4(a, b, tcp)).hash);
}

// Whoever sends first fragments without end makes others forgotten, one by one, and takes no more room.
TEST(fragment_table, is_bounded_and_forgets_the_oldest) {
    nm::vale::fragment_table table(1);
    for (std::uint64_t k = 2; k <= 8; k += 2) table.remember(k, k * 10);
    for (std::uint64_t k = 2; k <= 8; k += 2) {
        ASSERT_NE(table.find(k), nullptr);
        EXPECT_EQ(*table.find(k), k * 10);
    }
    table.remember(2, 7);  // the oldest again: nobody goes
    EXPECT_EQ(*table.find(2), 7U);
    EXPECT_NE(table.find(4), nullptr);
    table.remember(10, 1);
    EXPECT_EQ(table.find(4), nullptr);
    EXPECT_EQ(*table.find(2), 7U);
    EXPECT_EQ(*table.find(8), 80U);
    EXPECT_EQ(table.find(0), nullptr);
}

}  // namespace
