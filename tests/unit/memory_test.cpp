// SPDX-License-Identifier: BSD-2-Clause
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "nm/interface.hpp"
#include "nm/pool.hpp"
#include "nm/port_memory.hpp"
#include "nm/region.hpp"
#include "support/pipes.hpp"

// Declared afresh in C from the description of the ABI, and compiled as C: what another program would see.
extern "C" long netmap_walk(const void* interface, unsigned tx_rings, unsigned rx_rings, unsigned slots,
                            unsigned buf_size, const void* region, unsigned long region_size);

namespace {

using namespace nm::test;

TEST(buffer_pool, hands_out_each_buffer_once_and_takes_back_only_its_own) {
    nm::buffer_pool pool(10);
    EXPECT_EQ(pool.available(), 8U);
    std::set<std::uint32_t> got;
    while (const auto b = pool.take()) EXPECT_TRUE(got.insert(*b).second);
    EXPECT_EQ(got.size(), 8U);
    EXPECT_EQ(*got.begin(), 2U) << "0 and 1 are reserved";
    for (const std::uint32_t bad : {0U, 1U, 10U, 0xffffffffU}) EXPECT_FALSE(pool.give_back(bad));
    EXPECT_TRUE(pool.give_back(5));
    EXPECT_FALSE(pool.give_back(5)) << "twice";
    EXPECT_EQ(*pool.take(), 5U);
}

TEST(object_pool, joins_neighbours_again) {
    nm::object_pool pool(1 << 16);
    const auto all = pool.available();
    const auto a = pool.take(1000), b = pool.take(5000), c = pool.take(100);
    ASSERT_TRUE(a && b && c);
    EXPECT_EQ(*b % 128, 0U);
    pool.give_back(*b, 5000);
    EXPECT_FALSE(pool.take(1 << 16));
    pool.give_back(*a, 1000);
    pool.give_back(*c, 100);
    EXPECT_EQ(pool.available(), all);
    EXPECT_EQ(*pool.take(all), 0U);
}

TEST(region, lies_where_it_says) {
    for (const auto where : {nm::backing::heap, nm::backing::memfd, nm::backing::best}) {
        nm::region_options o;
        o.bufs = 100;
        o.where = where;
        auto m = nm::region::create(o);
        ASSERT_TRUE(m);
        nm::region& r = **m;
        EXPECT_EQ(r.buf_size(), 2112U);
        EXPECT_EQ(r.bufs_offset() % 4096, 0U);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(r.base()) % 4096, 0U);
        EXPECT_EQ(r.buf(99), r.base() + r.bufs_offset() + 99 * 2112);
        EXPECT_LE(r.buf(99) + 2112, r.base() + r.size());
        std::memset(r.buf(99), 1, 2112);
        EXPECT_EQ(r.fd() >= 0, where == nm::backing::memfd);
    }
}

TEST(region, refuses_what_it_cannot_be) {
    for (const std::uint32_t size : {0U, 63U, 100U, 65600U}) {
        nm::region_options o;
        o.buf_size = size;
        EXPECT_FALSE(nm::region::create(o)) << size;
    }
    for (const std::uint32_t bufs : {0U, 3U, 5'000'000U}) {
        nm::region_options o;
        o.bufs = bufs;
        EXPECT_FALSE(nm::region::create(o)) << bufs;
    }
    nm::region_options o;
    o.bufs = 3'900'000;
    o.where = nm::backing::hugepages;
    const auto r = nm::region::create(o);
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().text.find("vm.nr_hugepages="), std::string::npos) << r.error().text;
}

TEST(region, satisfies_constraints_or_says_no) {
    nm::region_options o;
    auto odd = *nm::region::create(o);
    o.buf_size = 2048;
    auto even = *nm::region::create(o);
    nm::memory_constraints dma;
    dma.no_cross = 65536;
    EXPECT_FALSE(odd->satisfies(dma));
    EXPECT_TRUE(even->satisfies(dma));
    nm::memory_constraints big;
    big.min_buf_size = 4096;
    EXPECT_FALSE(even->satisfies(big));
}
TEST(region, is_made_as_its_constraints_want_it) {
    for (const std::uint32_t min : {64U, 256U, 1536U, 2048U, 3000U, 4096U})
        for (const std::uint32_t alignment : {64U, 128U, 4096U})
            for (const std::uint32_t no_cross : {0U, 4096U, 65536U})
                for (const std::uint32_t wanted : {64U, 1024U, 2112U, 4096U, 9216U}) {
                    const nm::memory_constraints c{min, alignment, no_cross};
                    nm::region_options o;
                    o.bufs = 16;
                    o.buf_size = c.suited(wanted);
                    const auto r = nm::region::create(o);
                    ASSERT_TRUE(r) << r.error().text;
                    EXPECT_TRUE((*r)->satisfies(c)) << min << ' ' << alignment << ' ' << no_cross << ' ' << wanted << ": " << o.buf_size;
                }
}

TEST(port_memory, gives_everything_back) {
    nm::region_options o;
    o.bufs = 200;
    auto m = *nm::region::create(o);
    const auto bufs = m->bufs().available();
    const auto objects = m->objects().available();
    nm::port_shape s;
    s.tx_slots = s.rx_slots = 32;
    s.tx_rings = 2;
    s.extra_bufs = 5;
    {
        auto p = nm::port_memory::create(m, "x", s);
        ASSERT_TRUE(p);
        EXPECT_EQ(m->bufs().available(), bufs - 3 * 32 - 5);
        // The user puts nonsense and duplicates into slots: nothing that is not this port's is freed twice.
        p->tx(0)->slots()[0].buf_idx = 0xffffffff;
        p->tx(0)->slots()[1].buf_idx = p->tx(0)->slots()[2].buf_idx;
        p->tx(0)->slots()[3].buf_idx = 1;
    }
    EXPECT_EQ(m->objects().available(), objects);
    EXPECT_EQ(m->bufs().available(), bufs - 3) << "the three that the user overwrote are lost, and no others";
    const auto too_many = nm::port_memory::create(m, "y", nm::port_shape{});
    ASSERT_FALSE(too_many);
    EXPECT_NE(too_many.error().text.find("@conf:slots="), std::string::npos);
}

TEST(port_memory, extra_buffers_are_a_list) {
    nm::context ctx;
    auto o = pipe_pair::sized(8);
    o.extra_bufs = 4;
    auto p = nm::open<nm::pipe>(ctx, "netmap:p{1", o);
    std::set<std::uint32_t> seen;
    for (std::uint32_t b = p.nifp()->ni_bufs_head; b != 0; std::memcpy(&b, p.region().buf(b), 4)) {
        ASSERT_TRUE(seen.insert(b).second);
        ASSERT_TRUE(p.region().bufs().in_use(b));
    }
    EXPECT_EQ(seen.size(), 4U);
}

TEST(layout, a_c_program_finds_its_way) {
    for (const unsigned slots : {2U, 7U, 1024U}) {
        pipe_pair p(slots, 3);
        for (nm::pipe* end : {&p.a, &p.b}) {
            // 0: every ring found, every buffer inside; else the number of the line that was not satisfied.
            EXPECT_EQ(netmap_walk(end->nifp(), 3, 3, slots, 2112, end->region().base(), end->region().size()), 0);
        }
        // And what it writes by the C layout is what is sent.
        p.a.tx(1).slot().len = 123;
        p.a.tx(1).advance();
        p.a.tx(1).txsync();
        EXPECT_EQ(p.b.rx(1).rxsync(), 1U);
    }
}

}  // namespace
