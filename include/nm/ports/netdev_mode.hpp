// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Which way to a kernel interface is the right one. Correct comes before fast: AF_XDP loses partial checksums and VLAN
// tags that lie beside the frame, so it is chosen only where neither can occur, or where somebody insists.

#include <string>
#include <string_view>

#include "nm/port_options.hpp"
#include "nm/sys/link.hpp"
#include "nm/sys/xdp.hpp"

namespace nm {

struct netdev_choice {
    bool xdp = false;
    sys::xdp_copy copy = sys::xdp_copy::any;
    sys::xdp_attach attach = sys::xdp_attach::skb;
    bool insisted = false;  // no fallback
    std::string reason;
    std::string advice;

    [[nodiscard]] const char* mode() const noexcept {
        if (!xdp) return "af_packet";
        return copy == sys::xdp_copy::copy ? "af_xdp copy" : "af_xdp zero-copy";
    }
};

namespace detail {

/// What AF_XDP would break here: empty when nothing.
struct xdp_hazard {
    std::string what;
    std::string remedy;
};

[[nodiscard]] inline std::string list_of(const sys::offload_flags& f) {
    std::string s;
    const auto add = [&s](bool on, const char* name) {
        if (!on) return;
        if (!s.empty()) s += ' ';
        s += name;
        s += " off";
    };
    add(f.tx_csum, "tx");
    add(f.tso, "tso");
    add(f.tx_vlan, "txvlan");
    return s;
}

[[nodiscard]] inline xdp_hazard hazard_of(const sys::link_info& l) {
    if (l.physical) {
        std::string off;
        if (l.offloads.rx_vlan) off += " rxvlan off";
        if (l.offloads.lro) off += " lro off";
        if (off.empty()) return {};
        return {l.name + " takes VLAN tags out of frames or joins frames before AF_XDP sees them", "ethtool -K " + l.name + off};
    }
    if (l.offloads.gro || l.offloads.lro)
        return {l.name + " joins frames before AF_XDP sees them", "ethtool -K " + l.name + " gro off lro off"};
    if (l.kind == "tun") {
        if (!l.tun_vnet_hdr) return {};
        return {l.name + " is a TAP whose owner may leave checksums and segmentation to the receiver",
                "open the TAP without IFF_VNET_HDR"};
    }
    if (l.kind == "veth") {
        if (!l.peer_offloads)
            return {"the other end of " + l.name + " cannot be seen from here, and may leave checksums and VLAN tags to the receiver",
                    "ethtool -K PEER tx off tso off txvlan off (in the namespace of the other end), then ask for mode=af_xdp"};
        const auto off = list_of(*l.peer_offloads);
        if (off.empty()) return {};
        const auto prefix = l.peer_netns.empty() ? "" : "nsenter --net=" + l.peer_netns + " ";
        return {"the other end of " + l.name + " leaves checksums, segmentation or VLAN tags to the receiver, which AF_XDP would lose",
                prefix + "ethtool -K " + l.peer_name + " " + off};
    }
    return {l.name + " is a virtual interface (" + (l.kind.empty() ? l.driver : l.kind) +
                ") whose frames may lack checksums or VLAN tags where AF_XDP sees them",
            ""};
}

}  // namespace detail

[[nodiscard]] inline result<netdev_mode> mode_named(std::string_view text) {
    std::string name(text);
    for (char& c : name)
        if (c == '-' || c == ' ') c = '_';
    if (name == "best") return netdev_mode::best;
    if (name == "af_packet") return netdev_mode::af_packet;
    if (name == "af_xdp" || name == "af_xdp_copy" || name == "copy") return netdev_mode::af_xdp_copy;
    if (name == "af_xdp_zero_copy" || name == "af_xdp_zc" || name == "zero_copy" || name == "zc") return netdev_mode::af_xdp_zero_copy;
    return fail(EINVAL, "there is no mode \"" + name + "\": best, af_packet, af_xdp (copy), af_xdp_zero_copy");
}

/// Virtual interfaces have no zero-copy, and generic (skb) receive is slightly faster there than native.
[[nodiscard]] inline netdev_choice choose_mode(const sys::link_info& l, netdev_mode asked, bool insisted) {
    netdev_choice c;
    c.insisted = insisted && asked != netdev_mode::best;
    // Outside native XDP a veth does not say on which queue a frame arrived.
    const bool queues = l.kind == "veth" && l.rx_queues > 1;
    c.attach = l.physical || queues ? sys::xdp_attach::native : sys::xdp_attach::skb;
    const auto hazard = detail::hazard_of(l);
    if (asked == netdev_mode::best) {
        c.xdp = hazard.what.empty();
        c.copy = l.physical ? sys::xdp_copy::any : sys::xdp_copy::copy;
        c.reason = c.xdp ? "no offload of this interface gets in AF_XDP's way" : hazard.what;
        if (!c.xdp) c.advice = hazard.remedy;
        return c;
    }
    c.reason = "asked for";
    if (asked == netdev_mode::af_packet) return c;
    c.xdp = true;
    c.copy = asked == netdev_mode::af_xdp_copy ? sys::xdp_copy::copy
             : c.insisted                      ? sys::xdp_copy::zero_copy
                                               : sys::xdp_copy::any;
    if (!hazard.what.empty()) {
        c.reason = "asked for, although " + hazard.what;
        c.advice = hazard.remedy;
    }
    return c;
}

}  // namespace nm
