// SPDX-License-Identifier: BSD-2-Clause
// What a guest, or a port that goes, may do to who serves it, step by step.
#include "support/ptnet_rig.hpp"

namespace {

using namespace nm::test;
using nm::events;
using nm::index_t;
using namespace std::chrono_literals;

// The port was armed for the guest: the next frame makes its descriptor readable, and nobody is there to take the frame.
TEST(ptnet_attack, a_guest_that_leaves_does_not_keep_its_host_awake) {
    ptnet_rig rig;
    auto peer = nm::open<nm::vale_port>(rig.ctx, "vale0:b");
    const auto s = rig.serve("vale0:a");
    for (int round = 0; round < 3; ++round) {
        {
            auto guest = nm::value_or_throw(rig.try_attach(rig.link(*s)));
            std::this_thread::sleep_for(20ms);  // now the host sleeps
        }
        std::this_thread::sleep_for(20ms);
        nm::generate(peer, 1, [](nm::frame& f) noexcept {
            std::memset(f.data(), 0xff, 60);
            f.data()[6] = 2;
            f.resize(60);
        });
        std::this_thread::sleep_for(10ms);
        const auto before = rig.loop().sleeps();
        std::this_thread::sleep_for(50ms);
        EXPECT_LE(rig.loop().sleeps() - before, 1U);
    }
    auto next = nm::value_or_throw(rig.try_attach(rig.link(*s)));
    EXPECT_EQ(nm::wait(next, events::rx, 2000ms), events::rx);
    EXPECT_EQ(next.rx().space(), 3U);  // they have waited for somebody to come
}

// A pipe outlives one end's being served: whoever opens that end next has its rings, and no memory of who served it.
TEST(ptnet_attack, an_end_that_is_served_no_more_can_be_opened_here) {
    ptnet_rig rig(false);
    auto s = rig.serve("netmap:p{1");
    auto near = nm::open<nm::pipe>(rig.ctx, "netmap:p}1");
    rig.loop().remove(*s);
    s.reset();
    auto far = nm::open<nm::pipe>(rig.ctx, "netmap:p{1");
    pass_numbered(far, near, 100);
    pass_numbered(near, far, 100);
}

TEST(ptnet_attack, a_port_that_has_gone_is_not_given_to_the_next_guest) {
    ptnet_rig rig;
    auto sw = nm::value_or_throw(nm::vale::vale_switch<>::create(rig.ctx, "vale0"));
    const auto s = rig.serve("vale0:a");
    auto guest = nm::value_or_throw(rig.try_attach(rig.link(*s)));
    EXPECT_TRUE(sw.detach("a"));
    EXPECT_EQ(nm::wait(guest, events::rx, 2000ms), events::error);
    guest.close();
    const auto again = rig.try_attach(rig.link(*s));
    ASSERT_FALSE(again);
    EXPECT_NE(again.error().text.find("taken the port away"), std::string::npos) << again.error().text;
}

/// Has as much to do, or is as dead, as one says.
class puppet final : public nm::ptnet::service {
public:
    bool busy = false, dead = false;
    std::atomic<bool> lost = false;

    [[nodiscard]] const nm::port_info& info() const noexcept override { return info_; }
    [[nodiscard]] int port_fd() const noexcept override { return -1; }
    bool visit() noexcept override { return busy; }
    [[nodiscard]] bool arm() noexcept override { return true; }
    void disarm() noexcept override {}
    [[nodiscard]] bool minds_port() const noexcept override { return !lost; }
    [[nodiscard]] nm::ptnet::service_stats stats() noexcept override { return {}; }
    [[nodiscard]] nm::result<void> status() override {
        if (!dead) return {};
        return nm::fail(ENOLINK, "gone");
    }
    void stop() noexcept override {}
    void lose() noexcept override { lost = true; }

private:
    nm::port_info info_;
};

TEST(ptnet_attack, one_who_always_has_work_does_not_hide_that_another_has_gone) {
    ptnet_rig rig;
    const auto noise = std::make_shared<puppet>(), victim = std::make_shared<puppet>();
    noise->busy = true;
    victim->dead = true;
    ASSERT_TRUE(rig.loop().add(noise));
    ASSERT_TRUE(rig.loop().add(victim));
    for (int i = 0; i < 200 && !victim->lost; ++i) std::this_thread::sleep_for(10ms);
    EXPECT_TRUE(victim->lost);
    EXPECT_FALSE(noise->lost);
}

// Head was refused with one cur, and comes again with another, between the host's last visit and its sleep.
TEST(ptnet_attack, what_was_refused_once_is_looked_at_again_when_it_makes_sense) {
    ptnet_rig rig(false);
    const auto s = rig.serve("vale0:a", [] {
        nm::open_options o;
        o.tx_slots = 16;
        return o;
    }());
    auto& r = rig.memory->directory().port[0];
    auto* said = reinterpret_cast<nm::ptnet::csb_atok<>*>(rig.memory->base() + r.region_offset + r.csb_gh_offset);
    nm::store_once(r.control, 0x101U);
    rig.settle();
    ASSERT_EQ(r.answered, 0x101U);
    said->cur = 3;
    said->head = 5;
    rig.settle();
    EXPECT_EQ(s->stats().bad_indexes, 1U);
    said->cur = 5;
    EXPECT_FALSE(s->arm());
    s->disarm();
    rig.settle();
    EXPECT_TRUE(s->arm());
    s->disarm();
    EXPECT_EQ(s->stats().tx.slots, 5U);
    // Later the very words that were refused are right.
    said->cur = 3;
    said->head = 5;
    rig.settle();
    EXPECT_EQ(s->stats().bad_indexes, 1U);
}

TEST(ptnet_attack, a_frame_that_died_half_sent_is_not_the_beginning_of_another_one_in_a_monitor) {
    ptnet_rig rig;
    const auto s = rig.serve("vale0:a");
    auto eye = nm::open<nm::monitor>(rig.ctx, "vale0:a/t");
    {
        auto guest = nm::value_or_throw(rig.try_attach(rig.link(*s)));
        guest.tx().slot().len = 100;
        guest.tx().slot().flags = nm::ns_morefrag;
        guest.tx().advance();
        (void)guest.tx().txsync();
        // Taken, since a guest publishes whole frames only: by hand.
        auto& r = rig.memory->directory().port[0];
        auto* said = reinterpret_cast<nm::ptnet::csb_atok<>*>(rig.memory->base() + r.region_offset + r.csb_gh_offset);
        nm::ptnet::csb_memory::store(said->cur, 1);
        nm::ptnet::csb_memory::store_release<nm::ptnet::csb_order::publish_user>(said->head, 1);
        nm::base::eventfd_signal(s->kick_fd(1));
        for (int i = 0; i < 200 && s->stats().tx.slots == 0; ++i) std::this_thread::sleep_for(1ms);
        ASSERT_EQ(s->stats().tx.slots, 1U);
    }
    auto next = nm::value_or_throw(rig.try_attach(rig.link(*s)));
    ASSERT_EQ(nm::generate(next, 1, [](nm::frame& f) noexcept { f.resize(60); }), 1U);
    ASSERT_EQ(nm::wait(eye, events::rx, 2000ms), events::rx);
    EXPECT_EQ(eye.rx().space(), 1U);
    EXPECT_EQ(eye.rx().slot().len, 60);
    EXPECT_EQ(eye.rx_stats().dropped(), 0U);  // the port has counted it; it is no frame that the monitor missed
    const auto c = s->stats().tx;
    EXPECT_EQ(c.frames, 2U);
    EXPECT_EQ(c.dropped(nm::cause::bad_chain), 1U);
}

// To lay out rings anew takes longer than a visit: whoever asks for it all the time is made to wait, and gets it in the end.
TEST(ptnet_attack, one_who_begins_all_the_time_does_not_keep_others_waiting) {
    ptnet_rig rig(false);
    const auto s = rig.serve("vale0:a", [] {
        nm::open_options o;
        o.tx_slots = 4096;
        return o;
    }());
    auto& r = rig.memory->directory().port[0];
    int begun = 0;
    for (std::uint32_t i = 1; i <= 2000; ++i) {
        nm::store_once(r.control, i << 8 | 1U);
        (void)rig.loop().poll_once();
        begun += nm::load_once(r.answered) == r.control ? 1 : 0;
    }
    EXPECT_GT(begun, 0);
    EXPECT_LT(begun, 1000);
    const auto end = std::chrono::steady_clock::now() + 2s;
    while (nm::load_once(r.answered) != r.control && std::chrono::steady_clock::now() < end) (void)rig.loop().poll_once();
    EXPECT_EQ(r.answered, r.control);
    EXPECT_TRUE(s->stats().running);
}

}  // namespace
