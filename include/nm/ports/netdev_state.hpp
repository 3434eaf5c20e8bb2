// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What an open kernel interface holds: descriptors only, so that a kill -9 gives everything back.

#include <atomic>
#include <memory>
#include <string>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <vector>

#include "nm/clock.hpp"
#include "nm/context.hpp"
#include "nm/port.hpp"
#include "nm/ports/netdev_backend.hpp"
#include "nm/ports/netdev_mode.hpp"
#include "nm/sys/cutoff.hpp"

namespace nm {

/// What an open would do, before anything is touched.
struct netdev_plan {
    sys::link_info link;
    netdev_choice choice;
    port_shape shape;
    bool single = false;  // one queue of several
    unsigned queue = 0;   // the first one
    std::uint32_t buf_size = preferred_stride;

    static constexpr index_t default_slots = 1024;

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
        p.shape.tx_slots = o.tx_slots.value_or(o.rx_slots.value_or(default_slots));
        p.shape.rx_slots = o.rx_slots.value_or(p.shape.tx_slots);
        p.shape.extra_bufs = o.extra_bufs;
        p.set_rings(queues);
        for (const auto& asked : {o.tx_rings, o.rx_rings})
            if (asked && *asked != p.shape.rx_rings)
                return fail(EINVAL, spec.name + " has " + std::to_string(p.shape.rx_rings) + " ring pair(s) in " + p.choice.mode() +
                                        " mode, not " + std::to_string(*asked) + "; `ethtool -L` sets an interface's queues");
        if (auto ok = p.shape.check(spec.name); !ok) return forward_error(ok);
        return p;
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

    [[nodiscard]] port_info info() const {
        port_info i;
        i.name = link.name + (single ? "-" + std::to_string(queue) : "");
        i.mode = choice.mode();
        i.reason = choice.reason;
        i.advice = choice.advice;
        i.tx_rings = shape.tx_rings;
        i.rx_rings = shape.rx_rings;
        i.tx_slots = shape.tx_slots;
        i.rx_slots = shape.rx_slots;
        i.buf_size = buf_size;
        i.memory = static_cast<std::size_t>(2 + shape.bufs()) * buf_size;
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

struct netdev_state : port_state<netdev_tx, netdev_rx> {
    sys::link_info link;
    bool single = false;

    netdev_state() = default;
    netdev_state(const netdev_state&) = delete;
    netdev_state& operator=(const netdev_state&) = delete;
    ~netdev_state() {
        close_sockets();
        restore();
    }

    [[nodiscard]] static result<std::shared_ptr<netdev_state>> create(context& ctx, const port_spec& spec,
                                                                      const open_options& o) {
        auto plan = netdev_plan::make(spec, o);
        if (!plan) return forward_error(plan);
        if (!plan->link.up)
            return fail(ENETDOWN, spec.name + " is down; run `ip link set " + spec.name + " up`");
        auto made = build(ctx, spec, o, *plan);
        if (made || !plan->choice.xdp || plan->choice.insisted) return made;
        plan->fall_back(made.error().text);
        return build(ctx, spec, o, *plan);
    }

    [[nodiscard]] int fd() const noexcept { return poll_.get(); }

    /// An error while the link is down; for good once it is gone or its MTU changed.
    [[nodiscard]] result<void> status() {
        const auto& s = watch_.look();
        if (!s.lost()) return {};
        base::eventfd_signal(wake_.get());
        if (s.gone || !base::interface_exists(link.name.c_str())) return fail(ENODEV, link.name + " is gone; close the port");
        if (s.down) return fail(ENETDOWN, link.name + " is down; run `ip link set " + link.name + " up`");
        return fail(EMSGSIZE, "the MTU of " + link.name + " changed from " + std::to_string(link.mtu) + " to " +
                                  std::to_string(s.mtu) + "; close the port and open it again");
    }

    [[gnu::cold]] void arm(events e) noexcept;
    void read_kernel_drops() noexcept;
    [[nodiscard]] bool carries_headers() const noexcept { return !packet_.empty(); }
    void deliver_headers(bool on) noexcept {
        for (auto& r : packet_rx_) r->offloads = on;
    }

private:
    friend struct netdev_builder;
    [[nodiscard]] static result<std::shared_ptr<netdev_state>> build(context& ctx, const port_spec& spec,
                                                                     const open_options& o, const netdev_plan& plan);
    void close_sockets() noexcept;
    void restore() noexcept;
    void disarm(events direction) noexcept;
    void watch_sockets() noexcept;
    void watch_sockets(std::uint32_t what) noexcept;
    template <events Direction, class Side>
    void join(Side& side, slot* slots, index_t n) noexcept {
        side.memory = memory.get();
        side.slots = slots;
        side.num_slots = n;
        side.armed = Direction == events::rx ? &rx_armed_ : &tx_armed_;
        side.disarm = [](void* self) noexcept { static_cast<netdev_state*>(self)->disarm(Direction); };
        side.port = this;
    }
    [[nodiscard]] result<void> open_xdp(const netdev_plan& plan);
    [[nodiscard]] result<void> open_packet(const netdev_plan& plan, const open_options& o);
    [[nodiscard]] result<void> make_descriptors();

    // In the order of opening: closed in the opposite one, the stack last.
    sys::cutoff cut_;
    base::unique_fd promiscuous_;
    sys::link_watch watch_;
    sys::xdp_program program_;
    std::vector<sys::xdp_socket> xdp_;
    base::unique_fd claim_;  // AF_PACKET: nobody else has it
    std::vector<sys::packet_socket> packet_;
    std::vector<std::unique_ptr<xdp_tx_state>> xdp_tx_;
    std::vector<std::unique_ptr<xdp_rx_state>> xdp_rx_;
    std::vector<std::unique_ptr<packet_tx_state>> packet_tx_;
    std::vector<std::unique_ptr<packet_rx_state>> packet_rx_;
    std::vector<std::uint64_t> kernel_drops_;  // by rx ring, as already counted
    base::unique_fd poll_, wake_, timer_;
    std::atomic<bool> rx_armed_ = false, tx_armed_ = false;  // one thread may sleep while another uses the other direction
    std::uint64_t mitigation_ns_ = 0;
    std::uint64_t last_wake_ = 0;
};

}  // namespace nm
