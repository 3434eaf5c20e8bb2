// SPDX-License-Identifier: BSD-2-Clause
// Who has all slots of a ring in hand and wants more sleeps, though the kernel has more for him: it could only come if he gave a slot back.

#include <poll.h>

#include "veth.hpp"
#include "nm/ports/netdev.hpp"

namespace {

using namespace nm;
using namespace nm::test;

class full_ring : public veth_test, public testing::WithParamInterface<netdev_mode> {
protected:
    [[nodiscard]] static bool wakes(netdev& p) {
        p.arm(events::rx);
        pollfd f{p.fd(), POLLIN, 0};
        return ::poll(&f, 1, 0) == 1;
    }
};
INSTANTIATE_TEST_SUITE_P(, full_ring, testing::Values(netdev_mode::af_packet, netdev_mode::af_xdp_copy),
                         [](const auto& mode) { return mode.param == netdev_mode::af_packet ? "af_packet" : "af_xdp"; });

TEST_P(full_ring, wakes_nobody_until_a_slot_is_given_back) {
    context ctx;
    open_options o;
    o.rx_slots = o.tx_slots = 8;
    o.mode = GetParam();
    o.require_mode = true;
    auto p = try_open<netdev>(ctx, "netmap:nsa", o);
    ASSERT_TRUE(p) << p.error().text;
    auto& rx = p->rx();
    EXPECT_FALSE(wakes(*p));
    ASSERT_EQ(far.send("nsb", std::vector<std::string>(8, std::string(60, '\xff'))), 0);
    ASSERT_TRUE(eventually([&] {
        (void)rx.rxsync();
        return rx.space() == 7;
    }));
    EXPECT_TRUE(wakes(*p)) << "he has not looked at them";
    rx.set_cur(rx.tail());
    EXPECT_FALSE(wakes(*p)) << "the eighth is there, and has no slot";
    rx.set_head(rx.next(rx.truth().hwcur));
    rx.set_cur(rx.tail());
    EXPECT_TRUE(eventually([&] {
        (void)rx.rxsync();
        return rx.space() == 1;
    })) << "now it has";
}

}  // namespace
