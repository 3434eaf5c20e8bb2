// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Opening and closing a kernel interface and its host rings: all that is cold.

#include <bit>

#include "nm/ports/netdev_state.hpp"

namespace nm {

inline result<std::shared_ptr<netdev_state>> netdev_state::create(context& ctx, const port_spec& spec, const open_options& o) {
    auto plan = netdev_plan::make(spec, o);
    if (!plan) return forward_error(plan);
    if (!plan->link.up)
        return fail(ENETDOWN, spec.name + " is down; run `ip link set " + spec.name + " up`");
    // Which way its own rings will be driven is decided when they are opened: room for the most that there can be.
    if (!wants_own(spec)) plan->shape.tx_rings = plan->shape.rx_rings = std::max(plan->link.rx_queues, plan->link.tx_queues);
    const auto& shape = plan->shape;
    auto memory = ctx.memory_for(spec, o, [&] {
        region_options r;
        // Its own rings and the host's may each have a place on a switch.
        r.bufs = 2 + shape.bufs() + 2 * member_bufs;
        r.buf_size = plan->buf_size;
        r.meta_bytes = shape.meta_bytes() + 16384 + 2 * member_meta_bytes;
        return region::create(r);
    });
    if (!memory) return forward_error(memory);
    auto s = std::make_shared<netdev_state>(std::move(*plan));
    s->memory = std::move(*memory);
    s->plan_.buf_size = s->memory->buf_size();
    auto rings = port_memory::create(s->memory, s->plan_.info().name, s->plan_.shape, ring_part::none);
    if (!rings) return forward_error(rings);
    s->rings = std::move(*rings);
    s->info = s->plan_.info();
    s->host_info = s->plan_.host_info();
    s->host_info.memory = s->memory->size();
    return s;
}

inline result<void> netdev_state::open_parts(const port_spec& spec, const open_options& o) {
    const bool host = wants_host(spec) && !has_host();
    if (wants_own(spec) && !has_own()) {
        auto in_our_memory = o;
        in_our_memory.memory = memory;
        auto plan = netdev_plan::make(spec, in_our_memory);
        if (!plan) return forward_error(plan);
        plan->shape.tx_slots = plan_.shape.tx_slots;
        plan->shape.rx_slots = plan_.shape.rx_slots;
        if (plan->single && !single)
            return fail(EBUSY, link.name + "^ is open in this program; with host rings an interface is opened as a whole");
        if (plan->shape.rx_rings > plan_.shape.rx_rings)
            return fail(EBUSY, link.name + " has got more queues since " + link.name + "^ was opened; close that first");
        if (auto ok = open_own(std::move(*plan), o); !ok) return ok;
    }
    if (host)
        if (auto ok = open_host(o); !ok) return ok;
    if (!has_own() || !has_host()) return {};
    if (!both_)
        if (auto ok = join_sleepers(); !ok) return ok;
    both_info = info;
    both_info.name += "*";
    both_info.tx_rings += host_info.tx_rings;
    both_info.rx_rings += host_info.rx_rings;
    if (wants_own(spec) && wants_host(spec)) {
        // What comes from one side goes to the other, which must be able to send it.
        if (host && !packet_rings_) host_rings_->rx.offloads = false;
        transparent_.set(rx, tx, host_rx, host_tx, o.transparent);
    }
    return {};
}

/// The host's stack: nothing to and from an interface whose own rings are open, but by the host rings. What was in force
/// before goes when the new is there.
inline result<void> netdev_state::cut_off(bool own, bool by_packet) {
    sys::cutoff_options c;
    c.ingress = own;
    if (single) c.egress = false, c.queue = plan_.queue;
    c.sends_by_packet = by_packet;
    c.mark = cut_.mark();
    if (tap_) c.divert_to = tap_->index(), c.pass = sys::host_mark;
    auto cut = sys::cutoff::open(link, c);
    if (!cut) return forward_error(cut);
    if (cut->mark() != cut_.mark())
        for (auto& p : packet_)
            if (auto ok = p.set_mark(cut->mark()); !ok) return ok;
    cut_ = std::move(*cut);
    return {};
}

inline result<void> netdev_state::open_own(netdev_plan plan, const open_options& o) {
    for (;;) {
        auto ok = try_own(plan, o);
        if (ok) return ok;
        close_own();
        if (!plan.choice.xdp || plan.choice.insisted) {
            if (tap_) (void)cut_off(false, false);
            return ok;
        }
        plan.fall_back(ok.error().text);
    }
}

inline result<void> netdev_state::try_own(const netdev_plan& plan, const open_options& o) {
    const auto& shape = plan.shape;
    info = plan.info();
    info.memory = memory->size();
    info.buf_size = memory->buf_size();
    if (auto ok = rings.make(info.name, ring_part::own, shape.tx_rings, shape.rx_rings); !ok) return ok;
    if (auto ok = own_sleeper_.open(link, o.mitigation_ns); !ok) return ok;
    // The stack is cut off first: nothing gets past a port that is half open. Of one queue among several, AF_XDP takes
    // the frames away by itself; what the stack sends has no queue yet where it could be stopped.
    if (!single || !plan.choice.xdp)
        if (auto ok = cut_off(true, !plan.choice.xdp); !ok) return ok;
    tx.reserve(shape.tx_rings);
    rx.reserve(shape.rx_rings);
    kernel_drops_.assign(shape.rx_rings, 0);
    if (auto ok = plan.choice.xdp ? open_xdp(plan) : open_packet(plan, o); !ok) return ok;
    for (auto& r : rx) r.set_timestamps(o.timestamps);
    if (!plan.choice.xdp || !o.promiscuous) return {};
    auto held = sys::hold_promiscuous(link);
    if (!held) return forward_error(held);
    promiscuous_ = std::move(*held);
    return {};
}

namespace detail {
/// The longest frame that the interface sends, without a VLAN tag.
[[nodiscard]] inline std::uint32_t longest_frame(const sys::link_info& l) noexcept { return l.mtu + 14; }
}  // namespace detail

inline result<void> netdev_state::open_xdp(const netdev_plan& plan) {
    const bool long_frames = detail::longest_frame(link) + 4 > memory->buf_size();
    auto program = sys::xdp_program::open(link, plan.choice.attach, long_frames);
    if (!program) return forward_error(program);
    program_ = std::move(*program);
    const auto& shape = plan.shape;
    xdp_.reserve(shape.rx_rings);
    for (index_t i = 0; i < shape.rx_rings; ++i) {
        sys::xdp_socket_options o;
        o.link = &link;
        o.queue = plan.queue + i;
        o.memory = memory->base();
        o.memory_size = memory->size();
        o.stride = memory->buf_size();
        o.tx_size = std::bit_ceil(shape.tx_slots);
        o.rx_size = std::bit_ceil(shape.rx_slots);
        o.copy = plan.choice.copy;
        o.multi_buffer = long_frames;
        auto socket = sys::xdp_socket::open(o);
        if (!socket) return forward_error(socket);
        if (long_frames && !socket->multi_buffer())
            return fail(EOPNOTSUPP, link.name + ": frames of " + std::to_string(link.mtu) +
                                        " bytes need AF_XDP multi-buffer (Linux 6.6), which is not there; use af_packet or a smaller MTU");
        xdp_.push_back(std::move(*socket));
        auto& x = xdp_.back();
        own_sleeper_.over(x.fd());
        info.mode = x.zero_copy() ? "af_xdp zero-copy" : "af_xdp copy";

        auto& t = *xdp_tx_.emplace_back(std::make_unique<xdp_tx_state>());
        auto& r = *xdp_rx_.emplace_back(std::make_unique<xdp_rx_state>());
        const umem_map map(*memory);
        ring* tx_shared = rings.tx(i);
        ring* rx_shared = rings.rx(i);
        t.socket = r.socket = &x;
        t.map = r.map = map;
        own_sleeper_.serve<events::tx>(t, memory.get(), tx_shared->slots(), shape.tx_slots);
        own_sleeper_.serve<events::rx>(r, memory.get(), rx_shared->slots(), shape.rx_slots);
        t.held.resize(memory->num_bufs());
        r.held.resize(memory->num_bufs());
        t.spare.reserve(shape.tx_slots);
        t.max_len = detail::longest_frame(link);

        netdev_tx tb;
        tb.x = {&t, static_cast<xdp_desc*>(x.tx().descriptors), t.held.data(), map.first, map.stride, x.tx().mask,
                std::min(t.max_len, memory->buf_size()), {}};
        netdev_rx rb;
        rb.x.state = &r;
        rb.x.descriptors = static_cast<const xdp_desc*>(x.rx().descriptors);
        rb.x.producer = x.rx().producer;
        rb.x.fill = static_cast<std::uint64_t*>(x.fill().descriptors);
        rb.x.held = r.held.data();
        rb.x.map = map;
        rb.x.mask = x.rx().mask;
        rb.x.fill_mask = x.fill().mask;
        for (index_t k = 0; k < shape.rx_slots; ++k) rb.x.give(rx_shared->slots()[k]);
        tx.emplace_back(tx_shared, shape.tx_slots, *memory, tb);
        rx.emplace_back(rx_shared, shape.rx_slots, *memory, rb);
        t.stats = &tx.back().live();
        r.stats = &rx.back().live();
        rx.back().backend().publish(0);
    }
    // Frames arrive from here on, when all queues are ready for them.
    for (index_t i = 0; i < shape.rx_rings; ++i)
        if (auto ok = program_.insert(plan.queue + i, xdp_[i].fd()); !ok) return ok;
    return {};
}

inline result<void> netdev_state::open_packet(const netdev_plan& plan, const open_options& o) {
    const int queue = single ? static_cast<int>(plan.queue) : sys::whole_interface;
    auto claim = sys::claim_interface(link.index, queue, info.name);
    if (!claim) return forward_error(claim);
    claim_ = std::move(*claim);
    sys::packet_options p;
    p.link = &link;
    p.promiscuous = o.promiscuous;
    p.mark = cut_.mark();
    if (single) p.queue = plan.queue;
    auto socket = sys::packet_socket::open(p);
    if (!socket) return forward_error(socket);
    packet_.push_back(std::move(*socket));
    if (tap_)
        if (auto ok = packet_.back().ignore(sys::host_mark); !ok) return ok;
    packet_rings_ = std::make_unique<packet_rings>();
    add_rings(*packet_rings_, packet_.back().fd(), own_sleeper_, o.offloads, ring_part::own);
    return {};
}

inline void netdev_state::add_rings(packet_rings& p, int fd, netdev_sleeper& sleeper, bool offloads, ring_part part) {
    const bool host = part == ring_part::host;
    ring* tx_shared = host ? rings.host_tx(0) : rings.tx(0);
    ring* rx_shared = host ? rings.host_rx(0) : rings.rx(0);
    p.set_up({fd, memory.get(), &sleeper, tx_shared->slots(), rx_shared->slots(), plan_.shape.tx_slots, plan_.shape.rx_slots,
              detail::longest_frame(link), offloads});
    netdev_tx tb;
    tb.p = p.tx_steps();
    netdev_rx rb;
    rb.p = p.rx_steps();
    p.tx.stats = &(host ? host_tx : tx).emplace_back(tx_shared, plan_.shape.tx_slots, *memory, tb).live();
    p.rx.stats = &(host ? host_rx : rx).emplace_back(rx_shared, plan_.shape.rx_slots, *memory, rb).live();
}

inline result<void> netdev_state::open_host(const open_options& o) {
    auto ok = try_host(o);
    if (!ok) close_host();
    return ok;
}

inline result<void> netdev_state::try_host(const open_options& o) {
    auto claim = sys::claim_interface(link.index, sys::host_rings, host_info.name);
    if (!claim) return forward_error(claim);
    host_claim_ = std::move(*claim);
    if (auto ok = rings.make(host_info.name, ring_part::host, 0, 0); !ok) return ok;
    if (auto ok = host_sleeper_.open(link, o.mitigation_ns); !ok) return ok;
    auto tap = sys::host_tap::open(link);
    if (!tap) return forward_error(tap);
    tap_ = std::move(*tap);
    host_rings_ = std::make_unique<packet_rings>();
    host_rings_->tx.batch.one_by_one();
    host_rings_->rx.batch.one_by_one();
    host_tx.reserve(1);
    host_rx.reserve(1);
    add_rings(*host_rings_, tap_->fd(), host_sleeper_, o.offloads, ring_part::host);
    host_rx.back().set_timestamps(o.timestamps);
    for (auto& p : packet_)
        if (auto ok = p.ignore(sys::host_mark); !ok) return ok;
    return cut_off(has_own(), packet_rings_ != nullptr);
}

/// Who waits on all rings sleeps on both.
inline result<void> netdev_state::join_sleepers() {
    const int fds[] = {own_sleeper_.fd(), host_sleeper_.fd()};
    auto both = base::make_epoll(link.name, fds);
    if (!both) return forward_error(both);
    both_ = std::move(*both);
    return {};
}

inline void netdev_state::arm(events e, const ring_view& v) noexcept {
    const auto visible = [&](const auto& txs, const auto& rxs) {
        bool ready = false;
        for (const auto& r : rxs) ready |= any(e & events::rx) && !r.empty();
        for (const auto& t : txs) ready |= any(e & events::tx) && !t.empty();
        return ready;
    };
    if (!v.ring_range::empty()) {
        const bool unsent = packet_rings_ && packet_rings_->waits(e);
        own_sleeper_.arm(unsent ? e | events::tx : e, [&]() noexcept {
            bool ready = visible(tx, rx);
            if (packet_rings_) return packet_rings_->look(e, rx[0], unsent) || ready;
            for (auto& r : rx) ready |= any(e & events::rx) && !r.waits_in_vain() && r.backend().ready(r.truth().hwtail);
            for (auto& t : xdp_tx_) ready |= any(e & events::tx) && t->freed();
            return ready;
        });
    }
    if (!v.host.empty()) {
        const bool unsent = host_rings_->waits(e);
        host_sleeper_.arm(unsent ? e | events::tx : e,
                          [&]() noexcept { return host_rings_->look(e, host_rx[0], unsent) || visible(host_tx, host_rx); });
    }
}

inline void netdev_state::read_kernel_drops(const ring_view& v) noexcept {
    const auto count = [](rx_ring_type& r, std::uint64_t& known, std::uint64_t now) {
        r.live().drop(cause::full, now - known);
        known = now;
    };
    for (index_t i = v.rx_first; i < v.rx_first + v.rx_count; ++i) {
        if (i < xdp_.size()) {
            const auto s = xdp_[i].statistics();
            count(rx[i], kernel_drops_[i], s.rx_dropped + s.rx_ring_full);
        } else if (i < packet_.size()) {
            count(rx[i], kernel_drops_[i], packet_[i].kernel_drops());
        }
    }
    if (v.host.rx_count != 0) count(host_rx[0], host_drops_, tap_->counters().rx_dropped);
}

inline void netdev_state::close_own() noexcept {
    xdp_.clear();
    packet_.clear();
    program_ = {};
    promiscuous_.reset();
    claim_.reset();
    for (index_t i = 0; i < rx.size() && i < xdp_rx_.size(); ++i) {
        xdp_tx_[i]->restore(xdp_tx_[i]->done, xdp_tx_[i]->spare);
        xdp_rx_[i]->restore(rx[i].truth().hwtail, {});
    }
    if (packet_rings_ && !rx.empty()) packet_rings_->restore(rx[0].truth().hwtail, rx[0].backend().p);
    xdp_tx_.clear();
    xdp_rx_.clear();
    tx.clear();
    rx.clear();
    packet_rings_.reset();
    rings.unmake(ring_part::own);
    own_sleeper_.close();
}

inline void netdev_state::close_host() noexcept {
    if (host_rings_ && !host_rx.empty()) host_rings_->restore(host_rx[0].truth().hwtail, host_rx[0].backend().p);
    host_tx.clear();
    host_rx.clear();
    tap_.reset();
    host_rings_.reset();
    rings.unmake(ring_part::host);
    host_sleeper_.close();
    host_claim_.reset();
}

}  // namespace nm
