// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "nm/slot.hpp"

namespace nm {

/// What a callable says of a frame.
enum class verdict : std::uint8_t {
    pass,  ///< send it on
    drop,  ///< take it and forget it; counted under cause::policy
    stop,  ///< leave it where it is and end the loop
};

/// One slot's worth of a frame, as a callable sees it in a fused loop: a view, alive for the call only.
class frame {
public:
    frame(std::byte* data, slot& s, std::uint32_t capacity, bool first) noexcept
        : data_(data), s_(s), capacity_(capacity), first_(first) {}

    [[nodiscard]] std::uint8_t* data() const noexcept { return reinterpret_cast<std::uint8_t*>(data_); }
    [[nodiscard]] std::uint16_t size() const noexcept { return s_.len; }
    [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::span<std::uint8_t> bytes() const noexcept { return {data(), s_.len}; }
    /// Bytes that count from here on; at most capacity(), more is a bad length and drops the frame.
    void resize(std::uint16_t len) const noexcept { s_.len = len; }

    /// A frame of several slots is shown slot by slot. The verdict on the first holds for all.
    [[nodiscard]] bool first() const noexcept { return first_; }
    [[nodiscard]] bool last() const noexcept { return (s_.flags & ns_morefrag) == 0; }
    /// The slot itself: a copy, written back when the callable returns.
    [[nodiscard]] slot& meta() const noexcept { return s_; }

private:
    std::byte* data_;
    slot& s_;
    std::uint32_t capacity_;
    bool first_;
};

/// Sees the bytes: the loop prefetches buffers for it.
template <class F>
concept frame_callable = std::is_invocable_v<F&, frame&>;
/// Sees only slots: nothing is prefetched.
template <class F>
concept slot_callable = !frame_callable<F> && std::is_invocable_v<F&, slot&>;
template <class F>
concept packet_callable = frame_callable<F> || slot_callable<F>;

/// Calls f with whatever it wants to see; void counts as pass.
template <packet_callable F>
[[nodiscard]] [[gnu::always_inline]] inline verdict show(F& f, std::byte* data, slot& s, std::uint32_t capacity,
                                                         bool first) noexcept {
    if constexpr (frame_callable<F>) {
        frame view(data, s, capacity, first);
        static_assert(std::is_nothrow_invocable_v<F&, frame&>, "a callable in a packet loop must be noexcept");
        if constexpr (std::is_same_v<std::invoke_result_t<F&, frame&>, verdict>) return f(view);
        else f(view);
    } else {
        static_assert(std::is_nothrow_invocable_v<F&, slot&>, "a callable in a packet loop must be noexcept");
        if constexpr (std::is_same_v<std::invoke_result_t<F&, slot&>, verdict>) return f(s);
        else f(s);
    }
    return verdict::pass;
}

}  // namespace nm
