// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A batch's way through the switch: classify says where each frame goes (once per frame, the lookup inlined), deliver
// carries each destination its share (once per destination: lease, copy or swap, complete).

#include <algorithm>

#include "nm/copy.hpp"
#include "nm/vale/fabric.hpp"
#include "nm/vale/odd.hpp"

namespace nm::vale {

namespace detail {

inline constexpr std::uint16_t min_frame = 14;  // addresses and type: what a lookup may read

/// Sorts the `n` slots from `base` on into buckets.
template <class L>
[[gnu::always_inline]] inline void classify(L& lookup, lane_of<L>& lane, const switch_core& sw, source& s, index_t base,
                                            index_t n) noexcept {
    classified& b = *s.work;
    bucket_writer out(b);
    const slot_words* const fwd = s.fwd.get();
    const buffer_space bufs = s.bufs;
    const index_t num_slots = s.num_slots;
    // Of a port with headers every frame needs more than a copy.
    const std::uint64_t odd_bits = s.head != header::none ? ~std::uint64_t{0} : slot_words::bits(ns_morefrag | ns_indirect | ns_vnet);
    std::uint32_t frames = 0, no_dst = 0, too_short = 0;
    packet p{nullptr, 0, 0, s.port, s.ring};
    for (index_t i = base; n != 0; --n, i = ring_next(i, num_slots)) {
        const slot_words w = fwd[i];
        if (w.len() == 0) [[unlikely]]
            continue;  // a hole
        ++frames;
        const index_t first = i;
        p.data = reinterpret_cast<const std::uint8_t*>(bufs.of(w.buf_idx()));
        p.len = w.len();
        p.flags = static_cast<std::uint16_t>(w.lo >> 48);
        if ((w.lo & odd_bits) != 0) [[unlikely]] {
            b.odd = true;
            const index_t more = look_at(s, i, n, p);
            i = s.at(i, more);
            n -= more;
        }
        if (p.len < min_frame) [[unlikely]] {
            ++too_short;
            continue;
        }
        destination d = destination::to_all();
        if constexpr (has_lane<L>) d = lookup(p, lane);
        else d = lookup(p);
        if (d.one()) [[likely]] {
            const port_number to = d.port();
            if (to == p.from) [[unlikely]] {
                ++no_dst;
                continue;
            }
            if (sw.live().test(to)) [[likely]] {
                const unsigned r = d.ring() == destination::same_ring ? p.ring : d.ring();
                out.push(classified::key(to, r & (max_rings - 1)), first);
                continue;
            }
            d = destination::to_all();  // a station whose port has gone
        }
        if (d.flood()) b.push_flood(d.ports(), static_cast<std::uint16_t>(first));
        else s.drop(d.why());
    }
    out.flush();
    s.forwarded.frames += frames;
    if (no_dst != 0) s.drop(cause::no_dst, no_dst);
    if (too_short != 0) s.drop(cause::bad_len, too_short);
}

/// A destination's frames, one after the other: a bucket's list, or an array.
struct listed {
    const std::uint16_t* next;
    index_t i;
    [[nodiscard]] [[gnu::always_inline]] index_t take() noexcept {
        const index_t now = i;
        i = next[now];
        return now;
    }
};
struct ordered {
    const std::uint16_t* at;
    [[nodiscard]] [[gnu::always_inline]] index_t take() noexcept { return *at++; }
};

/// Fills a lease with plain frames. Swap: the two ports share a region and the frames go nowhere else, so that buffers
/// change places.
template <bool Swap, class Frames>
[[gnu::always_inline]] inline void carry(source& s, Frames frames, const inbox& in, const lease& l, delivery& d) noexcept {
    slot* const slots = in.slots();
    const index_t n = in.num_slots();
    const buffer_space to = in.buffers(), from = s.bufs;
    const slot_words* const fwd = s.fwd.get();
    slot* const mine = s.slots;
    constexpr std::uint64_t index = slot_words::index_bits, len = slot_words::len_bits;
    constexpr std::uint64_t changed = slot_words::bits(ns_buf_changed);
    std::uint64_t bytes = 0;
    std::uint32_t bad = 0;
    for (index_t i = l.first, left = l.count; left != 0; i = 0) {
        const index_t run = std::min(left, n - i);
        left -= run;
        for (const index_t end = i + run; i != end; ++i) {
            const index_t at = frames.take();
            const slot_words w = fwd[at];
            const slot_words t = load_words(slots[i]);
            if (!to.valid(t.buf_idx()) || (!Swap && w.len() > to.size)) [[unlikely]] {
                // The reader left no buffer here, or his are too small: his loss, and a hole.
                d.drop(to.valid(t.buf_idx()) ? cause::bad_len : cause::bad_idx);
                update_words(slots[i], {t.lo & index, 0}, t);
                ++bad;
                continue;
            }
            if constexpr (Swap) {
                update_words(slots[i], {(w.lo & (index | len)) | changed, 0}, t);
                store_once(reinterpret_cast<u64_alias&>(mine[at]), (t.lo & index) | (w.lo & len) | changed);
            } else {
                copy_frame(to.of(t.buf_idx()), from.of(w.buf_idx()), w.len());
                update_words(slots[i], {(t.lo & index) | (w.lo & len), 0}, t);
            }
            bytes += w.len();
        }
    }
    d.frames += l.count - bad;
    d.slots += l.count;
    d.bytes += bytes;
}

/// `count` frames to one receive ring. `only` says that they go nowhere else.
template <class Frames>
[[gnu::noinline]] void deliver(switch_core& sw, source& s, std::uint32_t key, Frames frames, index_t count, bool only) noexcept {
    bay& b = *sw.at(static_cast<port_number>(key & 0xffU));
    const std::uint32_t id = b.id.load(std::memory_order_acquire);
    const unsigned rings = b.rings.load(std::memory_order_relaxed);
    unsigned ring = key >> 8U;
    if (ring >= rings) [[unlikely]]
        ring %= rings;
    inbox& in = b.in[ring];
    const header head = b.head.load(std::memory_order_relaxed);
    if (s.work->odd || head != header::none || b.buf_size.load(std::memory_order_relaxed) < s.bufs.size) [[unlikely]]
        return deliver_odd(s, in, id, head, frames, count);
    bool gone = false;
    const lease l = in.reserve(id, count, gone);
    if (gone) [[unlikely]]
        return s.drop(cause::no_dst, count);
    if (l.count == 0) return;
    delivery d;
    if (only && in.buffers().base == s.bufs.base) carry<true>(s, frames, in, l, d);
    else carry<false>(s, frames, in, l, d);
    in.complete(l, d);
}

/// Frames for several ports, merged with what goes to each of them alone, in the order in which they came.
[[gnu::noinline]] inline void deliver_flood(switch_core& sw, source& s, index_t base) noexcept {
    classified& b = *s.work;
    std::array<port_number, max_ports> ports;
    index_t count = 0;
    for (index_t p = 0; p < max_ports; ++p)
        if (p != s.port && sw.live().test(static_cast<port_number>(p))) ports[count++] = static_cast<port_number>(p);

    // How many copies each frame needs, and whether the storm budget has them.
    index_t kept = 0;
    for (index_t f = 0; f < b.num_flooded; ++f) {
        std::uint64_t copies = count;
        if (b.sets[f] != nullptr) {
            copies = 0;
            for (index_t p = 0; p < count; ++p) copies += b.sets[f]->test(ports[p]) ? 1U : 0U;
        }
        if (copies == 0 || (copies > 1 && !s.may_flood(copies))) {
            s.drop(copies == 0 ? cause::no_dst : cause::policy);
            continue;
        }
        b.flooded[kept] = b.flooded[f];
        b.sets[kept++] = b.sets[f];
    }
    std::uint64_t copies = 0;
    const auto place = [&](index_t i) { return ring_distance(base, i, s.num_slots); };
    for (index_t p = 0; p < count && kept != 0; ++p) {
        const std::uint32_t key = classified::key(ports[p], 0);
        bucket& own = b.buckets[key];
        if (own.count == 0 && !b.picky) {
            copies += kept;
            deliver(sw, s, key, ordered{b.flooded.data()}, kept, false);
            continue;
        }
        index_t n = 0, f = 0, left = own.count, i = own.first;
        while (left != 0 || f != kept) {
            if (f != kept && (left == 0 || place(b.flooded[f]) < place(i))) {
                if (b.sets[f] == nullptr || b.sets[f]->test(ports[p])) {
                    b.order[n++] = b.flooded[f];
                    ++copies;
                }
                ++f;
            } else {
                b.order[n++] = static_cast<std::uint16_t>(i);
                i = b.next[i];
                --left;
            }
        }
        own.count = 0;
        if (n != 0) deliver(sw, s, key, ordered{b.order.data()}, n, false);
    }
    s.floods += kept;
    // A set may change while it is looked at: what was not copied at all after all is nobody's.
    if (copies < kept) s.drop(cause::no_dst, kept - copies);
    else s.replicas += copies - kept;
    b.num_flooded = 0;
    b.picky = false;
}

/// Every bucket to its port.
[[gnu::always_inline]] inline void deliver_all(switch_core& sw, source& s, index_t base) noexcept {
    classified& b = *s.work;
    if (b.num_flooded != 0) [[unlikely]]
        deliver_flood(sw, s, base);
    for (index_t t = 0; t < b.num_touched; ++t) {
        const std::uint32_t key = b.touched[t];
        bucket& q = b.buckets[key];
        const index_t count = q.count;
        if (count == 0) continue;
        q.count = 0;
        deliver(sw, s, key, listed{b.next.get(), q.first}, count, true);
    }
    b.num_touched = 0;
    b.odd = false;
}

/// Slots of the next part of a batch: max_batch at most, and no frame cut in two.
[[nodiscard]] inline index_t whole_frames(const source& s, index_t base, index_t count) noexcept {
    if (count <= max_batch) return count;
    index_t n = max_batch;
    while (n > max_batch - max_frags && s.fwd[s.at(base, n - 1)].has(ns_morefrag)) --n;
    return n;
}

}  // namespace detail

/// A switch with its lookup: `flush` is what one txsync calls once.
template <vale_lookup L>
class switch_state final : public switch_core {
public:
    template <class... Args>
    explicit switch_state(std::string name, Args&&... args) : switch_core(std::move(name)), lookup_(std::forward<Args>(args)...) {}

    [[nodiscard]] L& lookup() noexcept { return lookup_; }

private:
    static void flush(source& s, index_t base, index_t count) noexcept {
        auto& sw = static_cast<switch_state&>(*s.sw);
        auto& lane = *static_cast<lane_of<L>*>(s.lane.get());
        if constexpr (requires { sw.lookup_.begin(lane); }) sw.lookup_.begin(lane);
        while (count != 0) {
            const index_t n = detail::whole_frames(s, base, count);
            detail::classify(sw.lookup_, lane, sw, s, base, n);
            detail::deliver_all(sw, s, base);
            base = s.at(base, n);
            count -= n;
        }
    }

    void equip(source& s) override {
        s.flush = &flush;
        s.lane = std::make_shared<lane_of<L>>();
    }
    void attached(port_number number, const std::string& name) override {
        if constexpr (requires { lookup_.attached(number, std::string_view(name)); }) lookup_.attached(number, std::string_view(name));
    }
    void detached(port_number number) noexcept override {
        if constexpr (requires { lookup_.detached(number); }) lookup_.detached(number);
    }

    L lookup_;
};

}  // namespace nm::vale
