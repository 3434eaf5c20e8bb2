// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "pcapng.hpp"

namespace nm_dump {

/// A packet as a line of text: when, which way, from whom to whom, what, how long.
[[nodiscard]] std::string line_of(std::string_view port, std::uint64_t when_ns, direction d, std::span<const std::uint8_t> bytes,
                                  std::size_t length);

}  // namespace nm_dump
