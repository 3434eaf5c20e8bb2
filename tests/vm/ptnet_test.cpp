// SPDX-License-Identifier: BSD-2-Clause
#include <cstdlib>
#include <gtest/gtest.h>
#include <string>

#include "nm/fuse.hpp"
#include "nm/ptnet/port.hpp"
#include "vm/traffic.hpp"

// Ports that the host passes through (tests/vm/host/ptnet). NM_A is one, NM_B another of the same device that A's frames come out of;
// or there is an echo behind A. NM_MODE is how they are to be opened.
namespace nm::test {
namespace {

[[nodiscard]] std::string said(const char* name) {
    const char* v = std::getenv(name);
    return v == nullptr ? std::string() : v;
}

class Ptnet : public testing::Test {
protected:
    context ctx;
    ptnet_port open(const char* which) {
        auto p = nm::try_open<ptnet_port>(ctx, said(which));
        if (!p) ADD_FAILURE() << p.error().text;
        return std::move(p).value();
    }
    template <class P>
    static void print(const char* what, const exchange_result& r, const receiver& got, P& port) {
        std::printf("%s: %llu frames in %.3f s, slept %llu times, %llu of them too long; %s\n", what, static_cast<unsigned long long>(got.frames), r.seconds,
                    static_cast<unsigned long long>(r.sleeps), static_cast<unsigned long long>(r.overslept), port.mode().c_str());
    }
};

TEST_F(Ptnet, is_what_the_host_made_it) {
    auto a = open("NM_A");
    std::printf("%s: %s, %s\n", a.name().c_str(), a.mode().c_str(), a.info().reason.c_str());
    if (!said("NM_MODE").empty()) { EXPECT_EQ(a.mode(), said("NM_MODE")); }
    EXPECT_TRUE(a.status());
    EXPECT_TRUE(a.link_up());
    EXPECT_NE(a.mac(), (std::array<std::uint8_t, 6>{}));
    const auto asked = nm::query<ptnet_port>(ctx, said("NM_A"));
    ASSERT_TRUE(asked) << asked.error().text;
    EXPECT_EQ(asked->tx_slots, a.info().tx_slots);
    auto again = nm::try_open<ptnet_port>(ctx, said("NM_A"));
    ASSERT_TRUE(again) << again.error().text;
    EXPECT_EQ(again->memory(), a.memory());
}

TEST_F(Ptnet, carries_both_ways) {
    auto a = open("NM_A"), b = open("NM_B");
    for (const auto how : {idle::spin, idle::sleep}) {
        one_way<ptnet_port, ptnet_port> there{a, b}, back{b, a};
        there.size = back.size = [](std::uint32_t seq) { return mixed_size(seq, 1500); };
        there.frames = back.frames = how == idle::spin ? 20'000 : 3'000;
        const std::uint16_t first = how == idle::spin ? 0 : 20;
        there.streams_from(first);
        back.streams_from(first);
        const auto r = exchange(there, back, how);
        EXPECT_TRUE(r.finished);
        EXPECT_TRUE(there.got.clean()) << there.got;
        EXPECT_TRUE(back.got.clean()) << back.got;
        EXPECT_EQ(there.got.frames, there.frames);
        EXPECT_EQ(back.got.frames, back.frames);
        EXPECT_EQ(r.overslept, 0U) << "of " << r.sleeps;
        print(how == idle::spin ? "polling" : "sleeping", r, there.got, a);
    }
    EXPECT_EQ(a.tx_stats().dropped() + b.tx_stats().dropped() + a.rx_stats().dropped() + b.rx_stats().dropped(), 0U);
}

TEST_F(Ptnet, comes_back_from_an_echo) {
    auto a = open("NM_A");
    // What came for whoever had the port before.
    for (int quiet = 0; !said("NM_LEFT_OVER").empty() && quiet < 50; ++quiet) {
        (void)a.rx().rxsync();
        if (!a.rx().empty()) quiet = 0;
        while (!a.rx().empty()) a.rx().advance();
        (void)::usleep(2000);
    }
    for (const auto how : {idle::spin, idle::sleep}) {
        one_way<ptnet_port, ptnet_port> way{a, a};
        way.size = [](std::uint32_t seq) { return mixed_size(seq, 1500); };
        way.frames = how == idle::spin ? 20'000 : 3'000;
        way.streams_from(how == idle::spin ? 0 : 20);
        const auto r = exchange_how(how, way);
        EXPECT_TRUE(r.finished);
        EXPECT_TRUE(way.got.clean()) << way.got;
        EXPECT_EQ(way.got.frames, way.frames);
        EXPECT_EQ(r.overslept, 0U) << "of " << r.sleeps;
        print(how == idle::spin ? "polling" : "sleeping", r, way.got, a);
    }
}

/// The other guest: sends back what comes, until nothing has for some seconds.
TEST_F(Ptnet, echoes) {
    using namespace std::chrono_literals;
    auto a = open("NM_A");
    const auto patience = std::chrono::seconds(said("NM_PATIENCE").empty() ? 5 : std::atoi(said("NM_PATIENCE").c_str()));
    auto last = std::chrono::steady_clock::now() + 10s;
    std::uint64_t frames = 0;
    while (std::chrono::steady_clock::now() < last + patience) {
        const auto n = nm::forward(a, a, 256, [](frame& f) noexcept {
            if (f.first() && f.size() >= 12) std::swap_ranges(f.data(), f.data() + 6, f.data() + 6);
            return verdict::pass;
        });
        frames += n;
        if (n != 0) last = std::chrono::steady_clock::now();
        else (void)nm::wait(a, events::rx, 100ms);
    }
    std::printf("echoed %llu frames\n", static_cast<unsigned long long>(frames));
    EXPECT_GT(frames, 0U);
}

TEST_F(Ptnet, says_what_to_do) {
    const auto refusal = [&](const std::string& name) {
        const auto p = nm::try_open<ptnet_port>(ctx, name);
        std::printf("%s\n", p ? "opens" : p.error().text.c_str());
        return p ? std::string() : p.error().text;
    };
    const auto has = [&](const std::string& text, const char* what) { return text.find(what) != std::string::npos; };
    const auto a = said("NM_A");
    EXPECT_TRUE(has(refusal(a + ":9"), "no number 9"));
    EXPECT_TRUE(has(refusal("ptnet:0000:00:1f.7"), "there is no PCI device"));
    EXPECT_TRUE(has(refusal("ptnet:0000:00:00.0"), "not 1af4:1110"));
    EXPECT_TRUE(has(refusal(a + "@conf:mode=magic"), "there are vfio and sysfs"));
    if (said("NM_MODE") == "ptnet sysfs") { EXPECT_TRUE(has(refusal(a + "@conf:mode=vfio"), "nmctl bind")); }
    if (said("NM_MODE") == "ptnet vfio") { EXPECT_TRUE(has(refusal(a + "@conf:mode=sysfs"), "nmctl unbind")); }
    if (!said("NM_PLAIN").empty()) { EXPECT_TRUE(has(refusal(said("NM_PLAIN")), "ivshmem-doorbell")); }
}

}  // namespace
}  // namespace nm::test
