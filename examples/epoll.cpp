// SPDX-License-Identifier: BSD-2-Clause
// Sleeping on a port in one's own epoll, level and edge triggered, with no timeout anywhere: arm, wait, take.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <sys/epoll.h>
#include <thread>

#include "nm/nm.hpp"

namespace {

constexpr std::uint32_t count = 20'000;

void send(nm::pipe& tx) {
    std::uint32_t number = 0;
    while (number < count) {
        // A few at a time, so that the other side has something to sleep for.
        const auto n = nm::generate(tx, std::min(1 + number % 100, count - number), [&number](nm::frame& f) noexcept {
            std::memset(f.data(), 0, 60);
            std::memcpy(f.data() + 14, &number, sizeof number);
            f.resize(60);
            ++number;
        });
        if (n == 0)
            (void)nm::wait(tx, nm::events::tx);
        else
            std::this_thread::sleep_for(std::chrono::microseconds(number % 7 == 0 ? 200 : 0));
    }
}

/// Whether all frames came, in order.
bool receive(std::uint32_t how) {
    nm::context ctx;
    auto tx = nm::open<nm::pipe>(ctx, "netmap:p{1");
    auto rx = nm::open<nm::pipe>(ctx, "netmap:p}1");
    const nm::base::unique_fd poller(::epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLIN | how;
    if (::epoll_ctl(poller.get(), EPOLL_CTL_ADD, rx.fd(), &event) != 0) return false;

    std::thread sender([&tx] { send(tx); });
    std::uint32_t expected = 0;
    unsigned sleeps = 0;
    bool in_order = true;
    while (expected < count && in_order) {
        // Arming looks again: with frames still in the ring the descriptor is readable at once, and with EPOLLET it
        // becomes so anew.
        rx.arm(nm::events::rx);
        if (::epoll_wait(poller.get(), &event, 1, -1) < 1) continue;
        ++sleeps;
        nm::drain(rx, 64, [&](nm::frame& f) noexcept {  // perhaps not all that is there
            std::uint32_t number = 0;
            std::memcpy(&number, f.data() + 14, sizeof number);
            in_order = in_order && number == expected++;
        });
    }
    sender.join();
    std::printf("%s triggered: %u frames in order, %u wake-ups\n", how != 0 ? "edge" : "level", expected, sleeps);
    return in_order && expected == count;
}

}  // namespace

int main() {
    for (const std::uint32_t how : {0U, static_cast<std::uint32_t>(EPOLLET)})
        if (!receive(how)) return 1;
    return 0;
}
