// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/link.hpp"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <thread>

#include "find_namespace.hpp"
#include "netlink.hpp"

namespace nm::sys {
namespace {

bool ethtool(int fd, const char* name, void* command) noexcept {
    ifreq request{};
    std::snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    request.ifr_data = static_cast<char*>(command);
    return ::ioctl(fd, SIOCETHTOOL, &request) == 0;
}

std::uint32_t ethtool_value(int fd, const char* name, std::uint32_t command) noexcept {
    struct { std::uint32_t cmd, data; } value{command, 0};
    return ethtool(fd, name, &value) ? value.data : 0;
}

std::optional<offload_flags> read_offloads(const std::string& name) noexcept {
    const base::unique_fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!fd || name.empty()) return std::nullopt;
    const auto is = [&](std::uint32_t command) { return ethtool_value(fd.get(), name.c_str(), command) != 0; };
    offload_flags f;
    f.rx_csum = is(ETHTOOL_GRXCSUM);
    f.tx_csum = is(ETHTOOL_GTXCSUM);
    f.tso = is(ETHTOOL_GTSO);
    f.gso = is(ETHTOOL_GGSO);
    f.gro = is(ETHTOOL_GGRO);
    const auto flags = ethtool_value(fd.get(), name.c_str(), ETHTOOL_GFLAGS);
    f.lro = (flags & ETH_FLAG_LRO) != 0;
    f.rx_vlan = (flags & ETH_FLAG_RXVLAN) != 0;
    f.tx_vlan = (flags & ETH_FLAG_TXVLAN) != 0;
    return f;
}

struct raw_link {
    link_info info;
    link_counters counters;
    unsigned peer_index = 0;
    std::optional<std::int32_t> peer_nsid;
};

void parse_link(const std::byte* body, std::size_t size, raw_link& out) {
    if (size < sizeof(ifinfomsg)) return;
    const auto ifi = netlink::read_as<ifinfomsg>(body, size);
    auto& l = out.info;
    l.index = static_cast<unsigned>(ifi.ifi_index);
    l.up = (ifi.ifi_flags & IFF_UP) != 0;
    l.running = (ifi.ifi_flags & IFF_RUNNING) != 0;
    l.loopback = (ifi.ifi_flags & IFF_LOOPBACK) != 0;
    l.ethernet = ifi.ifi_type == ARPHRD_ETHER;
    unsigned link = 0;
    netlink::for_each_attribute(
        body + netlink::align(sizeof ifi), size - netlink::align(sizeof ifi),
        [&](std::uint16_t type, const std::byte* p, std::size_t n) {
            switch (type) {
                case IFLA_IFNAME: l.name = netlink::read_string(p, n); break;
                case IFLA_ADDRESS: std::memcpy(l.mac.data(), p, std::min(n, l.mac.size())); break;
                case IFLA_MTU: l.mtu = netlink::read_as<std::uint32_t>(p, n); break;
                case IFLA_NUM_RX_QUEUES: l.rx_queues = std::max(1U, netlink::read_as<unsigned>(p, n)); break;
                case IFLA_NUM_TX_QUEUES: l.tx_queues = std::max(1U, netlink::read_as<unsigned>(p, n)); break;
                case IFLA_LINK: link = netlink::read_as<unsigned>(p, n); break;
                case IFLA_LINK_NETNSID: out.peer_nsid = netlink::read_as<std::int32_t>(p, n); break;
                case IFLA_STATS64: {
                    const auto s = netlink::read_as<rtnl_link_stats64>(p, n);
                    out.counters = {s.rx_packets, s.tx_packets, s.rx_bytes, s.tx_bytes, s.rx_dropped, s.tx_dropped};
                    break;
                }
                case IFLA_XDP:
                    netlink::for_each_attribute(p, n, [&](std::uint16_t t, const std::byte* q, std::size_t m) {
                        if (t == IFLA_XDP_PROG_ID) l.xdp_program_id = netlink::read_as<unsigned>(q, m);
                    });
                    break;
                case IFLA_LINKINFO:
                    netlink::for_each_attribute(p, n, [&](std::uint16_t t, const std::byte* q, std::size_t m) {
                        if (t == IFLA_INFO_KIND) l.kind = netlink::read_string(q, m);
                        if (t != IFLA_INFO_DATA || l.kind != "tun") return;
                        netlink::for_each_attribute(q, m, [&](std::uint16_t u, const std::byte* r, std::size_t k) {
                            if (u == IFLA_TUN_VNET_HDR) l.tun_vnet_hdr = netlink::read_as<std::uint8_t>(r, k) != 0;
                        });
                    });
                    break;
                default: break;
            }
        });
    out.peer_index = link;
    l.has_peer = l.kind == "veth" && link != 0;
}

int get_link(unsigned index, std::string_view name, raw_link& out) noexcept {
    auto fd = netlink::open(NETLINK_ROUTE);
    if (!fd) return fd.error().code.value();
    netlink::message m;
    ifinfomsg ifi{};
    ifi.ifi_family = AF_UNSPEC;
    ifi.ifi_index = static_cast<int>(index);
    m.begin(RTM_GETLINK, NLM_F_REQUEST | NLM_F_ACK, 1, ifi);
    if (index == 0) m.put_string(IFLA_IFNAME, name);
    m.end();
    return netlink::transact(fd->get(), m, 1, [&](const nlmsghdr& h, const std::byte* body, std::size_t size) {
        if (h.nlmsg_type == RTM_NEWLINK) parse_link(body, size, out);
    });
}

bool has_default_route(unsigned index) noexcept {
    auto fd = netlink::open(NETLINK_ROUTE);
    if (!fd) return false;
    netlink::message m;
    rtmsg rt{};
    rt.rtm_family = AF_UNSPEC;
    m.begin(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, 1, rt);
    m.end();
    bool found = false;
    (void)netlink::transact(fd->get(), m, 1, [&](const nlmsghdr& h, const std::byte* body, std::size_t size) {
        if (h.nlmsg_type != RTM_NEWROUTE || size < sizeof(rtmsg)) return;
        const auto r = netlink::read_as<rtmsg>(body, size);
        if (r.rtm_dst_len != 0 || r.rtm_type != RTN_UNICAST) return;
        netlink::for_each_attribute(body + sizeof r, size - sizeof r,
                                    [&](std::uint16_t type, const std::byte* p, std::size_t n) {
                                        if (type == RTA_OIF && netlink::read_as<unsigned>(p, n) == index) found = true;
                                    });
    });
    return found;
}

void look_at_peer(raw_link& raw) {
    auto& l = raw.info;
    const auto read = [&] {
        raw_link peer;
        if (get_link(raw.peer_index, {}, peer) != 0) return;
        l.peer_name = peer.info.name;
        l.peer_offloads = read_offloads(peer.info.name);
    };
    if (!raw.peer_nsid) return read();
    l.peer_netns = find_namespace(*raw.peer_nsid);
    if (l.peer_netns.empty()) return;
    // setns is per thread: a visitor goes, so that the caller never leaves home.
    std::thread visitor([&] {
        const base::unique_fd ns(::open(l.peer_netns.c_str(), O_RDONLY | O_CLOEXEC));
        if (ns && ::setns(ns.get(), CLONE_NEWNET) == 0) read();
    });
    visitor.join();
}

void read_driver(link_info& l) noexcept {
    const base::unique_fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!fd) return;
    ethtool_drvinfo driver{};
    driver.cmd = ETHTOOL_GDRVINFO;
    if (ethtool(fd.get(), l.name.c_str(), &driver)) {
        l.driver.assign(driver.driver, ::strnlen(driver.driver, sizeof driver.driver));
        // A parent on a bus is what makes it hardware; virtual interfaces have no bus, or name themselves.
        l.physical = l.kind.empty() && !l.loopback && driver.bus_info[0] != '\0';
    }
    // The netlink numbers are of queues allocated; only those in use get traffic.
    ethtool_channels channels{};
    channels.cmd = ETHTOOL_GCHANNELS;
    if (ethtool(fd.get(), l.name.c_str(), &channels)) {
        const auto rx = channels.combined_count + channels.rx_count;
        const auto tx = channels.combined_count + channels.tx_count;
        if (rx != 0) l.rx_queues = rx;
        if (tx != 0) l.tx_queues = tx;
    }
}

}  // namespace

bool link_exists(std::string_view name) noexcept {
    if (name.empty() || name.size() >= IFNAMSIZ) return false;
    return ::if_nametoindex(std::string(name).c_str()) != 0;
}

result<link_info> query_link(std::string_view name) noexcept {
    if (name.empty() || name.size() >= IFNAMSIZ)
        return fail(EINVAL, "'" + std::string(name) + "' cannot be the name of an interface: those have 1 to 15 characters");
    raw_link raw;
    if (const int e = get_link(0, name, raw); e != 0) {
        if (e == ENODEV || raw.info.index == 0)
            return fail(ENODEV, "there is no interface '" + std::string(name) + "' in this network namespace; `ip link` lists those there are");
        return fail(e, "cannot ask the kernel about interface '" + std::string(name) + "': " + base::errno_text(e));
    }
    if (raw.info.index == 0) return fail(ENODEV, "there is no interface '" + std::string(name) + "' in this network namespace");
    read_driver(raw.info);
    if (const auto f = read_offloads(raw.info.name)) raw.info.offloads = *f;
    if (raw.info.has_peer) look_at_peer(raw);
    raw.info.carries_default_route = has_default_route(raw.info.index);
    return std::move(raw.info);
}

result<std::vector<std::string>> list_links() noexcept {
    auto fd = netlink::open(NETLINK_ROUTE);
    if (!fd) return forward_error(fd);
    netlink::message m;
    ifinfomsg ifi{};
    m.begin(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, ifi);
    m.end();
    std::vector<std::string> names;
    const int e = netlink::transact(fd->get(), m, 1, [&](const nlmsghdr& h, const std::byte* body, std::size_t size) {
        if (h.nlmsg_type != RTM_NEWLINK) return;
        raw_link raw;
        parse_link(body, size, raw);
        if (!raw.info.name.empty()) names.push_back(raw.info.name);
    });
    if (e != 0) return fail(e, "cannot list the interfaces: " + base::errno_text(e));
    return names;
}

result<link_counters> read_link_counters(unsigned index) noexcept {
    raw_link raw;
    const int e = get_link(index, {}, raw);
    if (e != 0)
        return fail(e, "cannot read the counters of interface number " + std::to_string(index) + ": " + base::errno_text(e));
    return raw.counters;
}

result<link_watch> link_watch::open(const link_info& link) noexcept {
    auto fd = netlink::open(NETLINK_ROUTE, RTMGRP_LINK);
    if (!fd) return forward_error(fd);
    link_watch w;
    w.fd_ = std::move(*fd);
    w.index_ = link.index;
    w.mtu_ = link.mtu;
    w.state_.mtu = link.mtu;
    // Between the query and this socket things may have changed already.
    w.ask();
    return w;
}

void link_watch::ask() noexcept {
    raw_link raw;
    const int e = get_link(index_, {}, raw);
    if (e == ENODEV) state_.gone = true;
    if (e != 0) return;
    state_.down = !raw.info.up;
    state_.mtu = raw.info.mtu;
    if (raw.info.mtu != mtu_) state_.mtu_changed = true;
}

const link_state& link_watch::look() noexcept {
    alignas(nlmsghdr) std::array<std::byte, 16 * 1024> buffer;
    bool again = false;
    for (int budget = 64; budget > 0; --budget) {
        const auto n = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            if (errno != ENOBUFS) break;
            again = true;  // messages were lost: ask for the state in place of its history
            continue;
        }
        netlink::for_each_message(
            buffer.data(), static_cast<std::size_t>(n), [&](const nlmsghdr& h, const std::byte* body, std::size_t size) {
                if ((h.nlmsg_type != RTM_NEWLINK && h.nlmsg_type != RTM_DELLINK) || size < sizeof(ifinfomsg)) return true;
                const auto ifi = netlink::read_as<ifinfomsg>(body, size);
                // A bridge reports its ports' departure in messages of its own family.
                if (ifi.ifi_family != AF_UNSPEC || static_cast<unsigned>(ifi.ifi_index) != index_) return true;
                if (h.nlmsg_type == RTM_DELLINK) {
                    state_.gone = true;
                    return true;
                }
                raw_link raw;
                parse_link(body, size, raw);
                state_.down = !raw.info.up;
                if (raw.info.mtu != 0) state_.mtu = raw.info.mtu;
                if (state_.mtu != mtu_) state_.mtu_changed = true;
                return true;
            });
    }
    if (again) ask();
    return state_;
}

}  // namespace nm::sys
