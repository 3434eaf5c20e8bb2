// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <gtest/gtest.h>
#include <string>

namespace nm::test {

[[nodiscard]] bool is_root();

/// Moves this process into network and mount namespaces of its own, with lo up and a private /run and /sys: whatever a
/// test makes there is gone with the process, however it dies. Returns why it could not, or nothing.
[[nodiscard]] std::string enter_namespaces();

}  // namespace nm::test

/// At the head of a test outside tests/scenario that needs root: skips with the reason where it does not have it.
#define NM_TEST_NEEDS_ROOT() \
    if (!nm::test::is_root()) GTEST_SKIP() << "needs root; run: sudo ctest --test-dir <build directory>"
