// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <utility>

#include "nm/ports/nic_device.hpp"

namespace nm {

/// A device behind an IOMMU, in the hands of this program.
class vfio_bus {
public:
    using bar_type = mmio_bar;

    /// EBUSY, ENODEV, EPERM and others with a sentence that says what to do.
    [[nodiscard]] static result<vfio_bus> open(const std::string& address, const sys::vfio_options& o) {
        auto d = sys::vfio_device::open(address, o);
        if (!d) return forward_error(d);
        return vfio_bus(std::move(*d));
    }
    [[nodiscard]] static result<sys::pci_ids> ids_of(const std::string& address) { return sys::read_pci_ids(address); }
    [[nodiscard]] static const char* mode() noexcept { return "vfio"; }

    [[nodiscard]] const std::string& name() const noexcept { return device_.info().address; }
    [[nodiscard]] const sys::pci_ids& ids() const noexcept { return device_.info().ids; }
    [[nodiscard]] bool no_iommu() const noexcept { return device_.no_iommu(); }

    [[nodiscard]] result<mmio_bar> bar(unsigned index) {
        auto m = device_.map_bar(index);
        if (!m) return forward_error(m);
        return mmio_bar(m->at, m->size);
    }
    [[nodiscard]] std::uint32_t config_read(unsigned offset, unsigned bytes) const noexcept { return device_.config_read(offset, bytes); }
    [[nodiscard]] result<void> bus_master(bool on) noexcept { return device_.bus_master(on); }
    [[nodiscard]] result<void> reset() noexcept { return device_.reset(); }
    [[nodiscard]] unsigned irq_count(sys::irq_kind k) const noexcept { return device_.irq_count(k); }
    [[nodiscard]] result<void> set_irqs(sys::irq_kind k, std::span<const int> fds) { return device_.set_irqs(k, fds); }
    void unmask_intx() noexcept { device_.unmask_intx(); }
    [[nodiscard]] result<std::uint64_t> dma_map(void* memory, std::size_t size) { return device_.dma_map(memory, size); }
    [[nodiscard]] result<void> dma_unmap(std::uint64_t iova) noexcept { return device_.dma_unmap(iova); }

private:
    explicit vfio_bus(sys::vfio_device d) noexcept : device_(std::move(d)) {}
    sys::vfio_device device_;
};
static_assert(nic_bus<vfio_bus>);

}  // namespace nm
