// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace nm {

/// Which buffers of a region are free. The truth is here, in private memory: a list through the buffers themselves
/// would be somebody else's to scribble on. Buffers 0 and 1 are reserved, as in netmap.
class buffer_pool {
public:
    explicit buffer_pool(std::uint32_t count) : used_(count, false), free_count_(count < 2 ? 0 : count - 2) {
        for (std::uint32_t i = 0; i < 2 && i < count; ++i) used_[i] = true;
    }

    [[nodiscard]] std::uint32_t capacity() const noexcept { return static_cast<std::uint32_t>(used_.size()); }
    [[nodiscard]] std::uint32_t available() const noexcept { return free_count_; }

    /// The lowest free buffers first, so that neighbours in a ring are neighbours in memory. Nothing when none is left.
    [[nodiscard]] std::optional<std::uint32_t> take() noexcept {
        if (free_count_ == 0) return std::nullopt;
        while (used_[hint_]) hint_ = hint_ + 1 == capacity() ? 2 : hint_ + 1;
        used_[hint_] = true;
        --free_count_;
        return hint_;
    }

    /// All of them are somebody else's.
    void take_all() noexcept {
        used_.assign(used_.size(), true);
        free_count_ = 0;
    }

    /// False (and nothing done) for a buffer that is reserved, out of range or free already: lists that come back from
    /// user-visible memory may hold anything.
    bool give_back(std::uint32_t idx) noexcept {
        if (idx < 2 || idx >= capacity() || !used_[idx]) return false;
        used_[idx] = false;
        ++free_count_;
        if (idx < hint_) hint_ = idx;
        return true;
    }

    [[nodiscard]] bool in_use(std::uint32_t idx) const noexcept { return idx < capacity() && used_[idx]; }

private:
    std::vector<bool> used_;
    std::uint32_t hint_ = 2;
    std::uint32_t free_count_;
};

/// First-fit allocator of the region's front part: interfaces, rings and control blocks, at offsets that are multiples
/// of 128. Its book-keeping is private.
class object_pool {
public:
    static constexpr std::size_t align = 128;
    [[nodiscard]] static constexpr std::size_t rounded(std::size_t n) noexcept { return (n + align - 1) / align * align; }

    explicit object_pool(std::size_t bytes) { free_.emplace(0, bytes / align * align); }

    [[nodiscard]] std::optional<std::size_t> take(std::size_t bytes) {
        const std::size_t want = rounded(bytes);
        for (auto it = free_.begin(); it != free_.end(); ++it) {
            const auto [offset, length] = *it;
            if (length < want) continue;
            free_.erase(it);
            if (length > want) free_.emplace(offset + want, length - want);
            return offset;
        }
        return std::nullopt;
    }

    void give_back(std::size_t offset, std::size_t bytes) {
        std::size_t length = rounded(bytes);
        auto next = free_.lower_bound(offset);
        if (next != free_.end() && offset + length == next->first) {
            length += next->second;
            next = free_.erase(next);
        }
        if (next != free_.begin()) {
            const auto prev = std::prev(next);
            if (prev->first + prev->second == offset) {
                prev->second += length;
                return;
            }
        }
        free_.emplace(offset, length);
    }

    [[nodiscard]] std::size_t available() const noexcept {
        std::size_t sum = 0;
        for (const auto& [offset, length] : free_) sum += length;
        return sum;
    }

private:
    std::map<std::size_t, std::size_t> free_;  // offset -> length
};

}  // namespace nm
