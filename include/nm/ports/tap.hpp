// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// An interface of the system that is made for the purpose: netmap's persistent VALE ports, which are interfaces too.

#include <array>
#include <memory>
#include <string>
#include <utility>

#include "nm/ports/netdev_backend.hpp"
#include "nm/ports/packet_rings.hpp"
#include "nm/port.hpp"
#include "nm/sys/tap.hpp"

namespace nm {

struct tap_port_state : port_state<netdev_tx, netdev_rx> {
    sys::host_tap tap;
    sys::link_info link;
    netdev_sleeper sleeper;
    packet_rings packets;

    explicit tap_port_state(sys::host_tap t) : tap(std::move(t)) {}
    tap_port_state(const tap_port_state&) = delete;
    tap_port_state& operator=(const tap_port_state&) = delete;
    ~tap_port_state() {
        if (!rx.empty()) packets.restore(rx[0].truth().hwtail, rx[0].backend().p);
    }
    [[nodiscard]] int fd() const noexcept { return sleeper.fd(); }
    [[nodiscard]] result<void> status() { return sleeper.status(link); }
    void arm(events e) noexcept {
        const bool unsent = packets.waits(e);
        sleeper.arm(unsent ? e | events::tx : e, [&]() noexcept {
            return packets.look(e, rx[0], unsent) || (any(e & events::rx) && !rx[0].empty()) || (any(e & events::tx) && !tx[0].empty());
        });
    }
};

/// An interface `name` for the host's stack, up, which exists as long as this: what the stack sends there is received here, what is
/// sent here the stack hears. CAP_NET_ADMIN. EBUSY: there is an interface of that name.
class tap_port : public port_handle<tap_port_state> {
public:
    [[nodiscard]] static result<tap_port> create(context& ctx, const std::string& name, const std::array<std::uint8_t, 6>& mac, unsigned mtu,
                                                 const open_options& o = {}) {
        port_spec spec;
        spec.name = name;
        port_shape shape;
        shape.ask_slots(o, shape.tx_slots);
        shape.extra_bufs = o.extra_bufs;
        if (auto ok = shape.check(name); !ok) return forward_error(ok);
        auto memory = ctx.memory_for(spec, o, [&] {
            region_options r;
            r.bufs = 2 + shape.bufs() + member_bufs;  // with room for its place on a switch
            r.meta_bytes = shape.meta_bytes() + 16384 + member_meta_bytes;
            return region::create(r);
        });
        if (!memory) return forward_error(memory);
        auto rings = port_memory::create(*memory, name, shape);
        if (!rings) return forward_error(rings);
        auto tap = sys::host_tap::stand_in(name, mac, mtu);
        if (!tap) return forward_error(tap);
        auto s = std::make_shared<tap_port_state>(std::move(*tap));
        auto link = sys::query_link(s->tap.name());
        if (!link) return forward_error(link);
        s->link = std::move(*link);
        if (auto ok = s->sleeper.open(s->link, o.mitigation_ns); !ok) return forward_error(ok);
        s->memory = *memory;
        s->rings = std::move(*rings);
        s->packets.tx.batch.one_by_one();
        s->packets.rx.batch.one_by_one();
        s->packets.set_up({s->tap.fd(), s->memory.get(), &s->sleeper, s->rings.tx(0)->slots(), s->rings.rx(0)->slots(), shape.tx_slots,
                           shape.rx_slots, mtu + 14, o.offloads});
        netdev_tx tb;
        tb.p = s->packets.tx_steps();
        netdev_rx rb;
        rb.p = s->packets.rx_steps();
        s->packets.tx.stats = &s->tx.emplace_back(s->rings.tx(0), shape.tx_slots, **memory, tb).live();
        s->packets.rx.stats = &s->rx.emplace_back(s->rings.rx(0), shape.rx_slots, **memory, rb).live();
        s->info = shape.info(**memory);
        s->info.name = name;
        s->info.mode = "tap";
        s->info.reason = "an interface of the system, for the host's stack";
        s->offer_taps(ctx);
        s->rx[0].set_timestamps(o.timestamps);
        return tap_port(std::move(s), spec, o);
    }

    [[nodiscard]] std::array<std::uint8_t, 6> mac() noexcept { return state().link.mac; }
    /// As an interface counts: in is what the stack sent there.
    [[nodiscard]] sys::link_counters kernel_counters() noexcept { return state().tap.counters(); }
    /// It takes frames with a virtio-net header, and gives them where open_options::offloads asked for them.
    [[nodiscard]] bool carries_headers() noexcept { return true; }
    void deliver_headers(bool on) noexcept { state().packets.rx.offloads = on; }

private:
    using port_handle::port_handle;
};
static_assert(port_type<tap_port>);

}  // namespace nm
