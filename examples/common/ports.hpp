// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "nm/nm.hpp"
#include "nm/ports/netdev.hpp"

namespace tool {

/// What the tools can open by a name known only at run time; `--version` prints it. A new kind is one more word here.
using ports = nm::port_list<nm::netdev, nm::pipe, nm::null_port>;
using any_port = ports::variant;

/// The MAC address of a port that has one.
template <class P>
[[nodiscard]] std::optional<std::array<std::uint8_t, 6>> mac_of(P& port) {
    if constexpr (requires { port.state().link.mac; })
        return port.state().link.mac;
    else
        return std::nullopt;
}

/// What the kernel has counted on a port's interface since it was made, where there is one.
template <class P>
[[nodiscard]] std::optional<nm::sys::link_counters> kernel_counters(P& port) {
    if constexpr (requires { port.kernel_counters(); }) return port.kernel_counters();
    else return std::nullopt;
}

}  // namespace tool
