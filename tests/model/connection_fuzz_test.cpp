// SPDX-License-Identifier: BSD-2-Clause
// tests/fuzz/connection with fixed seeds: frames of few connections, many of them fragments, then with things broken.
#include <gtest/gtest.h>
#include <random>

#include "fuzz/connection_target.hpp"
#include "support/frames_on_wire.hpp"

namespace {

using namespace nm::test;

bytes frame(std::mt19937& random) {
    const auto below = [&random](unsigned n) { return static_cast<unsigned>(random() % n); };
    const endpoint from{1 + below(2), static_cast<std::uint16_t>(below(3))}, to{1 + below(2), static_cast<std::uint16_t>(below(3))};
    constexpr std::uint8_t protocols[] = {6, 17, 132, 33, 136, 1, 58, 50};
    const std::uint8_t protocol = protocols[below(8)];
    if (below(2) != 0) {
        const unsigned place = below(3) == 0 ? 0x4000 : below(2) == 0 ? 0x2000 : 0x2000 * below(2) + 10;
        return below(2) != 0 ? ipv4(from, to, protocol, below(3), place) : ipv4(from, to, protocol, below(3), place, {0x88a8, 0x8100}, 5 + below(11));
    }
    std::vector<extension> chain;
    constexpr std::uint8_t types[] = {0, 43, 60, 135, 139, 140};
    for (unsigned n = below(4); n != 0; --n) chain.push_back(options(types[below(6)], static_cast<std::uint8_t>(below(2))));
    if (below(6) == 0) chain.push_back({51, bytes{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}});
    if (below(2) != 0) chain.push_back(fragment(below(3), below(2) * 10, below(2) != 0));
    if (below(3) == 0) chain.push_back(options(60));
    return ipv6(from, to, protocol, chain);
}

TEST(fuzz, connections_with_fragments) {
    std::mt19937 random(40);
    for (int i = 0; i < 1'000; ++i) {
        bytes in;
        for (int k = 0; k < 40; ++k) {
            bytes f = frame(random);
            if (i % 2 != 0 && random() % 2 != 0) switch (random() % 3) {
                    case 0: f.resize(random() % f.size()); break;
                    case 1: f[12 + random() % (f.size() - 12)] = static_cast<std::uint8_t>(random()); break;
                    default: f[12 + random() % (f.size() - 12)] ^= static_cast<std::uint8_t>(1U << random() % 8);
                }
            ASSERT_LT(f.size(), 256U);
            in.push_back(static_cast<std::uint8_t>(f.size()));
            in.insert(in.end(), f.begin(), f.end());
        }
        ASSERT_EQ(fuzz_connection(in), "") << i;
    }
}

}  // namespace
