// SPDX-License-Identifier: BSD-2-Clause
// What a user, or whoever else can write to a ring, may put there: nothing crashes, nothing is delivered twice, all is
// counted.
#include <gtest/gtest.h>

#include "nm/sync.hpp"
#include "support/pipes.hpp"

namespace {

using namespace nm::test;
using nm::cause;
using nm::index_t;

// Brings the tx ring of a pipe into the private state (hwcur, hwtail) by sending and receiving.
void drive(pipe_pair& p, index_t hwcur, index_t used) {
    auto& tx = p.a.tx();
    const auto one = [](nm::frame& f) noexcept { f.resize(60); };
    while (tx.truth().hwcur != hwcur) {
        nm::generate(tx, 1, one);
        nm::drain(p.b, 1);
        tx.txsync();
    }
    for (index_t i = 0; i < used; ++i) {
        nm::generate(tx, 1, one);
    }
    tx.txsync();
}

// Every private state of rings of 2 to 8 slots against every head, cur and tail: a legal pair is taken as it is, any
// other is counted once and changes nothing, and tail is always restored.
TEST(hostile_ring, every_index_in_every_state) {
    for (index_t n = 2; n <= 8; ++n)
        for (index_t start = 0; start < n; ++start)
            for (index_t used = 0; used < n; ++used) {
                pipe_pair p(n);
                auto& tx = p.a.tx();
                drive(p, start, used);
                for (index_t head = 0; head <= n + 1; ++head)
                    for (index_t cur = 0; cur <= n + 1; ++cur) {
                        const nm::kring before = tx.truth();
                        const auto stats = tx.stats();
                        tx.set_head(head);
                        tx.set_cur(cur);
                        tx.shared().tail = (head * 5 + cur) % (n + 2);
                        for (index_t i = before.hwcur; i != before.hwtail; i = nm::ring_next(i, n)) tx.slot(i).len = 60;
                        const bool legal = before.legal(head, cur);
                        const index_t pushed = tx.txsync();
                        ASSERT_EQ(tx.tail(), tx.truth().hwtail);
                        if (legal) {
                            ASSERT_EQ(pushed, nm::ring_distance(before.hwcur, head, n));
                            ASSERT_EQ(tx.truth().hwcur, head);
                        } else {
                            ASSERT_EQ(pushed, 0U);
                            ASSERT_EQ(tx.stats().reinits, stats.reinits + 1);
                            ASSERT_EQ(tx.truth().hwcur, before.hwcur);
                            ASSERT_EQ(tx.head(), before.hwcur);
                            ASSERT_EQ(tx.cur(), before.hwcur);
                        }
                        // Back to the state under test.
                        while (nm::drain(p.b, n) != 0) {}
                        tx.set_head(tx.truth().hwcur);
                        tx.txsync();
                        drive(p, before.hwcur, 0);
                        index_t refill = nm::ring_distance(before.hwtail, nm::ring_prev(before.hwcur, n), n);
                        for (; refill != 0; --refill) {
                            nm::generate(tx, 1, [](nm::frame& f) noexcept { f.resize(60); });
                        }
                        tx.txsync();
                        drive(p, tx.truth().hwcur, 0);
                    }
                while (nm::drain(p.b, n) != 0) {}
                expect_conserved(p.a, p.b);
            }
}

TEST(hostile_ring, receiver_indexes) {
    for (index_t n = 2; n <= 8; ++n)
        for (index_t have = 0; have < n; ++have)
            for (index_t head = 0; head <= n + 1; ++head)
                for (index_t cur = 0; cur <= n + 1; ++cur) {
                    pipe_pair p(n);
                    auto& rx = p.b.rx();
                    std::uint32_t sent = 0;
                    send_numbered(p.a, have, sent);
                    rx.rxsync();
                    const nm::kring before = rx.truth();
                    ASSERT_EQ(nm::ring_distance(before.hwcur, before.hwtail, n), have);
                    rx.set_head(head);
                    rx.set_cur(cur);
                    const bool legal = before.legal(head, cur);
                    rx.rxsync();
                    ASSERT_EQ(rx.stats().reinits, legal ? 0U : 1U);
                    ASSERT_EQ(rx.truth().hwcur, legal ? head : before.hwcur);
                    ASSERT_EQ(rx.tail(), rx.truth().hwtail);
                    // What was not given back is still there, in order, once.
                    std::uint32_t expected = legal ? head : 0;
                    bool in_order = true;
                    ASSERT_EQ(take_numbered(rx, n, expected, in_order), have - (legal ? head : 0));
                    ASSERT_TRUE(in_order);
                }
}

TEST(hostile_ring, bad_slots_are_counted_and_the_next_good_one_passes) {
    const std::uint32_t wild[] = {0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    for (const auto idx : wild) {
        pipe_pair p(8);
        auto& tx = p.a.tx();
        const auto own = tx.slot().buf_idx;
        tx.slot().len = 60;
        tx.slot().buf_idx = idx;
        tx.advance();
        tx.slot().len = 61;
        tx.advance();
        EXPECT_EQ(tx.txsync(), 2U);
        EXPECT_EQ(tx.stats().dropped(cause::bad_idx), 1U);
        index_t lens = 0;
        EXPECT_EQ(nm::drain(p.b, 8, [&](nm::frame& f) noexcept { lens += f.size(); }), 1U);
        EXPECT_EQ(lens, 61U);
        expect_conserved(p.a, p.b);
        // The pair's buffer is the sender's again.
        tx.txsync();
        EXPECT_EQ(tx.slot(0).buf_idx, own);
    }
    pipe_pair p(8);
    auto& tx = p.a.tx();
    tx.slot().len = static_cast<std::uint16_t>(tx.buf_size() + 1);
    tx.advance();
    tx.txsync();
    EXPECT_EQ(tx.stats().dropped(cause::bad_len), 1U);
    EXPECT_EQ(nm::drain(p.b, 8), 0U);
    expect_conserved(p.a, p.b);
}

// A receiver that gives back nonsense as a buffer: the sender keeps its own.
TEST(hostile_ring, nonsense_that_a_receiver_gives_back) {
    pipe_pair p(4);
    for (int round = 0; round < 20; ++round) {
        ASSERT_EQ(nm::generate(p.a, 1, [](nm::frame& f) noexcept { f.resize(60); }), 1U);
        p.b.rx().rxsync();
        p.b.rx().slot().buf_idx = 0xdeadbeef;
        p.b.rx().slot().flags = nm::ns_buf_changed;
        p.b.rx().advance();
        p.b.rx().rxsync();
        p.a.tx().txsync();
        for (index_t i = 0; i < 4; ++i) ASSERT_TRUE(p.a.tx().buffers().valid(p.a.tx().slot(i).buf_idx));
    }
    EXPECT_EQ(p.b.rx().stats().dropped(cause::bad_idx), 20U);
}

index_t send_chain(nm::pipe& p, index_t frags, bool ends, std::uint16_t len = 100) {
    auto& tx = p.tx();
    for (index_t i = 0; i < frags; ++i) {
        tx.slot().len = len;
        tx.slot().flags = i + 1 == frags && ends ? std::uint16_t{0} : nm::ns_morefrag;
        tx.advance();
    }
    return tx.txsync();
}

TEST(hostile_ring, chains_up_to_64_pass_and_longer_ones_drop_whole) {
    for (index_t frags = 1; frags <= 70; ++frags) {
        pipe_pair p(256);
        send_chain(p.a, frags, true);
        send_chain(p.a, 1, true, 77);
        index_t slots = 0, last_len = 0;
        const index_t frames = nm::drain(p.b, 256, [&](nm::frame& f) noexcept {
            ++slots;
            last_len = f.size();
        });
        const bool good = frags <= nm::max_frags;
        EXPECT_EQ(frames, good ? 2U : 1U) << frags;
        EXPECT_EQ(slots, good ? frags + 1 : 1U) << frags;
        EXPECT_EQ(last_len, 77U);
        EXPECT_EQ(p.a.tx().stats().dropped(cause::bad_chain), good ? 0U : 1U);
        expect_conserved(p.a, p.b);
    }
}

TEST(hostile_ring, a_chain_that_never_ends_does_not_stop_the_ring) {
    for (const unsigned n : {4U, 8U, 65U, 100U}) {
        pipe_pair p(n);
        for (int round = 0; round < 30; ++round) {
            send_chain(p.a, p.a.tx().space(), false);
            nm::drain(p.b, n);
        }
        EXPECT_GT(p.a.tx().stats().dropped(cause::bad_chain), 0U) << n;
        // It ends at last, and a good frame passes.
        p.a.tx().txsync();
        ASSERT_GT(p.a.tx().space(), 1U) << n;
        send_chain(p.a, 1, true);
        nm::drain(p.b, n);
        p.a.tx().txsync();
        send_chain(p.a, 1, true, 99);
        index_t len = 0;
        EXPECT_EQ(nm::drain(p.b, n, [&](nm::frame& f) noexcept { len = f.size(); }), 1U) << n;
        EXPECT_EQ(len, 99U);
        expect_conserved(p.a, p.b);
    }
}

TEST(hostile_ring, a_frame_in_pieces_is_seen_only_when_whole) {
    pipe_pair p(16);
    send_chain(p.a, 3, false);
    EXPECT_EQ(p.b.rx().rxsync(), 0U);
    send_chain(p.a, 2, true);
    EXPECT_EQ(p.b.rx().rxsync(), 5U);
    EXPECT_EQ(nm::drain(p.b, 16), 1U);
    expect_conserved(p.a, p.b);
}

TEST(hostile_ring, zero_length_and_bad_fragments_take_the_frame_with_them) {
    for (const int kind : {0, 1, 2}) {
        pipe_pair p(16);
        auto& tx = p.a.tx();
        for (index_t i = 0; i < 5; ++i) {
            tx.slot().len = 50;
            tx.slot().flags = i < 4 ? nm::ns_morefrag : std::uint16_t{0};
            if (i == 2 && kind == 0) tx.slot().len = 0;
            if (i == 2 && kind == 1) tx.slot().buf_idx = 0xffffffff;
            if (i == 4 && kind == 2) tx.slot().len = 60000;
            tx.advance();
        }
        tx.txsync();
        send_chain(p.a, 2, true);
        EXPECT_EQ(nm::drain(p.b, 16), 1U) << kind;
        EXPECT_EQ(p.a.tx_stats().dropped(), 1U) << kind;
        expect_conserved(p.a, p.b);
    }
}

}  // namespace
