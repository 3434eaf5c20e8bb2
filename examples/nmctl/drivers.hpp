// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>

#include "nm/nm.hpp"
#include "nm/sys/pci.hpp"

namespace nmctl {

namespace detail {

template <class Port>
std::string name_if_driven(const nm::sys::pci_ids&) { return {}; }
template <class Port>
    requires requires { typename Port::device_type; }
std::string name_if_driven(const nm::sys::pci_ids& ids) {
    return Port::device_type::drives(ids) ? Port::device_type::name : std::string();
}

template <class... Ports>
std::string driver_among(nm::port_list<Ports...>, const nm::sys::pci_ids& ids) {
    std::string name;
    ((name.empty() ? void(name = name_if_driven<Ports>(ids)) : void()), ...);
    return name;
}

}  // namespace detail

/// Which of nm's drivers is for this device; empty: none.
[[nodiscard]] inline std::string own_driver(const nm::sys::pci_ids& ids) {
    return nm::sys::is_ptnet(ids) ? "ptnet" : detail::driver_among(nm::all_ports{}, ids);
}

}  // namespace nmctl
