// SPDX-License-Identifier: BSD-2-Clause
#include "nm/wait.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "nm/notifier.hpp"
#include "support/pipes.hpp"

namespace {

using namespace nm::test;
using nm::events;
using nm::index_t;
using std::chrono::milliseconds;

bool readable(int fd, int ms = 0) {
    pollfd p{fd, POLLIN | POLLOUT, 0};
    const int n = ::poll(&p, 1, ms);
    return n == 1 && (p.revents & POLLIN) != 0;
}

TEST(wait, fd_is_silent_until_there_is_work_in_an_armed_direction) {
    pipe_pair p(8);
    EXPECT_FALSE(readable(p.b.fd()));
    std::uint32_t sent = 0;
    send_numbered(p.a, 1, sent);
    EXPECT_FALSE(readable(p.b.fd())) << "nothing was armed";
    p.b.arm(events::tx);
    EXPECT_TRUE(readable(p.b.fd())) << "there is room to send";
    p.b.tx().txsync();
    EXPECT_FALSE(readable(p.b.fd())) << "sync disarms";
}

// linux-io, test one: a ring half consumed leaves the descriptor readable.
TEST(wait, half_consumed_ring_stays_readable) {
    pipe_pair p(8);
    std::uint32_t sent = 0, got = 0;
    bool in_order = true;
    send_numbered(p.a, 4, sent);
    p.b.rx().rxsync();
    take_numbered(p.b, 2, got, in_order);
    p.b.arm(events::rx);
    EXPECT_TRUE(readable(p.b.fd()));
    EXPECT_EQ(nm::wait(p.b, events::rx, milliseconds(0)), events::rx);
    take_numbered(p.b, 2, got, in_order);
    p.b.rx().rxsync();
    p.b.arm(events::rx);
    EXPECT_FALSE(readable(p.b.fd()));
}

// Test two: only the tx ring is full, and only tx is asked for.
TEST(wait, full_tx_ring_wakes_when_a_slot_comes_back) {
    pipe_pair p(4);
    std::uint32_t sent = 0;
    while (send_numbered(p.a, 1, sent) != 0) {}
    EXPECT_EQ(nm::wait(p.a, events::tx, milliseconds(10)), events::none);
    p.a.arm(events::tx);
    EXPECT_FALSE(readable(p.a.fd()));
    nm::drain(p.b, 1);
    EXPECT_TRUE(readable(p.a.fd(), 1000));
    EXPECT_EQ(nm::wait(p.a, events::tx, milliseconds(0)), events::tx);
}

// Test three: edge-triggered epoll, arming before each sleep, sees every batch.
TEST(wait, edge_triggered_epoll_misses_nothing) {
    pipe_pair p(8);
    const int ep = ::epoll_create1(EPOLL_CLOEXEC);
    epoll_event want{};
    want.events = EPOLLIN | EPOLLET;
    ASSERT_EQ(::epoll_ctl(ep, EPOLL_CTL_ADD, p.b.fd(), &want), 0);
    constexpr std::uint32_t total = 20'000;
    std::thread producer([&] {
        std::uint32_t next = 0;
        while (next < total) {
            if (send_numbered(p.a, std::min<index_t>(3, total - next), next) == 0)
                (void)nm::wait(p.a, events::tx, milliseconds(-1));
            if (next % 64 == 0) std::this_thread::yield();
        }
    });
    std::uint32_t got = 0;
    bool in_order = true;
    while (got < total) {
        p.b.arm(events::rx);
        epoll_event e{};
        ASSERT_EQ(::epoll_wait(ep, &e, 1, 20'000), 1) << "slept for ever after " << got;
        take_numbered(p.b, 2, got, in_order);  // on purpose less than what may be there
    }
    producer.join();
    ::close(ep);
    EXPECT_TRUE(in_order);
    expect_conserved(p.a, p.b);
}

// Test four: both sides sleep without any timeout, for every batch size a lost wake-up would be for ever.
TEST(wait, no_timeout_anywhere) {
    for (const index_t batch : {1U, 3U, 64U}) {
        pipe_pair p(16);
        constexpr std::uint32_t total = 30'000;
        std::thread producer([&] {
            std::uint32_t next = 0;
            while (next < total)
                if (send_numbered(p.a, std::min<index_t>(batch, total - next), next) == 0) {
                    ASSERT_EQ(nm::wait(p.a, events::tx), events::tx);
                }
        });
        std::uint32_t got = 0;
        bool in_order = true;
        while (got < total)
            if (take_numbered(p.b, batch, got, in_order) == 0) {
                ASSERT_EQ(nm::wait(p.b, events::rx), events::rx);
            }
        producer.join();
        EXPECT_TRUE(in_order);
        expect_conserved(p.a, p.b);
    }
}

TEST(wait, pushes_tx_unless_told_not_to) {
    for (const bool no_tx_poll : {false, true}) {
        nm::context ctx;
        nm::open_options o = pipe_pair::sized(8);
        o.no_tx_poll = no_tx_poll;
        auto a = nm::open<nm::pipe>(ctx, "netmap:p{1", o);
        auto b = nm::open<nm::pipe>(ctx, "netmap:p}1");
        a.tx().slot().len = 60;
        a.tx().advance();
        EXPECT_EQ(nm::wait(a, events::rx, milliseconds(0)), events::none);
        EXPECT_EQ(nm::drain(b, 8), no_tx_poll ? 0U : 1U);
        (void)nm::wait(a, events::tx, milliseconds(0));
        EXPECT_EQ(nm::drain(b, 8), no_tx_poll ? 1U : 0U) << "asking for tx pushes in any case";
    }
}

TEST(wait, reads_rx_only_when_asked_unless_told_to) {
    for (const bool do_rx_poll : {false, true}) {
        nm::context ctx;
        nm::open_options o = pipe_pair::sized(8);
        o.do_rx_poll = do_rx_poll;
        auto a = nm::open<nm::pipe>(ctx, "netmap:p{1", o);
        auto b = nm::open<nm::pipe>(ctx, "netmap:p}1");
        std::uint32_t sent = 0;
        send_numbered(b, 1, sent);
        (void)nm::wait(a, events::tx, milliseconds(0));
        EXPECT_EQ(a.rx().empty(), !do_rx_poll);
    }
}

// cur ahead of head: hold what is there, and wake only for more.
TEST(wait, cur_is_the_wake_up_point) {
    pipe_pair p(8);
    std::uint32_t sent = 0;
    send_numbered(p.a, 3, sent);
    p.b.rx().rxsync();
    p.b.rx().set_cur(p.b.rx().tail());
    EXPECT_EQ(nm::wait(p.b, events::rx, milliseconds(10)), events::none);
    send_numbered(p.a, 1, sent);
    EXPECT_EQ(nm::wait(p.b, events::rx, milliseconds(1000)), events::rx);
    std::uint32_t got = 0;
    bool in_order = true;
    EXPECT_EQ(take_numbered(p.b, 8, got, in_order), 4U) << "nothing of what was held is lost";
    EXPECT_TRUE(in_order);
}

TEST(wait, several_ports_at_once) {
    pipe_pair p(8), q(8);
    EXPECT_EQ(nm::wait_any(milliseconds(5), nm::watch{p.b, events::rx}, nm::watch{q.b, events::rx}),
              (std::array{events::none, events::none}));
    std::thread later([&] {
        std::this_thread::sleep_for(milliseconds(20));
        std::uint32_t sent = 0;
        send_numbered(q.a, 1, sent);
    });
    EXPECT_EQ(nm::wait_any(milliseconds(10'000), nm::watch{p.b, events::rx}, nm::watch{q.b, events::rx}),
              (std::array{events::none, events::rx}));
    later.join();
}

struct counting_notifier {
    int* count;
    void notify() const noexcept { ++*count; }
};

TEST(notifier, wakes_once_per_arming) {
    int count = 0;
    nm::sleep_word word;
    for (const bool asymmetric : {true, false}) {
        count = 0;
        word.wake(counting_notifier{&count}, asymmetric);
        EXPECT_EQ(count, 0);
        word.arm();
        word.wake(counting_notifier{&count}, asymmetric);
        word.wake(counting_notifier{&count}, asymmetric);
        EXPECT_EQ(count, 1);
        word.arm();
        word.disarm();
        word.wake(counting_notifier{&count}, asymmetric);
        EXPECT_EQ(count, 1);
    }
}

// Threads with a handle for one ring each, or for one direction: what one does leaves the other's wake-up alone.
TEST(wait, handles_do_not_take_each_others_wake_ups) {
    pipe_pair p(8, 2);
    const auto send = [&](index_t ring) { nm::generate(p.a.tx(ring), 1, [](nm::frame& f) noexcept { f.resize(60); }); };
    {
        auto zero = nm::open<nm::pipe>(p.ctx, "netmap:p}1-0"), one = nm::open<nm::pipe>(p.ctx, "netmap:p}1-1");
        zero.arm(events::rx);
        one.arm(events::rx);
        send(0);
        EXPECT_TRUE(readable(zero.fd()));
        EXPECT_FALSE(readable(one.fd()));
        one.rx().rxsync();
        EXPECT_TRUE(readable(zero.fd())) << "the other ring's sync took it";
        EXPECT_TRUE(readable(p.b.fd())) << "and the port's own descriptor says so too";
        EXPECT_EQ(nm::drain(zero, 8), 1U);
        EXPECT_FALSE(readable(zero.fd()));
    }
    {
        auto r = nm::open<nm::pipe>(p.ctx, "netmap:p}1-0/R"), t = nm::open<nm::pipe>(p.ctx, "netmap:p}1-0/T");
        while (nm::generate(t, 1, [](nm::frame& f) noexcept { f.resize(60); }) != 0) {}
        r.arm(events::rx);
        t.arm(events::tx);
        send(0);
        EXPECT_TRUE(readable(r.fd()));
        t.tx().txsync();
        EXPECT_TRUE(readable(r.fd())) << "the other direction's sync took it";
        t.arm(events::tx);
        EXPECT_EQ(nm::drain(r, 8), 1U);
        EXPECT_FALSE(readable(r.fd()));
        // The other way round, and for work that was there before the arming.
        send(0);
        r.arm(events::rx);
        t.tx().txsync();
        EXPECT_TRUE(readable(r.fd()));
        t.arm(events::tx);
        nm::drain(p.a.rx(0), 8);
        r.rx().rxsync();
        EXPECT_TRUE(readable(t.fd()));
    }
}

// The same with threads and without timeouts: each sleeps for its own ring and direction, and all come through.
TEST(wait, a_thread_per_ring_and_direction) {
    pipe_pair p(8, 2);
    constexpr std::uint32_t total = 4'000;
    std::vector<std::thread> threads;
    for (const char* ring : {"-0", "-1"})
        for (const char* end : {"{", "}"}) {
            const auto name = std::string("netmap:p") + end + "1" + ring;
            threads.emplace_back([&p, name] {
                auto t = nm::open<nm::pipe>(p.ctx, name + "/T");
                std::uint32_t next = 0;
                while (next < total)
                    if (send_numbered(t.tx(), std::min<index_t>(3, total - next), next) == 0) (void)nm::wait(t, events::tx);
            });
            threads.emplace_back([&p, name] {
                auto r = nm::open<nm::pipe>(p.ctx, name + "/R");
                std::uint32_t got = 0;
                bool in_order = true;
                while (got < total)
                    if (take_numbered(r.rx(), 5, got, in_order) == 0) (void)nm::wait(r, events::rx);
                EXPECT_TRUE(in_order);
            });
        }
    for (auto& t : threads) t.join();
}

}  // namespace
