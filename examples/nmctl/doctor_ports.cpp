// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <algorithm>
#include <unistd.h>

#include "common/hosts.hpp"
#include "common/open.hpp"
#include "doctor.hpp"
#include "drivers.hpp"

#include "nm/sys/control_places.hpp"
#include "nm/sys/link.hpp"

namespace nmctl {
namespace {

void look_at_offloads(findings& f, const nm::sys::link_info& l, const nm::port_info& i) {
    if (!i.mode.starts_with("af_packet")) return;
    // Why it is af_packet is what the offloads would do to AF_XDP.
    if (i.advice.empty()) return f.better(l.name + ": opens as af_packet: " + i.reason, "give nm the interface below it, or ask for @conf:mode=af_xdp if you know better");
    f.better(l.name + ": opens as af_packet: " + i.reason, i.advice + " makes af_xdp safe");
}

void look_at_mtu(findings& f, const powers& p, const nm::sys::link_info& l, const nm::port_info& i) {
    constexpr unsigned header = 18;  // with a VLAN tag
    const unsigned frame = l.mtu + header;
    if (frame <= i.buf_size) return f.ok(fmt::format("{}: MTU {}: a frame fits into a buffer of {} bytes", l.name, l.mtu, i.buf_size));
    const bool in_parts = i.mode == "af_packet" || p.kernel.at_least(6, 6);
    if (in_parts)
        f.better(fmt::format("{}: MTU {}: a frame takes up to {} buffers of {} bytes (NS_MOREFRAG)", l.name, l.mtu, (frame + i.buf_size - 1) / i.buf_size, i.buf_size),
                 fmt::format("ip link set {} mtu {} if no longer ones are needed", l.name, i.buf_size - header));
    else f.better(fmt::format("{}: MTU {}: AF_XDP takes longer frames than a buffer from Linux 6.6 on only", l.name, l.mtu), fmt::format("ip link set {} mtu {}", l.name, i.buf_size - header));
}

void look_at_mode(findings& f, const powers& p, const nm::sys::link_info& l, const nm::port_info& i) {
    const auto zero_copy = l.physical ? has_zero_copy(l.index) : std::optional<bool>(false);
    const std::string driver = l.driver.empty() ? "" : " (" + l.driver + ")";
    if (i.mode == "af_packet") look_at_offloads(f, l, i);
    else if (!p.xdp()) f.better(l.name + driver + ": could open as " + i.mode + ", and opens as af_packet: AF_XDP needs privileges that this process has not", "run as root");
    else if (l.xdp_program_id != 0)
        f.better(fmt::format("{}{}: has an XDP program already (id {}), so it opens as af_packet unless that is nm's", l.name, driver, l.xdp_program_id),
                 fmt::format("ip link set {} xdp off, if nobody needs it", l.name));
    else if (!l.physical) f.ok(l.name + driver + ": opens as af_xdp copy; " + i.reason);
    else if (!zero_copy) f.ok(l.name + driver + ": opens as " + i.mode + " if its driver has that (this kernel does not say), else as af_xdp copy");
    else if (*zero_copy) f.ok(l.name + driver + ": opens as af_xdp zero-copy");
    else f.better(l.name + driver + ": opens as af_xdp copy: its driver has no zero-copy", "a newer kernel, or nmctl bind if nm has a driver for the NIC (docs/nics.md)");
}

/// Whether netmap:NAME opens; the reasons in the order in which an open would meet them.
bool may_open(findings& f, const powers& p, const nm::sys::link_info& l, const nm::port_spec& spec) {
    if (!l.ethernet) return f.cannot(l.name + ": does not carry Ethernet frames", "choose an Ethernet interface"), false;
    if (!l.up) return f.cannot(l.name + ": is down", "ip link set " + l.name + " up"), false;
    if (!p.net_raw || !p.net_admin)
        return f.cannot(l.name + ": this process has no " + (p.net_raw ? "CAP_NET_ADMIN" : "CAP_NET_RAW"), "run as root, or in a namespace of your own: unshare -Urn"), false;
    const bool host = nm::wants_host(spec), own = nm::wants_own(spec);
    for (const auto& c : claims_on(l.index))
        if (own ? c != "/host" || host : c == "/host")
            return f.cannot(l.name + ": is open in another program", "close it there (ss -xlp | grep nm/interface/" + std::to_string(l.index) + " shows who)"), false;
    if (host && ::access("/dev/net/tun", R_OK | W_OK) != 0) return f.cannot(l.name + "^: host rings need /dev/net/tun", "modprobe tun"), false;
    return true;
}

void look_at_netdev(findings& f, const powers& p, const nm::port_spec& spec, const std::string& name) {
    const auto link = nm::sys::query_link(spec.name);
    if (!link) return f.cannot(link.error().text, "ip -br link shows which there are in this network namespace");
    if (!may_open(f, p, *link, spec)) return;
    nm::context ctx;
    const auto i = nm::query<tool::ports>(ctx, name);
    if (!i) return f.cannot(i.error().text, "choose other options in the name");
    look_at_mode(f, p, *link, *i);
    look_at_mtu(f, p, *link, *i);
    if (link->carries_default_route && !nm::wants_host(spec))
        f.better(link->name + ": carries the default route; whoever opens it takes this machine off the network", "open " + name + "*, or bridge -i " + name + " which keeps the host connected");
}

void look_at_pci(findings& f, const std::string& address) {
    const auto d = nm::sys::query_pci(address);
    if (!d) return f.cannot(d.error().text, "nmctl bind shows which devices there are");
    const auto driver = own_driver(d->ids);
    if (driver.empty()) return f.cannot(address + ": nm has no driver for this device", "docs/nics.md says how one is added");
    if (d->driver != "vfio-pci") return f.cannot(fmt::format("{}: {} has it", address, d->driver.empty() ? "no driver" : d->driver), "nmctl bind " + address);
    if (d->iommu_group.empty()) return f.cannot(address + ": no IOMMU translates for it", "switch VT-d or AMD-Vi on");
    if (!d->group_mates.empty()) return f.cannot(address + ": a driver of the kernel's has a device of its IOMMU group", "nmctl bind " + d->group_mates[0]);
    if (d->in_use) return f.cannot(address + ": a program has it open", "close it there");
    const std::string node = "/dev/vfio/" + d->iommu_group;
    if (::access(node.c_str(), R_OK | W_OK) != 0) return f.cannot(node + " is not yours to open", "chown $USER " + node);
    f.ok(address + ": opens as vfio, driven by nm's " + driver);
}

void look_at_ptnet(findings& f, const std::string& name) {
    const std::string address = nm::sys::pci_address(name.substr(0, name.find(':', 8)));
    const auto ids = nm::sys::read_pci_ids(address);
    if (!ids) return f.cannot(ids.error().text, "ptnet-host on the machine below says with which options this guest has to be started");
    if (!nm::sys::is_ptnet(*ids)) return f.cannot(address + " is no device that ports are passed through by", "grep -l 0x1110 /sys/bus/pci/devices/*/device");
    if (::geteuid() != 0) return f.cannot(address + ": a guest's device is root's", "run as root");
    f.ok(address + ": a port that is passed through");
}

/// Shared between programs: a switch's port, a pipe.
void look_at_shared(findings& f, const nm::port_spec& spec, const std::string& name) {
    if (const auto host = nm::sys::find_host_program(); !host) return f.cannot(name + ": " + host.error().text, "export NM_LIBEXEC=DIRECTORY");
    if (::access(nm::sys::runtime_place().c_str(), F_OK) == 0) {
        const auto dir = nm::sys::runtime_dir::open_at(nm::sys::runtime_place());
        if (!dir) return f.cannot(name + ": " + dir.error().text, "export NM_RUNTIME_DIR=$HOME/.nm");
        const auto h = tool::look_at_host(*dir, spec.name.substr(0, spec.name.find(':')));
        for (const auto& p : h ? h->ports : std::vector<tool::fields>{}) {
            if (p.value("name") != spec.name || spec.monitor()) continue;
            if (p.value("kind") != "port") return f.cannot(name + ": is an interface on that switch", "choose another name: a switch has room for 254 ports");
            return f.cannot(name + ": is open in process " + p.value("pid", "?"), "choose another name: a switch has room for 254 ports");
        }
    }
    f.ok(name + ": opens, without privileges");
}

}  // namespace

void look_at_interface(findings& f, const powers& p, const std::string& name) {
    f.about("interfaces");
    const auto link = nm::sys::query_link(name);
    if (!link || link->loopback || !link->ethernet) return;
    auto spec = nm::parse_port("netmap:" + name);
    if (!spec) return f.better(name + ": a name that no port can have", "ip link set " + name + " name NAME");
    look_at_netdev(f, p, *spec, "netmap:" + name);
}

void look_at_port(findings& f, const powers& p, const std::string& name) {
    f.about(name);
    const auto spec = tool::spec_of(name);
    switch (spec.kind) {
        case nm::port_kind::netdev: return look_at_netdev(f, p, spec, name);
        case nm::port_kind::pci: return look_at_pci(f, spec.name);
        case nm::port_kind::ptnet: return look_at_ptnet(f, spec.name);
        case nm::port_kind::vale:
        case nm::port_kind::pipe: return look_at_shared(f, spec, name);
        default: break;
    }
    nm::context ctx;
    const auto i = nm::query<tool::ports>(ctx, name);
    if (!i) return f.cannot(i.error().text, "pkt-gen --version lists the kinds of port");
    f.ok(name + ": opens as " + i->mode);
}

}  // namespace nmctl
