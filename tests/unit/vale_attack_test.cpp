// SPDX-License-Identifier: BSD-2-Clause
// What somebody who means ill, or who is unlucky, may do to a switch.
#include "nm/vale/switch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "nm/nm.hpp"

namespace {

using nm::cause;
using nm::index_t;
using nm::vale::destination;
using nm::vale::packet;
using nm::vale::vale_switch;

/// The first byte says where to, whatever it is; 255 with a second byte of 1 is for all.
struct by_byte {
    destination operator()(const packet& p) const noexcept {
        if (p.data[0] == 255 && p.data[1] == 1) return destination::to_all();
        if (p.data[1] == 2) return destination::to(p.data[0], p.data[2]);
        return destination::to(p.data[0]);
    }
};

template <class L>
void expect_conserved(vale_switch<L>& sw) {
    const auto s = sw.stats();
    EXPECT_TRUE(s.conserved()) << s.accepted << " + " << s.replicas << " != " << s.delivered << " + " << s.dropped();
}

struct order {
    std::uint8_t to, how;
    std::uint8_t ring = 0;
};
constexpr order all{255, 1};

/// One batch; each frame's number is its place in it, plus `number`.
template <class P>
void send(P& from, const std::vector<order>& frames, std::uint32_t number = 0, index_t ring = 0) {
    std::size_t k = 0;
    nm::generate(from.tx(ring), static_cast<index_t>(frames.size()), [&](nm::frame& f) noexcept {
        std::memset(f.data(), 0, 64);
        f.data()[0] = frames[k].to;
        f.data()[1] = frames[k].how;
        f.data()[2] = frames[k].ring;
        std::memcpy(f.data() + 16, &number, 4);
        ++number;
        ++k;
        f.resize(60);
    });
}
using numbers = std::vector<std::uint32_t>;
template <class P>
numbers receive(P& p, index_t ring = 0) {
    numbers got;
    nm::drain(p.rx(ring), 20000, [&](nm::frame& f) noexcept {
        std::uint32_t n = 0;
        std::memcpy(&n, f.data() + 16, 4);
        got.push_back(n);
    });
    return got;
}

TEST(ValeAttack, DetachWakesWhoSleeps) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a");
    std::atomic<bool> sleeps{false};
    nm::events found{};
    std::chrono::steady_clock::duration slept{};
    std::thread reader([&] {
        sleeps = true;
        const auto start = std::chrono::steady_clock::now();
        found = nm::wait(a, nm::events::rx, std::chrono::seconds(15));
        slept = std::chrono::steady_clock::now() - start;
    });
    while (!sleeps || a.state().links[0].rx_sleeps.state != nm::sleep_word::asleep) std::this_thread::yield();
    ASSERT_TRUE(sw.detach("a"));
    reader.join();
    EXPECT_EQ(found, nm::events::error);
    EXPECT_LT(slept, std::chrono::seconds(10)) << "woken, not timed out";
}

// 254 and 255 are no ports.
TEST(ValeAttack, ALookupThatNamesNoPort) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    for (unsigned to = 0; to < 256; ++to) send(a, {{static_cast<std::uint8_t>(to), 0}}, to);
    const auto got = receive(b);
    EXPECT_EQ(got.size(), 1U + 252U) << "its own, and what goes to nobody who is there; not 0, 254 and 255";
    EXPECT_EQ(a.tx_stats().dropped(cause::no_dst), 3U);
    expect_conserved(sw);
}

// What comes by one ring and goes to one ring stays in order, by whatever ring numbers that one was named.
TEST(ValeAttack, FewerRingsThanWereNamedKeepTheOrder) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options four, two;
    four.tx_rings = 4;
    two.tx_rings = 2;
    auto a = sw.new_port("a", four), b = sw.new_port("b"), c = sw.new_port("c", two);
    send(a, {{1, 0}, all, {1, 0}, {2, 0}, all, {2, 0}}, 0, 3);
    EXPECT_EQ(receive(b), (numbers{0, 1, 2, 4}));
    EXPECT_EQ(receive(c, 0), (numbers{1, 4}));
    EXPECT_EQ(receive(c, 1), (numbers{3, 5}));
    send(a, {{1, 0}, all, {1, 0}, {2, 0}, all, {2, 0}}, 0, 2);
    EXPECT_EQ(receive(c, 0), (numbers{1, 3, 4, 5}));
    receive(b);
    send(a, {{2, 2, 0}, {2, 2, 2}, {2, 2, 1}, {2, 2, 15}, {2, 2, 0}, {2, 2, 3}});
    EXPECT_EQ(receive(c, 0), (numbers{0, 1, 4}));
    EXPECT_EQ(receive(c, 1), (numbers{2, 3, 5}));
    expect_conserved(sw);
}

// Who floods without a pause gets what the budget says, not nothing.
TEST(ValeAttack, AStormEarnsItsBudgetInSmallPieces) {
    nm::vale::source s;
    s.storm = {100'000, 1'000'000};
    s.storm_left = 0;
    const std::uint64_t start = s.storm_seen_ns = nm::system_clock::now_ns();
    std::uint64_t copies = 0, now = start;
    while (now < start + 30'000'000) {
        for (int i = 0; i < 100; ++i) copies += s.may_flood(5) ? 5U : 0U;
        now = nm::system_clock::now_ns();
    }
    EXPECT_LE(copies, (now - start) / 10'000);
    EXPECT_GE(copies + s.storm_left + 10, (s.storm_seen_ns - start) / 10'000) << "nothing is lost to rounding";
    EXPECT_GE(s.storm_seen_ns + 1'000'000, start + 30'000'000);
}
TEST(ValeAttack, StormBudgetsAtTheirLimits) {
    for (const std::uint64_t rate : {std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{1} << 62U, ~std::uint64_t{0}}) {
        nm::vale::source s;
        s.storm = {rate, std::max<std::uint64_t>(rate / 2, 1000)};
        s.storm_left = s.storm.burst;
        for (const std::uint64_t seen : {std::uint64_t{0}, nm::system_clock::now_ns()}) {
            s.storm_seen_ns = seen;
            while (s.storm_left > 1000) s.storm_left /= 2;
            for (int i = 0; i < 2000; ++i) {
                (void)s.may_flood(253);
                EXPECT_LE(s.storm_left, s.storm.burst);
            }
        }
        EXPECT_TRUE(s.may_flood(4));
    }
}

TEST(ValeAttack, ADetachedPortsNameIsFree) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a");
    auto old = nm::open<nm::vale_port>(ctx, "vale0:b");
    ASSERT_TRUE(sw.detach("b"));
    auto b = nm::open<nm::vale_port>(ctx, "vale0:b");
    EXPECT_TRUE(b.status()) << "a new port, not the one that is off the switch";
    EXPECT_FALSE(old.status());
    send(a, {{1, 0}}, 5);
    EXPECT_EQ(receive(b), numbers{5});
    old.close();
    auto again = nm::open<nm::vale_port>(ctx, "vale0:b");
    EXPECT_EQ(&again.state(), &b.state());
    expect_conserved(sw);
}

TEST(ValeAttack, AMemberThatOnlyReceives) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto outside = nm::open<nm::pipe>(ctx, "netmap:p{1");
    auto member = sw.attach(nm::open<nm::pipe>(ctx, "netmap:p}1/R"), "only");
    auto b = sw.new_port("b");
    send(b, {all, {0, 0}});
    member.arm();
    EXPECT_FALSE(member.wait(std::chrono::milliseconds(1))) << "nothing that it could do";
    send(outside, {{1, 0}}, 3);
    EXPECT_TRUE(member.wait(std::chrono::seconds(5)));
    EXPECT_EQ(member.poll(), 1U);
    EXPECT_EQ(receive(b), numbers{3});
    expect_conserved(sw);
}

TEST(ValeAttack, AHandleForOneRingCountsThatRingsDrops) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options o;
    o.tx_rings = 2;
    o.rx_slots = 4;
    auto a = sw.new_port("a"), b = sw.new_port("b", o);
    auto zero = nm::open<nm::vale_port>(ctx, "vale0:b-0"), one = nm::open<nm::vale_port>(ctx, "vale0:b-1");
    send(a, {{1, 2, 0}, {1, 2, 0}, {1, 2, 0}, {1, 2, 0}, {1, 2, 1}, {1, 2, 1}, {1, 2, 1}, {1, 2, 1}, {1, 2, 1}});
    EXPECT_EQ(zero.rx_stats().dropped(), 1U);
    EXPECT_EQ(one.rx_stats().dropped(), 2U);
    EXPECT_EQ(b.rx_stats().dropped(), 3U);
    expect_conserved(sw);
}

}  // namespace
