// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Forwarding as a netmap program does it, slot by slot.

#include "../common/frame_slots.hpp"

#include "nm/fuse.hpp"

namespace bridge {

using tool::frame_slots;

/// Up to `max` slots, and the rest of the last frame. A frame goes as a whole, since several rings may go to one; one that is
/// longer than a ring is dropped. Returns frames.
[[nodiscard]] inline nm::index_t move_frames(nm::ring_base& rx, nm::ring_base& tx, nm::index_t max) noexcept {
    nm::index_t frames = 0;
    for (nm::index_t moved = 0; moved < max && !rx.empty();) {
        const nm::index_t n = frame_slots(rx);
        if (n >= tx.num_slots() || (n == 0 && rx.space() == rx.num_slots() - 1)) {
            rx.live().drop(nm::cause::bad_chain);
            rx.advance(n == 0 ? rx.space() : n);
            continue;
        }
        if (n == 0 || n > tx.space()) break;
        frames += n > 1 || rx.slot().len != 0 ? 1U : 0U;
        for (nm::index_t k = 0; k < n; ++k, rx.advance(), tx.advance()) nm::swap_slots(rx, tx);
        moved += n;
    }
    return frames;
}

}  // namespace bridge
