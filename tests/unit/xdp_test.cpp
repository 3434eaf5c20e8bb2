// SPDX-License-Identifier: BSD-2-Clause
#include "nm/ports/xdp.hpp"

#include <gtest/gtest.h>

namespace {

// Buffer to UMEM address and back, without a division, for strides with odd parts of all kinds.
TEST(xdp, umem_addresses_are_exact_both_ways) {
    for (const std::uint32_t stride : {1792U, 1984U, 2048U, 2112U, 2176U, 3584U, 3776U}) {
        nm::region_options o;
        o.bufs = 3000;
        o.buf_size = stride;
        const auto m = *nm::region::create(o);
        const nm::umem_map map(*m);
        for (std::uint32_t b = 0; b < o.bufs; ++b) {
            ASSERT_EQ(map.address(b), m->bufs_offset() + std::uint64_t{b} * stride);
            ASSERT_EQ(map.index(map.address(b)), b) << stride;
        }
    }
}

TEST(xdp, tx_takes_only_what_needs_nothing_done) {
    nm::xdp_tx tx;
    tx.max_len = 1514;
    const auto frame = [](std::uint16_t len, std::uint16_t flags) { return nm::words(nm::slot{2, len, flags, 0}); };
    EXPECT_TRUE(tx.takes(frame(14, 0)) && tx.takes(frame(60, 0)) && tx.takes(frame(1514, 0)));
    EXPECT_FALSE(tx.takes(frame(13, 0)) || tx.takes(frame(1515, 0)) || tx.takes(frame(60, nm::ns_vnet)));
}

}  // namespace
