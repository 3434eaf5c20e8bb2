// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "nm/nm.hpp"
#include "nm/ptnet/process.hpp"

namespace tool {

/// What the tools can open by a name known only at run time; `--version` prints it. A new kind is one more word here.
using ports = nm::port_list<nm::netdev, nm::shared_pipe, nm::process_port, nm::null_port, nm::nic<nm::e1000>, nm::nic<nm::virtio_net>, nm::nic<nm::vmxnet3>,
                            nm::nic<nm::ixgbe>, nm::ptnet_port>;
using any_port = ports::variant;

template <class P>
inline constexpr bool is_nic = false;
template <class Device, class Bar>
inline constexpr bool is_nic<nm::nic<Device, Bar>> = true;

/// The MAC address of a port that has one.
template <class P>
[[nodiscard]] std::optional<std::array<std::uint8_t, 6>> mac_of(P& port) {
    if constexpr (requires { port.state().link.mac; })
        return port.state().link.mac;
    else if constexpr (requires { port.mac(); })
        return port.mac();
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
