// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>

#include "settings.hpp"

namespace valectl {

/// All switches, pipes and ports, or those of the one named; once, or again and again with rates. Returns the exit status.
int list(const settings& s, std::string only);

}  // namespace valectl
