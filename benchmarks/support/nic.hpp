// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What the programs on a guest's NICs share, nm's and the peers' alike: the loops, and a way of measuring for a guest whose
// processor is a program. Its clock is dear, and it cannot see who disturbs it.

#include "kernel.hpp"

namespace bench {

/// Frames between two NICs at most: what the smallest of the rings holds, so that none is lost.
inline constexpr unsigned in_flight = 120;

/// Packets per second of `step()`, which returns how many it moved: the median of ten slices.
template <class Step>
double guest_rate(const options& o, Step&& step) {
    constexpr std::size_t slices = 10;
    const auto run_for = [&](double seconds) {
        const double start = now();
        double t = start;
        std::uint64_t packets = 0;
        do {
            std::uint64_t chunk = 0;
            for (unsigned idle = 0; chunk < 256 && idle < 256;) {
                const std::uint64_t n = step();
                chunk += n;
                if (n == 0) ++idle;
            }
            packets += chunk;
            t = now();
        } while (t - start < seconds);
        return static_cast<double>(packets) / (t - start);
    };
    run_for(3 * o.warm_up);  // what was not run yet is not translated yet
    std::array<double, slices> rates{};
    for (double& r : rates) r = run_for(o.seconds / static_cast<double>(slices));
    std::sort(rates.begin(), rates.end());
    return rates[slices / 2];
}

/// Frames from one NIC to another. Each carries its number, so that those which were lost on the way are not waited for.
struct flow {
    std::uint64_t next = 0;      ///< to be sent
    std::uint64_t awaited = 0;   ///< one past the last that came
    std::uint64_t received = 0;
    std::uint64_t sum = 0;

    [[gnu::always_inline]] void fill(void* frame) noexcept { fill_ethernet(frame, next++); }
    [[gnu::always_inline]] void read(const void* frame) noexcept {
        std::uint64_t number = 0;
        std::memcpy(&number, static_cast<const char*>(frame) + 16, sizeof number);
        sum += read_frame(frame);
        awaited = std::max(awaited, number + 1);
        ++received;
    }
    [[nodiscard]] unsigned under_way() const noexcept { return static_cast<unsigned>(next - awaited); }
};

/// One thread sends on one NIC and receives on the other. `send(n)` and `receive(n)` return how many frames it were, `wait()`
/// is called when nothing can be done but wait. Says how many frames were lost.
template <class Send, class Receive, class Wait>
std::pair<measured, std::uint64_t> guest_loop(const options& o, flow& f, Send&& send, Receive&& receive, Wait&& wait) {
    // The first frame goes when the link is up, which a device may take its time for.
    for (const double start = now(); f.received == 0;) {
        if (now() - start > 5) die("nothing arrives");
        send(1);
        for (int tries = 0; tries < 100 && receive(in_flight) == 0; ++tries) wait();
    }
    while (receive(in_flight) != 0) {}
    f.awaited = f.next;
    const std::uint64_t sent_before = f.next, received_before = f.received;
    double stuck = 0;
    const double rate = guest_rate(o, [&]() -> std::uint64_t {
        if (const unsigned room = in_flight - std::min(in_flight, f.under_way()); room != 0) send(std::min(o.batch, room));
        const unsigned got = receive(o.batch);
        if (got != 0) {
            stuck = 0;
        } else if (f.under_way() >= in_flight) {
            wait();
            if (stuck == 0) stuck = now();
            else if (now() - stuck > 0.2) f.awaited = f.next, stuck = 0;
        }
        return got;
    });
    for (const double start = now(); f.under_way() != 0 && now() - start < 0.1;)
        if (receive(in_flight) == 0) wait();
    const std::uint64_t sent = f.next - sent_before, came = f.received - received_before;
    return {{rate, false}, sent - std::min(sent, came)};
}

}  // namespace bench
