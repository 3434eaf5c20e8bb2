// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Which addresses a device is told. What the IOMMU translates is not what there is: 39 bits are usual, and what lies at
// 0xfee00000 is interrupts.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace nm::sys {

/// first and last address, both included: a range may end at 2^64 - 1
struct iova_range {
    std::uint64_t first = 0, last = 0;
};

/// Hands out addresses, lowest first: devices that can only name 32 bits get some as long as there are any.
class iova_space {
public:
    static constexpr std::uint64_t step = std::uint64_t{2} << 20;  // what an IOMMU maps in one entry, if the memory allows

    iova_space() = default;
    explicit iova_space(std::vector<iova_range> ranges) : ranges_(std::move(ranges)) {
        std::sort(ranges_.begin(), ranges_.end(), [](auto& a, auto& b) { return a.first < b.first; });
    }

    /// The ranges of an IOMMU whose kernel does not tell.
    [[nodiscard]] static std::vector<iova_range> usual() {
        return {{0, 0xfedfffff}, {0xfef00000, (std::uint64_t{1} << 39) - 1}};
    }

    /// Nothing, when `size` bytes are not free in one piece below 2^bits. 0 is never given: some devices take it for "none".
    [[nodiscard]] std::optional<std::uint64_t> take(std::uint64_t size, unsigned bits) {
        if (size == 0) return std::nullopt;
        const std::uint64_t limit = bits >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
        for (const auto& range : ranges_) {
            const auto last = std::min(range.last, limit);
            auto at = round_up(std::max(range.first, step));
            // Those in the way, lowest first, until there is none where we have got to.
            for (auto t = taken_.begin(); at && t != taken_.end() && (t->first <= *at || t->first - *at < size); ++t)
                if (t->last >= *at) at = t->last == ~std::uint64_t{0} ? std::nullopt : round_up(t->last + 1);
            if (!at || *at > last || size - 1 > last - *at) continue;
            const auto where = std::find_if(taken_.begin(), taken_.end(), [&](auto& t) { return t.first > *at; });
            taken_.insert(where, {*at, *at + (size - 1)});
            return at;
        }
        return std::nullopt;
    }
    void give_back(std::uint64_t first) {
        taken_.erase(std::remove_if(taken_.begin(), taken_.end(), [&](auto& r) { return r.first == first; }), taken_.end());
    }

private:
    static std::optional<std::uint64_t> round_up(std::uint64_t at) {
        const auto up = (at + (step - 1)) / step * step;
        if (at > ~std::uint64_t{0} - (step - 1)) return std::nullopt;
        return up;
    }

    std::vector<iova_range> ranges_, taken_;  // both by address
};

/// A piece of a BAR: bytes from its beginning.
struct bar_area {
    std::uint64_t offset = 0, size = 0;
};

/// What of a BAR is mapped, in whole pages, so that the MSI-X table is not: interrupts are the kernel's to program. Where the
/// kernel lets the table's pages be mapped, those that hold other registers too are; where it does not, they are left out.
[[nodiscard]] inline std::vector<bar_area> areas_around(std::uint64_t bar_size, bar_area table, std::uint64_t page,
                                                        bool may_map_table) {
    const auto down = [&](std::uint64_t n) { return n / page * page; };
    const auto up = [&](std::uint64_t n) { return down(n + page - 1); };
    const auto whole = up(bar_size);
    if (table.size == 0 || table.offset >= whole) return {{0, whole}};
    const auto table_end = std::min(table.offset + table.size, whole);
    const auto from = may_map_table ? up(table.offset) : down(table.offset);
    const auto to = may_map_table ? down(table_end) : up(table_end);
    if (from >= to) return {{0, whole}};
    std::vector<bar_area> areas;
    if (from > 0) areas.push_back({0, from});
    if (to < whole) areas.push_back({to, whole - to});
    return areas;
}

}  // namespace nm::sys
