// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "netns.hpp"

namespace nm::test {

/// A quiet veth pair, up: nsa here, nsb in a namespace of its own; if wanted, 10.7.0.1 here and 10.7.0.2 there.
class veth_test : public netns_test {
protected:
    explicit veth_test(bool addresses = false) : addresses_(addresses) {}
    void SetUp() override {
        netns_test::SetUp();
        if (IsSkipped()) return;
        ASSERT_EQ(run("ip link add nsa type veth peer name nsb"), 0);
        ASSERT_EQ(run("ip link set nsb netns " + far.pid()), 0);
        ASSERT_EQ(run("sysctl -w net.ipv6.conf.nsa.disable_ipv6=1"), 0);
        (void)far.run("sysctl -w net.ipv6.conf.nsb.disable_ipv6=1");
        if (addresses_) { ASSERT_EQ(run("ip addr add 10.7.0.1/24 dev nsa"), 0); }
        ASSERT_EQ(run("ip link set nsa up"), 0);
        if (addresses_) { ASSERT_EQ(far.run("ip addr add 10.7.0.2/24 dev nsb"), 0); }
        ASSERT_EQ(far.run("ip link set nsb up"), 0);
    }
    far_side far;

private:
    bool addresses_;
};

}  // namespace nm::test
