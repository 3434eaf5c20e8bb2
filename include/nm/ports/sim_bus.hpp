// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The way to a model: a nic_bus, with which nic<Device, sim_bar> is a port over a device that is not there.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "nm/ports/nic_device.hpp"
#include "nm/ports/sim_device.hpp"

namespace nm {

class sim_bus;

/// A BAR that is a model's. Each access is a call: what a driver costs without its device can be counted apart.
class sim_bar {
public:
    using bus = sim_bus;
    sim_bar() = default;
    explicit sim_bar(sim_device& device) noexcept : device_(&device) {}

    template <class Word>
    [[nodiscard]] Word read(std::size_t at) const noexcept {
        return static_cast<Word>(device_->read(at & ~std::size_t{3}) >> (at & 3) * 8);
    }
    /// Less than a register at a time: the rest of it stays as it is.
    template <class Word>
    void write(std::size_t at, Word value) const noexcept {
        if constexpr (sizeof(Word) == 4) {
            device_->write(at, value);
        } else {
            const std::size_t shift = (at & 3) * 8, word = at & ~std::size_t{3};
            const std::uint32_t mask = std::uint32_t{std::numeric_limits<Word>::max()} << shift;
            device_->write(word, (device_->read(word) & ~mask) | std::uint32_t{value} << shift);
        }
    }
    [[nodiscard]] std::size_t size() const noexcept { return device_->bar_size; }

private:
    sim_device* device_ = nullptr;
};
static_assert(bar_access<sim_bar>);

/// The device is not owned and stays where it is.
class sim_bus {
public:
    using bar_type = sim_bar;
    explicit sim_bus(sim_device& device) noexcept : device_(&device) {}

    [[nodiscard]] std::string name() const { return device_->name; }
    [[nodiscard]] static const char* mode() noexcept { return "model"; }
    [[nodiscard]] sys::pci_ids ids() const noexcept { return device_->ids; }
    [[nodiscard]] sim_device& device() const noexcept { return *device_; }

    [[nodiscard]] result<sim_bar> bar(unsigned n) {
        if (n != 0 || device_->bar_size == 0) return fail(ENODEV, name() + ": this model has BAR 0 only");
        return sim_bar(*device_);
    }
    /// The header's first 64 bytes: ids, command and class; otherwise 0. ~0 beyond.
    [[nodiscard]] std::uint32_t config_read(unsigned offset, unsigned bytes) const noexcept {
        if (offset >= 64) return ~0U >> (32 - 8 * bytes);
        const sys::pci_ids& i = device_->ids;
        std::uint32_t word = 0;
        switch (offset / 4) {
            case 0: word = i.vendor | std::uint32_t{i.device} << 16; break;
            case 1: word = device_->dma.enabled ? 4 : 0; break;
            case 2: word = i.revision | i.class_code << 8; break;
            case 11: word = i.subsystem_vendor | std::uint32_t{i.subsystem_device} << 16; break;
            default: break;
        }
        return word >> offset % 4 * 8 & (~0U >> (32 - 8 * bytes));
    }
    [[nodiscard]] result<void> bus_master(bool on) noexcept {
        device_->dma.enabled = on;
        return {};
    }
    [[nodiscard]] result<void> reset() {
        if (!device_->resets) return fail(ENOTTY, name() + ": the device has no reset of its own");
        if (reset_fails) return fail(EIO, name() + ": the reset failed (as this test wants it)");
        device_->reset();
        return {};
    }
    [[nodiscard]] unsigned irq_count(sys::irq_kind kind) const noexcept {
        switch (kind) {
            case sys::irq_kind::intx: return 1;
            case sys::irq_kind::msi: return device_->msi_vectors;
            case sys::irq_kind::msix: return device_->msix_vectors;
        }
        return 0;
    }
    [[nodiscard]] result<void> set_irqs(sys::irq_kind kind, std::span<const int> fds) {
        if (fds.size() > irq_count(kind)) return fail(EINVAL, name() + ": the device has only " + std::to_string(irq_count(kind)) + " vectors of that kind");
        device_->irqs.set(kind, fds);
        return {};
    }
    void unmask_intx() noexcept { device_->irqs.unmask(); }
    [[nodiscard]] result<std::uint64_t> dma_map(void* memory, std::size_t size) {
        if (device_->dma.mappings() >= max_mappings) return fail(ENOSPC, name() + ": no addresses left for " + std::to_string(size) + " bytes");
        return device_->dma.map(memory, size);
    }
    [[nodiscard]] result<void> dma_unmap(std::uint64_t iova) {
        if (!device_->dma.unmap(iova)) return fail(EINVAL, name() + ": nothing is mapped there");
        return {};
    }

    // What a test lets go wrong.
    bool reset_fails = false;
    std::size_t max_mappings = 64;

private:
    sim_device* device_;
};
static_assert(nic_bus<sim_bus>);

}  // namespace nm
