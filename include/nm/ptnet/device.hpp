// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A virtual machine's way to its host: the PCI device whose memory has the ports in it (sys/ptnet_device.hpp).

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "nm/context.hpp"
#include "nm/ptnet/attach.hpp"
#include "nm/sys/ptnet_device.hpp"

namespace nm::ptnet {

static_assert(offsetof(memory_directory, identity) == sys::ptnet_identity_at);

/// The device that a name is about: one for all of its ports in this program, and gone with the last of them. `@conf:mode=vfio` or `sysfs`
/// says how it is to be opened.
[[nodiscard]] inline result<std::shared_ptr<sys::ptnet_device>> device_of(context& ctx, const port_spec& spec, const open_options& o) {
    sys::ptnet_device_options how;
    how.allow_no_iommu = o.allow_no_iommu;
    if (spec.conf_mode == "vfio") how.way = sys::ptnet_way::vfio;
    else if (spec.conf_mode == "sysfs") how.way = sys::ptnet_way::sysfs;
    else if (!spec.conf_mode.empty()) return fail(EINVAL, "ptnet:" + spec.name + ": there is no mode \"" + spec.conf_mode + "\"; there are vfio and sysfs");
    const auto dot = spec.name.find('.');
    if (dot == std::string::npos) return fail(EINVAL, "ptnet:" + spec.name + " names no PCI device; `nmctl bind` shows them: ptnet:0000:00:04.0");
    const std::string address = spec.name.substr(0, dot + 2);  // perhaps :PORT follows
    const std::string key = "ptnet-device:" + address;
    if (auto open = ctx.find<sys::ptnet_device>(key)) {
        if ((how.way == sys::ptnet_way::vfio) > open->interrupts() || (how.way == sys::ptnet_way::sysfs && open->interrupts()))
            return fail(EBUSY, address + " is open already, otherwise (" + open->mode() + "); close that first");
        return open;
    }
    auto made = sys::ptnet_device::open(address, how);
    if (made) ctx.keep(key, *made);
    return made;
}

/// One port's part of the device. What the memory says is only used to choose doorbells here; attaching checks it.
[[nodiscard]] inline result<link_to_host> link_by_device(const std::shared_ptr<sys::ptnet_device>& device, unsigned port) {
    unsigned host = 0, first = 0, count = 0;
    if (device->size() >= directory_bytes && port < max_ports) {
        auto& d = *reinterpret_cast<memory_directory*>(device->base());
        if (__atomic_load_n(&d.magic, __ATOMIC_ACQUIRE) == memory_magic && port < __atomic_load_n(&d.ports, __ATOMIC_ACQUIRE)) {
            host = load_once(d.host_id);
            first = load_once(d.port[port].first_vector);
            count = vectors_of(std::min(load_once(d.port[port].num_tx_rings), max_rings), std::min(load_once(d.port[port].num_rx_rings), max_rings));
        }
    }
    auto l = sys::ptnet_device::link(device, host, first, count);
    if (!l) return forward_error(l);
    link_to_host link;
    link.keep = std::move(l->keep);
    link.base = l->base;
    link.size = l->size;
    link.port = port;
    for (const auto& b : l->bells) link.bells.push_back({b.fd, b.door, b.value});
    link.wakes = std::move(l->wakes);
    return link;
}

}  // namespace nm::ptnet
