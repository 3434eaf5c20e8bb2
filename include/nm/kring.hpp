// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>

#include "nm/ring.hpp"

namespace nm {

/// Private truth about one ring. The user owns [hwcur, hwtail), the port the rest; one slot is always empty. head, cur
/// and tail in shared memory are, at best, what the user would like (rule R2).
struct kring {
    index_t num_slots = 0;
    index_t hwcur = 0;   ///< first slot that the user has not handed over yet
    index_t hwtail = 0;  ///< first slot that is not the user's

    /// netmap's sync prologue as one statement: going forward from hwcur one meets head, then cur, then hwtail, each
    /// inside the ring. Both directions have the same rule, because here a sync always takes all the user gave.
    [[nodiscard]] constexpr bool legal(index_t head, index_t cur) const noexcept {
        if (head >= num_slots || cur >= num_slots) return false;
        const index_t to_head = ring_distance(hwcur, head, num_slots);
        const index_t to_cur = ring_distance(hwcur, cur, num_slots);
        return to_head <= to_cur && to_cur <= ring_distance(hwcur, hwtail, num_slots);
    }

    [[nodiscard]] constexpr index_t next(index_t i) const noexcept { return ring_next(i, num_slots); }
};

/// Where a ring stands inside a frame of several slots.
struct chain_state {
    index_t frags = 0;      ///< slots of the open frame so far
    bool discard = false;   ///< the rest of the open frame goes nowhere

    [[nodiscard]] constexpr bool idle() const noexcept { return frags == 0 && !discard; }
};

}  // namespace nm
