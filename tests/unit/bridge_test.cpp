// SPDX-License-Identifier: BSD-2-Clause
#include "../../examples/bridge/by_hand.hpp"

#include <gtest/gtest.h>

#include "nm/ports/pipe.hpp"

namespace {

// Two rings into one, in steps that end anywhere.
TEST(bridge_by_hand, keeps_the_slots_of_a_frame_together) {
    nm::context ctx;
    auto source = nm::open<nm::pipe>(ctx, "netmap:a{1@conf:rings=2"), from = nm::open<nm::pipe>(ctx, "netmap:a}1@conf:rings=2");
    auto to = nm::open<nm::pipe>(ctx, "netmap:b{1"), sink = nm::open<nm::pipe>(ctx, "netmap:b}1");
    unsigned sent = 0, got = 0, moved = 0, place = 0;
    std::uint8_t ring = 0;
    for (unsigned round = 0; round < 1000; ++round) {
        for (std::uint8_t r = 0; r < 2 && round < 900; ++r) {
            auto& t = source.tx(r);
            const unsigned slots = 1 + (round + r) % 3;
            for (unsigned k = 0; k < slots && t.space() >= slots - k; ++k, t.advance()) {
                t.slot().len = static_cast<std::uint16_t>(60 + slots);
                t.slot().flags = k + 1 < slots ? nm::ns_morefrag : std::uint16_t{0};
                t.buf()[0] = r, t.buf()[1] = static_cast<std::uint8_t>(k);
                sent += k + 1 == slots;
            }
            t.txsync();
            from.rx(r).rxsync();
            moved += bridge::move_frames(from.rx(r), to.tx(), 1 + round % 4);
            from.rx(r).rxsync();
            to.tx().txsync();
        }
        for (auto& d = sink.rx(); d.rxsync(), !d.empty();)
            for (; !d.empty(); d.advance()) {
                if (place == 0) ring = d.buf()[0];
                ASSERT_EQ(d.buf()[0], ring);
                ASSERT_EQ(d.buf()[1], place++);
                if ((d.slot().flags & nm::ns_morefrag) != 0) continue;
                ASSERT_EQ(d.slot().len, 60 + place);
                place = 0;
                ++got;
            }
    }
    EXPECT_EQ(got, moved);
    EXPECT_EQ(got, sent);
}

}  // namespace
