// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A PCI device in the hands of this program: its registers, its interrupts as descriptors, and the memory that it may
// reach. The IOMMU keeps it from everything else, and the kernel takes it back when the descriptors close, however the
// program ends. Source: the kernel's Documentation/driver-api/vfio.rst and linux/vfio.h.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "nm/base/os.hpp"
#include "nm/result.hpp"
#include "nm/sys/pci.hpp"

namespace nm::sys {

/// How the kernel is asked for the device.
enum class vfio_way {
    any,     // by its group where there is one, which maps other devices' BARs too
    group,   // group and container
    iommufd  // the device's own node and iommufd (Linux 6.6)
};

struct vfio_options {
    /// Use a device that no IOMMU keeps in check (VFIO's no-IOMMU mode): it can then write to any memory there is, also
    /// after this program has died. Memory must be hugepages whose physical addresses follow each other.
    bool allow_no_iommu = false;
    vfio_way way = vfio_way::any;
};

/// VFIO's numbers.
enum class irq_kind : unsigned { intx = 0, msi = 1, msix = 2 };

/// A mapped BAR. Pages of the MSI-X table are a hole: interrupts are the kernel's to program. (Pages that it shares with
/// registers are mapped where the kernel lets them be.)
struct bar_memory {
    std::byte* at = nullptr;
    std::size_t size = 0;
};

/// Owns the device: group (or cdev), container (or iommufd), mappings. Destruction: bus master off, reset, DMA unmapped, BARs
/// unmapped, descriptors closed, in that order. One thread at a time, except for unmask_intx.
class vfio_device {
public:
    /// An error says what to do: which driver has it and how to bind it, who keeps the group, no IOMMU, in use.
    [[nodiscard]] static result<vfio_device> open(std::string_view address, const vfio_options& options = {});
    vfio_device(vfio_device&&) noexcept;
    vfio_device& operator=(vfio_device&&) noexcept;
    ~vfio_device();

    [[nodiscard]] const pci_info& info() const noexcept;

    /// The same mapping each time; it ends with the device. ENODEV for a BAR that is not there or is of I/O ports.
    [[nodiscard]] result<bar_memory> map_bar(unsigned index);

    [[nodiscard]] std::uint32_t config_read(unsigned offset, unsigned bytes) const noexcept;  // 1, 2 or 4 bytes; ~0 on error
    [[nodiscard]] result<void> config_write(unsigned offset, unsigned bytes, std::uint32_t value) noexcept;
    [[nodiscard]] result<void> bus_master(bool on) noexcept;

    /// How many vectors of that kind there are.
    [[nodiscard]] unsigned irq_count(irq_kind kind) const noexcept;
    /// Vector i signals eventfds[i]. One kind at a time; an empty span ends it.
    [[nodiscard]] result<void> set_irqs(irq_kind kind, std::span<const int> eventfds);
    /// INTx masks itself with each interrupt: acknowledge the cause in the device, then this.
    void unmask_intx() noexcept;

    /// Lets the device reach [memory, memory + size), page-aligned, and returns its address of it: a multiple of 2 MiB, from
    /// the ranges that the IOMMU translates, below 2^bits. ENOMEM with the number to set when `ulimit -l` is too low; ENOSPC
    /// when the addresses are used up. Heap, memfd, hugepages, and another device's mapped BAR. After a fork the memory stays the
    /// device's here, also private pages: the child gets copies of them (Linux 5.12).
    [[nodiscard]] result<std::uint64_t> dma_map(void* memory, std::size_t size, unsigned bits = 64);
    [[nodiscard]] result<void> dma_unmap(std::uint64_t iova) noexcept;

    /// VFIO's reset, where the device has one (ENOTTY where not: then the driver resets it by its registers).
    [[nodiscard]] result<void> reset() noexcept;
    [[nodiscard]] bool no_iommu() const noexcept;

private:
    struct state;
    explicit vfio_device(std::unique_ptr<state>) noexcept;
    std::unique_ptr<state> s_;
};

}  // namespace nm::sys
