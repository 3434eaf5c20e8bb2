// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Where control.hpp looks for things: for who explains it, and changes nothing.

#include <string>

#include "nm/result.hpp"

namespace nm::sys {

/// The directory that runtime_dir::open() opens, whether it is there or not.
[[nodiscard]] std::string runtime_place();
/// The host program that reach_host starts. ENOENT when it is in none of its places.
[[nodiscard]] result<std::string> find_host_program();

}  // namespace nm::sys
