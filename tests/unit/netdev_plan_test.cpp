// SPDX-License-Identifier: BSD-2-Clause
// What an open of a kernel interface decides before it touches anything.
#include <gtest/gtest.h>

#include "nm/ports/netdev_open.hpp"
#include "nm/ports/netdev_state.hpp"

namespace {

using nm::netdev_plan;

TEST(netdev_plan, says_what_cannot_be_before_anything_is_opened) {
    const auto plan = [](const char* name) { return netdev_plan::make(*nm::parse_port(name), {}); };
    const auto missing = plan("netmap:nosuchif0");
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code.value(), ENODEV) << missing.error().text;
    EXPECT_NE(missing.error().text.find("nosuchif0"), std::string::npos);
    const auto loopback = plan("netmap:lo");
    ASSERT_FALSE(loopback);
    EXPECT_NE(loopback.error().text.find("Ethernet"), std::string::npos) << loopback.error().text;
}

}  // namespace
