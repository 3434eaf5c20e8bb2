// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <memory>
#include <poll.h>
#include <string>
#include <sys/timerfd.h>
#include <utility>
#include <vector>

#include "nm/port.hpp"
#include "nm/ptnet/attach.hpp"
#include "nm/ptnet/device.hpp"

namespace nm {

struct ptnet_state : port_state<ptnet::guest_tx, ptnet::guest_rx> {
    ptnet::link_to_host link;
    ptnet::guest_layout layout;
    std::vector<base::unique_fd> timers;  // in place of interrupts
    std::vector<base::unique_fd> pairs;   // for ring i of both directions: what a handle for it is slept on
    base::unique_fd all;
    std::uint32_t asked = 0;  // what the host has answered: while that stands, the port is this program's

    ptnet_state() = default;
    ptnet_state(const ptnet_state&) = delete;
    ptnet_state& operator=(const ptnet_state&) = delete;
    ~ptnet_state() {
        if (layout.registers == nullptr || taken_over() || load_once(layout.registers->control) != asked) return;
        // Nobody waits for an answer.
        __atomic_store_n(&layout.registers->control, ((load_once(layout.registers->control) & ~0xffU) + 0x100U) | static_cast<std::uint32_t>(ptnet::port_control::remove),
                         __ATOMIC_RELEASE);
        link.bells[0].notify();
    }

    [[nodiscard]] int wake_fd(index_t vector) const noexcept { return (timers.empty() ? link.wakes : timers)[vector].get(); }
    [[nodiscard]] int fd(const ring_view& v) const noexcept {
        const bool one = std::max(v.tx_count, v.rx_count) == 1 && (v.tx_count == 0 || v.rx_count == 0 || v.tx_first == v.rx_first);
        return one && !pairs.empty() ? pairs[v.rx_count != 0 ? v.rx_first : v.tx_first].get() : all.get();
    }
    [[nodiscard]] bool host_lives() const noexcept {
        if (__atomic_load_n(&layout.registers->status, __ATOMIC_ACQUIRE) == static_cast<std::uint32_t>(ptnet::port_status::gone)) return false;
        if (!link.alive) return true;
        pollfd p{link.alive.get(), POLLIN, 0};
        return ::poll(&p, 1, 0) == 0;
    }
    /// Somebody else began to use the port, which is one's at a time: what is in the rings is his.
    [[nodiscard]] bool taken_over() const noexcept { return __atomic_load_n(&layout.registers->answered, __ATOMIC_ACQUIRE) != asked; }
    [[nodiscard]] result<void> status() const {
        if (taken_over()) return fail(EBUSY, info.name + ": another program has opened it, and has it now; close it here");
        if (host_lives()) return {};
        return fail(ENOLINK, info.name + ": its host has gone, or has taken the port away; close it, and open it again when it is back");
    }

    [[gnu::cold]] void arm(events e, const ring_view& v) noexcept {
        const index_t rx_end = any(e & events::rx) ? v.rx_first + v.rx_count : v.rx_first;
        const index_t tx_end = any(e & events::tx) ? v.tx_first + v.tx_count : v.tx_first;
        // What the host has said about itself is looked at now. That it has gone is for others who sleep, too.
        base::eventfd_clear(wake_fd(0));
        const bool alive = host_lives() && !taken_over();
        if (!alive) base::eventfd_signal(wake_fd(0));
        for (index_t i = v.rx_first; i != rx_end; ++i) arm(rx[i], layout.tx_rings + i, alive, [&] { return rx[i].backend().ready(rx[i].truth().hwtail); });
        for (index_t i = v.tx_first; i != tx_end; ++i) arm(tx[i], i, alive, [&] { return tx[i].backend().freed(); });
        for (index_t i = rx_end; i != v.rx_first + v.rx_count; ++i) hush(rx[i], layout.tx_rings + i);
        for (index_t i = tx_end; i != v.tx_first + v.tx_count; ++i) hush(tx[i], i);
    }

    // Lets the kernel say which vectors woke it.
    [[nodiscard]] result<void> make_descriptors(const std::string& name) {
        const auto vectors = static_cast<index_t>(ptnet::vectors_of(layout.tx_rings, layout.rx_rings));
        if (link.wakes.empty())
            for (index_t i = 0; i < vectors; ++i)
                if (!timers.emplace_back(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)))
                    return fail(errno, name + ": cannot make a timer to wait by: " + base::errno_text(errno));
        std::vector<index_t> of(vectors);
        for (index_t i = 0; i < vectors; ++i) of[i] = i;
        if (auto ok = gather(all, of, name); !ok) return ok;
        const index_t each = std::max(layout.tx_rings, layout.rx_rings);
        for (index_t i = 0; each > 1 && i < each; ++i) {
            of = {0};
            if (i < layout.tx_rings) of.push_back(1 + i);
            if (i < layout.rx_rings) of.push_back(1 + layout.tx_rings + i);
            if (auto ok = gather(pairs.emplace_back(), of, name); !ok) return ok;
        }
        return {};
    }

private:
    static constexpr long poll_ns = 200'000;  // without interrupts

    template <class Ring, class More>
    void arm(Ring& r, index_t ring, bool alive, More&& more) noexcept {
        auto& b = r.backend();
        b.armed = true;
        b.csb.arm();
        const bool now = !r.empty() || more() || !alive;
        if (!timers.empty()) {
            const itimerspec t{{0, poll_ns}, {0, now ? 1 : poll_ns}};
            ::timerfd_settime(wake_fd(1 + ring), 0, &t, nullptr);
        } else if (now) {
            base::eventfd_signal(wake_fd(1 + ring));
        }
    }
    // A wake-up that the host sent when the ring had been seen to already, and that nobody waits for now, would end every sleep.
    template <class Ring>
    void hush(Ring& r, index_t ring) noexcept {
        if (r.backend().armed) return;  // somebody does
        if (!timers.empty()) {
            const itimerspec never{};
            ::timerfd_settime(wake_fd(1 + ring), 0, &never, nullptr);
        }
        base::eventfd_clear(wake_fd(1 + ring));
    }
    // Who sleeps on some vectors hears, too, that the host has gone.
    [[nodiscard]] result<void> gather(base::unique_fd& into, const std::vector<index_t>& vectors, const std::string& name) {
        std::vector<int> fds;
        if (link.alive) fds.push_back(link.alive.get());
        for (const index_t v : vectors) fds.push_back(wake_fd(v));
        auto made = base::make_epoll(name, fds);
        if (!made) return forward_error(made);
        into = std::move(*made);
        return {};
    }
};

/// A port that is driven by somebody else: in another process, or on the host of this virtual machine. Its rings and buffers are the
/// host's own, in memory that both see; nothing is converted or copied on the way. Sources: ptnet(4), semantics sections 12 and 13.
class ptnet_port : public port_handle<ptnet_state> {
public:
    static constexpr const char* kind_name = "ports passed through from a host (ptnet:PCI-ADDRESS)";

    /// The port behind a transport, as `spec` names it. Options: vnet_hdr asks for the virtio-net header. EBUSY, ENODEV, EINVAL,
    /// ETIMEDOUT, each with what to do.
    [[nodiscard]] static result<ptnet_port> attach(context& ctx, ptnet::link_to_host link, const port_spec& spec, const open_options& o) {
        auto s = state_of(ctx, std::move(link), spec, o);
        if (!s) return forward_error(s);
        return ptnet_port(std::move(*s), spec, o);
    }

    [[nodiscard]] static bool matches(const port_spec& s) noexcept { return s.kind == port_kind::ptnet && !s.monitor(); }
    /// ptnet:0000:00:04.0: the port that the host of this virtual machine passed through by that PCI device.
    [[nodiscard]] static result<ptnet_port> open(context& ctx, const port_spec& spec, const open_options& o) {
        const std::string key = "ptnet:" + spec.name;
        if (auto there = ctx.find<ptnet_state>(key)) {
            if (auto ok = may_share(*there, spec, o); !ok) return forward_error(ok);
            if (auto ok = has_ring(*there, spec); !ok) return forward_error(ok);
            return ptnet_port(std::move(there), spec, o);
        }
        auto device = ptnet::device_of(ctx, spec, o);
        if (!device) return forward_error(device);
        auto link = ptnet::link_by_device(*device, spec.device_port);
        if (!link) return forward_error(link);
        auto made = state_of(ctx, std::move(*link), spec, o);
        if (!made) return forward_error(made);
        describe((*made)->info, **device);
        ctx.keep(key, *made);
        ctx.set_region_of(spec.identity(), (*made)->memory);
        return ptnet_port(std::move(*made), spec, o);
    }
    [[nodiscard]] static result<port_info> query(context& ctx, const port_spec& spec, const open_options& o) {
        if (auto there = ctx.find<ptnet_state>("ptnet:" + spec.name)) return there->info;
        auto device = ptnet::device_of(ctx, spec, o);
        if (!device) return forward_error(device);
        auto link = ptnet::link_by_device(*device, spec.device_port);
        if (!link) return forward_error(link);
        const std::string as = "ptnet:" + spec.identity();
        auto layout = ptnet::read_layout(*link, as);
        if (!layout) return forward_error(layout);
        auto info = info_of(as, *layout);
        describe(info, **device);
        return info;
    }

    [[nodiscard]] std::array<std::uint8_t, 6> mac() noexcept { return state().layout.mac; }
    /// Whether frames can pass on the host's side.
    [[nodiscard]] bool link_up() noexcept { return load_once(state().layout.registers->link) == 1; }

private:
    using port_handle::port_handle;

    [[nodiscard]] static result<std::shared_ptr<ptnet_state>> state_of(context& ctx, ptnet::link_to_host link, const port_spec& spec, const open_options& o) {
        const std::string as = spec.kind == port_kind::ptnet ? "ptnet:" + spec.identity() : spec.identity();
        auto layout = ptnet::read_layout(link, as);
        if (!layout) return forward_error(layout);
        auto s = std::make_shared<ptnet_state>();
        s->link = std::move(link);
        s->memory = layout->memory;
        s->info = info_of(as, *layout);
        ptnet::port_registers& r = *layout->registers;
        store_once(r.wanted, o.vnet_hdr != 0 ? ptnet::feature_vnet_hdr : 0U);
        store_once(r.vnet_hdr_len, o.vnet_hdr);
        auto asked = ptnet::ask_host(r, s->link.bells[0], ptnet::port_control::create, as);
        if (!asked) return forward_error(asked);
        s->asked = *asked;
        s->layout = std::move(*layout);
        if (const auto status = static_cast<ptnet::port_status>(load_once(r.status)); status != ptnet::port_status::running)
            return fail(EINVAL, as + ": its host refuses: " + (status == ptnet::port_status::gone ? "it has taken the port away" : "a virtio-net header has 10 or 12 bytes"));
        if (o.vnet_hdr != 0 && (load_once(r.acked) & ptnet::feature_vnet_hdr) == 0)
            return fail(EOPNOTSUPP, as + ": " + s->layout.name + " has no virtio-net header (ports of a switch do)");
        if (auto ok = s->make_descriptors(as); !ok) return forward_error(ok);
        if (auto ok = build(*s); !ok) return forward_error(ok);
        s->offer_taps(ctx);
        for (auto& ring : s->rx) ring.set_timestamps(o.timestamps);
        if (auto ok = has_ring(*s, spec); !ok) return forward_error(ok);
        return s;
    }

    static void describe(port_info& i, const sys::ptnet_device& device) {
        i.mode = device.mode();
        if (!device.reason().empty()) i.reason += "; " + device.reason();
        i.advice = device.advice();
    }
    [[nodiscard]] static port_info info_of(const std::string& as, const ptnet::guest_layout& g) {
        port_info i;
        i.name = as;
        i.mode = "ptnet";
        i.reason = g.name + " of the host, which drives it as " + g.mode;
        i.tx_rings = g.tx_rings;
        i.rx_rings = g.rx_rings;
        i.tx_slots = g.tx_slots;
        i.rx_slots = g.rx_slots;
        i.memory = g.memory->size();
        i.buf_size = g.memory->buf_size();
        return i;
    }

    // The host has said where it stands; its word is good as far as it makes sense.
    [[nodiscard]] static result<void> build(ptnet_state& s) {
        const auto& g = s.layout;
        const nm::region& m = *s.memory;
        s.rings = port_memory::shown(s.memory, g.nifp);
        s.tx.reserve(g.tx_rings);
        s.rx.reserve(g.rx_rings);
        for (index_t i = 0; i < g.tx_rings + g.rx_rings; ++i) {
            const bool sends = i < g.tx_rings;
            const index_t n = sends ? g.tx_slots : g.rx_slots;
            ptnet::guest_side side;
            side.csb = {g.to_host + i, g.to_guest + i};
            side.num_slots = n;
            side.host = s.link.bells[1 + i];
            side.my_fd = s.wake_fd(1 + i);
            const ptnet::csb_indexes at = side.csb.read();
            if (at.first >= n || at.second >= n) return fail(EPROTO, s.info.name + ": its host says that a ring of " + std::to_string(n) + " slots stands at " + std::to_string(at.first));
            side.published = at.first;
            side.tail = sends ? at.second : at.first;  // what has come already is heard with the first rxsync
            g.rings[i]->head = g.rings[i]->cur = at.first;
            if (sends) s.tx.emplace_back(g.rings[i], n, m, ptnet::guest_tx{side, g.rings[i]->slots()}, kring{n, at.first, at.second});
            else s.rx.emplace_back(g.rings[i], n, m, ptnet::guest_rx{side}, kring{n, at.first, at.first});
        }
        for (auto& t : s.tx) t.backend().stats = &t.live();
        for (auto& r : s.rx) r.backend().stats = &r.live();
        return {};
    }
};
static_assert(port_type<ptnet_port> && waitable<ptnet_port>);

}  // namespace nm
