// SPDX-License-Identifier: BSD-2-Clause
// tests/fuzz/lookup with fixed seeds: frames that are right, then with one or a few things broken.
#include <gtest/gtest.h>
#include <random>

#include "fuzz/lookup_targets.hpp"

namespace {

using nm::test::bytes;

bytes frame(std::mt19937& random) {
    const auto below = [&random](unsigned n) { return static_cast<unsigned>(random() % n); };
    const auto byte = [&random] { return static_cast<std::uint8_t>(random()); };
    bytes f(12);
    for (auto tags = below(4); tags != 0; --tags) {
        const bool c = below(2) != 0;
        f.insert(f.end(), {static_cast<std::uint8_t>(c ? 0x81 : 0x88), static_cast<std::uint8_t>(c ? 0x00 : 0xa8),
                           byte(), byte()});
    }
    const bool v6 = below(2) != 0;
    f.insert(f.end(), {static_cast<std::uint8_t>(v6 ? 0x86 : 0x08), static_cast<std::uint8_t>(v6 ? 0xdd : 0x00)});
    const std::size_t ip = f.size();
    const unsigned words = v6 ? 10 : 5 + below(11);
    for (unsigned n = 0; n < words * 4 + 4 + below(20); ++n) f.push_back(byte());
    const std::uint8_t protocols[] = {6, 17, 132, 1, 58, 44};
    f[ip + (v6 ? 6 : 9)] = protocols[below(6)];
    if (!v6) {
        f[ip] = static_cast<std::uint8_t>(0x40 | words);
        f[ip + 6] = static_cast<std::uint8_t>(below(3) == 0 ? 0x20 : 0x40);
        f[ip + 7] = static_cast<std::uint8_t>(below(4) == 0 ? 1 : 0);
    }
    return f;
}

TEST(fuzz, connections) {
    std::mt19937 random(30);
    std::size_t with_ports = 0, without_ip = 0;
    for (int i = 0; i < 20'000; ++i) {
        bytes f = frame(random);
        if (i % 2 != 0) switch (random() % 3) {
                case 0: f.resize(14 + random() % (f.size() - 13)); break;
                case 1: f[12 + random() % (f.size() - 12)] = static_cast<std::uint8_t>(random()); break;
                default: f[12 + random() % (f.size() - 12)] ^= static_cast<std::uint8_t>(1U << random() % 8);
            }
        const auto c = nm::test::slow_connection(f);
        with_ports += c.from_port != 0 ? 1U : 0U;
        without_ip += c.version == 0 ? 1U : 0U;
        ASSERT_EQ(nm::test::fuzz_five_tuple(f), "") << i;
    }
    EXPECT_GT(with_ports, 2'500U);
    EXPECT_GT(without_ip, 500U);
}

TEST(fuzz, stations_and_vlans) {
    std::mt19937 random(31);
    bytes in;
    for (int i = 0; i < 800; ++i) {
        in.resize(200 + random() % 4'000);
        for (auto& b : in) b = static_cast<std::uint8_t>(random());
        // Mostly tags of VLANs that are there, where the records begin so far as lengths are equal.
        const auto len = static_cast<std::uint8_t>(random() % 16);
        for (std::size_t at = 0; at + 34 < in.size(); at += 18U + len) {
            in[at + 2] = len;
            if (random() % 3 == 0) continue;
            in[at + 16] = 0x81, in[at + 17] = 0;
            const std::uint8_t ids[][2] = {{0, 0}, {0, 1}, {0, 5}, {0x0f, 0xfe}, {0x0f, 0xff}, {0x10, 5}};
            if (len >= 4) std::ranges::copy(ids[random() % 6], in.begin() + static_cast<std::ptrdiff_t>(at + 18));
        }
        ASSERT_EQ(nm::test::fuzz_learning(in), "") << i;
    }
}

}  // namespace
