// SPDX-License-Identifier: BSD-2-Clause
#include "nm/ports/pipe.hpp"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "nm/ports/null.hpp"
#include "support/pipes.hpp"

namespace {

using namespace nm::test;
using nm::index_t;

TEST(pipe, carries_frames_in_order_both_ways) {
    pipe_pair p(16);
    std::uint32_t sent = 0, got = 0;
    bool in_order = true;
    for (int round = 0; round < 100; ++round) {
        EXPECT_EQ(send_numbered(p.a, 7, sent), 7U);
        EXPECT_EQ(take_numbered(p.b, 100, got, in_order), 7U);
    }
    EXPECT_TRUE(in_order);
    std::uint32_t back = 0, back_got = 0;
    EXPECT_EQ(send_numbered(p.b, 5, back), 5U);
    EXPECT_EQ(take_numbered(p.a, 5, back_got, in_order), 5U);
    EXPECT_TRUE(in_order);
    expect_conserved(p.a, p.b);
    expect_conserved(p.b, p.a);
}

TEST(pipe, pushes_back_at_one_less_than_the_ring_and_loses_nothing) {
    for (const unsigned n : {2U, 3U, 5U, 8U, 1000U}) {
        pipe_pair p(n);
        std::uint32_t sent = 0, got = 0;
        bool in_order = true;
        EXPECT_EQ(send_numbered(p.a, n + 5, sent), n - 1);
        EXPECT_EQ(send_numbered(p.a, 1, sent), 0U);
        EXPECT_EQ(take_numbered(p.b, 1, got, in_order), 1U);
        sent = n - 1;
        EXPECT_EQ(send_numbered(p.a, 5, sent), 1U);
        EXPECT_EQ(take_numbered(p.b, n + 5, got, in_order), n - 1);
        EXPECT_TRUE(in_order);
        EXPECT_EQ(got, n);
        expect_conserved(p.a, p.b);
    }
}

TEST(pipe, hands_over_the_buffer_itself) {
    pipe_pair p(8);
    auto& tx = p.a.tx();
    const auto* sent_from = tx.buf();
    nm::generate(tx, 1, [](nm::frame& f) noexcept { f.resize(60); });
    p.b.rx().rxsync();
    EXPECT_EQ(p.b.rx().buf(), sent_from);
    EXPECT_EQ(&p.a.region(), &p.b.region());
}

TEST(pipe, ends_open_in_either_order_and_data_waits) {
    nm::context ctx;
    auto slave = nm::open<nm::pipe>(ctx, "netmap:q}x", pipe_pair::sized(8));
    std::uint32_t sent = 0, got = 0;
    bool in_order = true;
    EXPECT_EQ(send_numbered(slave, 3, sent), 3U);
    auto master = nm::open<nm::pipe>(ctx, "netmap:q{x");
    EXPECT_EQ(take_numbered(master, 10, got, in_order), 3U);
    EXPECT_TRUE(in_order);

    // Closing one end and opening it again leaves everything as it was; closing both ends it.
    EXPECT_EQ(send_numbered(slave, 2, sent), 2U);
    master.close();
    master = nm::open<nm::pipe>(ctx, "netmap:q{x");
    EXPECT_EQ(take_numbered(master, 10, got, in_order), 2U);
    EXPECT_TRUE(in_order);
    EXPECT_EQ(send_numbered(slave, 2, sent), 2U);
    master.close();
    slave.close();
    master = nm::open<nm::pipe>(ctx, "netmap:q{x");
    EXPECT_EQ(nm::drain(master, 10), 0U);
}

TEST(pipe, has_as_many_ring_pairs_as_asked) {
    pipe_pair p(8, 3);
    ASSERT_EQ(p.a.num_tx_rings(), 3U);
    ASSERT_EQ(p.b.num_rx_rings(), 3U);
    for (index_t i = 0; i < 3; ++i)
        nm::generate(p.a.tx(i), i + 1, [](nm::frame& f) noexcept { f.resize(60); });
    for (index_t i = 0; i < 3; ++i) EXPECT_EQ(nm::drain(p.b.rx(i), 10), i + 1);

    auto one = nm::open<nm::pipe>(p.ctx, "netmap:p{1-2");
    EXPECT_EQ(one.num_tx_rings(), 1U);
    EXPECT_EQ(&one.tx(0), &p.a.tx(2));
    const auto beyond = nm::try_open<nm::pipe>(p.ctx, "netmap:p{1-3");
    ASSERT_FALSE(beyond);
    EXPECT_NE(beyond.error().text.find("there is no ring 3"), std::string::npos) << beyond.error().text;
}

TEST(pipe, slave_options_speak_of_the_slave) {
    nm::context ctx;
    nm::open_options o;
    o.tx_slots = 16;
    o.rx_slots = 32;
    auto slave = nm::open<nm::pipe>(ctx, "netmap:q}x", o);
    auto master = nm::open<nm::pipe>(ctx, "netmap:q{x");
    EXPECT_EQ(slave.tx().num_slots(), 16U);
    EXPECT_EQ(slave.rx().num_slots(), 32U);
    EXPECT_EQ(master.rx().num_slots(), 16U);
}

TEST(pipe, swapped_buffers_come_back_to_the_sender) {
    pipe_pair p(4);
    nm::open_options same;
    same.memory = p.a.memory();
    // The receiver keeps each buffer that it gets and gives another in its place.
    std::uint32_t spare[2] = {};
    nm::region_options ro;
    ro.bufs = 64;
    auto memory = *nm::region::create(ro);
    nm::open_options in;
    in.memory = memory;
    in.tx_slots = 4;
    in.extra_bufs = 2;
    nm::context ctx;
    auto a = nm::open<nm::pipe>(ctx, "netmap:s{1", in);
    auto b = nm::open<nm::pipe>(ctx, "netmap:s}1", in);
    spare[0] = a.nifp()->ni_bufs_head;
    std::memcpy(&spare[1], memory->buf(spare[0]), 4);
    a.nifp()->ni_bufs_head = 0;  // ours now
    std::uint32_t held = spare[0];
    std::set<std::uint32_t> seen;
    for (int i = 0; i < 50; ++i) {
        ASSERT_EQ(nm::generate(a, 1, [](nm::frame& f) noexcept { f.resize(60); }), 1U);
        ASSERT_EQ(b.rx().rxsync(), 1U);
        nm::slot& s = b.rx().slot();
        std::swap(s.buf_idx, held);
        s.flags = nm::ns_buf_changed;
        b.rx().advance();
        b.rx().rxsync();
        a.tx().txsync();
        // No buffer is in two places: the one held, and those in the sender's slots.
        seen = {held};
        for (index_t k = a.tx().head(); k != a.tx().tail(); k = a.tx().next(k))
            ASSERT_TRUE(seen.insert(a.tx().slot(k).buf_idx).second) << "round " << i;
    }
}

// NS_BUF_CHANGED in a received slot says that the sender put another buffer there, and only that.
TEST(pipe, the_receiver_sees_whether_the_buffer_changed) {
    nm::region_options ro;
    ro.bufs = 64;
    nm::open_options in = pipe_pair::sized(4);
    in.memory = *nm::region::create(ro);
    in.extra_bufs = 1;
    nm::context ctx;
    auto a = nm::open<nm::pipe>(ctx, "netmap:s{1", in), b = nm::open<nm::pipe>(ctx, "netmap:s}1");
    std::uint32_t spare = a.nifp()->ni_bufs_head;
    a.nifp()->ni_bufs_head = 0;
    for (int i = 0; i < 20; ++i) {
        const bool swap = i % 3 == 1;
        nm::slot& s = a.tx().slot();
        if (swap) std::swap(s.buf_idx, spare);
        s.flags = nm::ns_buf_changed;  // whatever the sender says: a program may set it always
        s.len = 60;
        a.tx().advance();
        a.tx().txsync();
        EXPECT_EQ(s.flags, 0) << "cleared by the sync";
        ASSERT_EQ(b.rx().rxsync(), 1U);
        EXPECT_EQ((b.rx().slot().flags & nm::ns_buf_changed) != 0, swap) << i;
        b.rx().advance();
        b.rx().rxsync();
    }
}

TEST(pipe, second_open_shares_and_x_excludes) {
    pipe_pair p(8);
    auto again = nm::open<nm::pipe>(p.ctx, "netmap:p{1");
    EXPECT_EQ(&again.tx(), &p.a.tx());
    auto exclusive = nm::try_open<nm::pipe>(p.ctx, "netmap:p{1/x");
    ASSERT_FALSE(exclusive);
    EXPECT_EQ(exclusive.error().code.value(), EBUSY);
    again.close();
    p.a.close();
    auto alone = nm::open<nm::pipe>(p.ctx, "netmap:p{1/x");
    EXPECT_FALSE(nm::try_open<nm::pipe>(p.ctx, "netmap:p{1"));
    alone.close();
    EXPECT_TRUE(nm::try_open<nm::pipe>(p.ctx, "netmap:p{1").has_value());
}

TEST(pipe, rx_only_and_tx_only_handles) {
    pipe_pair p(8);
    auto r = nm::open<nm::pipe>(p.ctx, "netmap:p{1/R");
    auto t = nm::open<nm::pipe>(p.ctx, "netmap:p{1/T");
    EXPECT_EQ(r.num_tx_rings(), 0U);
    EXPECT_EQ(r.num_rx_rings(), 1U);
    EXPECT_EQ(t.num_rx_rings(), 0U);
}

TEST(pipe, sizes_out_of_range_are_refused_with_a_sentence) {
    nm::context ctx;
    for (const char* name : {"netmap:p{1@conf:slots=1", "netmap:p{1@conf:slots=100000", "netmap:p{1@conf:rings=1000"}) {
        const auto r = nm::try_open<nm::pipe>(ctx, name);
        ASSERT_FALSE(r) << name;
        EXPECT_EQ(r.error().code.value(), EINVAL);
        EXPECT_NE(r.error().text.find(" to "), std::string::npos) << r.error().text;
    }
    EXPECT_FALSE(nm::try_open<nm::pipe>(ctx, "netmap:p{1^"));
    EXPECT_FALSE(nm::try_open<nm::pipe>(ctx, "netmap:eth77"));
}

TEST(pipe, query_does_not_open) {
    nm::context ctx;
    const auto q = nm::query<nm::pipe>(ctx, "netmap:p{1@conf:slots=100");
    ASSERT_TRUE(q);
    EXPECT_EQ(q->tx_slots, 100U);
    EXPECT_EQ(q->mode, "pipe");
    EXPECT_GT(q->memory, 100U * 2112);
    auto p = nm::open<nm::pipe>(ctx, "netmap:p{1");
    EXPECT_EQ(p.tx().num_slots(), nm::port_shape{}.tx_slots);
}

// Two threads, a small ring, frames of all lengths: nothing lost, nothing reordered, nothing torn.
TEST(pipe, two_threads_lose_nothing) {
    pipe_pair p(32);
    constexpr std::uint32_t total = 200'000;
    std::thread producer([&] {
        std::uint32_t next = 0;
        while (next < total) {
            const auto n = nm::generate(p.a, std::min<index_t>(17, total - next), [&](nm::frame& f) noexcept {
                const auto len = static_cast<std::uint16_t>(8 + next % 1500);
                std::memcpy(f.data(), &next, 4);
                std::memcpy(f.data() + len - 4, &next, 4);
                f.resize(len);
                ++next;
            });
            if (n == 0) std::this_thread::yield();
        }
    });
    std::uint32_t expected = 0;
    std::uint32_t wrong = 0;
    while (expected < total) {
        const auto n = nm::drain(p.b, 64, [&](nm::frame& f) noexcept {
            std::uint32_t head = 0, tail = 0;
            std::memcpy(&head, f.data(), 4);
            std::memcpy(&tail, f.data() + f.size() - 4, 4);
            wrong += head != expected || tail != expected || f.size() != 8 + expected % 1500;
            ++expected;
        });
        if (n == 0) std::this_thread::yield();
    }
    producer.join();
    EXPECT_EQ(wrong, 0U);
    expect_conserved(p.a, p.b);
}

// Forwarding through two pipes in one region swaps; the buffers that travel are each other's.
TEST(pipe, forwarding_in_one_region_swaps_and_between_regions_copies) {
    for (const bool same : {true, false}) {
        nm::context ctx;
        nm::open_options o = pipe_pair::sized(8);
        if (same) o.mem_id = 7;
        auto a = nm::open<nm::pipe>(ctx, "netmap:p{1", o), b = nm::open<nm::pipe>(ctx, "netmap:p}1", o);
        auto c = nm::open<nm::pipe>(ctx, "netmap:p{2", o), d = nm::open<nm::pipe>(ctx, "netmap:p}2", o);
        ASSERT_EQ(&b.region() == &c.region(), same);
        std::uint32_t sent = 0, got = 0;
        bool in_order = true;
        for (int round = 0; round < 50; ++round) {
            const auto* from = a.tx().buf();
            ASSERT_EQ(send_numbered(a, 3, sent, 1500), 3U);
            ASSERT_EQ(nm::forward(b, c, 256), 3U);
            d.rx().rxsync();
            if (round == 0) {
                EXPECT_EQ(d.rx().buf() == from, same);
            }
            ASSERT_EQ(take_numbered(d, 10, got, in_order), 3U);
        }
        EXPECT_TRUE(in_order);
        expect_conserved(a, b);
        expect_conserved(c, d);
    }
}

std::set<std::uint32_t> buffers_of(nm::pipe& p) {
    std::set<std::uint32_t> all;
    for (index_t i = 0; i < p.tx().num_slots(); ++i) all.insert(p.tx().slot(i).buf_idx);
    return all;
}

// A pipe that is closed while buffers travel gives back what it has, not what it once had: else a buffer that went on to
// another port has two owners.
TEST(pipe, closing_gives_back_each_buffer_once) {
    for (const int how : {0, 1, 2, 3}) {
        nm::region_options ro;
        ro.bufs = 2 + 3 * 16;
        auto o = pipe_pair::sized(8);
        o.memory = *nm::region::create(ro);
        nm::context ctx;
        auto a = nm::open<nm::pipe>(ctx, "netmap:p{1", o), b = nm::open<nm::pipe>(ctx, "netmap:p}1");
        auto c = nm::open<nm::pipe>(ctx, "netmap:p{2", o), d = nm::open<nm::pipe>(ctx, "netmap:p}2");
        std::uint32_t sent = 0;
        ASSERT_EQ(send_numbered(a, 5, sent), 5U);
        if (how == 0) {
            ASSERT_EQ(nm::forward(b, c, 3), 3U);  // given back, and not yet seen by the sender
        } else {
            b.rx().rxsync();
            for (int i = 0; i < 3; ++i) {  // swapped by hand, and not given back
                nm::swap_slots(b.rx(), c.tx());
                b.rx().advance();
                c.tx().advance();
            }
            c.tx().txsync();
            if (how == 2) b.rx().rxsync();
            if (how == 3) {
                b.rx().rxsync();
                a.tx().txsync();
            }
        }
        a.close();
        b.close();
        EXPECT_EQ(o.memory->bufs().available(), 2U * 16);
        auto e = nm::open<nm::pipe>(ctx, "netmap:p{3", o);
        auto f = nm::open<nm::pipe>(ctx, "netmap:p}3");
        const auto held = buffers_of(c);
        for (const auto& mine : {buffers_of(e), buffers_of(f)})
            for (const auto idx : mine) EXPECT_EQ(held.count(idx), 0U) << idx << " has two owners, " << how;
        std::uint32_t got = 0;
        bool in_order = true;
        EXPECT_EQ(take_numbered(d, 8, got, in_order), 3U);
        EXPECT_TRUE(in_order);
        for (auto* p : {&c, &d, &e, &f}) p->close();
        EXPECT_EQ(o.memory->bufs().available(), 3U * 16);
    }
}

// The documents say that a pipe lives in the memory of a parent that is open.
TEST(pipe, of_an_open_parent) {
    nm::context ctx;
    auto parent = nm::open<nm::null_port>(ctx, "null:par");
    auto a = nm::try_open<nm::pipe>(ctx, "netmap:par{1");
    ASSERT_TRUE(a) << a.error().text;
    auto b = nm::open<nm::pipe>(ctx, "netmap:par}1");
    std::uint32_t sent = 0;
    EXPECT_EQ(send_numbered(*a, 5, sent), 5U);
    EXPECT_EQ(nm::drain(b, 10), 5U);
    // In a parent's memory that has room, frames swap.
    nm::open_options o;
    o.mem_id = 3;
    auto roomy = nm::open<nm::null_port>(ctx, "null:roomy", o);
    auto c = nm::open<nm::pipe>(ctx, "netmap:roomy{1");
    EXPECT_EQ(c.memory(), roomy.memory());
}

// netmap(4): NR_EXCLUSIVE is about the rings that one opens.
TEST(pipe, x_excludes_from_its_own_rings_only) {
    pipe_pair p(8, 3);
    p.a.close();
    auto zero = nm::open<nm::pipe>(p.ctx, "netmap:p{1-0/x");
    auto one = nm::try_open<nm::pipe>(p.ctx, "netmap:p{1-1/x");
    ASSERT_TRUE(one) << one.error().text;
    EXPECT_TRUE(nm::try_open<nm::pipe>(p.ctx, "netmap:p{1-2"));
    EXPECT_FALSE(nm::try_open<nm::pipe>(p.ctx, "netmap:p{1-0"));
    EXPECT_FALSE(nm::try_open<nm::pipe>(p.ctx, "netmap:p{1"));
    auto two = nm::open<nm::pipe>(p.ctx, "netmap:p{1-2");
    EXPECT_FALSE(nm::try_open<nm::pipe>(p.ctx, "netmap:p{1-2/x"));
    // A handle that is moved keeps its rings, one that is closed gives them up.
    auto moved = std::move(zero);
    EXPECT_FALSE(nm::try_open<nm::pipe>(p.ctx, "netmap:p{1-0"));
    moved.close();
    EXPECT_TRUE(nm::try_open<nm::pipe>(p.ctx, "netmap:p{1-0"));
    auto rx = nm::open<nm::pipe>(p.ctx, "netmap:p{1-0/xR");
    EXPECT_TRUE(nm::try_open<nm::pipe>(p.ctx, "netmap:p{1-0/xT"));
}

}  // namespace
