// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "nm/ports/shared_pipe_state.hpp"

namespace nm {

/// One end of a pipe, `netmap:NAME{ID` or `netmap:NAME}ID`, whose other end may be opened by another process of this user, in either
/// order. The host program (nm-host) keeps the pipe as long as an end of it is open; frames pass directly. Either end may be closed,
/// or die, and be opened again: it goes on where it was. A frame that was read and not given back is read again; one that was not yet
/// sent by a sync has never been. Opening a pipe is consent to share its buffers; nothing else that the other side writes
/// is believed. Nothing is lost: a full pipe pushes back. netmap(4), semantics section 9.
class shared_pipe : public port_handle<shared_pipe_end> {
public:
    static constexpr const char* kind_name = "pipes (netmap:NAME{ID and netmap:NAME}ID)";
    [[nodiscard]] static bool matches(const port_spec& s) noexcept { return s.kind == port_kind::pipe && !s.monitor(); }

    [[nodiscard]] static result<shared_pipe> open(context& ctx, const port_spec& spec, const open_options& o) {
        const std::string name = pipe_shape::name(spec, spec.pipe_slave);
        if (spec.mode != ring_mode::all && spec.mode != ring_mode::one) return fail(EINVAL, name + ": a pipe has no host rings");
        const std::string key = "shared-pipe:" + name;
        auto end = ctx.find<shared_pipe_end>(key);
        if (!end) {
            auto made = make(ctx, spec, o, name);
            if (!made) return forward_error(made);
            end = *made;
        }
        if (auto ok = may_share(*end, spec, o); !ok) return forward_error(ok);
        if (auto ok = has_ring(*end, spec); !ok) return forward_error(ok);
        if (o.memory && o.memory != end->memory)
            return fail(EINVAL, name + " exists already, in other memory than the one asked for");
        ctx.keep(key, end);
        end->offer_taps(ctx);
        shared_pipe p(std::move(end), spec, o);
        for (index_t i = 0; i < p.num_rx_rings(); ++i) p.rx(i).set_timestamps(o.timestamps);  // others may run on the rest
        return p;
    }

    [[nodiscard]] static result<port_info> query(context& ctx, const port_spec& spec, const open_options& o) {
        if (auto end = ctx.find<shared_pipe_end>("shared-pipe:" + pipe_shape::name(spec, spec.pipe_slave))) return end->info;
        return pipe_shape::query(spec, o);
    }

    /// Whether somebody has the other end open now. May be asked by any thread.
    [[nodiscard]] bool peer_open() noexcept { return state().peer_open(); }

    /// The name that the pipe's host goes by: the parent's; for a port of a switch, the switch's.
    [[nodiscard]] static std::string rendezvous(const port_spec& spec) {
        if (const auto colon = spec.name.find(':'); spec.name.compare(0, 4, "vale") == 0 && colon != std::string::npos)
            return spec.name.substr(0, colon);
        std::string name = spec.name;
        for (char& c : name)
            if (c == ':') c = '_';  // a PCI address
        return name;
    }

private:
    shared_pipe(std::shared_ptr<shared_pipe_end> end, const port_spec& spec, const open_options& o)
        : port_handle(std::move(end), spec, o) {}

    // The memory whose buffers the pipe is to have, if it is one that another process can map.
    struct lending {
        region_ptr memory;
        std::string why_not;
    };
    [[nodiscard]] static result<lending> lender(context& ctx, const port_spec& spec, const open_options& o, const std::string& name) {
        const bool asked = o.memory || !spec.share.empty() || spec.mem_id || o.mem_id;
        auto m = asked ? ctx.memory_for(spec, o, [] { return result<region_ptr>(nullptr); }) : result<region_ptr>(ctx.region_of(spec.name));
        if (!m) return forward_error(m);
        if (*m == nullptr || (*m)->fd() >= 0) return lending{*m, {}};
        if (asked) return fail(EINVAL, name + ": no other process can map that memory; it must be made with backing::memfd");
        return lending{nullptr, "; the memory of " + spec.name + " is this process's own, so frames between the two are copied (open it in memory made with backing::memfd)"};
    }

    [[nodiscard]] static result<sys::custody> claim(const port_spec& spec, const pipe_custody& c) {
        // The process that had this end may have died just now, and the host not have noticed: a tenth of a second.
        for (int tries = 0;; ++tries) {
            auto held = sys::claim_at_host(rendezvous(spec), spec.identity(), spec.pipe_slave ? 1 : 0, c.geometry.bytes(), c.fds());
            if (held || held.error().code.value() != EBUSY || tries == 20) return held;
            ::usleep(5000);
        }
    }
    [[nodiscard]] static result<std::shared_ptr<shared_pipe_end>> make(context& ctx, const port_spec& spec, const open_options& o,
                                                                       const std::string& name) {
        if (o.extra_bufs != 0) return fail(EOPNOTSUPP, name + ": a pipe between processes has no extra buffers");
        const port_shape master = pipe_shape::of(o, spec.pipe_slave);
        if (auto ok = master.check(name); !ok) return forward_error(ok);
        if (master.tx_rings > pipe_geometry::most_rings || master.rx_rings > pipe_geometry::most_rings)
            return fail(EINVAL, name + ": a pipe between processes has at most " + std::to_string(pipe_geometry::most_rings) + " rings in each direction");
        auto lends = lender(ctx, spec, o, name);
        if (!lends) return forward_error(lends);
        region_ptr memory = lends->memory;
        pipe_geometry g;
        g.tx_rings = master.tx_rings;
        g.rx_rings = master.rx_rings;
        g.tx_slots = master.tx_slots;
        g.rx_slots = master.rx_slots;
        g.buf_size = ctx.options().buf_size;
        auto c = pipe_custody::make(g, memory, name);
        if (!c) return forward_error(c);
        auto held = claim(spec, *c);
        if (!held || held->words.made == 0)
            if (memory) c->unmake(*memory);
        if (!held) return forward_error(held);
        if (held->words.made == 0) {
            auto theirs = pipe_custody::from(held->payload, std::move(held->fds), name);
            if (!theirs) return forward_error(theirs);
            *c = std::move(*theirs);
            if (memory && !c->buffers_are_of(*memory)) {
                if (o.memory) return fail(EINVAL, name + " exists already, in other memory than the one asked for");
                lends->why_not = "; the pipe was made before it could live in the memory of " + spec.name + ", so frames between the two are copied";
                memory = nullptr;
            }
        }
        auto end = std::make_shared<shared_pipe_end>();
        const bool other = held->words.other != 0;
        if (auto ok = end->build(std::move(*c), std::move(held->channel), other, spec.pipe_slave, memory, name); !ok) return forward_error(ok);
        end->info.reason += lends->why_not;
        return end;
    }
};

}  // namespace nm
