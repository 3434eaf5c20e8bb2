// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <stdexcept>
#include <string>

namespace tool {

/// What a tool's exit status means, the same for all of them.
enum exit_status : int { exit_ok = 0, exit_failure = 1, exit_usage = 2, exit_expectation = 3 };

/// The command line cannot be meant so: exit status 2.
struct usage_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// It was meant, but it cannot be done: exit status 1.
struct run_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace tool
