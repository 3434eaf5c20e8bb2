// SPDX-License-Identifier: BSD-2-Clause
// csb [INTERLEAVINGS]: the communication status block (ptnet/csb.hpp) as it is compiled, between a user and a server that
// pass slots both ways through a tiny ring and sleep whenever there is nothing to do. Then with each of its orders
// weakened in turn, and with each of the protocol's steps left out: every one of those must go wrong.

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "nm/ptnet/csb.hpp"
//
#include "checker.hpp"

namespace {

using nm::index_t;
using nm::ptnet::csb_order;

/// How a test differs from what is right.
struct mutation {
    const char* what = "nothing";
    std::optional<csb_order> order{};  // this one is weakened: acquire or release to relaxed, a full fence to ...
    bool no_fence = false;             // ... none at all, rather than to one that is not sequentially consistent
    bool no_second_look = false;       // who sleeps does not look again after he armed
    bool index_before_cur = false;     // head is published before cur, and hwtail before hwcur
    bool rings_always = false;         // whoever wished is rung for at each publication
};
mutation now;

struct relacy_memory {
    using word = rl::atomic<std::uint32_t>;

    static std::uint32_t load(const word& w) noexcept { return w.load(rl::mo_relaxed, RL_INFO); }
    static void store(word& w, std::uint32_t v) noexcept { w.store(v, rl::mo_relaxed, RL_INFO); }
    template <csb_order O>
    static std::uint32_t load_acquire(const word& w) noexcept { return w.load(now.order == O ? rl::mo_relaxed : rl::mo_acquire, RL_INFO); }
    template <csb_order O>
    static void store_release(word& w, std::uint32_t v) noexcept { w.store(v, now.order == O ? rl::mo_relaxed : rl::mo_release, RL_INFO); }
    template <csb_order O>
    static void full_fence() noexcept {
        if (now.order != O) rl::atomic_thread_fence(rl::mo_seq_cst, RL_INFO);
        else if (!now.no_fence) rl::atomic_thread_fence(rl::mo_acq_rel, RL_INFO);
    }
};

constexpr index_t num_slots = 3;  // two may be under way
constexpr unsigned frames = 5;

/// What both directions have: the block, the slots, and where each side sleeps.
struct boundary {
    nm::ptnet::csb_atok<relacy_memory> atok;
    nm::ptnet::csb_ktoa<relacy_memory> ktoa;
    nm::ptnet::csb_user<relacy_memory> user{&atok, &ktoa};
    nm::ptnet::csb_server<relacy_memory> server{&atok, &ktoa};
    std::array<rl::var<unsigned>, num_slots> slots;
    checker::sleeping_place user_sleeps, server_sleeps;
    unsigned user_wishes = 0, server_wishes = 1;  // reset() is the server's first

    void open(index_t hwtail) {
        user_sleeps.open();
        server_sleeps.open();
        server.reset(0, hwtail);
    }
    void close() {
        // A ring per wish, at most: whoever works hard is not rung for.
        RL_ASSERT(user_sleeps.signals <= user_wishes);
        RL_ASSERT(server_sleeps.signals <= server_wishes);
        user_sleeps.close();
        server_sleeps.close();
    }

    void put(index_t i, unsigned frame) { slots[i](RL_INFO) = frame; }
    void take(index_t i, unsigned frame) {
        RL_ASSERT(slots[i](RL_INFO) == frame);
        slots[i](RL_INFO) = 0xdead;  // it is the taker's own now
    }

    // The slots that the server sees handed over end between `from` and the farthest that the user may have gone.
    index_t user_said(index_t from, index_t farthest) {
        const auto said = server.read();
        RL_ASSERT(said.first < num_slots && nm::ring_distance(from, said.first, num_slots) <= nm::ring_distance(from, farthest, num_slots));
        // P3: cur is never seen behind its head.
        RL_ASSERT(nm::ring_distance(from, said.second, num_slots) >= nm::ring_distance(from, said.first, num_slots));
        return said.first;
    }
    index_t server_said(index_t from, index_t farthest) {
        const auto said = user.read();
        RL_ASSERT(said.second < num_slots && nm::ring_distance(from, said.second, num_slots) <= nm::ring_distance(from, farthest, num_slots));
        return said.second;
    }

    template <class Look>
    void user_waits(Look&& there_is_something) {
        while (!there_is_something()) {
            user.arm();
            ++user_wishes;
            if (now.no_second_look || !there_is_something()) user_sleeps.sleep();
            user.disarm();
        }
    }
    template <class Look>
    void server_waits(Look&& there_is_something) {
        while (!there_is_something()) {
            server.arm();
            ++server_wishes;
            if (now.no_second_look || !there_is_something()) server_sleeps.sleep();
            server.disarm();
        }
    }
    void user_publishes(index_t head) {
        bool ring = false;
        if (now.index_before_cur) {
            relacy_memory::store_release<csb_order::publish_user>(atok.head, head);
            relacy_memory::store(atok.cur, head);
            ring = user.kick();
        } else {
            ring = user.publish(head, head);
        }
        if (now.rings_always) ring = relacy_memory::load(ktoa.kern_need_kick) != 0;
        if (ring) server_sleeps.signal();
    }
    void server_publishes(index_t hwcur, index_t hwtail) {
        if (server.publish(hwcur, hwtail) || (now.rings_always && relacy_memory::load(atok.appl_need_kick) != 0)) user_sleeps.signal();
    }
};

/// The user sends. Both take as much at a time as there is, or less: a slot is published with the one after it, too.
struct transmit : rl::test_suite<transmit, 2> {
    std::unique_ptr<boundary> memory = std::make_unique<boundary>();  // Relacy aligns a test to 16 bytes
    boundary& b = *memory;
    void before() { b.open(num_slots - 1); }
    void after() { b.close(); }
    void thread(unsigned number) { number == 0 ? user() : server(); }

    void user() {
        index_t head = 0, tail = num_slots - 1;
        for (unsigned f = 0; f < frames;) {
            b.user_waits([&] { return (tail = b.server_said(tail, nm::ring_prev(head, num_slots))) != head; });
            do {
                b.put(head, ++f);
                head = nm::ring_next(head, num_slots);
            } while (head != tail && f < frames && rl::rand(2) == 0);
            b.user_publishes(head);
        }
    }
    void server() {
        index_t hwcur = 0, head = 0;
        for (unsigned f = 0; f < frames;) {
            b.server_waits([&] { return (head = b.user_said(hwcur, nm::ring_prev(hwcur, num_slots))) != hwcur; });
            do {
                b.take(hwcur, ++f);
                hwcur = nm::ring_next(hwcur, num_slots);
            } while (hwcur != head && rl::rand(2) == 0);
            b.server_publishes(hwcur, nm::ring_prev(hwcur, num_slots));
        }
    }
};

/// The user receives.
struct receive : rl::test_suite<receive, 2> {
    std::unique_ptr<boundary> memory = std::make_unique<boundary>();
    boundary& b = *memory;
    void before() { b.open(0); }
    void after() { b.close(); }
    void thread(unsigned number) { number == 0 ? user() : server(); }

    void user() {
        index_t head = 0, tail = 0;
        for (unsigned f = 0; f < frames;) {
            b.user_waits([&] { return (tail = b.server_said(tail, nm::ring_prev(head, num_slots))) != head; });
            do {
                b.take(head, ++f);
                head = nm::ring_next(head, num_slots);
            } while (head != tail && rl::rand(2) == 0);
            b.user_publishes(head);
        }
    }
    void server() {
        index_t hwcur = 0, hwtail = 0;
        for (unsigned f = 0; f < frames;) {
            b.server_waits([&] {
                hwcur = b.user_said(hwcur, hwtail);
                return nm::ring_next(hwtail, num_slots) != hwcur;
            });
            do {
                b.put(hwtail, ++f);
                hwtail = nm::ring_next(hwtail, num_slots);
            } while (nm::ring_next(hwtail, num_slots) != hwcur && f < frames && rl::rand(2) == 0);
            b.server_publishes(hwcur, hwtail);
        }
    }
};

}  // namespace

int main(int argc, char** argv) {
    const mutation mutations[] = {
        {.what = "publish_user relaxed", .order = csb_order::publish_user},
        {.what = "read_user relaxed", .order = csb_order::read_user},
        {.what = "publish_server relaxed", .order = csb_order::publish_server},
        {.what = "read_server relaxed", .order = csb_order::read_server},
        {.what = "user_kicks acq_rel", .order = csb_order::user_kicks},
        {.what = "user_kicks left out", .order = csb_order::user_kicks, .no_fence = true},
        {.what = "user_sleeps acq_rel", .order = csb_order::user_sleeps},
        {.what = "user_sleeps left out", .order = csb_order::user_sleeps, .no_fence = true},
        {.what = "server_kicks acq_rel", .order = csb_order::server_kicks},
        {.what = "server_kicks left out", .order = csb_order::server_kicks, .no_fence = true},
        {.what = "server_sleeps acq_rel", .order = csb_order::server_sleeps},
        {.what = "server_sleeps left out", .order = csb_order::server_sleeps, .no_fence = true},
        {.what = "no second look before sleeping", .no_second_look = true},
        {.what = "head before cur", .index_before_cur = true},
        {.what = "a ring per publication", .rings_always = true},
    };
    checker::verdicts all(argc, argv, 200'000);
    all.is_well<transmit>("transmit, as it is");
    all.is_well<receive>("receive, as it is");
    for (const auto& m : mutations) {
        now = m;
        all.goes_wrong<transmit>(std::string("transmit, ") + m.what);
        all.goes_wrong<receive>(std::string("receive, ") + m.what);
    }
    return all.exit_status();
}
