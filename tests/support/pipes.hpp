// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "nm/nm.hpp"

namespace nm::test {

/// Both ends of one pipe, with rings of `slots` slots.
struct pipe_pair {
    nm::context ctx;
    nm::pipe a, b;

    explicit pipe_pair(unsigned slots = 8, unsigned rings = 1)
        : a(nm::open<nm::pipe>(ctx, "netmap:p{1", sized(slots, rings))), b(nm::open<nm::pipe>(ctx, "netmap:p}1")) {}

    static nm::open_options sized(unsigned slots, unsigned rings = 1) {
        nm::open_options o;
        o.tx_slots = slots;
        o.tx_rings = rings;
        return o;
    }
};

/// Sends frames numbered from `first`; each carries its number and its length.
template <class Tx>
nm::index_t send_numbered(Tx& tx, nm::index_t n, std::uint32_t& next, std::uint16_t len = 60) {
    return nm::generate(tx, n, [&](nm::frame& f) noexcept {
        std::memcpy(f.data(), &next, sizeof next);
        ++next;
        f.resize(len);
    });
}

/// Takes frames and checks that they are numbered in order.
template <class Rx>
nm::index_t take_numbered(Rx& rx, nm::index_t n, std::uint32_t& expected, bool& in_order) {
    return nm::drain(rx, n, [&](nm::frame& f) noexcept {
        std::uint32_t number = 0;
        std::memcpy(&number, f.data(), sizeof number);
        in_order &= number == expected;
        ++expected;
    });
}

/// The law of conservation over a pipe at rest: what went in came out or was dropped under a name.
inline void expect_conserved(nm::pipe& from, nm::pipe& to) {
    EXPECT_EQ(from.tx_stats().frames, to.rx_stats().frames + from.tx_stats().dropped());
}

}  // namespace nm::test
