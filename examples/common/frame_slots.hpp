// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "nm/ring_base.hpp"

namespace tool {

/// Slots of the frame at the head of a ring; 0: its end has not come.
[[nodiscard]] inline nm::index_t frame_slots(nm::ring_base& rx) noexcept {
    nm::index_t i = rx.head();
    for (nm::index_t n = 1, there = rx.space(); n <= there; ++n, i = rx.next(i))
        if ((nm::load_slot(rx.slot(i)).flags & nm::ns_morefrag) == 0) return n;
    return 0;
}

}  // namespace tool
