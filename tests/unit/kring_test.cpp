// SPDX-License-Identifier: BSD-2-Clause
#include "nm/kring.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace {

using nm::index_t;

// The reference, written as a walk instead of arithmetic: from hwcur forward, meet head, then cur, then not go past
// hwtail. Netmap's prologue says the same with comparisons (semantics page, section 3).
bool reference(index_t n, index_t hwcur, index_t hwtail, index_t head, index_t cur) {
    if (head >= n || cur >= n) return false;
    bool head_met = false;
    for (index_t i = hwcur;; i = (i + 1) % n) {
        if (i == head) head_met = true;
        if (i == cur && head_met) return true;
        if (i == hwtail) return false;
    }
}

// Every private state of every small ring against every value that head and cur could be given, some of them beyond
// the ring.
TEST(kring, legal_equals_the_reference_exhaustively) {
    std::size_t checked = 0;
    for (index_t n = 2; n <= 8; ++n)
        for (index_t hwcur = 0; hwcur < n; ++hwcur)
            for (index_t hwtail = 0; hwtail < n; ++hwtail)
                for (index_t head = 0; head < n + 3; ++head)
                    for (index_t cur = 0; cur < n + 3; ++cur) {
                        const nm::kring k{n, hwcur, hwtail};
                        ASSERT_EQ(k.legal(head, cur), reference(n, hwcur, hwtail, head, cur))
                            << "n " << n << " hwcur " << hwcur << " hwtail " << hwtail << " head " << head << " cur " << cur;
                        ++checked;
                    }
    EXPECT_GT(checked, 10000U);
    for (const index_t wild : {0x7fffffffU, 0x80000000U, 0xfffffffeU, 0xffffffffU}) {
        EXPECT_FALSE((nm::kring{8, 0, 7}.legal(wild, 0)));
        EXPECT_FALSE((nm::kring{8, 0, 7}.legal(0, wild)));
    }
}

TEST(kring, distance_and_next_wrap) {
    EXPECT_EQ(nm::ring_next(4, 5), 0U);
    EXPECT_EQ(nm::ring_prev(0, 5), 4U);
    EXPECT_EQ(nm::ring_distance(3, 1, 5), 3U);
    EXPECT_EQ(nm::ring_distance(1, 1, 5), 0U);
}

}  // namespace
