// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What a guest's programs and the program on the host say to each other, by whichever way frames pass: the same frames, and a few
// that are orders. Bytes 14 and 15 tell which, 16 to 23 are the frame's number or an order's argument, and an answer's counts follow.

#include "nic.hpp"

namespace bench {

enum class order : std::uint8_t {
    none,   ///< a frame like all: to be read
    fill,   ///< send frames, so many at a time, until told to stop
    stop,   ///< no more, and say what there was
    echo,   ///< send it back
    spin,   ///< how many microseconds to look again before sleeping
};

/// What the host counted.
struct host_counts {
    std::uint64_t received = 0, sum = 0;   ///< of frames that are no orders
    std::uint64_t kicks = 0, wakes = 0;    ///< the guest woke the host, and the other way round
};
static_assert(24 + sizeof(host_counts) <= frame_bytes);

inline order order_of(const void* frame) noexcept { return static_cast<order>(static_cast<const std::uint8_t*>(frame)[14]); }
inline std::uint64_t argument_of(const void* frame) noexcept {
    std::uint64_t v = 0;
    std::memcpy(&v, static_cast<const char*>(frame) + 16, sizeof v);
    return v;
}
inline void fill_order(void* frame, order what, std::uint64_t argument) noexcept {
    fill_ethernet(frame, argument);
    static_cast<std::uint8_t*>(frame)[14] = static_cast<std::uint8_t>(what);
}

/// The host's side of the conversation. `sleep_after` is in microseconds.
struct host_side {
    host_counts counts;
    unsigned fill_batch = 0;
    std::uint64_t sleep_after = 50;
    std::uint64_t next = 0;  ///< number of the next frame to be sent
    std::array<std::byte, frame_bytes> answer{};
    bool has_answer = false;

    [[gnu::always_inline]] void hear(const void* frame) noexcept {
        if (order_of(frame) == order::none) [[likely]] {
            counts.sum += read_frame(frame);
            ++counts.received;
        } else obey(frame);
    }
    [[gnu::noinline, gnu::cold]] void obey(const void* frame) noexcept {
        const order what = order_of(frame);
        if (what == order::fill) {
            fill_batch = static_cast<unsigned>(std::clamp<std::uint64_t>(argument_of(frame), 1, 256));
        } else if (what == order::spin) {
            sleep_after = argument_of(frame);
        } else if (what == order::stop || what == order::echo) {
            std::memcpy(answer.data(), frame, answer.size());
            has_answer = true;
            if (what == order::stop) fill_batch = 0;
        }
    }
    /// The answer, as it is now.
    void give(void* to) noexcept {
        if (order_of(answer.data()) == order::stop) std::memcpy(answer.data() + 24, &counts, sizeof counts);
        std::memcpy(to, answer.data(), answer.size());
        has_answer = false;
    }
};

/// Times that were measured, as text: `p50/p99/p99.9`, and how many took up to which power of two.
struct histogram {
    std::vector<double> us;

    [[nodiscard]] double at(double part) const {
        return us.empty() ? 0 : us[std::min(us.size() - 1, static_cast<std::size_t>(part * static_cast<double>(us.size())))];
    }
    [[nodiscard]] std::string text() {
        std::sort(us.begin(), us.end());
        std::array<char, 128> line{};
        std::snprintf(line.data(), line.size(), "%.1f / %.1f / %.1f us (p50, p99, p99.9) of %zu;", at(0.5), at(0.99), at(0.999), us.size());
        std::string all = line.data();
        for (double limit = 0.25, low = 0; low < (us.empty() ? 0 : us.back()); low = limit, limit *= 2) {
            const auto n = std::upper_bound(us.begin(), us.end(), limit) - std::upper_bound(us.begin(), us.end(), low);
            if (n == 0) continue;
            std::snprintf(line.data(), line.size(), " <=%g: %td", limit, n);
            all += line.data();
        }
        return all;
    }
};

/// Sends one frame at a time and waits for its echo: `send(number)`, and `arrived()` says whether one came.
template <class Send, class Arrived>
measured round_trips(const options& o, histogram& h, Send&& send, Arrived&& arrived) {
    constexpr std::size_t wanted = 5000, unmeasured = 20;
    const double start = now();
    const std::uint64_t ticks = __builtin_ia32_rdtsc();  // a guest's clock is dear
    std::vector<std::uint64_t> took;
    unsigned lost = 0;
    for (std::size_t i = 0; i < wanted + unmeasured && (i % 16 != 0 || now() - start < 5 * o.seconds + 1); ++i) {
        const std::uint64_t before = __builtin_ia32_rdtsc();
        send(i);
        const bool came = arrived();
        if (came && i >= unmeasured) took.push_back(__builtin_ia32_rdtsc() - before);
        if (!came && ++lost > 2) die("the echo does not come");
    }
    const double per_us = static_cast<double>(__builtin_ia32_rdtsc() - ticks) / ((now() - start) * 1e6);
    for (const auto t : took) h.us.push_back(static_cast<double>(t) / per_us);
    std::sort(h.us.begin(), h.us.end());
    return {h.at(0.5), false};
}

}  // namespace bench
