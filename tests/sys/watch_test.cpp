// SPDX-License-Identifier: BSD-2-Clause
// A port of one program watched by others, by its permission: contexts stand for programs, which share nothing but the socket.
#include <vector>

#include "nm/nm.hpp"
#include "nm/ptnet/watch.hpp"
#include "support/shared_pipes.hpp"

namespace {

using namespace nm;
using namespace nm::test;
using namespace std::chrono_literals;

using permit = watch_permit<monitor>;

class watch_test : public shared_pipe_test {
protected:
    context owner, other;
    std::uint64_t sent = 0;

    void pass(nm::pipe& from, nm::pipe& to, index_t n) {
        EXPECT_EQ(generate(from, n, [&](frame& f) noexcept { write_numbered(f, sent++); }), n);
        EXPECT_EQ(drain(to, n), n);
    }
};

TEST_F(watch_test, others_see_what_passes_if_they_may) {
    auto p = nm::open<nm::pipe>(owner, "netmap:p{1"), q = nm::open<nm::pipe>(owner, "netmap:p}1");
    auto refused = try_open<process_port>(other, "netmap:p{1/t");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code.value(), ENOENT);
    EXPECT_NE(refused.error().text.find("--watchable"), std::string::npos) << refused.error().text;

    auto may = value_or_throw(permit::create(owner, "netmap:p{1"));
    EXPECT_TRUE(try_open<process_port>(other, "netmap:p{1/t"));
    // A program's own ports are watched in it.
    auto own = value_or_throw(try_open<process_ports>(owner, "netmap:p{1/rt"));
    EXPECT_TRUE(std::holds_alternative<own_monitor>(own));
}

TEST_F(watch_test, sees_each_frame_once_and_in_order) {
    auto p = nm::open<nm::pipe>(owner, "netmap:p{1"), q = nm::open<nm::pipe>(owner, "netmap:p}1");
    auto may = value_or_throw(permit::create(owner, "netmap:p{1"));
    auto t = value_or_throw(try_open<process_port>(other, "netmap:p{1/t"));
    auto rt = value_or_throw(try_open<process_port>(other, "netmap:p{1/rt"));
    EXPECT_EQ(t.mode(), "ptnet");
    std::uint64_t seen = 0, bad = 0;
    for (int round = 0; round < 20; ++round) {
        pass(p, q, 50);
        pass(q, p, 1);
        EXPECT_TRUE(eventually([&] {
            drain(t, 64, [&](frame& f) noexcept {
                std::uint64_t number = 0;
                const bool whole = read_numbered(f, number);
                bad += whole && number / 51 == static_cast<std::uint64_t>(round) && (f.meta().flags & ns_txmon) != 0 ? 0U : 1U;
                ++seen;
            });
            return seen == 50U * (static_cast<std::uint64_t>(round) + 1);
        }));
    }
    EXPECT_EQ(bad, 0U);
    std::uint64_t received = 0, all = 0;
    EXPECT_TRUE(eventually([&] {
        drain(rt, 256, [&](frame& f) noexcept {
            received += (f.meta().flags & ns_txmon) == 0 ? 1U : 0U;
            ++all;
        });
        return all == sent;
    })) << all << " of " << sent;
    EXPECT_EQ(received, 20U);
}

TEST_F(watch_test, whoever_goes_disturbs_nobody) {
    auto p = nm::open<nm::pipe>(owner, "netmap:p{1"), q = nm::open<nm::pipe>(owner, "netmap:p}1");
    auto may = value_or_throw(permit::create(owner, "netmap:p{1"));
    for (int round = 0; round < 3; ++round) {
        survivor<std::atomic<int>> ready;
        process child([&] {
            context mine;
            auto m = try_open<process_port>(mine, "netmap:p{1/t");
            if (!m) return false;
            ready->store(1);
            for (;;) {
                (void)nm::wait(*m, events::rx, forever);
                drain(*m, 64);
            }
        });
        ASSERT_TRUE(eventually([&] { return ready->load() == 1; }));
        pass(p, q, 100);
        child.kill();
        pass(p, q, 100);
    }
    auto m = value_or_throw(try_open<process_port>(other, "netmap:p{1/t"));
    may.reset();
    EXPECT_TRUE(eventually([&] { return !m.status(); }));
    EXPECT_EQ(nm::wait(m, events::rx, 2s), events::error);
    pass(p, q, 100);
    may = value_or_throw(permit::create(owner, "netmap:p{1"));
    EXPECT_FALSE(permit::create(other, "netmap:p{1"));  // there is one
    m.close();
    EXPECT_TRUE(try_open<process_port>(other, "netmap:p{1/t"));
    // The port goes first: who watches is told.
    m = value_or_throw(try_open<process_port>(other, "netmap:p{1/t"));
    p.close();
    q.close();
    EXPECT_TRUE(eventually([&] { return !m.status(); }));
}

TEST_F(watch_test, gives_nothing_else_away) {
    auto p = nm::open<nm::pipe>(owner, "netmap:p{1"), q = nm::open<nm::pipe>(owner, "netmap:p}1"), secret = nm::open<nm::pipe>(owner, "netmap:s{1");
    auto may = value_or_throw(permit::create(owner, "netmap:p{1"));
    EXPECT_FALSE(permit::create(owner, "vale1:a"));
    EXPECT_FALSE(permit::create(owner, "netmap:p{1/r"));
    const std::string at = process_port::watched_at(value_or_throw(parse_port("netmap:p{1")));
    for (const char* name : {"netmap:s{1/r", "netmap:p{1", "netmap:p}1/r", "netmap:p{1/zr", "netmap:p{1/r@3", "netmap:p{1-9/r", "vale0:p/r", "", "\n\n\n"}) {
        const auto got = sys::open_at_host(at, name);
        EXPECT_FALSE(got) << name;
    }
    // What meets at the same place, and is something else.
    for (const char* name : {"netmap:p.m.1/r", "null:p.m.1/r"}) {
        ASSERT_EQ(process_port::watched_at(value_or_throw(parse_port(name))), at);
        const auto got = sys::open_at_host(at, name);
        ASSERT_FALSE(got) << name;
        EXPECT_NE(got.error().text.find("no monitor of this program's port"), std::string::npos) << got.error().text;
    }
    sys::port_wish huge;
    huge.rx_slots = ~0U;
    huge.extra_bufs = ~0U;
    EXPECT_FALSE(sys::open_at_host(at, "netmap:p{1/r", huge));
    std::vector<process_port> all;
    for (std::size_t i = 0; i < permit::most_watchers; ++i) all.push_back(value_or_throw(try_open<process_port>(other, "netmap:p{1/r")));
    const auto more = try_open<process_port>(other, "netmap:p{1/r");
    ASSERT_FALSE(more);
    EXPECT_EQ(more.error().code.value(), ENOSPC) << more.error().text;
    all.clear();
    EXPECT_TRUE(eventually([&] { return try_open<process_port>(other, "netmap:p{1/r").has_value(); }));
    pass(p, q, 50);
}

}  // namespace
