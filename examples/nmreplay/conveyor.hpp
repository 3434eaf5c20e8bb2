// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace nmreplay {

/// Boxes between a thread that fills them and one that empties them, so that neither waits for the other's disk or wire. The
/// boxes bound the memory, and are made when they are first needed. One lock per box, not per frame.
template <class Box>
class conveyor {
public:
    using box = std::unique_ptr<Box>;

    explicit conveyor(std::size_t most) : most_(most) { full_.reserve(most), empty_.reserve(most); }

    /// For who fills; null if all boxes are in use.
    [[nodiscard]] box try_empty() {
        const std::lock_guard guard(mutex_);
        return take_empty();
    }
    /// Waits for a box as long as `wanted()`.
    template <class Wanted>
    [[nodiscard]] box wait_empty(Wanted&& wanted) {
        return wait(wanted, [this] { return take_empty(); });
    }
    void put_full(box b) { put(full_, std::move(b)); }
    /// Says, when it goes, that no more boxes will be filled.
    class closing {
    public:
        explicit closing(conveyor& c) noexcept : c_(c) {}
        closing(const closing&) = delete;
        closing& operator=(const closing&) = delete;
        ~closing() { c_.close(); }

    private:
        conveyor& c_;
    };
    void close() {
        {
            const std::lock_guard guard(mutex_);
            closed_ = true;
        }
        changed_.notify_all();
    }

    /// For who empties; null if none is full.
    [[nodiscard]] box try_full() {
        const std::lock_guard guard(mutex_);
        return take_full();
    }
    template <class Wanted>
    [[nodiscard]] box wait_full(Wanted&& wanted) {
        return wait([&] { return wanted() && !closed_; }, [this] { return take_full(); });
    }
    /// What is full is worth beginning with, though more could be on the way.
    void let_go() {
        {
            const std::lock_guard guard(mutex_);
            stocked_ = true;
        }
        changed_.notify_all();
    }
    /// Waits, as long as `wanted()`, for all boxes to be full, for the last one, or for let_go().
    template <class Wanted>
    void wait_stocked(Wanted&& wanted) {
        std::unique_lock lock(mutex_);
        while (!stocked_ && !closed_ && wanted()) changed_.wait_for(lock, std::chrono::milliseconds(50));
    }
    void put_empty(box b) { put(empty_, std::move(b)); }
    /// It is closed, and all that was full has been taken.
    [[nodiscard]] bool over() {
        const std::lock_guard guard(mutex_);
        return closed_ && full_.empty();
    }
    /// Boxes that are made: the most that were in use at a time.
    [[nodiscard]] std::size_t made() {
        const std::lock_guard guard(mutex_);
        return made_;
    }

private:
    [[nodiscard]] box take_empty() {
        if (!empty_.empty()) {
            box b = std::move(empty_.back());
            empty_.pop_back();
            return b;
        }
        if (made_ == most_) {
            if (!stocked_) changed_.notify_all();
            stocked_ = true;
            return nullptr;
        }
        ++made_;
        return std::make_unique<Box>();
    }
    [[nodiscard]] box take_full() {
        if (full_.empty()) return nullptr;
        box b = std::move(full_.front());
        full_.erase(full_.begin());  // a few dozen pointers
        return b;
    }
    // Looks again now and then: what else ends the wait has no part in this.
    template <class Wanted, class Take>
    [[nodiscard]] box wait(Wanted&& wanted, Take&& take) {
        std::unique_lock lock(mutex_);
        for (;;) {
            if (box b = take()) return b;
            if (!wanted()) return nullptr;
            changed_.wait_for(lock, std::chrono::milliseconds(50));
        }
    }
    void put(std::vector<box>& where, box b) {
        {
            const std::lock_guard guard(mutex_);
            where.push_back(std::move(b));
        }
        changed_.notify_all();
    }

    const std::size_t most_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<box> full_, empty_;
    std::size_t made_ = 0;
    bool closed_ = false, stocked_ = false;
};

}  // namespace nmreplay
