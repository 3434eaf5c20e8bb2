// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// After a guest that may have died in the middle of anything: each slot gets a buffer again that is in no other.

#include <mutex>
#include <vector>

#include "nm/ring_base.hpp"

namespace nm::ptnet {

class slot_repair {
public:
    explicit slot_repair(region& m) : memory_(m), seen_(m.num_bufs(), false) {}

    /// Slots that are not the user's: of all rings first, since the port may be using their buffers.
    void look_at_ports(ring_base& r) { look(r, r.truth().hwtail, r.num_slots() - users(r)); }
    void look_at_users(ring_base& r) { look(r, r.truth().hwcur, users(r)); }

    /// Slots whose buffer is none, or another slot's too.
    [[nodiscard]] std::size_t broken() const noexcept { return broken_.size(); }
    /// Whether every buffer of the region that is in use lies in a slot that was looked at.
    [[nodiscard]] bool closed() const noexcept {
        const std::lock_guard guard(memory_.pools());
        return memory_.num_bufs() - 2 - memory_.bufs().available() == found_;
    }
    /// Gives them spare buffers, or none when these are used up. With `all_in_slots`, what is in use and was not found is spare too.
    void mend(bool all_in_slots) noexcept {
        const std::lock_guard guard(memory_.pools());
        for (std::uint32_t b = 2; all_in_slots && b < seen_.size(); ++b)
            if (!seen_[b]) memory_.bufs().give_back(b);
        for (slot* s : broken_) store_slot(*s, {memory_.bufs().take().value_or(0), 0, ns_buf_changed, 0});
    }

private:
    void look(ring_base& r, index_t i, index_t n) {
        for (; n != 0; --n, i = r.next(i)) {
            const std::uint32_t b = load_slot(r.slot(i)).buf_idx;
            if (b < 2 || b >= seen_.size() || seen_[b]) broken_.push_back(&r.slot(i));
            else seen_[b] = true, ++found_;
        }
    }
    [[nodiscard]] static index_t users(const ring_base& r) noexcept {
        return ring_distance(r.truth().hwcur, r.truth().hwtail, r.num_slots());
    }

    region& memory_;
    std::vector<bool> seen_;
    std::vector<slot*> broken_;
    std::uint32_t found_ = 0;
};

}  // namespace nm::ptnet
