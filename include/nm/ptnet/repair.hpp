// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// After a guest that may have died in the middle of anything: the slots that are the user's get buffers again that are in no
// other slot.

#include <vector>

#include "nm/ring_base.hpp"

namespace nm::ptnet {

class slot_repair {
public:
    explicit slot_repair(region& m) : memory_(m), seen_(m.num_bufs(), false) {}

    /// Slots that are not the user's: what lies there stays.
    void keep(ring_base& r) noexcept { each(r, r.truth().hwtail, r.num_slots() - users(r), [this](slot& s) { (void)take(load_slot(s).buf_idx); }); }
    /// Slots that are the user's. One whose buffer is none, or another slot's too, gets a spare one, or none when these are used up.
    void mend(ring_base& r) noexcept {
        each(r, r.truth().hwcur, users(r), [this](slot& shared) {
            const slot before = load_slot(shared);
            if (take(before.buf_idx)) return;
            slot s{0, 0, ns_buf_changed, 0};
            const std::lock_guard guard(memory_.pools());
            while (const auto spare = memory_.bufs().take())
                if (take(*spare)) {
                    s.buf_idx = *spare;
                    break;
                }
            ++mended_;
            update_slot(shared, s, before);
        });
    }
    [[nodiscard]] std::uint32_t mended() const noexcept { return mended_; }

private:
    template <class Use>
    static void each(ring_base& r, index_t i, index_t n, Use&& use) noexcept {
        for (; n != 0; --n, i = r.next(i)) use(r.slot(i));
    }
    [[nodiscard]] static index_t users(const ring_base& r) noexcept {
        return ring_distance(r.truth().hwcur, r.truth().hwtail, r.num_slots());
    }
    [[nodiscard]] bool take(std::uint32_t idx) noexcept {
        if (idx < 2 || idx >= seen_.size() || seen_[idx]) return false;
        seen_[idx] = true;
        return true;
    }

    region& memory_;
    std::vector<bool> seen_;
    std::uint32_t mended_ = 0;
};

}  // namespace nm::ptnet
