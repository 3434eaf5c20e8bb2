// SPDX-License-Identifier: BSD-2-Clause
#include <cstdio>
#include <gtest/gtest.h>

#include "support/nm_test.hpp"

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    if (!testing::GTEST_FLAG(list_tests)) {
        if (const std::string why = nm::test::enter_namespaces(); !why.empty()) {
            std::printf("skipped: %s\n", why.c_str());
            return 77;
        }
    }
    return RUN_ALL_TESTS();
}
