// SPDX-License-Identifier: BSD-2-Clause
// What somebody who means ill, or who is unlucky, may do to a switch.
#include "nm/vale/switch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "nm/nm.hpp"

namespace {

using nm::cause;
using nm::index_t;
using nm::vale::destination;
using nm::vale::packet;
using nm::vale::vale_switch;

/// The first byte says where to, whatever it is; 255 with a second byte of 1 is for all.
struct by_byte {
    destination operator()(const packet& p) const noexcept {
        if (p.data[0] == 255 && p.data[1] == 1) return destination::to_all();
        if (p.data[1] == 2) return destination::to(p.data[0], p.data[2]);
        return destination::to(p.data[0]);
    }
};

template <class L>
void expect_conserved(vale_switch<L>& sw) {
    const auto s = sw.stats();
    EXPECT_TRUE(s.conserved()) << s.accepted << " + " << s.replicas << " != " << s.delivered << " + " << s.dropped();
}

struct order {
    std::uint8_t to, how;
    std::uint8_t ring = 0;
};
constexpr order all{255, 1};

/// One batch; each frame's number is its place in it, plus `number`.
template <class P>
void send(P& from, const std::vector<order>& frames, std::uint32_t number = 0, index_t ring = 0) {
    std::size_t k = 0;
    nm::generate(from.tx(ring), static_cast<index_t>(frames.size()), [&](nm::frame& f) noexcept {
        std::memset(f.data(), 0, 64);
        f.data()[0] = frames[k].to;
        f.data()[1] = frames[k].how;
        f.data()[2] = frames[k].ring;
        std::memcpy(f.data() + 16, &number, 4);
        ++number;
        ++k;
        f.resize(60);
    });
}
using numbers = std::vector<std::uint32_t>;
template <class P>
numbers receive(P& p, index_t ring = 0) {
    numbers got;
    nm::drain(p.rx(ring), 20000, [&](nm::frame& f) noexcept {
        std::uint32_t n = 0;
        std::memcpy(&n, f.data() + 16, 4);
        got.push_back(n);
    });
    return got;
}

TEST(ValeAttack, DetachWakesWhoSleeps) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a");
    std::atomic<bool> sleeps{false};
    nm::events found{};
    std::chrono::steady_clock::duration slept{};
    std::thread reader([&] {
        sleeps = true;
        const auto start = std::chrono::steady_clock::now();
        found = nm::wait(a, nm::events::rx, std::chrono::seconds(15));
        slept = std::chrono::steady_clock::now() - start;
    });
    while (!sleeps || a.state().links[0].rx_sleeps.state != nm::sleep_word::asleep) std::this_thread::yield();
    ASSERT_TRUE(sw.detach("a"));
    reader.join();
    EXPECT_EQ(found, nm::events::error);
    EXPECT_LT(slept, std::chrono::seconds(10)) << "woken, not timed out";
}

// 254 and 255 are no ports.
TEST(ValeAttack, ALookupThatNamesNoPort) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    for (unsigned to = 0; to < 256; ++to) send(a, {{static_cast<std::uint8_t>(to), 0}}, to);
    const auto got = receive(b);
    EXPECT_EQ(got.size(), 1U + 252U) << "its own, and what goes to nobody who is there; not 0, 254 and 255";
    EXPECT_EQ(a.tx_stats().dropped(cause::no_dst), 3U);
    expect_conserved(sw);
}

// What comes by one ring and goes to one ring stays in order, by whatever ring numbers that one was named.
TEST(ValeAttack, FewerRingsThanWereNamedKeepTheOrder) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options four, two;
    four.tx_rings = 4;
    two.tx_rings = 2;
    auto a = sw.new_port("a", four), b = sw.new_port("b"), c = sw.new_port("c", two);
    send(a, {{1, 0}, all, {1, 0}, {2, 0}, all, {2, 0}}, 0, 3);
    EXPECT_EQ(receive(b), (numbers{0, 1, 2, 4}));
    EXPECT_EQ(receive(c, 0), (numbers{1, 4}));
    EXPECT_EQ(receive(c, 1), (numbers{3, 5}));
    send(a, {{1, 0}, all, {1, 0}, {2, 0}, all, {2, 0}}, 0, 2);
    EXPECT_EQ(receive(c, 0), (numbers{1, 3, 4, 5}));
    receive(b);
    send(a, {{2, 2, 0}, {2, 2, 2}, {2, 2, 1}, {2, 2, 15}, {2, 2, 0}, {2, 2, 3}});
    EXPECT_EQ(receive(c, 0), (numbers{0, 1, 4}));
    EXPECT_EQ(receive(c, 1), (numbers{2, 3, 5}));
    expect_conserved(sw);
}

// Who floods without a pause gets what the budget says, not nothing.
TEST(ValeAttack, AStormEarnsItsBudgetInSmallPieces) {
    nm::vale::source s;
    s.storm = {100'000, 1'000'000};
    s.storm_left = 0;
    const std::uint64_t start = s.storm_seen_ns = nm::system_clock::now_ns();
    std::uint64_t copies = 0, now = start;
    while (now < start + 30'000'000) {
        for (int i = 0; i < 100; ++i) copies += s.may_flood(5) ? 5U : 0U;
        now = nm::system_clock::now_ns();
    }
    EXPECT_LE(copies, (now - start) / 10'000);
    EXPECT_GE(copies + s.storm_left + 10, (s.storm_seen_ns - start) / 10'000) << "nothing is lost to rounding";
    EXPECT_GE(s.storm_seen_ns + 1'000'000, start + 30'000'000);
}
TEST(ValeAttack, StormBudgetsAtTheirLimits) {
    for (const std::uint64_t rate : {std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{1} << 62U, ~std::uint64_t{0}}) {
        nm::vale::source s;
        s.storm = {rate, std::max<std::uint64_t>(rate / 2, 1000)};
        s.storm_left = s.storm.burst;
        for (const std::uint64_t seen : {std::uint64_t{0}, nm::system_clock::now_ns()}) {
            s.storm_seen_ns = seen;
            while (s.storm_left > 1000) s.storm_left /= 2;
            for (int i = 0; i < 2000; ++i) {
                (void)s.may_flood(253);
                EXPECT_LE(s.storm_left, s.storm.burst);
            }
        }
        EXPECT_TRUE(s.may_flood(4));
    }
}

TEST(ValeAttack, ADetachedPortsNameIsFree) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a");
    auto old = nm::open<nm::vale_port>(ctx, "vale0:b");
    ASSERT_TRUE(sw.detach("b"));
    auto b = nm::open<nm::vale_port>(ctx, "vale0:b");
    EXPECT_TRUE(b.status()) << "a new port, not the one that is off the switch";
    EXPECT_FALSE(old.status());
    send(a, {{1, 0}}, 5);
    EXPECT_EQ(receive(b), numbers{5});
    old.close();
    auto again = nm::open<nm::vale_port>(ctx, "vale0:b");
    EXPECT_EQ(&again.state(), &b.state());
    expect_conserved(sw);
}

TEST(ValeAttack, AMemberThatOnlyReceives) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto outside = nm::open<nm::pipe>(ctx, "netmap:p{1");
    auto member = sw.attach(nm::open<nm::pipe>(ctx, "netmap:p}1/R"), "only");
    auto b = sw.new_port("b");
    send(b, {all, {0, 0}});
    member.arm();
    EXPECT_FALSE(member.wait(std::chrono::milliseconds(1))) << "nothing that it could do";
    send(outside, {{1, 0}}, 3);
    EXPECT_TRUE(member.wait(std::chrono::seconds(5)));
    EXPECT_EQ(member.poll(), 1U);
    EXPECT_EQ(receive(b), numbers{3});
    expect_conserved(sw);
}

TEST(ValeAttack, AHandleForOneRingCountsThatRingsDrops) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options o;
    o.tx_rings = 2;
    o.rx_slots = 4;
    auto a = sw.new_port("a"), b = sw.new_port("b", o);
    auto zero = nm::open<nm::vale_port>(ctx, "vale0:b-0"), one = nm::open<nm::vale_port>(ctx, "vale0:b-1");
    send(a, {{1, 2, 0}, {1, 2, 0}, {1, 2, 0}, {1, 2, 0}, {1, 2, 1}, {1, 2, 1}, {1, 2, 1}, {1, 2, 1}, {1, 2, 1}});
    EXPECT_EQ(zero.rx_stats().dropped(), 1U);
    EXPECT_EQ(one.rx_stats().dropped(), 2U);
    EXPECT_EQ(b.rx_stats().dropped(), 3U);
    expect_conserved(sw);
}

// Several clients that each wait for the answer to what they sent, without a limit: one wake-up lost, and it hangs. Ports come
// and go and counters are read meanwhile.
TEST(ValeAttack, NoWakeUpIsLostAmongSeveralSenders) {
    constexpr unsigned clients = 3, rounds = 1500;
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options o;
    o.tx_slots = 16;
    o.mem_id = 1;
    auto server = sw.new_port("server", o);
    std::deque<nm::vale_port> ports;
    for (unsigned c = 0; c < clients; ++c) {
        o.mem_id.reset();
        if (c % 2 == 0) o.mem_id = 1;
        ports.push_back(sw.new_port("c" + std::to_string(c), o));
    }
    std::vector<std::thread> threads;
    for (auto& p : ports)
        threads.emplace_back([&p] {
            for (std::uint32_t i = 0; i < rounds; ++i) {
                send(p, {{0, 0, p.number()}}, i);
                numbers got;
                while (got.empty()) {
                    ASSERT_EQ(nm::wait(p, nm::events::rx), nm::events::rx);
                    got = receive(p);
                }
                ASSERT_EQ(got, numbers{i});
            }
        });
    threads.emplace_back([&] {
        for (unsigned left = clients * rounds; left != 0;) {
            ASSERT_EQ(nm::wait(server, nm::events::rx), nm::events::rx);
            left -= nm::forward(server.rx(), server.tx(), 64, [](nm::frame& f) noexcept { f.data()[0] = f.data()[2]; });
        }
    });
    std::thread others([&] {
        nm::open_options few;
        few.tx_slots = 8;
        for (int i = 0; i < 200; ++i) {
            auto one = sw.new_port("one", few);
            (void)sw.ports();
            send(one, {{254, 0}});  // nobody
            (void)sw.stats();
            (void)one.rx_stats();
            if (one.number() % 2 == 0) (void)sw.detach("one");
            std::this_thread::yield();
        }
    });
    for (auto& t : threads) t.join();
    others.join();
    expect_conserved(sw);
}

#if defined(__SANITIZE_THREAD__)
constexpr bool under_tsan = true;
#elif defined(__has_feature)
constexpr bool under_tsan = __has_feature(thread_sanitizer);
#else
constexpr bool under_tsan = false;
#endif

// Slots, indexes and bytes of a sender's and a receiver's rings change while frames cross: what is counted stays whole, and
// nothing is written but buffers that these two have.
TEST(ValeAttack, MemoryThatChangesAllTheTime) {
    if (under_tsan) GTEST_SKIP() << "races on a frame's bytes are what this is about";
    for (const bool shared : {false, true}) {
        nm::context ctx;
        vale_switch<by_byte> sw(ctx, "vale0");
        nm::region_options r;
        r.bufs = 2 + 4 * 32 + 50;
        r.buf_size = 128;
        r.meta_bytes = 1U << 16U;
        nm::open_options oa, ob, oc;
        oa.memory = *nm::region::create(r);
        ob.memory = shared ? oa.memory : *nm::region::create(r);
        oc.memory = *nm::region::create(r);
        oa.tx_slots = ob.tx_slots = oc.tx_slots = 32;
        auto a = sw.new_port("a", oa), b = sw.new_port("b", ob), c = sw.new_port("c", oc);
        // Reserved buffers, and those of c that lie in no slot.
        for (auto* m : {oa.memory.get(), ob.memory.get(), oc.memory.get()}) std::memset(m->buf(1), 0x5a, 128);
        for (std::uint32_t i = 2 + 64; i < r.bufs; ++i) std::memset(oc.memory->buf(i), 0x5a, 128);
        std::atomic<bool> stop{false};
        std::thread enemy([&] {
            std::mt19937_64 random(7);
            while (!stop) {
                for (nm::ring* ring : {&a.tx().shared(), &b.rx().shared()}) {
                    auto& s = ring->slots()[random() % 32];
                    // Mostly what passes the first check.
                    const std::uint64_t idx = random() % 8 == 0 ? random() & 0xffffffffU : 2 + random() % (r.bufs - 2);
                    const std::uint64_t len = random() % 8 == 0 ? random() & 0xffffU : random() % 129;
                    const std::uint64_t flags = random() % 4 == 0 ? random() & 0xffffU : 0;
                    nm::store_once(reinterpret_cast<nm::u64_alias&>(s), idx | len << 32U | flags << 48U);
                    nm::store_once(s.ptr, random());
                    if (random() % 16 == 0) nm::store_once(ring->head, static_cast<std::uint32_t>(random() % 40));
                    if (random() % 16 == 0) nm::store_once(ring->cur, static_cast<std::uint32_t>(random() % 40));
                    if (random() % 64 == 0) nm::store_once(ring->num_slots, static_cast<std::uint32_t>(random()));
                    if (random() % 64 == 0) nm::store_once(ring->tail, static_cast<std::uint32_t>(random()));
                    auto* const bytes = reinterpret_cast<volatile std::uint8_t*>(oa.memory->buf(static_cast<std::uint32_t>(2 + random() % (r.bufs - 2))));
                    bytes[random() % 3] = static_cast<std::uint8_t>(random() % 4);
                }
            }
        });
        std::uint64_t through = 0;
        for (int i = 0; i < 20'000; ++i) {
            for (index_t k = 0; k < 8; ++k) a.tx().advance();
            a.tx().txsync();
            send(a, {{1, 0}, {1, 0}, all, {1, 2, 3}, {2, 0}});
            through += nm::drain(b.rx(), 64);
            nm::drain(c.rx(), 64);
        }
        stop = true;
        enemy.join();
        EXPECT_GT(through, 1000U);
        for (auto* m : {oa.memory.get(), ob.memory.get(), oc.memory.get()})
            for (unsigned i = 0; i < 128; ++i) ASSERT_EQ(static_cast<unsigned>(m->buf(1)[i]), 0x5aU) << "a reserved buffer";
        for (std::uint32_t n = 2 + 64; n < r.bufs; ++n)
            for (unsigned i = 0; i < 128; ++i) ASSERT_EQ(static_cast<unsigned>(oc.memory->buf(n)[i]), 0x5aU) << "nobody's buffer " << n;
        expect_conserved(sw);
    }
}

// What a reader may leave in a slot, one after the other: exactly counted, and no other buffer written.
TEST(ValeAttack, EachSortOfBadBufferAtTheReader) {
    for (const bool shared : {false, true}) {
        nm::context ctx;
        vale_switch<by_byte> sw(ctx, "vale0");
        nm::open_options o;
        o.mem_id = 1;
        auto a = sw.new_port("a", o);
        if (!shared) o.mem_id.reset();
        auto b = sw.new_port("b", o);
        const std::uint32_t count = b.region().num_bufs();
        std::uint32_t bad = 0, sent = 0;
        for (const std::uint32_t idx : {0U, 1U, count, count + 1, 0x7fffffffU, 0x80000000U, 0x80000002U, 0xfffffffeU, 0xffffffffU}) {
            auto& s = b.rx().shared().slots()[sent % 1024];
            const std::uint32_t was = std::exchange(s.buf_idx, idx);
            send(a, {{1, 0}}, sent);
            ++sent, ++bad;
            EXPECT_TRUE(receive(b).empty());
            EXPECT_EQ(b.rx_stats().dropped(cause::bad_idx), bad) << idx;
            s.buf_idx = was;
            send(a, {all}, sent);
            EXPECT_EQ(receive(b), numbers{sent++});
        }
        expect_conserved(sw);
    }
}

// Addresses without end at one port: the others' stations stay known, and the number of the port is clean for who has it next.
TEST(ValeAttack, AddressesWithoutEndAtOnePort) {
    nm::context ctx;
    vale_switch<> sw(ctx, "vale0");
    nm::open_options o;
    o.storm_copies = 0;
    auto victim = sw.new_port("victim"), other = sw.new_port("other"), third = sw.new_port("third");
    auto enemy = std::make_optional(sw.new_port("enemy", o));
    const auto from_to = [](nm::vale_port& p, std::uint64_t from, std::uint64_t to) {
        nm::generate(p.tx(), 1, [&](nm::frame& f) noexcept {
            std::memset(f.data(), 0, 64);
            std::memcpy(f.data(), &to, 6);
            std::memcpy(f.data() + 6, &from, 6);
            f.resize(60);
        });
    };
    from_to(victim, 0x1002, 0x2002);
    from_to(other, 0x3002, 0x1002);
    std::uint64_t source = 0x9000000002;
    for (int i = 0; i < 400; ++i) {
        nm::generate(enemy->tx(), 500, [&](nm::frame& f) noexcept {
            const std::uint64_t to = 0x1002, from = (source += 0x9e3779b97f4) & 0xfffffffffffe;
            std::memset(f.data(), 0, 64);
            std::memcpy(f.data(), &to, 6);
            std::memcpy(f.data() + 6, &from, 6);
            f.resize(60);
        });
        nm::drain(victim.rx(), 1024);
    }
    nm::drain(third.rx(), 1024);
    EXPECT_LE(sw.lookup().stations(enemy->number()), sw.lookup().capacity());
    from_to(other, 0x3002, 0x1002);
    EXPECT_EQ(nm::drain(victim.rx(), 10), 1U);
    EXPECT_EQ(nm::drain(third.rx(), 10), 0U) << "not flooded";
    const auto number = enemy->number();
    const std::uint64_t theirs = source & 0xfffffffffffe;
    enemy->close();
    EXPECT_EQ(sw.lookup().stations(number), 0U);
    auto next = sw.new_port("next");
    EXPECT_EQ(next.number(), number);
    nm::drain(next.rx(), 10);
    nm::drain(other.rx(), 10);
    from_to(victim, 0x1002, theirs);
    EXPECT_EQ(nm::drain(next.rx(), 10) + nm::drain(other.rx(), 10), 2U) << "flooded: nobody knows it now";
    expect_conserved(sw);
}

}  // namespace
