// SPDX-License-Identifier: BSD-2-Clause
#include "nm/dispatch.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>

#include "support/pipes.hpp"

namespace {

using namespace nm::test;
using nm::index_t;
using nm::received;
using bytes = std::vector<std::uint8_t>;

bytes frame(std::size_t size, unsigned first) {
    bytes b(size);
    for (std::size_t i = 0; i < size; ++i) b[i] = static_cast<std::uint8_t>(first + i % 251);
    return b;
}
bytes whole(const received& f) {
    bytes b(f.size());
    EXPECT_EQ(f.copy(b), b.size());
    return b;
}

TEST(dispatch, shows_what_is_there_in_order_and_no_more_than_asked_for) {
    pipe_pair p(16);
    std::uint32_t sent = 0;
    send_numbered(p.a, 10, sent);
    std::vector<std::uint8_t> seen;
    const auto see = [&seen](const received& f) {
        EXPECT_EQ(f.bytes().size(), 60U);
        EXPECT_EQ(f.size(), 60U);
        EXPECT_EQ(f.slots(), 1U);
        seen.push_back(f.bytes()[0]);
    };
    EXPECT_EQ(nm::dispatch(p.b, 3, see), 3U);
    EXPECT_EQ(nm::dispatch(p.b, 4, see), 4U);
    EXPECT_EQ(nm::dispatch(p.b, 0, see), 3U);
    EXPECT_EQ(nm::dispatch(p.b, 0, see), 0U);
    EXPECT_EQ(seen, (bytes{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    expect_conserved(p.a, p.b);
}

// The sender finds room for them: nothing waits for one more call.
TEST(dispatch, gives_frames_back_before_it_returns) {
    pipe_pair p(4);
    std::uint32_t sent = 0;
    for (int round = 0; round < 20; ++round) {
        EXPECT_EQ(send_numbered(p.a, 3, sent), 3U);
        EXPECT_EQ(nm::dispatch(p.b, 3, [](const received&) noexcept {}), 3U);
        EXPECT_EQ(send_numbered(p.a, 2, sent), 2U);
        EXPECT_EQ(nm::dispatch(p.b, 0, [](const received&) noexcept {}), 2U);
    }
    EXPECT_EQ(p.b.rx_stats().frames, sent);
}

TEST(dispatch, takes_both_what_was_synced_and_what_came_since) {
    pipe_pair p(16);
    std::uint32_t sent = 0;
    send_numbered(p.a, 2, sent);
    (void)p.b.rx().rxsync();
    send_numbered(p.a, 3, sent);
    EXPECT_EQ(nm::dispatch(p.b, 0, [](const received&) noexcept {}), 5U);
}

TEST(dispatch, leaves_the_frame_at_stop_and_when_it_throws) {
    pipe_pair p(16);
    std::uint32_t sent = 0;
    send_numbered(p.a, 5, sent);
    const auto until = [](unsigned last) {
        return [last](const received& f) noexcept { return f.bytes()[0] == last ? nm::verdict::stop : nm::verdict::pass; };
    };
    EXPECT_EQ(nm::dispatch(p.b, 0, until(2)), 2U);
    EXPECT_EQ(nm::dispatch(p.b, 0, until(2)), 0U);
    EXPECT_THROW(nm::dispatch(p.b, 0, [](const received&) { throw std::runtime_error("no"); }), std::runtime_error);
    std::uint32_t expected = 2;
    bool in_order = true;
    EXPECT_EQ(take_numbered(p.b, 10, expected, in_order), 3U);
    EXPECT_TRUE(in_order);
}

TEST(dispatch, goes_from_ring_to_ring) {
    pipe_pair p(8, 3);
    std::uint32_t sent = 0;
    for (index_t i = 0; i < 3; ++i) send_numbered(p.a.tx(i), 2, sent);
    bytes seen;
    const auto see = [&seen](const received& f) noexcept { seen.push_back(f.bytes()[0]); };
    EXPECT_EQ(nm::dispatch(p.b, 3, see), 3U);
    EXPECT_EQ(nm::dispatch(p.b.rx(2), 0, see), 2U);
    EXPECT_EQ(nm::dispatch(p.b, 0, see), 1U);
    EXPECT_EQ(seen, (bytes{0, 1, 2, 4, 5, 3}));
}

TEST(dispatch, next_is_there_until_the_next_call) {
    pipe_pair p(8);
    EXPECT_FALSE(nm::next(p.b));
    std::uint32_t sent = 0;
    for (std::uint32_t expected = 0; expected < 50;) {
        send_numbered(p.a, 5, sent);
        while (const received f = nm::next(p.b)) {
            std::uint32_t number = 0;
            std::memcpy(&number, f.bytes().data(), sizeof number);
            EXPECT_EQ(number, expected++);
        }
    }
    EXPECT_EQ(nm::next(p.b).bytes().size(), 0U);
    EXPECT_EQ(nm::next(p.b).part(3).size(), 0U);
    EXPECT_EQ(nm::next(p.b).size(), 0U);
}

TEST(dispatch, injected_frames_arrive_whole_whatever_their_length) {
    pipe_pair p(64);
    const std::size_t buf = p.a.tx().buf_size();
    for (const std::size_t size : {std::size_t{1}, std::size_t{60}, buf - 1, buf, buf + 1, 2 * buf, 9 * buf + 7, 20 * buf}) {
        const bytes sent = frame(size, static_cast<unsigned>(size));
        EXPECT_EQ(nm::inject(p.a, sent), size);
        EXPECT_FALSE(nm::next(p.b)) << "it is only queued";
        nm::flush(p.a);
        const received got = nm::next(p.b);
        ASSERT_TRUE(got);
        EXPECT_EQ(got.slots(), (size + buf - 1) / buf);
        EXPECT_EQ(got.bytes().size(), std::min(size, buf));
        EXPECT_EQ(whole(got), sent);
        bytes some(buf / 2);
        EXPECT_EQ(got.copy(some), std::min(size, buf / 2));
        EXPECT_EQ(nm::inject(p.a, sent), size);
        nm::flush(p.a);
        EXPECT_EQ(nm::dispatch(p.b, 0, [&sent](const received& f) { EXPECT_EQ(whole(f), sent); }), 1U);
    }
    expect_conserved(p.a, p.b);
}

TEST(dispatch, inject_says_no_where_there_is_no_room) {
    pipe_pair p(8);
    const std::size_t buf = p.a.tx().buf_size();
    EXPECT_EQ(nm::inject(p.a, bytes{}), 0U);
    EXPECT_EQ(nm::inject(p.a, bytes(7 * buf + 1)), 0U) << "more than the ring";
    for (int i = 0; i < 6; ++i) EXPECT_EQ(nm::inject(p.a, frame(60, 1)), 60U);
    EXPECT_EQ(nm::inject(p.a, frame(2 * buf, 1)), 0U) << "one slot is free, and nobody has taken the others";
    EXPECT_EQ(nm::dispatch(p.b, 0, [](const received&) noexcept {}), 6U) << "that was the push";
    EXPECT_EQ(nm::inject(p.a, frame(2 * buf, 1)), 2 * buf);
    nm::flush(p.a);
    EXPECT_EQ(nm::dispatch(p.b, 0, [](const received&) noexcept {}), 1U);
    pipe_pair big(256);
    EXPECT_EQ(nm::inject(big.a, bytes(64 * buf + 1)), 0U) << "more than 64 slots";
    EXPECT_EQ(nm::inject(big.a, bytes(64 * buf)), 64 * buf);
    nm::flush(big.a);
    EXPECT_EQ(nm::next(big.b).size(), 64 * buf);
    expect_conserved(p.a, p.b);
}

TEST(dispatch, inject_goes_to_the_ring_that_has_room) {
    pipe_pair p(4, 2);
    for (int i = 0; i < 6; ++i) EXPECT_EQ(nm::inject(p.a, frame(60, 0)), 60U);
    EXPECT_EQ(nm::inject(p.a, frame(60, 0)), 0U);
    EXPECT_EQ(nm::inject(p.a.tx(1), frame(60, 0)), 0U);
    nm::flush(p.a);
    EXPECT_EQ(nm::dispatch(p.b.rx(0), 0, [](const received&) noexcept {}), 3U);
    EXPECT_EQ(nm::dispatch(p.b.rx(1), 0, [](const received&) noexcept {}), 3U);
}

// What the user of a ring, or whoever shares its memory, wrote into slots.
TEST(dispatch, passes_holes_and_what_is_no_frame) {
    pipe_pair p(16);
    std::uint32_t sent = 0;
    const auto again = [&] {
        send_numbered(p.a, 4, sent);
        (void)p.b.rx().rxsync();
        return p.b.rx().head();
    };
    auto& r = p.b.rx();
    index_t at = again();
    r.slot(at).len = 0;
    r.slot(r.next(at)).buf_idx = 0xffffffffU;
    EXPECT_EQ(nm::dispatch(p.b, 1, [](const received& f) { EXPECT_TRUE(f.bytes().empty()) << "no such buffer"; }), 1U);
    EXPECT_EQ(nm::next(p.b).bytes()[0], 2U);
    EXPECT_EQ(nm::next(p.b).bytes()[0], 3U);
    at = again();
    r.slot(at).len = 0xffff;
    EXPECT_EQ(nm::next(p.b).size(), 0U);
    r.slot(r.head()).flags = nm::ns_morefrag;  // two slots, the second of which is none
    r.slot(r.next(r.head())).len = 0;
    EXPECT_EQ(nm::next(p.b).bytes()[0], 7U);
    at = again();
    r.slot((at + 3) % 16).flags = nm::ns_morefrag;  // its end is still to come
    EXPECT_EQ(nm::dispatch(p.b, 0, [](const received&) noexcept {}), 3U);
    send_numbered(p.a, 1, sent);
    EXPECT_EQ(nm::next(p.b).slots(), 2U);
    EXPECT_FALSE(nm::next(p.b));
    EXPECT_EQ(send_numbered(p.a, 15, sent), 15U);
    (void)r.rxsync();
    for (index_t i = 0; i < 16; ++i) r.slot(i).flags = nm::ns_morefrag;  // and here there is no room for one
    EXPECT_FALSE(nm::next(p.b));
    EXPECT_EQ(r.stats().dropped(nm::cause::bad_chain), 1U);
    send_numbered(p.a, 1, sent);
    EXPECT_TRUE(nm::next(p.b));
}

TEST(dispatch, on_null_and_switch_ports) {
    nm::context ctx;
    auto null = nm::open<nm::null_port>(ctx, "null:a");
    EXPECT_FALSE(nm::next(null));
    EXPECT_EQ(nm::dispatch(null, 0, [](const received&) noexcept {}), 0U);
    for (int i = 0; i < 5000; ++i) ASSERT_EQ(nm::inject(null, frame(60, 0)), 60U);
    nm::flush(null);
    EXPECT_EQ(null.tx_stats().frames, 5000U);

    nm::vale::vale_switch<> sw{ctx, "vale0"};
    auto a = sw.new_port("a"), b = sw.new_port("b"), c = sw.new_port("c");
    bytes f = frame(5000, 0);
    std::fill_n(f.begin(), 6, std::uint8_t{0xff});
    f[6] = 2;
    EXPECT_EQ(nm::inject(a, f), 5000U);
    nm::flush(a);
    EXPECT_EQ(whole(nm::next(b)), f);
    EXPECT_EQ(nm::dispatch(c, 0, [&f](const received& g) { EXPECT_EQ(whole(g), f); }), 1U);
    EXPECT_TRUE(sw.stats().conserved());
}

}  // namespace
