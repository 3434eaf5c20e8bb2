// SPDX-License-Identifier: BSD-2-Clause
// A port served across a boundary, and who uses it: what passes, what sleeps and wakes, and what neither side believes of the other.
#include "support/ptnet_rig.hpp"

namespace {

using namespace nm::test;
using nm::events;
using nm::index_t;
using namespace std::chrono_literals;

nm::open_options sized(unsigned slots, unsigned rings = 1) {
    nm::open_options o;
    o.tx_slots = slots;
    o.tx_rings = rings;
    return o;
}

TEST(ptnet, a_pipe_across_a_boundary_loses_nothing_and_keeps_its_order) {
    ptnet_rig rig;
    auto far = rig.guest("netmap:p{1");
    auto near = nm::open<nm::pipe>(rig.ctx, "netmap:p}1");
    EXPECT_EQ(far.mode(), "ptnet");
    // netmap's structures are there to be walked.
    ASSERT_NE(far.nifp(), nullptr);
    EXPECT_EQ(far.nifp()->tx_ring(0), &far.tx().shared());
    EXPECT_EQ(far.nifp()->rx_ring(0), &far.rx().shared());
    EXPECT_EQ(reinterpret_cast<std::byte*>(&far.tx().shared()) + far.tx().shared().buf_ofs, far.region().buf(0));
    EXPECT_NE(far.info().reason.find("p{1"), std::string::npos) << far.info().reason;
    pass_numbered(far, near, 20000);
    pass_numbered(near, far, 20000);
    pass_numbered(far, near, 2000, 1500);
    EXPECT_EQ(far.tx_stats().frames, near.rx_stats().frames);
    EXPECT_EQ(near.tx_stats().frames, far.rx_stats().frames);
}

TEST(ptnet, two_guests_meet_on_a_switch) {
    ptnet_rig rig;
    auto a = rig.guest("vale0:a"), b = rig.guest("vale0:b");
    pass_numbered(a, b, 900);  // no more than b's ring holds: a switch does not push back
    pass_numbered(b, a, 900);
    const auto sa = rig.services[0]->stats(), sb = rig.services[1]->stats();
    EXPECT_EQ(sa.tx.frames, 900U);
    EXPECT_EQ(sb.tx.frames, 900U);
    EXPECT_EQ(sa.rx.frames + sa.rx.dropped(), 900U);
}

TEST(ptnet, what_a_guest_has_no_room_for_is_counted) {
    ptnet_rig rig;
    auto a = rig.guest("vale0:a"), b = rig.guest("vale0:b", sized(16));
    for (int sent = 0; sent < 4000;) {
        sent += static_cast<int>(nm::generate(a, 100, [](nm::frame& f) noexcept {
            std::memset(f.data(), 0xff, 60);
            f.data()[6] = 2;
            f.resize(60);
        }));
        (void)nm::wait(a, events::tx, 100ms);
    }
    index_t got = 0;
    while (nm::wait(b, events::rx, 200ms) == events::rx) got += nm::drain(b, 64);
    const auto s = rig.services[1]->stats();
    EXPECT_GE(a.tx_stats().frames, 4000U);
    EXPECT_EQ(got + s.rx.dropped(nm::cause::full), a.tx_stats().frames);
}

TEST(ptnet, several_rings_and_frames_of_several_slots) {
    ptnet_rig rig;
    auto far = rig.guest("netmap:p{1", sized(64, 3));
    auto near = nm::open<nm::pipe>(rig.ctx, "netmap:p}1");
    ASSERT_EQ(far.num_tx_rings(), 3U);
    ASSERT_EQ(far.num_rx_rings(), 3U);
    for (index_t ring = 0; ring < 3; ++ring) {
        auto& tx = far.tx(ring);
        for (int part = 0; part < 3; ++part) {
            tx.slot().len = static_cast<std::uint16_t>(100 + ring);
            tx.slot().flags = part < 2 ? nm::ns_morefrag : 0;
            tx.advance();
        }
        (void)tx.txsync();
        ASSERT_EQ(nm::wait(near, events::rx, 2000ms), events::rx);
        EXPECT_EQ(near.rx(ring).space(), 3U);
        EXPECT_EQ(near.rx(ring).slot().len, 100 + ring);
        near.rx(ring).advance(3);
        (void)near.rx(ring).rxsync();
    }
    nm::open_options o;
    auto again = rig.guest("netmap:q{1", sized(64, 2));
    EXPECT_EQ(again.fd(), again.fd());
}

TEST(ptnet, a_guest_without_interrupts_polls_by_a_timer) {
    ptnet_rig rig;
    auto far = rig.guest("netmap:p{1", {}, false);
    auto near = nm::open<nm::pipe>(rig.ctx, "netmap:p}1");
    pass_numbered(near, far, 5000);
    pass_numbered(far, near, 5000);
    EXPECT_EQ(nm::wait(far, events::rx, 5ms), events::none);
}

// Each round both sides sleep, with no timeout but the test's: a wake-up that is lost stops it.
TEST(ptnet, nobody_sleeps_through_a_frame) {
    ptnet_rig rig;
    auto far = rig.guest("netmap:p{1", sized(8));
    auto near = nm::open<nm::pipe>(rig.ctx, "netmap:p}1");
    std::jthread echo([&] {
        for (index_t n = 0; n < 3000;) {
            if (nm::wait(near, events::rx, 10s) != events::rx) return;
            n += nm::forward(near, near, 8);
        }
    });
    for (int i = 0; i < 3000; ++i) {
        ASSERT_EQ(nm::generate(far, 1, [](nm::frame& f) noexcept { f.resize(60); }), 1U);
        ASSERT_EQ(nm::wait(far, events::rx, 10s), events::rx) << i;
        ASSERT_EQ(nm::drain(far, 8), 1U);
    }
    const auto s = rig.services[0]->stats();
    EXPECT_LE(s.wakes, 3010U);
    EXPECT_LE(s.kicks, 12010U);  // a frame, and a slot given back
}

TEST(ptnet, a_full_ring_wakes_who_waits_for_room) {
    ptnet_rig rig;
    auto far = rig.guest("netmap:p{1", sized(8));
    auto near = nm::open<nm::pipe>(rig.ctx, "netmap:p}1");
    for (int round = 0; round < 200; ++round) {
        index_t sent = 0;
        for (int i = 0; i < 100 && nm::wait(far, events::tx, 0ms) == events::tx; ++i)
            sent += nm::generate(far, 8, [](nm::frame& f) noexcept { f.resize(60); });
        while (nm::wait(far, events::tx, 1ms) == events::tx) sent += nm::generate(far, 8, [](nm::frame& f) noexcept { f.resize(60); });
        ASSERT_GE(sent, 7U);
        std::jthread later([&] {
            std::this_thread::sleep_for(1ms);
            while (sent != 0) {
                (void)nm::wait(near, events::rx, 100ms);
                sent -= nm::drain(near, 8);
            }
        });
        ASSERT_EQ(nm::wait(far, events::tx, 10s), events::tx) << round;
    }
}

TEST(ptnet, the_end_of_the_host_is_noticed) {
    auto rig = std::make_unique<ptnet_rig>();
    auto far = rig->guest("netmap:p{1");
    EXPECT_TRUE(far.status());
    rig->loop().remove(*rig->services[0]);
    rig->services.clear();
    EXPECT_EQ(nm::wait(far, events::rx, 2000ms), events::error);
    EXPECT_FALSE(far.status());
}

TEST(ptnet, a_header_before_each_frame_when_both_sides_want_one) {
    ptnet_rig rig;
    nm::open_options with;
    with.vnet_hdr = 12;
    auto a = rig.guest("vale0:a", with);
    auto b = rig.guest("vale0:b");
    // 12 bytes of header of nothing, then the frame: b, who has no header, gets the frame alone.
    nm::generate(a, 1, [](nm::frame& f) noexcept {
        std::memset(f.data(), 0, 12);
        std::memset(f.data() + 12, 0xff, 60);
        f.data()[18] = 2;
        f.resize(72);
    });
    ASSERT_EQ(nm::wait(b, events::rx, 2000ms), events::rx);
    EXPECT_EQ(b.rx().slot().len, 60);

    auto s = rig.serve("netmap:p{1");
    auto none = rig.try_attach(rig.link(*s), with);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code.value(), EOPNOTSUPP);
}

TEST(ptnet, what_came_behind_another_header_is_not_for_the_next_guest) {
    ptnet_rig rig;
    const auto s = rig.serve("vale0:a");
    auto peer = nm::open<nm::vale_port>(rig.ctx, "vale0:b");
    const auto send = [&peer](index_t n) {
        nm::generate(peer, n, [](nm::frame& f) noexcept {
            std::memset(f.data(), 0xff, 12);
            f.data()[6] = 2;
            f.resize(60);
        });
    };
    send(5);  // while there is no guest: without a header
    nm::open_options with;
    with.vnet_hdr = 10;
    auto guest = nm::value_or_throw(rig.try_attach(rig.link(*s), with));
    send(1);
    ASSERT_EQ(nm::wait(guest, events::rx, 2000ms), events::rx);
    EXPECT_EQ(guest.rx().space(), 1U);
    EXPECT_EQ(guest.rx().slot().len, 70);
    EXPECT_EQ(s->stats().rx.dropped(nm::cause::policy), 5U);
    EXPECT_EQ(s->stats().rx.frames, 1U);
}

TEST(ptnet, an_armed_guest_with_nothing_to_do_sleeps) {
    ptnet_rig rig;
    auto a = rig.guest("vale0:a");
    const auto sleeps = [&a](int ms) {
        pollfd p{a.fd(), POLLIN, 0};
        a.arm(events::rx);
        return ::poll(&p, 1, ms) == 0;
    };
    (void)a.rx().rxsync();
    // The host's answers to this guest's requests are no work; the last one's wake-up may be on its way still.
    EXPECT_TRUE(sleeps(20) || sleeps(20));
    EXPECT_TRUE(sleeps(0));
    nm::base::eventfd_signal(rig.services[0]->irq_fd(1));  // a wake-up for room to send, late: it is not waited for any more
    EXPECT_TRUE(sleeps(0));
}

// A guest that dies in the middle of something leaves the rings as they are; the next one finds them whole, each slot with a buffer of
// its own.
TEST(ptnet, the_next_guest_finds_everything_in_order) {
    ptnet_rig rig;
    const auto s = rig.serve("vale0:a", sized(32));
    auto peer = nm::open<nm::vale_port>(rig.ctx, "vale0:b");
    for (int round = 0; round < 20; ++round) {
        {
            auto guest = nm::value_or_throw(rig.try_attach(rig.link(*s)));
            // Half of a frame, buffers in two slots at once and none in others, and head on nonsense.
            nm::generate(guest, static_cast<index_t>(round % 7), [](nm::frame& f) noexcept { f.resize(60); });
            for (index_t i = 0; i < 32; ++i) {
                nm::store_once(guest.tx().slot(i).buf_idx, 5U);
                nm::store_once(guest.rx().slot(i).buf_idx, i % 2 == 0 ? 5U : 0x7fffffffU);
            }
            nm::store_slot(guest.tx().slot(), {5, 60, nm::ns_morefrag, 0});
            guest.tx().advance();
            (void)guest.tx().txsync();
            std::this_thread::sleep_for(1ms);
            guest.tx().set_head(static_cast<index_t>(1000 + round));
            (void)guest.tx().txsync();
        }
        auto next = nm::value_or_throw(rig.try_attach(rig.link(*s)));
        std::vector<std::uint32_t> seen;
        for (index_t i = 0; i < 32; ++i) {
            seen.push_back(next.tx().slot(i).buf_idx);
            seen.push_back(next.rx().slot(i).buf_idx);
        }
        std::erase(seen, 0U);
        std::sort(seen.begin(), seen.end());
        EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end()) << "a buffer is in two slots";
        (void)nm::wait(peer, events::rx, 1ms);
        while (nm::drain(peer, 100) != 0) {}
        pass_numbered(next, peer, 20);
    }
    EXPECT_TRUE(s->status());
}

// A guest that writes anything into what it shares, while another pair goes on.
TEST(ptnet, a_port_is_one_guests_at_a_time) {
    ptnet_rig rig;
    auto a = rig.guest("netmap:p{1");
    auto near = nm::open<nm::pipe>(rig.ctx, "netmap:p}1");
    pass_numbered(a, near, 100);
    EXPECT_TRUE(a.status());
    auto b = nm::value_or_throw(rig.try_attach(rig.link(*rig.services[0]), {}, "ptnet:other"));
    ASSERT_FALSE(a.status());
    EXPECT_EQ(a.status().error().code.value(), EBUSY);
    EXPECT_EQ(nm::wait(a, events::rx, 2000ms), events::error);
    pass_numbered(b, near, 100);
    a.close();  // says nothing to the host, whose guest is another
    pass_numbered(near, b, 100);
    EXPECT_TRUE(b.status());
}

TEST(ptnet, a_visit_takes_so_many_slots_and_no_more) {
    ptnet_rig rig;
    auto far = rig.guest("netmap:p{1", sized(4096));
    auto near = nm::open<nm::pipe>(rig.ctx, "netmap:p}1");
    rig.stop();
    EXPECT_EQ(nm::generate(far, 4000, [](nm::frame& f) noexcept { f.resize(60); }), 4000U);
    (void)rig.loop().poll_once();
    const index_t first = nm::drain(near, 4096);
    EXPECT_GT(first, 0U);
    EXPECT_LE(first, 1024U);
    rig.settle();
    EXPECT_EQ(first + nm::drain(near, 4096), 4000U);
    EXPECT_EQ(rig.services[0]->stats().bad_indexes, 0U);
}

TEST(ptnet, what_cannot_be_served_takes_no_room) {
    ptnet_rig rig;
    auto open = nm::open<nm::pipe>(rig.ctx, "netmap:q{1");
    auto roomy = nm::value_or_throw(nm::ptnet::host_memory::create(std::size_t{32} << 20));
    const auto empty = roomy->mark();
    EXPECT_FALSE(nm::ptnet::serve<ptnet_rig::kinds>(rig.ctx, roomy, "netmap:q{1"));  // open, in memory of its own
    EXPECT_EQ(roomy->mark().bytes, empty.bytes);
    EXPECT_EQ(roomy->mark().vectors, empty.vectors);
    EXPECT_TRUE(nm::ptnet::serve<ptnet_rig::kinds>(rig.ctx, roomy, "netmap:r{1"));
    EXPECT_EQ(roomy->ports(), 1U);
}

TEST(ptnet, a_hostile_guest_disturbs_nobody) {
    ptnet_rig rig;
    auto a = rig.guest("vale0:a"), b = rig.guest("vale0:b");
    const auto s = rig.serve("vale0:v", sized(16));
    const auto memory = rig.memory;  // the villain's
    auto villain = nm::value_or_throw(rig.try_attach(rig.link(*s)));
    (void)villain;
    std::atomic<bool> stop{false};
    std::atomic<std::uint32_t> done{0};
    std::jthread attack([&] {
        std::mt19937 any(1);
        auto& reg = memory->directory().port[0];
        auto* region = memory->base() + reg.region_offset;
        const auto words = reg.bufs_offset / 4;
        while (!stop.load(std::memory_order_relaxed)) {
            // Indexes, slots, headers, registers: values at the boundaries of what makes sense.
            const std::uint32_t values[] = {0, 1, 15, 16, 17, 31, 0x7fffffff, 0xffffffff, static_cast<std::uint32_t>(any()), 0x0020003cU};
            auto* word = reinterpret_cast<std::uint32_t*>(region) + any() % words;
            __atomic_store_n(word, values[any() % 10], __ATOMIC_RELAXED);
            auto* csb = reinterpret_cast<std::uint32_t*>(region + (any() % 2 != 0 ? reg.csb_gh_offset : reg.csb_hg_offset));
            __atomic_store_n(csb + any() % 32, values[any() % 10], __ATOMIC_RELAXED);
            if (any() % 256 == 0) __atomic_store_n(&reg.control, static_cast<std::uint32_t>(any()) << 8 | static_cast<std::uint32_t>(any() % 8 != 0), __ATOMIC_RELAXED);
            done.fetch_add(1, std::memory_order_relaxed);
            if (any() % 16 == 0) nm::base::eventfd_signal(s->kick_fd(static_cast<unsigned>(any()) % s->vectors()));
        }
    });
    // A switch drops what there is no room for, and the villain may fill rings too: but what comes of ours is ours, whole and in order.
    std::uint32_t sent = 0, got = 0, last = 0;
    bool whole = true;
    for (int i = 0; i < 100 || (i < 20000 && done < 300'000); ++i) {
        nm::generate(a, 50, [&](nm::frame& f) noexcept {
            ++sent;
            std::memset(f.data(), 0xff, 12);
            f.data()[6] = 2;
            for (std::size_t at = 12; at < 60; at += 4) std::memcpy(f.data() + at, &sent, sizeof sent);
            f.resize(60);
        });
        (void)nm::wait(b, events::rx, 1ms);
        nm::drain(b, 2000, [&](nm::frame& f) noexcept {
            std::uint32_t number = 0, part = 0;
            std::memcpy(&number, f.data() + 12, sizeof number);
            if (f.size() != 60 || f.data()[6] != 2 || f.data()[0] != 0xff) return;  // the villain's
            for (std::size_t at = 12; at < 60; at += 4) {
                std::memcpy(&part, f.data() + at, sizeof part);
                whole &= part == number;
            }
            // What the villain has heard it may say again.
            whole &= number <= sent;
            if (number > last) last = number, ++got;
        });
        while (nm::drain(a, 1000) != 0) {}
    }
    EXPECT_TRUE(whole);
    EXPECT_GT(got, sent / 2) << sent;
    stop = true;
    attack.join();
    EXPECT_GT(done.load(), 10'000U) << "the villain hardly ran";
}

// Geometry that no host of nm's would show: refused, with a sentence, and nothing is touched.
TEST(ptnet, a_hostile_host_is_refused) {
    ptnet_rig rig(false);
    const auto s = rig.serve("vale0:a", sized(16, 2));
    auto& d = rig.memory->directory();
    const nm::ptnet::memory_directory good = d;
    const std::size_t from = offsetof(nm::ptnet::memory_directory, port);
    int refused = 0, accepted = 0;
    const std::uint64_t values[] = {0, 1, 63, 64, 4096, 65535, 0x7fffffff, 0xffffffff, 0x100000000, ~0ULL, ~0ULL - 4095, 1ULL << 63};
    const auto attempt = [&] {
        auto layout = nm::ptnet::read_layout(rig.link(*s), "ptnet:test");
        if (!layout) {
            ++refused;
            EXPECT_FALSE(layout.error().text.empty());
        } else {
            ++accepted;
            // What is accepted lies inside.
            const auto* end = rig.memory->base() + rig.memory->size();
            const auto& m = *layout->memory;
            EXPECT_LE(m.buf(m.num_bufs() - 1) + m.buf_size(), end);
            for (auto* r : layout->rings) EXPECT_LE(reinterpret_cast<std::byte*>(r) + nm::ring_bytes(2), end);
        }
        d = good;
    };
    for (std::size_t at = 0; at < offsetof(nm::ptnet::port_registers, name); at += 4)
        for (const auto v : values) {
            std::memcpy(reinterpret_cast<std::byte*>(&d) + from + at, &v, at % 8 == 0 && at < 48 ? 8 : 4);
            attempt();
        }
    for (const auto v : values) {
        d.magic = v;
        attempt();
        d.version = static_cast<std::uint32_t>(v);
        attempt();
        d.ports = static_cast<std::uint32_t>(v);
        attempt();
    }
    EXPECT_GT(refused, 200);
    EXPECT_GT(accepted, 10);
    auto short_link = rig.link(*s);
    short_link.bells.resize(2);
    EXPECT_FALSE(nm::ptnet::read_layout(short_link, "ptnet:test"));
}

// Every value of hwtail and hwcur against every state of a small ring: the guest takes what the host may hand over, and nothing else.
TEST(ptnet, a_guest_believes_only_what_may_be) {
    for (const index_t n : {2U, 3U, 8U})
        for (index_t published = 0; published < n; ++published)
            for (index_t tail = 0; tail < n; ++tail)
                for (index_t said = 0; said < n + 2; ++said) {
                    nm::ptnet::csb_atok<> atok;
                    nm::ptnet::csb_ktoa<> ktoa;
                    nm::live_counters stats;
                    nm::ptnet::guest_side g;
                    g.csb = {&atok, &ktoa};
                    g.num_slots = n;
                    g.stats = &stats;
                    g.published = published;
                    g.tail = tail;
                    ktoa.hwtail = said;
                    g.hear();
                    // Going forward from tail one may come as far as the slot before published, and not to published itself.
                    bool legal = said == tail;
                    for (index_t i = tail; said < n && i != nm::ring_prev(published, n);) {
                        i = nm::ring_next(i, n);
                        legal |= i == said;
                    }
                    ASSERT_EQ(g.tail, legal ? said : tail) << n << ' ' << published << ' ' << tail << ' ' << said;
                    ASSERT_EQ(stats.reinits.get(), legal ? 0U : 1U);
                }
}

TEST(ptnet, a_host_that_says_nonsense_is_counted) {
    ptnet_rig rig;
    auto a = rig.guest("vale0:a", sized(16));
    rig.stop();
    auto& reg = rig.memory->directory().port[0];
    auto* ktoa = reinterpret_cast<nm::ptnet::csb_ktoa<>*>(rig.memory->base() + reg.region_offset + reg.csb_hg_offset);
    for (const std::uint32_t v : {16U, 99U, ~0U}) {
        ktoa[0].hwtail = ktoa[1].hwtail = v;
        (void)a.tx().txsync();
        (void)a.rx().rxsync();
    }
    EXPECT_EQ(a.tx_stats().reinits, 3U);
    EXPECT_EQ(a.rx_stats().reinits, 3U);
    EXPECT_EQ(a.tx().space(), 15U);
    EXPECT_TRUE(a.rx().empty());
}

TEST(ptnet, services_come_and_go_while_the_loop_runs) {
    ptnet_rig rig;
    auto a = rig.guest("vale0:a"), b = rig.guest("vale0:b");
    for (int i = 0; i < 50; ++i) {
        auto s = rig.serve("vale0:x" + std::to_string(i), sized(16));
        auto guest = nm::value_or_throw(rig.try_attach(rig.link(*s)));
        pass_numbered(a, b, 30);
        EXPECT_EQ(rig.loop().size(), 3U);
        EXPECT_TRUE(rig.loop().remove(*s));
        EXPECT_FALSE(rig.loop().remove(*s));
    }
}

TEST(ptnet, monitors_see_what_passes_in_a_guest) {
    ptnet_rig rig;
    auto far = rig.guest("netmap:p{1");
    auto near = nm::open<nm::pipe>(rig.ctx, "netmap:p}1");
    auto eye = nm::open<nm::monitor>(rig.ctx, "netmap:p{1/rt");
    pass_numbered(far, near, 100);
    ASSERT_EQ(nm::wait(eye, events::rx, 1000ms), events::rx);
    EXPECT_EQ(nm::drain(eye, 1000), 100U);
}

}  // namespace
