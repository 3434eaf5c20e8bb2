// SPDX-License-Identifier: BSD-2-Clause
#include <cstring>
#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "fuzz/control_target.hpp"

namespace {

/// From messages that are good, one thing or several changed (reliability: a random attacker never passes the first check).
TEST(ControlFuzz, MessagesFromSomebodyElse) {
    std::mt19937 random(5);
    const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    unsigned good = 0;
    for (int i = 0; i < 10'000; ++i) {
        nm::sys::wire::frame f{};
        f.magic = nm::sys::wire::magic;
        f.version = nm::sys::wire::version;
        f.type = static_cast<std::uint16_t>(below(20));
        f.sequence = static_cast<std::uint32_t>(random());
        f.status = static_cast<std::int32_t>(random() % 200) - 20;
        f.name_size = static_cast<std::uint32_t>(below(257));
        f.payload_size = static_cast<std::uint32_t>(below(1025));
        for (auto& c : f.name) c = static_cast<char>(random());
        std::vector<std::uint8_t> input(sizeof f);
        std::memcpy(input.data(), &f, sizeof f);
        const auto broken = below(4);
        for (std::size_t k = 0; k < broken; ++k) {
            const std::size_t at = below(24);
            switch (below(5)) {
                case 0: input[at] ^= static_cast<std::uint8_t>(1U << below(8)); break;
                case 1: input[at] = static_cast<std::uint8_t>(random()); break;
                case 2: input.resize(std::max<std::size_t>(1, below(input.size() + 200))); break;
                case 3: std::memset(input.data() + 16, 0xff, 4); break;
                default: std::memset(input.data() + 20, 0xff, 4); break;
            }
            if (input.size() < 30) break;
        }
        if (broken == 0) ++good;
        ASSERT_EQ(nm::test::receive_any(input, below(4) != 0 ? below(8) : below(254), below(3) != 0 ? 64 : below(254)), "") << "input " << i;
    }
    EXPECT_GT(good, 1000U);
}

}  // namespace
