// SPDX-License-Identifier: BSD-2-Clause
// Random traffic over a pipe, by hand and in fused loops, with frames of several slots and with nonsense, under monitors
// that come and go. What the receiver got is the reference: a monitor must have seen the same, in the same order.

#include <deque>
#include <optional>
#include <random>

#include "support/pipes.hpp"

namespace {

using namespace nm;
using namespace nm::test;

struct watched {
    std::optional<monitor> port;
    bool zero_copy = false;
    std::size_t since = 0;  // frames that the receiver's end had before this one came
    std::vector<std::uint32_t> seen;

    void take() {
        if (!port) return;
        (void)drain(*port, 4096, [this](frame& f) noexcept {
            if (!f.first()) return;
            std::uint32_t n = 0;
            std::memcpy(&n, f.data(), sizeof n);
            seen.push_back(n);
        });
    }
};

class traffic {
public:
    explicit traffic(unsigned seed)
        : random_(seed), a_(open<nm::pipe>(ctx_, "netmap:p{1@3", pipe_pair::sized(2 + seed % 61))), b_(open<nm::pipe>(ctx_, "netmap:p}1")) {
        watch(sent_, "netmap:p{1/t@conf:slots=4096");
        watch(got_, "netmap:p}1/r@conf:slots=4096");
        watch(zero_, "netmap:p}1/zr@conf:slots=1024");
    }

    void step() {
        switch (below(8)) {
            case 0: send_fused(); break;
            case 1:
            case 2: send_by_hand(); break;
            case 3: receive_fused(); break;
            case 4:
            case 5: receive_by_hand(); break;
            case 6: monitors_take(); break;
            default:
                if (below(10) == 0) come_and_go();
        }
    }

    void finish() {
        for (std::size_t before = received_.size() + 1; before != received_.size();) {
            before = received_.size();
            (void)a_.tx(0).txsync();
            receive_by_hand(true);
            receive_fused();
            monitors_take();
        }
        monitors_take();
        EXPECT_EQ(sent_.seen, since(sent_));
        EXPECT_EQ(got_.seen, since(got_));
        // Frames that were given back in parts are lost to who wanted their buffers, with a count.
        const auto reference = since(zero_);
        const auto lost = zero_.port->rx_stats().dropped();
        EXPECT_EQ(zero_.seen.size() + lost, reference.size());
        std::size_t at = 0;
        for (const auto n : zero_.seen) {
            while (at != reference.size() && reference[at] != n) ++at;
            EXPECT_NE(at, reference.size()) << n << " was never received, or not in this order";
        }
        EXPECT_EQ(sent_.port->rx_stats().dropped() + got_.port->rx_stats().dropped(), 0U);
        EXPECT_EQ(a_.tx_stats().frames - a_.tx_stats().dropped(), received_.size());
        EXPECT_GT(received_.size(), 100U) << "this has tested nothing";
    }

private:
    [[nodiscard]] unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }
    [[nodiscard]] std::vector<std::uint32_t> since(const watched& w) const {
        return {received_.begin() + static_cast<std::ptrdiff_t>(w.since), received_.end()};
    }
    // A frame that is on its way is seen by one and not by the other: monitors come to an empty pipe.
    void watch(watched& w, const std::string& name) {
        w.port.emplace(value_or_throw(try_open<monitor>(ctx_, name)));
        w.since = received_.size();
        w.seen.clear();
    }
    void come_and_go() {
        (void)a_.tx(0).txsync();
        for (std::size_t before = received_.size() + 1; before != received_.size();) {
            before = received_.size();
            receive_by_hand(true);
        }
        if (!chain_.empty() || in_frame_) return;
        watched& w = below(2) == 0 ? sent_ : got_;
        w.port.reset();
        watch(w, &w == &sent_ ? "netmap:p{1/t@conf:slots=4096" : "netmap:p}1/r@conf:slots=4096");
    }

    void send_fused() {
        if (!chain_.empty()) return;
        (void)send_numbered(a_.tx(0), 1 + below(9), next_, static_cast<std::uint16_t>(60 + below(2000)));
    }
    // Frames of one to five slots, some with a slot that spoils them; they are queued as there is room.
    void send_by_hand() {
        auto& tx = a_.tx(0);
        for (unsigned slots = 1 + below(12); slots != 0 && !tx.empty(); --slots, tx.advance()) {
            if (chain_.empty()) {
                const unsigned length = below(3) == 0 ? std::min<unsigned>(2 + below(4), std::max(1U, tx.num_slots() - 2)) : 1;
                for (unsigned k = 0; k < length; ++k)
                    chain_.push_back({0, static_cast<std::uint16_t>(60 + below(500)), k + 1 != length ? ns_morefrag : std::uint16_t{0}, 0});
                if (below(15) == 0) chain_[below(length)].len = static_cast<std::uint16_t>(below(2) != 0 ? 40000 : 0);
                if (length == 1 && chain_[0].len == 0) chain_[0].len = 60;
                first_ = true;
            }
            if (first_) {
                std::memcpy(tx.buf(), &next_, sizeof next_);
                ++next_;
            } else {
                std::memset(tx.buf(), 0xee, 8);
            }
            first_ = false;
            tx.slot().len = chain_.front().len;
            tx.slot().flags = chain_.front().flags;
            chain_.pop_front();
        }
        if (below(3) != 0) (void)tx.txsync();
    }

    void receive_fused() {
        if (in_frame_) return;
        (void)drain(b_.rx(0), 1 + below(40), [this](frame& f) noexcept {
            if (f.first()) begun(f.data());
        });
        // A drain ends where a frame ends, or goes on there next time: by a fused loop too.
        while (b_.rx(0).verdict().frags != 0)
            if (drain(b_.rx(0), 1) == 0) break;
    }
    void begun(const std::uint8_t* data) {
        std::uint32_t n = 0;
        std::memcpy(&n, data, sizeof n);
        received_.push_back(n);
    }
    void receive_by_hand(bool all = false) {
        auto& rx = b_.rx(0);
        (void)rx.rxsync();
        for (index_t left = all ? rx.space() : std::min<index_t>(rx.space(), below(20)); left != 0; --left, rx.advance()) {
            const slot s = load_slot(rx.slot());
            if (s.len == 0) continue;
            if (!in_frame_) begun(rx.buf());
            in_frame_ = (s.flags & ns_morefrag) != 0;
        }
        if (all || below(2) == 0) (void)rx.rxsync();
    }
    void monitors_take() {
        for (auto* w : {&sent_, &got_, &zero_}) w->take();
    }

    std::mt19937 random_;
    context ctx_;
    nm::pipe a_, b_;
    watched sent_, got_, zero_;
    std::deque<slot> chain_;  // of the frame that is being queued by hand, what is still to come
    bool first_ = false;
    bool in_frame_ = false;  // the receiver, by hand
    std::uint32_t next_ = 0;
    std::vector<std::uint32_t> received_;
};

TEST(monitor_model, sees_what_the_receiver_got) {
    for (unsigned seed = 6; seed < 46; ++seed) {
        SCOPED_TRACE(seed);
        traffic t(seed);
        for (int i = 0; i < 4000 && !testing::Test::HasFailure(); ++i) t.step();
        t.finish();
        if (testing::Test::HasFailure()) break;
    }
}

}  // namespace
