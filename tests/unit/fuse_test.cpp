// SPDX-License-Identifier: BSD-2-Clause
#include "nm/fuse.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "nm/copy.hpp"
#include "nm/frame.hpp"
#include "support/pipes.hpp"

namespace {

using namespace nm::test;
using nm::index_t;
using nm::verdict;

// Two pipes in one region, or in two: frames come in at a, are moved from b to c, and come out at d.
struct chain {
    nm::context ctx;
    nm::pipe a, b, c, d;
    chain(unsigned slots, bool same)
        : a(open("netmap:p{1", slots, same)), b(open("netmap:p}1", slots, same)), c(open("netmap:p{2", slots, same)),
          d(open("netmap:p}2", slots, same)) {}
    nm::pipe open(const char* name, unsigned slots, bool same) {
        auto o = pipe_pair::sized(slots);
        if (same) o.mem_id = 1;
        return nm::open<nm::pipe>(ctx, name, o);
    }
};

// What the fused loop must equal: netmap(4)'s own three loops.
index_t three_loops(nm::pipe& from, nm::pipe& to, index_t max) {
    auto& rx = from.rx();
    auto& tx = to.tx();
    rx.rxsync();
    tx.txsync();
    index_t frames = 0;
    for (index_t slots = 0; slots < max && rx.head() != rx.tail() && tx.head() != tx.tail(); rx.advance(), ++slots) {
        if (rx.slot().len == 0) continue;  // a hole: what is left of a chain that was too long
        const bool last = (rx.slot().flags & nm::ns_morefrag) == 0;
        if (&from.region() == &to.region()) nm::swap_slots(rx, tx);
        else nm::copy_slot(rx, tx);
        tx.advance();
        frames += last ? 1U : 0U;
    }
    tx.txsync();
    rx.rxsync();
    return frames;
}

struct image {
    std::vector<std::uint32_t> indexes;
    std::vector<nm::slot_words> slots;
    std::vector<std::vector<std::uint8_t>> bytes;
    friend bool operator==(const image&, const image&) = default;
};

template <class Ring>
void add(image& to, Ring& r) {
    to.indexes.insert(to.indexes.end(), {r.head(), r.cur(), r.tail(), r.truth().hwcur, r.truth().hwtail});
    for (index_t i = 0; i < r.num_slots(); ++i) {
        to.slots.push_back(nm::words(r.slot(i)));
        const auto* p = r.buf(r.slot(i));
        to.bytes.emplace_back(p, p + 64);
    }
}

image image_of(chain& c) {
    image m;
    for (nm::pipe* p : {&c.a, &c.b, &c.c, &c.d}) {
        p->tx().txsync();
        p->rx().rxsync();
        add(m, p->tx());
        add(m, p->rx());
    }
    return m;
}

// The invariant of DESIGN 1.2: whatever is sent, in frames of one or several slots, whatever the ring size and the
// batches, both versions leave the same indexes and the same bytes.
TEST(fuse, forward_leaves_what_three_loops_leave) {
    for (const bool same : {true, false})
        for (const unsigned slots : {2U, 3U, 7U, 32U}) {
            chain one(slots, same), other(slots, same);
            std::mt19937 engine(slots);
            const auto random = [&engine] { return static_cast<index_t>(engine()); };
            std::uint32_t number = 0;
            for (int step = 0; step < 400; ++step) {
                const index_t burst = random() % slots, batch = 1 + random() % (2 * slots),
                              take = random() % (slots + 1);
                const bool fragments = random() % 3 == 0 && slots > 4;
                for (chain* c : {&one, &other}) {
                    std::uint32_t n = number;
                    index_t left = fragments ? 3 : 0;
                    nm::generate(c->a.tx(), burst, [&](nm::frame& f) noexcept {
                        std::memset(f.data(), 0, 64);
                        std::memcpy(f.data(), &n, sizeof n);
                        f.resize(static_cast<std::uint16_t>(60 + n % 1000));
                        if (left != 0 && --left != 0) f.meta().flags = nm::ns_morefrag;
                        ++n;
                    });
                    // A frame is finished before the next step, so that both chains stay comparable.
                    if (c == &other) number = n;
                }
                EXPECT_EQ(nm::forward(one.b, one.c, batch), three_loops(other.b, other.c, batch));
                EXPECT_EQ(nm::drain(one.d, take), nm::drain(other.d, take));
                ASSERT_EQ(image_of(one), image_of(other)) << "same " << same << " slots " << slots << " step " << step;
            }
            EXPECT_GT(number, 100U);
            EXPECT_EQ(one.c.tx_stats().frames, other.c.tx_stats().frames);
        }
}

TEST(fuse, verdicts_pass_drop_and_stop) {
    chain c(16, true);
    std::uint32_t sent = 0;
    send_numbered(c.a, 10, sent);
    const auto odd_drops = [](nm::frame& f) noexcept { return f.data()[0] % 2 ? verdict::drop : verdict::pass; };
    EXPECT_EQ(nm::forward(c.b, c.c, 4, odd_drops), 4U);
    EXPECT_EQ(nm::forward(c.b, c.c, 100, [](nm::frame& f) noexcept { return f.data()[0] == 7 ? verdict::stop : verdict::pass; }), 3U);
    EXPECT_EQ(nm::forward(c.b, c.c, 100, [](nm::frame&) noexcept { return verdict::stop; }), 0U);
    EXPECT_EQ(nm::forward(c.b, c.c, 100), 3U);
    std::vector<int> out;
    nm::drain(c.d, 100, [&](nm::frame& f) noexcept { out.push_back(f.data()[0]); });
    EXPECT_EQ(out, (std::vector<int>{0, 2, 4, 5, 6, 7, 8, 9}));
    EXPECT_EQ(c.b.rx().stats().dropped(nm::cause::policy), 2U);
    EXPECT_EQ(c.b.rx_stats().frames, c.c.tx_stats().frames + c.b.rx_stats().dropped());
}

TEST(fuse, the_verdict_on_the_first_fragment_holds_for_all) {
    chain c(32, true);
    int shown = 0;
    for (const bool drop : {true, false}) {
        int left = 3;
        nm::generate(c.a, 3, [&](nm::frame& f) noexcept {
            f.resize(100);
            if (--left != 0) f.meta().flags = nm::ns_morefrag;
        });
        EXPECT_EQ(nm::forward(c.b, c.c, 10, [&](nm::frame& f) noexcept {
                      ++shown;
                      return drop && f.first() ? verdict::drop : verdict::pass;
                  }),
                  1U);
    }
    EXPECT_EQ(shown, 1 + 3);
    index_t slots = 0;
    EXPECT_EQ(nm::drain(c.d, 10, [&](nm::slot&) noexcept { ++slots; }), 1U);
    EXPECT_EQ(slots, 3U);
    EXPECT_EQ(c.b.rx().stats().dropped(nm::cause::policy), 1U);
}

TEST(fuse, callables_may_change_bytes_and_length) {
    for (const bool same : {true, false}) {
        chain c(8, same);
        std::uint32_t sent = 0;
        send_numbered(c.a, 1, sent, 100);
        nm::forward(c.b, c.c, 1, [](nm::frame& f) noexcept {
            f.data()[50] = 42;
            f.resize(51);
        });
        int seen = 0;
        nm::drain(c.d, 1, [&](nm::frame& f) noexcept { seen = f.size() * 1000 + f.data()[50]; });
        EXPECT_EQ(seen, 51042);
    }
}

TEST(fuse, what_does_not_fit_stays) {
    chain c(4, true);
    std::uint32_t sent = 0;
    EXPECT_EQ(send_numbered(c.a, 3, sent), 3U);
    EXPECT_EQ(nm::forward(c.b, c.c, 10), 3U);
    EXPECT_EQ(send_numbered(c.a, 3, sent), 3U);
    EXPECT_EQ(nm::forward(c.b, c.c, 10), 0U);
    std::uint32_t got = 0;
    bool in_order = true;
    EXPECT_EQ(take_numbered(c.d, 10, got, in_order), 3U);
    EXPECT_EQ(nm::forward(c.b, c.c, 10), 3U);
    EXPECT_EQ(take_numbered(c.d, 10, got, in_order), 3U);
    EXPECT_TRUE(in_order);
}

TEST(fuse, a_hand_queued_frame_goes_before_a_generated_one) {
    pipe_pair p(8);
    p.a.tx().buf()[0] = 1;
    p.a.tx().slot().len = 60;
    p.a.tx().advance();
    nm::generate(p.a, 1, [](nm::frame& f) noexcept {
        f.data()[0] = 2;
        f.resize(60);
    });
    int order = 0;
    nm::drain(p.b, 8, [&](nm::frame& f) noexcept { order = order * 10 + f.data()[0]; });
    EXPECT_EQ(order, 12);
}

TEST(fuse, copies_whole_frames_of_any_length) {
    alignas(64) std::uint8_t from[2112], to[2112];
    for (std::size_t i = 0; i < sizeof from; ++i) from[i] = static_cast<std::uint8_t>(i * 7);
    for (const std::size_t len : {0UL, 1UL, 60UL, 64UL, 65UL, 1514UL, 2112UL}) {
        std::memset(to, 0xee, sizeof to);
        nm::copy_frame(to, from, len);
        EXPECT_EQ(std::memcmp(to, from, len), 0);
        const std::size_t end = len == 0 ? 64 : (len + 63) / 64 * 64;
        for (std::size_t i = end; i < sizeof to; ++i) ASSERT_EQ(to[i], 0xee) << len;
    }
}

TEST(fuse, ports_with_other_ring_counts_meet_modulo) {
    nm::context ctx;
    auto a = nm::open<nm::pipe>(ctx, "netmap:p{1", pipe_pair::sized(8, 3));
    auto b = nm::open<nm::pipe>(ctx, "netmap:p}1");
    auto c = nm::open<nm::pipe>(ctx, "netmap:p{2", pipe_pair::sized(8, 2));
    auto d = nm::open<nm::pipe>(ctx, "netmap:p}2");
    for (index_t i = 0; i < 3; ++i) nm::generate(a.tx(i), 1, [](nm::frame& f) noexcept { f.resize(60); });
    EXPECT_EQ(nm::forward(b, c, 10), 3U);
    EXPECT_EQ(nm::drain(d.rx(0), 10), 2U);
    EXPECT_EQ(nm::drain(d.rx(1), 10), 1U);
}

TEST(fuse, timestamps) {
    pipe_pair p(8);
    EXPECT_EQ(p.b.rx().shared().ts.sec, 0);
    std::uint32_t sent = 0;
    send_numbered(p.a, 1, sent);
    nm::drain(p.b, 1);
    EXPECT_EQ(p.b.rx().shared().ts.sec, 0) << "a fused loop stamps only when NR_TIMESTAMP asks for it";
    p.b.rx().shared().flags = nm::nr_timestamp;
    nm::drain(p.b, 1);
    EXPECT_NE(p.b.rx().shared().ts.sec, 0);
    p.b.rx().shared() .ts = {};
    p.b.rx().shared().flags = 0;
    p.b.rx().rxsync();
    EXPECT_NE(p.b.rx().shared().ts.sec, 0);
    p.b.rx().set_timestamps(false);
    p.b.rx().shared().ts = {};
    p.b.rx().rxsync();
    EXPECT_EQ(p.b.rx().shared().ts.sec, 0);
}

}  // namespace
