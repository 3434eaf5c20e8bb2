// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/failure.hpp"

#include "nm/nm.hpp"

namespace tool {

/// Whole frames that were accepted and not sent yet: what lies between the last slot given back and the next to go.
template <class TxRing>
[[nodiscard]] std::uint64_t pending_frames(TxRing& r) noexcept {
    const auto& k = r.truth();
    std::uint64_t frames = 0;
    for (nm::index_t i = k.next(k.hwtail); i != k.hwcur; i = k.next(i)) {
        const nm::slot s = nm::load_slot(r.slot(i));
        frames += s.len != 0 && (s.flags & nm::ns_morefrag) == 0 ? 1U : 0U;
    }
    return frames;
}

/// Whole frames that have arrived and were not taken.
template <class RxRing>
[[nodiscard]] std::uint64_t left_frames(RxRing& r) noexcept {
    const auto& k = r.truth();
    std::uint64_t frames = 0;
    for (nm::index_t i = k.hwcur; i != k.hwtail; i = k.next(i)) {
        const nm::slot s = nm::load_slot(r.slot(i));
        frames += s.len != 0 && (s.flags & nm::ns_morefrag) == 0 ? 1U : 0U;
    }
    return frames;
}

template <class TxRing>
[[nodiscard]] nm::index_t pending_slots(TxRing& r) noexcept {
    const auto& k = r.truth();
    return nm::ring_distance(k.next(k.hwtail), k.hwcur, k.num_slots);
}

/// After the sums have been shown.
inline void require_conserved(bool conserved) {
    if (!conserved) throw run_error("the sums do not agree: frames were lost without being counted; please report this");
}

/// What a tx side did, in the three numbers that are not the same.
struct tx_account {
    std::uint64_t queued = 0, completed = 0, pending = 0;
    nm::counters counters;

    template <class TxRing>
    void add(TxRing& r) noexcept {
        counters += r.stats();
        queued += r.stats().frames;
        pending += pending_frames(r);
        completed = queued - pending - std::min(counters.dropped(), queued - pending);
    }
};

}  // namespace tool
