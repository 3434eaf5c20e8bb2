// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <new>

#include "nm/ports/pipe_end.hpp"

namespace nm {

/// One end of a pipe within a program.
struct pipe_end : basic_pipe_end<pipe_tx<>, link_rx<>> {
    [[nodiscard]] static result<void> status() { return {}; }

private:
    friend struct pipe_core;
};

/// A pipe: two ends, both directions, in one region. Made by the first open of either end, gone when both are closed;
/// while one end is open the other may be closed and opened again and finds everything as it was.
struct pipe_core {
    region_ptr memory;
    std::size_t links_offset = 0, links_bytes = 0;
    pipe_end ends[2];

    pipe_core() = default;
    pipe_core(const pipe_core&) = delete;
    pipe_core& operator=(const pipe_core&) = delete;
    ~pipe_core() {
        for (auto& e : ends)
            for (auto& t : e.tx) t.backend().settle();
        if (!memory || links_bytes == 0) return;
        const std::lock_guard guard(memory->pools());
        memory->objects().give_back(links_offset, links_bytes);
    }

    [[nodiscard]] static result<std::shared_ptr<pipe_core>> create(context& ctx, const port_spec& spec,
                                                                   const open_options& o) {
        const port_shape master = pipe_shape::of(o, spec.pipe_slave);
        const port_shape slave = pipe_shape::crossed(master);
        if (auto ok = master.check(spec.identity()); !ok) return forward_error(ok);
        const std::size_t links = (master.tx_rings + master.rx_rings) * sizeof(ring_link);
        auto memory = ctx.region_of(spec.name);
        const bool cramped = memory && !holds(*memory, master.bufs() + slave.bufs(), master.meta_bytes() + slave.meta_bytes() + links);
        if (o.memory || !memory || cramped) {
            auto made = ctx.memory_for(spec, o, [&] {
                region_options r;
                r.bufs = 2 + master.bufs() + slave.bufs() + 2 * member_bufs;
                r.meta_bytes = master.meta_bytes() + slave.meta_bytes() + links + 16384 + 2 * member_meta_bytes;
                return region::create(r);
            });
            if (!made) return forward_error(made);
            memory = *made;
        }
        auto core = std::make_shared<pipe_core>();
        core->memory = memory;
        if (auto ok = core->build(spec, master, slave, links); !ok) return forward_error(ok);
        if (cramped && !o.memory)
            for (auto& e : core->ends)
                e.info.reason += "; the memory of " + spec.name + " has no room for it, so frames between the two are copied (open both with @N)";
        return core;
    }

private:
    [[nodiscard]] static bool holds(region& m, std::uint32_t bufs, std::size_t meta) {
        const std::lock_guard guard(m.pools());
        return m.bufs().available() >= bufs && m.objects().available() >= meta + 16384;
    }
    [[nodiscard]] result<void> build(const port_spec& spec, const port_shape& master, const port_shape& slave,
                                     std::size_t links) {
        const std::string names[2] = {pipe_shape::name(spec, false), pipe_shape::name(spec, true)};
        for (int e = 0; e < 2; ++e) {
            auto m = port_memory::create(memory, names[e], e == 0 ? master : slave);
            if (!m) return forward_error(m);
            const auto& shape = e == 0 ? master : slave;
            if (auto ok = ends[e].wakes.make(std::max(shape.tx_rings, shape.rx_rings), names[e]); !ok) return ok;
            ends[e].rings = std::move(*m);
        }
        {
            const std::lock_guard guard(memory->pools());
            const auto at = memory->objects().take(links);
            if (!at) return fail(ENOMEM, names[0] + ": no room left in its memory");
            links_offset = *at;
            links_bytes = links;
        }
        auto* link = new (memory->base() + links_offset) ring_link[master.tx_rings + master.rx_rings];
        const bool asymmetric = base::membarrier_register();
        for (int e = 0; e < 2; ++e) {
            pipe_end& here = ends[e];
            pipe_end& there = ends[1 - e];
            here.asymmetric = asymmetric;
            here.memory = memory;
            here.info = pipe_shape::named(names[e], here.rings.shape().info(*memory));
            here.info.reason = "both ends in this process";
            for (index_t i = 0; i < here.rings.shape().tx_rings; ++i, ++link)
                join(here, there, i, link, asymmetric);
        }
        for (auto& end : ends) end.set_beside();
        return {};
    }

    static void join(pipe_end& from, pipe_end& to, index_t i, ring_link* link, bool asymmetric) {
        const region& m = *from.memory;
        ring* t = from.rings.tx(i);
        ring* r = to.rings.rx(i);
        const index_t n = from.rings.shape().tx_slots;
        for (index_t s = 0; s < n; ++s) r->slots()[s] = t->slots()[s];
        const pipe_tx<> tx{t->slots(), r->slots(), link, n, m.num_bufs(), {to.wakes.fd(i)}, from.wakes.fd(i), nullptr, asymmetric};
        const link_rx<> rx{link, n, {from.wakes.fd(i)}, to.wakes.fd(i), nullptr, asymmetric};
        from.tx.emplace_back(t, n, m, tx);
        to.rx.emplace_back(r, n, m, rx);
    }
};

/// One end of a pipe, `netmap:NAME{ID` (master) or `netmap:NAME}ID` (slave); any parent name will do, and a parent that
/// is open in this program lends its memory if there is room in it, so that it and the pipe swap buffers. Nothing is ever
/// lost in a pipe: it pushes back. Sources: netmap(4), semantics section 9.
class pipe : public port_handle<pipe_end> {
public:
    static constexpr const char* kind_name = "pipes (netmap:NAME{ID and netmap:NAME}ID)";
    [[nodiscard]] static bool matches(const port_spec& s) noexcept { return s.kind == port_kind::pipe && !s.monitor(); }

    [[nodiscard]] static result<pipe> open(context& ctx, const port_spec& spec, const open_options& o) {
        if (spec.mode != ring_mode::all && spec.mode != ring_mode::one)
            return fail(EINVAL, spec.identity() + ": a pipe has no host rings");
        const std::string key = "pipe:" + spec.identity();
        auto core = ctx.find<pipe_core>(key);
        if (!core) {
            auto made = pipe_core::create(ctx, spec, o);
            if (!made) return forward_error(made);
            core = *made;
            ctx.keep(key, core);
            for (auto& e : core->ends) e.offer_taps(ctx);
        }
        pipe_end& end = core->ends[spec.pipe_slave ? 1 : 0];
        if (auto ok = may_share(end, spec, o); !ok) return forward_error(ok);
        if (auto ok = has_ring(end, spec); !ok) return forward_error(ok);
        if (o.memory && o.memory != core->memory)
            return fail(EINVAL, spec.identity() + " exists already, in other memory than the one asked for");
        pipe p(std::shared_ptr<pipe_end>(core, &end), spec, o);
        for (index_t i = 0; i < p.num_rx_rings(); ++i) p.rx(i).set_timestamps(o.timestamps);  // others may run on the rest
        return p;
    }

    [[nodiscard]] static result<port_info> query(context& ctx, const port_spec& spec, const open_options& o) {
        if (auto core = ctx.find<pipe_core>("pipe:" + spec.identity())) return core->ends[spec.pipe_slave ? 1 : 0].info;
        return pipe_shape::query(spec, o);
    }

private:
    pipe(std::shared_ptr<pipe_end> end, const port_spec& spec, const open_options& o)
        : port_handle(std::move(end), spec, o) {}
};

}  // namespace nm
