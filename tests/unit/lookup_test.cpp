// SPDX-License-Identifier: BSD-2-Clause
// The two lookups beside learning. Their reading of frames is in tests/model/lookup_fuzz_test.cpp.
#include <algorithm>
#include <array>
#include <cstdint>
#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "nm/vale/five_tuple.hpp"
#include "nm/vale/vlan.hpp"

namespace {

using nm::vale::destination;
using nm::vale::five_tuple;
using nm::vale::packet;
using nm::vale::port_number;
using nm::vale::vlan;
using frame = std::array<std::uint8_t, 60>;

static_assert(nm::vale::vale_lookup<five_tuple> && !nm::vale::has_lane<five_tuple>);
static_assert(nm::vale::vale_lookup<vlan> && nm::vale::has_lane<vlan>);
static_assert(nm::vale::vale_lookup<nm::vale::learning> && nm::vale::has_lane<nm::vale::learning>);

frame udp(std::uint32_t n) {
    frame f{};
    f[12] = 8;
    f[14] = 0x45;
    f[23] = 17;
    for (unsigned i = 0; i < 4; ++i) f[26 + i] = static_cast<std::uint8_t>(n >> (8 * i));
    f[37] = 53;
    return f;
}

double share(const std::vector<int>& flows, int p) {
    return static_cast<double>(std::count(flows.begin(), flows.end(), p));
}

TEST(five_tuple, each_worker_has_its_share_and_keeps_its_flows) {
    five_tuple lb({2, 3, 4}, nm::vale::keyed_hash::from(1, 2));
    const auto to = [&lb](std::uint32_t n) {
        const frame f = udp(n);
        const destination d = lb(packet{f.data(), 60, 0, 9, 0});
        return d.one() ? int{d.port()} : -1;
    };
    const auto all = [&] {
        std::vector<int> v;
        for (std::uint32_t n = 0; n < 3'000; ++n) v.push_back(to(n));
        return v;
    };
    const auto three = all();
    for (const int p : {2, 3, 4}) EXPECT_NEAR(share(three, p), 1'000, 150);
    lb.add(7);
    const auto four = all();
    for (std::size_t i = 0; i < four.size(); ++i) EXPECT_TRUE(four[i] == three[i] || four[i] == 7);
    EXPECT_NEAR(share(four, 7), 750, 150);
    lb.detached(3);
    const auto rest = all();
    for (std::size_t i = 0; i < rest.size(); ++i) EXPECT_TRUE(rest[i] == four[i] || four[i] == 3);
    for (const int p : {2, 4, 7}) EXPECT_NEAR(share(rest, p), 1'000, 150);
    for (const int p : {2, 4, 7}) lb.remove(static_cast<port_number>(p));
    EXPECT_EQ(to(1), -1);
    const frame f = udp(1);
    EXPECT_EQ(lb(packet{f.data(), 60, 0, 9, 0}).why(), nm::cause::no_dst);
}

TEST(five_tuple, shares_stay_even_whoever_comes_and_goes) {
    std::mt19937 random(5);
    five_tuple lb({}, nm::vale::keyed_hash::from(1, 2));
    std::array<bool, 254> in{};
    for (int i = 0; i < 500; ++i) {
        const auto p = static_cast<port_number>(random() % (i < 250 ? 12 : 254));
        (in[p] = !in[p]) ? lb.add(p) : lb.remove(p);
        const auto shares = lb.buckets();
        int most = 0, least = 256;
        for (unsigned q = 0; q < 254; ++q) {
            const auto n = static_cast<int>(std::count(shares.begin(), shares.end(), q));
            if (!in[q]) {
                ASSERT_EQ(n, 0);
            }
            if (in[q]) most = std::max(most, n), least = std::min(least, n);
        }
        if (std::count(in.begin(), in.end(), true) != 0) {
            ASSERT_LE(most - least, 1) << i;
        }
    }
}

TEST(five_tuple, what_workers_send_goes_to_the_others) {
    five_tuple lb({2, 3});
    for (port_number p = 0; p < 5; ++p) lb.attached(p, "");
    const frame f = udp(1);
    const destination d = lb(packet{f.data(), 60, 0, 2, 0});
    ASSERT_TRUE(d.flood() && d.ports() != nullptr);
    for (port_number p = 0; p < 8; ++p) EXPECT_EQ(d.ports()->test(p), p == 0 || p == 1 || p == 4) << int{p};
    lb.detached(4);
    EXPECT_FALSE(d.ports()->test(4));
    lb.add(1);
    EXPECT_FALSE(d.ports()->test(1));
    const frame arp{};
    const auto first = lb(packet{arp.data(), 60, 0, 0, 0});
    EXPECT_TRUE(first.one());
    EXPECT_EQ(lb(packet{arp.data(), 14, 0, 4, 0}).port(), first.port()) << "what is not IP: always the same one";
}

class vlans {
public:
    vlans() {
        for (port_number p = 0; p < 8; ++p) v.attached(p, "");
    }
    /// -1: all of the VLAN; -2: dropped
    int send(port_number from, std::uint8_t source, std::uint8_t to, int tag = -1) {
        frame f{};
        f[0] = f[6] = 2;
        f[5] = to;
        f[11] = source;
        if (tag >= 0) f[12] = 0x81, f[14] = static_cast<std::uint8_t>(tag >> 8), f[15] = static_cast<std::uint8_t>(tag);
        v.begin(lanes[from]);
        last = v(packet{f.data(), 60, 0, from, 0}, lanes[from]);
        return last.one() ? last.port() : last.flood() ? -1 : -2;
    }
    std::vector<int> reached() const {
        std::vector<int> p;
        if (last.ports() == nullptr) return p;
        for (port_number i = 0; i < 254; ++i)
            if (last.ports()->test(i)) p.push_back(i);
        return p;
    }
    vlan v;
    std::array<vlan::lane, 8> lanes{};
    destination last = destination::drop();
};

TEST(vlan, learns_and_floods_within_the_vlan) {
    vlans n;
    n.v.access(0, 5);
    n.v.access(1, 5);
    n.v.access(2, 6);
    n.v.access(3, 6);
    n.v.trunk(4);
    for (port_number p = 5; p < 8; ++p) n.v.detached(p);
    EXPECT_EQ(n.send(0, 10, 20), -1);
    EXPECT_EQ(n.reached(), (std::vector<int>{0, 1, 4}));
    EXPECT_EQ(n.send(1, 20, 10), 0);
    EXPECT_EQ(n.send(2, 30, 10), -1) << "known, but in another VLAN";
    EXPECT_EQ(n.reached(), (std::vector<int>{2, 3, 4}));
    EXPECT_EQ(n.send(4, 40, 10, 5), 0);
    EXPECT_EQ(n.send(4, 40, 10, 0x2005), 0) << "with a priority";
    EXPECT_EQ(n.send(4, 40, 10, 6), -1);
    EXPECT_EQ(n.reached(), (std::vector<int>{2, 3, 4}));
    EXPECT_EQ(n.send(4, 40, 10, 7), -1);
    EXPECT_EQ(n.reached(), (std::vector<int>{4})) << "a VLAN that nobody else is in";
    EXPECT_EQ(n.send(0, 10, 40), 4);
    EXPECT_EQ(n.send(0, 10, 40, 5), 4) << "tagged, of its own VLAN";
    EXPECT_EQ(n.send(0, 10, 40, 0), 4) << "a priority is no VLAN";
}

TEST(vlan, what_is_not_let_in_is_not_learnt) {
    vlans n;
    n.v.access(0, 5);
    n.v.access(1, 5);
    n.v.trunk(4);
    n.v.access(6, 0);
    EXPECT_EQ(n.send(0, 10, 20, 6), -2);
    EXPECT_EQ(n.last.why(), nm::cause::policy);
    EXPECT_EQ(n.send(4, 10, 20), -2) << "a trunk's frames have a tag";
    EXPECT_EQ(n.send(4, 10, 20, 4095), -2);
    EXPECT_EQ(n.send(4, 10, 20, 0), -2);
    EXPECT_EQ(n.send(6, 10, 20), -2) << "a port of no VLAN";
    EXPECT_EQ(n.send(6, 10, 20, 5), -2);
    EXPECT_EQ(n.v.stations().stations().size(), 0U);
    EXPECT_EQ(n.send(1, 20, 10), -1);
    n.send(0, 10, 20);
    EXPECT_EQ(n.send(1, 20, 10), 0);
    n.v.access(0, 6);
    EXPECT_EQ(n.send(1, 20, 10), -1);
    EXPECT_EQ(n.reached(), (std::vector<int>{1, 4}));
}

}  // namespace
