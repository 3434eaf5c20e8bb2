// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The guest's end of a port that is passed through: QEMU's ivshmem-doorbell device. Its memory (BAR2) is what the host made, a
// write to its doorbell (BAR0) signals one of the host's eventfds, its MSI-X vectors are the host's signals. What lies in the
// memory is not this file's business. Source: QEMU's docs/specs/ivshmem-spec.txt; the kernel's vfio.rst, sysfs-bus-pci, dax.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nm/base/os.hpp"
#include "nm/result.hpp"
#include "nm/sys/pci.hpp"

namespace nm::sys {

enum class ptnet_way {
    any,   // by VFIO where vfio-pci has the device, else by sysfs
    vfio,  // doorbells and interrupts; takes an IOMMU, or allow_no_iommu
    sysfs  // doorbells to the host, none from it: who waits looks from time to time. Takes root
};

struct ptnet_device_options {
    ptnet_way way = ptnet_way::any;
    bool allow_no_iommu = false;  ///< as vfio_options has it
    /// Where the memory is if not in BAR2: "/dev/dax0.0", an nvdimm, which every host lets the guest cache. Empty: BAR2; or, where that
    /// says so (ptnet_elsewhere), the devdax that has what it says.
    std::string memory{};
};

/// What BAR2 begins with when the memory is in an nvdimm: this, then eight bytes that no other memory has at its byte ptnet_identity_at.
inline constexpr std::uint64_t ptnet_elsewhere = 0x7464746e70006d6eULL;
inline constexpr std::size_t ptnet_identity_at = 32;

/// How one vector is rung: by an eventfd, or by writing `value` to `door`.
struct ptnet_bell {
    int fd = -1;
    volatile std::uint32_t* door = nullptr;
    std::uint32_t value = 0;
};

/// What one port needs of the device.
struct ptnet_link {
    std::shared_ptr<void> keep;          ///< the device, its mappings and its interrupts
    std::byte* base = nullptr;           ///< of the whole memory
    std::size_t size = 0;                ///< bytes
    std::vector<ptnet_bell> bells;       ///< per vector: how to kick the host
    std::vector<base::unique_fd> wakes;  ///< per vector: eventfds the host signals; empty: it cannot
};

/// One device, for all ports in its memory: a program opens it once (VFIO gives it to one descriptor) and keeps it shared.
class ptnet_device {
public:
    /// An error says what to do: how to bind it, that it has no memory, or that it is of another kind.
    [[nodiscard]] static result<std::shared_ptr<ptnet_device>> open(std::string_view address, const ptnet_device_options& options = {});
    ptnet_device(const ptnet_device&) = delete;
    ptnet_device& operator=(const ptnet_device&) = delete;
    ~ptnet_device();

    [[nodiscard]] const std::string& address() const noexcept;
    [[nodiscard]] std::byte* base() const noexcept;
    [[nodiscard]] std::size_t size() const noexcept;
    [[nodiscard]] bool interrupts() const noexcept;
    [[nodiscard]] unsigned vectors() const noexcept;  ///< MSI-X vectors; doorbells are as many as the host has
    [[nodiscard]] unsigned peer() const noexcept;     ///< this guest's number
    [[nodiscard]] const char* mode() const noexcept;  ///< "ptnet vfio", "ptnet sysfs"
    [[nodiscard]] const std::string& reason() const noexcept;  ///< why this mode, and where the memory is
    [[nodiscard]] const std::string& advice() const noexcept;  ///< a command that would make a better one possible; or empty

    /// Vectors [first, first + count), rung at peer `host`. Each vector is one port's: its signals come once. EINVAL when the device has
    /// fewer. `self` is this device.
    [[nodiscard]] static result<ptnet_link> link(const std::shared_ptr<ptnet_device>& self, unsigned host, unsigned first, unsigned count);

private:
    struct state;
    explicit ptnet_device(std::unique_ptr<state> s) noexcept;
    std::unique_ptr<state> s_;
};

}  // namespace nm::sys
