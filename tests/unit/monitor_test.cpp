// SPDX-License-Identifier: BSD-2-Clause
#include "support/pipes.hpp"

#include <chrono>
#include <poll.h>
#include <thread>

namespace {

using namespace nm;
using namespace nm::test;
using namespace std::chrono_literals;

/// What came out of a monitor.
struct seen {
    std::vector<std::uint32_t> numbers;
    std::vector<bool> sent;  // seen on the tx side
    std::vector<std::uint64_t> when;
    index_t slots = 0, chains = 0;
    std::size_t bytes = 0;
};

seen take(monitor& m, index_t max = 4096) {
    seen all;
    for (index_t i = 0; i < m.num_rx_rings(); ++i)
        (void)drain(m.rx(i), max, [&](frame& f) noexcept {
            ++all.slots;
            all.bytes += f.size();
            if (!f.first()) return;
            if (!f.last()) ++all.chains;
            std::uint32_t n = 0;
            std::memcpy(&n, f.data(), sizeof n);
            all.numbers.push_back(n);
            all.sent.push_back((f.meta().flags & ns_txmon) != 0);
            all.when.push_back(f.meta().ptr);
        });
    return all;
}

std::vector<std::uint32_t> counting(std::uint32_t from, std::uint32_t to) {
    std::vector<std::uint32_t> v;
    for (; from != to; ++from) v.push_back(from);
    return v;
}

/// Two pipe ends whose memory has room for monitors that want to live there.
struct roomy_pair {
    nm::context ctx;
    nm::pipe a, b;
    explicit roomy_pair(unsigned slots = 16, unsigned rings = 1)
        : a(nm::open<nm::pipe>(ctx, "netmap:p{1@7", pipe_pair::sized(slots, rings))), b(nm::open<nm::pipe>(ctx, "netmap:p}1")) {}
};

std::string refused(context& ctx, const std::string& name, const open_options& o = {}) {
    auto m = try_open<monitor>(ctx, name, o);
    return m ? "opened" : m.error().text;
}

void send_by_hand(nm::pipe& p, index_t n, std::uint32_t& next) {
    auto& tx = p.tx(0);
    for (; n != 0 && !tx.empty(); --n, tx.advance()) {
        std::memcpy(tx.buf(), &next, sizeof next);
        ++next;
        tx.slot().len = 60;
        tx.slot().flags = 0;
    }
    (void)tx.txsync();
}

index_t take_by_hand(nm::pipe& p) {
    auto& rx = p.rx(0);
    (void)rx.rxsync();
    const index_t n = rx.space();
    rx.advance(n);
    (void)rx.rxsync();
    return n;
}

TEST(monitor, sees_what_is_sent_and_what_is_received) {
    pipe_pair p(16);
    auto sent = open<monitor>(p.ctx, "netmap:p{1/t");
    auto got = open<monitor>(p.ctx, "netmap:p}1/r");
    auto both = open<monitor>(p.ctx, "netmap:p{1/rt");
    std::uint32_t next = 0;
    EXPECT_EQ(send_numbered(p.a.tx(0), 10, next), 10U);
    EXPECT_EQ(take(sent).numbers, counting(0, 10)) << "before anybody received them";
    EXPECT_EQ(take(got).slots, 0U);
    std::uint32_t expected = 0;
    bool in_order = true;
    EXPECT_EQ(take_numbered(p.b.rx(0), 100, expected, in_order), 10U);
    EXPECT_TRUE(in_order);
    const auto g = take(got);
    EXPECT_EQ(g.numbers, counting(0, 10));
    EXPECT_EQ(g.sent, std::vector<bool>(10, false));

    std::uint32_t back = 100;
    EXPECT_EQ(send_numbered(p.b.tx(0), 5, back), 5U);
    EXPECT_EQ(drain(p.a, 100), 5U);
    const auto s = take(both);
    auto all = counting(0, 10);
    for (const auto n : counting(100, 105)) all.push_back(n);
    EXPECT_EQ(s.numbers, all);
    std::vector<bool> sides(10, true);
    sides.resize(15, false);
    EXPECT_EQ(s.sent, sides) << "what the parent sent is marked, what it received is not";
    expect_conserved(p.a, p.b);
}

TEST(monitor, sees_the_same_in_fused_loops_and_by_hand) {
    for (const bool by_hand : {false, true}) {
        pipe_pair p(16);
        auto sent = open<monitor>(p.ctx, "netmap:p{1/t@conf:slots=1000");
        auto got = open<monitor>(p.ctx, "netmap:p}1/r@conf:slots=1000");
        std::uint32_t next = 0;
        std::uint32_t expected = 0;
        bool in_order = true;
        for (int round = 0; round < 40; ++round) {
            const auto n = static_cast<index_t>(1 + round % 15);
            if (by_hand) send_by_hand(p.a, n, next);
            else (void)send_numbered(p.a.tx(0), n, next);
            if (by_hand) (void)take_by_hand(p.b);
            else (void)take_numbered(p.b.rx(0), 100, expected, in_order);
        }
        EXPECT_TRUE(in_order);
        const auto s = take(sent);
        const auto g = take(got);
        EXPECT_EQ(s.numbers, counting(0, next)) << by_hand;
        EXPECT_EQ(g.numbers, counting(0, next)) << by_hand;
        EXPECT_EQ(s.bytes, 60U * next);
        expect_conserved(p.a, p.b);
    }
}

TEST(monitor, sees_what_a_loop_takes_after_rxsync_once) {
    pipe_pair p(16);
    auto m = open<monitor>(p.ctx, "netmap:p}1/r");
    std::uint32_t next = 0;
    (void)send_numbered(p.a.tx(0), 6, next);
    EXPECT_EQ(p.b.rx(0).rxsync(), 6U);
    EXPECT_EQ(drain(p.b, 2), 2U);
    (void)send_numbered(p.a.tx(0), 4, next);
    EXPECT_EQ(drain(p.b, 100), 8U);
    EXPECT_EQ(take(m).numbers, counting(0, 10));
}

TEST(monitor, sees_both_sides_of_a_forward) {
    pipe_pair p(16);
    auto c = open<nm::pipe>(p.ctx, "netmap:q{1", pipe_pair::sized(16));
    auto d = open<nm::pipe>(p.ctx, "netmap:q}1");
    auto in = open<monitor>(p.ctx, "netmap:p}1/r@conf:slots=100");
    auto out = open<monitor>(p.ctx, "netmap:q{1/t@conf:slots=100");
    std::uint32_t next = 0;
    for (int i = 0; i < 10; ++i) {
        (void)send_numbered(p.a.tx(0), 9, next);
        EXPECT_EQ(forward(p.b, c, 100, [](frame& f) noexcept { return f.data()[0] % 3 == 0 ? verdict::drop : verdict::pass; }), 9U);
        (void)drain(d, 100);
    }
    EXPECT_EQ(take(in).numbers, counting(0, next));
    std::vector<std::uint32_t> passed;
    for (const auto n : counting(0, next))
        if (n % 3 != 0) passed.push_back(n);
    EXPECT_EQ(take(out).numbers, passed);
}

TEST(monitor, has_as_many_rings_as_its_parent_or_one) {
    pipe_pair p(16, 4);
    auto all = open<monitor>(p.ctx, "netmap:p{1/rt");
    auto one = open<monitor>(p.ctx, "netmap:p{1-2/rt");
    EXPECT_EQ(all.num_rx_rings(), 4U);
    EXPECT_EQ(all.num_tx_rings(), 1U);
    EXPECT_EQ(one.num_rx_rings(), 1U);
    EXPECT_EQ(all.rx(0).num_slots(), 16U) << "the parent's";
    EXPECT_EQ(all.mode(), "monitor");
    EXPECT_EQ(one.name(), "p{1-2/rt");
    for (std::uint32_t i = 0; i < 4; ++i) {
        std::uint32_t n = 10 * i;
        (void)send_numbered(p.a.tx(i), 3, n);
    }
    EXPECT_EQ(take(one).numbers, counting(20, 23));
    for (index_t i = 0; i < 4; ++i) {
        std::uint32_t first = 0;
        EXPECT_EQ(drain(all.rx(i), 1, [&](frame& f) noexcept { std::memcpy(&first, f.data(), 4); }), 1U);
        EXPECT_EQ(first, 10 * i) << "ring i of the parent is ring i of its monitor";
    }
    EXPECT_NE(refused(p.ctx, "netmap:p{1-4/r").find("has 4 ring(s): there is no ring 4"), std::string::npos);
}

TEST(monitor, is_refused_with_a_sentence) {
    context ctx;
    EXPECT_NE(refused(ctx, "netmap:p{1/r").find("is not open in this program"), std::string::npos);
    pipe_pair p(16);
    EXPECT_NE(refused(p.ctx, "netmap:p{1^/r").find("p{1^ is not open"), std::string::npos);
    EXPECT_NE(refused(p.ctx, "netmap:p{1*/r").find("a monitor for each"), std::string::npos);
    EXPECT_NE(refused(p.ctx, "netmap:p{2/r").find("is not open"), std::string::npos);
    EXPECT_NE(refused(p.ctx, "netmap:p{1/r/r").find("unknown flag"), std::string::npos) << "no monitor on a monitor";
    EXPECT_NE(refused(p.ctx, "netmap:p{1/r@conf:slots=5000").find("2 to 4096 slots"), std::string::npos);
    EXPECT_NE(refused(p.ctx, "netmap:p{1/r@conf:rings=3").find("has a ring for each ring"), std::string::npos);
    EXPECT_NE(refused(p.ctx, "netmap:p{1/z@conf:slots=4096").find("leave out the z"), std::string::npos) << "no room in the pipe's memory";
    p.b.close();
    EXPECT_NE(refused(p.ctx, "netmap:p}1/r").find("is not open"), std::string::npos) << "that end has been closed";
    EXPECT_EQ(refused(p.ctx, "netmap:p{1/r"), "opened");
    auto null = open<null_port>(p.ctx, "null:n");
    EXPECT_EQ(refused(p.ctx, "null:n/t"), "opened");
    EXPECT_FALSE(try_open<null_port>(p.ctx, "null:n/t")) << "a monitor's name is no null port's";
    EXPECT_TRUE(query<monitor>(p.ctx, "null:n/t"));
}

TEST(monitor, opens_by_a_name_known_at_run_time) {
    pipe_pair p(16);
    auto any = open<all_ports>(p.ctx, "netmap:p{1/r");
    EXPECT_TRUE(std::holds_alternative<monitor>(any));
    const auto info = query(p.ctx, "netmap:p{1/rt");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->reason, "watches what p{1 receives and sends");
}

TEST(monitor, counts_what_is_sent_on_it) {
    pipe_pair p(16);
    auto m = open<monitor>(p.ctx, "netmap:p{1/r");
    std::uint32_t next = 0;
    for (int i = 0; i < 20; ++i) EXPECT_EQ(send_numbered(m.tx(0), 5, next), 5U);
    EXPECT_EQ(m.tx_stats().frames, 100U);
    EXPECT_EQ(m.tx_stats().dropped(cause::no_dst), 100U);
    EXPECT_EQ(m.tx_stats().dropped(), 100U);
    EXPECT_EQ(drain(p.b, 100), 0U);
}

TEST(monitor, says_when_its_parent_has_been_closed) {
    pipe_pair p(16);
    auto m = open<monitor>(p.ctx, "netmap:p{1/rt");
    auto second = open<nm::pipe>(p.ctx, "netmap:p{1");
    std::uint32_t next = 0;
    (void)send_numbered(p.a.tx(0), 3, next);
    p.a.close();
    EXPECT_TRUE(m.status()) << "another handle has it open";
    std::thread closer([&] {
        std::this_thread::sleep_for(50ms);
        second.close();
    });
    EXPECT_EQ(wait(m, events::rx, 0ms), events::rx);
    EXPECT_EQ(take(m).numbers, counting(0, 3)) << "what was seen can still be read";
    EXPECT_EQ(wait(m, events::rx), events::error) << "and who sleeps is woken";
    closer.join();
    ASSERT_FALSE(m.status());
    EXPECT_EQ(m.status().error().code.value(), EIO);
    EXPECT_EQ(wait(m, events::rx | events::tx, 0ms), events::tx) << "there is always room";
    EXPECT_EQ(wait(m, events::rx), events::error) << "and stays so";
    m.arm(events::rx);
    pollfd f{m.fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&f, 1, 0), 1);
    // A new opening is another port: the old monitor does not see it.
    auto again = open<nm::pipe>(p.ctx, "netmap:p{1");
    auto fresh = open<monitor>(p.ctx, "netmap:p{1/t");
    (void)send_numbered(again.tx(0), 2, next);
    EXPECT_FALSE(m.status());
    EXPECT_EQ(take(m).slots, 0U);
    EXPECT_EQ(take(fresh).numbers, counting(3, 5));
}

TEST(monitor, outlives_its_parent_and_the_context) {
    std::optional<monitor> m;
    {
        roomy_pair p;
        m.emplace(open<monitor>(p.ctx, "netmap:p{1/zrt"));
        std::uint32_t next = 0;
        (void)send_numbered(p.a.tx(0), 3, next);
    }
    EXPECT_EQ(take(*m).numbers, counting(0, 3));
    EXPECT_FALSE(m->status());
}

TEST(monitor, wakes_who_sleeps_on_it) {
    pipe_pair p(16);
    auto m = open<monitor>(p.ctx, "netmap:p{1/t");
    std::thread sender([&] {
        for (std::uint32_t n = 0; n < 200;) {
            if (send_numbered(p.a.tx(0), 1, n) == 1) std::this_thread::yield();
            (void)drain(p.b, 16);
        }
    });
    std::uint32_t got = 0;
    while (got + m.rx_stats().dropped() < 200) {
        ASSERT_EQ(wait(m, events::rx, 10s), events::rx);
        got += drain(m, 100);
    }
    sender.join();
}

TEST(monitor, that_is_slow_loses_frames_with_a_count_and_its_parent_none) {
    pipe_pair p(32);
    auto slow = open<monitor>(p.ctx, "netmap:p{1/t@conf:slots=8");
    auto other = open<monitor>(p.ctx, "netmap:p{1/t@conf:slots=4096");
    std::uint32_t next = 0;
    std::uint32_t expected = 0;
    bool in_order = true;
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(send_numbered(p.a.tx(0), 31, next), 31U);
        EXPECT_EQ(take_numbered(p.b.rx(0), 100, expected, in_order), 31U);
    }
    EXPECT_TRUE(in_order);
    const auto s = take(slow);
    EXPECT_EQ(s.numbers, counting(0, 7)) << "the newest are lost";
    EXPECT_EQ(slow.rx_stats().frames + slow.rx_stats().dropped(cause::full), next);
    EXPECT_EQ(slow.rx_stats().dropped(), next - 7U);
    (void)send_numbered(p.a.tx(0), 5, next);
    EXPECT_EQ(take(slow).numbers, counting(next - 5, next));
    EXPECT_EQ(take(other).numbers, counting(0, next));
    EXPECT_EQ(other.rx_stats().dropped(), 0U);
}

TEST(monitor, clips_what_its_buffers_do_not_hold) {
    pipe_pair p(16);
    open_options o;
    region_options r;
    r.bufs = 100;
    r.buf_size = 128;
    o.memory = value_or_throw(region::create(r));
    auto m = open<monitor>(p.ctx, "netmap:p{1/t", o);
    std::uint32_t next = 0;
    EXPECT_EQ(send_numbered(p.a.tx(0), 1, next, 1500), 1U);
    EXPECT_EQ(send_numbered(p.a.tx(0), 1, next, 128), 1U);
    EXPECT_EQ(send_numbered(p.a.tx(0), 1, next, 60), 1U);
    const auto s = take(m);
    EXPECT_EQ(s.numbers, counting(0, 3));
    EXPECT_EQ(s.bytes, 128U + 128U + 60U);
}

/// Sends a frame of `slots` slots; its first bytes are its number.
void send_chain(nm::pipe& p, index_t slots, std::uint32_t number, std::uint16_t len = 100) {
    index_t at = 0;
    (void)generate(p.tx(0), slots, [&](frame& f) noexcept {
        std::memcpy(f.data(), &number, sizeof number);
        f.resize(len);
        f.meta().flags = ++at != slots ? ns_morefrag : std::uint16_t{0};
    });
}

TEST(monitor, keeps_frames_of_several_slots_together) {
    pipe_pair p(128);
    auto sent = open<monitor>(p.ctx, "netmap:p{1/t@conf:slots=32");
    auto got = open<monitor>(p.ctx, "netmap:p}1/r");
    send_chain(p.a, 3, 1);
    send_chain(p.a, 40, 2);  // more than the monitor has slots
    send_chain(p.a, 64, 3);
    send_chain(p.a, 20, 4);
    EXPECT_EQ(drain(p.b, 200), 4U);
    const auto s = take(sent);
    EXPECT_EQ(s.numbers, (std::vector<std::uint32_t>{1, 4})) << "whole or not at all";
    EXPECT_EQ(s.slots, 23U);
    EXPECT_EQ(s.chains, 2U);
    EXPECT_EQ(sent.rx_stats().dropped(cause::full), 2U);
    const auto g = take(got);
    EXPECT_EQ(g.numbers, counting(1, 5));
    EXPECT_EQ(g.slots, 127U);
}

TEST(monitor, does_not_show_what_was_refused) {
    pipe_pair p(128);
    auto sent = open<monitor>(p.ctx, "netmap:p{1/t");
    auto got = open<monitor>(p.ctx, "netmap:p}1/r");
    auto& tx = p.a.tx(0);
    std::uint32_t next = 7;
    // A chain that a bad slot ends, one that does not end for longer than any may be, and a good frame after each.
    const auto put = [&](std::uint16_t len, std::uint16_t flags, std::uint32_t idx = 0) {
        std::memcpy(tx.buf(), &next, sizeof next);
        tx.slot().len = len;
        tx.slot().flags = flags;
        if (idx != 0) tx.slot().buf_idx = idx;
        tx.advance();
    };
    put(60, ns_morefrag);
    put(60, ns_morefrag);
    put(60, ns_morefrag, 0xfffffff0U);
    put(60, 0);
    put(60, 0);
    for (int i = 0; i < 70; ++i) put(60, ns_morefrag);
    put(60, 0);
    put(60, 0);
    (void)tx.txsync();
    (void)p.b.rx(0).rxsync();
    EXPECT_EQ(tx.stats().frames - tx.stats().dropped(), 2U);
    EXPECT_EQ(take(sent).numbers, (std::vector<std::uint32_t>{7, 7}));
    EXPECT_EQ(take(got).numbers, (std::vector<std::uint32_t>{7, 7}));
    EXPECT_EQ(sent.rx_stats().dropped() + got.rx_stats().dropped(), 0U) << "the parent has counted them";
}

TEST(monitor, survives_slots_that_change_under_it) {
    pipe_pair p(16);
    auto m = open<monitor>(p.ctx, "netmap:p}1/r");
    std::uint32_t next = 0;
    (void)send_numbered(p.a.tx(0), 6, next);
    // What the receiver's end finds in its slots is the other side's to write.
    auto& rx = p.b.rx(0);
    rx.slot(1).buf_idx = 0xfffffff0U;
    rx.slot(2).len = 0xffff;
    rx.slot(3).flags = ns_morefrag;  // takes frame 4 with it
    rx.slot(5).flags = ns_morefrag;  // and this one does not end
    EXPECT_EQ(rx.rxsync(), 6U);
    auto s = take(m);
    EXPECT_EQ(s.numbers, (std::vector<std::uint32_t>{0, 3}));
    EXPECT_EQ(m.rx_stats().dropped(cause::bad_chain), 1U);
    (void)send_numbered(p.a.tx(0), 3, next);  // the first ends what was left open
    rx.advance(6);
    (void)rx.rxsync();
    EXPECT_EQ(take(m).numbers, (std::vector<std::uint32_t>{7, 8})) << "the next good frame passes";
    EXPECT_EQ(m.rx_stats().dropped(), 1U);
}

TEST(monitor, survives_a_ring_of_its_own_that_was_scribbled_over) {
    pipe_pair p(16);
    auto m = open<monitor>(p.ctx, "netmap:p{1/t");
    auto& rx = m.rx(0);
    const auto kept = rx.slot(2).buf_idx;
    rx.slot(2).buf_idx = 0;
    rx.slot(3).buf_idx = 0x7fffffffU;
    std::uint32_t next = 0;
    (void)send_numbered(p.a.tx(0), 6, next);
    EXPECT_EQ(take(m).numbers, (std::vector<std::uint32_t>{0, 1, 4, 5}));
    EXPECT_EQ(m.rx_stats().dropped(cause::bad_idx), 2U);
    EXPECT_EQ(m.rx_stats().frames + m.rx_stats().dropped(), 6U);
    rx.slot(2).buf_idx = kept;
}

TEST(monitor, says_when_a_frame_was_seen_and_hands_its_header_on) {
    pipe_pair p(16);
    auto m = open<monitor>(p.ctx, "netmap:p{1/t");
    const auto now = [] {
        timespec t{};
        ::clock_gettime(CLOCK_REALTIME, &t);
        return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
    };
    const auto before = now();
    std::uint32_t next = 0;
    (void)send_numbered(p.a.tx(0), 1, next);
    const auto after = now();
    (void)generate(p.a.tx(0), 1, [](frame& f) noexcept {
        f.resize(60);
        f.meta().flags = ns_vnet;
        f.meta().ptr = 0x1234;
    });
    std::vector<slot> slots;
    EXPECT_EQ(drain(m, 10, [&](slot& s) noexcept { slots.push_back(s); }), 2U);
    ASSERT_EQ(slots.size(), 2U);
    EXPECT_GE(slots[0].ptr, before);
    EXPECT_LE(slots[0].ptr, after);
    EXPECT_EQ(slots[1].ptr, 0x1234U);
    EXPECT_EQ(slots[1].flags & ns_vnet, ns_vnet);
}

TEST(monitor, watches_ports_of_a_switch) {
    for (const bool one_memory : {false, true}) {
        context ctx;
        const std::string id = one_memory ? "@5" : "";
        auto a = open<vale_port>(ctx, "vale0:a" + id);
        auto b = open<vale_port>(ctx, "vale0:b" + id);
        auto c = open<vale_port>(ctx, "vale0:c" + id);
        auto sent = open<monitor>(ctx, "vale0:a/t");
        auto got = open<monitor>(ctx, "vale0:b/r");
        auto other = open<monitor>(ctx, "vale0:c/rt");
        std::uint32_t next = 0;
        for (int i = 0; i < 3; ++i) EXPECT_EQ(send_numbered(a.tx(0), 100, next), 100U);
        EXPECT_EQ(take(sent).numbers, counting(0, 300));
        EXPECT_EQ(drain(b, 1000), 300U);
        (void)c.rx(0).rxsync();
        EXPECT_EQ(take(got).numbers, counting(0, 300)) << "unknown stations: to all";
        EXPECT_EQ(take(other).numbers, counting(0, 300));
        EXPECT_EQ(b.rx_stats().frames, 300U);
        EXPECT_EQ(a.tx_stats().dropped(), 0U);
    }
}

TEST(monitor, reads_what_an_indirect_slot_points_to) {
    context ctx;
    open_options o;
    o.indirect = true;
    auto a = open<vale_port>(ctx, "vale0:a", o);
    auto b = open<vale_port>(ctx, "vale0:b");
    auto m = open<monitor>(ctx, "vale0:a/t");
    alignas(64) std::array<std::uint8_t, 64> elsewhere{};
    const std::uint32_t number = 4711;
    std::memcpy(elsewhere.data(), &number, sizeof number);
    (void)generate(a.tx(0), 1, [&](frame& f) noexcept {
        f.resize(60);
        f.meta().flags = ns_indirect;
        f.meta().ptr = reinterpret_cast<std::uintptr_t>(elsewhere.data());
    });
    EXPECT_EQ(take(m).numbers, (std::vector<std::uint32_t>{4711}));
    std::vector<std::uint8_t> large(9000);
    (void)generate(a.tx(0), 1, [&](frame& f) noexcept {
        f.resize(9000);
        f.meta().flags = ns_indirect;
        f.meta().ptr = reinterpret_cast<std::uintptr_t>(large.data());
    });
    EXPECT_EQ(take(m).bytes, m.rx(0).buf_size()) << "as much of it as a slot of the monitor holds";
}

// Zero-copy.

std::vector<std::uint32_t> buffers_of(monitor& m) {
    std::vector<std::uint32_t> v;
    (void)m.rx(0).rxsync();
    for (index_t i = m.rx(0).head(); i != m.rx(0).tail(); i = m.rx(0).next(i)) v.push_back(m.rx(0).slot(i).buf_idx);
    return v;
}

TEST(monitor_zero_copy, takes_the_buffers_that_are_released_by_hand) {
    roomy_pair p;
    auto m = open<monitor>(p.ctx, "netmap:p}1/zr");
    EXPECT_EQ(m.mode(), "monitor zero-copy");
    EXPECT_EQ(m.memory(), p.b.memory());
    std::uint32_t next = 0;
    for (int round = 0; round < 20; ++round) {
        send_by_hand(p.a, 5, next);
        auto& rx = p.b.rx(0);
        EXPECT_EQ(rx.rxsync(), 5U);
        std::vector<std::uint32_t> had;
        for (index_t i = rx.head(); i != rx.tail(); i = rx.next(i)) had.push_back(rx.slot(i).buf_idx);
        EXPECT_EQ(buffers_of(m).size(), 0U) << "not before they are released";
        const index_t first = rx.head();
        rx.advance(3);
        (void)rx.rxsync();
        EXPECT_EQ(buffers_of(m), (std::vector<std::uint32_t>{had[0], had[1], had[2]}));
        EXPECT_NE(rx.slot(first).buf_idx, had[0]);
        EXPECT_NE(rx.slot(first).flags & ns_buf_changed, 0);
        rx.advance(2);
        (void)rx.rxsync();
        EXPECT_EQ(take(m).numbers, counting(next - 5, next));
    }
    EXPECT_EQ(m.rx_stats().dropped(), 0U);
    expect_conserved(p.a, p.b);
}

TEST(monitor_zero_copy, copies_what_a_fused_loop_moves_on) {
    roomy_pair p;
    auto c = open<nm::pipe>(p.ctx, "netmap:q{1@7", pipe_pair::sized(16));
    auto d = open<nm::pipe>(p.ctx, "netmap:q}1");
    auto m = open<monitor>(p.ctx, "netmap:p}1/z@conf:slots=200");
    std::uint32_t next = 0;
    std::uint32_t expected = 0;
    bool in_order = true;
    for (int i = 0; i < 10; ++i) {
        (void)send_numbered(p.a.tx(0), 9, next);
        if (i % 2 != 0) (void)p.b.rx(0).rxsync();
        EXPECT_EQ(forward(p.b, c, 100), 9U);
        EXPECT_EQ(take_numbered(d.rx(0), 100, expected, in_order), 9U);
    }
    EXPECT_TRUE(in_order);
    EXPECT_EQ(take(m).numbers, counting(0, next));
}

TEST(monitor_zero_copy, counts_what_was_swapped_away_by_hand) {
    roomy_pair p;
    auto c = open<nm::pipe>(p.ctx, "netmap:q{1@7", pipe_pair::sized(16));
    auto m = open<monitor>(p.ctx, "netmap:p}1/zr");
    std::uint32_t next = 0;
    (void)send_numbered(p.a.tx(0), 4, next);
    auto& rx = p.b.rx(0);
    (void)rx.rxsync();
    for (int i = 0; i < 2; ++i, rx.advance(), c.tx(0).advance()) swap_slots(rx, c.tx(0));
    rx.advance(2);
    (void)rx.rxsync();
    EXPECT_EQ(take(m).numbers, counting(2, 4));
    EXPECT_EQ(m.rx_stats().dropped(cause::bad_idx), 2U);
    EXPECT_EQ(m.rx_stats().frames + m.rx_stats().dropped(), 4U);
}

TEST(monitor_zero_copy, takes_sent_buffers_where_they_come_back_as_they_went) {
    context ctx;
    auto n = open<null_port>(ctx, "null:n@9", pipe_pair::sized(16));
    auto z = open<monitor>(ctx, "null:n/z@conf:slots=100");
    auto copy = open<monitor>(ctx, "null:n/t@conf:slots=100");
    std::vector<std::uint32_t> before;
    for (index_t i = 0; i < 16; ++i) before.push_back(n.tx(0).slot(i).buf_idx);
    std::uint32_t next = 0;
    for (int i = 0; i < 8; ++i) EXPECT_EQ(send_numbered(n.tx(0), 7, next), 7U);
    EXPECT_EQ(take(copy).numbers, counting(0, next));
    const auto s = take(z);
    ASSERT_GE(s.numbers.size(), next - 15U);
    EXPECT_EQ(s.numbers, counting(0, static_cast<std::uint32_t>(s.numbers.size())));
    EXPECT_EQ(s.sent, std::vector<bool>(s.sent.size(), true));
    EXPECT_NE(n.tx(0).slot(0).buf_idx, before[0]) << "the parent got another buffer for the one that was taken";
    // Pipes: what comes back may have been written to by the receiver, so it is copied as it goes.
    roomy_pair p;
    auto m = open<monitor>(p.ctx, "netmap:p{1/zt");
    const auto first = p.a.tx(0).slot(0).buf_idx;
    next = 0;
    (void)send_numbered(p.a.tx(0), 4, next);
    EXPECT_EQ(take(m).numbers, counting(0, 4));
    EXPECT_EQ(p.a.tx(0).slot(0).buf_idx, first);
}

TEST(monitor_zero_copy, several_share_one_frame) {
    roomy_pair p;
    auto a = open<monitor>(p.ctx, "netmap:p}1/zr");
    auto b = open<monitor>(p.ctx, "netmap:p}1/zr");
    auto c = open<monitor>(p.ctx, "netmap:p}1/r");
    std::uint32_t next = 0;
    for (int i = 0; i < 3; ++i) {
        send_by_hand(p.a, 5, next);
        EXPECT_EQ(take_by_hand(p.b), 5U);
    }
    EXPECT_EQ(take(a).numbers, counting(0, next));
    EXPECT_EQ(take(b).numbers, counting(0, next));
    EXPECT_EQ(take(c).numbers, counting(0, next));
}

TEST(monitor_zero_copy, chains_are_whole_or_counted) {
    roomy_pair p(64);
    auto m = open<monitor>(p.ctx, "netmap:p}1/zr");
    send_chain(p.a, 3, 1);
    send_chain(p.a, 5, 2);
    send_chain(p.a, 1, 3);
    auto& rx = p.b.rx(0);
    EXPECT_EQ(rx.rxsync(), 9U);
    rx.advance(5);  // in the middle of the second
    (void)rx.rxsync();
    rx.advance(4);
    (void)rx.rxsync();
    const auto s = take(m);
    EXPECT_EQ(s.numbers, (std::vector<std::uint32_t>{1, 3}));
    EXPECT_EQ(s.slots, 4U);
    EXPECT_EQ(m.rx_stats().dropped(cause::bad_chain), 1U);
}

TEST(monitor_zero_copy, leaves_every_buffer_where_it_belongs) {
    context ctx;
    region_options r;
    r.bufs = 400;
    open_options o;
    o.memory = value_or_throw(region::create(r));
    o.tx_slots = 16;
    {
        auto a = open<nm::pipe>(ctx, "netmap:p{1", o);
        auto b = open<nm::pipe>(ctx, "netmap:p}1");
        std::uint32_t next = 0;
        for (int i = 0; i < 5; ++i) {
            auto m = open<monitor>(ctx, "netmap:p}1/z@conf:slots=32");
            send_by_hand(a, 7, next);
            (void)take_by_hand(b);
            if (i % 2 != 0) (void)take(m);
        }
        (void)a.tx(0).txsync();  // takes back what b has released
        std::vector<bool> used(400, false);
        for (auto* ring : {&a.tx(0).shared(), &b.tx(0).shared()})
            for (index_t i = 0; i < 16; ++i) {
                const auto idx = ring->slots()[i].buf_idx;
                ASSERT_LT(idx, 400U);
                EXPECT_TRUE(o.memory->bufs().in_use(idx));
                EXPECT_FALSE(used[idx]) << "one buffer in two slots";
                used[idx] = true;
            }
    }
    EXPECT_EQ(o.memory->bufs().available(), 398U) << "all came back";
}

// Threads.

TEST(monitor, comes_and_goes_during_traffic) {
    roomy_pair p(256);
    constexpr std::uint32_t frames = 60'000;
    std::atomic<bool> done{false};
    std::atomic<bool> wrong{false};
    std::thread sender([&] {
        std::uint32_t next = 0;
        while (next < frames) {
            const auto n = std::min<index_t>(64, frames - next);
            if (send_numbered(p.a.tx(0), n, next) == 0) std::this_thread::yield();
        }
    });
    std::uint32_t expected = 0;
    std::thread receiver([&] {
        bool in_order = true;
        for (int turn = 0; expected != frames; ++turn) {
            if (turn % 3 == 0) {
                auto& rx = p.b.rx(0);
                (void)rx.rxsync();
                for (index_t i = rx.space(); i != 0; --i, rx.advance()) {
                    std::uint32_t n = 0;
                    std::memcpy(&n, rx.buf(), sizeof n);
                    in_order &= n == expected++;
                }
            } else if (take_numbered(p.b.rx(0), 64, expected, in_order) == 0) {
                std::this_thread::yield();
            }
        }
        wrong = !in_order;
        done = true;
    });
    std::atomic<std::uint64_t> seen_in_all{0};
    std::vector<std::thread> stormers;
    for (int t = 0; t < 4; ++t)
        stormers.emplace_back([&, t] {
            constexpr const char* names[] = {"netmap:p{1/t", "netmap:p}1/r", "netmap:p}1/zr", "netmap:p{1/rt"};
            do {
                auto m = open<monitor>(p.ctx, names[t]);
                for (int i = 0; i < 20; ++i) {
                    const auto s = take(m);
                    for (std::size_t k = 1; k < s.numbers.size(); ++k) wrong = wrong || s.numbers[k] <= s.numbers[k - 1];
                    seen_in_all += s.numbers.size();
                    std::this_thread::yield();
                }
            } while (!done);
        });
    sender.join();
    receiver.join();
    for (auto& s : stormers) s.join();
    EXPECT_FALSE(wrong);
    EXPECT_EQ(expected, frames);
    EXPECT_GT(seen_in_all, 0U);
    expect_conserved(p.a, p.b);
}

TEST(monitor, is_written_to_by_both_directions_at_once) {
    pipe_pair p(256);
    auto m = open<monitor>(p.ctx, "netmap:p{1/rt@conf:slots=64");
    constexpr std::uint32_t frames = 20'000;
    std::atomic<int> running{2};
    const auto both_ways = [&](nm::pipe& from, nm::pipe& to) {
        std::uint32_t next = 0;
        for (std::uint32_t got = 0; got != frames;) {
            if (next < frames) (void)send_numbered(from.tx(0), std::min<index_t>(32, frames - next), next);
            got += drain(to.rx(0), 64);
            if (got != next) std::this_thread::yield();
        }
        --running;
    };
    std::thread forth([&] { both_ways(p.a, p.b); });  // p.a.tx and p.b.rx
    std::thread back([&] { both_ways(p.b, p.a); });   // p.b.tx and p.a.rx
    std::uint64_t got = 0;
    while (running != 0) got += take(m).numbers.size();
    forth.join();
    back.join();
    got += take(m).numbers.size();
    EXPECT_EQ(m.rx_stats().frames, got);
    EXPECT_EQ(got + m.rx_stats().dropped(cause::full), 2U * frames) << "delivered and lost are all there were";
    EXPECT_EQ(m.rx_stats().dropped(), m.rx_stats().dropped(cause::full));
    expect_conserved(p.a, p.b);
    expect_conserved(p.b, p.a);
}

TEST(monitor, of_a_parent_that_closes_in_another_thread) {
    for (int i = 0; i < 100; ++i) {
        roomy_pair p(16);
        std::thread watcher_thread([&] {
            auto m = try_open<monitor>(p.ctx, i % 2 != 0 ? "netmap:p{1/rt" : "netmap:p{1/z");
            if (m) (void)take(*m);
        });
        std::uint32_t next = 0;
        (void)send_numbered(p.a.tx(0), 8, next);
        p.a.close();
        watcher_thread.join();
    }
}

}  // namespace
