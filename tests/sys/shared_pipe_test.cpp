// SPDX-License-Identifier: BSD-2-Clause
// Pipes between processes: real ones, that are killed.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <poll.h>
#include <set>
#include <sys/ptrace.h>
#include <vector>

#include "nm/ports/monitor.hpp"
#include "nm/ports/null.hpp"
#include "support/shared_pipes.hpp"

namespace {

using namespace nm;
using namespace nm::test;
using namespace std::chrono_literals;

index_t send(shared_pipe& p, index_t n, std::uint64_t& next) {
    return generate(p, n, [&](frame& f) noexcept { write_numbered(f, next++); });
}
struct tally {
    std::uint64_t next = 0, bad = 0;
};
index_t take(shared_pipe& p, index_t n, tally& t) {
    return drain(p, n, [&](frame& f) noexcept {
        std::uint64_t number = 0;
        if (!read_numbered(f, number) || number != t.next) ++t.bad;
        t.next = number + 1;
    });
}

TEST_F(shared_pipe_test, two_programs_meet_in_either_order) {
    for (const bool slave_first : {false, true}) {
        const char* const first = slave_first ? "netmap:p}1" : "netmap:p{1";
        const char* const second = slave_first ? "netmap:p{1" : "netmap:p}1";
        context one, two;  // as good as two programs: they share nothing but the host
        auto a = value_or_throw(try_open<shared_pipe>(one, first, sized(16)));
        std::uint64_t sent = 0;
        EXPECT_EQ(send(a, 100, sent), 15U);
        sent = 15;
        auto b = value_or_throw(reopen(two, second));
        EXPECT_EQ(b.tx().num_slots(), 16U);
        tally t;
        EXPECT_EQ(take(b, 7, t), 7U);
        EXPECT_EQ(send(a, 100, sent), 7U);
        sent = 22;
        EXPECT_EQ(take(b, 100, t), 15U);
        EXPECT_EQ(t.bad, 0U);
        EXPECT_EQ(t.next, 22U);
        EXPECT_TRUE(a.status());
        EXPECT_TRUE(b.status());
        EXPECT_EQ(a.tx_stats().frames, b.rx_stats().frames);
    }
}

TEST_F(shared_pipe_test, an_end_is_one_programs_at_a_time) {
    context one, two;
    auto a = value_or_throw(try_open<shared_pipe>(one, "netmap:p{1"));
    const auto again = try_open<shared_pipe>(two, "netmap:p{1");
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code.value(), EBUSY);
    auto same = value_or_throw(try_open<shared_pipe>(one, "netmap:p{1"));  // within a program it is shared
    EXPECT_EQ(&same.tx(), &a.tx());
    EXPECT_FALSE(try_open<shared_pipe>(one, "netmap:p{1/x"));
    EXPECT_FALSE(try_open<shared_pipe>(one, "netmap:p{1-1"));
    EXPECT_FALSE(try_open<shared_pipe>(one, "netmap:p{2-17@conf:rings=17"));
}

TEST_F(shared_pipe_test, rings_sizes_and_names) {
    context one, two;
    open_options o;
    o.tx_rings = 3;
    o.rx_rings = 2;
    o.tx_slots = 16;
    o.rx_slots = 32;
    for (const char* const parent : {"netmap:eth9", "vale2:x", "netmap:0000:00:1f.6"}) {
        auto slave = value_or_throw(try_open<shared_pipe>(one, std::string(parent) + "}3", o));
        auto master = value_or_throw(reopen(two, (std::string(parent) + "{3").c_str()));
        ASSERT_EQ(slave.num_tx_rings(), 3U);
        ASSERT_EQ(master.num_rx_rings(), 3U);
        ASSERT_EQ(master.num_tx_rings(), 2U);
        EXPECT_EQ(slave.tx().num_slots(), 16U);
        EXPECT_EQ(master.tx().num_slots(), 32U);
        for (index_t i = 0; i < 3; ++i) generate(slave.tx(i), i + 1, [](frame& f) noexcept { f.resize(60); });
        for (index_t i = 0; i < 3; ++i) EXPECT_EQ(drain(master.rx(i), 10), i + 1);
        auto ring = value_or_throw(try_open<shared_pipe>(two, std::string(parent) + "{3-1"));
        EXPECT_EQ(&ring.tx(), &master.tx(1));
    }
}

TEST_F(shared_pipe_test, reopened_it_goes_on_where_it_was) {
    context one, two;
    auto a = value_or_throw(try_open<shared_pipe>(one, "netmap:p{1", sized(8)));
    auto b = value_or_throw(try_open<shared_pipe>(two, "netmap:p}1"));
    std::uint64_t sent = 0;
    tally t;
    for (int i = 0; i < 50; ++i) {
        std::uint64_t from = sent;
        send(a, 3, from);
        sent += 3;
        EXPECT_EQ(take(b, 1, t), 1U);
        b.close();
        b = value_or_throw(reopen(two, "netmap:p}1"));
        EXPECT_TRUE(eventually([&] { return a.status().has_value(); }));  // it was closed, not lost
        EXPECT_EQ(take(b, 1, t), 1U);
        a.close();
        a = value_or_throw(reopen(one, "netmap:p{1"));
        EXPECT_EQ(take(b, 9, t), 1U);
    }
    EXPECT_EQ(t.bad, 0U);
    EXPECT_EQ(t.next, sent);
    // Both gone: all gone.
    send(a, 3, sent);
    a.close();
    b.close();
    std::this_thread::sleep_for(50ms);
    b = value_or_throw(reopen(two, "netmap:p}1", sized(32)));
    EXPECT_EQ(b.tx().num_slots(), 32U);
    EXPECT_EQ(drain(b, 10), 0U);
}

TEST_F(shared_pipe_test, sleeps_and_is_woken_across_processes) {
    process child([] {
        context ctx;
        auto p = reopen(ctx, "netmap:p}1", sized(8));
        if (!p) return false;
        std::uint64_t back = 0;
        tally t;
        while (t.next != 3000) {
            if (wait(*p, events::rx, 5000ms) != events::rx) return false;
            const index_t n = take(*p, 5, t);
            for (index_t k = 0; k < n;) {
                if (!any(wait(*p, events::tx, 5000ms) & events::tx)) return false;
                std::uint64_t from = back;
                const index_t done = send(*p, n - k, from);
                back += done;
                k += done;
            }
        }
        return t.bad == 0;
    });
    context ctx;
    auto p = value_or_throw(reopen(ctx, "netmap:p{1", sized(8)));
    std::uint64_t sent = 0;
    tally t;
    while (t.next != 3000) {
        std::uint64_t from = sent;
        sent += send(p, static_cast<index_t>(std::min<std::uint64_t>(1 + sent % 7, 3000 - sent)), from);
        const auto what = wait(p, events::rx, 5000ms);
        ASSERT_EQ(what, events::rx) << t.next << " of " << sent;
        take(p, 100, t);
    }
    EXPECT_EQ(t.bad, 0U);
    EXPECT_EQ(child.wait(), 0);
}

TEST_F(shared_pipe_test, the_death_of_either_is_noticed) {
    context ctx;
    auto p = value_or_throw(try_open<shared_pipe>(ctx, "netmap:p{1"));
    EXPECT_EQ(wait(p, events::rx, 20ms), events::none);  // nobody there yet: no error
    {
        process child([] {
            context mine;
            auto q = reopen(mine, "netmap:p}1");
            ::pause();
            return q.has_value();
        });
        std::this_thread::sleep_for(100ms);
        EXPECT_TRUE(p.status());
        std::thread killer([&] {
            std::this_thread::sleep_for(100ms);
            ::kill(child.pid(), SIGKILL);
        });
        const auto start = steady::now();
        EXPECT_EQ(wait(p, events::rx, 5000ms), events::error);
        EXPECT_LT(steady::now() - start, 300ms);
        killer.join();
        const auto gone = p.status();
        ASSERT_FALSE(gone);
        EXPECT_EQ(gone.error().code.value(), EPIPE);
    }
    context other;
    auto again = value_or_throw(reopen(other, "netmap:p}1"));
    EXPECT_TRUE(eventually([&] { return p.status().has_value(); }));

    // The host: what is there goes on, and says that it cannot be opened again.
    const auto words = sys::reach_host(value_or_throw(sys::runtime_dir::open()), "p", {.start = false, .timeout = 2000ms, .program = {}});
    ASSERT_TRUE(words) << words.error().text;
    ucred cred{};
    socklen_t size = sizeof cred;
    ASSERT_EQ(::getsockopt(words->fd(), SOL_SOCKET, SO_PEERCRED, &cred, &size), 0);
    ASSERT_GT(cred.pid, 1);
    const auto start = steady::now();
    std::thread killer([&] {
        std::this_thread::sleep_for(100ms);
        ::kill(cred.pid, SIGKILL);
    });
    EXPECT_EQ(wait(p, events::rx, 5000ms), events::error);
    EXPECT_LT(steady::now() - start, 300ms);
    killer.join();
    EXPECT_EQ(p.status().error().code.value(), ECONNRESET);
    std::uint64_t sent = 0;
    tally t;
    EXPECT_EQ(send(p, 3, sent), 3U);
    EXPECT_EQ(take(again, 3, t), 3U);
    EXPECT_EQ(wait(again, events::rx, 0ms), events::error);
}

// What the children say before they die.
struct notes {
    std::atomic<std::uint64_t> returned{0};  // frames whose sync returned, of this incarnation
    std::atomic<std::uint64_t> next{0};      // the receiver: the first number that it has not seen
    std::atomic<std::uint64_t> bad{0}, repeated{0};
    std::atomic<std::uint32_t> opened{0};
};

std::chrono::microseconds some_time(unsigned i) { return std::chrono::microseconds((i * 7919U) % 1500U); }

TEST_F(shared_pipe_test, a_sender_may_be_killed_at_any_time) {
    context ctx;
    auto p = value_or_throw(try_open<shared_pipe>(ctx, "netmap:p{1", sized(64)));
    std::uint64_t incarnation = 0, next = 0, bad = 0, all = 0;
    const auto receive = [&] {
        return drain(p, 256, [&](frame& f) noexcept {
            std::uint64_t number = 0;
            if (!read_numbered(f, number)) ++bad;
            if (number >> 32 != incarnation) {
                if (number >> 32 < incarnation) ++bad;
                incarnation = number >> 32;
                next = 0;
            }
            if ((number & 0xffffffffU) != next) ++bad;
            next = (number & 0xffffffffU) + 1;
            ++all;
        });
    };
    for (unsigned i = 1; i <= 100; ++i) {
        survivor<notes> said;
        process child([&] {
            context mine;
            auto q = reopen(mine, "netmap:p}1");
            if (!q) return false;
            said->opened = 1;
            for (std::uint64_t n = 0;;) {
                std::uint64_t at = static_cast<std::uint64_t>(i) << 32 | n;
                n += send(*q, 1 + static_cast<index_t>(n % 50), at);
                said->returned = n;
            }
        });
        ASSERT_TRUE(eventually([&] { (void)receive(); return said->opened.load() != 0; })) << i;
        const auto end = steady::now() + some_time(i);
        while (steady::now() < end) (void)receive();
        child.kill();
        while (receive() != 0) {}
        const std::uint64_t got = incarnation == i ? next : 0;
        EXPECT_GE(got, said->returned.load()) << "of incarnation " << i;
        ASSERT_EQ(bad, 0U) << i;
    }
    EXPECT_GT(all, 1000U);
    EXPECT_EQ(p.rx_stats().dropped(), 0U);
    EXPECT_EQ(p.rx_stats().reinits, 0U);
    EXPECT_EQ(p.rx_stats().frames, all);
}

TEST_F(shared_pipe_test, a_receiver_may_be_killed_at_any_time) {
    context ctx;
    auto p = value_or_throw(try_open<shared_pipe>(ctx, "netmap:p{1", sized(64)));
    survivor<notes> said;
    std::uint64_t sent = 0;
    const auto feed = [&] {
        std::uint64_t from = sent;
        sent += send(p, 40, from);
    };
    for (unsigned i = 1; i <= 101; ++i) {
        said->opened = 0;
        const std::uint64_t goal = i == 101 ? sent : ~0ULL;
        process child([&] {
            context mine;
            auto q = reopen(mine, "netmap:p}1");
            if (!q) return false;
            said->opened = 1;
            while (said->next < goal)
                (void)drain(*q, 20, [&](frame& f) noexcept {
                    std::uint64_t number = 0;
                    if (!read_numbered(f, number) || number > said->next || number + 64 < said->next) ++said->bad;
                    else if (number == said->next) ++said->next;
                    else ++said->repeated;
                });
            return true;
        });
        if (i == 101) {
            EXPECT_EQ(child.wait(), 0);
            break;
        }
        ASSERT_TRUE(eventually([&] { feed(); return said->opened.load() != 0; })) << i;
        for (const auto end = steady::now() + some_time(i); steady::now() < end;) feed();
        child.kill();
        ASSERT_EQ(said->bad.load(), 0U) << i;
    }
    EXPECT_EQ(said->next.load(), sent);
    EXPECT_EQ(p.tx_stats().frames, sent);
    EXPECT_EQ(p.tx_stats().reinits, 0U);
}

// Stops a child at each of its instructions in turn, while it moves frames from one direction to the other by swapping buffers, and
// kills it there: what the next one finds is whole. Every frame comes back once and in order.
TEST_F(shared_pipe_test, a_forwarder_may_be_killed_at_any_instruction) {
    context ctx;
    auto p = value_or_throw(try_open<shared_pipe>(ctx, "netmap:p{1", sized(8)));
    std::uint64_t sent = 0;
    tally t;
    // Runs the child's visit until `enough` says so of its instructions; returns how many there were.
    const auto visit = [&](auto&& enough) {
        const pid_t child = ::fork();
        if (child == 0) {
            context mine;
            auto q = reopen(mine, "netmap:p}1");
            if (!q) ::_exit(1);
            ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
            ::raise(SIGSTOP);
            (void)forward(*q, *q, 3);
            ::raise(SIGSTOP);
            ::_exit(0);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        EXPECT_TRUE(WIFSTOPPED(status));
        unsigned long n = 0;
        while (WIFSTOPPED(status) && !enough(n)) {
            ::ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr);
            ::waitpid(child, &status, 0);
            if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP) break;  // it has done all
            ++n;
        }
        ::kill(child, SIGKILL);
        ::waitpid(child, &status, 0);
        return n;
    };
    const auto feed = [&] {
        std::uint64_t from = sent;
        sent += send(p, 7, from);
        (void)p.tx().txsync();
    };
    feed();
    const unsigned long all = visit([](unsigned long) { return false; });
    take(p, 100, t);
    EXPECT_EQ(t.next, 3U);
    const auto check = [&](const char* where, unsigned long at) {
        take(p, 100, t);
        ASSERT_EQ(t.bad, 0U) << "killed after " << at << " of " << all << " instructions: " << where;
    };
    const unsigned long step = std::max(1UL, all / 15);
    for (unsigned long at = 1; at < all; at += step) {
        feed();
        (void)visit([&](unsigned long n) { return n == at; });
        check("anywhere", at);
    }
    // Where it matters most: the frames have been sent on and not been given back, and the other way round.
    auto& sent_on = p.rx().backend().link->tail;
    auto& given_back = p.tx().backend().link->head;
    for (unsigned long more = 0; more < 6; ++more) {
        for (const bool first : {true, false}) {
            feed();
            const auto tail = sent_on.load();
            const auto head = given_back.load();
            unsigned long since = 0;
            const unsigned long n = visit([&](unsigned long) { return (first ? sent_on.load() != tail : given_back.load() != head) && since++ == more; });
            check(first ? "sent on" : "given back", n);
        }
    }
    // The last one finishes.
    survivor<notes> said;
    process child([&] {
        context mine;
        auto q = reopen(mine, "netmap:p}1");
        if (!q) return false;
        while (said->returned == 0)
            if (forward(*q, *q, 64) == 0) std::this_thread::yield();
        return q->tx_stats().dropped() == 0 && q->rx_stats().dropped() == 0 && q->rx_stats().reinits == 0;
    });
    const std::uint64_t goal = sent + 500;
    EXPECT_TRUE(eventually([&] {
        if (sent < goal) feed();
        if (take(p, 100, t) == 0) std::this_thread::yield();
        return t.next >= goal && t.next == sent;
    })) << t.next << " of " << sent << " came back";
    said->returned = 1;
    EXPECT_EQ(child.wait(), 0);
    take(p, 100, t);
    EXPECT_EQ(t.bad, 0U);
    EXPECT_EQ(p.rx_stats().dropped(), 0U);
    EXPECT_EQ(p.rx_stats().reinits, 0U);
    EXPECT_EQ(p.tx_stats().dropped(), 0U);
}

// netmap:eth0{x: the dispatcher's port and the pipe are in one memory, which the other process maps.
TEST_F(shared_pipe_test, a_parent_in_memfd_memory_lends_its_buffers) {
    context_options co;
    co.shared_bufs = 4096;
    co.where = backing::memfd;
    context ctx(co), other;
    auto parent = value_or_throw(try_open<null_port>(ctx, "null:d@1", sized(64)));
    const auto before = parent.region().bufs().available();
    {
        ctx.set_region_of("d", parent.memory());
        auto a = value_or_throw(try_open<shared_pipe>(ctx, "netmap:d{x", sized(16)));
        ASSERT_EQ(&a.region(), &parent.region());
        auto b = value_or_throw(try_open<shared_pipe>(other, "netmap:d}x"));
        std::uint64_t next = 0;
        tally t;
        const auto* buffer = a.tx().buf();
        EXPECT_EQ(send(a, 5, next), 5U);
        EXPECT_EQ(b.rx().rxsync(), 5U);
        EXPECT_EQ(b.rx().buf() - reinterpret_cast<std::uint8_t*>(b.region().buf(0)), buffer - reinterpret_cast<std::uint8_t*>(a.region().buf(0)));
        EXPECT_EQ(take(b, 5, t), 5U);
        EXPECT_EQ(t.bad, 0U);
        // Closed while the worker lives, its buffers are the worker's; opened again, they are there.
        a.close();
        EXPECT_EQ(parent.region().bufs().available(), before - 32);
        a = value_or_throw(reopen(ctx, "netmap:d{x"));
        ASSERT_EQ(&a.region(), &parent.region());
        EXPECT_EQ(send(a, 5, next), 5U);
        b.close();
        std::this_thread::sleep_for(50ms);
    }
    EXPECT_EQ(parent.region().bufs().available(), before);
}

TEST_F(shared_pipe_test, is_monitored_in_its_own_process) {
    context one, two;
    auto a = value_or_throw(try_open<shared_pipe>(one, "netmap:p{1", sized(16)));
    auto b = value_or_throw(try_open<shared_pipe>(two, "netmap:p}1"));
    auto m = value_or_throw(try_open<monitor>(two, "netmap:p}1/r"));
    std::uint64_t sent = 0;
    tally t;
    EXPECT_EQ(send(a, 5, sent), 5U);
    EXPECT_EQ(take(b, 16, t), 5U);
    EXPECT_EQ(drain(m, 16), 5U);
}

}  // namespace
