// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <string>

namespace nm::sys {

/// The file of the network namespace that this one knows by that id, or nothing.
[[nodiscard]] std::string find_namespace(std::int32_t wanted);

}  // namespace nm::sys
