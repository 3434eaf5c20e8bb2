// SPDX-License-Identifier: BSD-2-Clause
#include <gtest/gtest.h>

#include "nm/ports/pipe.hpp"
#include "vm/traffic.hpp"

// The traffic that devices are tested with, over pipes, which are tested elsewhere: it must find what is wrong, and nothing else.
namespace {

using namespace nm;
using namespace nm::test;

struct over_a_pipe : testing::Test {
    context ctx;
    nm::pipe a = open<nm::pipe>(ctx, "netmap:vm{1");
    nm::pipe b = open<nm::pipe>(ctx, "netmap:vm}1");
    one_way<nm::pipe, nm::pipe> there{a, b}, back{b, a};
};

TEST_F(over_a_pipe, nothing_is_wrong) {
    there.size = [](std::uint32_t seq) { return mixed_size(seq, 6000); };  // 3 slots
    const auto r = exchange(there, back);
    EXPECT_TRUE(r.finished);
    EXPECT_TRUE(there.got.clean()) << there.got;
    EXPECT_EQ(there.got.frames, there.frames) << there.got;
    EXPECT_TRUE(back.got.clean()) << back.got;
    EXPECT_EQ(back.got.frames, back.frames);
}

TEST_F(over_a_pipe, what_is_wrong_is_found) {
    std::vector<std::uint32_t> order{0, 1, 3, 2, 4, 6};  // 2 came late, which counts as lost and as reordered; 5 did not come
    for (const auto seq : order) ASSERT_TRUE(queue_frame(a.tx(), 0, seq, 100));
    ASSERT_TRUE(queue_frame(a.tx(), 0, 7, 300));
    a.tx().buf(a.tx().slot(6))[299] ^= 1;
    (void)a.tx().txsync();
    (void)there.receive();
    EXPECT_EQ(there.got.frames, 6U);
    EXPECT_EQ(there.got.lost, 2U);
    EXPECT_EQ(there.got.reordered, 1U);
    EXPECT_EQ(there.got.corrupt, 1U);
}

}  // namespace
