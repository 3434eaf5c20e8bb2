// SPDX-License-Identifier: BSD-2-Clause
// The learning lookup: random operations against a map, floods of sources, several threads at a time.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "nm/vale/learning.hpp"

namespace {

using nm::vale::destination;
using nm::vale::mac_address;
using nm::vale::packet;
using nm::vale::port_number;
using std::chrono::nanoseconds;

struct stepped_clock {
    static inline std::atomic<std::uint64_t> ns{1'000'000'000};
    [[nodiscard]] static std::uint64_t now_ns() noexcept { return ns.load(std::memory_order_relaxed); }
};
using learning = nm::vale::basic_learning<stepped_clock>;
constexpr int flooded = -1, dropped = -2;
constexpr std::uint64_t broadcast = 0xffffffffffffU;

#if defined(__SANITIZE_THREAD__)
constexpr bool slow = true;
#elif defined(__has_feature)
constexpr bool slow = __has_feature(thread_sanitizer);
#else
constexpr bool slow = false;
#endif

int look_up(learning& l, learning::lane& lane, port_number from, std::uint64_t source, std::uint64_t to,
            std::uint16_t flags = 0) {
    alignas(8) std::array<std::uint64_t, 2> frame{to | source << 48, source >> 16};
    const destination d = l(packet{reinterpret_cast<const std::uint8_t*>(frame.data()), 14, flags, from, 0}, lane);
    return d.one() ? d.port() : d.flood() ? flooded : dropped;
}

/// What learning promises, without sets, lanes or words.
struct reference {
    struct entry {
        int port;
        std::uint64_t tick;
        bool is_static;
    };
    std::map<std::uint64_t, entry> at;
    std::map<int, std::optional<std::uint64_t>> secure;
    std::uint64_t tick = 0;

    [[nodiscard]] bool live(std::uint64_t mac) const {
        const auto e = at.find(mac);
        return e != at.end() && (e->second.is_static || tick - e->second.tick <= 64);
    }
    [[nodiscard]] int where(std::uint64_t mac) const { return (mac & 1) == 0 && live(mac) ? at.at(mac).port : flooded; }
    void forget(int port) {
        std::erase_if(at, [port](const auto& e) { return e.second.port == port; });
    }
    int send(int port, std::uint64_t source, std::uint64_t to, bool no_learn) {
        const bool valid = (source & 1) == 0 && source != 0;
        if (const auto s = secure.find(port); s != secure.end()) {
            const auto e = at.find(source);
            const bool by_hand = e != at.end() && e->second.is_static && e->second.port == port;
            if (!by_hand && !s->second) {
                if (!valid || no_learn || (live(source) && at[source].port != port)) return dropped;
                s->second = source;
                at[source] = {port, tick, true};
            }
            if (!by_hand && *s->second != source) return dropped;
        }
        if (valid && !no_learn) {
            auto& e = at.try_emplace(source, entry{port, tick, false}).first->second;
            if (e.is_static && e.port != port) return dropped;
            e.port = port, e.tick = tick;
        }
        return where(to);
    }
};

void random_operations(unsigned seed) {
    std::mt19937 random(seed);
    const auto below = [&random](unsigned n) { return static_cast<unsigned>(random() % n); };
    const auto l = std::make_unique<learning>(
        nm::vale::learning_options{.stations = 20'000, .hash = nm::vale::keyed_hash::from(seed, 3)});
    constexpr unsigned ports = 6, rings = 2;
    std::array<std::array<learning::lane, rings>, ports> lanes{};
    learning::lane clock_reader;
    reference r;
    constexpr std::uint64_t tick_ns = 300'000'000'000 / 64;
    std::uint64_t owed = 0;
    const auto address = [&] {
        return below(30) == 0 ? std::array<std::uint64_t, 4>{0, 1, broadcast, 0xfffffffffffeU}[below(4)]
                              : 2U + 2U * below(20) + (std::uint64_t{below(2)} << 40);
    };
    for (int i = 0; i < 3'000; ++i) {
        const auto port = static_cast<port_number>(below(ports));
        const auto mac = address();
        const auto words = nm::vale::to_mac(mac);
        const bool unicast = (mac & 1) == 0 && mac != 0;
        switch (below(60)) {
            case 0:
                ASSERT_EQ(l->add_static(words, port), unicast);
                if (unicast) r.at[mac] = {port, r.tick, true};
                break;
            case 1:
                l->remove(words);
                r.at.erase(mac);
                break;
            case 2:
                l->secure(port);
                r.secure[port].reset();
                r.forget(port);
                break;
            case 3:
            case 4:
            case 5:
                l->unsecure(port);
                r.secure.erase(port);
                r.forget(port);
                break;
            case 6:
                l->detached(port);
                r.secure.erase(port);
                r.forget(port);
                break;
            case 7:
            case 8:
            case 9: {
                const std::uint64_t ns = tick_ns * (below(8) == 0 ? below(400) : below(8)) + below(1'000'000);
                stepped_clock::ns += ns;
                owed += ns;
                r.tick += owed / tick_ns;
                owed %= tick_ns;
                for (unsigned n = 0; n < learning::batches_per_clock; ++n) l->begin(clock_reader);
                break;
            }
            default: {
                auto& lane = lanes[port][below(rings)];
                l->begin(lane);
                auto from = mac;
                for (auto n = 1 + below(4); n != 0; --n) {
                    const bool no_learn = below(10) == 0;
                    const auto to = address();
                    ASSERT_EQ(look_up(*l, lane, port, from, to, no_learn ? nm::ns_no_learn : 0),
                              r.send(port, from, to, no_learn))
                        << i;
                    if (below(3) == 0) from = address();
                }
            }
        }
        const auto probe = address();
        const auto got = l->where(nm::vale::to_mac(probe));
        if ((probe & 1) == 0) {
            ASSERT_EQ(got ? *got : flooded, r.where(probe)) << i;
        }
    }
    std::size_t live = 0;
    for (const auto& [mac, e] : r.at) live += r.live(mac) ? 1U : 0U;
    const auto all = l->stations();
    EXPECT_EQ(all.size(), live);
    for (const auto& s : all) EXPECT_EQ(s.is_static, r.at.at(nm::vale::mac_word(s.mac)).is_static);
    EXPECT_EQ(l->stats().evicted, 0U);
}

TEST(learning_model, random_operations_as_a_map_would_do_them) {
    for (unsigned seed = 1; seed <= (slow ? 40U : 200U) && !::testing::Test::HasFailure(); ++seed)
        random_operations(seed);
}

/// The entries of a quiet table: each address once, and each port's count right.
void expect_consistent(const learning& l, unsigned ports) {
    std::vector<std::uint32_t> count(ports);
    std::set<std::uint64_t> seen;
    for (const auto& s : l.stations()) {
        EXPECT_TRUE(seen.insert(nm::vale::mac_word(s.mac)).second) << "twice";
        ++count.at(s.port);
    }
    for (unsigned p = 0; p < ports; ++p) EXPECT_EQ(count[p], l.stations(static_cast<port_number>(p))) << p;
}

std::size_t pages_of_memory() {
    std::size_t all = 0, resident = 0;
    std::FILE* f = std::fopen("/proc/self/statm", "r");
    if (f == nullptr || std::fscanf(f, "%zu %zu", &all, &resident) != 2) ADD_FAILURE() << "no /proc/self/statm";
    if (f != nullptr) std::fclose(f);
    return resident;
}

TEST(learning_model, ten_million_sources_take_nobodys_place_and_no_memory) {
    const auto l = std::make_unique<learning>();
    std::array<learning::lane, 12> lanes{};
    const auto say = [&](port_number p, std::uint64_t mac, std::uint64_t to) {
        l->begin(lanes[p]);
        return look_up(*l, lanes[p], p, mac, to);
    };
    const auto victim = [](unsigned i) { return 2 + 4 * std::uint64_t{i} + (std::uint64_t{i} << 24); };
    for (unsigned i = 0; i < 100; ++i) say(static_cast<port_number>(2 + i % 10), victim(i), broadcast);
    std::mt19937_64 random(40);
    std::size_t before = 0;
    const unsigned sources = slow ? 500'000 : 10'000'000;
    for (unsigned i = 0; i < sources; ++i) {
        if (i % 64 == 0) l->begin(lanes[1]);
        const std::uint64_t source = random() & 0xfffffffffffeU;
        const unsigned v = i % 100;
        const int there = look_up(*l, lanes[1], 1, source, victim(v));
        if (there != static_cast<int>(2 + v % 10)) FAIL() << "station " << v << " is lost after " << i << " sources";
        if (i == sources / 2) before = pages_of_memory();
    }
    if (!slow) {
        EXPECT_GT(l->stats().evicted, 9'000'000U);
        EXPECT_GT(l->stations(1), l->capacity() * 99 / 100);
        // The kernel's own count lags by up to 64 pages per thread, and a sanitizer has some of its own. One byte per source
        // would be 1,200.
        EXPECT_LE(pages_of_memory(), before + 512) << "the second half of them";
    }
    EXPECT_LE(l->stations(1), l->capacity() - 100);
    // Who comes now finds a place.
    for (unsigned i = 100; i < 200; ++i) {
        const auto p = static_cast<port_number>(2 + i % 10);
        say(p, victim(i), broadcast);
        EXPECT_EQ(say(p == 2 ? 3 : 2, victim(p == 2 ? 1 : 0), victim(i)), p);
    }
    expect_consistent(*l, 12);
    l->detached(1);
    EXPECT_EQ(l->stations(1), 0U);
    EXPECT_EQ(l->stations().size(), 200U);
}

TEST(learning_model, several_threads) {
    constexpr unsigned ports = 4;
    for (unsigned round = 0; round < (slow ? 3U : 20U); ++round) {
        // Few sets and many stations, or many sets and few stations that all ports claim.
        const bool crowded = round % 2 != 0;
        const auto l = std::make_unique<learning>(nm::vale::learning_options{.stations = crowded ? 1U : 20'000U});
        std::atomic<unsigned> running{ports};
        std::atomic<int> wrong{0};
        std::vector<std::thread> threads;
        l->add_static(nm::vale::to_mac(1'000'000), 3);
        for (unsigned t = 0; t < ports; ++t)
            threads.emplace_back([&, t] {
                std::mt19937 random(round * 10 + t);
                learning::lane lane;
                const std::array<std::uint8_t, 14> any{};
                const auto port = static_cast<port_number>(t / 2);  // two rings of each of two ports
                for (int i = 0; i < 20'000; ++i) {
                    if (i % 8 == 0) l->begin(lane);
                    const std::uint64_t mac = 2 + 2 * (random() % (crowded ? 2'000 : 16));
                    const int d = look_up(*l, lane, port, mac, i % 100 == 0 ? 1'000'000 : 2 + 2 * (random() % 16));
                    if (d > 3 || (i % 100 == 0 && d != 3 && d != dropped)) ++wrong;
                    if (i % 50 == 0) l->prefetch(packet{any.data(), 14, 0, port, 0});
                    if (i % 500 == 0 && look_up(*l, lane, port, 1'000'000, broadcast) != dropped) ++wrong;
                }
                --running;
            });
        // One thread changes settings and lets time pass.
        std::mt19937 random(round);
        learning::lane lane;
        while (running != 0) {
            stepped_clock::ns += 4'000'000'000U;
            l->begin(lane);
            const auto p = static_cast<port_number>(random() % 2);
            switch (random() % 6) {
                case 0: l->detached(p); break;
                case 1: l->secure(p); break;
                case 2: l->unsecure(p); break;
                case 3: l->remove(nm::vale::to_mac(2 + 2 * (random() % 16))); break;
                case 4: l->limit(p, 3 + static_cast<std::uint32_t>(random() % 10)); break;
                default: (void)l->stations();
            }
        }
        for (auto& t : threads) t.join();
        EXPECT_EQ(wrong, 0);
        for (unsigned i = 0; i < 40; ++i) {
            stepped_clock::ns += 50'000'000'000U;
            for (unsigned n = 0; n < learning::batches_per_clock; ++n) l->begin(lane);
        }
        // Only static ones are left. Whatever expired, moved, was evicted or removed was counted once.
        expect_consistent(*l, ports);
        for (port_number p = 0; p < 2; ++p) l->detached(p);
        EXPECT_EQ(l->stations().size(), 1U);
        EXPECT_EQ(l->stations(0) + l->stations(1), 0U);
    }
}

// Each address once, and counted right. That mac_table::drop_copies() is needed for it has not been seen to show here: two
// copies need a removal between two looks at one set.
TEST(learning_model, threads_that_take_each_others_places_keep_count) {
    const auto hash = nm::vale::keyed_hash::from(7, 9);
    for (unsigned round = 0; round < (slow ? 20U : 200U); ++round) {
        const auto l = std::make_unique<learning>(nm::vale::learning_options{.stations = 1, .hash = hash});
        // More stations than their one set has places: they take each other's all the time.
        std::vector<std::uint64_t> macs;
        for (std::uint64_t w = 2; macs.size() < 12; w += 2)
            if ((hash(w) & (l->capacity() / 8 - 1)) == 0) macs.push_back(w);
        std::atomic<unsigned> ready{0};
        std::vector<std::thread> threads;
        for (unsigned t = 0; t < 3; ++t)
            threads.emplace_back([&, t] {
                std::mt19937 random(round * 3 + t);
                learning::lane lane;
                ++ready;
                while (ready != 3) std::this_thread::yield();
                for (int i = 0; i < 4'000; ++i) {
                    l->begin(lane);
                    const auto mac = macs[random() % macs.size()];
                    look_up(*l, lane, 0, mac, broadcast);
                    if (i % 4 == 0) l->remove(nm::vale::to_mac(macs[random() % macs.size()]));
                }
            });
        for (auto& t : threads) t.join();
        expect_consistent(*l, 1);
        if (::testing::Test::HasFailure()) FAIL() << "round " << round;
    }
}

}  // namespace
