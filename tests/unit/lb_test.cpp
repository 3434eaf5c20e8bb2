// SPDX-License-Identifier: BSD-2-Clause
// What lb does with frames: nothing of it is lost uncounted, parted, or out of order.
#include "../../examples/lb/spreader.hpp"

#include <cstring>
#include <deque>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "nm/ports/pipe.hpp"
#include "support/frames_on_wire.hpp"

namespace {

using namespace nm::test;
using lb::overflow;

// Against queues that are plainly right.
TEST(lb_overflow, the_longest_queue_loses_its_oldest_frames) {
    constexpr std::size_t queues = 4, size = 60;
    std::vector<std::uint32_t> buffers(size);
    std::iota(buffers.begin(), buffers.end(), 2U);
    overflow o(queues, buffers);
    struct frame {
        std::vector<overflow::piece> pieces;
    };
    std::array<std::deque<frame>, queues> model;
    std::array<std::uint64_t, queues> lost{};
    std::set<std::uint32_t> elsewhere;  // what pushes gave back, and the next pop takes
    const auto pieces = [&](std::size_t q) {
        return std::accumulate(model[q].begin(), model[q].end(), std::size_t{0}, [](std::size_t n, const frame& f) { return n + f.pieces.size(); });
    };
    std::mt19937 random(1);
    std::uint32_t fresh = 1000;
    for (int i = 0; i < 20'000; ++i) {
        const std::size_t q = random() % queues;
        if (random() % 5 < 3) {
            const std::size_t n = 1 + random() % 3;
            ASSERT_TRUE(o.make_room(n));
            while (pieces(0) + pieces(1) + pieces(2) + pieces(3) + n > size) {
                std::size_t most = 0;
                for (std::size_t k = 1; k < queues; ++k)
                    if (pieces(k) > pieces(most)) most = k;
                model[most].pop_front();
                ++lost[most];
            }
            frame f;
            for (std::size_t k = 0; k < n; ++k) {
                f.pieces.push_back({fresh++, static_cast<std::uint16_t>(i), k + 1 < n});
                (void)o.push(q, f.pieces.back());
            }
            model[q].push_back(f);
        } else if (!model[q].empty()) {
            ASSERT_EQ(o.front_pieces(q), model[q].front().pieces.size());
            for (const auto& p : model[q].front().pieces) {
                ASSERT_EQ(o.front(q).buf, p.buf);
                ASSERT_EQ(o.front(q).len, p.len);
                ASSERT_EQ(o.front(q).more, p.more);
                o.pop(q, fresh++);
            }
            model[q].pop_front();
        }
        std::size_t there = 0;
        for (std::size_t k = 0; k < queues; ++k) {
            ASSERT_EQ(o.frames(k), model[k].size());
            ASSERT_EQ(o.lost(k).frames, lost[k]);
            ASSERT_EQ(o.empty(k), model[k].empty());
            there += pieces(k);
        }
        ASSERT_EQ(o.free(), size - there);
    }
    EXPECT_GT(lost[0] + lost[1] + lost[2] + lost[3], 1000U);
    EXPECT_FALSE(o.make_room(size + 1));
    EXPECT_FALSE(overflow(1, {}).make_room(1));
}

TEST(lb_overflow, each_buffer_is_in_one_place) {
    const std::vector<std::uint32_t> buffers{2, 3, 4};
    overflow o(2, buffers);
    std::set<std::uint32_t> seen;
    std::uint32_t hand = 9;
    for (int i = 0; i < 3; ++i) {
        const auto spare = o.spare();
        hand = o.push(0, {hand, 60, false});
        EXPECT_EQ(hand, spare);
        EXPECT_TRUE(seen.insert(hand).second);
    }
    EXPECT_EQ(o.free(), 0U);
    ASSERT_TRUE(o.make_room(1));
    EXPECT_EQ(o.lost(0).frames, 1U);
    EXPECT_EQ(o.lost(0).bytes, 60U);
    EXPECT_EQ(o.spare(), 9U);  // the oldest's
}

struct spreading : testing::Test {
    struct consumer {
        nm::pipe port;
        std::vector<std::uint32_t> got;  // flow << 16 | number
    };
    nm::context ctx{{.shared_bufs = 8192}};
    nm::pipe source = nm::open<nm::pipe>(ctx, "netmap:in}1@1"), input = nm::open<nm::pipe>(ctx, "netmap:in{1@1");
    std::deque<lb::outlet<nm::pipe>> outlets;
    std::deque<consumer> consumers;
    std::vector<lb::group> groups;
    std::unique_ptr<lb::spreader<nm::pipe>> spread;
    std::map<std::uint32_t, std::uint32_t> sent;  // per flow
    bool broken = false;

    void add_group(const std::string& prefix, std::size_t n, const std::string& memory) {
        groups.push_back({prefix, outlets.size(), n});
        for (std::size_t i = 0; i < n; ++i) {
            const std::string id = std::to_string(i) + "@conf:slots=128" + memory;
            outlets.emplace_back(prefix, nm::open<nm::pipe>(ctx, "netmap:" + prefix + "{" + id));
            consumers.push_back({nm::open<nm::pipe>(ctx, "netmap:" + prefix + "}" + id), {}});
        }
    }
    void start(std::uint32_t extra) {
        auto& m = input.region();
        std::vector<std::uint32_t> bufs;
        while (bufs.size() != extra) bufs.push_back(*m.bufs().take());
        spread = std::make_unique<lb::spreader<nm::pipe>>(outlets, groups, nm::vale::connection_reader(nm::vale::keyed_hash::from(1, 2)),
                                                          overflow(outlets.size(), bufs), nm::buffer_space(m));
    }
    // A frame of `slots` slots, of which each ends with flow and number.
    void send(std::uint32_t flow, unsigned slots = 1) {
        auto& tx = source.tx();
        if (tx.space() < slots) (void)tx.txsync();
        ASSERT_GE(tx.space(), slots);
        const std::uint32_t mark = flow << 16 | sent[flow]++;
        for (unsigned k = 0; k < slots; ++k, tx.advance()) {
            const bytes f = ipv4({0x0a000000 + flow, 1}, {0x0b000000, 2}, 17);
            std::memcpy(tx.buf(), f.data(), f.size());
            std::memcpy(tx.buf() + f.size(), &mark, 4);
            tx.slot().len = static_cast<std::uint16_t>(f.size() + 4);
            tx.slot().flags = k + 1 < slots ? nm::ns_morefrag : std::uint16_t{0};
        }
        (void)tx.txsync();
    }
    nm::index_t round(nm::index_t max = 512) {
        spread->begin_round();
        nm::index_t n = spread->serve_waiting();
        (void)input.rx().rxsync();
        n += spread->take(input.rx(), broken, max);
        (void)input.rx().rxsync();
        spread->end_round();
        return n;
    }
    void read(std::size_t c, unsigned most = 10'000) {
        auto& rx = consumers[c].port.rx();
        (void)rx.rxsync();
        while (!rx.empty() && most-- != 0) {
            const nm::slot s = nm::load_slot(rx.slot());
            std::uint32_t mark = 0;
            std::memcpy(&mark, rx.buf() + s.len - 4, 4);
            if ((s.flags & nm::ns_morefrag) == 0) consumers[c].got.push_back(mark);
            else EXPECT_GT(s.len, 4);
            rx.advance();
        }
        (void)rx.rxsync();
    }
    // received == forwarded + dropped + queued, of each group, by the rings' own counters.
    void conserved() {
        auto received = input.rx().stats().frames;
        for (auto i = input.rx().head(); i != input.rx().tail(); i = input.rx().next(i))
            received -= (input.rx().slot(i).flags & nm::ns_morefrag) == 0 ? 1U : 0U;
        ASSERT_EQ(spread->received(), received);
        for (const auto& g : groups) {
            std::uint64_t sum = spread->broken();
            for (std::size_t q = g.first; q < g.first + g.count; ++q) {
                const auto c = spread->count(q);
                sum += c.forwarded + c.dropped + c.queued;
                ASSERT_EQ(c.forwarded, outlets[q].port.tx().stats().frames);
            }
            ASSERT_EQ(sum, received);
        }
    }
    // Each flow is at one consumer of a group, in order; returns frames.
    std::size_t whole_flows(const lb::group& g, bool gaps) {
        std::map<std::uint32_t, std::size_t> at;
        std::map<std::uint32_t, std::uint32_t> next;
        std::size_t n = 0;
        for (std::size_t c = g.first; c < g.first + g.count; ++c)
            for (const auto mark : consumers[c].got) {
                const std::uint32_t flow = mark >> 16, number = mark & 0xffffU;
                EXPECT_EQ(at.try_emplace(flow, c).first->second, c);
                if (gaps) EXPECT_GE(number, next[flow]);
                else EXPECT_EQ(number, next[flow]);
                next[flow] = number + 1;
                ++n;
            }
        return n;
    }
};

// Swapped in one group, copied for another, which is in other memory; frames of one slot and of several.
TEST_F(spreading, every_group_gets_every_frame_once) {
    add_group("far", 2, "");
    add_group("near", 3, "@1");
    start(100);
    ASSERT_EQ(&outlets[2].port.region(), &input.region());
    ASSERT_NE(&outlets[0].port.region(), &input.region());
    std::mt19937 random(3);
    const auto below = [&random](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
    std::size_t frames = 0;
    for (int i = 0; i < 400; ++i) {
        for (int k = 0; k < 20; ++k, ++frames) send(below(50), 1 + (below(8) == 0 ? below(5) : 0));
        (void)round(1 + below(40));
        for (std::size_t c = 0; c < consumers.size(); ++c) read(c);
        conserved();
        while (round() != 0)
            for (std::size_t c = 0; c < consumers.size(); ++c) read(c);
    }
    for (const auto& g : groups) EXPECT_EQ(whole_flows(g, false), frames);
    for (std::size_t q = 0; q < outlets.size(); ++q) EXPECT_EQ(spread->count(q).dropped, 0U);
}

// Slower than what comes, and a slot at a time: what waits stays in order and whole, though frames that came later would fit.
TEST_F(spreading, who_is_slow_gets_everything_in_order) {
    add_group("far", 1, "");
    add_group("near", 2, "@1");
    start(2500);
    std::mt19937 random(5);
    const auto below = [&random](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
    std::size_t frames = 0;
    for (int i = 0; i < 200; ++i) {
        for (int k = 0; k < 10; ++k, ++frames) send(below(20), 1 + below(3));
        (void)round();
        read(0, below(30));
        read(1, below(15));
        read(2, below(15));
        conserved();
    }
    EXPECT_GT(spread->count(0).queued + spread->count(1).queued + spread->count(2).queued, 100U);
    for (int i = 0; i < 300; ++i) {
        (void)round();
        for (std::size_t c = 0; c < consumers.size(); ++c) read(c, 7);
    }
    for (const auto& g : groups) EXPECT_EQ(whole_flows(g, false), frames);
    for (std::size_t q = 0; q < outlets.size(); ++q) EXPECT_EQ(spread->count(q).dropped, 0U);
}

// One stands still; the others get all that is theirs, and one that is only slow loses nothing either.
TEST_F(spreading, who_stands_still_stops_nobody) {
    add_group("far", 2, "");
    add_group("near", 3, "@1");
    start(200);
    std::mt19937 random(4);
    std::size_t frames = 0;
    for (int i = 0; i < 300; ++i) {
        for (int k = 0; k < 30; ++k, ++frames) send(static_cast<std::uint32_t>(random() % 50));
        (void)round();
        for (std::size_t c = 1; c < consumers.size(); ++c) read(c);  // 0 does not
        conserved();
    }
    EXPECT_EQ(whole_flows(groups[1], false), frames);
    const auto still = spread->count(0);
    EXPECT_EQ(still.forwarded, 127U);
    EXPECT_EQ(still.queued, 200U);
    EXPECT_GT(still.dropped, 1000U);
    for (std::size_t q = 1; q < outlets.size(); ++q) EXPECT_EQ(spread->count(q).dropped, 0U) << q;
    // Somebody else is short of buffers for a while, and takes them from the one who has most.
    for (int k = 0; k < 150; ++k) {
        send(7);
        (void)round();
    }
    const auto before = spread->count(0).dropped;
    EXPECT_GT(before, still.dropped);
    EXPECT_LT(spread->count(0).queued, 200U);
    for (std::size_t q = 1; q < outlets.size(); ++q) EXPECT_EQ(spread->count(q).dropped, 0U) << q;
    // It comes to life: what waited comes, in order, and not what was dropped.
    for (int i = 0; i < 10; ++i) {
        for (std::size_t c = 0; c < consumers.size(); ++c) read(c);
        (void)round();
    }
    conserved();
    EXPECT_EQ(spread->count(0).queued, 0U);
    EXPECT_LT(whole_flows(groups[0], true), frames + 150);
    EXPECT_EQ(whole_flows(groups[1], false), frames + 150);
    EXPECT_EQ(spread->waiting().free(), 200U);
}

TEST_F(spreading, without_extra_buffers_a_full_pipe_drops) {
    add_group("near", 2, "@1");
    start(0);
    for (int i = 0; i < 10; ++i) {
        for (unsigned k = 0; k < 50; ++k) send(k);
        (void)round();
        read(1);
        conserved();
    }
    EXPECT_EQ(spread->count(0).queued, 0U);
    EXPECT_GT(spread->count(0).dropped, 0U);
    EXPECT_EQ(spread->count(1).dropped, 0U);
    read(0);
    EXPECT_EQ(consumers[0].got.size(), 127U);
}

// A sender may promise more slots than any frame has.
TEST_F(spreading, a_frame_without_an_end_is_no_frame) {
    add_group("near", 2, "@1");
    start(10);
    auto& rx = input.rx();
    for (unsigned k = 0; k < 3; ++k) send(k);
    (void)rx.rxsync();
    ASSERT_EQ(rx.space(), 3U);
    // As a ring would look that does not check its sender: a chain of 70 slots, then good ones.
    for (unsigned k = 0; k < 70; ++k) send(9);
    (void)rx.rxsync();
    for (nm::index_t i = 3; i < 72; ++i) rx.slot(i).flags = nm::ns_morefrag;
    spread->begin_round();
    EXPECT_EQ(spread->take(rx, broken, 512), 4U);
    spread->end_round();
    EXPECT_EQ(spread->received(), 4U);
    EXPECT_EQ(spread->broken(), 1U);
    EXPECT_FALSE(broken);
    EXPECT_TRUE(rx.empty());
    // One whose end has not come waits for it.
    send(1);
    (void)rx.rxsync();
    rx.slot().flags = nm::ns_morefrag;
    EXPECT_EQ(spread->take(rx, broken, 512), 0U);
    EXPECT_EQ(rx.space(), 1U);
}

// Who has the memory, too, writes that the ring goes on and on.
TEST_F(spreading, a_ring_that_never_ends_holds_nobody_up) {
    add_group("near", 2, "@1");
    start(10);
    auto& rx = input.rx();
    for (const std::uint16_t flags : {std::uint16_t{0}, nm::ns_morefrag}) {
        for (nm::index_t i = 0; i < rx.num_slots(); ++i) nm::store_slot(rx.slot(i), {rx.slot(i).buf_idx, 0, flags, 0});
        rx.set_head(0);
        rx.shared().tail = ~0U;
        spread->begin_round();
        EXPECT_EQ(spread->take(rx, broken, 512), 0U);
        spread->end_round();
        broken = false;
    }
    (void)rx.rxsync();  // puts it right
    send(1);
    EXPECT_EQ(round(), 1U);
    EXPECT_EQ(spread->received(), 1U);
}

// A pipe that does something whenever it is looked at: in the middle of a frame's way, as another process would.
struct villain {
    nm::pipe port;
    std::function<void()> strike;
    auto& tx(nm::index_t i) {
        if (strike) strike();
        return port.tx(i);
    }
};

TEST(lb_spreader, a_length_that_grows_reaches_into_no_other_buffer) {
    nm::context wide{{.shared_bufs = 1024, .buf_size = 16384}}, narrow;
    auto source = nm::open<nm::pipe>(wide, "netmap:in}1@1@conf:slots=64"), input = nm::open<nm::pipe>(wide, "netmap:in{1@1@conf:slots=64");
    std::deque<lb::outlet<villain>> outlets;
    outlets.emplace_back("out", villain{nm::open<nm::pipe>(narrow, "netmap:out{0"), {}});
    auto& tx = outlets[0].port.port.tx(0);
    ASSERT_LT(tx.buf_size(), input.rx().buf_size());
    lb::spreader<villain> spread(outlets, {{"out", 0, 1}}, nm::vale::connection_reader(), overflow(1, {}), nm::buffer_space(input.region()));
    source.tx().slot().len = 60;
    source.tx().advance();
    (void)source.tx().txsync();
    (void)input.rx().rxsync();
    auto& slot = input.rx().slot();
    unsigned looks = 0;
    outlets[0].port.strike = [&] { slot.len = ++looks == 1 ? 60 : 16000; };  // first by who checks it
    bool broken = false;
    spread.begin_round();
    EXPECT_EQ(spread.take(input.rx(), broken, 1), 1U);
    EXPECT_GT(looks, 1U);
    EXPECT_LE(tx.slot(0).len, tx.buf_size());
}

}  // namespace
