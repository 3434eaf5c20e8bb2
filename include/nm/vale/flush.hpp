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
inline constexpr index_t look_ahead = 8;        // frames, for a lookup that wants to see them early

/// Decides about each frame among the `n` slots from `base` on. Nothing but that, so that one frame's look into a table
/// overlaps the next one's. Returns whether all of them, slot by slot, go to one receive ring.
template <class L>
[[nodiscard]] [[gnu::always_inline]] inline bool classify(L& lookup, lane_of<L>& lane, source& s, index_t base, index_t n) noexcept {
    classified& b = *s.work;
    const slot_words* const fwd = s.fwd.get();
    const std::byte* const bufs = s.bufs.base;
    const std::size_t stride = s.bufs.size;
    const index_t num_slots = s.num_slots, slots = n;
    // Of a port with headers in its frames every frame needs more than a copy.
    const std::uint64_t odd_bits = bytes_in_frame(s.head) != 0 ? ~std::uint64_t{0} : slot_words::bits(ns_morefrag | ns_indirect | ns_vnet);
    decision* out = b.decided.data();
    std::uint32_t frames = 0, too_short = 0, any = 0, all = ~0U;  // bits that some key has, and those that all have
    for (index_t i = base; n != 0; --n, i = ring_next(i, num_slots)) {
        const slot_words w = fwd[i];
        if constexpr (requires { lookup.prefetch(std::declval<const packet&>()); })
            if (n > look_ahead) {
                const slot_words later = fwd[s.at(i, look_ahead)];
                lookup.prefetch(packet{reinterpret_cast<const std::uint8_t*>(bufs + later.buf_idx() * stride), later.len(), 0, s.port, s.ring});
            }
        if (w.len() == 0) [[unlikely]]
            continue;  // a hole
        ++frames;
        packet p{reinterpret_cast<const std::uint8_t*>(bufs + w.buf_idx() * stride), w.len(),
                 static_cast<std::uint16_t>(w.lo >> 48), s.port, s.ring};
        out->at = static_cast<std::uint16_t>(i);
        if ((w.lo & odd_bits) != 0) [[unlikely]] {
            b.odd = true;
            const odd_view v = look_at(s, i, n);
            p.data = v.data;
            p.len = v.len;
            i = s.at(i, v.more);
            n -= v.more;
            if (v.data == nullptr) continue;  // dropped
        }
        if (p.len < min_frame) [[unlikely]] {
            ++too_short;
            continue;
        }
        destination d = destination::to_all();
        if constexpr (has_lane<L>) d = lookup(p, lane);
        else d = lookup(p);
        if (d.one()) [[likely]] {
            const unsigned ring = d.ring() == destination::same_ring ? s.ring : d.ring();
            const std::uint32_t key = classified::key(d.port(), ring & (max_rings - 1));
            any |= key;
            all &= key;
            out->key = static_cast<std::uint16_t>(key);
        } else if (d.flood()) {
            b.sets[static_cast<std::size_t>(out - b.decided.data())] = d.ports();
            out->key = classified::flood;
            all = 0;
            any = 1;
        } else {
            s.drop(d.why());
            continue;
        }
        ++out;
    }
    b.num_decided = static_cast<index_t>(out - b.decided.data());
    s.forwarded.frames += frames;
    if (too_short != 0) s.drop(cause::bad_len, too_short);
    return b.num_decided == slots && any == all && !b.odd;
}

/// The key with the ring's number as the port has it. For ports that are here.
[[nodiscard]] [[gnu::always_inline]] inline std::uint32_t folded(const switch_core& sw, std::uint32_t key) noexcept {
    if (key >> 8U == 0) [[likely]]
        return key;
    const auto port = static_cast<port_number>(key & 0xffU);
    return classified::key(port, (key >> 8U) % sw.at(port)->rings.load(std::memory_order_relaxed));
}

/// What was decided, into buckets. No branch depends on where frames go. Checked: what goes to a port that has left (a
/// stale entry of a table) is flooded, and keys that mean the same receive ring become one, which keeps its order.
template <bool Checked>
[[gnu::always_inline]] inline void sort(const switch_core& sw, source& s) noexcept {
    classified& b = *s.work;
    const decision* const decided = b.decided.data();
    std::uint16_t* const next = b.next.get();
    bucket* const buckets = b.buckets.data();
    const index_t n = b.num_decided;
    index_t touched = 0;
    b.num_flooded = 0;
    for (index_t j = 0; j < n; ++j) {
        decision d = decided[j];
        const bool stale = Checked && d.key != classified::flood && !sw.live().test(static_cast<port_number>(d.key & 0xff));
        if (stale) b.sets[j] = nullptr;
        else if (Checked && d.key != classified::flood) d.key = static_cast<std::uint16_t>(folded(sw, d.key));
        if (d.key == classified::flood || stale) [[unlikely]] {
            b.flooded[b.num_flooded++] = static_cast<std::uint16_t>(j);
            continue;
        }
        bucket& q = buckets[d.key];
        b.touched[touched] = d.key;
        touched += q.count == 0 ? 1U : 0U;
        next[q.last] = d.at;
        q.last = d.at;
        ++q.count;
    }
    b.num_touched = touched;
}

/// A destination's frames, one after the other: a bucket's list, an array, or all there are.
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
struct in_a_row {
    index_t i;
    index_t num_slots;
    [[nodiscard]] [[gnu::always_inline]] index_t take() noexcept {
        const index_t now = i;
        i = ring_next(i, num_slots);
        return now;
    }
};

// The reader left no buffer in the slot, or his are too small: his loss, and a hole.
[[gnu::noinline, gnu::cold]] inline void refuse(slot& to, std::uint64_t buf_idx, bool has_buffer, delivery& d) noexcept {
    d.drop(has_buffer ? cause::bad_len : cause::bad_idx);
    store_once(reinterpret_cast<u64_alias&>(to), buf_idx);
}

/// Fills a lease with plain frames. Swap: the two ports share a region and the frames go nowhere else, so that buffers
/// change places. Only a slot's first word is written: without flags, the other means nothing. A function of its own, for
/// the sake of its registers.
template <bool Swap, class Frames>
[[gnu::noinline]] void carry(source& s, Frames frames, const inbox& in, const lease& l, delivery& d) noexcept {
    slot* const slots = in.slots();
    const index_t n = in.num_slots();
    const buffer_space to = in.buffers();
    std::byte* const from = s.bufs.base;
    const std::size_t stride = s.bufs.size;
    const slot_words* const fwd = s.fwd.get();
    slot* const mine = s.slots;
    constexpr std::uint64_t index = slot_words::index_bits, len = slot_words::len_bits;
    constexpr std::uint64_t one = slot_words::bits(0x100);  // the slots that the frame has (NS_RFRAGS)
    constexpr std::uint64_t changed = slot_words::bits(ns_buf_changed);
    std::uint64_t bytes = 0;
    for (index_t i = l.first, left = l.count; left != 0; i = 0) {
        const index_t run = std::min(left, n - i);
        left -= run;
        slot* at = slots + i;
        for (slot* const end = at + run; at != end; ++at) {
            const index_t k = frames.take();
            const slot_words w = fwd[k];
            u64_alias& shared = reinterpret_cast<u64_alias&>(*at);
            const std::uint64_t there = load_once(shared), buf = there & index;
            const bool has_buffer = to.valid(static_cast<std::uint32_t>(buf));
            if (!has_buffer || (!Swap && w.len() > to.size)) [[unlikely]] {
                refuse(*at, buf, has_buffer, d);
                continue;
            }
            bytes += w.len();
            if constexpr (Swap) {
                store_once(shared, (w.lo & (index | len)) | one | changed);
                store_once(reinterpret_cast<u64_alias&>(mine[k]), buf | (w.lo & len) | changed);
            } else {
                copy_frame(to.of(static_cast<std::uint32_t>(buf)), from + w.buf_idx() * stride, w.len());
                if (const std::uint64_t now = buf | (w.lo & len) | one; now != there) store_once(shared, now);
            }
        }
    }
    d.frames += l.count - d.dropped;
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
    if ((key & 0xffU) == s.port) [[unlikely]]
        return s.drop(cause::no_dst, count);
    inbox& in = b.in[ring];
    const header head = b.head.load(std::memory_order_relaxed);
    const std::uint32_t buf_size = b.buf_size.load(std::memory_order_relaxed);
    if (s.work->odd || bytes_in_frame(head) != 0 || buf_size < s.bufs.size) [[unlikely]]
        return deliver_odd(s, in, {id, buf_size, head, only}, frames, count);
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
    bool picky = false;
    for (index_t f = 0; f < b.num_flooded; ++f) {
        const index_t j = b.flooded[f];
        std::uint64_t copies = count;
        if (b.sets[j] != nullptr) {
            copies = 0;
            for (index_t p = 0; p < count; ++p) copies += b.sets[j]->test(ports[p]) ? 1U : 0U;
        }
        if (copies == 0 || !s.may_flood(copies)) {
            s.drop(copies == 0 ? cause::no_dst : cause::policy);
            continue;
        }
        picky |= b.sets[j] != nullptr;
        b.flooded[kept] = b.decided[j].at;
        b.sets[kept++] = b.sets[j];
    }
    std::uint64_t copies = 0;
    const auto place = [&](index_t i) { return ring_distance(base, i, s.num_slots); };
    for (index_t p = 0; p < count && kept != 0; ++p) {
        const std::uint32_t key = classified::key(ports[p], 0);
        index_t left = b.buckets[key].count;
        if (left == 0 && !picky) {
            copies += kept;
            deliver(sw, s, key, ordered{b.flooded.data()}, kept, false);
            continue;
        }
        index_t n = 0, f = 0, i = b.first(key);
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
        b.clear(key);
        if (n != 0) deliver(sw, s, key, ordered{b.order.data()}, n, false);
    }
    s.floods += kept;
    // A set may change while it is looked at: what was not copied at all after all is nobody's.
    if (copies < kept) s.drop(cause::no_dst, kept - copies);
    else s.replicas += copies - kept;
}

/// Every frame to its port.
[[gnu::noinline]] inline void deliver_all(switch_core& sw, source& s, index_t base) noexcept {
    classified& b = *s.work;
    sort<false>(sw, s);
    for (index_t t = 0; t < b.num_touched; ++t)
        if (!sw.live().test(static_cast<port_number>(b.touched[t] & 0xff)) || folded(sw, b.touched[t]) != b.touched[t]) [[unlikely]] {
            for (t = 0; t < b.num_touched; ++t) b.clear(b.touched[t]);
            sort<true>(sw, s);
            break;
        }
    if (b.num_flooded != 0) [[unlikely]]
        deliver_flood(sw, s, base);
    for (index_t t = 0; t < b.num_touched; ++t) {
        const std::uint32_t key = b.touched[t];
        const index_t count = b.buckets[key].count;
        if (count == 0) continue;
        b.clear(key);
        deliver(sw, s, key, listed{b.next.get(), b.first(key)}, count, true);
    }
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
            const bool one = detail::classify(sw.lookup_, lane, s, base, n);
            const std::uint32_t key = s.work->decided[0].key;
            if (one && sw.live().test(static_cast<port_number>(key & 0xff)))
                detail::deliver(sw, s, key, detail::in_a_row{base, s.num_slots}, n, true);
            else
                detail::deliver_all(sw, s, base);
            s.work->odd = false;
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
