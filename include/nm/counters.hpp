// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace nm {

/// Why a frame went nowhere. Each drop is counted under exactly one of these (DESIGN: the law of conservation).
enum class cause : std::uint8_t {
    full,       ///< the destination had no room (never a pipe: those push back)
    bad_len,    ///< longer than a buffer, or than the link carries
    bad_idx,    ///< buffer index outside the region
    bad_chain,  ///< more than 64 fragments, or more than the ring has slots
    bad_hdr,    ///< virtio-net header that does not fit its frame, or that the destination cannot serve
    no_dst,     ///< nobody to give it to
    policy,     ///< a verdict of the user's
};
inline constexpr std::size_t causes = 7;

[[nodiscard]] constexpr const char* cause_name(cause c) noexcept {
    constexpr std::array<const char*, causes> names{"full",    "bad length",     "bad index", "bad chain",
                                                    "bad header", "no destination", "policy"};
    return names[static_cast<std::size_t>(c)];
}

/// What one ring did, since it was opened. Written by the ring's own thread; another thread may look (a value read so
/// is some recent one).
struct counters {
    std::uint64_t frames = 0;  ///< tx: accepted from the user; rx: delivered to the user
    std::uint64_t bytes = 0;
    std::uint64_t slots = 0;
    std::array<std::uint64_t, causes> drops{};  ///< frames, by cause
    std::uint64_t reinits = 0;                  ///< times that head or cur made no sense

    void drop(cause c, std::uint64_t n = 1) noexcept { drops[static_cast<std::size_t>(c)] += n; }
    [[nodiscard]] std::uint64_t dropped(cause c) const noexcept { return drops[static_cast<std::size_t>(c)]; }
    [[nodiscard]] std::uint64_t dropped() const noexcept {
        std::uint64_t sum = 0;
        for (const auto d : drops) sum += d;
        return sum;
    }
    counters& operator+=(const counters& o) noexcept {
        frames += o.frames;
        bytes += o.bytes;
        slots += o.slots;
        for (std::size_t i = 0; i < causes; ++i) drops[i] += o.drops[i];
        reinits += o.reinits;
        return *this;
    }
};

}  // namespace nm
