// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <vector>

#include "nm/vale/flush.hpp"
#include "nm/vale/learning.hpp"
#include "nm/wakes.hpp"

namespace nm {

struct vale_port_state : port_state<vale::vale_tx, link_rx<>> {
    std::shared_ptr<vale::switch_core> sw;
    vale::place place;
    std::vector<std::unique_ptr<vale::source>> sources;  // one per tx ring
    std::unique_ptr<ring_link[]> links;                  // one per rx ring, and one for tx rings beyond these
    ring_wakes wakes;
    bool asymmetric = false;

    vale_port_state() = default;
    vale_port_state(const vale_port_state&) = delete;
    vale_port_state& operator=(const vale_port_state&) = delete;
    ~vale_port_state() {
        if (place.id != 0) sw->detach(place);  // waits for whoever is doing so already
    }

    [[nodiscard]] bool attached() const noexcept { return sources.front()->attached.load(std::memory_order_acquire); }
    [[nodiscard]] int fd(const ring_view& v) const noexcept { return wakes.fd(v); }
    [[nodiscard]] result<void> status() const {
        if (attached()) return {};
        return fail(ENOLINK, info.name + " has been detached from its switch; close the port");
    }

    [[gnu::cold]] void arm(events e, const ring_view& v) noexcept {
        const index_t rx_end = any(e & events::rx) ? v.rx_first + v.rx_count : v.rx_first;
        const index_t tx_end = any(e & events::tx) ? v.tx_first + v.tx_count : v.tx_first;
        for (index_t i = v.rx_first; i != rx_end; ++i) {
            rx[i].backend().armed = true;
            links[i].rx_sleeps.arm();
        }
        sleep_barrier(asymmetric);
        for (index_t i = v.rx_first; i != rx_end; ++i)
            if (!rx[i].empty() || rx[i].backend().ready(rx[i].truth().hwtail) || !attached()) {
                links[i].rx_sleeps.found();
                base::eventfd_signal(wakes.fd(i));
            }
        // A switch never pushes back: there is always room to send.
        for (index_t i = v.tx_first; i != tx_end; ++i) {
            tx[i].backend().armed = true;
            links[i].tx_sleeps.found();
            base::eventfd_signal(wakes.fd(i));
        }
    }
};

/// A port of a VALE switch, `valeSSS:PPP`: switch and port are made when first opened, and gone with their last user (a
/// switch also lives as long as its vale_switch). txsync forwards at once, in the caller's thread, and never blocks: what a
/// destination has no room for is dropped there and counted. Sources: netmap(4), semantics section 8.
class vale_port : public port_handle<vale_port_state> {
public:
    static constexpr const char* kind_name = "ports of a switch (valeNAME:PORT)";
    [[nodiscard]] static bool matches(const port_spec& s) noexcept { return s.kind == port_kind::vale && !s.monitor(); }

    [[nodiscard]] static result<vale_port> open(context& ctx, const port_spec& spec, const open_options& o) {
        auto state = ctx.find<vale_port_state>(key(spec));
        if (!state || !state->attached()) {  // one that was detached has left its name
            if (auto ok = free_name(spec); !ok) return forward_error(ok);
            const std::string name = switch_name(spec);
            auto sw = ctx.find<vale::switch_core>("vale:" + name);
            if (!sw) {
                sw = std::make_shared<vale::switch_state<vale::learning>>(name);
                ctx.keep("vale:" + name, sw);
            }
            return create(ctx, std::move(sw), spec, o);
        }
        if (auto ok = may_share(*state, spec, o); !ok) return forward_error(ok);
        if (auto ok = has_ring(*state, spec); !ok) return forward_error(ok);
        if (o.memory && o.memory != state->memory)
            return fail(EINVAL, spec.name + " exists already, in other memory than the one asked for");
        return vale_port(std::move(state), spec, o);
    }

    [[nodiscard]] static result<port_info> query(context& ctx, const port_spec& spec, const open_options& o) {
        if (auto state = ctx.find<vale_port_state>(key(spec))) return state->info;
        if (auto ok = free_name(spec); !ok) return forward_error(ok);
        const port_shape s = port_shape::asked(o);
        if (auto ok = check(spec, s, o); !ok) return forward_error(ok);
        return named(spec, s.info());
    }

    /// A port on that switch, under a name of any sort (a member's is an interface's).
    [[nodiscard]] static result<vale_port> create(context& ctx, std::shared_ptr<vale::switch_core> sw, const port_spec& spec,
                                                  const open_options& o, vale::header head = vale::header::none) {
        const port_shape shape = port_shape::asked(o);
        if (auto ok = check(spec, shape, o); !ok) return forward_error(ok);
        auto memory = ctx.memory_for(spec, o, [&] {
            region_options r;
            r.bufs = 2 + shape.bufs();
            r.meta_bytes = shape.meta_bytes() + 8192;
            return region::create(r);
        });
        if (!memory) return forward_error(memory);
        auto rings = port_memory::create(*memory, spec.name, shape);
        if (!rings) return forward_error(rings);
        auto s = std::make_shared<vale_port_state>();
        if (auto ok = s->wakes.make(std::max(shape.tx_rings, shape.rx_rings), spec.name); !ok) return forward_error(ok);
        s->sw = std::move(sw);
        s->memory = *memory;
        s->rings = std::move(*rings);
        s->asymmetric = base::membarrier_register();
        s->info = named(spec, shape.info(**memory));
        if (o.vnet_hdr != 0) head = static_cast<vale::header>(o.vnet_hdr);
        build(*s, shape, o, head);
        std::vector<vale::source*> sources;
        for (const auto& from : s->sources) sources.push_back(from.get());
        std::vector<vale::receiver> receivers;
        for (index_t i = 0; i < shape.rx_rings; ++i)
            receivers.push_back({s->rings.rx(i), shape.rx_slots, &s->links[i], {s->wakes.fd(i)}});
        auto place = s->sw->attach(port_name(spec), sources, receivers, **memory, head);
        if (!place) return forward_error(place);
        s->place = *place;
        ctx.keep(key(spec), s);
        s->offer_taps(ctx);
        ctx.set_region_of(spec.identity(), *memory);
        for (auto& r : s->rx) r.set_timestamps(o.timestamps);
        return vale_port(std::move(s), spec, o);
    }

    /// Its place on the switch, as lookups name it.
    [[nodiscard]] vale::port_number number() noexcept { return state().place.number; }

    /// With what was dropped because this port had no room or no buffer for it.
    [[nodiscard]] counters rx_stats() noexcept {
        counters sum = port_handle::rx_stats();
        for (index_t i = 0; i < view().rx_count; ++i) {
            const counters in = state().sw->received(state().place, view().rx_first + i);
            for (std::size_t c = 0; c < causes; ++c) sum.drops[c] += in.drops[c];
        }
        return sum;
    }

    /// From now on frames carry a virtio-net header of so many bytes (0, 10 or 12) before their Ethernet header, in both
    /// directions (netmap's PORT_HDR_SET). For whoever sends on this port.
    [[nodiscard]] result<void> set_header(std::uint32_t bytes) {
        if (auto ok = check_header(name(), bytes); !ok) return ok;
        const auto head = static_cast<vale::header>(bytes);
        for (const auto& s : state().sources) s->head = head;
        state().sw->set_header(state().place, head);
        return {};
    }

private:
    using port_handle::port_handle;

    [[nodiscard]] static std::string key(const port_spec& s) { return "vale-port:" + s.name; }
    [[nodiscard]] static std::string switch_name(const port_spec& s) { return s.name.substr(0, s.name.find(':')); }
    [[nodiscard]] static std::string port_name(const port_spec& s) { return s.name.substr(s.name.find(':') + 1); }

    // netmap(4): "PPP cannot be the name of any existing OS network interface".
    [[nodiscard]] static result<void> free_name(const port_spec& s) {
        const std::string name = port_name(s);
        if (!base::interface_exists(name.c_str())) return {};
        return fail(EEXIST, s.name + ": there is a network interface of that name; attach it to the switch, or choose another name");
    }
    [[nodiscard]] static result<void> check_header(const std::string& name, std::uint32_t bytes) {
        if (bytes == 0 || bytes == 10 || bytes == 12) return {};
        return fail(EINVAL, name + ": a virtio-net header has 10 or 12 bytes, or there is none (0), not " + std::to_string(bytes));
    }
    [[nodiscard]] static result<void> check(const port_spec& spec, const port_shape& s, const open_options& o) {
        if (spec.mode != ring_mode::all && spec.mode != ring_mode::one)
            return fail(EINVAL, spec.name + ": a port of a switch has no host rings");
        if (auto ok = check_header(spec.name, o.vnet_hdr); !ok) return ok;
        if (s.tx_rings > vale::max_rings || s.rx_rings > vale::max_rings)
            return fail(EINVAL, spec.name + ": a port of a switch has up to 16 rings in each direction");
        if (const index_t n = std::max(s.tx_rings, s.rx_rings); spec.mode == ring_mode::one && spec.ring >= n)
            return fail(EINVAL, spec.name + " has " + std::to_string(n) + " ring(s): there is no ring " + std::to_string(spec.ring));
        return s.check(spec.name);
    }
    [[nodiscard]] static port_info named(const port_spec& spec, port_info i) {
        i.name = spec.name;
        i.mode = "vale";
        i.reason = "a switch in this process";
        return i;
    }

    static void build(vale_port_state& s, const port_shape& shape, const open_options& o, vale::header head) {
        const nm::region& m = *s.memory;
        s.links = std::make_unique<ring_link[]>(std::max(shape.tx_rings, shape.rx_rings));
        s.tx.reserve(shape.tx_rings);
        s.rx.reserve(shape.rx_rings);
        for (index_t i = 0; i < shape.rx_rings; ++i)
            s.rx.emplace_back(s.rings.rx(i), shape.rx_slots, m,
                              link_rx<>{&s.links[i], shape.rx_slots, {}, s.wakes.fd(i), &s.links[i].tx_sleeps, s.asymmetric});
        for (index_t i = 0; i < shape.tx_rings; ++i) {
            auto& from = *s.sources.emplace_back(std::make_unique<vale::source>());
            from.slots = s.rings.tx(i)->slots();
            from.num_slots = shape.tx_slots;
            from.bufs = buffer_space(m);
            from.fwd = std::make_unique<slot_words[]>(shape.tx_slots);
            from.work = std::make_unique<vale::classified>(shape.tx_slots);
            from.odd = std::make_unique<vale::odd_work>(shape.tx_slots);
            from.ring = static_cast<std::uint8_t>(i);
            from.head = head;
            from.indirect = o.indirect;
            from.storm.copies_per_s = o.storm_copies;
            from.storm.burst = std::max<std::uint64_t>(o.storm_copies / 2, 1000);
            s.tx.emplace_back(s.rings.tx(i), shape.tx_slots, m,
                              vale::vale_tx{from.fwd.get(), &from, &s.links[i], shape.tx_slots, s.wakes.fd(i)});
            from.stats = &s.tx.back().live();
        }
    }
};
static_assert(port_type<vale_port>);

}  // namespace nm
