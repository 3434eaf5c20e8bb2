// SPDX-License-Identifier: BSD-2-Clause
#include "nm/ports/netdev_mode.hpp"

#include <gtest/gtest.h>

namespace {

using nm::netdev_mode;

nm::sys::link_info veth(bool peer_seen, bool peer_offloads) {
    nm::sys::link_info l;
    l.name = "v0";
    l.kind = l.driver = "veth";
    l.has_peer = true;
    if (peer_seen) {
        l.peer_name = "v1";
        l.peer_offloads = nm::sys::offload_flags{};
        l.peer_offloads->tx_csum = peer_offloads;
    }
    return l;
}

nm::sys::link_info hardware() {
    nm::sys::link_info l;
    l.name = "eth7";
    l.driver = "ixgbe";
    l.physical = true;
    return l;
}

// Correct before fast, and what would make fast correct is said as a command.
TEST(netdev_mode, best_is_the_correct_one) {
    const auto unseen = nm::choose_mode(veth(false, false), netdev_mode::best, false);
    EXPECT_STREQ(unseen.mode(), "af_packet");
    EXPECT_NE(unseen.reason.find("cannot be seen"), std::string::npos);

    const auto partial = nm::choose_mode(veth(true, true), netdev_mode::best, false);
    EXPECT_STREQ(partial.mode(), "af_packet");
    EXPECT_NE(partial.advice.find("ethtool -K v1 tx off"), std::string::npos) << partial.advice;

    const auto complete = nm::choose_mode(veth(true, false), netdev_mode::best, false);
    EXPECT_STREQ(complete.mode(), "af_xdp copy");
    EXPECT_TRUE(complete.advice.empty());

    auto nic = hardware();
    EXPECT_STREQ(nm::choose_mode(nic, netdev_mode::best, false).mode(), "af_xdp zero-copy");
    nic.offloads.rx_vlan = true;
    const auto tags = nm::choose_mode(nic, netdev_mode::best, false);
    EXPECT_STREQ(tags.mode(), "af_packet");
    EXPECT_NE(tags.advice.find("ethtool -K eth7 rxvlan off"), std::string::npos) << tags.advice;

    nm::sys::link_info bridge;
    bridge.name = "br0";
    bridge.kind = "bridge";
    EXPECT_STREQ(nm::choose_mode(bridge, netdev_mode::best, false).mode(), "af_packet");
}

TEST(netdev_mode, what_is_asked_for_is_taken_and_the_danger_said) {
    const auto c = nm::choose_mode(veth(true, true), netdev_mode::af_xdp_copy, true);
    EXPECT_STREQ(c.mode(), "af_xdp copy");
    EXPECT_TRUE(c.insisted);
    EXPECT_NE(c.reason.find("although"), std::string::npos);
    EXPECT_FALSE(c.advice.empty());
    EXPECT_STREQ(nm::choose_mode(hardware(), netdev_mode::af_packet, false).mode(), "af_packet");
}

TEST(netdev_mode, names) {
    EXPECT_EQ(*nm::mode_named("af_xdp"), netdev_mode::af_xdp_copy);
    EXPECT_EQ(*nm::mode_named("zc"), netdev_mode::af_xdp_zero_copy);
    EXPECT_EQ(*nm::mode_named("af_packet"), netdev_mode::af_packet);
    EXPECT_FALSE(nm::mode_named("afxdp"));
    EXPECT_FALSE(nm::mode_named(""));
}

}  // namespace
