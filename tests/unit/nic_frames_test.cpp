// SPDX-License-Identifier: BSD-2-Clause
// A NIC's rings as a user has them, over the model of an e1000: whatever he queues, the wire carries what it should, in order,
// and all else is counted; slots and buffers come back.
#include "nm/ports/e1000.hpp"
#include "nm/ports/nic.hpp"
#include "nm/ports/sim_bus.hpp"
#include "nm/ports/sim_e1000.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "nm/offload.hpp"

namespace {

using namespace nm;
using port = nic<e1000, sim_bar>;
using bytes = std::vector<std::byte>;

struct shape {
    index_t slots;
    std::uint32_t buf_size;
    unsigned mtu;
};

class nic_frames : public testing::TestWithParam<shape> {
protected:
    sim_e1000 left, right;
    context ctx;
    region_ptr memory;
    std::optional<port> a, b;
    std::deque<bytes> wire;
    std::minstd_rand random{7};
    std::uint32_t number = 0;

    void SetUp() override {
        left.name = "0000:01:00.0", right.name = "0000:02:00.0";
        left.out = [this](std::span<const std::byte> f) {
            wire.emplace_back(f.begin(), f.end());
            right.receive(f);
        };
        region_options r;
        r.bufs = 4 * GetParam().slots + 100;
        r.buf_size = GetParam().buf_size;
        r.meta_bytes = std::size_t{1} << 20;
        memory = *region::create(r);
        open();
    }
    void open() {
        open_options o;
        o.tx_slots = o.rx_slots = GetParam().slots;
        o.mtu = GetParam().mtu;
        o.memory = memory;
        auto one = port::open_on(ctx, sim_bus(left), o), two = port::open_on(ctx, sim_bus(right), o);
        ASSERT_TRUE(one) << one.error().text;
        ASSERT_TRUE(two) << two.error().text;
        a.emplace(std::move(*one)), b.emplace(std::move(*two));
        auto& q = a->tx().backend().q;  // what counts on must not mind the end of 32 bits
        q.at = q.whole = q.published = q.asked = 0U - 2 * (q.mask + 1);
        q.first_mark = q.next_mark = 0U - 2 * (q.mask + 1);
    }
    void TearDown() override {
        EXPECT_EQ(left.dma.faults + right.dma.faults, 0U);
        a.reset(), b.reset();
        EXPECT_EQ(memory->bufs().available(), memory->num_bufs() - 2);
    }
    [[nodiscard]] std::uint32_t pick(std::uint32_t from, std::uint32_t to) { return from + static_cast<std::uint32_t>(random()) % (to - from + 1); }

    enum class as { good, hole, bad_index, bad_length, too_short, too_long, middle_bad, headers, gso };
    /// Queues one by hand, if there is room. Says what should be on the wire, if anything, and what becomes of it.
    bool queue(as what, std::deque<bytes>& expected, counters& sum) {
        auto& t = a->tx();
        const std::uint32_t most = GetParam().mtu + 18, size = GetParam().buf_size;
        std::uint32_t len = pick(14, std::min(most, 7 * (GetParam().slots - 2) * size / 8));
        if (what == as::too_short) len = pick(1, 13);
        if (what == as::too_long) len = most + pick(1, 100);
        if (what == as::hole) len = 0;
        if (what == as::headers || what == as::gso) len = pick(60, 200);
        if (what == as::middle_bad) len = std::max(len, 40U);
        std::vector<std::uint32_t> parts;
        for (std::uint32_t left_over = len; left_over != 0;) {
            std::uint32_t n = std::min(left_over, size);
            if (n > 2 && random() % 3 == 0 && what != as::headers && what != as::gso && parts.size() + 4 < GetParam().slots - 2) n = pick(n / 2, n);
            if (what == as::middle_bad && parts.size() < 2) n = std::min(n, 15U);
            parts.push_back(n);
            left_over -= n;
        }
        if (parts.empty()) parts.push_back(0);
        if (parts.size() > t.space() || parts.size() >= t.num_slots()) return false;
        bytes f(len);
        for (auto& x : f) x = static_cast<std::byte>(random());
        if (len >= 14) f[0] = std::byte{2}, f[12] = std::byte{0x88}, f[13] = std::byte{0xb5};
        std::size_t at = 0;
        for (std::size_t k = 0; k < parts.size(); ++k) {
            slot& s = t.slot(t.head());
            if (parts[k] != 0) std::memcpy(memory->buf(s.buf_idx), f.data() + at, parts[k]);
            at += parts[k];
            s.len = static_cast<std::uint16_t>(parts[k]);
            s.flags = k + 1 < parts.size() ? ns_morefrag : std::uint16_t{0};
            if (random() % 4 == 0) s.flags |= ns_report;
            s.ptr = 0;
            if (what == as::bad_index) taken.push_back(std::exchange(s.buf_idx, random() % 2 == 0 ? 0U : memory->num_bufs()));
            if (what == as::bad_length && k == 0) s.len = static_cast<std::uint16_t>(size + 1);
            if (what == as::middle_bad && k == parts.size() / 2) s.len = 0;
            if (what == as::headers) {
                s.flags |= ns_vnet;
                vnet_hdr h{};
                h.flags = vnet_needs_csum;
                h.csum_start = 20, h.csum_offset = 10;
                s.ptr = pack(h);
                const auto c = checksum{}.add({reinterpret_cast<const std::uint8_t*>(f.data()) + 20, f.size() - 20}).value();
                std::memcpy(f.data() + 30, &c, sizeof c);
            }
            if (what == as::gso) {
                s.flags |= ns_vnet;
                vnet_hdr h{};
                h.flags = vnet_needs_csum, h.gso_type = vnet_gso_tcpv4, h.gso_size = 1000, h.hdr_len = 54;
                h.csum_start = 34, h.csum_offset = 16;
                s.ptr = pack(h);
            }
            t.advance(1);
        }
        switch (what) {
            case as::good: case as::headers: expected.push_back(f); break;
            case as::hole: return true;
            case as::bad_index: sum.drop(cause::bad_idx); break;
            case as::bad_length: sum.drop(cause::bad_len); break;
            case as::too_short: case as::too_long: sum.drop(cause::bad_len); break;
            case as::middle_bad: sum.drop(cause::bad_chain); break;
            case as::gso: sum.drop(cause::bad_hdr); break;
        }
        ++sum.frames;
        return true;
    }
    // Slots that lost their buffers get them back, as from an application that put them aside.
    void mend() {
        auto& t = a->tx();
        for (index_t i = 0; i < t.num_slots() && !taken.empty(); ++i)
            if (t.slot(i).buf_idx == 0) t.slot(i).buf_idx = taken.back(), taken.pop_back();
    }
    static bool same(bytes got, bytes want) {
        if (want.size() < 60) want.resize(60);
        return got == want;
    }
    [[nodiscard]] std::deque<bytes> received() {
        auto& r = b->rx();
        r.rxsync();
        for (; !r.empty(); r.advance(1)) {
            const slot& s = r.slot(r.head());
            open_.insert(open_.end(), memory->buf(s.buf_idx), memory->buf(s.buf_idx) + s.len);
            if ((s.flags & ns_morefrag) == 0) got_.push_back(std::exchange(open_, {}));
        }
        r.rxsync();
        return std::exchange(got_, {});
    }
    void drops_equal(const counters& want) {
        const counters now = a->tx_stats();
        EXPECT_EQ(now.frames, want.frames);
        for (std::size_t i = 0; i < causes; ++i) EXPECT_EQ(now.drops[i], want.drops[i]) << cause_name(static_cast<cause>(i));
    }

    std::vector<std::uint32_t> taken;
    bytes open_;
    std::deque<bytes> got_;
};
INSTANTIATE_TEST_SUITE_P(, nic_frames,
                         testing::Values(shape{8, 2048, 1500}, shape{24, 2048, 1500}, shape{24, 512, 1500}, shape{64, 2048, 9000},
                                         shape{1000, 256, 9000}, shape{4096, 2048, 1500}),
                         [](const testing::TestParamInfo<shape>& i) {
                             return std::to_string(i.param.slots) + "_slots_of_" + std::to_string(i.param.buf_size) + "_mtu_" + std::to_string(i.param.mtu);
                         });

TEST_P(nic_frames, carries_what_is_whole_and_counts_the_rest) {
    constexpr as all[] = {as::good, as::good, as::good, as::good, as::hole, as::bad_index, as::bad_length, as::too_short, as::too_long, as::middle_bad, as::gso, as::headers};
    std::deque<bytes> expected;
    counters sum;
    const int rounds = GetParam().slots > 64 ? 150 : 600;
    for (int round = 0; round < rounds; ++round) {
        // Runs of one kind, so that each is alone in a batch, first and last in it, and all of it.
        const as what = all[random() % std::size(all)];
        for (auto n = pick(1, random() % 50 == 0 ? GetParam().slots : 3); n != 0 && queue(what, expected, sum); --n) {}
        if (random() % 3 != 0) continue;
        a->tx().txsync();
        mend();
        ASSERT_EQ(a->tx().space(), GetParam().slots - 1) << round;
        ASSERT_EQ(wire.size(), expected.size()) << round;
        const auto got = received();
        if (GetParam().slots > 64) { ASSERT_EQ(got.size(), wire.size()); }
        for (std::size_t i = 0; i < wire.size(); ++i) ASSERT_TRUE(same(wire[i], expected[i])) << round << ' ' << i;
        for (std::size_t i = 0; i < got.size() && got.size() == wire.size(); ++i) ASSERT_EQ(got[i], wire[i]);
        wire.clear(), expected.clear();
    }
    a->tx().txsync();
    mend();
    drops_equal(sum);
}

TEST_P(nic_frames, gives_every_buffer_back_however_often_it_is_opened) {
    std::deque<bytes> expected;
    counters sum;
    const auto all = memory->num_bufs() - 2;
    for (int round = 0; round < 10; ++round) {
        for (int k = 0; k < 20; ++k) {
            while (queue(as::good, expected, sum) && random() % 4 != 0) {}
            a->tx().txsync();
            if (random() % 2 == 0) (void)received();
            wire.clear();
        }
        a.reset(), b.reset();
        ASSERT_EQ(memory->bufs().available(), all);
        open();
    }
}

TEST_P(nic_frames, takes_no_part_of_a_frame_for_all_of_it) {
    auto& t = a->tx();
    for (int k = 0; k < 100; ++k) {
        for (std::uint16_t part : {std::uint16_t{20}, std::uint16_t{30}, std::uint16_t{40}}) {
            slot& s = t.slot(t.head());
            s.len = part, s.flags = part == 40 ? std::uint16_t{0} : ns_morefrag;
            t.advance(1);
            const auto before = wire.size();
            t.txsync();
            ASSERT_EQ(wire.size(), before + (part == 40 ? 1 : 0));
        }
        ASSERT_EQ(wire.back().size(), 90U);
        ASSERT_EQ(t.space(), GetParam().slots - 1);
        (void)received();
    }
}

// A part of the ring comes back while the rest is still under way.
TEST_P(nic_frames, gives_slots_back_in_parts) {
    auto& t = a->tx();
    const index_t n = GetParam().slots - 1;
    left.hung = true;
    for (int round = 0; round < 5; ++round) {
        for (index_t k = 0; k < n; ++k, t.advance(1)) t.slot(t.head()).len = 60, t.slot(t.head()).flags = 0;
        t.txsync();
        ASSERT_TRUE(t.empty());
        // Descriptors whose status is asked for are at most a quarter of the ring apart.
        auto& q = t.backend().q;
        index_t last = 0, marks = 0;
        for (index_t k = 0; k < n; ++k) {
            intel_descriptor& d = q.ring[(q.published - n + k) & q.mask];
            if ((d.word & intel::tx_rs) == 0) continue;
            d.word |= intel::dd;
            ++marks;
            t.txsync();
            EXPECT_EQ(t.space(), k + 1);
            EXPECT_LE(k + 1 - last, (q.mask + 1) / 4 + 1);
            last = k + 1;
        }
        EXPECT_EQ(last, n);
        EXPECT_GE(marks, 3U);
    }
    left.hung = false;
}

// NS_REPORT; and slots that nothing was sent from, while what was sent before them is under way.
TEST_P(nic_frames, reports_where_the_user_asks) {
    auto& t = a->tx();
    const index_t n = GetParam().slots - 1;
    left.hung = true;
    for (index_t k = 0; k < 4; ++k, t.advance(1)) t.slot(k).len = 60, t.slot(k).flags = k == 1 ? ns_report : std::uint16_t{0};
    t.txsync();
    EXPECT_EQ(t.slot(1).flags & ns_report, 0);
    t.slot(4).len = 0;
    t.advance(1);
    t.txsync();
    EXPECT_EQ(t.space(), n - 5);
    auto& q = t.backend().q;
    const auto done = [&](index_t k) {
        intel_descriptor& d = q.ring[(q.published - 4 + k) & q.mask];
        EXPECT_NE(d.word & intel::tx_rs, 0U) << k;
        d.word |= intel::dd;
        t.txsync();
    };
    done(1);
    EXPECT_EQ(t.space(), n - 3);
    done(3);
    EXPECT_EQ(t.space(), n);
    left.hung = false;
}

}  // namespace
