// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What the kernel knows of a PCI device, and which driver it gives it to. Source: the kernel's sysfs-bus-pci.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nm/result.hpp"

namespace nm::sys {

struct pci_ids {
    std::uint16_t vendor = 0, device = 0;
    std::uint16_t subsystem_vendor = 0, subsystem_device = 0;
    std::uint8_t revision = 0;
    std::uint32_t class_code = 0;  // 24 bits; 0x020000 is Ethernet
};

/// QEMU's ivshmem (1af4:1110), the device that ports are passed through by. Of its class it is memory.
[[nodiscard]] constexpr bool is_ptnet(const pci_ids& ids) noexcept { return ids.vendor == 0x1af4 && ids.device == 0x1110; }

struct pci_info {
    std::string address;  // 0000:03:00.0
    pci_ids ids;
    std::string driver;       // bound now; empty: none
    std::string iommu_group;  // its number; empty: no IOMMU translates for this device
    std::vector<std::string> group_mates;  // others in that group that a driver of the kernel's still has
    std::vector<std::string> interfaces;   // that the kernel's driver has made
    bool carries_default_route = false;    // one of these does
    bool in_use = false;                   // a program has it open by VFIO
};

/// "3:0.0", "03:00.0", "0000:03:00.0" -> "0000:03:00.0"; empty for what is no PCI address.
[[nodiscard]] std::string pci_address(std::string_view text);

/// ENODEV when there is no such device. The ids alone are one file to read.
[[nodiscard]] result<pci_ids> read_pci_ids(std::string_view address);
[[nodiscard]] result<pci_info> query_pci(std::string_view address);
/// All devices of class network controller, and those that ports are passed through by.
[[nodiscard]] result<std::vector<pci_info>> list_network_devices();

/// Gives a device to vfio-pci (which is loaded if need be), so that a program may open it; its interfaces vanish. Refused
/// (EBUSY) while one of them, or a bridge, bond or VLAN on it, carries the default route, unless `force`. What vfio-pci has
/// already stays with it. A device that vfio-pci does not take goes back to whom it came from. Needs root.
[[nodiscard]] result<void> bind_to_vfio(std::string_view address, bool force = false);
/// Gives a device back to the kernel's own driver for it, if it has one (pci_info::driver tells). Refused while a program has
/// it open (EBUSY): the kernel would wait for that to end.
[[nodiscard]] result<void> bind_to_kernel(std::string_view address);

}  // namespace nm::sys
