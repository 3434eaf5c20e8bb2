// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Transparent mode (netmap(4): NR_FORWARD, NS_FORWARD): what the user releases by hand goes on to the other endpoint,
// from the interface to the host's stack or back, as if nobody had looked at it.

#include <memory>
#include <vector>

#include "nm/fuse.hpp"
#include "nm/sync.hpp"

namespace nm {

/// What one rx ring does with the slots that the user released, just before they are taken back: frames that are to go
/// on are swapped into the first of `count` tx rings that has room. Who syncs the rx ring so uses those tx rings.
template <rx_backend RxB, tx_backend TxB>
class transparent {
public:
    transparent(tx_ring<TxB>* to, std::size_t count, bool all) noexcept : to_(to), count_(count), all_(all) {}

    /// From now on every frame goes on, flagged or not.
    void all() noexcept { all_ = true; }

    /// The slots from hwcur to head.
    [[gnu::noinline, gnu::cold]] void forward(rx_ring<RxB>& from, index_t head) noexcept {
        const bool on = all_ || (load_once(from.shared().flags) & nr_forward) != 0;
        index_t at = from.truth().hwcur;
        for (std::size_t k = 0; k < count_ && on && (at = skip(from, at, head)) != head; ++k)
            at = fill(from, at, head, to_[k]);
        // For what is left there was no room anywhere.
        for (; at != head; at = frame_at(from, at, head).end)
            if (on && goes_on(from, at)) refuse(to_[count_ - 1], cause::full);
        inside_ = head != from.truth().hwcur ? (load_slot(from.slot(ring_prev(head, from.num_slots()))).flags & ns_morefrag) != 0
                                             : inside_;
    }

private:
    struct extent {
        index_t end;
        index_t slots;
        bool whole;
    };
    // The frame from `at` on, as far as it was released.
    [[nodiscard]] static extent frame_at(rx_ring<RxB>& from, index_t at, index_t head) noexcept {
        extent e{at, 0, false};
        while (e.end != head && !e.whole) {
            e.whole = (load_slot(from.slot(e.end)).flags & ns_morefrag) == 0;
            e.end = from.next(e.end);
            ++e.slots;
        }
        return e;
    }
    [[nodiscard]] bool goes_on(rx_ring<RxB>& from, index_t at) const noexcept {
        if (inside_ && at == from.truth().hwcur) return false;  // the rest of a frame whose beginning is gone
        const slot s = load_slot(from.slot(at));
        return (all_ || (s.flags & ns_forward) != 0) && s.len != 0;
    }
    // The first frame that is to go on: without one, no tx ring is touched.
    [[nodiscard]] index_t skip(rx_ring<RxB>& from, index_t at, index_t head) const noexcept {
        while (at != head && !goes_on(from, at)) at = frame_at(from, at, head).end;
        return at;
    }
    static void refuse(tx_ring<TxB>& to, cause why) noexcept {
        ++to.live().frames;
        to.live().drop(why);
    }

    // Up to head, or to the first frame for which this ring has no room.
    [[nodiscard]] index_t fill(rx_ring<RxB>& from, index_t at, index_t head, tx_ring<TxB>& to) const noexcept {
        tx_batch<TxB> tx(to, ring_distance(at, head, from.num_slots()));
        while (at != head && !tx.open()) {  // a frame that the user began there is his to end
            const extent e = frame_at(from, at, head);
            if (!goes_on(from, at) || !buffers_known(from, at, e.end)) {
                at = e.end;
            } else if (!e.whole || e.slots > tx.longest_frame()) {
                refuse(to, cause::bad_chain);
                at = e.end;
            } else if (e.slots > tx.free() && e.slots > tx.more_room()) {
                break;
            } else {
                for (index_t k = e.slots; k != 0; --k, at = from.next(at)) move(from, at, tx, k != 1);
            }
        }
        tx.commit();
        return at;
    }

    // A buffer that the user lost is counted where slots are taken back.
    [[nodiscard]] static bool buffers_known(rx_ring<RxB>& from, index_t at, index_t end) noexcept {
        for (; at != end; at = from.next(at))
            if (!from.buffers().valid(load_slot(from.slot(at)).buf_idx)) return false;
        return true;
    }

    static void move(rx_ring<RxB>& from, index_t at, tx_batch<TxB>& tx, bool more) noexcept {
        const slot_words before = load_words(from.slot(at));
        const slot_words t = tx.template peek<false>();
        constexpr std::uint64_t flag = slot_words::bits(ns_morefrag);
        // How many slots there are was decided: what the slot says by now does not change it.
        slot_words s{more ? before.lo | flag : before.lo & ~flag, before.hi};
        const bool known = from.buffers().valid(s.buf_idx());
        if (!known) s.lo &= ~slot_words::len_bits;
        const bool swaps = known && tx.usable(t);
        const detail::moved m = swaps ? detail::move_of<true>(s, t) : detail::move_of<false>(s, t);
        tx.put(m.out, t);
        tx.wrap();
        if (swaps) update_words(from.slot(at), m.back, before);
    }

    tx_ring<TxB>* to_;
    std::size_t count_;
    bool all_;
    bool inside_ = false;  // the last release ended inside a frame
};

/// Of a whole port: its own rings forward to the host's, all rings of the host to its own (netmap: the first only).
template <rx_backend RxB, tx_backend TxB>
class transparent_port {
public:
    using rx_rings = std::vector<rx_ring<RxB>>;
    using tx_rings = std::vector<tx_ring<TxB>>;

    void set(rx_rings& rx, tx_rings& tx, rx_rings& host_rx, tx_rings& host_tx, bool all) {
        for (auto& t : pairs_)
            if (all) t->all();
        if (!pairs_.empty()) return;
        for (auto& r : rx) join(r, host_tx, all);
        for (auto& r : host_rx) join(r, tx, all);
    }

private:
    using one_way = transparent<RxB, TxB>;
    void join(rx_ring<RxB>& from, tx_rings& to, bool all) {
        pairs_.push_back(std::make_unique<one_way>(to.data(), to.size(), all));
        from.on_release({[](void* t, rx_ring<RxB>& ring, index_t head) noexcept { static_cast<one_way*>(t)->forward(ring, head); },
                         pairs_.back().get()});
    }

    std::vector<std::unique_ptr<one_way>> pairs_;
};

}  // namespace nm
