// SPDX-License-Identifier: BSD-2-Clause
// How somebody is woken who need not be believed, and how several writers share one receive ring.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <poll.h>
#include <thread>
#include <vector>

#include "nm/base/kernel_bell.hpp"
#include "nm/base/pipe_wakes.hpp"
#include "nm/inbox.hpp"
#include "nm/port_memory.hpp"

namespace {

using namespace nm;

[[nodiscard]] bool readable(int fd) {
    pollfd p{fd, POLLIN, 0};
    return ::poll(&p, 1, 0) == 1;
}

struct kernel_bell : testing::Test {
    std::shared_ptr<base::kernel_bell> bell;
    base::unique_fd woken = std::move(base::make_eventfd().value());
    void SetUp() override {
        auto made = base::kernel_bell::make();
        if (!made) GTEST_SKIP() << made.error().text;
        bell = *made;
    }
};

TEST_F(kernel_bell, rings_as_often_as_it_is_told_to) {
    bell->signal(woken.get());
    EXPECT_TRUE(readable(woken.get()));
    EXPECT_EQ(base::eventfd_count(woken.get()), 1U);
    for (int i = 0; i < 300; ++i) bell->signal(woken.get());  // more than its queue holds: what has ended leaves it
    EXPECT_EQ(base::eventfd_count(woken.get()), 301U);
    EXPECT_TRUE(base::eventfd_clear(woken.get()));
    EXPECT_FALSE(readable(woken.get()));
}

TEST_F(kernel_bell, is_anybodys_to_ring) {
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 4; ++t)
            threads.emplace_back([&] {
                for (int i = 0; i < 50; ++i) bell->signal(woken.get());
            });
    }
    EXPECT_EQ(base::eventfd_count(woken.get()), 200U);
}

TEST_F(kernel_bell, waits_for_nobody) {
    // Whom it wakes has filled his eventfd, and made it one that a write waits for.
    const std::uint64_t most = ~std::uint64_t{0} - 1;
    ASSERT_EQ(::write(woken.get(), &most, sizeof most), static_cast<ssize_t>(sizeof most));
    ASSERT_EQ(::fcntl(woken.get(), F_SETFL, 0), 0);
    std::promise<void> done;
    auto rung = done.get_future();
    std::jthread ringer([&] {
        bell->signal(woken.get());
        done.set_value();
    });
    const bool waited = rung.wait_for(std::chrono::seconds(10)) != std::future_status::ready;
    EXPECT_FALSE(waited);
    EXPECT_TRUE(readable(woken.get()));
    std::uint64_t count = 0;
    EXPECT_EQ(::read(woken.get(), &count, sizeof count), static_cast<ssize_t>(sizeof count));  // frees one that does wait
}

TEST_F(kernel_bell, what_is_no_eventfd_is_not_rung) {
    bell->signal(-1);
    const base::unique_fd none(::open("/dev/null", O_RDWR | O_CLOEXEC));
    bell->signal(none.get());
    bell->signal(woken.get());
    EXPECT_EQ(base::eventfd_count(woken.get()), 1U);
}

TEST(pipe_wakes, go_over_to_an_open_file_of_ones_own) {
    auto given = pipe_wakes::make();
    ASSERT_TRUE(given);
    auto own = pipe_wakes::reopen(*given), theirs = pipe_wakes::reopen(*given);
    ASSERT_TRUE(own && theirs);
    // What somebody does to what he was given, or to his own, is not done to ours.
    ASSERT_EQ(::fcntl(given->get(), F_SETFL, 0), 0);
    ASSERT_EQ(::fcntl(theirs->get(), F_SETFL, 0), 0);
    ASSERT_NE(::fcntl(own->get(), F_GETFL) & O_NONBLOCK, 0) << "else what follows waits for ever";
    EXPECT_NE(::fcntl(own->get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_FALSE(base::eventfd_clear(own->get())) << "nothing yet, and nobody waits for it";
    base::eventfd_signal(theirs->get());
    base::eventfd_signal(theirs->get());
    EXPECT_TRUE(readable(own->get()));
    EXPECT_TRUE(base::eventfd_clear(own->get()));
    EXPECT_FALSE(readable(own->get())) << "both were taken";
}

TEST(pipe_wakes, live_on_without_the_other_side) {
    auto given = pipe_wakes::make();
    ASSERT_TRUE(given);
    auto own = pipe_wakes::reopen(*given);
    ASSERT_TRUE(own);
    given->reset();
    for (int i = 0; i < 10000; ++i) base::eventfd_signal(own->get());  // 80000 bytes: more than a pipe holds, and no SIGPIPE
    EXPECT_TRUE(readable(own->get()));
    while (base::eventfd_clear(own->get())) {
    }
    EXPECT_FALSE(readable(own->get()));
}

TEST(pipe_wakes, only_pipes_are_taken) {
    const auto code = [](auto&& r) { return r ? 0 : r.error().code.value(); };
    std::vector<base::unique_fd> several;
    several.push_back(std::move(pipe_wakes::make().value()));
    EXPECT_EQ(pipe_wakes::reopen(several)->size(), 1U);
    several.push_back(std::move(base::make_eventfd().value()));
    EXPECT_EQ(code(pipe_wakes::reopen(several)), EINVAL);
    EXPECT_EQ(code(pipe_wakes::reopen(several.back())), EINVAL);
    EXPECT_EQ(code(pipe_wakes::reopen(base::unique_fd(::open("/dev/null", O_RDWR | O_CLOEXEC)))), EINVAL);
    EXPECT_EQ(code(pipe_wakes::reopen(base::unique_fd())), EINVAL);
}

/// A receive ring of eight slots, seven of which can be filled, and who reads it.
struct inbox_test : testing::Test {
    static constexpr index_t slots = 8;
    static constexpr std::uint32_t id = 5;
    region_ptr memory;
    port_memory rings;
    ring_link link;
    base::unique_fd wake = std::move(base::make_eventfd().value());
    inbox in;
    bool gone = false;

    inbox_test() {
        port_shape shape;
        shape.tx_slots = shape.rx_slots = slots;
        memory = region::create({}).value();
        rings = port_memory::create(memory, "inbox", shape).value();
        in.open(id, rings.rx(0), slots, *memory, link, {wake.get()}, false);
    }
    [[nodiscard]] lease take(index_t n) { return in.reserve_slots(id, n, gone); }
    void fill(const lease& l, index_t n) {
        for (index_t k = 0; k < n; ++k) in.slots()[(l.first + k) % slots].len = 60;
        delivery d;
        d.slots = n;
        d.frames = n;
        d.bytes = std::uint64_t{60} * n;
        in.complete(l, d);
    }
    [[nodiscard]] index_t tail() const { return link.tail.load(); }
    void give_back(index_t head) { link.head.store(head); }
};

TEST_F(inbox_test, has_room_for_all_slots_but_one) {
    const lease all = in.reserve(id, 10, gone);
    EXPECT_FALSE(gone);
    EXPECT_EQ(all.first, 0U);
    EXPECT_EQ(all.count, 7U);
    EXPECT_EQ(in.total().dropped(cause::full), 3U) << "one frame a slot: what does not fit is counted";
    fill(all, 7);
    EXPECT_EQ(tail(), 7U);
    EXPECT_EQ(take(1).count, 0U);
    EXPECT_EQ(in.total().dropped(cause::full), 3U) << "who leases slots counts himself";
    give_back(3);
    EXPECT_EQ(take(10).count, 3U);
    EXPECT_EQ(in.total().frames, 7U);
    EXPECT_EQ(in.total().bytes, 420U);
}

TEST_F(inbox_test, goes_past_the_rings_end) {
    fill(take(6), 6);
    give_back(6);
    const lease l = take(5);
    EXPECT_EQ(l.first, 6U);
    EXPECT_EQ(l.count, 5U);
    fill(l, 5);
    EXPECT_EQ(tail(), 3U);
    EXPECT_EQ(take(8).count, 2U) << "3 and 4: what lies before the reader's head stays empty";
}

TEST_F(inbox_test, shows_nothing_before_what_was_leased_earlier) {
    const lease a = take(2), b = take(3), c = take(1);
    fill(c, 1);
    fill(b, 3);
    EXPECT_EQ(tail(), 0U);
    EXPECT_FALSE(readable(wake.get()));
    link.rx_sleeps.arm();
    fill(a, 2);
    EXPECT_EQ(tail(), 6U) << "with all that are done by then";
    EXPECT_TRUE(readable(wake.get()));
}

TEST_F(inbox_test, takes_back_what_a_lease_did_not_use) {
    const lease a = take(4);
    fill(a, 1);
    EXPECT_EQ(tail(), 1U);
    const lease b = take(3), c = take(1);
    EXPECT_EQ(b.first, 1U) << "nobody had leased what follows";
    in.slots()[3].len = 99;
    const std::uint32_t buffer = in.slots()[3].buf_idx;
    fill(b, 2);
    EXPECT_EQ(tail(), 4U) << "somebody had: the rest are holes";
    EXPECT_EQ(in.slots()[3].len, 0U);
    EXPECT_EQ(in.slots()[3].buf_idx, buffer);
    fill(c, 0);
    EXPECT_EQ(tail(), 4U);
    EXPECT_EQ(take(1).first, 4U);
}

TEST_F(inbox_test, does_not_believe_an_index_outside_the_ring) {
    fill(take(7), 7);
    for (const index_t nonsense : {8U, 9U, 0xffffffffU}) {
        give_back(nonsense);
        EXPECT_EQ(take(1).count, 0U) << nonsense;
    }
    give_back(1);
    EXPECT_EQ(take(9).count, 1U);
}

TEST_F(inbox_test, is_for_who_means_this_opening) {
    delivery d;
    d.drop(cause::policy, 2);
    EXPECT_EQ(in.reserve(id + 1, 1, gone).count, 0U);
    EXPECT_TRUE(gone);
    EXPECT_FALSE(in.drop(id + 1, d));
    EXPECT_TRUE(in.drop(id, d));
    EXPECT_EQ(in.total(id).dropped(), 2U);
    EXPECT_EQ(in.total(id + 1).dropped(), 0U);

    fill(take(3), 3);
    link.rx_sleeps.arm();
    in.close();
    EXPECT_TRUE(readable(wake.get())) << "he may find out why nothing comes";
    EXPECT_EQ(take(1).count, 0U);
    EXPECT_TRUE(gone);

    give_back(1);
    in.open(id + 1, rings.rx(0), slots, *memory, link, {wake.get()}, false);
    EXPECT_EQ(in.total().frames, 0U);
    const lease l = in.reserve_slots(id + 1, 9, gone);
    EXPECT_FALSE(gone);
    EXPECT_EQ(l.first, 3U) << "where the last opening ended";
    EXPECT_EQ(l.count, 5U);
}

TEST_F(inbox_test, closes_when_the_last_lease_is_done) {
    const lease l = take(2);
    std::atomic<bool> closed = false;
    std::jthread closer([&] {
        in.close();
        closed = true;
    });
    while (!gone) fill(take(1), 0);  // until it has begun to close
    EXPECT_FALSE(closed);
    fill(l, 2);
    closer.join();
    EXPECT_TRUE(closed);
}

}  // namespace
