// SPDX-License-Identifier: BSD-2-Clause
// Coroutines that await ports, sender and receiver in one thread: `co_await ready{loop, port, nm::events::rx}`.
#include <coroutine>
#include <cstdio>
#include <cstring>
#include <sys/epoll.h>

#include "nm/nm.hpp"

namespace {
constexpr std::uint32_t count = 100'000;
struct event_loop {
    nm::base::unique_fd poller{::epoll_create1(EPOLL_CLOEXEC)};
    unsigned asleep = 0;

    void sleep(int fd, std::coroutine_handle<> who) {
        epoll_event e{EPOLLIN | EPOLLONESHOT, {who.address()}};
        if (::epoll_ctl(poller.get(), EPOLL_CTL_MOD, fd, &e) != 0) ::epoll_ctl(poller.get(), EPOLL_CTL_ADD, fd, &e);
        ++asleep;
    }
    void run() {
        for (epoll_event e; asleep != 0;)
            if (::epoll_wait(poller.get(), &e, 1, -1) == 1)
                --asleep, std::coroutine_handle<>::from_address(e.data.ptr).resume();
    }
};

struct ready {
    event_loop& loop;
    nm::pipe& port;
    nm::events wanted;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> self) const {
        port.arm(wanted), loop.sleep(port.fd(), self);  // arming looks again: what came before wakes at once
    }
    void await_resume() const noexcept {}
};

struct task {
    struct promise_type {
        task get_return_object() noexcept { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept {}
    };
};

task send(event_loop& loop, nm::pipe& tx) {
    for (std::uint32_t number = 0; number < count;) {
        co_await ready{loop, tx, nm::events::tx};
        nm::generate(tx, std::min(100U, count - number), [&number](nm::frame& f) noexcept {
            std::memcpy(f.data(), &number, sizeof number);
            f.resize(60);
            ++number;
        });
    }
}

task receive(event_loop& loop, nm::pipe& rx, std::uint32_t& in_order) {
    for (std::uint32_t received = 0; received < count;) {
        co_await ready{loop, rx, nm::events::rx};
        received += nm::drain(rx, 256, [&in_order](nm::frame& f) noexcept {
            in_order += std::memcmp(f.data(), &in_order, sizeof in_order) == 0 ? 1U : 0U;
        });
    }
}
}  // namespace

int main() {
    nm::context ctx;
    auto tx = nm::open<nm::pipe>(ctx, "netmap:p{1"), rx = nm::open<nm::pipe>(ctx, "netmap:p}1");
    event_loop loop;
    std::uint32_t in_order = 0;
    receive(loop, rx, in_order), send(loop, tx);
    loop.run();
    std::printf("%u of %u frames received in order\n", in_order, count);
    return in_order == count ? 0 : 1;
}
