// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What an open NIC holds, and how it is opened and closed.

#include <algorithm>
#include <bit>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "nm/clock.hpp"
#include "nm/port.hpp"
#include "nm/ports/nic_backend.hpp"
#include "nm/ports/nic_host.hpp"
#include "nm/ports/nic_wait.hpp"
#include "nm/spin_lock.hpp"
#include "nm/transparent.hpp"

namespace nm {

namespace detail {
template <class Control>
using nic_tx_of = nic_tx<decltype(std::declval<Control&>().tx(0U))>;
template <class Control>
using nic_rx_of = nic_rx<decltype(std::declval<Control&>().rx(0U))>;

/// What a device's limits say to a wish; a sentence when they cannot be met.
[[nodiscard]] inline result<port_shape> nic_shape(const std::string& name, const nic_limits& l, const open_options& o) {
    port_shape s = port_shape::asked(o);
    s.ask_slots(o, l.default_slots);
    if (s.tx_rings != s.rx_rings) return fail(EINVAL, name + " has as many tx rings as rx rings; ask for the same number (@conf:rings=N)");
    if (s.tx_rings == 0 || s.tx_rings > l.max_rings)
        return fail(EINVAL, name + " has 1 to " + std::to_string(l.max_rings) + " ring pair(s), not " + std::to_string(s.tx_rings));
    for (const index_t n : {s.tx_slots, s.rx_slots}) {
        const bool whole = l.power_of_two ? std::has_single_bit(n) : n % l.slots_multiple == 0;
        if (n < l.min_slots || n > l.max_slots || !whole)
            return fail(EINVAL, name + ": its rings have " + std::to_string(l.min_slots) + " to " + std::to_string(l.max_slots) + " slots, " +
                                    (l.power_of_two ? std::string("a power of two") : "a multiple of " + std::to_string(l.slots_multiple)) +
                                    ", not " + std::to_string(n));
    }
    s.host_tx_rings = s.host_rx_rings = 1;
    if (auto ok = s.check(name); !ok) return forward_error(ok);
    return s;
}

/// A region that such a device can use, with room for a place on a switch for its own rings and the host's.
[[nodiscard]] inline region_options nic_region(const port_shape& s, const memory_constraints& c, bool no_iommu) {
    region_options r;
    r.bufs = 2 + s.bufs() + 2 * member_bufs;
    r.meta_bytes = s.meta_bytes() + 16384 + 2 * member_meta_bytes;
    r.buf_size = c.suited(preferred_stride);
    if (c.no_cross != 0) r.meta_bytes = (r.meta_bytes + c.no_cross - 1) / c.no_cross * c.no_cross;
    if (no_iommu) r.where = backing::hugepages;
    return r;
}

[[nodiscard]] inline std::string nic_constraints(const memory_constraints& c) {
    std::string s = "buffers of at least " + std::to_string(c.min_buf_size) + " bytes, a multiple of " + std::to_string(c.alignment);
    if (c.no_cross != 0) s += ", none of which crosses a multiple of " + std::to_string(c.no_cross) + " bytes (a region with buf_size 2048 and meta_bytes a multiple of 65536)";
    return s;
}
}  // namespace detail

/// What a device lacks is said part by part: a compiler that is asked for all of nic_device at once only says that it is not met.
template <class Device, nic_bus Bus>
struct nic_state : host_port_state<detail::nic_tx_of<typename Device::template control<Bus>>, detail::nic_rx_of<typename Device::template control<Bus>>> {
    using control_type = typename Device::template control<Bus>;
    static_assert(nic_control<control_type, Bus>, "the device's control half lacks something: nic_control in nic_device.hpp lists what it has");
    static_assert(nic_device<Device, Bus>, "the device lacks something: nic_device in nic_device.hpp lists what it has");
    using base_state = host_port_state<detail::nic_tx_of<control_type>, detail::nic_rx_of<control_type>>;
    using typename base_state::rx_ring_type;
    using typename base_state::tx_ring_type;
    using tx_steps = typename tx_ring_type::backend_type;
    using rx_steps = typename rx_ring_type::backend_type;
    using base_state::host_rx;
    using base_state::host_tx;
    using base_state::info;
    using base_state::memory;
    using base_state::rings;
    using base_state::rx;
    using base_state::tx;

    explicit nic_state(Bus b) : bus(std::move(b)) {}
    nic_state(const nic_state&) = delete;
    nic_state& operator=(const nic_state&) = delete;
    ~nic_state() { close(); }

    [[nodiscard]] static result<std::shared_ptr<nic_state>> create(context& ctx, const port_spec& spec, const open_options& o, Bus from) {
        auto s = std::make_shared<nic_state>(std::move(from));
        const std::string name = s->bus.name();
        auto opened = control_type::open(s->bus);
        if (!opened) return forward_error(opened);
        s->control.emplace(std::move(*opened));
        const nic_limits limits = s->control->limits();
        auto shape = detail::nic_shape(name, limits, o);
        if (!shape) return forward_error(shape);
        s->setup_.mtu = o.mtu.value_or(std::min(1500U, limits.max_mtu));
        const unsigned mtu = s->setup_.mtu;
        if (mtu > limits.max_mtu || mtu < 68)
            return fail(EINVAL, name + ": an MTU of " + std::to_string(mtu) + "; this device has 68 to " + std::to_string(limits.max_mtu));
        bool no_iommu = false;
        if constexpr (requires { s->bus.no_iommu(); }) no_iommu = s->bus.no_iommu();
        auto where = ctx.memory_for(spec, o, [&] { return region::create(detail::nic_region(*shape, limits.memory, no_iommu)); }, limits.memory);
        if (!where) return forward_error(where);
        if (!(*where)->satisfies(limits.memory))
            return fail(EINVAL, name + " needs " + detail::nic_constraints(limits.memory) + "; the memory that it was given is not so. Open it first if others join it by @N");
        s->memory = std::move(*where);
        s->info = shape->info(*s->memory);
        s->info.name = name;
        s->info.mode = s->bus.mode();
        auto made = port_memory::create(s->memory, name, *shape, ring_part::none);
        if (!made) return forward_error(made);
        s->rings = std::move(*made);
        if (auto ok = s->start(*shape, limits, o); !ok) return forward_error(ok);
        return s;
    }

    /// The stack's end, when it is first asked for.
    [[nodiscard]] result<void> open_host(const open_options& o) {
        if (!host_tx.empty()) return {};
        auto ok = host_.open({bus.name(), control->mac(), setup_.mtu, o, memory.get(), &rings});
        if (!ok) {
            close_host();
            return ok;
        }
        // Of a NIC's kind, with the packet half in use; the device's is not touched.
        host_.add(host_tx, host_rx, tx_steps{control->tx(0)}, rx_steps{control->rx(0)});
        host_info = info;
        host_info.name = host_.name();
        host_info.mode = "host";
        host_info.reason = "the host's stack, as interface " + host_.interface() + ", in the place of " + info.name;
        host_info.tx_rings = host_info.rx_rings = 1;
        both_info = info;
        both_info.name += "*";
        both_info.reason += "; the host's stack has interface " + host_.interface();
        both_info.tx_rings += 1;
        both_info.rx_rings += 1;
        host_rx.back().set_timestamps(o.timestamps);
        ok = host_.join(wakes_.fd({port_spec{}, {tx.size(), rx.size()}, {}}));
        if (!ok) close_host();
        return ok;
    }
    [[nodiscard]] bool has_host() const noexcept { return !host_tx.empty(); }
    void deliver_headers(bool on) noexcept { host_.deliver_headers(on); }
    /// `*`: what is released by hand goes on to the other endpoint.
    void set_transparent(bool all) { transparent_.set(rx, tx, host_rx, host_tx, all); }

    [[nodiscard]] const port_info& info_of(const ring_view& v) const noexcept {
        return v.ring_range::empty() ? host_info : v.host.empty() ? info : both_info;
    }
    [[nodiscard]] int fd(const ring_view& v) const noexcept {
        return v.host.empty() ? wakes_.fd(v) : v.ring_range::empty() ? host_.fd() : host_.both();
    }
    void arm(events e, const ring_view& v) noexcept {
        if (!v.host.empty()) host_.arm(e, host_tx[0], host_rx[0]);
        if (v.ring_range::empty()) return;
        take_signal();
        // A ring that cannot have more is left asleep: others of the same handle may be waited for.
        for (unsigned i = v.rx_first; i < v.rx_first + v.rx_count; ++i) arm_rx(i, any(e & events::rx) && !rx[i].waits_in_vain());
        for (unsigned i = v.tx_first; i < v.tx_first + v.tx_count; ++i) arm_tx(i, any(e & events::tx));
        std::atomic_thread_fence(std::memory_order_seq_cst);  // W: armed, then looked
        for (unsigned i = v.rx_first; i < v.rx_first + v.rx_count; ++i) look_rx(i);
        for (unsigned i = v.tx_first; i < v.tx_first + v.tx_count; ++i) look_tx(i);
        if (!status(v)) wakes_.signal(wakes_.common());
    }
    /// ENETDOWN when the link went away, or did not come within five seconds.
    [[nodiscard]] result<void> status(const ring_view& v) {
        if (v.ring_range::empty()) return host_.status();
        const nic_link l = control->link();
        if (l.up) had_link_ = true;
        if (l.up || (!had_link_ && system_clock::now_ns() - opened_at_ < 5'000'000'000U)) return {};
        return fail(ENETDOWN, info.name + " has no link; look at the cable and the other end");
    }

    [[nodiscard]] const nic_setup& setup() const noexcept { return setup_; }
    /// What the device has counted since it was opened. By any thread: its registers forget what was read.
    [[nodiscard]] nic_counters count() noexcept {
        const std::lock_guard guard(counting_);
        return count_now();
    }
    /// What the device had no buffer for, as drops of ring 0.
    void read_missed() noexcept {
        const std::lock_guard guard(counting_);
        const std::uint64_t now = count_now().rx_missed;
        rx[0].live().drop(cause::full, now - missed_);
        missed_ = now;
    }
    [[nodiscard]] std::optional<sys::link_counters> host_counters() const noexcept { return host_.counters(); }
    [[nodiscard]] const std::string& host_interface() const noexcept { return host_.interface(); }

    Bus bus;
    std::optional<control_type> control;
    port_info host_info, both_info;

private:
    [[nodiscard]] const nic_counters& count_now() noexcept {
        if (control) control->add_counters(counted_);
        return counted_;
    }
    [[nodiscard]] result<void> start(const port_shape& shape, const nic_limits& limits, const open_options& o) {
        if (auto ok = rings.make(info.name, ring_part::own, shape.tx_rings, shape.rx_rings); !ok) return ok;
        const unsigned n = shape.tx_rings;
        const auto vectors = nic_wakes::plan(n, [this](sys::irq_kind k) { return bus.irq_count(k); });
        if (auto ok = wakes_.make(vectors, n, info.name); !ok) return ok;
        constexpr std::array<const char*, 3> kinds{"INTx", "MSI", "MSI-X"};
        info.reason = std::string(Device::name) + ", " + kinds[static_cast<unsigned>(vectors.kind)];
        if constexpr (requires { Device::caution; }) info.reason += std::string("; ") + Device::caution;
        if constexpr (requires { bus.no_iommu(); })
            if (bus.no_iommu()) info.advice = "no IOMMU keeps this device from any memory: turn on the IOMMU (intel_iommu=on, or the firmware's VT-d)";
        setup_.rings = n;
        setup_.tx_slots = shape.tx_slots;
        setup_.rx_slots = shape.rx_slots;
        setup_.vectors = vectors;
        setup_.buf_size = memory->buf_size();
        setup_.promiscuous = o.promiscuous;
        setup_.moderation_ns = o.mitigation_ns;
        if (auto ok = map_memory(); !ok) return ok;
        if (auto ok = bus.set_irqs(vectors.kind, wakes_.descriptors()); !ok) return ok;
        if (auto ok = bus.bus_master(true); !ok) return ok;
        if (auto ok = control->start(setup_); !ok) return ok;
        tx.reserve(n);
        rx.reserve(n);
        tx_sides_ = std::vector<nic_side>(n);
        rx_sides_ = std::vector<nic_side>(n);
        for (unsigned i = 0; i < n; ++i) add_rings(i, limits);
        for (auto& r : rx) r.set_timestamps(o.timestamps);
        opened_at_ = system_clock::now_ns();
        if (auto ok = control->run(); !ok) return ok;
        had_link_ = control->link().up;
        return {};
    }
    // The region, for frames; pages of the driver's own, for descriptors.
    [[nodiscard]] result<void> map_memory() {
        auto frames = bus.dma_map(memory->base(), memory->size());
        if (!frames) return forward_error(frames);
        frames_at_ = *frames;
        setup_.buffers = {*frames + memory->bufs_offset(), memory->buf(0), memory->buf_size()};
        std::size_t size = control->ring_memory(setup_);
        int flags = MAP_PRIVATE | MAP_ANONYMOUS;
        if (memory->huge()) {  // asked for since nothing translates: so must these be
            size = (size + (std::size_t{2} << 20) - 1) >> 21 << 21;
            flags |= MAP_HUGETLB | MAP_POPULATE;
        }
        auto best = base::map(size, flags);
        auto own = best || !memory->huge() ? std::move(best) : base::map(size, MAP_PRIVATE | MAP_ANONYMOUS);
        if (!own) return forward_error(own);
        own_memory_ = std::move(*own);
        auto at = bus.dma_map(own_memory_.data(), own_memory_.size());
        if (!at) return forward_error(at);
        own_at_ = *at;
        setup_.memory = {own_memory_.data(), *at, own_memory_.size()};
        return {};
    }
    void add_rings(unsigned i, const nic_limits& limits) {
        const auto side = [&](nic_side& s, void (*disarm)(nic_side&) noexcept) {
            s.port = this;
            s.ring = i;
            s.disarm = disarm;
            return &s;
        };
        auto t = control->tx(i);
        tx_steps tb{t, side(tx_sides_[i], [](nic_side& s) noexcept { static_cast<nic_state*>(s.port)->disarm_tx(s); }), memory.get(), setup_.tx_slots,
                    limits.min_frame, std::min<std::uint32_t>(limits.max_frame, setup_.mtu + 18)};
        tx.emplace_back(rings.tx(i), setup_.tx_slots, *memory, tb);
        tx.back().backend().q.stats = &tx.back().live();
        auto r = control->rx(i);
        ring* shared = rings.rx(i);
        for (index_t k = 0; k < setup_.rx_slots; ++k) r.give(k, shared->slots()[k].buf_idx);
        r.begin();
        rx.emplace_back(shared, setup_.rx_slots, *memory,
                        rx_steps{r, side(rx_sides_[i], [](nic_side& s) noexcept { static_cast<nic_state*>(s.port)->disarm_rx(s); })});
        rx.back().backend().q.stats = &rx.back().live();
    }

    // Of the link, or of the only vector. What the others wait for may have been in it: a device may tell once, and ack() takes
    // what it has not told yet.
    void take_signal() noexcept {
        bool some = wakes_.clear(wakes_.common());
        some |= control->ack();
        if (!wakes_.vectors().shared()) return;
        if (wakes_.vectors().kind == sys::irq_kind::intx) bus.unmask_intx();
        if (!some) return;
        std::atomic_thread_fence(std::memory_order_seq_cst);  // W: taken, then who is armed; who is not yet looks afterwards
        for (unsigned i = 0; i < rx_sides_.size(); ++i) {
            if (rx_sides_[i].armed.load(std::memory_order_relaxed)) wakes_.signal(wakes_.rx(i));
            if (tx_sides_[i].armed.load(std::memory_order_relaxed)) wakes_.signal(wakes_.tx(i));
        }
    }
    void arm_rx(unsigned i, bool on) noexcept {
        rx_sides_[i].armed.store(on, std::memory_order_relaxed);
        wakes_.clear(wakes_.rx(i));
        control->interrupt_rx(i, on);
    }
    void arm_tx(unsigned i, bool on) noexcept {
        tx_sides_[i].armed.store(on, std::memory_order_relaxed);
        wakes_.clear(wakes_.tx(i));
        control->interrupt_tx(i, on);
    }
    // Whether there is work already in what is armed of a ring. By its own thread.
    void look_rx(unsigned i) noexcept {
        rx_ring_type& r = rx[i];
        if (rx_sides_[i].armed && (!r.empty() || r.backend().ready(r.truth().hwtail))) wakes_.signal(wakes_.rx(i));
    }
    void look_tx(unsigned i) noexcept {
        tx_ring_type& t = tx[i];
        if (tx_sides_[i].armed && (!t.empty() || t.backend().reclaim(0, sync_flags::none) != t.truth().hwtail)) wakes_.signal(wakes_.tx(i));
    }
    // By a ring's publish.
    [[gnu::noinline, gnu::cold]] void disarm_rx(nic_side& s) noexcept {
        arm_rx(s.ring, false);
        if (wakes_.vectors().shared()) take_signal();
    }
    [[gnu::noinline, gnu::cold]] void disarm_tx(nic_side& s) noexcept {
        arm_tx(s.ring, false);
        if (wakes_.vectors().shared()) take_signal();
    }

    void close() noexcept {
        close_host();
        if (control) control->stop();
        if (!wakes_.descriptors().empty()) (void)bus.set_irqs(wakes_.vectors().kind, {});
        (void)bus.bus_master(false);
        if (own_at_) (void)bus.dma_unmap(*own_at_);
        if (frames_at_) (void)bus.dma_unmap(*frames_at_);
        for (index_t i = 0; i < rx.size(); ++i)
            if constexpr (requires { rx[i].backend().q.restore(rings.rx(i)->slots(), rx[i].truth().hwcur, rx[i].truth().hwtail); })
                rx[i].backend().q.restore(rings.rx(i)->slots(), rx[i].truth().hwcur, rx[i].truth().hwtail);
        tx.clear();
        rx.clear();
        control.reset();
    }
    void close_host() noexcept {
        if (!host_rx.empty()) host_.restore(host_rx[0]);
        host_tx.clear();
        host_rx.clear();
        host_.close();
    }

    nic_setup setup_;
    base::mapping own_memory_;
    std::optional<std::uint64_t> frames_at_, own_at_;
    nic_wakes wakes_;
    std::vector<nic_side> tx_sides_, rx_sides_;
    spin_lock counting_;
    nic_counters counted_;
    std::uint64_t missed_ = 0;
    std::uint64_t opened_at_ = 0;
    std::atomic<bool> had_link_ = false;
    nic_host host_;
    transparent_port<rx_steps, tx_steps> transparent_;
};

}  // namespace nm
