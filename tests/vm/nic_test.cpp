// SPDX-License-Identifier: BSD-2-Clause
#include <csignal>
#include <sys/mman.h>
#include <sys/wait.h>

#include "nm/ports/e1000.hpp"
#include "nm/ports/netdev.hpp"
#include "nm/ports/nic.hpp"
#include "nm/ports/virtio_net.hpp"
#include "nm/ports/vmxnet3.hpp"
#include "vm/nic_fixture.hpp"

// Every device does the same: a test here is for all of them.
namespace {

using namespace nm;
using namespace nm::test;

using kinds = testing::Types<netdev, nic<e1000>, nic<virtio_net>, nic<vmxnet3>>;
struct kind_names {
    template <class P>
    static std::string GetName(int) {
        std::string name = "kernel";
        if constexpr (requires { P::device_type::name; }) name = P::device_type::name;
        std::replace(name.begin(), name.end(), '-', '_');  // which means something else in a filter
        return name;
    }
};
TYPED_TEST_SUITE(Nic, kinds, kind_names);

TYPED_TEST(Nic, carries_each_size_both_ways) {
    auto [a, b] = this->both();
    if (const auto mode = env("NM_MODE"); !mode.empty()) {
        EXPECT_EQ(a.mode(), mode);
    }
    constexpr std::uint64_t frames = 2910;  // each size from 60 to 1514 twice
    this->carries(a, b, frames);
    expect_conserved(a, b, frames);
    expect_conserved(b, a, frames);
}

TYPED_TEST(Nic, carries_bursts_of_the_smallest) {
    auto [a, b] = this->both();
    constexpr std::uint64_t frames = 20000;
    this->carries(a, b, frames, 200, idle::spin, [](std::uint32_t) { return 60; });
    expect_conserved(a, b, frames);
    expect_conserved(b, a, frames);
}

TYPED_TEST(Nic, carries_frames_larger_than_a_buffer) {
    const auto o = with_buffers(512);
    auto [a, b] = this->both(o);
    ASSERT_EQ(a.tx().buf_size(), 512U);
    this->carries(a, b, 1500, 32);
    EXPECT_GT(b.rx_stats().slots, b.rx_stats().frames);
}

TYPED_TEST(Nic, wakes_who_sleeps_in_epoll) {
    auto nics = this->both();  // by name: a lambda of C++20 may not capture a structured binding
    auto &a = nics.a, &b = nics.b;
    const epoll b_wakes{b.fd()};
    receiver got;
    got.first_stream = 1;
    const auto take = [&] {
        for (index_t i = 0; i < b.num_rx_rings(); ++i) {
            (void)b.rx(i).rxsync();
            (void)got.take(b.rx(i));
        }
    };
    take();
    b.arm(events::rx);
    (void)b_wakes.wait(20);  // the link's coming up may wake once
    take();
    b.arm(events::rx);
    EXPECT_FALSE(b_wakes.wait(50)) << "nothing came, and it woke";
    constexpr std::uint32_t rounds = 200;
    for (std::uint32_t i = 0; i < rounds; ++i) {
        take();
        b.arm(events::rx);
        ASSERT_TRUE(queue_frame(a.tx(), 1, i, mixed_size(i)));
        (void)a.tx().txsync();
        for (int tries = 0; got.frames <= i && tries < 3; ++tries) {
            ASSERT_TRUE(b_wakes.wait(2000)) << "frame " << i << " woke nobody";
            take();
            if (got.frames <= i) b.arm(events::rx);
        }
        ASSERT_EQ(got.frames, i + 1);
    }
    EXPECT_TRUE(got.clean()) << got;
}

TYPED_TEST(Nic, sleeps_while_it_carries_traffic) {
    auto [a, b] = this->both();
    this->carries(a, b, 2000, 16, idle::sleep);
}

TYPED_TEST(Nic, wakes_a_sender_when_there_is_room) {
    auto nics = this->both();  // by name: a lambda of C++20 may not capture a structured binding
    auto &a = nics.a, &b = nics.b;
    const epoll a_wakes{a.fd()};
    one_way<TypeParam, TypeParam> there{a, b};
    // Whatever the ring takes, at once; then it is full until the device has sent some.
    for (int round = 0; round < 20; ++round) {
        while (queue_frame(a.tx(), 0, there.next_seq[0], 200)) ++there.next_seq[0], ++there.sent;
        (void)a.tx().txsync();
        for (int tries = 0; a.tx().empty() && tries < 10; ++tries) {
            a.arm(events::tx);
            ASSERT_TRUE(a_wakes.wait(2000)) << "no room, and no wake-up";
            (void)a.tx().txsync();
        }
        ASSERT_FALSE(a.tx().empty());
        (void)there.receive();
    }
    for (int i = 0; i < 100 && there.got.frames != there.sent; ++i) {
        (void)a.tx().txsync();
        (void)there.receive();
        (void)::usleep(1000);
    }
    // More may have been under way than the other ring has room for: then the device loses some, and QEMU's hub may send others
    // later than those after them. Nobody changes one.
    EXPECT_EQ(there.got.corrupt, 0U) << there.got;
    EXPECT_GT(there.got.frames, 1000U);
    EXPECT_EQ(a.tx_stats().frames, there.sent + 1);
    EXPECT_EQ(b.rx_stats().frames, there.got.frames + 1);
    if constexpr (requires { a.device_counters(); }) {
        if (a.device_counters().tx_frames == 0) return;  // one that does not count
        EXPECT_EQ(a.device_counters().tx_frames, there.sent + 1);
    }
}

TYPED_TEST(Nic, carries_on_after_there_were_no_buffers) {
    auto [a, b] = this->both();
    for (int round = 0; round < 10; ++round) {
        one_way<TypeParam, TypeParam> there{a, b}, back{b, a};
        std::uint64_t arrived = 0;
        for (auto* w : {&there, &back}) w->window = ~0ULL, w->frames = ~0ULL;
        // Everything that the rings take, and nobody to receive it; then all that has come.
        for (int i = 0; i < 10; ++i) {
            for (auto* w : {&there, &back}) {
                while (queue_frame(w->from.tx(), 0, w->next_seq[0], 300)) ++w->next_seq[0];
                (void)w->from.tx().txsync();
            }
            (void)::usleep(2000);
        }
        for (int i = 0; i < 20; ++i) {
            for (auto* w : {&there, &back}) {
                (void)w->from.tx().txsync();
                arrived += w->receive();
            }
            (void)::usleep(1000);
        }
        EXPECT_GT(arrived, 0U);
        EXPECT_EQ(there.got.corrupt + back.got.corrupt, 0U);
    }
    this->carries(a, b, 500, 16, idle::sleep);
}

TYPED_TEST(Nic, opens_again_after_it_was_closed) {
    for (int i = 0; i < 5; ++i) {
        auto [a, b] = this->both();
        this->carries(a, b, 100, 32, idle::sleep);
    }
}

TYPED_TEST(Nic, notices_that_the_link_goes_and_comes) {
    const std::string id = env("NM_LINK_A");
    if (id.empty()) GTEST_SKIP() << "NM_LINK_A does not say what QEMU calls the first device";
    auto [a, b] = this->both();
    this->carries(a, b, 200, 32, idle::sleep);
    one_way<TypeParam, TypeParam> there{a, b}, back{b, a};
    there.streams_from(this->stream), back.streams_from(this->stream);
    ++this->stream;
    there.frames = back.frames = 1'000'000;
    for (int i = 0; i < 200; ++i) (void)there.step(), (void)back.step();
    ASSERT_TRUE(host("link " + id + " off"));
    events found = events::none;
    for (int i = 0; i < 30 && !any(found & events::error); ++i) {
        (void)there.step(), (void)back.step();
        found = nm::wait(a, events::rx, std::chrono::milliseconds{100});
    }
    EXPECT_TRUE(any(found & events::error)) << "the link is down and nobody was told";
    const auto down = a.status();
    EXPECT_FALSE(down);
    if (!down) std::printf("%s\n", down.error().text.c_str());
    ASSERT_TRUE(host("link " + id + " on"));
    for (int i = 0; i < 100 && !a.status(); ++i) (void)::usleep(50'000);
    ASSERT_TRUE(a.status()) << a.status().error().text;
    // What was sent in the meantime may come now, or never.
    for (int i = 0; i < 50; ++i) {
        (void)a.tx().txsync(), (void)b.tx().txsync();
        (void)there.receive(), (void)back.receive();
        (void)::usleep(2000);
    }
    EXPECT_EQ(there.got.corrupt + back.got.corrupt, 0U);
    this->carries(a, b, 500, 32, idle::sleep);
}

TYPED_TEST(Nic, refuses_a_device_in_use) {
    auto a = this->opened(this->a_name);
    context other;
    const auto again = try_open<TypeParam>(other, this->a_name);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code.value(), EBUSY) << again.error().text;
    std::printf("%s\n", again.error().text.c_str());
    EXPECT_NE(again.error().text.find(this->a_name.substr(this->a_name.find(':') + 1)), std::string::npos);
}

// The host sends each frame back (host/echo). Where it has a buffer of its own for each packet, like a socket's, that fills.
template <class P>
class NicToHost : public Nic<P> {};
TYPED_TEST_SUITE(NicToHost, kinds, kind_names);

TYPED_TEST(NicToHost, exchanges_frames) {
    auto a = this->alone();
    one_way<TypeParam, TypeParam> around{a, a};
    around.streams_from(1);
    around.frames = 1455;
    around.window = 16;
    const auto r = exchange_how(idle::sleep, around);
    EXPECT_TRUE(r.finished) << around.sent << " sent, " << around.got;
    EXPECT_TRUE(around.got.clean()) << around.got;
    EXPECT_EQ(around.got.frames, 1455U);
    EXPECT_EQ(r.overslept, 0U) << "of " << r.sleeps << " sleeps";
    expect_conserved(a, a, 1455);
    std::printf("%s: 1455 frames to the host and back in %.2f s, %llu sleeps\n", a.mode().c_str(), r.seconds, static_cast<unsigned long long>(r.sleeps));
}

// Ended by kill -9 from the test below, at full rate.
TYPED_TEST(Nic, DISABLED_victim) {
    ::alarm(20);
    auto o = with_buffers(2048, 640);  // few, so that it is soon there
    o.tx_slots = o.rx_slots = 128;
    auto a = this->opened(this->a_name, o);
    receiver got;
    for (std::uint32_t seq = 0;;) {
        while (queue_frame(a.tx(), 0, seq, 1514)) ++seq;
        (void)a.tx().txsync();
        (void)a.rx().rxsync();
        a.rx().set_head(a.rx().tail());
    }
}

TYPED_TEST(Nic, survives_kill_9_at_full_rate) {
    const int rounds = env_number("NM_ROUNDS", 50);
    const std::string suite = testing::UnitTest::GetInstance()->current_test_info()->test_suite_name();
    const std::string filter = "--gtest_filter=" + suite + ".DISABLED_victim";
    auto b = this->opened(this->b_name);
    one_way<TypeParam, TypeParam> back{b, b};
    back.frames = ~0ULL, back.window = ~0ULL;
    back.size = [](std::uint32_t) { return 1514; };
    const auto flood = [&](auto until) {
        for (int i = 0; i < 20000; ++i) {
            while (queue_frame(b.tx(), 0, back.next_seq[0]++, 1514)) {}
            (void)b.tx().txsync();
            (void)back.receive();
            if (until()) return true;
            (void)::usleep(200);
        }
        return false;
    };
    int killed = 0;
    for (int round = 0; round < rounds; ++round) {
        const auto before = back.got.frames;
        const pid_t child = ::fork();
        if (child == 0) {
            ::execl("/proc/self/exe", "nm-vm-tests", filter.c_str(), "--gtest_also_run_disabled_tests", "--gtest_output=", static_cast<char*>(nullptr));
            ::_exit(127);
        }
        ASSERT_TRUE(flood([&] { return back.got.frames > before + 50; })) << "nothing came from the program that was to be killed";
        (void)::usleep(static_cast<useconds_t>(round * 397 % 5000));
        ASSERT_EQ(::kill(child, SIGKILL), 0);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        // The memory that the dead one had is anybody's now: it must stay as it is written, whatever still arrives for it.
        constexpr std::size_t size = std::size_t{4} << 20U;
        auto* canary = static_cast<std::uint64_t*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        ASSERT_NE(static_cast<void*>(canary), MAP_FAILED);
        for (std::size_t i = 0; i < size / 8; ++i) canary[i] = i ^ 0x5ca1ab1e5ca1ab1eU;
        int left = 10;
        (void)flood([&] { return --left == 0; });
        std::size_t changed = 0;
        for (std::size_t i = 0; i < size / 8; ++i) changed += canary[i] != (i ^ 0x5ca1ab1e5ca1ab1eU);
        ASSERT_EQ(changed, 0U) << "words written by somebody else, round " << round;
        ::munmap(canary, size);
    }
    EXPECT_EQ(killed, rounds);
    // The next program finds a device that works.
    for (int i = 0; i < 20; ++i) {
        (void)back.receive();
        (void)::usleep(1000);
    }
    auto a = this->opened(this->a_name);
    (void)::usleep(1'100'000);  // as in both()
    this->stream = 1;
    this->carries(a, b, 500, 32, idle::sleep);
}

}  // namespace
