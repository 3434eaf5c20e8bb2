// SPDX-License-Identifier: BSD-2-Clause
// Transparent mode between pipes, where each slot can be looked at: what was released by hand goes on, whole and in order,
// or is counted.
#include <gtest/gtest.h>

#include <optional>

#include "nm/transparent.hpp"
#include "support/pipes.hpp"

namespace {

using namespace nm::test;
using nm::cause;
using nm::index_t;
using nm::ns_forward;
using nm::ns_morefrag;

/// from.a -> from.b, released there; to.a's tx rings are the other endpoint, and what goes on arrives at to.b.
struct transparent : ::testing::Test {
    using forwarding = nm::transparent<nm::pipe::rx_ring_type::backend_type, nm::pipe::tx_ring_type::backend_type>;

    void open(unsigned slots, unsigned to_slots, unsigned to_rings, bool all) {
        auto o = pipe_pair::sized(slots);
        nm::region_options r;
        r.bufs = 1000;
        o.memory = *nm::region::create(r);
        a = nm::open<nm::pipe>(ctx, "netmap:from{1", o);
        b = nm::open<nm::pipe>(ctx, "netmap:from}1");
        auto p = pipe_pair::sized(to_slots, to_rings);
        p.memory = o.memory;
        c = nm::open<nm::pipe>(ctx, "netmap:to{1", p);
        d = nm::open<nm::pipe>(ctx, "netmap:to}1");
        mode.emplace(&c->tx(0), c->num_tx_rings(), all);
        b->rx().on_release({[](void* f, nm::pipe::rx_ring_type& r2, index_t head) noexcept { static_cast<forwarding*>(f)->forward(r2, head); }, &*mode});
        if (!all) b->rx().shared().flags |= nm::nr_forward;
    }
    // One frame of so many slots, each with its number.
    void send(unsigned slots = 1) {
        auto& t = a->tx();
        for (unsigned k = 0; k < slots; ++k) {
            std::memcpy(t.buf(), &number, sizeof number);
            t.slot().len = static_cast<std::uint16_t>(60 + number % 100);
            t.slot().flags = k + 1 < slots ? ns_morefrag : std::uint16_t{0};
            t.advance();
            ++number;
        }
        t.txsync();
        b->rx().rxsync();
    }
    // Releases so many slots, the first of them flagged or not.
    void release(unsigned slots, bool flagged = true) {
        if (flagged) b->rx().slot().flags |= ns_forward;
        b->rx().advance(slots);
        b->rx().rxsync();
        a->tx().txsync();
    }
    // Numbers of the slots that arrived on ring i of the far end; all in good order.
    std::vector<std::uint32_t> arrived(index_t i = 0) {
        std::vector<std::uint32_t> n;
        auto& r = d->rx(i);
        for (r.rxsync(); !r.empty(); r.advance()) {
            if (r.slot().len == 0) continue;  // a hole
            std::uint32_t v = 0;
            std::memcpy(&v, r.buf(), sizeof v);
            EXPECT_EQ(r.slot().len, 60 + v % 100);
            EXPECT_EQ(r.slot().flags & ns_forward, 0);
            n.push_back(v);
        }
        r.rxsync();
        c->tx(i).txsync();
        return n;
    }
    // Each buffer of the region is in one slot at most.
    void no_buffer_twice() {
        std::vector<int> seen(1000);
        const auto look = [&](auto& ring) {
            for (index_t i = 0; i < ring.num_slots(); ++i) ++seen[std::min(ring.slot(i).buf_idx, 999U)];
        };
        look(a->tx());
        look(c->tx());
        for (std::size_t i = 2; i < seen.size(); ++i) EXPECT_LE(seen[i], 1) << "buffer " << i;
    }
    std::uint64_t drops(cause why, index_t i = 0) { return c->tx(i).stats().dropped(why); }
    using numbers = std::vector<std::uint32_t>;

    nm::context ctx;
    std::optional<nm::pipe> a, b, c, d;
    std::optional<forwarding> mode;
    std::uint32_t number = 1;
};

TEST_F(transparent, only_what_is_flagged_and_only_when_the_ring_is) {
    open(16, 16, 1, false);
    for (int i = 0; i < 4; ++i) send();
    release(1, true);
    release(1, false);
    release(1, true);
    b->rx().shared().flags = 0;
    release(1, true);
    EXPECT_EQ(arrived(), (numbers{1, 3}));
    EXPECT_EQ(c->tx().stats().frames, 2U);
    EXPECT_EQ(c->tx().stats().dropped(), 0U);
    EXPECT_EQ(c->tx().stats().bytes, 61U + 63U);
    no_buffer_twice();
}

TEST_F(transparent, all_of_it_round_and_round_in_order) {
    open(8, 5, 1, true);
    std::uint32_t expected = 1;
    for (int round = 0; round < 50; ++round) {
        const auto n = 1 + static_cast<unsigned>(round) % 4;
        for (unsigned i = 0; i < n; ++i) send();
        release(n, false);
        for (const auto v : arrived()) EXPECT_EQ(v, expected++);
        EXPECT_EQ(expected, number);
    }
    EXPECT_EQ(c->tx().stats().frames, number - 1);
    EXPECT_EQ(a->tx().stats().frames, b->rx().stats().frames);
    EXPECT_EQ(c->tx().stats().frames, d->rx().stats().frames + c->tx().stats().dropped());
    no_buffer_twice();
}

TEST_F(transparent, the_first_ring_with_room_and_then_a_count) {
    open(16, 4, 2, true);
    for (int i = 0; i < 8; ++i) send();
    release(8, false);
    EXPECT_EQ(arrived(0), (numbers{1, 2, 3}));
    EXPECT_EQ(arrived(1), (numbers{4, 5, 6}));
    EXPECT_EQ(drops(cause::full, 0), 0U);
    EXPECT_EQ(drops(cause::full, 1), 2U);
    EXPECT_EQ(c->tx(0).stats().frames + c->tx(1).stats().frames, 8U);
    no_buffer_twice();
}

TEST_F(transparent, chains_go_whole_or_not_at_all) {
    open(32, 8, 1, true);
    send(3);
    release(3, false);
    EXPECT_EQ(arrived(), (numbers{1, 2, 3}));
    EXPECT_EQ(d->rx().stats().frames, 1U);
    // In parts: counted once, and the rest of it goes nowhere either.
    send(3);
    release(1, false);
    release(1, false);
    release(1, false);
    EXPECT_EQ(drops(cause::bad_chain), 1U);
    // More slots than there is room for; than there ever is.
    send(5);
    send(4);
    release(9, false);
    EXPECT_EQ(drops(cause::full), 1U);
    send(8);
    release(8, false);
    EXPECT_EQ(drops(cause::bad_chain), 2U);
    EXPECT_EQ(arrived(), (numbers{7, 8, 9, 10, 11}));
    send();
    release(1, false);
    EXPECT_EQ(arrived(), (numbers{number - 1}));
    EXPECT_EQ(c->tx().stats().frames, d->rx().stats().frames + c->tx().stats().dropped());
    no_buffer_twice();
}

TEST_F(transparent, what_the_user_queued_stays_in_front_and_his_open_frame_is_left_alone) {
    open(16, 8, 2, true);
    const std::uint32_t mine = 1000;
    const auto queue = [&](std::uint16_t flags) {
        std::memcpy(c->tx(0).buf(), &mine, sizeof mine);
        c->tx(0).slot().len = 60;
        c->tx(0).slot().flags = flags;
        c->tx(0).advance();
    };
    queue(0);
    send();
    release(1, false);
    EXPECT_EQ(arrived(0), (numbers{1000, 1}));
    queue(ns_morefrag);
    send();
    release(1, false);
    queue(0);
    c->tx(0).txsync();
    EXPECT_EQ(arrived(0), (numbers{1000, 1000}));
    EXPECT_EQ(arrived(1), (numbers{2}));
}

TEST_F(transparent, nonsense_in_released_slots_is_counted_and_goes_nowhere) {
    open(16, 16, 1, true);
    auto& r = b->rx();
    send();
    r.slot().buf_idx = 0xffffffff;
    release(1, false);
    EXPECT_EQ(r.stats().dropped(cause::bad_idx), 1U);
    EXPECT_EQ(c->tx().stats().frames, 0U);
    send();
    r.slot().len = 0xffff;
    release(1, false);
    EXPECT_EQ(drops(cause::bad_len), 1U);
    send();
    r.slot().len = 0;
    release(1, false);
    EXPECT_EQ(arrived(), numbers{});
    send(2);
    r.slot().len = 0;  // a frame with a hole at its head is none
    release(2, false);
    EXPECT_EQ(arrived(), numbers{});
    send();
    r.slot().flags |= ns_morefrag;  // ... and now does not end
    release(1, false);
    EXPECT_EQ(drops(cause::bad_chain), 1U);
    send();
    release(1, false);
    EXPECT_EQ(arrived(), numbers{}) << "that was the rest of it";
    send();
    release(1, false);
    EXPECT_EQ(arrived(), (numbers{number - 1}));
    // A tx slot without a buffer takes its frame with it, and no other.
    c->tx().slot().buf_idx = 0xfffffff0U;
    send();
    release(1, false);
    EXPECT_EQ(drops(cause::bad_idx), 1U);
    send();
    release(1, false);
    EXPECT_EQ(arrived(), (numbers{number - 1}));
    EXPECT_EQ(c->tx().stats().frames, d->rx().stats().frames + c->tx().stats().dropped());
}

TEST_F(transparent, the_fused_loops_do_not_forward) {
    open(16, 16, 1, true);
    send();
    send();
    EXPECT_EQ(nm::drain(*b, 10), 2U);
    (void)b->rx().rxsync();
    EXPECT_EQ(arrived(), numbers{});
}

}  // namespace
