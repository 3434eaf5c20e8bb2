// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Frames that are not one plain slot for one plain slot.

#include "nm/vale/fabric.hpp"

namespace nm::vale::detail {

/// The frame at ring index `i` has several slots, or a header or an address. Makes `p` show its Ethernet header (with len 0
/// if there is none) and returns how many of the `left` slots it has beyond the first.
[[nodiscard]] [[gnu::noinline, gnu::cold]] inline index_t look_at(source& s, index_t i, index_t left, packet& p) noexcept {
    p.len = 0;
    index_t more = 0;
    for (; more + 1 < left && s.fwd[i].has(ns_morefrag); i = ring_next(i, s.num_slots)) ++more;
    return more;
}

/// `frames` (ring indexes of first slots) to one inbox, whatever they are and whatever header it wants.
template <class Frames>
[[gnu::noinline, gnu::cold]] void deliver_odd(source& s, inbox&, std::uint32_t, header, Frames frames, index_t count) noexcept {
    (void)frames;
    s.drop(cause::bad_hdr, count);
}

}  // namespace nm::vale::detail
