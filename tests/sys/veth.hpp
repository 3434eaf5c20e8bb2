// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "netns.hpp"

namespace nm::test {

/// A quiet veth pair, up: nsa here, nsb in a namespace of its own.
class veth_test : public netns_test {
protected:
    void SetUp() override {
        netns_test::SetUp();
        if (IsSkipped()) return;
        ASSERT_EQ(run("ip link add nsa type veth peer name nsb"), 0);
        ASSERT_EQ(run("ip link set nsb netns " + far.pid()), 0);
        ASSERT_EQ(run("sysctl -w net.ipv6.conf.nsa.disable_ipv6=1"), 0);
        (void)far.run("sysctl -w net.ipv6.conf.nsb.disable_ipv6=1");
        ASSERT_EQ(run("ip link set nsa up"), 0);
        ASSERT_EQ(far.run("ip link set nsb up"), 0);
    }
    /// 10.7.0.1 here, 10.7.0.2 there.
    void give_addresses() {
        ASSERT_EQ(run("ip addr add 10.7.0.1/24 dev nsa"), 0);
        ASSERT_EQ(far.run("ip addr add 10.7.0.2/24 dev nsb"), 0);
    }
    far_side far;
};

}  // namespace nm::test
