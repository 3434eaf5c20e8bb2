// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A kernel interface as a port: netmap's "emulated mode" without the module. How the interface is driven is known when
// it is open; rings have one type all the same, with one branch per step that always goes the same way.

#include "nm/port.hpp"
#include "nm/ports/netdev_open.hpp"

namespace nm {

/// `netmap:eth0`: all of an interface's queues; `netmap:eth0-2`: one of them, others may be opened elsewhere, also by
/// other processes. While it is open the host's stack neither hears nor speaks there (with one queue of several: it does
/// not hear that queue). `netmap:eth0^`: the host rings: what the stack sends there arrives here, what is sent here the
/// stack hears; alone, the stack goes on hearing the wire. `netmap:eth0*`: both, the host rings last. Everything is given
/// back on close and on kill -9.
class netdev : public port_handle<netdev_state> {
public:
    static constexpr const char* kind_name = "kernel interfaces (netmap:eth0)";
    [[nodiscard]] static bool matches(const port_spec& s) noexcept {
        return s.kind == port_kind::netdev && !s.monitor();
    }

    [[nodiscard]] static result<netdev> open(context& ctx, const port_spec& spec, const open_options& o) {
        if (auto ok = netdev_plan::has_host_rings(spec); !ok) return forward_error(ok);
        // A port that is open as a whole has all the rings; a handle for one of them is a view of it.
        auto state = ctx.find<netdev_state>(key(spec.name));
        const auto one = key(spec.name) + "-" + std::to_string(spec.ring);
        if (!state && spec.mode == ring_mode::one) state = ctx.find<netdev_state>(one);
        const bool first = !state;
        if (first) {
            auto made = netdev_state::create(ctx, spec, o);
            if (!made) return forward_error(made);
            state = std::move(*made);
            if (auto ok = no_single_queue(ctx, *state); !ok) return forward_error(ok);
        } else {
            if (auto ok = may_share(*state, spec, o); !ok) return forward_error(ok);
            if (o.memory && o.memory != state->memory)
                return fail(EINVAL, spec.name + " is open already, in other memory than the one asked for");
            if (auto ok = same_wishes(*state, spec, o); !ok) return forward_error(ok);
        }
        if (auto ok = state->open_parts(spec, o); !ok) return forward_error(ok);
        if (!state->single)
            if (auto ok = has_ring(*state, spec); !ok) return forward_error(ok);
        if (first) {
            ctx.keep(state->single ? one : key(spec.name), state);
            ctx.set_region_of(spec.identity(), state->memory);
        }
        state->offer_taps(ctx, state->host_info);
        return netdev(std::move(state), spec, o);
    }

    [[nodiscard]] static result<port_info> query(context& ctx, const port_spec& spec, const open_options& o) {
        if (auto state = ctx.find<netdev_state>(key(spec.name)))
            if ((!wants_own(spec) || state->has_own()) && (!wants_host(spec) || state->has_host()))
                return state->info_of(state->view(spec));
        auto plan = netdev_plan::make(spec, o);
        if (!plan) return forward_error(plan);
        return plan->info_for(spec);
    }

    /// With what the kernel dropped before it came here.
    [[nodiscard]] counters rx_stats() noexcept {
        state().read_kernel_drops(view());
        return port_handle::rx_stats();
    }

    /// What the kernel has counted on the interface since it was made; of `^`, what the stack sent there (in) and heard.
    [[nodiscard]] std::optional<sys::link_counters> kernel_counters() { return state().kernel_counters(view()); }

    /// Whether this port can send a frame whose slot carries a virtio-net header (ns_vnet) on as it is. AF_XDP cannot: it
    /// finishes a checksum and counts what would have to be cut.
    [[nodiscard]] bool carries_headers() noexcept { return state().carries_headers(view()); }
    /// Switches between frames with headers (open_options::offloads) and complete frames, from the next one read on. Who
    /// opens two ports with offloads and finds that one of them does not carry headers asks the other for complete frames.
    void deliver_headers(bool on) noexcept { state().deliver_headers(view(), on); }

private:
    using port_handle::port_handle;
    // A port that is open stays as it is: whoever wants it otherwise is told so.
    [[nodiscard]] static result<void> same_wishes(const netdev_state& s, const port_spec& spec, const open_options& o) {
        auto mode = spec.conf_mode.empty() ? result<netdev_mode>(o.require_mode ? o.mode : netdev_mode::best)
                                           : mode_named(spec.conf_mode);
        if (!mode) return forward_error(mode);
        const bool packet = s.info.mode == "af_packet", zero_copy = s.info.mode == "af_xdp zero-copy";
        const bool other = *mode == netdev_mode::af_packet          ? !packet
                           : *mode == netdev_mode::af_xdp_zero_copy ? !zero_copy
                           : *mode == netdev_mode::af_xdp_copy      ? packet || zero_copy
                                                                    : false;
        if (wants_own(spec) && s.has_own() && other) return fail(EBUSY, spec.name + " is open already, as " + s.info.mode + "; close it to open it in another mode");
        if ((spec.tx_slots && *spec.tx_slots != s.host_info.tx_slots) || (spec.rx_slots && *spec.rx_slots != s.host_info.rx_slots))
            return fail(EBUSY, spec.name + " is open already, with rings of " + std::to_string(s.host_info.tx_slots) + " and " +
                                   std::to_string(s.host_info.rx_slots) + " slots; close it to open it with others");
        return {};
    }
    // Whole and by queues at once would be two ports with one stack between them.
    [[nodiscard]] static result<void> no_single_queue(context& ctx, const netdev_state& s) {
        for (unsigned q = 0; !s.single && q < s.link.rx_queues; ++q)
            if (ctx.find<netdev_state>(key(s.link.name) + "-" + std::to_string(q)))
                return fail(EBUSY, s.link.name + "-" + std::to_string(q) + " is open in this program; close it before opening all of " +
                                       s.link.name + ", or its host rings");
        return {};
    }
    [[nodiscard]] static std::string key(const std::string& name) { return "netdev:" + name; }
};

static_assert(port_type<netdev>);

}  // namespace nm
