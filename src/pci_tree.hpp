// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What nm/sys/pci.hpp is made of, with the places where it looks as parameters, so that a test can give it a tree of its own.

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>
#include <vector>

#include "nm/sys/pci.hpp"

namespace nm::sys::pci {

struct tree {
    std::string sys = "/sys", proc = "/proc", dev = "/dev";
    bool real = true;  // the machine itself may be asked otherwise too: netlink, modprobe
    /// Writes to a file of sysfs; returns an errno, or 0.
    std::function<int(const std::string& path, std::string_view text)> write;
};

struct user {
    pid_t pid = 0;
    std::string command;
};

[[nodiscard]] std::string join(const std::string& folder, std::string_view name);
/// The last part of where a link leads; empty if there is none.
[[nodiscard]] std::string link_target(const std::string& path);
/// A small file's first line; empty if it cannot be read.
[[nodiscard]] std::string read_line(const std::string& path);
[[nodiscard]] std::vector<std::string> entries(const std::string& folder);
[[nodiscard]] bool exists(const std::string& path) noexcept;
/// Writes to a file of sysfs, the way the tree says; returns an errno, or 0.
[[nodiscard]] int put(const tree& t, const std::string& path, std::string_view text);

/// A device's folder in sysfs, and the driver that has it; empty: none.
[[nodiscard]] std::string folder_of(const tree& t, std::string_view address);
[[nodiscard]] std::string driver_of(const tree& t, std::string_view address);

/// The files in /dev by which a program has a device: /dev/vfio/5 or noiommu-0, /dev/vfio/devices/vfio2; empty: none.
struct device_nodes {
    std::string group, cdev;
    bool no_iommu = false;  // the group is VFIO's own make-believe
};
[[nodiscard]] device_nodes vfio_nodes(const tree& t, const std::string& address);

/// Each open VFIO node of each process that may be looked at: the node's path -> who.
[[nodiscard]] std::vector<std::pair<std::string, user>> open_nodes(const tree& t);
[[nodiscard]] std::vector<user> users_among(const std::vector<std::pair<std::string, user>>& open, const device_nodes& nodes);
/// Programs that have one of these nodes open, as far as this one may see that.
[[nodiscard]] std::vector<user> users_of(const tree& t, const device_nodes& nodes);
/// " by pkt-gen (process 123)", or nothing.
[[nodiscard]] std::string by_whom(const std::vector<user>& users);

/// The interfaces that carry a default route of this network namespace, by IPv4 or IPv6.
[[nodiscard]] std::set<std::string> default_route_interfaces(const tree& t);
/// Whether the interface, or one that stands on it, is among them, or carries one of another table.
[[nodiscard]] bool carries_default_route(const tree& t, const std::string& interface, const std::set<std::string>& carriers);

[[nodiscard]] bool shares_group(const tree& t, const pci_info& info);

[[nodiscard]] bool is_vfio_driver(std::string_view driver) noexcept;

[[nodiscard]] result<pci_info> query(const tree& t, std::string_view address);
[[nodiscard]] result<std::vector<pci_info>> network_devices(const tree& t);
[[nodiscard]] result<void> to_vfio(const tree& t, std::string_view address, bool force);
[[nodiscard]] result<void> to_kernel(const tree& t, std::string_view address);

}  // namespace nm::sys::pci
