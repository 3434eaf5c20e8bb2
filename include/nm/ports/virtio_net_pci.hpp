// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Where a virtio device keeps its structures (4.1.4): a list in the configuration space, of which nothing is believed before
// it has been held against the BAR's size.

#include "nm/ports/nic_device.hpp"
#include "nm/ports/virtio_net_regs.hpp"

namespace nm::virtio {

template <nic_bus Bus>
struct pci_layout {
    using bar_type = typename Bus::bar_type;
    structure<bar_type> common, notify, isr, device;
    std::uint32_t notify_multiplier = 0;

    [[nodiscard]] static result<pci_layout> read(Bus& bus) {
        pci_layout l;
        if ((bus.config_read(pci_status, 2) & pci_status_capabilities) == 0) return l.missing(bus, "any capability");
        unsigned at = bus.config_read(pci_capability_pointer, 1) & 0xfcU;
        for (unsigned budget = 48; at >= 0x40 && budget != 0; --budget, at = bus.config_read(at + cap::next, 1) & 0xfcU)
            if ((bus.config_read(at, 1) & 0xff) == pci_cap_vendor) l.look(bus, at);
        if (l.common.length == 0) return l.missing(bus, "the common configuration");
        if (l.notify.length == 0) return l.missing(bus, "a notification structure");
        if (l.isr.length == 0) return l.missing(bus, "an ISR status");
        if (l.device.length == 0) return l.missing(bus, "a device configuration");
        return l;
    }
    /// 4.1.4.4: where a queue's doorbell is; checked.
    [[nodiscard]] result<std::size_t> doorbell_of(const Bus& bus, std::uint16_t notify_off) const {
        const std::uint64_t at = std::uint64_t{notify_off} * notify_multiplier;
        if (at + 2 > notify.length || (at & 1) != 0)
            return fail(EIO, bus.name() + ": a queue's doorbell lies outside of the structure for doorbells; the device is broken");
        return static_cast<std::size_t>(notify.offset + at);
    }

private:
    [[nodiscard]] static tl::unexpected<error> missing(const Bus& bus, const char* what) {
        return fail(ENODEV, bus.name() + " does not say where " + what + " is: it is not a modern virtio device; with QEMU give it "
                            "disable-modern=off");
    }
    // 4.1.4: the first of each type that can be used is the one to use.
    void look(Bus& bus, unsigned at) {
        const auto type = static_cast<std::uint8_t>(bus.config_read(at + cap::type, 1));
        const unsigned bytes = bus.config_read(at + cap::len, 1) & 0xff;
        structure<bar_type>* s = nullptr;
        std::uint32_t least = 1;
        switch (type) {
            case cap::common: s = &common, least = common::size; break;
            case cap::notify: s = &notify, least = 2; break;
            case cap::isr: s = &isr; break;
            case cap::device: s = &device, least = 8; break;  // a MAC and a status
            default: return;
        }
        if (s->length != 0 || bytes < (type == cap::notify ? 20U : 16U)) return;
        const unsigned number = bus.config_read(at + cap::bar, 1) & 0xff;
        if (number > 5) return;
        const std::uint32_t offset = bus.config_read(at + cap::offset, 4), length = bus.config_read(at + cap::length, 4);
        const std::uint32_t multiplier = type == cap::notify ? bus.config_read(at + cap::notify_multiplier, 4) : 0;
        const std::uint32_t alignment = type == cap::common || type == cap::device ? 4 : type == cap::notify ? 2 : 1;
        if (length < least || offset % alignment != 0) return;
        auto bar = bus.bar(number);
        if (!bar || offset > bar->size() || length > bar->size() - offset) return;
        *s = {*bar, offset, length};
        if (type == cap::notify) notify_multiplier = multiplier;
    }
};

}  // namespace nm::virtio
