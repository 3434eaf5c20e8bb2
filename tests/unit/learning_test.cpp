// SPDX-License-Identifier: BSD-2-Clause
#include "nm/vale/learning.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <vector>

namespace {

using namespace std::chrono_literals;
using nm::cause;
using nm::vale::destination;
using nm::vale::mac_address;
using nm::vale::packet;
using nm::vale::port_number;

struct stepped_clock {
    static inline std::atomic<std::uint64_t> ns{1'000'000'000};
    [[nodiscard]] static std::uint64_t now_ns() noexcept { return ns; }
    static void pass(std::chrono::nanoseconds t) { ns += static_cast<std::uint64_t>(t.count()); }
};
using learning = nm::vale::basic_learning<stepped_clock>;
constexpr mac_address broadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr mac_address zero{};
constexpr int flooded = -1, dropped = -2;

/// Stations are numbers here, ports have one ring each, a batch is one frame.
class bench {
public:
    explicit bench(std::size_t room = 1'000)
        : l(std::make_unique<learning>(
              nm::vale::learning_options{.stations = room, .hash = nm::vale::keyed_hash::from(1, 2)})) {}

    [[nodiscard]] static mac_address mac(unsigned n) {
        return {2,
                0,
                static_cast<std::uint8_t>(n >> 24),
                static_cast<std::uint8_t>(n >> 16),
                static_cast<std::uint8_t>(n >> 8),
                static_cast<std::uint8_t>(n)};
    }
    int send(port_number port, const mac_address& from, const mac_address& to, std::uint16_t flags = 0) {
        std::array<std::uint8_t, 14> frame{};
        std::copy(to.begin(), to.end(), frame.begin());
        std::copy(from.begin(), from.end(), frame.begin() + 6);
        l->begin(lanes[port]);
        const destination d = (*l)(packet{frame.data(), 14, flags, port, 0}, lanes[port]);
        return d.one() ? d.port() : d.flood() ? flooded : dropped;
    }
    int send(port_number port, unsigned from, unsigned to, std::uint16_t flags = 0) {
        return send(port, mac(from), mac(to), flags);
    }
    int hello(port_number port, unsigned from) { return send(port, mac(from), broadcast); }
    [[nodiscard]] int where(unsigned n) const {
        const auto p = l->where(mac(n));
        return p ? *p : flooded;
    }
    /// The clock is read in one of 16 batches.
    void pass(std::chrono::nanoseconds t) {
        stepped_clock::pass(t);
        for (unsigned i = 0; i < learning::batches_per_clock; ++i) l->begin(lanes[200]);
    }
    std::unique_ptr<learning> l;
    std::array<learning::lane, 254> lanes{};
};

TEST(learning, a_station_is_found_where_it_sent_from) {
    bench b;
    EXPECT_EQ(b.send(1, 10, 20), flooded);
    EXPECT_EQ(b.send(2, 20, 10), 1);
    EXPECT_EQ(b.send(1, 10, 20), 2);
    EXPECT_EQ(b.send(1, 10, 20), 2);
    EXPECT_EQ(b.send(1, 10, 30), flooded);
    EXPECT_EQ(b.send(1, bench::mac(10), broadcast), flooded);
    EXPECT_EQ(b.send(1, bench::mac(10), {1, 0, 0x5e, 0, 0, 1}), flooded);
    EXPECT_EQ(b.send(1, 10, 10), 1) << "its own port; the switch drops that";
    EXPECT_EQ(b.l->stats().learnt, 2U);
    EXPECT_EQ(b.l->stations(1), 1U);
    const auto all = b.l->stations();
    ASSERT_EQ(all.size(), 2U);
    EXPECT_EQ(all[0].port + all[1].port, 3);
    EXPECT_FALSE(all[0].is_static);
}

TEST(learning, what_cannot_be_a_source_is_not_learnt) {
    bench b;
    EXPECT_EQ(b.send(1, zero, broadcast), flooded);
    EXPECT_EQ(b.send(0, zero, zero), flooded) << "zero is nobody's address";
    EXPECT_EQ(b.send(1, {1, 2, 3, 4, 5, 6}, zero), flooded);
    EXPECT_EQ(b.send(1, broadcast, broadcast), flooded);
    EXPECT_EQ(b.send(1, bench::mac(1), broadcast, nm::ns_no_learn), flooded);
    EXPECT_EQ(b.where(1), flooded);
    EXPECT_TRUE(b.l->stations().empty());
    EXPECT_EQ(b.hello(1, 1), flooded) << "learnt with the next frame that may be";
    EXPECT_EQ(b.where(1), 1);
}

TEST(learning, a_moved_station_is_learnt_with_its_first_frame_also_when_it_moves_back) {
    bench b;
    b.hello(1, 10);
    EXPECT_EQ(b.send(3, 30, 10), 1);
    b.hello(2, 10);
    EXPECT_EQ(b.send(3, 30, 10), 2) << "port 3 had remembered port 1";
    b.hello(1, 10);
    EXPECT_EQ(b.send(3, 30, 10), 1) << "port 1 had remembered that 10 was known there";
    EXPECT_EQ(b.send(2, 10, 10), 2) << "and within one frame";
    EXPECT_EQ(b.l->stats().moved, 3U);
    EXPECT_EQ(b.l->stations(1), 0U);
    EXPECT_EQ(b.l->stations(2), 1U);
}

TEST(learning, a_frame_can_move_the_very_station_that_the_next_one_is_for) {
    bench b;
    b.hello(2, 10);
    auto& lane = b.lanes[1];
    b.l->begin(lane);  // one batch
    const auto frame = [&](unsigned from, unsigned to) {
        std::array<std::uint8_t, 14> f{};
        std::ranges::copy(bench::mac(to), f.begin());
        std::ranges::copy(bench::mac(from), f.begin() + 6);
        return (*b.l)(packet{f.data(), 14, 0, 1, 0}, lane).port();
    };
    EXPECT_EQ(frame(11, 10), 2);
    EXPECT_EQ(frame(10, 11), 1);
    EXPECT_EQ(frame(11, 10), 1);
}

TEST(learning, a_silent_station_is_forgotten_and_one_that_is_heard_is_not) {
    bench b;
    b.hello(1, 10);
    b.hello(2, 20);
    EXPECT_EQ(b.send(3, 30, 10), 1);
    for (int s = 0; s < 290; s += 10) {
        b.pass(10s);
        EXPECT_EQ(b.send(3, 30, 10), 1) << s;
        b.hello(2, 20);
    }
    b.pass(25s);
    EXPECT_EQ(b.send(3, 30, 10), flooded) << "port 3 remembered it, the table has it still";
    EXPECT_EQ(b.send(3, 30, 20), 2);
    EXPECT_EQ(b.where(10), flooded);
    EXPECT_EQ(b.l->stations().size(), 2U);
    b.pass(300s);
    b.pass(300s);
    EXPECT_EQ(b.l->stations(1) + b.l->stations(2) + b.l->stations(3), 0U) << "swept";
    EXPECT_EQ(b.l->stats().expired, 3U);
}

TEST(learning, no_silence_makes_an_old_station_look_young) {
    // The tick has eight bits. 256 ticks are 1200 s.
    for (const auto silence : {301s, 320s, 600s, 900s, 1200s, 1205s, 1500s, 2400s, 36'000s, 120'000s}) {
        for (const auto step : {silence, std::chrono::seconds(5), std::chrono::seconds(97)}) {
            bench b;
            b.hello(1, 10);
            b.l->add_static(bench::mac(20), 2);
            for (auto t = 0s; t < silence; t += step) {
                b.pass(step);
                if (t + step > 310s) {
                    ASSERT_EQ(b.send(3, 30, 10), flooded) << t.count();
                    ASSERT_EQ(b.where(10), flooded) << t.count();
                }
            }
            b.pass(5s);
            ASSERT_EQ(b.send(3, 30, 10), flooded) << silence.count() << " in steps of " << step.count();
            ASSERT_EQ(b.send(3, 30, 20), 2);
        }
    }
}

TEST(learning, ageing_can_be_set_and_switched_off) {
    bench b;
    b.hello(1, 10);
    b.l->ageing(10s);
    b.pass(9s);
    EXPECT_EQ(b.where(10), 1);
    b.pass(2s);
    EXPECT_EQ(b.where(10), flooded);
    b.hello(1, 10);
    b.l->ageing(0s);
    b.pass(1'000'000s);
    EXPECT_EQ(b.where(10), 1);
    EXPECT_EQ(b.l->stations().at(0).age, 0s);
}

TEST(learning, a_static_station_is_nowhere_else) {
    bench b;
    EXPECT_TRUE(b.l->add_static(bench::mac(10), 1));
    EXPECT_FALSE(b.l->add_static(broadcast, 1));
    EXPECT_FALSE(b.l->add_static(zero, 1));
    EXPECT_EQ(b.send(2, 20, 10), 1);
    EXPECT_EQ(b.hello(2, 10), dropped);
    EXPECT_EQ(b.hello(2, 10), dropped);
    EXPECT_EQ(b.send(2, 20, 10), 1);
    EXPECT_EQ(b.hello(1, 10), flooded);
    EXPECT_EQ(b.l->stats().refused, 2U);
    b.pass(10'000s);
    EXPECT_EQ(b.send(2, 20, 10), 1);
    EXPECT_TRUE(b.l->stations().at(0).is_static || b.l->stations().at(1).is_static);
    EXPECT_TRUE(b.l->add_static(bench::mac(10), 3)) << "by hand it moves";
    EXPECT_EQ(b.send(2, 20, 10), 3);
    EXPECT_EQ(b.l->stations(1), 0U);
    EXPECT_TRUE(b.l->remove(bench::mac(10)));
    EXPECT_FALSE(b.l->remove(bench::mac(10)));
    EXPECT_EQ(b.send(2, 20, 10), flooded);
}

TEST(learning, a_secured_port_has_its_first_station_only) {
    bench b;
    b.hello(1, 10);
    b.hello(1, 11);
    b.hello(2, 20);
    b.l->secure(1);
    EXPECT_TRUE(b.l->is_secured(1));
    EXPECT_EQ(b.hello(1, 20), dropped) << "in use at port 2";
    for (const auto& nobody : {zero, broadcast, mac_address{1, 0, 0, 0, 0, 0}})
        EXPECT_EQ(b.send(1, nobody, broadcast), dropped);
    EXPECT_EQ(b.send(1, bench::mac(11), broadcast, nm::ns_no_learn), dropped);
    EXPECT_EQ(b.hello(1, 11), flooded) << "the first since";
    EXPECT_EQ(b.hello(1, 10), dropped);
    EXPECT_EQ(b.hello(1, 10), dropped);
    EXPECT_EQ(b.hello(1, 11), flooded);
    EXPECT_EQ(b.hello(2, 11), dropped) << "and its address is nobody else's";
    EXPECT_EQ(b.send(2, 20, 11), 1);
    EXPECT_EQ(b.send(2, 20, 10), flooded);
    EXPECT_EQ(b.hello(2, 10), flooded);
    b.pass(10'000s);
    EXPECT_EQ(b.hello(1, 10), dropped);
    EXPECT_TRUE(b.l->add_static(bench::mac(12), 1));
    EXPECT_EQ(b.hello(1, 12), flooded) << "by hand there may be more";
    b.pass(10'000s);
    EXPECT_EQ(b.hello(1, 12), flooded);
    EXPECT_EQ(b.hello(1, 10), dropped);
    b.l->unsecure(1);
    EXPECT_EQ(b.hello(1, 10), flooded);
    EXPECT_EQ(b.hello(2, 11), flooded);
    EXPECT_TRUE(b.l->secure(3, bench::mac(30)));
    EXPECT_FALSE(b.l->secure(4, broadcast));
    EXPECT_EQ(b.hello(3, 31), dropped);
    EXPECT_EQ(b.hello(3, 30), flooded);
    EXPECT_EQ(b.hello(4, 30), dropped);
    b.l->detached(3);
    EXPECT_FALSE(b.l->is_secured(3));
    EXPECT_EQ(b.hello(4, 30), flooded) << "a port that is gone has no rights";
}

TEST(learning, a_port_has_no_more_stations_than_it_may) {
    bench b(100'000);
    b.l->limit(1, 3);
    for (unsigned n = 0; n < 10; ++n) EXPECT_EQ(b.hello(1, n), flooded);
    EXPECT_EQ(b.l->stations(1), 3U);
    EXPECT_EQ(b.l->stations().size(), 3U);
    EXPECT_EQ(b.l->stats().refused, 7U);
    b.hello(2, 100);
    EXPECT_EQ(b.where(100), 2);
    b.hello(1, 100);
    EXPECT_EQ(b.where(100), flooded) << "not where it was, not where it may not be";
    EXPECT_EQ(b.l->stations(2), 0U);
    b.hello(2, 100);
    b.hello(2, 0);
    b.hello(1, 50);
    EXPECT_EQ(b.where(50), 1) << "one has left";
    b.l->detached(1);
    EXPECT_EQ(b.l->stations(1), 0U);
    for (unsigned n = 10; n < 20; ++n) b.hello(1, n);
    EXPECT_EQ(b.l->stations(1), 10U) << "the next port of this number starts anew";
}

TEST(learning, what_was_at_a_port_that_is_gone_goes_to_all) {
    bench b;
    b.hello(1, 10);
    b.hello(2, 20);
    b.l->add_static(bench::mac(11), 1);
    EXPECT_EQ(b.send(2, 20, 10), 1);
    b.l->detached(1);
    EXPECT_EQ(b.send(2, 20, 10), flooded);
    EXPECT_EQ(b.send(2, 20, 11), flooded);
    EXPECT_EQ(b.l->stations().size(), 1U);
    EXPECT_EQ(b.send(1, 10, 20), 2) << "the next one at the same place";
    EXPECT_EQ(b.send(2, 20, 10), 1);
}

/// Addresses that share a set under the key (a, b) in a table of `sets` sets.
std::vector<mac_address> colliding(nm::vale::keyed_hash hash, std::size_t sets, std::size_t n) {
    std::vector<mac_address> all;
    for (std::uint64_t w = 2; all.size() < n; w += 0x1'0000'0100)
        if ((hash(w & 0xfffffffffffeU) & (sets - 1)) == 0) all.push_back(nm::vale::to_mac(w & 0xfffffffffffeU));
    return all;
}

TEST(learning, in_a_full_set_nobody_loses_what_others_send) {
    const auto hash = nm::vale::keyed_hash::from(7, 9);
    bench b;
    b.l = std::make_unique<learning>(nm::vale::learning_options{.stations = 1'000, .hash = hash});
    const std::size_t sets = b.l->capacity() / 8;
    const auto a = colliding(hash, sets, 100);
    const auto at = [&](std::size_t i) {
        const auto p = b.l->where(a[i]);
        return p ? *p : flooded;
    };
    b.send(2, a[0], broadcast);
    b.send(3, a[1], broadcast);
    for (std::size_t i = 10; i < 100; ++i) b.send(1, a[i], broadcast);
    EXPECT_EQ(at(0), 2);
    EXPECT_EQ(at(1), 3);
    EXPECT_EQ(b.l->stations(1), 6U);
    EXPECT_EQ(b.l->stats().evicted, 84U) << "each newcomer took a place of its own port";
    EXPECT_EQ(at(99), 1) << "the last of them is there";
    // A port that has none there takes a place from who has most, until it has as many.
    for (std::size_t i = 2; i < 10; ++i) b.send(4, a[i], broadcast);
    EXPECT_EQ(b.l->stations(4), 3U);
    EXPECT_EQ(b.l->stations(1), 3U);
    EXPECT_EQ(at(0), 2);
    // Eight ports with one station each: the ninth is not learnt, and floods.
    for (port_number p = 11; p < 30; ++p) b.send(p, a[40U + p], broadcast);
    for (port_number p = 2; p < 4; ++p) EXPECT_EQ(b.l->stations(p), 1U);
    const auto refused = b.l->stats().refused;
    EXPECT_GT(refused, 10U);
    for (int i = 0; i < 10; ++i) b.send(29, a[69], broadcast);
    EXPECT_EQ(at(69), flooded);
    EXPECT_EQ(b.l->stats().refused, refused) << "tried once per tick, not with each frame";
    // Expired ones go first.
    b.pass(200s);
    b.send(2, a[0], broadcast);
    b.pass(150s);
    b.send(29, a[69], broadcast);
    EXPECT_EQ(at(69), 29);
    EXPECT_EQ(at(0), 2);
    // Static ones take any place but another static one's.
    for (std::size_t i = 0; i < 8; ++i) EXPECT_TRUE(b.l->add_static(a[80 + i], 5));
    EXPECT_FALSE(b.l->add_static(a[90], 5));
    EXPECT_EQ(at(0), flooded);
    b.send(2, a[0], broadcast);
    EXPECT_EQ(at(0), flooded);
    EXPECT_EQ(b.l->stations(5), 8U);
    EXPECT_EQ(b.l->stations().size(), 8U);
}

TEST(learning, who_knows_the_hash_but_not_the_key_cannot_fill_a_set) {
    const auto known = nm::vale::keyed_hash::from(0x0123456789abcdefU, 0xfedcba9876543210U);
    const auto remembered = [](std::optional<nm::vale::keyed_hash> hash, const std::vector<mac_address>& a) {
        bench b;
        b.l = std::make_unique<learning>(nm::vale::learning_options{.stations = 10'000, .hash = hash});
        for (const auto& m : a) b.send(1, m, broadcast);
        return b.l->stations().size();
    };
    const std::size_t sets = learning(nm::vale::learning_options{.stations = 10'000}).capacity() / 8;
    const auto a = colliding(known, sets, 1'000);
    EXPECT_EQ(remembered(known, a), 8U);
    for (int i = 0; i < 50; ++i) EXPECT_GT(remembered({}, a), 990U);
    // Nor do addresses in a row, or with a step of a power of two, as cards and hypervisors have them.
    for (unsigned shift = 0; shift < 40; shift += 3) {
        std::vector<mac_address> row;
        for (std::uint64_t i = 0; i < 1'000; ++i) row.push_back(nm::vale::to_mac((i << shift & 0xfffffffffffeU) | 2));
        std::sort(row.begin(), row.end());
        row.erase(std::unique(row.begin(), row.end()), row.end());
        EXPECT_GT(remembered({}, row), row.size() * 99 / 100) << shift;
    }
}

TEST(learning, a_table_without_memory_floods) {
    bench b(std::size_t{1} << 60);
    EXPECT_EQ(b.l->capacity(), 0U);
    EXPECT_EQ(b.hello(1, 10), flooded);
    EXPECT_EQ(b.send(2, 20, 10), flooded);
    EXPECT_FALSE(b.l->add_static(bench::mac(10), 1));
    b.l->detached(1);
    b.pass(1'000s);
    EXPECT_EQ(b.l->stats().refused, 2U);
    EXPECT_TRUE(b.l->stations().empty());
}

}  // namespace
