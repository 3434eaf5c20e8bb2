// SPDX-License-Identifier: BSD-2-Clause
#include "nm/nm.hpp"
#include "vm/nic_fixture.hpp"

// One region for two NICs that this program drives and an interface that the kernel does: mapped for two devices' DMA and
// registered as AF_XDP's UMEM at once. NM_A and NM_B are NICs wired to each other, NM_C the interface, NM_D the NIC at its other
// end.
namespace nm::test {
namespace {

using e1000_port = nic<e1000>;

TEST(Share, a_frame_crosses_two_nics_and_an_interface_in_one_memory) {
    if (env("NM_C").empty()) GTEST_SKIP() << "NM_C does not say which interface to use";
    context ctx;
    open_options any;
    any.mem_id = 1;
    auto a = nm::open<e1000_port>(ctx, env("NM_A"), any);
    auto b = nm::open<e1000_port>(ctx, env("NM_B"), any);
    auto c = nm::open<netdev>(ctx, env("NM_C"), any);
    auto d = nm::open<e1000_port>(ctx, env("NM_D"), any);
    ASSERT_EQ(a.region().base(), b.region().base());
    ASSERT_EQ(a.region().base(), c.region().base());
    ASSERT_EQ(a.region().base(), d.region().base());
    EXPECT_EQ(c.mode(), env("NM_MODE_C"));
    std::printf("the interface is driven by %s\n", c.mode().c_str());

    struct relayed {
        one_way<e1000_port, e1000_port> way;
        e1000_port& near;
        netdev& far;
        bool forth;
        [[nodiscard]] bool done() const noexcept { return way.done(); }
        std::uint64_t step() {
            const std::uint64_t moved = way.step() + (forth ? nm::forward(near, far, 64) : nm::forward(far, near, 64));
            if (moved == 0) (void)far.tx(0).txsync();  // what the kernel had no room for before
            return moved;
        }
        e1000_port& to;
    };
    relayed there{{a, d}, b, c, true, d}, back{{d, a}, b, c, false, a};
    for (auto* r : {&there, &back}) r->way.frames = 1;
    ASSERT_TRUE(exchange(there, back).finished) << "no frame arrives";
    for (auto* r : {&there, &back}) {
        r->way.frames = 5000;
        r->way.streams_from(1);
        r->way.sent = r->way.next_seq[0] = 0;
        r->way.got.frames = 0;
    }
    EXPECT_TRUE(exchange(there, back).finished) << there.way.got << "; " << back.way.got;
    EXPECT_TRUE(there.way.got.clean()) << there.way.got;
    EXPECT_TRUE(back.way.got.clean()) << back.way.got;
    for (const auto* p : {&a, &b, &d}) EXPECT_EQ(const_cast<e1000_port*>(p)->tx_stats().dropped(), 0U);
    EXPECT_EQ(b.rx_stats().frames, c.tx_stats().frames);
    EXPECT_EQ(c.rx_stats().frames, b.tx_stats().frames);
}

}  // namespace
}  // namespace nm::test
