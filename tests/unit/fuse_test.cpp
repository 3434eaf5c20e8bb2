// SPDX-License-Identifier: BSD-2-Clause
#include "nm/fuse.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <string>
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
    for (index_t slots = 0, left = 0; slots < max && rx.head() != rx.tail() && tx.head() != tx.tail(); rx.advance(), ++slots) {
        if (rx.slot().len == 0) continue;  // a hole: what is left of a chain that was too long
        if (left == 0) {  // a frame goes as a whole, past max if need be
            for (index_t i = rx.head(); (rx.slot(i).flags & nm::ns_morefrag) != 0; i = rx.next(i)) ++left;
            if (++left > tx.space()) break;
            max = std::max(max, slots + left);
        }
        --left;
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

// A frame of several slots, each marked with `mark`.
void send_marked(nm::pipe::tx_ring_type& tx, index_t slots, std::uint8_t mark) {
    for (index_t i = 0; i < slots; ++i) {
        tx.buf()[0] = mark;
        tx.slot().len = 60;
        tx.slot().flags = i + 1 < slots ? nm::ns_morefrag : std::uint16_t{0};
        tx.advance();
    }
    tx.txsync();
}

// Frames as they come out: "aaa b" is one of three slots and one of one.
template <class Rx>
std::string frames_of(Rx& rx) {
    std::string out;
    nm::drain(rx, 1000, [&](nm::frame& f) noexcept {
        out += static_cast<char>(f.data()[0]);
        if (f.last()) out += ' ';
    });
    return out;
}

// Two rings that feed one: whatever the limit and the room, a frame is never continued with another's slots.
TEST(fuse, frames_of_two_rings_do_not_mix) {
    for (const bool same : {true, false})
        for (const index_t max : {1U, 2U, 4U, 256U})
            for (const unsigned room : {4U, 5U, 6U, 16U}) {
                nm::context ctx;
                auto o = pipe_pair::sized(16, 2);
                auto p = pipe_pair::sized(room);
                if (same) o.mem_id = p.mem_id = 1;
                auto a = nm::open<nm::pipe>(ctx, "netmap:p{1", o), b = nm::open<nm::pipe>(ctx, "netmap:p}1", o);
                auto c = nm::open<nm::pipe>(ctx, "netmap:p{2", p), d = nm::open<nm::pipe>(ctx, "netmap:p}2", p);
                for (const char mark : {'a', 'b'}) {
                    send_marked(a.tx(0), 3, static_cast<std::uint8_t>(mark));
                    send_marked(a.tx(1), 3, static_cast<std::uint8_t>(mark - 'a' + 'x'));
                }
                std::string out;
                for (int i = 0; i < 20; ++i) {
                    nm::forward(b, c, max);
                    if (i % 2 == 1) out += frames_of(d);
                }
                std::set<std::string> frames;
                for (std::size_t at = 0, end = 0; (end = out.find(' ', at)) != std::string::npos; at = end + 1)
                    frames.insert(out.substr(at, end - at));
                EXPECT_EQ(frames, (std::set<std::string>{"aaa", "bbb", "xxx", "yyy"})) << out << " max " << max << " room " << room;
                expect_conserved(a, b);
                expect_conserved(c, d);
                EXPECT_EQ(b.rx_stats().frames, c.tx_stats().frames);
            }
}

// One ring that feeds two in turn: a frame goes to one of them.
TEST(fuse, a_frame_is_not_cut_between_two_destinations) {
    chain c(16, true);
    auto e = c.open("netmap:p{3", 16, true), f = c.open("netmap:p}3", 16, true);
    send_marked(c.a.tx(), 3, 'a');
    send_marked(c.a.tx(), 1, 'b');
    send_marked(c.a.tx(), 3, 'c');
    for (int i = 0; i < 8; ++i) nm::forward(c.b.rx(), (i % 2 == 0 ? c.c : e).tx(), 1);
    EXPECT_EQ(frames_of(c.d), "aaa ccc ");
    EXPECT_EQ(frames_of(f), "b ");
}

TEST(fuse, a_frame_longer_than_the_destination_is_dropped_whole_and_the_next_passes) {
    chain c(16, true);
    auto e = c.open("netmap:p{3", 4, true), f = c.open("netmap:p}3", 4, true);
    send_marked(c.a.tx(), 6, 'a');
    send_marked(c.a.tx(), 3, 'b');
    send_marked(c.a.tx(), 1, 'c');
    std::string out;
    for (int i = 0; i < 10; ++i) {
        nm::forward(c.b, e, 256);
        out += frames_of(f);
    }
    EXPECT_EQ(out, "bbb c ");
    EXPECT_EQ(e.tx_stats().dropped(nm::cause::bad_chain), 1U);
    expect_conserved(e, f);
}

TEST(fuse, stop_inside_a_frame_ends_the_loop_behind_it) {
    chain c(16, true);
    send_marked(c.a.tx(), 3, 'a');
    send_marked(c.a.tx(), 1, 'b');
    for (const bool on_last : {false, true}) {
        if (on_last) send_marked(c.a.tx(), 3, 'c');
        const auto stop = [&](nm::frame& f) noexcept { return !f.first() && f.last() == on_last ? verdict::stop : verdict::pass; };
        EXPECT_EQ(nm::forward(c.b, c.c, 256, stop), on_last ? 2U : 1U);
    }
    EXPECT_EQ(frames_of(c.d), "aaa b ccc ");
}

// What forward remembers of a frame is forgotten when the user passes its end by hand.
TEST(fuse, a_frame_after_one_that_was_passed_by_hand_is_whole) {
    for (const bool drained : {false, true}) {
        chain c(16, true);
        send_marked(c.a.tx(), 3, 'a');
        send_marked(c.a.tx(), 1, 'b');
        if (drained) nm::drain(c.b.rx(), 1);
        else nm::forward(c.b.rx(), c.c.tx(), 1, [](nm::frame&) noexcept { return verdict::drop; });
        auto& rx = c.b.rx();
        rx.rxsync();
        while (rx.head() != rx.tail() && *rx.buf() == 'a') rx.advance();
        bool first = false;
        EXPECT_EQ(nm::forward(rx, c.c.tx(), 100, [&](nm::frame& f) noexcept { first = f.first(); }), 1U);
        EXPECT_TRUE(first);
        EXPECT_EQ(frames_of(c.d), "b ");
    }
}

TEST(fuse, generate_knows_that_a_frame_is_open) {
    pipe_pair p(16);
    std::string firsts;
    int left = 5;
    const auto fn = [&](nm::frame& f) noexcept {
        firsts += f.first() ? '1' : '0';
        f.resize(60);
        f.meta().flags = --left != 0 ? nm::ns_morefrag : std::uint16_t{0};
    };
    nm::generate(p.a, 2, fn);
    nm::generate(p.a, 3, fn);
    EXPECT_EQ(firsts, "10000");
}

// A slot of the destination without a buffer: the frame is counted, and no buffer is in two places.
TEST(fuse, a_bad_index_in_the_destination_costs_one_frame) {
    for (const std::uint32_t bad : {0U, 1U, 0x7fffffffU, 0xffffffffU})
        for (const bool same : {true, false}) {
            chain c(8, same);
            c.c.tx().slot(1).buf_idx = bad;
            std::uint32_t sent = 0;
            send_numbered(c.a, 3, sent);
            EXPECT_EQ(nm::forward(c.b, c.c, 10), 3U);
            EXPECT_EQ(c.c.tx_stats().dropped(nm::cause::bad_idx), 1U);
            EXPECT_EQ(nm::drain(c.d, 10), 2U);
            expect_conserved(c.c, c.d);
            c.a.tx().txsync();
            c.c.tx().txsync();
            std::set<std::uint32_t> seen;
            for (auto* tx : {&c.a.tx(), &c.c.tx()})
                for (index_t i = 0; i < 8; ++i) {
                    EXPECT_TRUE(tx->buffers().valid(tx->slot(i).buf_idx));
                    if (same) {
                        EXPECT_TRUE(seen.insert(tx->slot(i).buf_idx).second) << i;
                    }
                }
        }
}

// A pipe of a parent without room lives elsewhere: a program that swaps by hand must not send its neighbour's buffers.
TEST(fuse, swapping_between_two_regions_copies) {
    chain c(8, false);
    std::uint32_t sent = 7;
    send_numbered(c.a, 1, sent, 100);
    c.b.rx().rxsync();
    const auto mine = c.c.tx().slot().buf_idx;
    nm::swap_slots(c.b.rx(), c.c.tx());
    c.b.rx().advance();
    c.c.tx().advance();
    c.c.tx().txsync();
    c.d.rx().rxsync();
    EXPECT_EQ(c.d.rx().slot().buf_idx, mine);
    EXPECT_EQ(c.d.rx().slot().len, 100);
    EXPECT_EQ(*c.d.rx().buf(), 7);
}

}  // namespace
