// SPDX-License-Identifier: BSD-2-Clause
#include "nm/vale/learning.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
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
        : l(std::make_unique<learning>(nm::vale::learning_options{.stations = room, .hash = nm::vale::keyed_hash::from(1, 2)})) {}

    [[nodiscard]] static mac_address mac(unsigned n) {
        return {2, 0, static_cast<std::uint8_t>(n >> 24), static_cast<std::uint8_t>(n >> 16), static_cast<std::uint8_t>(n >> 8),
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
    int send(port_number port, unsigned from, unsigned to, std::uint16_t flags = 0) { return send(port, mac(from), mac(to), flags); }
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

}  // namespace
