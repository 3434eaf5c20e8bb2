// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "nm/base/os.hpp"
#include "nm/port.hpp"

namespace nm {

/// Takes everything, at once.
struct null_tx {
    index_t num_slots;
    void put(index_t, const slot_words&) const noexcept {}
    void put(index_t, slot&) noexcept {}
    void hole(index_t, slot&) noexcept {}
    void cancel(index_t, index_t) noexcept {}
    void publish(index_t) noexcept {}
    [[nodiscard]] index_t reclaim(index_t hwcur, sync_flags) noexcept { return ring_prev(hwcur, num_slots); }
    [[nodiscard]] static bool returns_frames() noexcept { return true; }
};

/// Never has anything.
struct null_rx {
    [[nodiscard]] bool ready(index_t) noexcept { return false; }
    void get(index_t, slot&) noexcept {}
    void give(index_t, slot&) noexcept {}
    void publish(index_t) noexcept {}
};
static_assert(tx_backend<null_tx> && rx_backend<null_rx>);

struct null_state : port_state<null_tx, null_rx> {
    base::unique_fd wake;

    [[nodiscard]] int fd() const noexcept { return wake.get(); }
    [[nodiscard]] static result<void> status() { return {}; }
    // There is always room to send, and never anything to receive.
    void arm(events e) noexcept {
        if (any(e & events::tx)) base::eventfd_signal(wake.get());
        else base::eventfd_clear(wake.get());
    }
};

/// A port that swallows what is sent and receives nothing: `null` or `null:NAME`. For measuring a source alone, and for
/// memory without a device (netmap's NR_REG_NULL).
class null_port : public port_handle<null_state> {
public:
    static constexpr const char* kind_name = "null ports (null:NAME)";
    [[nodiscard]] static bool matches(const port_spec& s) noexcept { return s.kind == port_kind::null && !s.monitor(); }

    [[nodiscard]] static result<null_port> open(context& ctx, const port_spec& spec, const open_options& o) {
        if (spec.mode != ring_mode::all && spec.mode != ring_mode::one)
            return fail(EINVAL, "null:" + spec.name + ": a null port has no host rings");
        if (auto ok = free_name(spec.name); !ok) return forward_error(ok);
        const std::string key = "null:" + spec.name;
        auto state = spec.name.empty() ? nullptr : ctx.find<null_state>(key);
        if (!state) {
            auto made = create(ctx, spec, o);
            if (!made) return forward_error(made);
            state = *made;
            if (!spec.name.empty()) {
                ctx.keep(key, state);
                state->offer_taps(ctx);
            }
        }
        if (auto ok = may_share(*state, spec, o); !ok) return forward_error(ok);
        if (auto ok = has_ring(*state, spec); !ok) return forward_error(ok);
        return null_port(std::move(state), spec, o);
    }

    [[nodiscard]] static result<port_info> query(context& ctx, const port_spec& spec, const open_options& o) {
        if (auto ok = free_name(spec.name); !ok) return forward_error(ok);
        if (auto state = ctx.find<null_state>("null:" + spec.name); state && !spec.name.empty()) return state->info;
        const port_shape shape = shape_of(o);
        if (auto ok = shape.check("null:" + spec.name); !ok) return forward_error(ok);
        return named(spec, shape.info());
    }

private:
    null_port(std::shared_ptr<null_state> s, const port_spec& spec, const open_options& o)
        : port_handle(std::move(s), spec, o) {}

    // netmap(4): a port's own name "cannot be the name of any existing OS network interface".
    [[nodiscard]] static result<void> free_name(const std::string& name) {
        if (name.empty() || !base::interface_exists(name.c_str())) return {};
        return fail(EEXIST, "null:" + name + ": there is a network interface of that name; choose another, or open netmap:" + name);
    }

    [[nodiscard]] static port_shape shape_of(const open_options& o) {
        port_shape s;
        s.tx_rings = o.tx_rings.value_or(1);
        s.rx_rings = o.rx_rings.value_or(1);
        s.tx_slots = o.tx_slots.value_or(1024);
        s.rx_slots = o.rx_slots.value_or(1024);
        s.extra_bufs = o.extra_bufs;
        return s;
    }
    [[nodiscard]] static port_info named(const port_spec& spec, port_info i) {
        i.name = spec.name.empty() ? "null" : "null:" + spec.name;
        i.mode = "null";
        i.reason = "frames sent here go nowhere";
        return i;
    }
    [[nodiscard]] static result<std::shared_ptr<null_state>> create(context& ctx, const port_spec& spec,
                                                                    const open_options& o) {
        const port_shape shape = shape_of(o);
        const std::string label = "null:" + spec.name;
        if (auto ok = shape.check(label); !ok) return forward_error(ok);
        auto memory = ctx.memory_for(spec, o, [&] {
            region_options r;
            r.bufs = 2 + shape.bufs() + member_bufs;
            r.meta_bytes = shape.meta_bytes() + 8192 + member_meta_bytes;
            return region::create(r);
        });
        if (!memory) return forward_error(memory);
        auto rings = port_memory::create(*memory, label, shape);
        if (!rings) return forward_error(rings);
        auto wake = base::make_eventfd();
        if (!wake) return forward_error(wake);
        auto s = std::make_shared<null_state>();
        s->memory = *memory;
        s->rings = std::move(*rings);
        s->wake = std::move(*wake);
        s->info = named(spec, shape.info(**memory));
        for (index_t i = 0; i < shape.tx_rings; ++i)
            s->tx.emplace_back(s->rings.tx(i), shape.tx_slots, **memory, null_tx{shape.tx_slots});
        for (index_t i = 0; i < shape.rx_rings; ++i)
            s->rx.emplace_back(s->rings.rx(i), shape.rx_slots, **memory, null_rx{});
        ctx.set_region_of(spec.identity(), *memory);
        return s;
    }
};

}  // namespace nm
