// SPDX-License-Identifier: BSD-2-Clause
#include <gtest/gtest.h>
#include <random>
#include <sys/mman.h>
#include <vector>

#include "../../src/iova.hpp"
#include "../../src/vfio_space.hpp"
#include "nm/base/os.hpp"

namespace {

using nm::sys::areas_around;
using nm::sys::bar_area;
using nm::sys::iova_range;
using nm::sys::iova_space;

constexpr std::uint64_t mib = 1 << 20;

TEST(Iova, SparesZeroAndTheInterrupts) {
    iova_space s(iova_space::usual());
    EXPECT_EQ(s.take(4096, 64), 2 * mib);
    EXPECT_EQ(s.take(0xfee00000 - 4 * mib - 4096, 64), 4 * mib);
    EXPECT_EQ(s.take(1, 64), 0xff000000U);  // what follows 0xfeefffff, rounded up
    EXPECT_EQ(s.take(2 * mib, 32), 0xff200000U);
    EXPECT_EQ(s.take(std::uint64_t{1} << 38, 64), 0xff400000U);
    EXPECT_EQ(s.take(std::uint64_t{1} << 38, 64), std::nullopt);
    EXPECT_EQ(s.take(0, 64), std::nullopt);
}

TEST(Iova, HoldsTheLimit) {
    iova_space s({{0, ~std::uint64_t{0}}});
    EXPECT_EQ(s.take(2 * mib, 21), std::nullopt);
    EXPECT_EQ(s.take(2 * mib, 22), 2 * mib);
    EXPECT_EQ(s.take(2 * mib, 22), std::nullopt);
    EXPECT_EQ(s.take(1, 23), 4 * mib);
    EXPECT_EQ(s.take(~std::uint64_t{0}, 64), std::nullopt);
    s.give_back(2 * mib);
    EXPECT_EQ(s.take(4096, 22), 2 * mib);
}

TEST(Iova, ReachesTheVeryEnd) {
    const auto last = ~std::uint64_t{0};
    iova_space s({{last - 4 * mib + 1, last}});
    EXPECT_EQ(s.take(2 * mib, 64), last - 4 * mib + 1);
    EXPECT_EQ(s.take(2 * mib, 64), last - 2 * mib + 1);
    EXPECT_EQ(s.take(1, 64), std::nullopt);
    iova_space odd({{last - 100, last}});
    EXPECT_EQ(odd.take(1, 64), std::nullopt);
    iova_space none(std::vector<iova_range>{});
    EXPECT_EQ(none.take(1, 64), std::nullopt);
}

// Against a list of 2 MiB units.
TEST(Iova, NeverGivesTwice) {
    std::mt19937 random(1);
    const std::vector<iova_range> ranges{{10 * mib, 31 * mib}, {33 * mib, 80 * mib - 1}, {4 * mib - 1, 8 * mib - 1}};
    const auto usable = [&](std::uint64_t at, std::uint64_t size) {
        for (const auto& r : ranges)
            if (r.first <= at && at + size - 1 <= r.last) return true;
        return false;
    };
    iova_space s(ranges);
    std::vector<std::pair<std::uint64_t, std::uint64_t>> taken;
    const auto is_free = [&](std::uint64_t at, std::uint64_t size) {
        for (const auto& [a, n] : taken)
            if (a < at + size && at < a + n) return false;
        return true;
    };
    for (int i = 0; i < 20000; ++i) {
        if (random() % 3 == 0 && !taken.empty()) {
            const auto which = random() % taken.size();
            s.give_back(taken[which].first);
            taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(which));
            continue;
        }
        const std::uint64_t size = 1 + random() % (9 * mib);
        const unsigned bits = 20 + static_cast<unsigned>(random() % 10);
        std::optional<std::uint64_t> expected;
        for (std::uint64_t at = 2 * mib; at < 80 * mib && !expected; at += 2 * mib)
            if (usable(at, size) && is_free(at, size) && at + size <= std::uint64_t{1} << bits) expected = at;
        const auto got = s.take(size, bits);
        ASSERT_EQ(got, expected) << i;
        if (got) taken.emplace_back(*got, size);
    }
}

TEST(BarAreas, LeaveTheMsixTableOut) {
    const auto same = [](std::vector<bar_area> a, std::vector<bar_area> b) {
        return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](auto& x, auto& y) { return x.offset == y.offset && x.size == y.size; });
    };
    EXPECT_TRUE(same(areas_around(0x4000, {}, 4096, false), {{0, 0x4000}}));
    EXPECT_TRUE(same(areas_around(100, {}, 4096, false), {{0, 4096}}));
    for (const bool may : {false, true}) {
        EXPECT_TRUE(same(areas_around(0x4000, {0x1000, 0x1000}, 4096, may), {{0, 0x1000}, {0x2000, 0x2000}}));
        EXPECT_TRUE(same(areas_around(0x4000, {0, 0x1000}, 4096, may), {{0x1000, 0x3000}}));
        EXPECT_TRUE(same(areas_around(0x4000, {0x3000, 0x1000}, 4096, may), {{0, 0x3000}}));
        EXPECT_TRUE(same(areas_around(0x1000, {0x8000, 16}, 4096, may), {{0, 0x1000}}));
    }
    // A table that shares a page with registers.
    EXPECT_TRUE(same(areas_around(0x4000, {0x1800, 80}, 4096, true), {{0, 0x4000}}));
    EXPECT_TRUE(same(areas_around(0x4000, {0x1800, 80}, 4096, false), {{0, 0x1000}, {0x2000, 0x2000}}));
    EXPECT_TRUE(same(areas_around(0x4000, {0x1800, 0x1000}, 4096, false), {{0, 0x1000}, {0x3000, 0x1000}}));
    EXPECT_TRUE(same(areas_around(0x1000, {0, 80}, 4096, false), {}));
}

TEST(PhysicalAddress, RefusesWhatTheKernelMayMove) {
    auto memory = nm::base::map(2 * mib, MAP_PRIVATE | MAP_ANONYMOUS);
    ASSERT_TRUE(memory);
    auto at = nm::sys::physical_address(memory->data(), 2 * mib);
    ASSERT_FALSE(at);
    EXPECT_NE(at.error().text.find("hugepages"), std::string::npos) << at.error().text;
}

TEST(PhysicalAddress, IsOneLineThroughAHugepage) {
    auto memory = nm::base::map(2 * mib, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
    if (!memory) GTEST_SKIP() << "no hugepage is free (sysctl vm.nr_hugepages)";
    auto at = nm::sys::physical_address(memory->data(), 2 * mib);
    if (!at && at.error().code.value() == EPERM) GTEST_SKIP() << at.error().text;
    ASSERT_TRUE(at) << at.error().text;
    EXPECT_EQ(*at % (2 * mib), 0U);
    EXPECT_EQ(*nm::sys::physical_address(memory->data() + 4096, mib), *at + 4096);
}

}  // namespace
