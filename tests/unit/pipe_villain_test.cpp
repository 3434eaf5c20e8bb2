// SPDX-License-Identifier: BSD-2-Clause
// A pipe's end against another process that may write every shared word at any time. It starts valid and breaks one rule at a time;
// what a word may be is found here by walking the ring, not by the arithmetic of the code.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <set>
#include <vector>

#include "support/wire_rig.hpp"

namespace {

using nm::index_t;
using rig = nm::test::wire_rig;

constexpr std::uint32_t odd_values[] = {0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};

// Everything from 0 to a little more than the ring has, and what overflows.
std::vector<std::uint32_t> values(index_t n) {
    std::vector<std::uint32_t> v(odd_values, std::end(odd_values));
    for (std::uint32_t i = 0; i < 2 * n + 2; ++i) v.push_back(i);
    return v;
}

// Whether one meets `at` on the way from `from` to `to`, both included.
bool on_the_way(index_t from, index_t to, std::uint32_t at, index_t n) {
    for (index_t i = from;; i = (i + 1) % n) {
        if (i == at) return true;
        if (i == to) return false;
    }
}

TEST(pipe_villain, a_receiver_that_says_what_it_was_not_sent_is_not_believed) {
    for (index_t n = 2; n <= 8; ++n)
        for (index_t start = 0; start < n; ++start)
            for (index_t under_way = 0; under_way < n; ++under_way)
                for (const std::uint32_t said : values(n))
                    for (const std::uint32_t swaps : {0U, 1U, 0xffffffffU}) {
                        rig r(n);
                        r.turn(start);
                        const index_t published = (start + under_way) % n;
                        r.send(under_way);
                        (void)r.tx->txsync();
                        ASSERT_EQ(r.tx->stats().reinits, 0U);
                        ASSERT_EQ(r.tx->truth().hwcur, published);
                        const bool legal = said < n && on_the_way(start, published, said, n);
                        const std::uint64_t honest = r.link.head.load();
                        r.link.head.store(static_cast<std::uint64_t>(swaps) << 32 | said);
                        const bool looks = r.tx->backend().freed();
                        (void)r.tx->txsync();
                        EXPECT_EQ(looks, legal && said != start);
                        EXPECT_EQ(r.tx->truth().hwtail, ((legal ? said : start) + n - 1) % n);
                        EXPECT_EQ(r.tx->stats().reinits, legal ? 0U : 1U);
                        if (legal) continue;
                        r.link.head.store(honest);  // nothing was lost by it
                        EXPECT_EQ(r.take(n), under_way);
                        (void)r.tx->txsync();
                        EXPECT_EQ(r.tx->space(), n - 1);
                        EXPECT_TRUE(r.in_order);
                    }
}

TEST(pipe_villain, a_sender_that_says_what_it_has_no_room_for_is_not_believed) {
    for (index_t n = 2; n <= 8; ++n)
        for (index_t start = 0; start < n; ++start)
            for (index_t there = 0; there < n; ++there)           // filled
                for (index_t seen = 0; seen <= there; ++seen)     // of these by rxsync
                    for (index_t back = 0; back <= seen; ++back)  // of these given back
                        for (const std::uint32_t said : values(n)) {
                            rig r(n);
                            r.turn(start);
                            r.send(seen);
                            EXPECT_EQ(r.rx->rxsync(), seen);
                            r.send(there - seen);
                            r.rx->advance(back);
                            const index_t known = (start + seen) % n;
                            // An odd sender may use at once what the user has just released: it is published by this very sync,
                            // but the look comes before.
                            const bool legal = said < n && on_the_way(known, (start + n - 1) % n, said, n);
                            r.link.tail.store(said);
                            const index_t got = r.rx->rxsync();
                            EXPECT_EQ(got, legal ? (said + n - known) % n : 0);
                            // Who holds all slots has no room to look for more.
                            EXPECT_EQ(r.rx->stats().reinits, legal || seen - back == n - 1 ? 0U : 1U);
                            EXPECT_LE(r.rx->space(), n - 1);
                            if (legal) continue;
                            r.link.tail.store((start + there) % n);
                            EXPECT_EQ(r.rx->rxsync(), there - seen);
                        }
}

TEST(pipe_villain, a_slot_is_read_once) {
    rig r(8);
    r.send(3);
    EXPECT_EQ(r.rx->rxsync(), 3U);
    for (auto& s : r.wire) s = {0xffffffff, 0xffff, 0xffff, ~0ULL};
    for (index_t i = 0; i < 3; ++i) {
        EXPECT_EQ(r.rx->slot(i).len, 60U);
        EXPECT_EQ(r.rx->slot(i).buf_idx, 2 + i);
    }
    r.rx->advance(3);
    r.rx->rxsync();
    EXPECT_EQ(r.take(8), 0U);
    EXPECT_EQ(r.rx->stats().frames, 3U);
    EXPECT_EQ(r.rx->stats().dropped(), 0U);
}

TEST(pipe_villain, slots_of_any_content_are_counted_and_never_followed) {
    constexpr std::uint32_t indexes[] = {0, 1, 2, 25, 26, 27, 0x7fffffff, 0x80000000, 0xffffffff};  // 26 buffers
    constexpr std::uint16_t lengths[] = {0, 1, 60, 2112, 2113, 0x7fff, 0xffff};
    for (const auto idx : indexes)
        for (const auto len : lengths)
            for (std::uint16_t flags = 0; flags < 0x400; flags = static_cast<std::uint16_t>(flags + 1)) {
                if ((flags & nm::ns_morefrag) != 0) continue;
                for (const bool by_hand : {false, true}) {
                    if (flags > 0xff && by_hand) continue;
                    static rig r(8);
                    const auto before = r.rx->stats();
                    const index_t at = r.rx->truth().hwtail;
                    r.wire[at] = {idx, len, flags, ~0ULL};
                    r.link.tail.store((at + 1) % 8);
                    index_t frames = 0;
                    if (by_hand) {
                        EXPECT_EQ(r.rx->rxsync(), 1U);
                        const nm::slot s = r.rx->slot();
                        EXPECT_LE(s.len, 2112);
                        EXPECT_TRUE(s.len == 0 || s.buf_idx == idx);
                        r.rx->advance();
                        r.rx->rxsync();
                    } else {
                        frames = nm::drain(*r.rx, 8, [&](nm::frame& f) noexcept { EXPECT_EQ(f.size(), len); });
                    }
                    const auto after = r.rx->stats();
                    const bool valid = idx >= 2 && idx < 26;
                    const bool good = valid && len >= 1 && len <= 2112;
                    EXPECT_EQ(frames, good && !by_hand ? 1U : 0U);
                    EXPECT_EQ(after.frames - before.frames, good ? 1U : 0U);
                    EXPECT_EQ(after.dropped() - before.dropped(), good || len == 0 ? 0U : 1U) << idx << " " << len;
                    EXPECT_EQ(r.link.head.load() & 0xffffffffU, (at + 1) % 8);
                }
            }
}

// One way to break a frame of several slots.
struct breach {
    const char* name;
    nm::cause cause;
    nm::slot bad;
};
constexpr breach breaches[] = {
    {"an index that is none", nm::cause::bad_idx, {0xffffffff, 60, nm::ns_morefrag, 0}},
    {"a reserved index", nm::cause::bad_idx, {1, 60, nm::ns_morefrag, 0}},
    {"a length beyond the buffer", nm::cause::bad_len, {5, 60000, nm::ns_morefrag, 0}},
    {"nothing in it", nm::cause::bad_chain, {5, 0, nm::ns_morefrag, 0}},
};

enum class how { drain, forward, by_hand };

// Gives back frames and slots that a user would meet; holes are passed.
std::pair<unsigned, unsigned> consume(rig& r, how way) {
    unsigned frames = 0, slots = 0;
    if (way == how::drain) {
        frames = nm::drain(*r.rx, 200, [&](nm::slot&) noexcept { ++slots; });
    } else if (way == how::forward) {
        rig to(200);
        frames = nm::forward(*r.rx, *to.tx, 200);
        slots = static_cast<unsigned>(to.tx->stats().slots);
        EXPECT_EQ(to.tx->stats().dropped(), 0U);
    } else {
        bool open = false;
        (void)r.rx->rxsync();
        for (; !r.rx->empty(); r.rx->advance()) {
            const nm::slot s = r.rx->slot();
            if (s.len == 0) {
                EXPECT_FALSE(open) << "a hole inside a frame";
                EXPECT_EQ(s.flags & nm::ns_morefrag, 0);
                continue;
            }
            ++slots;
            open = (s.flags & nm::ns_morefrag) != 0;
            frames += open ? 0 : 1;
        }
        EXPECT_FALSE(open);
        (void)r.rx->rxsync();
    }
    return {frames, slots};
}

TEST(pipe_villain, a_bad_fragment_takes_its_whole_frame_with_it_and_nothing_else) {
    for (const how way : {how::drain, how::forward, how::by_hand})
        for (const auto& b : breaches)
            for (index_t start = 0; start < 16; ++start)     // across the wrap too
                for (index_t length = 2; length < 7; ++length)
                    for (index_t where = 0; where < length; ++where) {
                        rig r(16);
                        r.turn(start);
                        index_t at = start;
                        const auto put = [&](nm::slot s) {
                            if (s.buf_idx == 5) s.buf_idx = 2 + at;
                            r.wire[at] = s;
                            at = (at + 1) % 16;
                        };
                        put({5, 60, 0, 0});  // a good one, the broken one, two good ones
                        for (index_t i = 0; i < length; ++i) {
                            nm::slot s = i == where ? b.bad : nm::slot{5, 100, nm::ns_morefrag, 0};
                            if (i + 1 == length) s.flags = 0;
                            put(s);
                        }
                        put({5, 100, nm::ns_morefrag, 0});
                        put({5, 60, 0, 0});
                        put({5, 60, 0, 0});
                        r.link.tail.store(at);
                        const auto before = r.rx->stats();
                        const auto [frames, slots] = consume(r, way);
                        const auto s = r.rx->stats();
                        ASSERT_EQ(frames, 3U) << b.name << ", slot " << where << " of " << length << ", way " << static_cast<int>(way);
                        ASSERT_EQ(slots, 4U) << b.name;
                        ASSERT_EQ(s.dropped(b.cause), 1U) << b.name << " " << where << " of " << length;
                        ASSERT_EQ(s.dropped(), 1U);
                        ASSERT_EQ(s.frames - before.frames, 3U);
                        ASSERT_EQ(r.link.head.load() & 0xffffffffU, at);
                    }
}

TEST(pipe_villain, a_frame_without_end_is_dropped_up_to_its_end) {
    for (const how way : {how::drain, how::forward, how::by_hand})
        for (const index_t length : {3U, 64U, 65U, 99U, 100U, 250U}) {
            rig r(101);
            index_t at = 0;
            unsigned frames = 0, slots = 0;
            // Published in three pieces, as nobody does who plays by the rules.
            for (index_t i = 0; i < length + 2; ++i) {
                r.wire[at] = {2 + at, 60, static_cast<std::uint16_t>(i + 1 < length ? nm::ns_morefrag : 0), 0};
                at = (at + 1) % 101;
                if (i % 80 != 79 && i + 1 != length + 2 && i != 1) continue;
                r.link.tail.store(at);
                const auto [f, s] = consume(r, way);
                frames += f;
                slots += s;
                (void)consume(r, way);
            }
            EXPECT_EQ(frames, 2U) << length;
            EXPECT_EQ(slots, 2U) << length;
            EXPECT_EQ(r.rx->stats().dropped(nm::cause::bad_chain), 1U) << length;
            EXPECT_EQ(r.rx->stats().frames, 2U);
            EXPECT_EQ(r.rx->truth().hwcur, at);
        }
    // 64 slots are a frame.
    rig r(101);
    for (index_t i = 0; i < 64; ++i) r.wire[i] = {2 + i, 60, static_cast<std::uint16_t>(i < 63 ? nm::ns_morefrag : 0), 0};
    r.link.tail.store(64);
    EXPECT_EQ(consume(r, how::drain), std::pair(1U, 64U));
}

TEST(pipe_villain, buffers_given_back_are_believed_only_if_they_are_some) {
    for (const std::uint32_t idx : {0U, 1U, 2U, 25U, 26U, 0x80000000U, 0xffffffffU}) {
        rig r(8);
        r.send(3);
        (void)r.rx->rxsync();
        for (index_t i = 0; i < 3; ++i) r.given[i] = idx;
        r.link.head.store(std::uint64_t{1} << 32 | 3);
        (void)r.tx->txsync();
        for (index_t i = 0; i < 3; ++i) EXPECT_EQ(r.mine.tx(0)->slots()[i].buf_idx, idx >= 2 && idx < 26 ? idx : 2 + i);
        EXPECT_EQ(r.tx->space(), 7U);
    }
}

TEST(pipe_villain, swapped_buffers_come_back_and_every_buffer_is_somewhere) {
    rig r(8);
    std::uint32_t held = 20;
    for (int k = 0; k < 100; ++k) {
        r.send(1);
        ASSERT_EQ(r.rx->rxsync(), 1U);
        nm::slot& s = r.rx->slot();
        std::swap(s.buf_idx, held);
        s.flags = nm::ns_buf_changed;
        r.rx->advance();
        (void)r.rx->rxsync();
        (void)r.tx->txsync();
        std::set<std::uint32_t> all{held};
        for (index_t i = 0; i < 8; ++i) {
            all.insert(r.mine.tx(0)->slots()[i].buf_idx);
            EXPECT_EQ(r.given[i], r.mine.tx(0)->slots()[i].buf_idx);  // where the next owner of the end looks
        }
        ASSERT_EQ(all.size(), 9U) << k;
    }
}

// What a villain writes into the words that say who sleeps can make him sleep longer, or cost a wake-up; no more.
TEST(pipe_villain, sleep_words_of_any_value_do_not_stop_a_sync) {
    for (const std::uint32_t word : {0U, 1U, 2U, 3U, 0xffffffffU}) {
        rig r(4);
        for (int k = 0; k < 10; ++k) {
            r.link.rx_sleeps.state.store(word);
            r.link.tx_sleeps.state.store(word);
            r.send(3);
            EXPECT_EQ(r.take(3), 3U);
        }
        EXPECT_TRUE(r.in_order);
    }
}

}  // namespace
