// SPDX-License-Identifier: BSD-2-Clause
// Records what a driver and QEMU's e1000e do to each other, and holds the model against it at once. With NM_TRACE_PRINT the
// trace is printed too: between its first and last line it is tests/data/e1000e-qemu.trace.
#include "support/nic_trace.hpp"

#include <cstdio>
#include <cstdlib>
#include <gtest/gtest.h>

namespace {

using namespace nm::test;

TEST(NicTrace, the_model_of_an_e1000e_does_what_the_device_does) {
    const char* a = std::getenv("NM_TRACE_A");
    const char* b = std::getenv("NM_TRACE_B");
    if (a == nullptr || b == nullptr) GTEST_SKIP() << "NM_TRACE_A and NM_TRACE_B do not say which devices to use";
    auto left = nm::vfio_bus::open(a, {});
    ASSERT_TRUE(left) << left.error().text;
    auto right = nm::vfio_bus::open(b, {});
    ASSERT_TRUE(right) << right.error().text;
    nm::recorder record;
    EXPECT_EQ(record_e1000e(std::move(*left), std::move(*right), record), "");
    if (std::getenv("NM_TRACE_PRINT") != nullptr) std::printf("TRACE\n%sTRACE\n", record.text().c_str());
    const auto r = nic_replay(qemu_e1000e).run(record.text());
    EXPECT_EQ(r.mismatch, "");
    EXPECT_GT(r.reads, 100U);
    EXPECT_GT(r.memory, 100U);
}

}  // namespace
