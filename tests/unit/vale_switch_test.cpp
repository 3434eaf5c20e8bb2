// SPDX-License-Identifier: BSD-2-Clause
#include "nm/vale/switch.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <map>
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

/// The first byte says where to: a port's number, 255 for all, 254 for nowhere, 253 for the even ports.
struct by_byte {
    explicit by_byte(nm::vale::port_set* even = nullptr) noexcept : even_(even) {}
    destination operator()(const packet& p) const noexcept {
        switch (p.data[0]) {
            case 255: return destination::to_all();
            case 254: return destination::drop();
            case 253: return destination::to(*even_);
            default: return destination::to(p.data[0]);
        }
    }
    nm::vale::port_set* even_;
};

// The law, at the end of every test: and no buffer lost or doubled.
template <class L>
void expect_conserved(vale_switch<L>& sw) {
    const auto s = sw.stats();
    EXPECT_TRUE(s.conserved()) << s.accepted << " + " << s.replicas << " != " << s.delivered << " + " << s.dropped();
}

/// Sends a frame: where to, and a number.
template <class P>
index_t send(P& from, std::uint8_t to, std::uint32_t number, std::uint16_t len = 60, index_t ring = 0) {
    return nm::generate(from.tx(ring), 1, [&](nm::frame& f) noexcept {
        std::memset(f.data(), 0, 64);
        f.data()[0] = to;
        std::memcpy(f.data() + 16, &number, 4);
        f.resize(len);
    });
}
template <class P>
std::vector<std::uint32_t> receive(P& p, index_t ring = 0) {
    std::vector<std::uint32_t> got;
    nm::drain(p.rx(ring), 10000, [&](nm::frame& f) noexcept {
        std::uint32_t n = 0;
        std::memcpy(&n, f.data() + 16, 4);
        got.push_back(n);
    });
    return got;
}
using numbers = std::vector<std::uint32_t>;

TEST(ValeSwitch, Unicast) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b"), c = sw.new_port("c");
    EXPECT_EQ(b.number(), 1);
    send(a, 1, 7);
    send(a, 2, 8);
    EXPECT_EQ(receive(b), numbers{7});
    EXPECT_EQ(receive(c), numbers{8});
    EXPECT_TRUE(receive(a).empty());
    send(a, 0, 9);    // to itself
    send(a, 254, 9);  // nowhere
    EXPECT_EQ(a.tx_stats().dropped(cause::no_dst), 1U);
    EXPECT_EQ(a.tx_stats().dropped(cause::policy), 1U);
    EXPECT_EQ(a.tx_stats().frames, 4U);
    expect_conserved(sw);
}

TEST(ValeSwitch, FloodKeepsTheOrder) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b"), c = sw.new_port("c");
    std::uint32_t n = 0;
    const std::array<std::uint8_t, 9> to{1, 255, 1, 2, 255, 255, 2, 1, 1};
    nm::generate(a.tx(), 9, [&](nm::frame& f) noexcept {
        std::memset(f.data(), 0, 64);
        f.data()[0] = to[n];
        std::memcpy(f.data() + 16, &n, 4);
        ++n;
        f.resize(60);
    });
    EXPECT_EQ(receive(b), (numbers{0, 1, 2, 4, 5, 7, 8}));
    EXPECT_EQ(receive(c), (numbers{1, 3, 4, 5, 6}));
    EXPECT_TRUE(receive(a).empty());
    const auto s = sw.stats();
    EXPECT_EQ(s.accepted, 9U);
    EXPECT_EQ(s.replicas, 3U);
    EXPECT_EQ(sw.ports()[0].floods, 3U);
    expect_conserved(sw);
}

TEST(ValeSwitch, SetsOfPorts) {
    nm::context ctx;
    nm::vale::port_set even;
    even.add(0);
    even.add(2);
    vale_switch<by_byte> sw(ctx, "vale0", &even);
    auto a = sw.new_port("a"), b = sw.new_port("b"), c = sw.new_port("c"), d = sw.new_port("d");
    send(b, 253, 1);
    send(a, 253, 2);
    send(a, 255, 3);
    EXPECT_EQ(receive(a), numbers{1});
    EXPECT_EQ(receive(b), numbers{3});
    EXPECT_EQ(receive(c), (numbers{1, 2, 3}));
    EXPECT_EQ(receive(d), numbers{3});
    even.remove(2);
    send(a, 253, 4);  // nobody left but itself
    EXPECT_EQ(a.tx_stats().dropped(cause::no_dst), 1U);
    expect_conserved(sw);
}

TEST(ValeSwitch, ShortFramesAndHoles) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    send(a, 1, 1, 13);
    send(a, 1, 2, 14);
    a.tx().slot().len = 0;
    a.tx().advance();
    a.tx().txsync();
    send(a, 1, 3);
    EXPECT_EQ(receive(b).size(), 2U);
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_len), 1U);
    EXPECT_EQ(a.tx_stats().frames, 3U);
    expect_conserved(sw);
}

TEST(ValeSwitch, SwapsInOneRegionCopiesBetweenTwo) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options shared;
    shared.mem_id = 1;
    auto a = sw.new_port("a", shared), b = sw.new_port("b", shared), c = sw.new_port("c");
    a.tx().txsync();
    const std::uint32_t mine = a.tx().slot().buf_idx;
    const std::uint32_t theirs = b.rx().slot().buf_idx;
    std::memset(a.tx().buf(), 1, 60);
    a.tx().slot().len = 60;
    a.tx().advance();
    a.tx().txsync();
    b.rx().rxsync();
    ASSERT_EQ(b.rx().space(), 1U);
    EXPECT_EQ(b.rx().slot().buf_idx, mine);
    EXPECT_NE(b.rx().slot().flags & nm::ns_buf_changed, 0);
    EXPECT_EQ(a.tx().slot(0).buf_idx, theirs);
    EXPECT_NE(a.tx().slot(0).flags & nm::ns_buf_changed, 0);
    b.rx().advance();

    const std::uint32_t kept = a.tx().slot().buf_idx;
    std::memset(a.tx().buf(), 2, 60);
    a.tx().slot().len = 60;
    a.tx().advance();
    a.tx().txsync();
    c.rx().rxsync();
    ASSERT_EQ(c.rx().space(), 1U);
    EXPECT_EQ(a.tx().slot(1).buf_idx, kept);
    EXPECT_EQ(c.rx().buf()[59], 2);
    EXPECT_EQ(nm::ns_rfrags(c.rx().slot()), 1U);
    expect_conserved(sw);
}

// Every buffer of the region is in exactly one slot, whatever was sent.
TEST(ValeSwitch, NoBufferIsLost) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options o;
    o.mem_id = 1;
    o.tx_slots = 32;
    std::deque<nm::vale_port> ports;
    for (const char* name : {"a", "b", "c", "d"}) ports.push_back(sw.new_port(name, o));
    std::mt19937 random(1);
    for (int i = 0; i < 20000; ++i) {
        auto& p = ports[random() % 4];
        if (random() % 3 != 0) send(p, static_cast<std::uint8_t>(random() % 6 == 5 ? 255 : random() % 5), 0, static_cast<std::uint16_t>(random() % 80));
        else nm::drain(p.rx(), static_cast<index_t>(random() % 20));
    }
    std::map<std::uint32_t, int> seen;
    for (auto& p : ports) {
        for (index_t i = 0; i < 32; ++i) ++seen[p.tx().slot(i).buf_idx], ++seen[p.rx().slot(i).buf_idx];
        nm::drain(p.rx(), 100);
    }
    EXPECT_EQ(seen.size(), 4U * 64U);
    EXPECT_GT(seen.begin()->first, 1U);
    expect_conserved(sw);
}

TEST(ValeSwitch, AFullDestinationDropsWithACount) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options small;
    small.rx_slots = 8;
    auto a = sw.new_port("a"), b = sw.new_port("b", small), c = sw.new_port("c");
    for (std::uint32_t i = 0; i < 20; ++i) send(a, 1, i), send(a, 2, i);
    EXPECT_EQ(receive(b), (numbers{0, 1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(receive(c).size(), 20U);
    EXPECT_EQ(b.rx_stats().dropped(cause::full), 13U);
    EXPECT_EQ(b.rx_stats().frames, 7U);
    send(a, 1, 99);
    EXPECT_EQ(receive(b), numbers{99});
    expect_conserved(sw);
}

TEST(ValeSwitch, AReaderWithABadBufferLosesThatFrameOnly) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    const std::uint32_t was = b.rx().slot(1).buf_idx;
    b.rx().slot(1).buf_idx = 0xffffffffU;
    for (std::uint32_t i = 0; i < 3; ++i) send(a, 1, i);
    EXPECT_EQ(receive(b), (numbers{0, 2}));
    EXPECT_EQ(b.rx_stats().dropped(cause::bad_idx), 1U);
    expect_conserved(sw);
    b.rx().slot(1).buf_idx = was;
}

TEST(ValeSwitch, RingsOfTheSameIndex) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options four, two;
    four.tx_rings = 4;
    two.tx_rings = 2;
    auto a = sw.new_port("a", four), b = sw.new_port("b", two), c = sw.new_port("c", four);
    for (index_t r = 0; r < 4; ++r) send(a, 1, r, 60, r), send(a, 2, r, 60, r), send(a, 255, 10 + r, 60, r);
    EXPECT_EQ(receive(b, 0), (numbers{0, 10, 11, 2, 12, 13}));
    EXPECT_EQ(receive(b, 1), (numbers{1, 3}));
    EXPECT_EQ(receive(c, 3), numbers{3});
    EXPECT_EQ(receive(c, 0), (numbers{0, 10, 11, 12, 13}));
    expect_conserved(sw);
}

TEST(ValeSwitch, ManyPortsAndNoMore) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options o;
    o.tx_slots = 16;
    std::deque<nm::vale_port> ports;
    for (int i = 0; i < 254; ++i) ports.push_back(sw.new_port("p" + std::to_string(i), o));
    const auto more = sw.try_new_port("more", o);
    ASSERT_FALSE(more);
    EXPECT_NE(more.error().text.find("254"), std::string::npos);
    send(ports[100], 253 - 1, 5);
    EXPECT_EQ(receive(ports[252]), numbers{5});
    send(ports[100], 255, 6);
    for (std::size_t i = 0; i < 254; ++i) EXPECT_EQ(receive(ports[i]).size(), i == 100 ? 0U : 1U);
    EXPECT_EQ(sw.stats().replicas, 252U);
    ports.pop_front();
    EXPECT_TRUE(sw.try_new_port("again", o));
    expect_conserved(sw);
}

TEST(ValeSwitch, TheStormBudgetLimitsCopies) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options o;
    o.storm_copies = 100;  // and 1000 at once
    auto a = sw.new_port("a", o), b = sw.new_port("b"), c = sw.new_port("c"), d = sw.new_port("d"), e = sw.new_port("e");
    for (std::uint32_t i = 0; i < 500; ++i) send(a, 255, i);
    EXPECT_EQ(a.tx_stats().dropped(), 0U) << "four copies are few";
    for (auto* p : {&b, &c, &d, &e}) receive(*p);
    auto f = sw.new_port("f");
    for (std::uint32_t i = 0; i < 1500; ++i) {
        send(a, 255, i);
        send(a, 1, i);
        if (i % 100 == 99)
            for (auto* p : {&b, &c, &d, &e, &f}) receive(*p);
    }
    EXPECT_GT(a.tx_stats().dropped(cause::policy), 500U);
    EXPECT_GE(sw.ports()[0].floods, 500U + 200U);
    EXPECT_EQ(b.rx_stats().frames, 1500U + sw.ports()[0].floods) << "who is sent to alone is not limited";
    expect_conserved(sw);
}

TEST(ValeSwitch, AMemberHasTheStormBudgetThatItIsAttachedWith) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    nm::open_options o;
    o.storm_copies = 100;
    auto outside = nm::open<nm::pipe>(ctx, "netmap:p{1");
    auto member = sw.attach(nm::open<nm::pipe>(ctx, "netmap:p}1"), {}, o);
    std::deque<nm::vale_port> others;
    for (const char* name : {"b", "c", "d", "e", "f"}) others.push_back(sw.new_port(name));
    for (std::uint32_t i = 0; i < 1500; ++i) {
        send(outside, 255, i);
        member.poll();
        if (i % 100 == 99)
            for (auto& p : others) receive(p);
    }
    EXPECT_GT(member.on_switch().tx_stats().dropped(cause::policy), 500U);
    expect_conserved(sw);
}

TEST(ValeSwitch, DetachDiscardsAndAttachStartsAnew) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    send(a, 1, 1);
    ASSERT_TRUE(sw.detach("b"));
    EXPECT_FALSE(sw.detach("b"));
    EXPECT_FALSE(b.status());
    send(a, 1, 2);  // nobody there: flooded, and there is nobody at all
    EXPECT_EQ(a.tx_stats().dropped(cause::no_dst), 1U);
    EXPECT_EQ(receive(b), numbers{1}) << "what had arrived stays readable";
    send(b, 0, 3);
    EXPECT_EQ(b.tx_stats().dropped(cause::no_dst), 1U);
    EXPECT_TRUE(receive(a).empty());
    auto c = sw.new_port("c");
    EXPECT_EQ(c.number(), 1);
    send(a, 1, 4);
    EXPECT_EQ(receive(c), numbers{4});
    b.close();
    send(a, 1, 5);
    EXPECT_EQ(receive(c), numbers{5}) << "closing a port that was detached leaves its successor alone";
    expect_conserved(sw);
}

TEST(ValeSwitch, ByName) {
    nm::context ctx;
    {
        auto a = nm::open<nm::vale_port>(ctx, "vale1:a");
        auto b = nm::open<nm::all_ports>(ctx, "vale1:b");
        auto again = nm::open<nm::vale_port>(ctx, "vale1:b");
        const auto exists = nm::vale::vale_switch<>::create(ctx, "vale1");
        ASSERT_FALSE(exists);
        EXPECT_EQ(exists.error().code.value(), EEXIST);
        nm::generate(a.tx(), 1, [](nm::frame& f) noexcept {
            std::memset(f.data(), 0xff, 6);
            std::memset(f.data() + 6, 2, 54);
            f.resize(60);
        });
        EXPECT_EQ(nm::drain(again.rx(), 8), 1U);
        EXPECT_EQ(nm::query(ctx, "vale1:a")->mode, "vale");
    }
    nm::vale::vale_switch<> sw(ctx, "vale1");  // gone with its last port
    const auto lo = sw.try_new_port("lo");
    EXPECT_TRUE(lo) << "members have interfaces' names";
    EXPECT_FALSE(nm::try_open<nm::vale_port>(ctx, "vale2:lo")) << "netmap(4): not the name of an interface";
    EXPECT_FALSE(nm::try_open<nm::vale_port>(ctx, "vale2:a^"));
    EXPECT_FALSE(nm::try_open<nm::vale_port>(ctx, "vale2:a-7")) << "one ring";
    sw.lookup().secure(255);
    sw.lookup().limit(254, 1);  // no such ports, and no harm
    for (const char* bad : {"switch", "val", "vale0:a", "va le", ""})
        EXPECT_FALSE(nm::vale::vale_switch<>::create(ctx, bad)) << bad;
}

TEST(ValeSwitch, WaitingWakesAndAlwaysMaySend) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    using namespace std::chrono_literals;
    EXPECT_EQ(nm::wait(b, nm::events::rx, 1ms), nm::events::none);
    EXPECT_EQ(nm::wait(b, nm::events::tx, 1000ms), nm::events::tx);
    std::atomic<int> got{0};
    std::thread reader([&] {
        while (got < 2000) {
            ASSERT_EQ(nm::wait(b, nm::events::rx, 10000ms), nm::events::rx);
            got += static_cast<int>(nm::drain(b.rx(), 64));
        }
    });
    for (std::uint32_t i = 0; i < 2000; ++i) {
        send(a, 1, i);
        if (i % 64 == 0)
            while (static_cast<std::uint32_t>(got) + 500 < i) std::this_thread::yield();
    }
    reader.join();
    ASSERT_TRUE(sw.detach("b"));
    EXPECT_EQ(nm::wait(b, nm::events::rx, 10000ms), nm::events::error);
    expect_conserved(sw);
}

// A sender who stops in mid-lease keeps nobody else from sending, and nobody from what was sent before.
TEST(Inbox, AStoppedWriterStopsNobody) {
    nm::context ctx;
    auto memory = nm::region::create({});
    auto rings = nm::port_memory::create(*memory, "x", {});
    nm::ring_link link;
    nm::inbox in;
    in.open(7, rings->rx(0), 1024, **memory, link, {}, nm::base::membarrier_register());
    bool gone = false;
    const auto put = [&](const nm::lease& l) {
        nm::delivery d;
        d.frames = d.slots = l.count;
        in.complete(l, d);
    };
    put(in.reserve(7, 3, gone));
    EXPECT_EQ(link.tail.load(), 3U);
    const nm::lease stopped = in.reserve(7, 4, gone);
    for (int i = 0; i < 10; ++i) put(in.reserve(7, 5, gone));
    EXPECT_EQ(in.total().frames, 53U) << "the others went on";
    EXPECT_EQ(link.tail.load(), 3U) << "but order is kept";
    put(stopped);
    EXPECT_EQ(link.tail.load(), 57U);
    // Less than was leased: given back, or a hole when somebody has leased behind it.
    const nm::lease l = in.reserve(7, 10, gone);
    nm::delivery two;
    two.frames = two.slots = 2;
    in.complete(l, two);
    EXPECT_EQ(link.tail.load(), 59U);
    const nm::lease m = in.reserve(7, 10, gone), behind = in.reserve(7, 1, gone);
    put(behind);
    for (index_t i = 59; i < 69; ++i) rings->rx(0)->slots()[i].len = 60;
    in.complete(m, two);
    EXPECT_EQ(link.tail.load(), 70U);
    EXPECT_EQ(rings->rx(0)->slots()[60].len, 60);
    EXPECT_EQ(rings->rx(0)->slots()[61].len, 0);
    EXPECT_EQ(in.reserve(7, 2000, gone).count, 1023U - 70U) << "and what does not fit is counted";
    EXPECT_EQ(in.total().dropped(cause::full), 2000U - 953U);
    EXPECT_EQ(in.reserve(8, 1, gone).count, 0U);
    EXPECT_TRUE(gone);
}

// Members: a pipe on each side of the switch.
TEST(ValeSwitch, AnyPortIsAMember) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0");
    auto outside = nm::open<nm::pipe>(ctx, "netmap:p{1");
    auto member = sw.attach(nm::open<nm::pipe>(ctx, "netmap:p}1"));
    auto b = sw.new_port("b");
    EXPECT_EQ(member.name(), "vale0:p}1");
    EXPECT_EQ(&member.port().region(), &member.on_switch().region()) << "between a member and its place buffers are swapped";
    for (std::uint32_t i = 0; i < 10; ++i) send(outside, 1, i);
    EXPECT_TRUE(member.wait(std::chrono::seconds(5)));
    EXPECT_EQ(member.poll(), 10U);
    EXPECT_EQ(receive(b).size(), 10U);
    for (std::uint32_t i = 0; i < 10; ++i) send(b, 0, 20 + i);
    EXPECT_TRUE(member.wait(std::chrono::seconds(5)));
    EXPECT_EQ(member.poll(), 10U);
    EXPECT_EQ(receive(outside), (numbers{20, 21, 22, 23, 24, 25, 26, 27, 28, 29}));
    EXPECT_FALSE(member.wait(std::chrono::milliseconds(1)));
    // The pipe pushes back, the switch drops.
    for (std::uint32_t i = 0; i < 3000; ++i) {
        send(b, 0, i);
        member.poll();
    }
    EXPECT_FALSE(member.wait(std::chrono::milliseconds(1))) << "it cannot go on before somebody reads the pipe";
    EXPECT_EQ(receive(outside).size(), 1023U);
    EXPECT_TRUE(member.wait(std::chrono::seconds(5)));
    EXPECT_GT(member.on_switch().rx_stats().dropped(cause::full), 0U);
    expect_conserved(sw);
}

TEST(ValeSwitch, APortHasOnePlace) {
    nm::context ctx;
    vale_switch<by_byte> sw(ctx, "vale0"), other(ctx, "vale1");
    {
        auto member = sw.attach(nm::open<nm::pipe>(ctx, "netmap:p}1"), "x");
        for (auto* on : {&sw, &other}) {
            const auto again = on->try_attach(nm::open<nm::pipe>(ctx, "netmap:p}1"), "y");
            ASSERT_FALSE(again);
            EXPECT_EQ(again.error().code.value(), EBUSY);
        }
        EXPECT_TRUE(other.try_attach(nm::open<nm::pipe>(ctx, "netmap:p{1"))) << "the other end is another port";
    }
    EXPECT_TRUE(other.try_attach(nm::open<nm::pipe>(ctx, "netmap:p}1"))) << "when the member has gone";
    const auto itself = sw.try_attach(sw.new_port("a"), "b");
    ASSERT_FALSE(itself);
    EXPECT_EQ(itself.error().code.value(), EINVAL);
    auto between = sw.attach(other.new_port("a"), "other");
    auto b = sw.new_port("b"), c = other.new_port("c");
    send(b, between.number(), 7);
    between.poll();
    expect_conserved(sw);
    expect_conserved(other);
}

// Senders on several threads, ports that come and go.
TEST(ValeSwitch, SendersComeAndGoOnSeveralThreads) {
    nm::context ctx;
    vale_switch<> sw(ctx, "vale0");
    auto sink = sw.new_port("sink");
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 8; ++t)
        threads.emplace_back([&, t] {
            std::mt19937 random(t);
            for (int round = 0; round < 40; ++round) {
                nm::open_options o;
                o.tx_slots = 64;
                if (t % 2 == 0) o.mem_id = 1;
                auto made = sw.try_new_port("t" + std::to_string(t), o);
                ASSERT_TRUE(made) << made.error().text;
                auto p = std::move(*made);
                for (int i = 0; i < 20; ++i) {
                    nm::generate(p.tx(), 16, [&](nm::frame& f) noexcept {
                        std::memset(f.data(), 0, 60);
                        f.data()[5] = static_cast<std::uint8_t>(random() % 10);
                        f.data()[0] = f.data()[5] == 9 ? 0xff : 2;
                        f.data()[6] = 2;
                        f.data()[11] = static_cast<std::uint8_t>(t);
                        f.resize(60);
                    });
                    nm::drain(p.rx(), 64);
                }
                if (round % 3 == 0) {
                    const auto detached = sw.detach("t" + std::to_string((t + 1) % 8));
                    (void)detached;
                }
            }
        });
    std::thread reader([&] {
        while (!stop) {
            nm::drain(sink.rx(), 256);
            (void)sw.stats();
            std::this_thread::yield();
        }
    });
    for (auto& t : threads) t.join();
    stop = true;
    reader.join();
    EXPECT_EQ(sw.ports().size(), 1U);
    EXPECT_GT(sw.stats().accepted, 50'000U);
    expect_conserved(sw);
}

}  // namespace
