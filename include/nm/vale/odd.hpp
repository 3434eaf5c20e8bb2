// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Frames that are not one plain slot for one plain slot.

#include "nm/vale/fabric.hpp"

namespace nm::vale::detail {

/// What classify sees of a frame that is not one plain slot: its Ethernet header (len 0: there is none) and how many slots
/// it has beyond the first.
struct odd_view {
    const std::uint8_t* data;
    std::uint16_t len;
    index_t more;
};

/// The frame at ring index `i`, which has several slots, or a header or an address; `left` slots of the batch are left.
[[nodiscard]] [[gnu::noinline, gnu::cold]] inline odd_view look_at(source& s, index_t i, index_t left) noexcept {
    index_t more = 0;
    for (; more + 1 < left && s.fwd[i].has(ns_morefrag); i = ring_next(i, s.num_slots)) ++more;
    return {nullptr, 0, more};
}

/// `frames` (ring indexes of first slots) to one inbox, whatever they are and whatever header it wants.
template <class Frames>
[[gnu::noinline, gnu::cold]] void deliver_odd(source& s, inbox&, std::uint32_t, header, Frames frames, index_t count) noexcept {
    (void)frames;
    s.drop(cause::bad_hdr, count);
}

}  // namespace nm::vale::detail
