// SPDX-License-Identifier: BSD-2-Clause
// Eight threads whose ports come and go on one switch while they are sent to, and take each other's off it; one destination
// never reads. At the end every frame is accounted for, every buffer is where it was, and what arrived is what was sent.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "nm/nm.hpp"

namespace {

using nm::index_t;

constexpr unsigned threads = 8, rounds = 150;
constexpr std::uint8_t reader_station = 100, never_station = 101;

/// Addresses, and the sender's number over and over: a frame made of two is seen.
void fill(std::uint8_t* f, std::size_t len, std::uint8_t to, std::uint8_t from, std::uint8_t number) {
    std::memset(f, number, len);
    const std::uint8_t head[14] = {static_cast<std::uint8_t>(to == 0xff ? 0xff : 2), to, to, to, to, to, 2, from, from, from, from, from, 0x88, 0xb5};
    std::memcpy(f, head, sizeof head);
}
[[nodiscard]] bool whole(const std::uint8_t* f, std::size_t len) {
    return len >= 15 && std::all_of(f + 14, f + len, [f](std::uint8_t b) { return b == f[14]; });
}

/// What one thread does with one port, or with the pipe behind a member.
struct worker {
    std::mt19937 random;
    std::uint8_t me;
    std::atomic<std::uint64_t>& torn;

    template <class P>
    void send(P& p, std::uint32_t header, index_t n) {
        nm::generate(p, n, [&](nm::frame& f) noexcept {
            constexpr std::uint8_t fixed[] = {0xff, reader_station, never_station};
            const auto to = random() % 2 == 0 ? static_cast<std::uint8_t>(random() % threads) : fixed[random() % 3];
            const auto len = static_cast<std::uint16_t>(60 + random() % 200);
            std::memset(f.data(), 0, header);
            fill(reinterpret_cast<std::uint8_t*>(f.data()) + header, len, to, me, static_cast<std::uint8_t>(random()));
            f.resize(static_cast<std::uint16_t>(len + header));
        });
    }
    template <class P>
    void receive(P& p, std::uint32_t header, index_t n) {
        nm::drain(p, n, [&](nm::frame& f) noexcept {
            if (f.size() < header || !whole(reinterpret_cast<const std::uint8_t*>(f.data()) + header, f.size() - header)) ++torn;
        });
    }
};

TEST(ValeStress, DetachUnderLoadLosesNoFrameAndNoBuffer) {
    nm::context_options shared;
    shared.shared_bufs = 32768;
    nm::context ctx(shared);
    const auto memory = *ctx.shared_region(1);
    const auto all_bufs = memory->bufs().available();
    const auto all_meta = memory->objects().available();
    std::atomic<std::uint64_t> torn{0}, attached{0}, detached{0};
    std::atomic<bool> stop{false};
    {
        nm::vale::vale_switch<> sw(ctx, "vale0");
        nm::open_options in_shared;
        in_shared.mem_id = 1;
        auto reader = sw.new_port("reader", in_shared), never = sw.new_port("never", in_shared);
        const nm::vale::mac_address r{2, reader_station, reader_station, reader_station, reader_station, reader_station};
        const nm::vale::mac_address v{2, never_station, never_station, never_station, never_station, never_station};
        ASSERT_TRUE(sw.lookup().add_static(r, reader.number()));
        ASSERT_TRUE(sw.lookup().add_static(v, never.number()));
        const auto others_bufs = memory->bufs().available();

        std::vector<std::thread> all;
        for (unsigned t = 0; t < threads; ++t)
            all.emplace_back([&, t] {
                worker w{std::mt19937(t), static_cast<std::uint8_t>(t), torn};
                const std::string name = "t" + std::to_string(t);
                for (unsigned round = 0; round < rounds; ++round) {
                    nm::open_options o;
                    o.tx_slots = o.rx_slots = 64;
                    if ((round + t) % 2 == 0) o.mem_id = 1;
                    const bool is_member = (round + t) % 3 == 0;
                    std::optional<nm::vale_port> port;
                    std::optional<nm::pipe> outside;
                    std::optional<nm::vale::bwrap<nm::pipe>> member;
                    if (is_member) {
                        outside = nm::open<nm::pipe>(ctx, "netmap:" + name + "{1", o);
                        member = sw.attach(nm::open<nm::pipe>(ctx, "netmap:" + name + "}1", o), name);
                    } else {
                        if (round % 4 == 0) o.vnet_hdr = 12;
                        port = sw.new_port(name, o);
                    }
                    ++attached;
                    for (int i = 0; i < 12; ++i) {
                        if (is_member) {
                            w.send(*outside, 0, 16);
                            member->poll(64);
                            w.receive(*outside, 0, 64);
                        } else {
                            w.send(*port, o.vnet_hdr, 16);
                            w.receive(*port, o.vnet_hdr, i % 4 == 3 ? 64 : 4);
                        }
                        // Somebody else's, who goes on sending and notices by the drops.
                        if (i == 6 && w.random() % 2 == 0 && sw.detach("t" + std::to_string(w.random() % threads))) ++detached;
                    }
                }
            });
        std::thread reads([&] {
            worker w{std::mt19937(99), reader_station, torn};
            while (!stop) {
                w.receive(reader, 0, 256);
                (void)sw.ports();
                std::this_thread::yield();
            }
        });
        for (auto& t : all) t.join();
        stop = true;
        reads.join();

        worker w{std::mt19937(0), reader_station, torn};
        w.receive(reader, 0, 4096);
        EXPECT_EQ(torn, 0U);
        EXPECT_EQ(attached, threads * rounds);
        EXPECT_GT(detached, 0U);
        EXPECT_EQ(sw.ports().size(), 2U) << "who has closed his port is not there any more";
        EXPECT_EQ(never.rx_stats().frames, 0U);
        EXPECT_GT(never.rx_stats().dropped(nm::cause::full), 100U);
        EXPECT_GT(reader.rx_stats().frames, 100U);
        const auto s = sw.stats();
        EXPECT_GT(s.accepted, threads * rounds * 12);
        EXPECT_TRUE(s.conserved()) << s.accepted << " + " << s.replicas << " != " << s.delivered << " + " << s.dropped();

        // The census: whatever changed places, each port has as many buffers as it began with, and no two share one.
        EXPECT_EQ(memory->bufs().available(), others_bufs);
        std::set<std::uint32_t> held;
        std::size_t slots = 0;
        for (auto* p : {&reader, &never}) {
            for (index_t i = 0; i < p->tx().num_slots(); ++i, ++slots) held.insert(p->tx().slot(i).buf_idx);
            for (index_t i = 0; i < p->rx().num_slots(); ++i, ++slots) held.insert(p->rx().slot(i).buf_idx);
        }
        EXPECT_EQ(held.size(), slots);
        for (const auto b : held) EXPECT_TRUE(memory->bufs().in_use(b)) << b;
    }
    EXPECT_EQ(memory->bufs().available(), all_bufs);
    EXPECT_EQ(memory->objects().available(), all_meta);
}

}  // namespace
