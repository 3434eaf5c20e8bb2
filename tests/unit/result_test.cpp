// SPDX-License-Identifier: BSD-2-Clause
#include "nm/result.hpp"

#include <gtest/gtest.h>

#include "nm/base/os.hpp"

TEST(Result, CarriesErrnoAndASentence) {
    const nm::result<int> r = nm::fail(ENODEV, "there is no eth9; `ip link` lists what there is");
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, std::errc::no_such_device);
    EXPECT_EQ(r.error().text, "there is no eth9; `ip link` lists what there is");
}
