// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <new>

#include "nm/ports/pipe_backend.hpp"
#include "nm/wakes.hpp"

namespace nm {

/// One end of a pipe: its rings, and the descriptors that sleep on them.
struct pipe_end : port_state<pipe_tx<>, link_rx<>> {
    ring_wakes wakes;
    bool asymmetric = false;

    [[nodiscard]] int fd(const ring_view& v) const noexcept { return wakes.fd(v); }
    [[nodiscard]] static result<void> status() { return {}; }

    [[gnu::cold]] void arm(events e, const ring_view& v) noexcept {
        const index_t rx_end = any(e & events::rx) ? v.rx_first + v.rx_count : v.rx_first;
        const index_t tx_end = any(e & events::tx) ? v.tx_first + v.tx_count : v.tx_first;
        for (index_t i = v.rx_first; i != rx_end; ++i) {
            rx[i].backend().armed = true;
            rx[i].backend().link->rx_sleeps.arm();
        }
        for (index_t i = v.tx_first; i != tx_end; ++i) {
            tx[i].backend().armed = true;
            tx[i].backend().link->tx_sleeps.arm();
        }
        sleep_barrier(asymmetric);
        for (index_t i = v.rx_first; i != rx_end; ++i)
            if (!rx[i].empty() || rx[i].backend().ready(rx[i].truth().hwtail)) {
                rx[i].backend().link->rx_sleeps.found();
                base::eventfd_signal(wakes.fd(i));
            }
        for (index_t i = v.tx_first; i != tx_end; ++i)
            if (!tx[i].empty() || tx[i].backend().freed()) {
                tx[i].backend().link->tx_sleeps.found();
                base::eventfd_signal(wakes.fd(i));
            }
    }
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

    [[nodiscard]] static port_shape shape_of(const open_options& o, bool slave) {
        port_shape s;
        s.tx_rings = o.tx_rings.value_or(o.rx_rings.value_or(1));
        s.rx_rings = o.rx_rings.value_or(s.tx_rings);
        s.tx_slots = o.tx_slots.value_or(o.rx_slots.value_or(default_slots));
        s.rx_slots = o.rx_slots.value_or(s.tx_slots);
        if (slave) {
            // The options speak of the end being opened; the shape is the master's.
            std::swap(s.tx_rings, s.rx_rings);
            std::swap(s.tx_slots, s.rx_slots);
        }
        s.rx_bufs = false;  // an rx slot has the buffer of the tx slot it is paired with
        return s;
    }
    [[nodiscard]] static port_shape crossed(port_shape s) {
        std::swap(s.tx_rings, s.rx_rings);
        std::swap(s.tx_slots, s.rx_slots);
        s.extra_bufs = 0;
        return s;
    }

    static constexpr index_t default_slots = 1024;

    [[nodiscard]] static result<std::shared_ptr<pipe_core>> create(context& ctx, const port_spec& spec,
                                                                   const open_options& o) {
        port_shape master = shape_of(o, spec.pipe_slave);
        master.extra_bufs = o.extra_bufs;
        const port_shape slave = crossed(master);
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
        const std::string names[2] = {spec.name + "{" + spec.pipe_id, spec.name + "}" + spec.pipe_id};
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
            here.info = info_of(names[e], here.rings.shape(), *memory);
            for (index_t i = 0; i < here.rings.shape().tx_rings; ++i, ++link)
                join(here, there, i, link, asymmetric);
        }
        for (auto& end : ends)
            for (index_t i = 0; i < std::min(end.tx.size(), end.rx.size()); ++i) {
                end.tx[i].backend().beside = &end.rx[i].backend().link->rx_sleeps;
                end.rx[i].backend().beside = &end.tx[i].backend().link->tx_sleeps;
            }
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

public:
    [[nodiscard]] static port_info info_of(const std::string& name, const port_shape& s, const region& m) {
        port_info info;
        info.name = name;
        info.mode = "pipe";
        info.reason = "both ends in this process";
        info.tx_rings = s.tx_rings;
        info.rx_rings = s.rx_rings;
        info.tx_slots = s.tx_slots;
        info.rx_slots = s.rx_slots;
        info.memory = m.size();
        info.buf_size = m.buf_size();
        return info;
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
        const port_shape master = pipe_core::shape_of(o, spec.pipe_slave);
        if (auto ok = master.check(spec.identity()); !ok) return forward_error(ok);
        const port_shape s = spec.pipe_slave ? pipe_core::crossed(master) : master;
        port_info info;
        info.name = spec.name + (spec.pipe_slave ? "}" : "{") + spec.pipe_id;
        info.mode = "pipe";
        info.tx_rings = s.tx_rings;
        info.rx_rings = s.rx_rings;
        info.tx_slots = s.tx_slots;
        info.rx_slots = s.rx_slots;
        info.buf_size = preferred_stride;
        info.memory = static_cast<std::size_t>(2 + s.bufs() + pipe_core::crossed(s).bufs()) * preferred_stride;
        return info;
    }

private:
    pipe(std::shared_ptr<pipe_end> end, const port_spec& spec, const open_options& o)
        : port_handle(std::move(end), spec, o) {}
};

}  // namespace nm
