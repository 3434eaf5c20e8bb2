// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Opening, waiting on and closing a kernel interface: all that is cold.

#include <bit>
#include <poll.h>

#include "nm/ports/netdev_state.hpp"

namespace nm {

inline result<std::shared_ptr<netdev_state>> netdev_state::build(context& ctx, const port_spec& spec,
                                                                 const open_options& o, const netdev_plan& plan) {
    auto s = std::make_shared<netdev_state>();
    s->link = plan.link;
    s->single = plan.single;
    s->info = plan.info();
    s->mitigation_ns_ = o.mitigation_ns;
    auto memory = ctx.memory_for(spec, o, [&] {
        region_options r;
        r.bufs = 2 + plan.shape.bufs() + member_bufs;
        r.buf_size = plan.buf_size;
        r.meta_bytes = plan.shape.meta_bytes() + 16384 + member_meta_bytes;
        return region::create(r);
    });
    if (!memory) return forward_error(memory);
    s->memory = std::move(*memory);
    s->info.memory = s->memory->size();
    s->info.buf_size = s->memory->buf_size();
    auto rings = port_memory::create(s->memory, s->info.name, plan.shape);
    if (!rings) return forward_error(rings);
    s->rings = std::move(*rings);

    auto watch = sys::link_watch::open(plan.link);
    if (!watch) return forward_error(watch);
    s->watch_ = std::move(*watch);

    // The stack is cut off first: nothing gets past a port that is half open. Of one queue among several, AF_XDP takes
    // the frames away by itself; what the stack sends has no queue yet where it could be stopped.
    if (!plan.single || !plan.choice.xdp) {
        sys::cutoff_options c;
        if (plan.single) c.egress = false, c.queue = plan.queue;
        c.sends_by_packet = !plan.choice.xdp;
        auto cut = sys::cutoff::open(plan.link, c);
        if (!cut) return forward_error(cut);
        s->cut_ = std::move(*cut);
    }
    s->tx.reserve(plan.shape.tx_rings);
    s->rx.reserve(plan.shape.rx_rings);
    s->kernel_drops_.resize(plan.shape.rx_rings);
    if (auto ok = plan.choice.xdp ? s->open_xdp(plan) : s->open_packet(plan, o); !ok) return forward_error(ok);
    if (plan.choice.xdp && o.promiscuous) {
        auto held = sys::hold_promiscuous(plan.link);
        if (!held) return forward_error(held);
        s->promiscuous_ = std::move(*held);
    }
    if (auto ok = s->make_descriptors(); !ok) return forward_error(ok);
    return s;
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
        info.mode = x.zero_copy() ? "af_xdp zero-copy" : "af_xdp copy";

        auto& t = *xdp_tx_.emplace_back(std::make_unique<xdp_tx_state>());
        auto& r = *xdp_rx_.emplace_back(std::make_unique<xdp_rx_state>());
        const umem_map map(*memory);
        ring* tx_shared = rings.tx(i);
        ring* rx_shared = rings.rx(i);
        t.socket = r.socket = &x;
        t.map = r.map = map;
        join<events::tx>(t, tx_shared->slots(), shape.tx_slots);
        join<events::rx>(r, rx_shared->slots(), shape.rx_slots);
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
    auto claim = sys::claim_interface(link.index, plan.single ? static_cast<int>(plan.queue) : -1, plan.info().name);
    if (!claim) return forward_error(claim);
    claim_ = std::move(*claim);
    sys::packet_options p;
    p.link = &link;
    p.promiscuous = o.promiscuous;
    p.mark = cut_.mark();
    if (plan.single) p.queue = plan.queue;
    auto socket = sys::packet_socket::open(p);
    if (!socket) return forward_error(socket);
    packet_.push_back(std::move(*socket));
    const auto& shape = plan.shape;
    auto& t = *packet_tx_.emplace_back(std::make_unique<packet_tx_state>());
    auto& r = *packet_rx_.emplace_back(std::make_unique<packet_rx_state>());
    ring* tx_shared = rings.tx(0);
    ring* rx_shared = rings.rx(0);
    t.socket = r.socket = &packet_.back();
    join<events::tx>(t, tx_shared->slots(), shape.tx_slots);
    join<events::rx>(r, rx_shared->slots(), shape.rx_slots);
    t.queue.resize(shape.tx_slots);
    t.max_len = detail::longest_frame(link);
    r.offloads = o.offloads;
    r.ready.resize(shape.rx_slots);
    r.free.resize(shape.rx_slots);
    r.lent.resize(std::size_t{packet_rx_state::batch_frames} * packet_rx_state::most_pieces);

    netdev_tx tb;
    tb.p = {&t, t.queue.data()};
    netdev_rx rb;
    rb.p.state = &r;
    rb.p.filled = r.ready.data();
    rb.p.free = r.free.data();
    // The first buffer is taken first.
    for (index_t k = shape.rx_slots; k-- != 0;) rb.p.give(rx_shared->slots()[k]);
    tx.emplace_back(tx_shared, shape.tx_slots, *memory, tb);
    rx.emplace_back(rx_shared, shape.rx_slots, *memory, rb);
    t.stats = &tx.back().live();
    r.stats = &rx.back().live();
    return {};
}

inline result<void> netdev_state::make_descriptors() {
    poll_.reset(::epoll_create1(EPOLL_CLOEXEC));
    timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    auto wake = base::make_eventfd();
    if (!wake) return forward_error(wake);
    wake_ = std::move(*wake);
    bool ok = poll_ && timer_;
    const auto add = [&](int fd, std::uint32_t what) {
        epoll_event e{};
        e.events = what;
        ok = ok && ::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, fd, &e) == 0;
    };
    add(wake_.get(), EPOLLIN);
    add(timer_.get(), EPOLLIN);
    add(watch_.fd(), EPOLLIN);
    if (!ok) return fail(errno, link.name + ": cannot make a descriptor to wait on: " + base::errno_text(errno));
    return {};
}

/// A socket that somebody watches runs the watcher for every frame it sends or gets, whatever it is watched for: with it
/// the loop over two veth ends ran at 0.8 of one by hand, without it at 1.0. So sockets are in the set only while armed.
inline void netdev_state::watch_sockets(std::uint32_t what) noexcept {
    epoll_event e{};
    e.events = what | EPOLLET;
    const auto watch = [&](int fd) {
        if (what == 0) (void)::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, fd, nullptr);
        else if (::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, fd, &e) != 0) (void)::epoll_ctl(poll_.get(), EPOLL_CTL_MOD, fd, &e);
    };
    for (const auto& s : xdp_) watch(s.fd());
    for (const auto& s : packet_) watch(s.fd());
}

inline void netdev_state::watch_sockets() noexcept {
    watch_sockets((rx_armed_ ? static_cast<std::uint32_t>(EPOLLIN) : 0U) | (tx_armed_ ? static_cast<std::uint32_t>(EPOLLOUT) : 0U));
}

inline void netdev_state::arm(events e) noexcept {
    // A socket says "writable" while it has room, which is nearly always: what counts is the change. So sockets are
    // watched for edges, what they say at once is taken off, and then rings and sockets are looked at.
    rx_armed_ = any(e & events::rx);
    tx_armed_ = any(e & events::tx);
    const bool lost = watch_.look().lost();
    if (!lost) base::eventfd_clear(wake_.get());
    const std::uint64_t now = system_clock::now_ns();
    if (mitigation_ns_ != 0 && now - last_wake_ < mitigation_ns_) {
        // Too soon after the last one: look again when the time has come, not when the next frame has.
        const auto left = static_cast<long>(mitigation_ns_ - (now - last_wake_));
        const itimerspec when{{0, 0}, {left / 1'000'000'000, left % 1'000'000'000}};
        (void)::timerfd_settime(timer_.get(), 0, &when, nullptr);
        watch_sockets(0);
        return;
    }
    watch_sockets();
    std::array<epoll_event, 16> stale;
    (void)::epoll_wait(poll_.get(), stale.data(), static_cast<int>(stale.size()), 0);
    bool ready = lost;
    if (any(e & events::rx)) {
        for (auto& r : packet_rx_) r->dry = false;
        for (auto& r : rx) ready |= !r.empty() || r.backend().ready(r.truth().hwtail);
        for (auto& r : packet_rx_) r->dry = false;
    }
    if (any(e & events::tx)) {
        for (auto& t : tx) ready |= !t.empty();
        for (auto& t : xdp_tx_) ready |= t->freed();
        for (auto& t : packet_tx_) {
            pollfd p{t->socket->fd(), POLLOUT, 0};
            ready |= t->sent != t->published && ::poll(&p, 1, 0) == 1;
        }
    }
    if (ready) base::eventfd_signal(wake_.get());
}

/// By a ring's publish: only what was armed for that ring's direction ends, since somebody else may sleep for the other.
inline void netdev_state::disarm(events direction) noexcept {
    (direction == events::rx ? rx_armed_ : tx_armed_) = false;
    if (rx_armed_ || tx_armed_) {
        if (mitigation_ns_ == 0) watch_sockets();
        return;
    }
    last_wake_ = system_clock::now_ns();
    watch_sockets(0);
    if (mitigation_ns_ != 0) {
        const itimerspec never{};
        (void)::timerfd_settime(timer_.get(), 0, &never, nullptr);
    }
    if (!watch_.state().lost()) base::eventfd_clear(wake_.get());
}

inline void netdev_state::read_kernel_drops() noexcept {
    for (index_t i = 0; i < rx.size(); ++i) {
        std::uint64_t now = 0;
        if (i < xdp_.size()) {
            const auto s = xdp_[i].statistics();
            now = s.rx_dropped + s.rx_ring_full;
        } else if (i < packet_.size()) {
            now = packet_[i].kernel_drops();
        }
        rx[i].live().drop(cause::full, now - kernel_drops_[i]);
        kernel_drops_[i] = now;
    }
}

inline void netdev_state::close_sockets() noexcept {
    xdp_.clear();
    packet_.clear();
    program_ = {};
    promiscuous_.reset();
}

/// Every slot gets a buffer again, so that the region's pool gets all of them back.
inline void netdev_state::restore() noexcept {
    for (index_t i = 0; i < rx.size() && i < xdp_rx_.size(); ++i) {
        xdp_tx_[i]->restore(xdp_tx_[i]->done, xdp_tx_[i]->spare);
        xdp_rx_[i]->restore(rx[i].truth().hwtail, {});
    }
    for (index_t i = 0; i < rx.size() && i < packet_rx_.size(); ++i) {
        const auto& p = rx[i].backend().p;
        packet_rx_[i]->restore(rx[i].truth().hwtail, p.at, p.end, p.free_count);
    }
}

}  // namespace nm
