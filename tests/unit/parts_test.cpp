// SPDX-License-Identifier: BSD-2-Clause
// The small parts that everything else stands on, one at a time.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "nm/any_port.hpp"
#include "nm/batch.hpp"
#include "nm/context.hpp"
#include "nm/counters.hpp"
#include "nm/cpu.hpp"
#include "nm/nm.hpp"
#include "nm/ports/pipe_backend.hpp"
#include "nm/ring_base.hpp"
#include "nm/slot.hpp"
#include "nm/version.hpp"
#include "nm/vnet_hdr.hpp"
#include "support/pipes.hpp"

namespace {

using namespace nm::test;
using nm::cause;

TEST(version, is_one_thing_said_once) {
    EXPECT_EQ(std::string(NM_VERSION_STRING), std::to_string(NM_VERSION_MAJOR) + "." + std::to_string(NM_VERSION_MINOR) +
                                                  "." + std::to_string(NM_VERSION_PATCH));
}

TEST(slot, is_two_words_and_back) {
    for (const nm::slot s : {nm::slot{0, 0, 0, 0}, nm::slot{0xffffffff, 0xffff, 0xffff, ~0ULL}, nm::slot{7, 60, nm::ns_morefrag, 42}}) {
        const nm::slot_words w = nm::words(s);
        EXPECT_EQ(std::memcmp(&w, &s, sizeof s), 0) << "the words are the bytes in memory";
        const nm::slot back = nm::from_words(w);
        EXPECT_EQ(std::memcmp(&back, &s, sizeof s), 0);
        EXPECT_EQ(w.buf_idx(), s.buf_idx);
        EXPECT_EQ(w.len(), s.len);
        EXPECT_EQ(w.has(nm::ns_morefrag), (s.flags & nm::ns_morefrag) != 0);
    }
}

TEST(slot, is_written_only_where_it_differs) {
    // A page that must not be written: an update that changes nothing leaves it alone.
    auto page = nm::base::map(4096, MAP_PRIVATE | MAP_ANONYMOUS);
    ASSERT_TRUE(page);
    auto* s = new (page->data()) nm::slot{9, 60, 0, 1};
    ASSERT_EQ(::mprotect(page->data(), 4096, PROT_READ), 0);
    nm::update_slot(*s, {9, 60, 0, 1}, nm::load_slot(*s));
    nm::store_slot(*s, {9, 60, 0, 1});
    ASSERT_EQ(::mprotect(page->data(), 4096, PROT_READ | PROT_WRITE), 0);
    nm::store_slot(*s, {9, 61, 0, 1});
    EXPECT_EQ(s->len, 61);
}

TEST(counters, add_up_and_name_each_cause) {
    nm::counters a, b;
    a.frames = 3;
    a.drop(cause::full, 2);
    b.drop(cause::full);
    b.drop(cause::policy);
    a += b;
    EXPECT_EQ(a.dropped(), 4U);
    EXPECT_EQ(a.dropped(cause::full), 3U);
    for (std::size_t i = 0; i < nm::causes; ++i) EXPECT_GT(std::strlen(nm::cause_name(static_cast<cause>(i))), 3U);
}

TEST(buffer_space, gives_the_junk_buffer_for_nonsense) {
    nm::region_options o;
    o.bufs = 16;
    const auto m = *nm::region::create(o);
    const nm::buffer_space space(*m);
    for (const std::uint32_t bad : {0U, 1U, 16U, 0x80000000U, 0xffffffffU}) EXPECT_FALSE(space.valid(bad)) << bad;
    EXPECT_TRUE(space.valid(2) && space.valid(15));
    EXPECT_EQ(space.at(0xffffffff), m->buf(0));
    EXPECT_EQ(space.at(15), m->buf(15));
    EXPECT_TRUE(nm::odd_length(0, 2112) && nm::odd_length(2113, 2112));
    EXPECT_FALSE(nm::odd_length(1, 2112) || nm::odd_length(2112, 2112));
}

TEST(context, keeps_names_as_long_as_somebody_holds_them) {
    nm::context ctx;
    auto r = *ctx.shared_region(1);
    EXPECT_EQ(*ctx.shared_region(1), r);
    const std::weak_ptr<nm::region> watch = r;
    r.reset();
    EXPECT_TRUE(watch.expired());
    nm::context other;
    auto a = nm::open<nm::pipe>(ctx, "netmap:p{1");
    auto b = nm::open<nm::pipe>(other, "netmap:p{1");
    EXPECT_NE(a.memory(), b.memory()) << "two contexts do not know of each other";
}

TEST(context, may_end_before_its_ports) {
    auto ctx = std::make_unique<nm::context>();
    auto a = nm::open<nm::pipe>(*ctx, "netmap:p{1", pipe_pair::sized(8));
    auto b = nm::open<nm::pipe>(*ctx, "netmap:p}1");
    ctx.reset();
    std::uint32_t sent = 0, got = 0;
    bool in_order = true;
    send_numbered(a, 3, sent);
    a.close();
    EXPECT_EQ(take_numbered(b, 8, got, in_order), 3U);
}

TEST(vnet_hdr, every_header_that_is_valid_survives_the_fold) {
    std::uint32_t seed = 1;
    unsigned valid = 0;
    for (int i = 0; i < 200'000; ++i) {
        const auto next = [&seed] { return seed = seed * 1664525U + 1013904223U; };
        nm::vnet_hdr h{};
        h.flags = static_cast<std::uint8_t>(next() >> 30);
        h.gso_type = static_cast<std::uint8_t>((next() >> 29) | (next() >> 31 ? nm::vnet_gso_ecn : 0));
        h.hdr_len = static_cast<std::uint16_t>(next() >> 16);
        h.gso_size = static_cast<std::uint16_t>(next() >> 16);
        h.csum_start = static_cast<std::uint16_t>(next() >> 22);
        h.csum_offset = static_cast<std::uint16_t>(next() >> 24);
        if (!nm::valid_vnet(h, 2000)) continue;
        ++valid;
        const nm::vnet_hdr u = nm::unpack(nm::pack(h));
        ASSERT_EQ(std::memcmp(&u, &h, sizeof h), 0);
    }
    EXPECT_GT(valid, 10'000U);
}

}  // namespace
