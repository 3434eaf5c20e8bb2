// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "nm/slot.hpp"

namespace pkt_gen {

/// How many packets are left for all threads together: a thread claims a batch, and gives back what it had no use for.
/// Not so many for each, since traffic need not come evenly on all rings.
class quota {
public:
    explicit quota(std::uint64_t count) noexcept : count_(count), unclaimed_(count) {}

    [[nodiscard]] bool used_up() const noexcept {
        return count_ != 0 && done_.load(std::memory_order_relaxed) >= count_;
    }
    [[nodiscard]] nm::index_t claim(nm::index_t most) noexcept {
        if (count_ == 0) return most;
        std::uint64_t there = unclaimed_.load(std::memory_order_relaxed);
        std::uint64_t take = 0;
        do take = std::min<std::uint64_t>(there, most);
        while (!unclaimed_.compare_exchange_weak(there, there - take, std::memory_order_relaxed));
        return static_cast<nm::index_t>(take);
    }
    void settle(nm::index_t claimed, nm::index_t used) noexcept {
        if (count_ == 0) return;
        if (claimed != used) unclaimed_.fetch_add(claimed - used, std::memory_order_relaxed);
        done_.fetch_add(used, std::memory_order_relaxed);
    }

private:
    std::uint64_t count_;  ///< 0: no end
    std::atomic<std::uint64_t> unclaimed_;
    std::atomic<std::uint64_t> done_{0};
};

}  // namespace pkt_gen
