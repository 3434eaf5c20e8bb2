// SPDX-License-Identifier: BSD-2-Clause
#include "nm/ports/vmxnet3.hpp"

#include "nm/ports/nic.hpp"
#include "vm/nic_fixture.hpp"

// What vmxnet3 has beside what every device has (nic_test.cpp).
namespace {

using namespace nm;
using namespace nm::test;
using port = nic<vmxnet3>;

/// A device without messages.
class intx_bus;
struct intx_bar : mmio_bar {
    using bus = intx_bus;
    intx_bar() = default;
    explicit intx_bar(const mmio_bar& b) noexcept : mmio_bar(b) {}
};
class intx_bus : public vfio_bus {
public:
    using bar_type = intx_bar;
    [[nodiscard]] static result<intx_bus> open(const std::string& address, const sys::vfio_options& o) {
        auto b = vfio_bus::open(address, o);
        if (!b) return forward_error(b);
        return intx_bus(std::move(*b));
    }
    [[nodiscard]] result<intx_bar> bar(unsigned i) {
        auto b = vfio_bus::bar(i);
        if (!b) return forward_error(b);
        return intx_bar(*b);
    }
    [[nodiscard]] unsigned irq_count(sys::irq_kind k) const noexcept { return k == sys::irq_kind::intx ? vfio_bus::irq_count(k) : 0; }

private:
    explicit intx_bus(vfio_bus b) noexcept : vfio_bus(std::move(b)) {}
};
static_assert(nic_device<vmxnet3, intx_bus>);

struct Vmxnet3 : Nic<port> {
    /// Of `count` frames to 02:6e:6d:00:00:02, how many arrive.
    static std::uint64_t arrive(port& from, port& to, std::uint32_t count) {
        receiver got;
        const auto take = [&] {
            (void)to.rx().rxsync();
            (void)got.take(to.rx());
        };
        for (std::uint32_t i = 0; i < count; ++i) {
            EXPECT_TRUE(queue_frame(from.tx(), 0, i, 100));
            (void)from.tx().txsync();
            take();
        }
        for (int i = 0; i < 20; ++i) (void)::usleep(2000), take();
        return got.frames;
    }
};

TEST_F(Vmxnet3, carries_jumbo_frames) {
    open_options o;
    o.mtu = 9000;
    auto [a, b] = both(o);
    const auto size = [](std::uint32_t seq) { return seq % 4 == 0 ? 60 + seq % 100 : 60 + seq * 7919 % (9018 - 59); };
    carries(a, b, 5000, 32, idle::spin, size);
    carries(a, b, 500, 8, idle::sleep, size);
    EXPECT_GT(b.rx_stats().slots, b.rx_stats().frames * 2);
    expect_conserved(a, b, 5500);
}

TEST_F(Vmxnet3, sends_on_several_rings) {
    open_options o;
    o.tx_rings = o.rx_rings = 8;
    auto [a, b] = both(o);
    ASSERT_EQ(a.num_tx_rings(), 8U);
    carries(a, b, 8000);
    carries(a, b, 800, 16, idle::sleep);
    expect_conserved(a, b, 8800);
}

TEST_F(Vmxnet3, counts_what_it_sent_and_received) {
    auto a = opened(a_name);
    auto b = opened(b_name);
    carries(a, b, 300);
    EXPECT_EQ(a.device_counters().tx_frames, 300U);
    EXPECT_EQ(a.device_counters().tx_bytes, a.tx_stats().bytes);
    EXPECT_EQ(b.device_counters().rx_frames, 300U);
    EXPECT_EQ(b.device_counters().rx_bytes, b.rx_stats().bytes);
    // Nobody reads: what finds no buffer is counted.
    for (std::uint32_t i = 0; i < 3000; ++i) {
        while (!queue_frame(a.tx(), 1, i, 100)) (void)a.tx().txsync();
        (void)a.tx().txsync();
    }
    (void)::usleep(20'000);
    EXPECT_EQ(b.device_counters().rx_missed, 3300 - b.device_counters().rx_frames);
    EXPECT_GE(b.device_counters().rx_missed, 1900U);
    EXPECT_EQ(b.rx_stats().dropped(cause::full), b.device_counters().rx_missed);
}

TEST_F(Vmxnet3, listens_only_to_its_own_address_when_told_so) {
    auto a = opened(a_name);
    auto b = opened(b_name);
    EXPECT_EQ(b.mac(), (mac_address{2, 0, 0, 0, 0, 0x0b}));
    EXPECT_EQ(arrive(a, b, 10), 10U);
    b.set_promiscuous(false);
    EXPECT_EQ(arrive(a, b, 10), 0U);
    ASSERT_TRUE(b.set_mac({2, 0x6e, 0x6d, 0, 0, 2}));
    EXPECT_EQ(arrive(a, b, 10), 10U);
    ASSERT_TRUE(b.set_mac({2, 0, 0, 0, 0, 0x0b}));
    EXPECT_EQ(arrive(a, b, 10), 0U);
    b.set_promiscuous(true);
    EXPECT_EQ(arrive(a, b, 10), 10U);
}

TEST_F(Vmxnet3, sleeps_with_the_old_interrupt) {
    using old = nic<vmxnet3, intx_bar>;
    if (a_name.empty()) GTEST_SKIP();
    for (int i = 0; i < 3; ++i) {
        auto a = nm::open<old>(ctx, a_name);
        auto b = nm::open<old>(ctx, b_name);
        ASSERT_TRUE(a.status() && b.status());
        one_way<old, old> there{a, b}, back{b, a};
        for (auto* w : {&there, &back}) w->frames = 1000, w->window = 16;
        const auto r = exchange(there, back, idle::sleep);
        EXPECT_TRUE(r.finished && there.got.clean() && back.got.clean()) << there.got << "; " << back.got;
        EXPECT_EQ(r.overslept, 0U) << "of " << r.sleeps << " sleeps";
        const epoll b_wakes{b.fd()};
        receiver b_got;
        for (std::uint32_t n = 0; n < 100; ++n) {
            ASSERT_TRUE(queue_frame(a.tx(), 2, n, 100));
            // What came while nobody slept may wake once more.
            for (int tries = 0; tries < 2; ++tries) {
                (void)b.rx().rxsync();
                (void)b_got.take(b.rx());
                b.arm(events::rx);
                if (!b_wakes.wait(0)) break;
            }
            (void)a.tx().txsync();
            ASSERT_TRUE(b_wakes.wait(2000)) << "frame " << n << " woke nobody";
            (void)b.rx().rxsync();
            (void)b_got.take(b.rx());
            ASSERT_EQ(b_got.frames, n + 1);
        }
    }
}

}  // namespace
