// SPDX-License-Identifier: BSD-2-Clause
// tests/fuzz/nat with fixed seeds: frames that are right, then with one or a few things broken.
#include <gtest/gtest.h>
#include <random>

#include "fuzz/nat_target.hpp"

namespace {

using nm::test::nat_check;
using nm::test::nat_frame;

// Few hosts and ports, so that connections come again.
nat_frame frame(std::mt19937& random) {
    const auto below = [&random](unsigned n) { return static_cast<unsigned>(random() % n); };
    const unsigned words = below(4) == 0 ? 5 + below(11) : 5, protocols[] = {1, 6, 17}, protocol = protocols[below(3)];
    const std::size_t l4 = 14 + words * 4U, payload = below(60);
    nat_frame f{std::vector<std::uint8_t>(l4 + (protocol == 6 ? 20 : 8) + payload)};
    for (auto& b : f.b) b = static_cast<std::uint8_t>(random());
    f.b[6] = static_cast<std::uint8_t>(f.b[6] & 0xfeU);
    f.set16(12, 0x0800), f.set16(14, 0x4000U | words << 8 | below(8));
    f.set16(16, static_cast<unsigned>(f.b.size() - 14)), f.set16(20, 0x4000 * below(2)), f.b[23] = static_cast<std::uint8_t>(protocol);
    f.set32(26, 0x0a000000 + below(2)), f.set32(30, 0x08080800 + below(2)), f.set16(l4, 1000 + below(2)), f.set16(l4 + 2, 80);
    if (protocol == 1) f.set16(l4, 0x0800), f.set16(l4 + 4, below(3));
    if (protocol == 17 && below(3) == 0) f.set16(l4 + 6, 0);
    if (below(4) == 0) f.b.resize(f.b.size() + below(20));  // an Ethernet frame is longer than a short packet
    return f;
}
nat_frame arp(std::mt19937& random) {
    nat_frame f{std::vector<std::uint8_t>(42 + random() % 19)};
    for (auto& b : f.b) b = static_cast<std::uint8_t>(random());
    f.set16(12, 0x0806), f.set16(14, 1), f.set16(16, 0x0800), f.set16(18, 0x0604), f.set16(20, 1), f.set32(38, nat_check::address);
    return f;
}
void spoil(nat_frame& f, std::mt19937& random) {
    switch (random() % 3) {
        case 0: f.b.resize(random() % f.b.size()); break;
        case 1: f.b[random() % f.b.size()] = static_cast<std::uint8_t>(random()); break;
        default: f.b[random() % f.b.size()] ^= static_cast<std::uint8_t>(1U << random() % 8);
    }
}

TEST(fuzz, middlebox) {
    std::mt19937 random(40);
    unsigned known = 0;
    for (int round = 0; round < 300; ++round) {
        const auto check = std::make_unique<nat_check>();
        check->pass_time(0);
        for (int i = 0; i < 40; ++i) {
            nat_frame f = random() % 10 == 0 ? arp(random) : frame(random);
            for (auto n = random() % 3; i % 2 != 0 && n != 0; --n)
                if (!f.b.empty()) spoil(f, random);
            if (random() % 50 == 0) check->pass_time(8000);
            known += f.good() ? 1U : 0U;
            ASSERT_EQ(random() % 4 == 0 ? check->from_outside(f) : check->from_inside(f), "") << round << " " << i;
        }
    }
    EXPECT_GT(known, 6'000U);
}

TEST(nat, forgets_the_silent_and_never_has_more_than_its_table) {
    std::mt19937 random(41);
    tool::nat nat(nat_check::address);
    nat_frame syn = frame(random);
    while (syn.protocol() != 6) syn = frame(random);
    nat.at(1'000'000);
    unsigned passed = 0;
    for (unsigned i = 0; i < tool::nat::most; ++i) {  // a scan
        nat_frame f = syn;
        f.set32(26, static_cast<std::uint32_t>(random())), f.set16(f.l4(), i);
        passed += nat.out(f.b) == tool::nat::then::pass ? 1U : 0U;
    }
    EXPECT_EQ(passed, nat.connections());
    EXPECT_GT(passed, tool::nat::most * 9 / 10);
    for (unsigned i = tool::nat::most; i < 0x10000; ++i) {
        nat_frame f = syn;
        f.set32(26, static_cast<std::uint32_t>(random())), f.set16(f.l4(), i);
        passed += nat.out(f.b) == tool::nat::then::pass ? 1U : 0U;
    }
    EXPECT_LE(passed, tool::nat::most);
    EXPECT_EQ(passed, nat.connections());
    nat.at(1'000'000 + tool::nat::unanswered - 1);
    EXPECT_EQ(nat.connections(), passed);
    nat.at(1'000'000 + tool::nat::unanswered);
    EXPECT_EQ(nat.connections(), 0U);
    // One that is answered stays.
    nat_frame f = syn;
    ASSERT_EQ(nat.out(f.b), tool::nat::then::pass);
    nat_frame back = f;
    back.set32(26, f.n32(30)), back.set32(30, f.n32(26)), back.set16(f.l4(), f.n16(f.l4() + 2)), back.set16(f.l4() + 2, f.n16(f.l4()));
    ASSERT_EQ(nat.in(back.b), tool::nat::then::pass);
    nat.at(1'000'000 + tool::nat::unanswered + tool::nat::idle(6) - 1);
    EXPECT_EQ(nat.connections(), 1U);
    nat.at(1'000'000 + tool::nat::unanswered + tool::nat::idle(6));
    EXPECT_EQ(nat.connections(), 0U);
    // Who has its place next begins unanswered.
    nat_frame again = syn;
    ASSERT_EQ(nat.out(again.b), tool::nat::then::pass);
    nat.at(1'000'000 + 2 * tool::nat::unanswered + tool::nat::idle(6));
    EXPECT_EQ(nat.connections(), 0U);
}

// 0 would say that there is no checksum: one sum of 65535 is written as its other zero.
TEST(nat, never_takes_the_checksum_from_udp) {
    tool::nat nat(nat_check::address);
    nat.at(1);
    for (unsigned word = 0; word < 0x10000; ++word) {
        nat_frame f{std::vector<std::uint8_t>(46)};
        f.set16(12, 0x0800), f.set16(14, 0x4500), f.set16(16, 32), f.b[23] = 17, f.set32(26, 0x0a000001), f.set32(30, 0x08080808);
        f.set16(34, 1000), f.set16(36, 53), f.set16(38, 12), f.set16(42, word);
        f.set16(40, 1);  // for wrong() to look
        const unsigned sum = 0xffff - (f.wrong().second + 0xffff - 1) % 0xffff;
        f.set16(40, sum);
        ASSERT_EQ(f.wrong().second, 0U);
        ASSERT_EQ(nat.out(f.b), tool::nat::then::pass);
        ASSERT_EQ(f.wrong().second, 0U);
        ASSERT_NE(f.n16(40), 0U) << word;
    }
    EXPECT_EQ(nat.connections(), 1U);
}

}  // namespace
