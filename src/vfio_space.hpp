// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The two ways to a device and its IOMMU: group and container (all kernels), or the device's own node and iommufd (6.6 and
// later, where it was built in). They differ in how the device is opened and memory is mapped, and in nothing else.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "iova.hpp"
#include "nm/base/os.hpp"
#include "nm/result.hpp"
#include "nm/sys/vfio.hpp"
#include "pci_tree.hpp"

namespace nm::sys {

/// How VFIO's capabilities that are lists begin; the list follows.
struct capability_list {
    std::uint16_t id = 0, version = 0;
    std::uint32_t next = 0, count = 0, reserved = 0;
};
static_assert(sizeof(capability_list) == 16);

/// An IOMMU's address space and the descriptors that keep it. Its errors are errno values: the caller knows what to say.
class vfio_space {
public:
    virtual ~vfio_space() = default;
    [[nodiscard]] virtual std::vector<iova_range> ranges() const = 0;
    [[nodiscard]] virtual int map(void* memory, std::uint64_t size, std::uint64_t iova) noexcept = 0;
    [[nodiscard]] virtual int unmap(std::uint64_t iova, std::uint64_t size) noexcept = 0;
};

struct vfio_opened {
    std::unique_ptr<vfio_space> space;
    base::unique_fd device;
};

[[nodiscard]] result<vfio_opened> open_by_group(const pci_info& info, const pci::device_nodes& nodes);
/// Where iommufd is; a test brings its own, since kernels of Debian 12 have none.
struct iommufd_calls {
    const char* path = "/dev/iommu";
    int (*ioctl)(int fd, unsigned long request, void* argument) = nullptr;  // null: the kernel's
};
[[nodiscard]] result<vfio_opened> open_by_iommufd(const pci_info& info, const pci::device_nodes& nodes, const iommufd_calls& calls = {});

/// Opens a node of a device that one program may have open at a time; `how` to say it.
[[nodiscard]] result<base::unique_fd> open_node(const pci_info& info, const pci::device_nodes& nodes, const std::string& path);

/// `memory` is one piece of hugepages also as the hardware sees it: its physical address. For devices without an IOMMU.
[[nodiscard]] result<std::uint64_t> physical_address(const void* memory, std::size_t size);

}  // namespace nm::sys
