// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Monitors: what passes on another port of this program, seen without being in its way. Source: semantics section 10.

#include <memory>
#include <string>

#include "nm/port.hpp"
#include "nm/wakes.hpp"

namespace nm {

/// A monitor has nowhere to send to: what is sent is dropped, and counted.
struct monitor_tx {
    index_t num_slots;
    live_counters* stats = nullptr;

    [[gnu::always_inline]] void put(index_t, const slot_words& w) const noexcept {
        if (!w.has(ns_morefrag)) stats->drop(cause::no_dst);
    }
    void put(index_t i, slot& s) const noexcept { put(i, words(s)); }
    void hole(index_t, slot&) noexcept {}
    void cancel(index_t, index_t) noexcept {}
    void publish(index_t) noexcept {}
    [[nodiscard]] index_t reclaim(index_t hwcur, sync_flags) noexcept { return ring_prev(hwcur, num_slots); }
};
static_assert(tx_backend<monitor_tx>);

struct monitor_state : port_state<monitor_tx, link_rx<>> {
    ring_wakes wakes;
    std::shared_ptr<tap_point> parent;
    watcher eye;
    std::unique_ptr<ring_link[]> links;
    std::unique_ptr<inbox[]> boxes;
    bool asymmetric = false;

    monitor_state() = default;
    monitor_state(const monitor_state&) = delete;
    monitor_state& operator=(const monitor_state&) = delete;
    ~monitor_state() {
        if (parent) parent->detach(eye);
    }

    [[nodiscard]] int fd(const ring_view& v) const noexcept { return wakes.fd(v); }
    /// An error once the port that is watched has been closed.
    [[nodiscard]] result<void> status() const {
        if (!eye.lost.load(std::memory_order_acquire)) return {};  // C1
        return fail(EIO, info.name + ": " + parent->info().name + " has been closed; close its monitor too");
    }
    [[gnu::cold]] void arm(events e, const ring_view& v) noexcept {
        const index_t end = any(e & events::rx) ? v.rx_first + v.rx_count : v.rx_first;
        for (index_t i = v.rx_first; i != end; ++i) {
            rx[i].backend().armed = true;
            links[i].rx_sleeps.arm();
        }
        sleep_barrier(asymmetric);
        for (index_t i = v.rx_first; i != end; ++i)
            if (!rx[i].empty() || rx[i].backend().ready(rx[i].truth().hwtail)) {
                links[i].rx_sleeps.found();
                base::eventfd_signal(wakes.fd(i));
            }
        // There is always room to send; and nothing comes any more from a port that has gone.
        if (any(e & events::tx) || eye.lost.load(std::memory_order_acquire))
            base::eventfd_signal(wakes.fd(v.rx_count != 0 ? v.rx_first : 0));
    }
};

/// `NAME/r`, `/t`, `/rt`: what another port of this program receives, sends, or both, as copies in a memory of its own; with
/// `/z` in the parent's memory, by swapping buffers where that can be done. `NAME-2/r` watches one ring. Each open is a monitor
/// of its own; the parent must be open. Ring i gets what ring i of the parent receives and sends, the latter marked
/// ns_txmon. A slot's `ptr` says when it was seen (nanoseconds since 1970) unless it carries a virtio-net header. A
/// monitor that does not keep up loses frames, with a count (cause::full), and its parent nothing.
class monitor : public port_handle<monitor_state> {
public:
    static constexpr const char* kind_name = "monitors (PORT/r, /t, /z)";
    [[nodiscard]] static bool matches(const port_spec& s) noexcept { return s.monitor(); }

    [[nodiscard]] static result<monitor> open(context& ctx, const port_spec& spec, const open_options& o) {
        auto p = plan::make(ctx, spec, o);
        if (!p) return forward_error(p);
        auto made = create(ctx, spec, o, *p);
        if (!made) return forward_error(made);
        for (auto& r : (*made)->rx) r.set_timestamps(o.timestamps);
        auto whole = spec;  // which of the parent's rings was settled above
        whole.mode = ring_mode::all;
        return monitor(std::move(*made), whole, o);
    }
    [[nodiscard]] static result<port_info> query(context& ctx, const port_spec& spec, const open_options& o) {
        auto p = plan::make(ctx, spec, o);
        if (!p) return forward_error(p);
        return p->info;
    }

    /// With what there was no room for.
    [[nodiscard]] counters rx_stats() noexcept {
        counters sum = port_handle::rx_stats();
        for (index_t i = 0; i < num_rx_rings(); ++i) {
            const counters lost = state().boxes[i].total();
            for (std::size_t c = 0; c < causes; ++c) sum.drops[c] += lost.drops[c];
        }
        return sum;
    }

    static constexpr index_t most_slots = 4096;

private:
    using port_handle::port_handle;

    /// Who is watched, by which rings.
    struct plan {
        std::shared_ptr<tap_point> parent;
        port_shape shape;
        port_info info;
        index_t first = 0;
        bool tx = false, rx = false;

        static constexpr index_t tx_slots = 16;  // enough for what is thrown away

        [[nodiscard]] static result<plan> make(context& ctx, const port_spec& spec, const open_options& o) {
            const std::string name = name_of(spec);
            if (spec.mode == ring_mode::all_and_host)
                return fail(EOPNOTSUPP, name + "* is two things to watch, the interface and its host rings; open a monitor for each");
            plan p;
            p.parent = find(ctx, name);
            const bool one = spec.mode == ring_mode::one || spec.mode == ring_mode::one_host;
            const std::string single = name + (spec.mode == ring_mode::one ? "-" : "") + std::to_string(spec.ring);
            const bool whole = p.parent != nullptr;
            if (!whole && one) p.parent = find(ctx, single);
            if (!p.parent)
                return fail(ENOENT, (one ? single : name) + " is not open in this program, and a monitor watches a port that is; open it first");
            const index_t rings = std::max(p.parent->tx_rings(), p.parent->rx_rings());
            if (one && whole && spec.ring >= rings)
                return fail(EINVAL, name + " has " + std::to_string(rings) + " ring(s): there is no ring " + std::to_string(spec.ring));
            p.first = one && whole ? spec.ring : 0;
            // netmap: a zero-copy monitor that does not say which side sees both.
            p.tx = spec.monitor_tx || !spec.monitor_rx;
            p.rx = spec.monitor_rx || !spec.monitor_tx;
            const port_info& i = p.parent->info();
            p.shape.tx_slots = o.tx_slots.value_or(tx_slots);
            p.shape.rx_slots = o.rx_slots.value_or(
                std::min(std::max(p.tx ? i.tx_slots : 0U, p.rx ? i.rx_slots : 0U), most_slots));
            p.shape.rx_rings = one ? 1 : rings;
            p.shape.extra_bufs = o.extra_bufs;
            p.info.name = (one ? single : name) + flags_of(spec);
            if (p.shape.rx_slots > most_slots)
                return fail(EINVAL, p.info.name + ": a monitor's ring has " + std::to_string(min_slots) + " to " +
                                        std::to_string(most_slots) + " slots, not " + std::to_string(p.shape.rx_slots));
            if (o.rx_rings && *o.rx_rings != p.shape.rx_rings)
                return fail(EINVAL, p.info.name + " has a ring for each ring that it watches: " + std::to_string(p.shape.rx_rings) +
                                        ", not " + std::to_string(*o.rx_rings));
            if (auto ok = p.shape.check(p.info.name); !ok) return forward_error(ok);
            if (spec.zero_copy_monitor && o.memory && o.memory != p.parent->memory())
                return fail(EINVAL, p.info.name + ": a zero-copy monitor lives in the memory of " + name + ", not in another; leave out the z");
            p.describe(spec);
            return p;
        }

    private:
        [[nodiscard]] static std::string name_of(const port_spec& s) {
            const std::string name = s.kind == port_kind::null ? "null:" + s.name : s.name;
            return (s.pipe_id.empty() ? name : s.name + (s.pipe_slave ? "}" : "{") + s.pipe_id) + (wants_host(s) ? "^" : "");
        }
        [[nodiscard]] static std::string flags_of(const port_spec& s) {
            return std::string("/") + (s.zero_copy_monitor ? "z" : "") + (s.monitor_rx ? "r" : "") + (s.monitor_tx ? "t" : "");
        }
        [[nodiscard]] static std::shared_ptr<tap_point> find(context& ctx, const std::string& name) {
            auto p = ctx.find<tap_point>("tap:" + name);
            return p && p->open() ? p : nullptr;
        }
        void describe(const port_spec& spec) {
            const nm::region& theirs = *parent->memory();
            std::string name = std::move(info.name);
            info = spec.zero_copy_monitor ? shape.info(theirs) : shape.info(theirs.buf_size());
            info.name = std::move(name);
            info.mode = spec.zero_copy_monitor ? "monitor zero-copy" : "monitor";
            info.reason = "watches what " + parent->info().name + (tx && rx ? " receives and sends" : tx ? " sends" : " receives");
        }
    };

    [[nodiscard]] static result<std::shared_ptr<monitor_state>> create(context& ctx, const port_spec& spec,
                                                                       const open_options& o, const plan& p) {
        auto memory = spec.zero_copy_monitor ? result<region_ptr>(p.parent->memory()) : ctx.memory_for(spec, o, [&] {
            region_options r;
            r.bufs = 2 + p.shape.bufs();
            r.buf_size = p.info.buf_size;
            r.meta_bytes = p.shape.meta_bytes() + 8192;
            return nm::region::create(r);
        });
        if (!memory) return forward_error(memory);
        auto rings = port_memory::create(*memory, p.info.name, p.shape);
        if (!rings && spec.zero_copy_monitor)
            return fail(rings.error().code.value(), rings.error().text + "; or open " + p.parent->info().name +
                                                        " with @N, whose memory is larger; or leave out the z");
        if (!rings) return forward_error(rings);
        auto s = std::make_shared<monitor_state>();
        s->info = p.info;
        s->info.memory = (*memory)->size();
        s->info.buf_size = (*memory)->buf_size();
        s->memory = *memory;
        s->rings = std::move(*rings);
        const index_t n = p.shape.rx_rings;
        if (auto ok = s->wakes.make(n, p.info.name); !ok) return forward_error(ok);
        s->asymmetric = base::membarrier_register();
        s->links = std::make_unique<ring_link[]>(n);
        s->boxes = std::make_unique<inbox[]>(n);
        s->tx.reserve(p.shape.tx_rings);
        s->rx.reserve(n);
        for (index_t i = 0; i < p.shape.tx_rings; ++i) {
            auto& t = s->tx.emplace_back(s->rings.tx(i), p.shape.tx_slots, **memory, monitor_tx{p.shape.tx_slots});
            t.backend().stats = &t.live();
        }
        for (index_t i = 0; i < n; ++i) {
            // Nobody sleeps on room in a monitor.
            s->rx.emplace_back(s->rings.rx(i), p.shape.rx_slots, **memory,
                               link_rx<>{&s->links[i], p.shape.rx_slots, {}, s->wakes.fd(i), nullptr, s->asymmetric});
            s->boxes[i].open(watcher::id, s->rings.rx(i), p.shape.rx_slots, **memory, s->links[i], {s->wakes.fd(i)}, s->asymmetric);
            s->eye.boxes.push_back(&s->boxes[i]);
            s->eye.wakes.push_back(s->wakes.fd(i));
        }
        s->eye.first = p.first;
        s->eye.tx = p.tx;
        s->eye.rx = p.rx;
        s->eye.swap = spec.zero_copy_monitor;
        s->parent = p.parent;
        if (!p.parent->attach(s->eye)) return fail(EIO, p.info.name + ": " + p.parent->info().name + " has just been closed");
        return s;
    }
};

static_assert(port_type<monitor>);

/// The same in a program whose switches are in other processes: their ports are not its own to watch (nm::process_port does).
class own_monitor : public monitor {
public:
    [[nodiscard]] static bool matches(const port_spec& s) noexcept { return s.monitor() && (s.kind != port_kind::vale || !s.pipe_id.empty()); }
    [[nodiscard]] static result<own_monitor> open(context& ctx, const port_spec& spec, const open_options& o) {
        auto m = monitor::open(ctx, spec, o);
        if (!m) return forward_error(m);
        return own_monitor(std::move(*m));
    }

private:
    explicit own_monitor(monitor m) noexcept : monitor(std::move(m)) {}
};
static_assert(port_type<own_monitor>);

}  // namespace nm
