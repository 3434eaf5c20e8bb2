// SPDX-License-Identifier: BSD-2-Clause
// Frames of several slots on a switch.
#include "nm/vale/odd.hpp"

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "support/vale_frames.hpp"

namespace {

using nm::cause;
using nm::index_t;
using namespace nm::test;

TEST(ValeChains, ArriveSlotPerSlotAcrossTheRingsEnd) {
    for (const std::uint32_t size : {2112U, 4096U, 256U}) {
        nm::context ctx;
        test_switch sw(ctx, "vale0");
        auto a = sw.new_port("a", with(2112, 64)), b = sw.new_port("b", with(size, 64));
        const auto pieces = pieces_of(frame_to(1, 100 + 60 + 2112 + 1), {100, 60, 2112, 1});
        for (int round = 0; round < 200; ++round) {
            send(a, pieces);
            send(a, {frame_to(1, 60)});
            const auto got = receive(b);
            ASSERT_EQ(got.size(), 2U);
            EXPECT_EQ(got[0].data, frame_to(1, 2273));
            sizes lens{100, 60};
            for (std::size_t left = 2112; left != 0; left -= lens.back()) lens.push_back(std::min<std::size_t>(left, size));
            lens.push_back(1);
            EXPECT_EQ(got[0].lens, lens);
            EXPECT_EQ(got[1].data, frame_to(1, 60));
        }
        expect_conserved(sw);
    }
}

TEST(ValeChains, FloodedOnesGoToAllInOrder) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b", with(512)), c = sw.new_port("c");
    queue(a, {frame_to(1, 60, 1)});
    queue(a, pieces_of(frame_to(255, 700, 2), {100}));
    queue(a, {frame_to(1, 61, 3)});
    queue(a, {frame_to(2, 62, 4)});
    queue(a, pieces_of(frame_to(1, 800, 5), {14, 14}));
    a.tx().txsync();
    const auto at_b = receive(b), at_c = receive(c);
    ASSERT_EQ(at_b.size(), 4U);
    EXPECT_EQ(at_b[1].data, frame_to(255, 700, 2));
    EXPECT_EQ(at_b[1].lens, (sizes{100, 512, 88}));
    EXPECT_EQ(at_b[3].data, frame_to(1, 800, 5));
    ASSERT_EQ(at_c.size(), 2U);
    EXPECT_EQ(at_c[0].data, frame_to(255, 700, 2));
    EXPECT_EQ(at_c[0].lens, (sizes{100, 600}));
    EXPECT_EQ(sw.stats().replicas, 1U);
    EXPECT_EQ(a.tx_stats().frames, 5U);
    expect_conserved(sw);
}

TEST(ValeChains, MoreThan64SlotsOrThanTheRingHasAreBadChains) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b", with(256)), c = sw.new_port("c", with(2112, 8));
    // 8 slots of 256 each: 8 times 2048 is 64 slots, and one byte more is too much.
    const std::vector<std::size_t> lens(8, 2048);
    send(a, pieces_of(frame_to(1, 8 * 2048), lens));
    send(a, pieces_of(frame_to(1, 8 * 2048 + 1), lens));
    send(a, pieces_of(frame_to(1, 100), {50}));
    EXPECT_EQ(b.rx_stats().dropped(cause::bad_chain), 1U);
    auto got = receive(b);
    ASSERT_EQ(got.size(), 2U);
    EXPECT_EQ(got[0].lens.size(), 64U);
    EXPECT_EQ(got[1].data.size(), 100U);
    const std::vector<std::size_t> small(7, 20);
    send(a, pieces_of(frame_to(2, 141), small));
    send(a, pieces_of(frame_to(2, 140), small));
    EXPECT_EQ(c.rx_stats().dropped(cause::bad_chain), 1U);
    got = receive(c);
    ASSERT_EQ(got.size(), 1U);
    EXPECT_EQ(got[0].lens.size(), 7U);
    expect_conserved(sw);
}

TEST(ValeChains, WholeOrNotAtAll) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    nm::open_options small;
    small.rx_slots = 16;
    auto a = sw.new_port("a"), b = sw.new_port("b", small);
    const auto ten = pieces_of(frame_to(1, 200), std::vector<std::size_t>(10, 20));
    queue(a, ten);
    queue(a, ten);
    queue(a, {frame_to(1, 60)});
    a.tx().txsync();
    EXPECT_EQ(b.rx_stats().dropped(cause::full), 2U) << "what would overtake does not go either";
    EXPECT_EQ(receive(b).size(), 1U);
    send(a, ten);
    send(a, ten);
    send(a, {frame_to(1, 60)});
    EXPECT_EQ(receive(b).size(), 2U);
    EXPECT_EQ(b.rx_stats().dropped(cause::full), 3U);
    for (int i = 0; i < 20; ++i) send(a, ten);
    EXPECT_EQ(receive(b).size(), 1U);
    EXPECT_EQ(b.rx_stats().dropped(cause::full), 22U);
    expect_conserved(sw);
}

TEST(ValeChains, BadOnesAreDroppedWholeAndTheNextPasses) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    send(a, pieces_of(frame_to(1, 100), {13}));
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_len), 1U);
    send(a, pieces_of(frame_to(1, 100), {14}));
    EXPECT_EQ(receive(b).size(), 1U);
    // For ever, 65, with nothing in one of them.
    for (int i = 0; i < 500; ++i) {
        queue(a, {frame_to(1, 60)});
        a.tx().slot((a.tx().head() + 1023) % 1024).flags = nm::ns_morefrag;
        if (i % 100 == 99) a.tx().txsync();
    }
    queue(a, {frame_to(1, 60)});
    a.tx().txsync();
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_chain), 1U);
    EXPECT_TRUE(receive(b).empty());
    send(a, pieces_of(frame_to(1, 65 * 20), std::vector<std::size_t>(65, 20)));
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_chain), 2U);
    send(a, pieces_of(frame_to(1, 64 * 20), std::vector<std::size_t>(64, 20)));
    EXPECT_EQ(receive(b).size(), 1U);
    send(a, {frame_to(1, 60), {}, frame_to(1, 60)});
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_chain), 3U);
    EXPECT_TRUE(receive(b).empty());
    send(a, {frame_to(1, 60)});
    EXPECT_EQ(receive(b).size(), 1U);
    expect_conserved(sw);
}

TEST(ValeChains, OnesThatAreSentByHalvesArriveWhole) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    const auto pieces = pieces_of(frame_to(1, 300), {100, 100});
    for (std::size_t k = 0; k < 3; ++k) {
        queue(a, {pieces[k]});
        if (k != 2) a.tx().slot((a.tx().head() + 1023) % 1024).flags = nm::ns_morefrag;
        a.tx().txsync();
        EXPECT_EQ(receive(b).size(), k == 2 ? 1U : 0U);
    }
    expect_conserved(sw);
}

TEST(ValeChains, AReaderWithoutABufferLosesThatFrame) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    const std::uint32_t was = b.rx().slot(4).buf_idx;
    b.rx().slot(4).buf_idx = 0xffffffffU;
    const auto three = pieces_of(frame_to(1, 300), {100, 100});
    for (int i = 0; i < 3; ++i) queue(a, three);
    a.tx().txsync();
    b.rx().slot(4).buf_idx = was;
    EXPECT_EQ(receive(b).size(), 2U);
    EXPECT_EQ(b.rx_stats().dropped(cause::bad_idx), 1U);
    expect_conserved(sw);
}

TEST(ValeChains, InOneRegionNoBufferIsLost) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    nm::open_options o;
    o.mem_id = 1;
    o.tx_slots = 32;
    std::deque<nm::vale_port> ports;
    for (const char* name : {"a", "b", "c"}) ports.push_back(sw.new_port(name, o));
    ports.push_back(sw.new_port("d", with(256, 32)));
    auto& first = ports[0];
    const std::uint32_t mine = first.tx().slot(1).buf_idx, theirs = ports[1].rx().slot(1).buf_idx;
    send(first, pieces_of(frame_to(1, 300), {100, 100}));
    ports[1].rx().rxsync();
    EXPECT_EQ(ports[1].rx().slot(1).buf_idx, mine);
    EXPECT_NE(ports[1].rx().slot(1).flags & nm::ns_buf_changed, 0);
    EXPECT_EQ(first.tx().slot(1).buf_idx, theirs);
    EXPECT_NE(first.tx().slot(1).flags & nm::ns_buf_changed, 0);
    EXPECT_EQ(receive(ports[1]).size(), 1U);
    std::mt19937 random(1);
    for (int i = 0; i < 20000; ++i) {
        auto& p = ports[random() % 4];
        p.tx().txsync();
        if (random() % 3 != 0) {
            const auto to = static_cast<std::uint8_t>(random() % 6 == 5 ? 255 : random() % 5);
            std::vector<std::size_t> lens(random() % 8, 1 + random() % 200);
            const std::size_t rest = 1 + random() % 200;
            std::size_t len = rest;
            for (const auto n : lens) len += n;
            queue(p, pieces_of(frame_to(to, len), lens));
            if (random() % 2 == 0) p.tx().txsync();
        } else {
            for (const auto& f : receive(p)) EXPECT_EQ(f.data, frame_to(f.data[0], f.data.size()));
        }
    }
    std::map<std::uint32_t, int> seen;
    for (auto& p : ports) {
        p.tx().txsync();
        if (&p == &ports[3]) break;
        for (index_t i = 0; i < 32; ++i) ++seen[p.tx().slot(i).buf_idx], ++seen[p.rx().slot(i).buf_idx];
    }
    EXPECT_EQ(seen.size(), 3U * 64U);
    EXPECT_GT(seen.begin()->first, 1U);
    EXPECT_GT(sw.stats().delivered, 1000U);
    expect_conserved(sw);
}

// Ports that come and go while chains are on their way to them.
TEST(ValeChains, SendersComeAndGo) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            std::mt19937 random(t);
            for (int round = 0; round < 30; ++round) {
                auto o = with(t % 2 == 0 ? 2112 : 256, 64);
                o.vnet_hdr = t == 3 ? 12 : 0;
                auto made = sw.try_new_port("t" + std::to_string(t), o);
                ASSERT_TRUE(made) << made.error().text;
                auto p = std::move(*made);
                for (int i = 0; i < 30; ++i) {
                    bytes f = frame_to(random() % 5 == 4 ? 255 : static_cast<std::uint8_t>(random() % 4), 20 + random() % 300);
                    if (t == 3) f.insert(f.begin(), 12, 0);
                    queue(p, pieces_of(f, {32, 40, 50}));
                    if (i % 4 == 0) p.tx().txsync();
                    if (i % 3 == 0) (void)receive(p);
                }
                p.tx().txsync();
                if (round % 3 == 0) (void)sw.detach("t" + std::to_string((t + 1) % 4)).has_value();
            }
        });
    for (auto& t : threads) t.join();
    EXPECT_TRUE(sw.ports().empty());
    EXPECT_GT(sw.stats().accepted, 2000U);
    expect_conserved(sw);
}

}  // namespace
