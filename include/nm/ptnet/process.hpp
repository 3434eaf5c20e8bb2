// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A port that another process serves: of a switch, by the host of its name, which is started if there is none; or a monitor of a
// port that a program has open.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nm/base/pipe_wakes.hpp"
#include "nm/ptnet/port.hpp"
#include "nm/sys/control.hpp"

namespace nm {

/// `valeN:PORT` by the process that hosts valeN (sys/control.hpp), so that any programs of one user meet on one switch: rings and
/// buffers of the switch's port, of which nothing is copied on the way here. A program that makes a vale_switch of its own opens
/// vale_port instead. The port is gone when it is closed, or its program dies. `valeN:PORT/r`, `/t`, `/rt` watch such a port, whoever of the
/// same user has it open (ports/monitor.hpp): copies, since the port's memory is between it and its own program only. `netmap:eth0/rt` and
/// `netmap:p{1/rt` do likewise with a port that another program has open, if that one lets it be watched (ptnet/watch.hpp).
class process_port : public ptnet_port {
public:
    static constexpr const char* kind_name = "ports of a switch (valeNAME:PORT), monitors of ports of other programs (PORT/r, /t)";
    [[nodiscard]] static bool matches(const port_spec& s) noexcept { return (s.kind == port_kind::vale && s.pipe_id.empty()) || s.monitor(); }

    [[nodiscard]] static result<process_port> open(context& ctx, const port_spec& spec, const open_options& o) {
        if (o.memory || o.mem_id || spec.mem_id || !spec.share.empty())
            return fail(EINVAL, spec.name + ": a port of another process lives in that process's memory, not in one that is asked for");
        if (o.indirect) return fail(EOPNOTSUPP, spec.name + ": indirect buffers are addresses of this process, and another one drives the port");
        if (!spec.monitor() && spec.mode != ring_mode::all && spec.mode != ring_mode::one) return fail(EINVAL, spec.name + ": a port of a switch has no host rings");
        if (spec.zero_copy_monitor) return fail(EOPNOTSUPP, spec.name + ": the memory of another program's port is not ours to look into; leave out the z, for copies");
        const bool at_switch = spec.kind == port_kind::vale && spec.pipe_id.empty();
        sys::reach_options reach;
        reach.start = at_switch;
        auto grant = sys::open_at_host(at_switch ? switch_of(spec) : watched_at(spec), at_host(spec), wish(spec, o), reach);
        if (!grant && !at_switch && grant.error().code.value() == ENOENT)
            return fail(ENOENT, at_host(spec) + ": no program lets that port be watched; one that has it open may (watch_permit; the tools: --watchable)");
        if (!grant) return forward_error(grant);
        auto map = base::map_sealed(grant->memory.get(), grant->words.size);
        if (!map) return forward_error(map);
        struct held {
            base::mapping map;
            std::vector<base::unique_fd> kicks;
        };
        auto keep = std::make_shared<held>(held{std::move(*map), std::move(grant->kicks)});
        ptnet::link_to_host link;
        link.base = keep->map.data();
        link.size = keep->map.size();
        link.port = grant->words.port;
        for (const auto& k : keep->kicks) link.bells.push_back({.fd = k.get()});
        auto wakes = pipe_wakes::reopen(grant->irqs);
        if (!wakes) return forward_error(wakes);
        link.wakes = std::move(*wakes);
        link.alive = grant->channel.release();
        link.keep = std::move(keep);
        port_spec here = spec;
        if (spec.monitor()) here.mode = ring_mode::all;  // which rings it watches is the host's to know
        auto port = ptnet_port::attach(ctx, std::move(link), here, o);
        if (!port) return forward_error(port);
        return process_port(std::move(*port));
    }

    /// What it would be; the host is not asked, since that would start one.
    [[nodiscard]] static result<port_info> query(context&, const port_spec& spec, const open_options& o) {
        port_info i = port_shape::asked(o).info();
        i.name = at_host(spec);
        i.mode = "ptnet";
        i.reason = spec.monitor() ? "watches another program's port" : "a switch in a process of its own";
        return i;
    }

    /// Where a program that lets its port be watched is met.
    [[nodiscard]] static std::string watched_at(const port_spec& s) {
        std::string at = "watch-" + s.name + (s.pipe_id.empty() ? "" : (s.pipe_slave ? ".s." : ".m.") + s.pipe_id);
        for (char& c : at)
            if (c == ':') c = '_';  // a PCI address
        return at;
    }

private:
    explicit process_port(ptnet_port p) noexcept : ptnet_port(std::move(p)) {}

    [[nodiscard]] static std::string switch_of(const port_spec& s) { return s.name.substr(0, s.name.find(':')); }
    /// The name as the host is to open it.
    [[nodiscard]] static std::string at_host(const port_spec& s) {
        if (!s.monitor()) return s.name;
        const bool one = s.mode == ring_mode::one || s.mode == ring_mode::one_host;
        const bool host = s.mode == ring_mode::host || s.mode == ring_mode::one_host;
        const char* const prefix = s.kind == port_kind::vale ? "" : s.kind == port_kind::null ? "null:" : s.kind == port_kind::ptnet ? "ptnet:" : "netmap:";
        return prefix + s.name + (s.pipe_id.empty() ? "" : (s.pipe_slave ? "}" : "{") + s.pipe_id) + (host ? "^" : "") +
               (one ? (host ? "" : "-") + std::to_string(s.ring) : "") + "/" + (s.monitor_rx ? "r" : "") + (s.monitor_tx ? "t" : "");
    }
    [[nodiscard]] static sys::port_wish wish(const port_spec& spec, const open_options& o) {
        sys::port_wish w;
        w.tx_rings = o.tx_rings.value_or(0);
        w.rx_rings = o.rx_rings.value_or(0);
        w.tx_slots = o.tx_slots.value_or(0);
        w.rx_slots = o.rx_slots.value_or(0);
        w.extra_bufs = o.extra_bufs;
        w.vnet_hdr = o.vnet_hdr;
        w.exclusive = spec.exclusive || o.exclusive;
        return w;
    }
};
static_assert(port_type<process_port> && openable<process_port>);

}  // namespace nm
