// SPDX-License-Identifier: BSD-2-Clause
// Monitors on kernel interfaces: what the far end of a veth sent and received is what was seen.

#include <atomic>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "nm/fuse.hpp"
#include "nm/ports/monitor.hpp"
#include "nm/ports/netdev.hpp"
#include "nm/wait.hpp"
#include "sys/netns.hpp"

namespace {

using namespace nm;
using namespace nm::test;
using namespace std::chrono_literals;

/// [na] this namespace --- [pa] far
class monitor_scenario : public netns_test, public ::testing::WithParamInterface<netdev_mode> {
protected:
    void SetUp() override {
        netns_test::SetUp();
        if (IsSkipped()) return;
        ASSERT_EQ(run("ip link add na type veth peer name pa"), 0);
        ASSERT_EQ(run("ip link set pa netns " + far.pid()), 0);
        (void)run("sysctl -w net.ipv6.conf.na.disable_ipv6=1");
        (void)far.run("sysctl -w net.ipv6.conf.pa.disable_ipv6=1");
        ASSERT_EQ(far.run("ip link set pa up"), 0);
        ASSERT_EQ(run("ip link set na up"), 0);
        // Room for rings and for a monitor that lives in the same memory.
        region_options r;
        r.bufs = 8192;
        r.meta_bytes = std::size_t{1} << 20;
        memory = value_or_throw(region::create(r));
    }
    netdev open_port() {
        open_options o;
        o.memory = memory;
        o.mode = GetParam();
        o.require_mode = true;
        o.tx_slots = 256;
        auto p = try_open<netdev>(ctx, "netmap:na", o);
        if (!p) throw std::runtime_error(p.error().text);
        return std::move(*p);
    }
    /// Frames from the far end, each with its number; returns when the port could have them all.
    void far_sends(std::uint32_t from, std::uint32_t count) {
        std::vector<std::string> frames;
        for (std::uint32_t i = from; i != from + count; ++i) frames.push_back(numbered(i));
        ASSERT_EQ(far.send("pa", frames), 0);
    }
    static std::string numbered(std::uint32_t i) {
        std::string f("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5", 14);
        f.append(reinterpret_cast<const char*>(&i), sizeof i);
        f.resize(60 + i % 200);
        return f;
    }
    static bool is_numbered(frame& f, std::uint32_t& number) noexcept {
        if (f.size() < 18 || f.data()[12] != 0x88 || f.data()[13] != 0xb5) return false;
        std::memcpy(&number, f.data() + 14, sizeof number);
        return f.size() == 60 + number % 200;
    }
    /// By number; -1 in place of what is none of ours.
    static std::vector<std::int64_t> take(monitor& m, bool sent) {
        std::vector<std::int64_t> v;
        (void)drain(m, 8192, [&](frame& f) noexcept {
            std::uint32_t n = 0;
            const bool good = is_numbered(f, n) && ((f.meta().flags & ns_txmon) != 0) == sent;
            v.push_back(good ? std::int64_t{n} : -1);
        });
        return v;
    }
    static std::vector<std::int64_t> counting(std::uint32_t from, std::uint32_t to) {
        std::vector<std::int64_t> v;
        for (; from != to; ++from) v.push_back(from);
        return v;
    }
    static index_t receive(netdev& p, std::uint32_t count, bool by_hand) {
        index_t got = 0;
        (void)eventually([&] {
            if (by_hand) {
                for (index_t i = 0; i < p.num_rx_rings(); ++i) {
                    auto& rx = p.rx(i);
                    (void)rx.rxsync();
                    got += rx.space();
                    rx.advance(rx.space());
                    (void)rx.rxsync();
                }
            } else {
                got += drain(p, 4096);
            }
            return got >= count;
        });
        return got;
    }

    context ctx;
    region_ptr memory;
    far_side far;
};

TEST_P(monitor_scenario, sees_what_arrives) {
    auto p = open_port();
    auto copy = open<monitor>(ctx, "netmap:na/r@conf:slots=4096");
    auto zero = open<monitor>(ctx, "netmap:na/zr@conf:slots=2048");
    const auto pool = memory->bufs().available();
    for (std::uint32_t round = 0; round < 12; ++round) {
        far_sends(round * 100, 100);
        EXPECT_EQ(receive(p, 100, round % 2 != 0), 100U);
    }
    EXPECT_EQ(take(copy, false), counting(0, 1200));
    EXPECT_EQ(take(zero, false), counting(0, 1200)) << "swapped by hand, copied by loops";
    EXPECT_EQ(copy.rx_stats().dropped() + zero.rx_stats().dropped(), 0U);
    EXPECT_EQ(p.rx_stats().frames, 1200U);
    EXPECT_EQ(memory->bufs().available(), pool);
}

TEST_P(monitor_scenario, sees_what_is_sent) {
    auto p = open_port();
    auto copy = open<monitor>(ctx, "netmap:na/t@conf:slots=4096");
    auto zero = open<monitor>(ctx, "netmap:na/zt@conf:slots=2048");
    const auto before = sys::read_link_counters(p.state().link.index);
    std::uint32_t next = 0;
    while (next < 1000) {
        (void)generate(p.tx(0), 100, [&](frame& f) noexcept {
            const auto bytes = [&] {
                std::uint8_t head[18] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
                std::memcpy(head + 14, &next, sizeof next);
                std::memcpy(f.data(), head, sizeof head);
                return static_cast<std::uint16_t>(60 + next % 200);
            }();
            f.resize(bytes);
            ++next;
        });
        if (p.tx(0).empty()) (void)p.tx(0).txsync();
    }
    EXPECT_TRUE(eventually([&] {
        (void)p.tx(0).txsync();
        return !p.tx(0).pending();
    }));
    EXPECT_EQ(take(copy, true), counting(0, next));
    auto z = take(zero, true);
    // A zero-copy monitor sees a frame when its slot comes back: the last ones still lie there.
    EXPECT_GE(z.size() + 1, next - 1);
    EXPECT_EQ(z, counting(0, static_cast<std::uint32_t>(z.size())));
    const auto after = sys::read_link_counters(p.state().link.index);
    ASSERT_TRUE(before && after);
    EXPECT_EQ(after->tx_packets - before->tx_packets, next) << "and all of it was sent";
    EXPECT_EQ(p.tx_stats().frames, p.tx_stats().dropped() + next);
}

TEST_P(monitor_scenario, gives_every_buffer_back) {
    const auto all = memory->bufs().available();
    {
        auto p = open_port();
        for (int i = 0; i < 4; ++i) {
            auto m = open<monitor>(ctx, "netmap:na/z@conf:slots=512");
            far_sends(0, 50);
            EXPECT_EQ(receive(p, 50, true), 50U);
            for (int k = 0; k < 5; ++k) (void)forward(m, p, 64);  // what was seen goes out where it came from
            (void)p.tx(0).txsync();
        }
    }
    EXPECT_EQ(memory->bufs().available(), all);
    EXPECT_TRUE(untouched("na"));
}

TEST_P(monitor_scenario, slow_ones_cost_the_interface_nothing) {
    auto p = open_port();
    auto slow = open<monitor>(ctx, "netmap:na/r@conf:slots=16");
    std::atomic<bool> stop{false};
    std::thread comes_and_goes([&] {
        while (!stop) {
            auto m = open<monitor>(ctx, "netmap:na/rt");
            (void)drain(m, 64);
        }
    });
    std::uint32_t got = 0;
    for (std::uint32_t round = 0; round < 10; ++round) {
        far_sends(round * 200, 200);
        got += receive(p, 200, round % 2 != 0);
    }
    stop = true;
    comes_and_goes.join();
    EXPECT_EQ(got, 2000U);
    EXPECT_EQ(drain(slow, 100), 15U);
    EXPECT_EQ(slow.rx_stats().frames + slow.rx_stats().dropped(cause::full), 2000U);
    EXPECT_EQ(p.rx_stats().frames, 2000U);
    EXPECT_EQ(p.rx_stats().dropped(), 0U);
}

std::string mode_text(const ::testing::TestParamInfo<netdev_mode>& i) {
    return i.param == netdev_mode::af_packet ? "af_packet" : "af_xdp_copy";
}
INSTANTIATE_TEST_SUITE_P(modes, monitor_scenario, ::testing::Values(netdev_mode::af_packet, netdev_mode::af_xdp_copy), mode_text);

TEST(monitor_whole_interface, and_one_queue_of_it) {
    if (::geteuid() != 0 || ::unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "network namespaces need root";
    ASSERT_EQ(run("ip link add na numrxqueues 2 numtxqueues 2 type veth peer name pa numrxqueues 2 numtxqueues 2"), 0);
    ASSERT_EQ(run("ip link set na up; ip link set pa up"), 0);
    context ctx;
    auto refused = try_open<monitor>(ctx, "netmap:na-1/r");
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("na-1 is not open in this program"), std::string::npos);
    auto one = try_open<netdev>(ctx, "netmap:na-1");
    ASSERT_TRUE(one) << one.error().text;
    EXPECT_FALSE(try_open<monitor>(ctx, "netmap:na/r")) << "only a queue of it is open";
    auto m = try_open<monitor>(ctx, "netmap:na-1/r");
    ASSERT_TRUE(m) << m.error().text;
    EXPECT_EQ(m->num_rx_rings(), 1U);
    EXPECT_EQ(m->name(), "na-1/r");
}

}  // namespace
