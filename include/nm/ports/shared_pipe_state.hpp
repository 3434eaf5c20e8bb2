// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// One end of a pipe between processes, as this process has it: from what the host keeps of the pipe to rings.

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <sys/stat.h>
#include <utility>
#include <vector>

#include "nm/base/pipe_wakes.hpp"
#include "nm/ports/pipe_end.hpp"
#include "nm/ports/pipe_wire.hpp"
#include "nm/sys/control.hpp"

namespace nm {

/// What is handed over of a pipe: how it looks, and descriptors. wakes[e][i] is for ring i of both directions of end e.
struct pipe_custody {
    pipe_geometry geometry;
    base::unique_fd bufs, wires;
    std::vector<base::unique_fd> wakes[2];

    [[nodiscard]] std::vector<int> fds() const {
        std::vector<int> all{bufs.get(), wires.get()};
        for (index_t i = 0; i < geometry.wakes(); ++i)
            for (const auto& end : wakes) all.push_back(end[i].get());
        return all;
    }
    /// From what somebody else brought.
    [[nodiscard]] static result<pipe_custody> from(std::string_view payload, std::vector<base::unique_fd> fds, const std::string& name) {
        const auto g = pipe_geometry::from(payload);
        if (!g) return fail(EPROTO, name + ": what is kept there is no pipe of this version of nm");
        if (auto ok = g->check(name); !ok) return forward_error(ok);
        if (fds.size() != 2 + 2 * g->wakes()) return fail(EPROTO, name + ": a pipe has more or fewer descriptors than are kept there");
        pipe_custody c;
        c.geometry = *g;
        c.bufs = std::move(fds[0]);
        c.wires = std::move(fds[1]);
        for (std::size_t i = 2; i < fds.size(); ++i) c.wakes[i % 2].push_back(std::move(fds[i]));
        return c;
    }
    /// A new pipe's. Buffers are in memory of its own, or, when `lender` has room, in that.
    [[nodiscard]] static result<pipe_custody> make(pipe_geometry g, const region_ptr& lender, const std::string& name) {
        pipe_custody c;
        const std::uint32_t pairs = g.tx_rings * g.tx_slots + g.rx_rings * g.rx_slots;
        std::vector<std::uint32_t> lent;
        if (lender) {
            g.lent = 1;
            g.num_bufs = lender->num_bufs();
            g.buf_size = lender->buf_size();
            g.bufs_offset = lender->bufs_offset();
            c.bufs.reset(::fcntl(lender->fd(), F_DUPFD_CLOEXEC, 0));
            if (!c.bufs) return fail(errno, name + ": " + base::errno_text(errno));
        } else {
            g.spare = member_bufs;  // of each end, for a place on a switch
            g.first_spare[0] = 2 + pairs;
            g.first_spare[1] = g.first_spare[0] + g.spare;
            g.num_bufs = g.first_spare[1] + g.spare;
            auto fd = base::make_memfd("nm-pipe-buffers", g.buffer_bytes());
            if (!fd) return forward_error(fd);
            c.bufs = std::move(*fd);
        }
        c.geometry = g;
        if (auto ok = g.check(name); !ok) return forward_error(ok);
        auto fd = base::make_memfd("nm-pipe", pipe_wires::bytes(g));
        if (!fd) return forward_error(fd);
        c.wires = std::move(*fd);
        auto map = base::map_sealed(c.wires.get(), pipe_wires::bytes(g));
        if (!map) return forward_error(map);
        for (auto& end : c.wakes)
            for (index_t i = 0; i < g.wakes(); ++i) {
                auto w = pipe_wakes::make();
                if (!w) return forward_error(w);
                end.push_back(std::move(*w));
            }
        std::uint32_t next = 2;
        std::unique_lock<std::mutex> guard;
        if (lender) {
            guard = std::unique_lock(lender->pools());
            if (lender->bufs().available() < pairs) return fail(ENOMEM, name + " needs " + std::to_string(pairs) + " buffers of its parent's memory, which has not so many left");
        }
        pipe_wires(map->data(), g).fill([&] { return lender ? *lender->bufs().take() : next++; });
        return c;
    }
    /// The buffers that make() took go back: somebody else was first.
    void unmake(region& lender) const {
        auto map = base::map_sealed(wires.get(), pipe_wires::bytes(geometry));
        if (!map) return;
        const pipe_wires w(map->data(), geometry);
        const std::lock_guard guard(lender.pools());
        for (unsigned d = 0; d < 2; ++d)
            for (index_t r = 0; r < geometry.rings(d); ++r)
                for (index_t i = 0; i < geometry.slots(d); ++i) lender.bufs().give_back(w.at(d, r).given[i]);
    }
    [[nodiscard]] bool buffers_are_of(const region& m) const noexcept {
        struct stat a {}, b {};
        return m.fd() >= 0 && ::fstat(m.fd(), &a) == 0 && ::fstat(bufs.get(), &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev &&
               geometry.num_bufs == m.num_bufs() && geometry.buf_size == m.buf_size() && geometry.bufs_offset == m.bufs_offset();
    }
};

/// One end of a pipe to another process. Data flows from memory to memory; the host is only asked who is there.
struct shared_pipe_end : basic_pipe_end<pipe_tx<eventfd_notifier, checked_peer>, wire_rx<>> {
    ~shared_pipe_end() {
        if (!wires_map_) return;
        wires_.closed().said[slave_ ? 1 : 0].store(1, std::memory_order_release);  // P1
        (void)look();
        if (lender_ && peer_here_) rings.own_buffers(false);  // they are in his hands; they are gone with the parent's memory
    }

    /// The other end was there and has gone otherwise than by closing, or the host has: what is in memory can still be used.
    [[nodiscard]] result<void> status() {
        const std::lock_guard guard(mutex_);
        return look();
    }

    [[nodiscard]] bool peer_open() noexcept {
        const std::lock_guard guard(mutex_);
        (void)look();
        return peer_here_;
    }

    /// `lender`: the region of this process that the buffers are in, if they are.
    [[nodiscard]] result<void> build(pipe_custody c, sys::control_channel channel, bool peer_here, bool slave, const region_ptr& lender,
                                     const std::string& name) {
        slave_ = slave;
        lender_ = lender != nullptr;
        peer_here_ = peer_here;
        const pipe_geometry g = c.geometry;
        port_shape shape = g.shape(slave);
        auto m = lender ? result<region_ptr>(lender) : map_buffers(c, shape);
        if (!m) return forward_error(m);
        memory = *m;
        auto r = port_memory::create(memory, name, shape);
        if (!r) return forward_error(r);
        auto map = base::map_sealed(c.wires.get(), pipe_wires::bytes(g));
        if (!map) return forward_error(map);
        wires_ = pipe_wires(map->data(), g);
        auto own = pipe_wakes::reopen(c.wakes[slave ? 1 : 0]);
        if (!own) return forward_error(own);
        auto theirs = pipe_wakes::reopen(c.wakes[slave ? 0 : 1]);
        if (!theirs) return forward_error(theirs);
        for (const auto& w : *own) base::eventfd_clear(w.get());
        if (auto ok = wakes.adopt(std::move(*own), name, channel.fd()); !ok) return ok;
        peer_wakes_ = std::move(*theirs);
        rings = std::move(*r);
        if (auto ok = go_on(name, shape); !ok) return ok;
        set_beside();
        channel_.emplace(std::move(channel));
        wires_map_ = std::move(*map);  // from now on there is something to close
        rings.own_buffers(lender_);
        info = pipe_shape::named(name, shape.info(*memory));
        info.reason = "the other end may be in another process";
        // Who slept when the end's last owner died may not have been told of his last frames.
        for (const auto& w : peer_wakes_) base::eventfd_signal(w.get());
        wires_.closed().said[slave ? 1 : 0].store(0, std::memory_order_relaxed);
        return {};
    }

private:
    // A region whose front is this process's own and whose buffers are the pipe's; of these it may give away its spare ones.
    [[nodiscard]] result<region_ptr> map_buffers(const pipe_custody& c, const port_shape& shape) const {
        const pipe_geometry& g = c.geometry;
        const std::size_t front = pipe_geometry::rounded(shape.meta_bytes() + 16384 + member_meta_bytes, 4096);
        auto map = base::map_sealed_behind(front, c.bufs.get(), g.bufs_offset, g.buffer_bytes());
        if (!map) return forward_error(map);
        auto keep = std::make_shared<base::mapping>(std::move(*map));
        std::byte* at = keep->data();
        auto m = region::within(std::move(keep), at, front + g.buffer_bytes(), front, g.num_bufs, g.buf_size, true);
        if (!m) return m;
        (*m)->bufs().take_all();
        const std::uint32_t first = g.first_spare[slave_ ? 1 : 0];
        for (std::uint32_t i = 0; i < g.spare; ++i) (*m)->bufs().give_back(first + i);
        return m;
    }

    // Private truth from the wires. What is this end's to say there, its last owner has said, and the other end has checked
    // it; half-done things lie beyond these indexes.
    [[nodiscard]] result<void> go_on(const std::string& name, const port_shape& shape) {
        const unsigned out = slave_ ? 1 : 0;
        std::vector<bool> used(memory->num_bufs(), false);
        const std::lock_guard guard(memory->pools());
        forget_wandered();
        tx.reserve(shape.tx_rings);
        rx.reserve(shape.rx_rings);
        for (index_t i = 0; i < shape.tx_rings; ++i)
            if (auto ok = add_tx(name, wires_.at(out, i), i, shape.tx_slots, used); !ok) return ok;
        for (index_t i = 0; i < shape.rx_rings; ++i)
            if (auto ok = add_rx(name, wires_.at(1 - out, i), i, shape.rx_slots, used); !ok) return ok;
        return {};
    }

    [[nodiscard]] result<void> add_tx(const std::string& name, const pipe_wires::wire& w, index_t i, index_t n, std::vector<bool>& used) {
        const std::uint64_t word = w.link->head.load(std::memory_order_acquire);  // C1
        const auto given = static_cast<index_t>(word & 0xffffffffU);
        const index_t tail = w.link->tail.load(std::memory_order_acquire);
        if (given >= n || tail >= n) return scribbled(name);
        ring* r = rings.tx(i);
        const index_t sent = ring_distance(given, tail, n);
        for (index_t k = 0, s = given; k < n; ++k, s = ring_next(s, n)) {
            std::uint32_t idx = k < sent ? load_once(w.slots[s].buf_idx) : load_once(w.given[s]);
            if (!claim(idx, used) && k >= sent) idx = spare(used);
            r->slots()[s] = {idx, 0, 0, 0};
        }
        pipe_tx<eventfd_notifier, checked_peer> b{r->slots(), w.slots,    w.link, n, memory->num_bufs(), {peer_wakes_[i].get()}, wakes.fd(i), nullptr,
                                                  false,      false,      given,  tail, static_cast<std::uint32_t>(word >> 32), {0, w.given}};
        w.link->tx_sleeps.disarm();
        tx.emplace_back(r, n, *memory, b);
        tx.back().start_at(tail, ring_prev(given, n));
        return {};
    }

    [[nodiscard]] result<void> add_rx(const std::string& name, const pipe_wires::wire& w, index_t i, index_t n, std::vector<bool>& used) {
        const std::uint64_t word = w.link->head.load(std::memory_order_acquire);  // what this end said last
        const auto given = static_cast<index_t>(word & 0xffffffffU);
        const index_t tail = w.link->tail.load(std::memory_order_acquire);  // C1
        if (given >= n || tail >= n) return scribbled(name);
        ring* r = rings.rx(i);
        for (index_t s = 0; s < n; ++s) r->slots()[s] = {load_once(w.given[s]), 0, 0, 0};
        for (index_t s = given; s != tail; s = ring_next(s, n)) {
            // A buffer that went on already, by a send that was the last thing done here: its frame has been forwarded. Another buffer
            // is to go back in its place. Who dies before that leaves the same for the next one.
            slot held = load_slot(w.slots[s]);
            const bool was = held.len == 0 && (held.flags & wire_rx<>::replaced) != 0;
            const std::uint64_t idx = was ? held.ptr : held.buf_idx;
            if (!was && (idx < 2 || idx >= used.size())) continue;  // counted when it is received
            if (idx < used.size() && claim(static_cast<std::uint32_t>(idx), used)) continue;
            store_slot(w.slots[s], {held.buf_idx, 0, wire_rx<>::replaced, spare(used)});
        }
        wire_rx<> b{{w.link, n, {peer_wakes_[i].get()}, wakes.fd(i), nullptr, false, false, false, given, given, static_cast<std::uint32_t>(word >> 32), {0, w.given}},
                    w.slots};
        w.link->rx_sleeps.disarm();
        rx.emplace_back(r, n, *memory, b);
        rx.back().start_at(given, given);
        return {};
    }

    [[nodiscard]] static tl::unexpected<error> scribbled(const std::string& name) {
        return fail(EPROTO, name + ": somebody wrote over the pipe's indexes; close both ends and open them again");
    }
    // False when a buffer cannot be, or is somewhere already.
    [[nodiscard]] static bool claim(std::uint32_t idx, std::vector<bool>& used) {
        if (idx < 2 || idx >= used.size() || used[idx]) return false;
        return used[idx] = true;
    }
    [[nodiscard]] std::uint32_t spare(std::vector<bool>& used) {
        const auto b = memory->bufs().take();  // of a lender too: a buffer was lost to it when a process died
        if (!b) return 0;                      // the slot cannot be sent from: it is counted as bad when it is
        used[*b] = true;
        return *b;
    }
    // Spare buffers that were swapped into the pipe's slots by the end's last owner are not spare.
    void forget_wandered() {
        if (lender_) return;
        const pipe_geometry& g = wires_.geometry();
        const std::uint32_t first = g.first_spare[slave_ ? 1 : 0];
        std::vector<bool> wandered(g.spare, false);
        const auto note = [&](std::uint32_t idx) {
            if (idx - first < g.spare) wandered[idx - first] = true;
        };
        for (unsigned d = 0; d < 2; ++d)
            for (index_t r = 0; r < g.rings(d); ++r)
                for (index_t i = 0; i < g.slots(d); ++i) {
                    const slot s = load_slot(wires_.at(d, r).slots[i]);
                    note(load_once(wires_.at(d, r).given[i]));
                    note(s.buf_idx);
                    if ((s.flags & wire_rx<>::replaced) != 0) note(static_cast<std::uint32_t>(s.ptr));
                }
        memory->bufs().take_all();
        for (std::uint32_t i = 0; i < g.spare; ++i)
            if (!wandered[i]) memory->bufs().give_back(first + i);
    }

    result<void> look() {
        if (!channel_) return host_gone();
        const bool alive = channel_->alive();
        for (int budget = 64; budget != 0; --budget) {
            auto e = channel_->event();
            if (!e) break;
            if (const auto words = e->words<sys::claim_words>()) {
                peer_here_ = words->other != 0;
                peer_lost_ = !peer_here_ && wires_.closed().said[slave_ ? 0 : 1].load(std::memory_order_acquire) == 0;  // C1
            }
        }
        if (!alive) {
            channel_.reset();
            return host_gone();
        }
        if (peer_lost_) return fail(EPIPE, info.name + ": the process that had the other end has gone; another may open it");
        return {};
    }
    [[nodiscard]] result<void> host_gone() const {
        return fail(ECONNRESET, info.name + ": nm-host, which kept the pipe, has gone; close both ends and open them again");
    }

    bool slave_ = false, lender_ = false, peer_here_ = false, peer_lost_ = false;
    std::mutex mutex_;
    base::mapping wires_map_;
    pipe_wires wires_;
    std::vector<base::unique_fd> peer_wakes_;
    std::optional<sys::control_channel> channel_;
};

}  // namespace nm
