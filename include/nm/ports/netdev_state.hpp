// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What an open kernel interface holds: descriptors only, so that a kill -9 gives everything back.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nm/context.hpp"
#include "nm/port.hpp"
#include "nm/ports/netdev_backend.hpp"
#include "nm/ports/netdev_mode.hpp"
#include "nm/ports/packet_rings.hpp"
#include "nm/sys/cutoff.hpp"
#include "nm/sys/tap.hpp"
#include "nm/transparent.hpp"

namespace nm {

/// What an open would do, before anything is touched.
struct netdev_plan {
    sys::link_info link;
    netdev_choice choice;
    port_shape shape;
    bool single = false;  // one queue of several
    unsigned queue = 0;   // the first one
    std::uint32_t buf_size = preferred_stride;

    [[nodiscard]] static result<netdev_plan> make(const port_spec& spec, const open_options& o) {
        netdev_plan p;
        auto link = sys::query_link(spec.name);
        if (!link) return forward_error(link);
        p.link = std::move(*link);
        if (!p.link.ethernet)
            return fail(EOPNOTSUPP, spec.name + " does not carry Ethernet frames; nm needs an Ethernet interface");
        auto mode = o.mode;
        if (!spec.conf_mode.empty()) {
            auto named = mode_named(spec.conf_mode);
            if (!named) return forward_error(named);
            mode = *named;
        }
        p.choice = choose_mode(p.link, mode, o.require_mode || !spec.conf_mode.empty());
        if (o.memory) p.buf_size = o.memory->buf_size();
        if (auto ok = p.check_buffers(); !ok) return forward_error(ok);
        const unsigned queues = std::max(p.link.rx_queues, p.link.tx_queues);
        if (spec.mode == ring_mode::one && spec.ring >= queues)
            return fail(EINVAL, spec.name + " has " + std::to_string(queues) + " queue(s): there is no queue " + std::to_string(spec.ring));
        p.single = spec.mode == ring_mode::one && queues > 1;
        p.queue = p.single ? spec.ring : 0;
        p.shape.ask_slots(o, p.shape.tx_slots);
        p.shape.extra_bufs = o.extra_bufs;
        p.shape.host_tx_rings = p.shape.host_rx_rings = p.single ? 0 : 1;
        if (auto ok = has_host_rings(spec); !ok) return forward_error(ok);
        p.set_rings(queues);
        for (const auto& asked : {o.tx_rings, o.rx_rings})
            if (asked && *asked != p.shape.rx_rings)
                return fail(EINVAL, spec.name + " has " + std::to_string(p.shape.rx_rings) + " ring pair(s) in " + p.choice.mode() +
                                        " mode, not " + std::to_string(*asked) + "; `ethtool -L` sets an interface's queues");
        if (auto ok = p.shape.check(spec.name); !ok) return forward_error(ok);
        return p;
    }

    /// There is one pair of them, as netmap has by default.
    [[nodiscard]] static result<void> has_host_rings(const port_spec& spec) {
        if (spec.host_rings.value_or(1) == 1 && (spec.mode != ring_mode::one_host || spec.ring == 0)) return {};
        return fail(EINVAL, spec.name + " has one pair of host rings; write " + spec.name + "^ or " + spec.name + "*");
    }

    /// AF_PACKET hears all queues on one socket; AF_XDP has a ring pair for each.
    void set_rings(unsigned queues) {
        shape.tx_rings = shape.rx_rings = choice.xdp && !single ? queues : 1;
    }
    void fall_back(const std::string& why) {
        choice.xdp = false;
        choice.reason = why;
        set_rings(1);
    }

    [[nodiscard]] port_info host_info() const {
        port_info i = info();
        i.name = link.name + "^";
        i.mode = "host";
        i.reason = "the host's stack on " + link.name;
        i.advice.clear();
        i.tx_rings = shape.host_tx_rings;
        i.rx_rings = shape.host_rx_rings;
        return i;
    }
    [[nodiscard]] port_info both_info() const {
        port_info i = info();
        i.name = link.name + "*";
        i.tx_rings += shape.host_tx_rings;
        i.rx_rings += shape.host_rx_rings;
        return i;
    }
    [[nodiscard]] port_info info_for(const port_spec& spec) const {
        return !wants_own(spec) ? host_info() : wants_host(spec) ? both_info() : info();
    }
    [[nodiscard]] port_info info() const {
        port_info i = shape.info(buf_size);
        i.name = link.name + (single ? "-" + std::to_string(queue) : "");
        i.mode = choice.mode();
        i.reason = choice.reason;
        i.advice = choice.advice;
        return i;
    }

private:
    // A chunk is a buffer and its headroom, and AF_XDP wants chunks of 2048 bytes to one page.
    [[nodiscard]] result<void> check_buffers() {
        if (!choice.xdp || (buf_size + sys::xdp_headroom >= 2048 && buf_size + sys::xdp_headroom <= 4096)) return {};
        const auto why = "AF_XDP needs buffers of 1792 to 3840 bytes, and this memory has " + std::to_string(buf_size);
        if (choice.insisted) return fail(EINVAL, link.name + ": " + why);
        fall_back(why);
        return {};
    }
};

struct netdev_state : host_port_state<netdev_tx, netdev_rx> {
    sys::link_info link;
    bool single = false;

    explicit netdev_state(netdev_plan plan) : link(plan.link), single(plan.single), plan_(std::move(plan)) {}
    netdev_state(const netdev_state&) = delete;
    netdev_state& operator=(const netdev_state&) = delete;
    ~netdev_state() {
        close_own();
        close_host();
    }

    /// Memory and a place for the rings; what is opened then is one part, or both, in either order.
    [[nodiscard]] static result<std::shared_ptr<netdev_state>> create(context& ctx, const port_spec& spec, const open_options& o);
    [[nodiscard]] result<void> open_parts(const port_spec& spec, const open_options& o);
    [[nodiscard]] bool has_own() const noexcept { return !tx.empty(); }
    [[nodiscard]] bool has_host() const noexcept { return !host_tx.empty(); }

    [[nodiscard]] const port_info& info_of(const ring_view& v) const noexcept {
        return v.ring_range::empty() ? host_info : v.host.empty() ? info : both_info;
    }
    [[nodiscard]] int fd(const ring_view& v) const noexcept {
        return v.host.empty() ? own_sleeper_.fd() : v.ring_range::empty() ? host_sleeper_.fd() : both_.get();
    }
    void arm(events e, const ring_view& v) noexcept;
    [[nodiscard]] result<void> status(const ring_view& v) {
        return v.ring_range::empty() ? host_sleeper_.status(link) : own_sleeper_.status(link);
    }
    void read_kernel_drops(const ring_view& v) noexcept;
    [[nodiscard]] std::optional<sys::link_counters> kernel_counters(const ring_view& v) const noexcept {
        if (v.ring_range::empty()) return tap_->counters();
        if (auto c = sys::read_link_counters(link.index)) return *c;
        return std::nullopt;
    }

    /// Whether each tx ring of a handle takes frames with a virtio-net header.
    [[nodiscard]] bool carries_headers(const ring_view& v) const noexcept {
        return v.ring_range::empty() || packet_rings_ != nullptr;
    }
    void deliver_headers(const ring_view& v, bool on) noexcept {
        if (!v.ring_range::empty() && packet_rings_) packet_rings_->rx.offloads = on;
        if (!v.host.empty()) host_rings_->rx.offloads = on;
    }

    port_info host_info, both_info;

private:
    [[nodiscard]] result<void> open_own(netdev_plan plan, const open_options& o);
    [[nodiscard]] result<void> try_own(const netdev_plan& plan, const open_options& o);
    [[nodiscard]] result<void> open_xdp(const netdev_plan& plan);
    [[nodiscard]] result<void> open_packet(const netdev_plan& plan, const open_options& o);
    void close_own() noexcept;
    [[nodiscard]] result<void> open_host(const open_options& o);
    [[nodiscard]] result<void> try_host(const open_options& o);
    void close_host() noexcept;
    [[nodiscard]] result<void> cut_off(bool own, bool by_packet);
    [[nodiscard]] result<void> join_sleepers();

    void add_rings(packet_rings& p, int fd, netdev_sleeper& sleeper, bool offloads, ring_part part);

    netdev_plan plan_;  // as the first open made it
    // In the order of opening: closed in the opposite one, the stack last.
    sys::cutoff cut_;
    base::unique_fd promiscuous_;
    sys::xdp_program program_;
    std::vector<sys::xdp_socket> xdp_;
    base::unique_fd claim_;  // AF_PACKET: nobody else has it
    std::vector<sys::packet_socket> packet_;
    std::vector<std::unique_ptr<xdp_tx_state>> xdp_tx_;
    std::vector<std::unique_ptr<xdp_rx_state>> xdp_rx_;
    std::unique_ptr<packet_rings> packet_rings_;
    std::vector<std::uint64_t> kernel_drops_;  // by rx ring, as already counted
    netdev_sleeper own_sleeper_;

    base::unique_fd host_claim_;
    std::optional<sys::host_tap> tap_;
    std::unique_ptr<packet_rings> host_rings_;
    std::uint64_t host_drops_ = 0;
    netdev_sleeper host_sleeper_;

    base::unique_fd both_;  // the two sleepers' descriptors
    transparent_port<netdev_rx, netdev_tx> transparent_;
};

}  // namespace nm
