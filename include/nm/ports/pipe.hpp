// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <atomic>
#include <memory>
#include <new>

#include "nm/notifier.hpp"
#include "nm/port.hpp"

namespace nm {

/// What the two ends of one direction tell each other, each word on lines of its own.
///  tail: the sender has filled all slots before it. head: the receiver has given back all slots before it (low half);
///  the high half counts the times that it gave back other buffers than it got. One word, so that the sender cannot see
///  one half older than the other.
struct pipe_link {
    alignas(128) std::atomic<std::uint32_t> tail{0};
    alignas(128) std::atomic<std::uint64_t> head{0};
    sleep_word rx_sleeps;
    sleep_word tx_sleeps;
};

/// The sending half. Slot i of the tx ring and slot i of the peer's rx ring are a pair with one buffer, as in netmap:
/// put copies the slot across, and only where it differs. What comes back is the same buffer, unless the receiver says
/// that it swapped.
template <notifier N = eventfd_notifier>
struct pipe_tx {
    static constexpr bool peer_polls = true;  ///< the other side is a core: looking at its line slows it
    slot* mine;
    slot* peers;
    pipe_link* link;
    index_t num_slots;
    std::uint32_t num_bufs;
    N peer;  ///< to wake the receiver
    int my_fd = -1;
    bool asymmetric = true;
    bool armed = false;
    index_t returned = 0;  ///< the receiver's head, as last read
    index_t published = 0;
    std::uint32_t swaps = 0;

    [[gnu::always_inline]] void put(index_t i, slot_words w) const noexcept {
        const slot_words there = load_words(peers[i]);
        constexpr std::uint64_t flag = slot_words::bits(ns_buf_changed);
        w.lo = w.buf_idx() != there.buf_idx() ? w.lo | flag : w.lo & ~flag;
        update_words(peers[i], w, there);
    }
    [[gnu::always_inline]] void put(index_t i, slot& s) const noexcept { put(i, words(s)); }

    void hole(index_t i, slot& s) noexcept {
        const slot there = load_slot(peers[i]);
        if (s.buf_idx < 2) s.buf_idx = there.buf_idx;  // the buffer of the pair
        store_slot(peers[i], s);
    }

    void cancel(index_t i, index_t k) noexcept {
        for (; k != 0; --k) {
            i = ring_prev(i, num_slots);
            slot s = load_slot(peers[i]);
            s.len = 0;
            s.flags = static_cast<std::uint16_t>(s.flags & ns_buf_changed);
            store_slot(peers[i], s);
        }
    }

    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (i != published) {
            published = i;
            link->tail.store(i, std::memory_order_release);  // P1: the slots before their index
            link->rx_sleeps.wake(peer, asymmetric);
        }
        if (armed) [[unlikely]] {
            armed = false;
            link->tx_sleeps.disarm();
            base::eventfd_clear(my_fd);
        }
    }

    [[gnu::always_inline]] index_t reclaim(index_t, sync_flags) noexcept {
        const std::uint64_t word = link->head.load(std::memory_order_acquire);  // C1
        const auto given = static_cast<index_t>(word & 0xffffffffU);
        const auto now = static_cast<std::uint32_t>(word >> 32);
        if (given >= num_slots) [[unlikely]]
            return ring_prev(returned, num_slots);
        if (now != swaps) {
            // All that was given back, the slot that stays empty for now included: its turn comes without a sign.
            swaps = now;
            for (index_t i = returned; i != given; i = ring_next(i, num_slots)) {
                const std::uint32_t idx = load_slot(peers[i]).buf_idx;
                slot s = load_slot(mine[i]);
                if (idx == s.buf_idx || idx - 2 >= num_bufs - 2) continue;
                s.buf_idx = idx;
                s.flags = static_cast<std::uint16_t>(s.flags | ns_buf_changed);
                store_slot(mine[i], s);
            }
        }
        returned = given;
        return ring_prev(returned, num_slots);
    }

    /// Before the pipe goes: the buffers of what is in the receiver's hands are those in his slots.
    void settle() noexcept {
        for (index_t i = returned; i != published; i = ring_next(i, num_slots)) {
            const std::uint32_t idx = load_slot(peers[i]).buf_idx;
            slot s = load_slot(mine[i]);
            if (idx - 2 >= num_bufs - 2) continue;
            s.buf_idx = idx;
            store_slot(mine[i], s);
        }
    }

    /// Whether slots came back that reclaim has not seen.
    [[nodiscard]] bool freed() const noexcept {
        const auto given = static_cast<index_t>(link->head.load(std::memory_order_acquire) & 0xffffffffU);
        return given < num_slots && given != returned;
    }
};

/// The receiving half. The rx ring's slots are written by the sender; publishing the index that has been given back is
/// all there is to do.
template <notifier N = eventfd_notifier>
struct pipe_rx {
    pipe_link* link;
    index_t num_slots;
    N peer;  ///< to wake the sender
    int my_fd = -1;
    bool asymmetric = true;
    bool armed = false;
    bool swapped = false;   ///< buffers other than the ones that were got have been given back
    index_t seen = 0;       ///< the sender's tail, as last read
    index_t published = 0;
    std::uint32_t swaps = 0;

    /// What has arrived lies in the ring's own slots: there is nothing to get.
    static constexpr bool keeps_slots = true;

    [[nodiscard]] [[gnu::always_inline]] bool ready(index_t i) noexcept { return available(i) != 0; }
    /// Filled slots from i on; looks at the sender's index when it knows of none.
    [[nodiscard]] [[gnu::always_inline]] index_t available(index_t i) noexcept {
        if (i == seen) {
            const index_t tail = link->tail.load(std::memory_order_acquire);  // C1
            if (tail < num_slots) [[likely]]
                seen = tail;
        }
        return ring_distance(i, seen, num_slots);
    }
    [[gnu::always_inline]] void get(index_t, slot&) noexcept {}
    [[gnu::always_inline]] void give(index_t, slot&) noexcept {}
    [[gnu::always_inline]] void publish(index_t i) noexcept {
        if (i != published) {
            published = i;
            swaps += swapped ? 1U : 0U;
            swapped = false;
            link->head.store(static_cast<std::uint64_t>(swaps) << 32 | i, std::memory_order_release);  // P1
            link->tx_sleeps.wake(peer, asymmetric);
        }
        if (armed) [[unlikely]] {
            armed = false;
            link->rx_sleeps.disarm();
            base::eventfd_clear(my_fd);
        }
    }
};
static_assert(tx_backend<pipe_tx<>> && rx_backend<pipe_rx<>>);

/// One end of a pipe: its rings, and the descriptor that it sleeps on.
struct pipe_end : port_state<pipe_tx<>, pipe_rx<>> {
    base::unique_fd wake;
    bool asymmetric = false;

    [[nodiscard]] int fd() const noexcept { return wake.get(); }
    [[nodiscard]] static result<void> status() { return {}; }

    [[gnu::cold]] void arm(events e) noexcept {
        bool ready = false;
        if (any(e & events::rx))
            for (auto& r : rx) {
                r.backend().armed = true;
                r.backend().link->rx_sleeps.arm();
            }
        if (any(e & events::tx))
            for (auto& t : tx) {
                t.backend().armed = true;
                t.backend().link->tx_sleeps.arm();
            }
        sleep_barrier(asymmetric);
        if (any(e & events::rx))
            for (auto& r : rx) ready |= !r.empty() || r.backend().ready(r.truth().hwtail);
        if (any(e & events::tx))
            for (auto& t : tx) ready |= !t.empty() || t.backend().freed();
        if (ready) base::eventfd_signal(wake.get());
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
        const std::size_t links = (master.tx_rings + master.rx_rings) * sizeof(pipe_link);
        auto memory = ctx.region_of(spec.name);
        const bool cramped = memory && !holds(*memory, master.bufs() + slave.bufs(), master.meta_bytes() + slave.meta_bytes() + links);
        if (o.memory || !memory || cramped) {
            auto made = ctx.memory_for(spec, o, [&] {
                region_options r;
                r.bufs = 2 + master.bufs() + slave.bufs();
                r.meta_bytes = master.meta_bytes() + slave.meta_bytes() + links + 16384;
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
            auto wake = base::make_eventfd();
            if (!wake) return forward_error(wake);
            ends[e].rings = std::move(*m);
            ends[e].wake = std::move(*wake);
        }
        {
            const std::lock_guard guard(memory->pools());
            const auto at = memory->objects().take(links);
            if (!at) return fail(ENOMEM, names[0] + ": no room left in its memory");
            links_offset = *at;
            links_bytes = links;
        }
        auto* link = new (memory->base() + links_offset) pipe_link[master.tx_rings + master.rx_rings];
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
        return {};
    }

    static void join(pipe_end& from, pipe_end& to, index_t i, pipe_link* link, bool asymmetric) {
        const region& m = *from.memory;
        ring* t = from.rings.tx(i);
        ring* r = to.rings.rx(i);
        const index_t n = from.rings.shape().tx_slots;
        for (index_t s = 0; s < n; ++s) r->slots()[s] = t->slots()[s];
        const pipe_tx<> tx{t->slots(), r->slots(), link, n, m.num_bufs(), {to.wake.get()}, from.wake.get(), asymmetric};
        const pipe_rx<> rx{link, n, {from.wake.get()}, to.wake.get(), asymmetric};
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
/// is open in this program lends its memory if there is room in it, so that it and the pipe swap buffers. Nothing is ever lost in a pipe: it
/// pushes back. Sources: netmap(4), semantics section 9.
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
        }
        pipe_end& end = core->ends[spec.pipe_slave ? 1 : 0];
        if (auto ok = may_share(end, spec, o); !ok) return forward_error(ok);
        if (auto ok = has_ring(end, spec); !ok) return forward_error(ok);
        if (o.memory && o.memory != core->memory)
            return fail(EINVAL, spec.identity() + " exists already, in other memory than the one asked for");
        for (auto& r : end.rx) r.set_timestamps(o.timestamps);
        return pipe(std::shared_ptr<pipe_end>(core, &end), spec, o);
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
