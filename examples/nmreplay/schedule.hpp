// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "models.hpp"

namespace nmreplay {

/// Says of one captured frame after the other when it is to go, in nanoseconds from the beginning, or that it is lost on the
/// way. Never a frame before the one that was captured earlier.
class schedule {
public:
    schedule(const bandwidth& b, const delay& d, const loss& l, std::uint64_t seed)
        : bandwidth_(b), delay_(d), loss_(l), loss_dice_(seed), delay_dice_(~seed) {}

    /// The capture begins anew: its first frame goes when the last one of the pass before went.
    void begin_pass() noexcept {
        base_ = out_of_link_;
        first_.reset();
    }

    [[nodiscard]] std::optional<std::uint64_t> next(std::uint64_t stamp_ns, std::uint32_t length) noexcept {
        // As captured: the time since the pass began, which does not run backwards though a capture's stamps may, and which
        // passes for lost frames too.
        const bool real = bandwidth_.what == bandwidth::kind::real;
        if (real) {
            if (!first_) first_ = latest_ = stamp_ns;
            latest_ = std::max(latest_, stamp_ns);
            out_of_link_ = base_ + static_cast<double>(latest_ - *first_) / bandwidth_.value;
        }
        if (loss_.hits(loss_dice_, length)) return std::nullopt;
        const double takes = bandwidth_.takes(length);
        if (!real) out_of_link_ += takes;
        // A delay does not reorder, and what a link of limited speed was kept from sending it does not send faster later.
        sent_ = std::max(out_of_link_ + delay_.draw(delay_dice_), sent_ + takes);
        return static_cast<std::uint64_t>(std::min(sent_, 0x1p62) + 0.5);
    }

    /// Whether frames have a time at all.
    [[nodiscard]] bool timed() const noexcept { return bandwidth_.what != bandwidth::kind::unlimited; }

private:
    bandwidth bandwidth_;
    delay delay_;
    loss loss_;
    dice loss_dice_, delay_dice_;  // of their own: whether frames are delayed changes nothing in which are lost
    std::optional<std::uint64_t> first_;
    std::uint64_t latest_ = 0;
    double base_ = 0, out_of_link_ = 0, sent_ = 0;
};

/// A frame that waits to be sent.
struct record {
    std::uint64_t when;  ///< nanoseconds from the beginning
    std::uint32_t offset, length;
};

/// How many frames are due, and how many slots they take in pieces of `piece` bytes.
struct due_frames {
    std::uint32_t frames = 0, slots = 0;
};
[[nodiscard]] inline due_frames count_due(std::span<const record> waiting, std::uint64_t now, std::uint32_t most, std::uint32_t piece) noexcept {
    due_frames d;
    for (const record& r : waiting) {
        if (d.frames == most || r.when > now) break;
        ++d.frames;
        d.slots += (r.length + piece - 1) / piece;
    }
    return d;
}

/// The time of a schedule on a clock.
template <class Clock>
class timekeeper {
public:
    void start() noexcept { start_ = Clock::now_ns(); }
    [[nodiscard]] std::uint64_t now() const noexcept { return Clock::now_ns() - start_; }

    enum class rest { none, spin, sleep };
    struct pause {
        rest how;
        std::uint64_t ns;
    };
    /// What to do until `when`: a sleep ends early enough for the kernel's lateness, and soon enough to look whether the run
    /// was stopped; the rest is waited for awake.
    [[nodiscard]] static pause until(std::uint64_t when, std::uint64_t now) noexcept {
        if (when <= now) return {rest::none, 0};
        const std::uint64_t left = when - now;
        if (left <= awake_ns) return {rest::spin, left};
        return {rest::sleep, std::min(left - awake_ns, longest_ns)};
    }
    static constexpr std::uint64_t awake_ns = 120'000, longest_ns = 50'000'000;

private:
    std::uint64_t start_ = 0;
};

}  // namespace nmreplay
