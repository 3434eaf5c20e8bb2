// SPDX-License-Identifier: BSD-2-Clause
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>

// What the other tests here take for granted.
namespace {

TEST(Guest, HasAnIommuAndVfio) {
    EXPECT_EQ(::access("/dev/vfio/vfio", R_OK | W_OK), 0);
    const std::filesystem::path groups{"/sys/kernel/iommu_groups"};
    EXPECT_NE(std::filesystem::begin(std::filesystem::directory_iterator{groups}), std::filesystem::directory_iterator{});
}

TEST(Guest, HasHugepages) {
    std::ifstream file{"/proc/sys/vm/nr_hugepages"};
    int pages = 0;
    file >> pages;
    EXPECT_GT(pages, 0);
}

// For the harness's own test: it must say of this one that it failed.
TEST(Broken, DISABLED_Fails) { FAIL() << "as it should"; }

}  // namespace
