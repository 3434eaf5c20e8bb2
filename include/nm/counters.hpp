// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "nm/cpu.hpp"

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

/// What one ring did, since it was opened.
struct counters {
    std::uint64_t frames = 0;  ///< tx: accepted from the user; rx: delivered to the user
    std::uint64_t bytes = 0;
    std::uint64_t slots = 0;
    std::array<std::uint64_t, causes> drops{};  ///< frames, by cause
    std::uint64_t reinits = 0;                  ///< times that head or cur, or what another process said of its own, made no sense

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

/// A number that one thread adds to and any may read: what it reads is some recent value, never half of one.
class counter {
public:
    [[nodiscard]] std::uint64_t get() const noexcept { return load_once(v_); }
    operator std::uint64_t() const noexcept { return get(); }
    counter& operator+=(std::uint64_t n) noexcept {
        store_once(v_, get() + n);
        return *this;
    }
    counter& operator-=(std::uint64_t n) noexcept { return *this += ~n + 1; }
    counter& operator++() noexcept { return *this += 1; }
    counter& operator--() noexcept { return *this -= 1; }

private:
    std::uint64_t v_ = 0;
};

/// counters as a ring keeps them: written by the ring's own thread, read by any.
struct live_counters {
    counter frames, bytes, slots;
    std::array<counter, causes> drops;
    counter reinits;

    void drop(cause c, std::uint64_t n = 1) noexcept { drops[static_cast<std::size_t>(c)] += n; }
    [[nodiscard]] counters now() const noexcept {
        counters c{frames, bytes, slots, {}, reinits};
        for (std::size_t i = 0; i < causes; ++i) c.drops[i] = drops[i];
        return c;
    }
};

}  // namespace nm
