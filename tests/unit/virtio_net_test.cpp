// SPDX-License-Identifier: BSD-2-Clause
#include "nm/ports/virtio_net.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "support/virtio_model.hpp"

namespace {

using nm::index_t;
using nm::test::model_chain;
using nm::test::virtio_model;
namespace feature = nm::virtio::feature;
using frame = std::vector<std::uint8_t>;
using device = nm::virtio_net::control<virtio_model>;

static_assert(nm::nic_device<nm::virtio_net, virtio_model>);

constexpr std::uint64_t basic = feature::version_1 | feature::mac | feature::status | feature::access_platform;

frame numbered(std::uint32_t n, std::size_t bytes) {
    frame f(bytes);
    for (std::size_t i = 0; i < bytes; ++i) f[i] = static_cast<std::uint8_t>(n * 31 + i * 7 + (i >> 8));
    return f;
}

class dice {
public:
    explicit dice(unsigned seed) : from_(seed) {}
    unsigned operator()() { return static_cast<unsigned>(from_()); }

private:
    std::mt19937 from_;
};

// A port's place: buffers, rings of slots, and what nic.hpp and the rings do with a queue.
struct rig {
    static constexpr std::uint32_t stride = 2112;
    virtio_model m;
    std::vector<std::byte> buffers, rings;
    std::optional<device> d;
    std::optional<nm::virtio_tx<virtio_model::bar_type>> t;
    std::optional<nm::virtio_rx<virtio_model::bar_type>> r;
    nm::live_counters tx_stats, rx_stats;
    nm::nic_setup setup;
    index_t n;
    std::vector<nm::slot> tx_slots, rx_slots;
    index_t tx_at = 0, rx_cur = 0, rx_tail = 0, sent = 0;

    explicit rig(std::uint64_t features, index_t slots = 128, unsigned pairs = 1) : m(features, pairs), n(slots) {}

    void start(unsigned mtu = 1500) {
        auto opened = device::open(m);
        ASSERT_TRUE(opened) << opened.error().text;
        d.emplace(std::move(*opened));
        buffers.resize(static_cast<std::size_t>(stride) * (2 * n + 2));
        setup.rings = 1;
        setup.tx_slots = setup.rx_slots = n;
        setup.mtu = mtu;
        setup.buf_size = stride;
        setup.buffers = {*m.dma_map(buffers.data(), buffers.size()), buffers.data(), stride};
        rings.resize(d->ring_memory(setup));
        setup.memory = {rings.data(), *m.dma_map(rings.data(), rings.size()), rings.size()};
        const auto ok = d->start(setup);
        ASSERT_TRUE(ok) << ok.error().text;
        t.emplace(d->tx(0));
        r.emplace(d->rx(0));
        t->stats = &tx_stats;
        r->stats = &rx_stats;
        tx_slots.resize(n);
        rx_slots.resize(n);
        for (index_t i = 0; i < n; ++i) {
            tx_slots[i].buf_idx = 2 + i;
            rx_slots[i].buf_idx = 2 + n + i;
            r->give(i, rx_slots[i].buf_idx);
        }
        r->begin();
        const auto runs = d->run();
        ASSERT_TRUE(runs) << runs.error().text;
        EXPECT_EQ(m.early_doorbells, 0U);
    }
    std::uint8_t* data(const nm::slot& s) { return reinterpret_cast<std::uint8_t*>(buffers.data()) + std::size_t{s.buf_idx} * stride; }

    /// One frame over as many slots as `parts`.
    void put(const frame& f, std::size_t parts = 1) {
        const std::size_t each = (f.size() + parts - 1) / parts;
        for (std::size_t at = 0; at < f.size(); at += each) {
            const std::size_t here = std::min(each, f.size() - at);
            std::memcpy(data(tx_slots[tx_at]), f.data() + at, here);
            t->put(tx_at, tx_slots[tx_at].buf_idx, static_cast<std::uint32_t>(here), at + here == f.size());
            tx_at = nm::ring_next(tx_at, n);
        }
    }
    void publish() { t->publish(tx_at); }
    [[nodiscard]] index_t room() { return nm::ring_distance(tx_at, nm::ring_prev(t->reclaim(), n), n); }

    /// One slot; false: nothing there, or no room.
    bool take(nm::slot* got = nullptr) {
        if (nm::ring_next(rx_tail, n) == rx_cur || !r->ready(rx_tail)) return false;
        nm::slot& s = rx_slots[rx_tail];
        r->get(rx_tail, s);
        if (got != nullptr) *got = s;
        rx_tail = nm::ring_next(rx_tail, n);
        return true;
    }
    void give(bool now = true) {
        for (; rx_cur != rx_tail; rx_cur = nm::ring_next(rx_cur, n)) r->give(rx_cur, rx_slots[rx_cur].buf_idx);
        if (now) r->publish(rx_cur);
    }
    frame content(const nm::slot& s) { return {data(s), data(s) + s.len}; }
    [[nodiscard]] std::uint64_t lies(const nm::live_counters& c) const { return c.drops[static_cast<std::size_t>(nm::cause::bad_idx)]; }
    /// Every buffer is in one place only.
    void expect_whole() {
        r->restore(rx_slots.data(), rx_cur, rx_tail);
        std::vector<bool> there(2 * n + 2);
        for (const auto& s : rx_slots) {
            ASSERT_GE(s.buf_idx, 2 + n);
            ASSERT_LT(s.buf_idx, 2 + 2 * n);
            ASSERT_FALSE(there[s.buf_idx]) << s.buf_idx;
            there[s.buf_idx] = true;
        }
        EXPECT_EQ(m.memory.faults, 0U);
    }
};

// Both formats; split queues with and without event indexes.
class VirtioQueues : public testing::TestWithParam<std::uint64_t> {
protected:
    static std::uint64_t features() { return basic | GetParam(); }
};
std::string format_of(const testing::TestParamInfo<std::uint64_t>& p) {
    return std::string((p.param & feature::ring_packed) != 0 ? "packed" : "split") + ((p.param & feature::event_idx) != 0 ? "_events" : "_flags");
}
INSTANTIATE_TEST_SUITE_P(Virtio, VirtioQueues,
                         testing::Values(0, feature::event_idx, feature::ring_packed), format_of);

TEST_P(VirtioQueues, SendsAndReceivesRoundAndRound) {
    rig g(features(), 16);
    g.start();
    std::uint32_t sent = 0, arrived = 0;
    // More than 65536 of each, so that the indexes of split rings wrap too.
    for (unsigned round = 0; arrived < 70000; ++round) {
        const unsigned batch = round % 15 + 1;
        for (unsigned k = 0; k < batch; ++k) g.put(numbered(sent + k, 60 + (sent + k) % 100));
        g.publish();
        for (unsigned k = 0; k < batch; ++k) {
            const frame f = g.m.send();
            ASSERT_EQ(f, numbered(sent, 60 + sent % 100));
            ++sent;
            ASSERT_TRUE(g.m.receive(f));
        }
        ASSERT_TRUE(g.m.send().empty());
        ASSERT_EQ(g.t->reclaim(), g.tx_at);
        nm::slot s;
        for (unsigned k = 0; k < batch; ++k) {
            ASSERT_TRUE(g.take(&s));
            ASSERT_EQ(s.flags, 0);
            ASSERT_EQ(g.content(s), numbered(arrived, 60 + arrived % 100));
            ++arrived;
        }
        ASSERT_FALSE(g.take());
        g.give();
    }
    EXPECT_EQ(g.m.bad_headers, 0U);
    EXPECT_FALSE(g.m.rx().bad_chain || g.m.tx().bad_chain);
    EXPECT_EQ(g.tx_stats.now().dropped() + g.rx_stats.now().dropped(), 0U);
    g.expect_whole();
}

TEST_P(VirtioQueues, PublishesExactlyWhatWasPosted) {
    rig g(features(), 16);
    g.start();
    auto& q = g.m.rx();
    unsigned posted = 0;
    while (q.pop()) ++posted;
    EXPECT_EQ(posted, 16U);
    EXPECT_FALSE(q.bad_chain);
    // What is put and not published is not there yet.
    g.put(numbered(1, 60));
    g.put(numbered(2, 60));
    EXPECT_FALSE(g.m.tx().pop());
    g.publish();
    EXPECT_EQ(g.m.send(), numbered(1, 60));
    EXPECT_EQ(g.m.send(), numbered(2, 60));
    EXPECT_FALSE(g.m.tx().pop());
}

TEST_P(VirtioQueues, RingsOnceForABatchAndOnlyWhenAsked) {
    rig g(features(), 64);
    g.start();
    auto& q = g.m.tx();
    q.listen(true);
    for (unsigned batch = 1; batch <= 20; ++batch) {
        const unsigned before = q.doorbells;
        for (unsigned k = 0; k < 3; ++k) g.put(numbered(k, 60));
        g.publish();
        EXPECT_EQ(q.doorbells, before + 1);
        g.publish();
        EXPECT_EQ(q.doorbells, before + 1);  // nothing new
        while (!g.m.send().empty()) {}
        (void)g.t->reclaim();
    }
    const unsigned before = q.doorbells, reads = g.m.reads;
    for (unsigned batch = 0; batch < 100; ++batch) {
        q.listen(false);
        g.put(numbered(batch, 60));
        g.publish();
        EXPECT_EQ(g.m.send(), numbered(batch, 60));
        (void)g.t->reclaim();
    }
    EXPECT_EQ(q.doorbells, before);
    EXPECT_EQ(g.m.reads, reads);
    // With an event index only the first of what the device has not asked for is worth a doorbell.
    q.listen(true);
    for (unsigned k = 0; k < 5; ++k) {
        g.put(numbered(k, 60));
        g.publish();
    }
    EXPECT_EQ(q.doorbells - before, GetParam() == feature::event_idx ? 1U : 5U);
}

TEST_P(VirtioQueues, InterruptsAsLongAsTheyAreOn) {
    rig g(features(), 16);
    g.start();
    auto& rx = g.m.rx();
    ASSERT_TRUE(g.m.receive(numbered(0, 60)));
    EXPECT_EQ(rx.interrupts, 0U);
    for (unsigned round = 0; round < 50; ++round) {
        const unsigned before = rx.interrupts;
        g.d->interrupt_rx(0, true);
        ASSERT_TRUE(g.m.receive(numbered(0, 60)));
        EXPECT_EQ(rx.interrupts, before + 1);
        g.d->interrupt_rx(0, false);
        ASSERT_TRUE(g.m.receive(numbered(0, 60)));
        EXPECT_EQ(rx.interrupts, before + 1);
        while (g.take()) {}
        g.give();
    }
    auto& tx = g.m.tx();
    g.d->interrupt_tx(0, true);
    g.put(numbered(0, 60));
    g.publish();
    (void)g.m.send();
    EXPECT_EQ(tx.interrupts, 1U);
}

TEST_P(VirtioQueues, SendsFragmentsAndForgetsBeginnings) {
    rig g(features(), 16);
    g.start();
    std::uint32_t n = 0;
    for (unsigned round = 0; round < 400; ++round) {
        const std::size_t parts = round % 5 + 1;
        const frame f = numbered(n++, 500 + round);
        // A beginning that turns out bad; its slots stay empty.
        if (round % 3 == 0) {
            for (unsigned k = 0; k < round % 4 + 1; ++k) {
                g.t->put(g.tx_at, g.tx_slots[g.tx_at].buf_idx, 100, false);
                g.tx_at = nm::ring_next(g.tx_at, g.n);
            }
            g.t->rewind(round % 4 + 1);
        }
        g.put(f, parts);
        // Part of a frame that is not published yet must not be seen.
        const index_t whole = g.tx_at;
        const bool open = round % 7 == 0;
        if (open) {
            g.t->put(g.tx_at, g.tx_slots[g.tx_at].buf_idx, 60, false);
            g.tx_at = nm::ring_next(g.tx_at, g.n);
        }
        g.t->publish(whole);
        ASSERT_EQ(g.m.send(), f) << round;
        ASSERT_TRUE(g.m.send().empty()) << round;
        ASSERT_EQ(g.t->reclaim(), whole);
        if (open) {
            g.t->put(g.tx_at, g.tx_slots[g.tx_at].buf_idx, 60, true);
            g.tx_at = nm::ring_next(g.tx_at, g.n);
            g.publish();
            ASSERT_EQ(g.m.send().size(), 120U);
            ASSERT_EQ(g.t->reclaim(), g.tx_at);
        }
    }
    EXPECT_FALSE(g.m.tx().bad_chain);
    EXPECT_EQ(g.lies(g.tx_stats), 0U);
}

TEST_P(VirtioQueues, TakesSlotsBackInOrderWhateverTheDeviceDoes) {
    rig g(features(), 16);
    g.start();
    dice random(1);
    std::uint32_t n = 0;
    std::vector<std::pair<model_chain, index_t>> outstanding;  // with the frame's first slot
    for (unsigned round = 0; round < 3000; ++round) {
        while (g.room() >= 4 && random() % 4 != 0) {
            const index_t at = g.tx_at;
            g.put(numbered(n++, 300), random() % 3 + 1);
            if (random() % 4 == 0) g.tx_at = nm::ring_next(g.tx_at, g.n);  // a hole
            g.publish();
            auto c = g.m.tx().pop();
            ASSERT_TRUE(c);
            outstanding.emplace_back(*c, at);
        }
        if (!outstanding.empty() && random() % 2 == 0) {
            const auto which = outstanding.begin() + static_cast<std::ptrdiff_t>(random() % outstanding.size());
            g.m.tx().push(which->first, 0);
            outstanding.erase(which);
        }
        // The oldest that is under way bounds what has come back.
        ASSERT_EQ(g.t->reclaim(), outstanding.empty() ? g.tx_at : outstanding.front().second) << round;
    }
    EXPECT_EQ(g.lies(g.tx_stats), 0U);
}

TEST_P(VirtioQueues, ReceivesInTheOrderOfCompletion) {
    rig g(features(), 16);
    g.start();
    dice random(2);
    std::vector<model_chain> posted;
    std::uint32_t sent = 0, arrived = 0;
    for (unsigned round = 0; round < 3000; ++round) {
        while (auto c = g.m.rx().pop()) posted.push_back(*c);
        ASSERT_LE(posted.size(), 16U);
        for (unsigned k = random() % 5; k != 0 && !posted.empty(); --k) {
            const auto which = posted.begin() + static_cast<std::ptrdiff_t>(random() % posted.size());
            frame f(12);
            const frame content = numbered(sent++, 100);
            f.insert(f.end(), content.begin(), content.end());
            g.m.rx().write(*which, 0, f.data(), f.size());
            g.m.rx().push(*which, static_cast<std::uint32_t>(f.size()));
            posted.erase(which);
        }
        nm::slot s;
        while (g.take(&s)) ASSERT_EQ(g.content(s), numbered(arrived++, 100));
        if (random() % 3 != 0) g.give(random() % 2 == 0);
        if (round % 100 == 99) g.expect_whole();
    }
    EXPECT_EQ(g.lies(g.rx_stats), 0U);
    EXPECT_GT(arrived, 2000U);
}

TEST_P(VirtioQueues, MergesBuffersOfALargeFrame) {
    rig g(features() | feature::mrg_rxbuf, 16);
    g.start(9000);
    ASSERT_TRUE(g.m.has(feature::mrg_rxbuf));
    for (unsigned round = 0; round < 200; ++round) {
        const frame f = numbered(round, 60 + round * 45);
        ASSERT_TRUE(g.m.receive(f));
        frame all;
        nm::slot s;
        do {
            ASSERT_TRUE(g.take(&s));
            ASSERT_LE(s.len, rig::stride);
            const frame part = g.content(s);
            all.insert(all.end(), part.begin(), part.end());
        } while ((s.flags & nm::ns_morefrag) != 0);
        ASSERT_EQ(all, f) << round;
        ASSERT_FALSE(g.take());
        g.give();
    }
    // Lengths around the seam.
    for (std::size_t bytes = 2 * rig::stride - 40; bytes < 2 * rig::stride + 40; ++bytes) {
        const frame f = numbered(1, bytes);
        ASSERT_TRUE(g.m.receive(f));
        frame all;
        nm::slot s;
        while (g.take(&s)) {
            const frame part = g.content(s);
            all.insert(all.end(), part.begin(), part.end());
        }
        ASSERT_EQ(all, f) << bytes;
        g.give();
    }
    g.expect_whole();
}

TEST_P(VirtioQueues, CountsIdsThatCannotBe) {
    rig g(features(), 16);
    g.start();
    auto& rx = g.m.rx();
    const auto a = rx.pop(), b = rx.pop();
    ASSERT_TRUE(a && b);
    const std::uint32_t foreign = GetParam() & feature::ring_packed ? 16 : 32;
    rx.push(foreign, 72, 2);  // there is no such buffer
    rx.push(0xffff, 72, 2);
    EXPECT_FALSE(g.take());
    EXPECT_EQ(g.lies(g.rx_stats), 2U);
    rx.push(*a, 72);
    rx.push(*a, 72);  // twice
    rx.push(*b, 72);
    nm::slot s;
    EXPECT_TRUE(g.take(&s));
    EXPECT_EQ(s.buf_idx, 2 + g.n + 0);
    EXPECT_TRUE(g.take(&s));
    EXPECT_EQ(s.buf_idx, 2 + g.n + 1);
    EXPECT_FALSE(g.take());
    EXPECT_EQ(g.lies(g.rx_stats), 3U);
    if ((GetParam() & feature::ring_packed) == 0) {
        rx.push(5, 72, 2);  // not the head of a chain
        EXPECT_FALSE(g.take());
        EXPECT_EQ(g.lies(g.rx_stats), 4U);
    }
    // What was given back and not published is not the device's.
    g.give(false);
    rx.push(*a, 72);
    EXPECT_FALSE(g.take());
    EXPECT_GE(g.lies(g.rx_stats), 4U);
    g.expect_whole();

    auto& tx = g.m.tx();
    for (unsigned k = 0; k < 6; ++k) g.put(numbered(k, 60));
    g.publish();
    const auto c = tx.pop(), e = tx.pop();
    ASSERT_TRUE(c && e);
    tx.push(foreign, 0, 2);
    tx.push(0xfffe, 0, 2);
    EXPECT_EQ(g.t->reclaim(), 0U);
    EXPECT_EQ(g.lies(g.tx_stats), 2U);
    tx.push(*e, 0);
    tx.push(*e, 0);
    EXPECT_EQ(g.t->reclaim(), 0U);
    EXPECT_EQ(g.lies(g.tx_stats), 3U);
    tx.push(*c, 0);
    EXPECT_EQ(g.t->reclaim(), 2U);
}

TEST_P(VirtioQueues, DoesNotBelieveLengths) {
    rig g(features(), 16);
    g.start();
    struct lie {
        std::uint32_t said;
        std::uint16_t len;
    };
    for (const lie l : {lie{0, 0}, lie{11, 0}, lie{12, 0}, lie{13, 1}, lie{5000, 4988}, lie{0x10000 + 72, 0xffff}, lie{~0U, 0xffff}}) {
        const auto c = g.m.rx().pop();
        ASSERT_TRUE(c);
        g.m.rx().push(*c, l.said);
        nm::slot s;
        ASSERT_TRUE(g.take(&s));
        EXPECT_EQ(s.len, l.len) << l.said;
        g.give();
    }
    EXPECT_EQ(g.rx_stats.now().dropped(nm::cause::bad_len), 3U);
    g.expect_whole();
}

TEST(VirtioSplit, DoesNotBelieveAnIndexThatIsFurtherThanWhatWasGiven) {
    rig g(basic, 16);
    g.start();
    auto& rx = g.m.rx();
    for (const unsigned index : {17U, 1000U, 0xffffU}) {
        *rx.word(rx.device, 1) = static_cast<std::uint16_t>(index);
        EXPECT_FALSE(g.take());
    }
    EXPECT_EQ(g.lies(g.rx_stats), 3U);
    *rx.word(rx.device, 1) = 0;
    ASSERT_TRUE(g.m.receive(numbered(1, 60)));
    EXPECT_TRUE(g.take());

    auto& tx = g.m.tx();
    *tx.word(tx.device, 1) = 1;
    EXPECT_EQ(g.t->reclaim(), 0U);
    g.put(numbered(1, 60));
    g.publish();
    *tx.word(tx.device, 1) = 2;
    EXPECT_EQ(g.t->reclaim(), 0U);
    EXPECT_EQ(g.lies(g.tx_stats), 2U);
    *tx.word(tx.device, 1) = 0;
    EXPECT_EQ(g.m.send(), numbered(1, 60));
    EXPECT_EQ(g.t->reclaim(), 1U);
}

// Random bytes in everything that the device may write: nothing outside of the rings is touched, every visit ends, and no
// buffer is in two places.
TEST_P(VirtioQueues, SurvivesNoise) {
    rig g(features() | feature::mrg_rxbuf, 16);
    g.start(9000);
    dice random(3);
    for (unsigned round = 0; round < 20000; ++round) {
        for (auto* q : {&g.m.rx(), &g.m.tx()}) {
            const unsigned what = random() % 4;
            if (what == 0) *q->word(q->device, random() % (q->packed ? 2U : 2U + 4U * q->size + 1U)) = static_cast<std::uint16_t>(random());
            if (what == 1) q->push(random() % 40, random() % 5000, 2);
            if (what == 2 && q->packed) *q->word(q->desc, random() % (q->size * 8U)) = static_cast<std::uint16_t>(random());
            if (what == 3)
                if (auto c = q->pop()) q->push(*c, random() % 3000);
        }
        if (random() % 2 == 0 && g.room() > 2) g.put(numbered(round, 200), random() % 2 + 1);
        if (random() % 2 == 0) g.publish();
        for (unsigned k = random() % 20; k != 0 && g.take(); --k) {}
        if (random() % 2 == 0) g.give(random() % 2 == 0);
        ASSERT_LT(g.t->reclaim(), g.n);
    }
    g.m.memory.faults = 0;  // the model followed nonsense of its own
    g.expect_whole();
}

TEST(VirtioNet, NegotiatesWhatItUses) {
    rig g(~std::uint64_t{0} & ~feature::mq, 128);
    g.start();
    EXPECT_TRUE(g.m.has(feature::version_1 | feature::access_platform | feature::ring_packed | feature::ctrl_rx));
    EXPECT_FALSE(g.m.has(feature::event_idx));  // not with packed queues
    EXPECT_FALSE(g.m.has(feature::mrg_rxbuf));  // frames fit a buffer
    constexpr std::uint64_t offloads = 0x7f83;  // checksums, segmentation
    EXPECT_EQ(g.m.driver & offloads, 0U);
    EXPECT_EQ(g.m.commands.size(), 1U);
    EXPECT_EQ(g.m.commands[0], (std::vector<std::uint8_t>{0, 0, 1}));  // promiscuous on
    EXPECT_EQ(g.d->mac(), (nm::mac_address{0x52, 0x54, 0, 1, 2, 3}));
    EXPECT_EQ(g.d->limits().max_mtu, 1500U);
    EXPECT_EQ(g.d->limits().max_slots, 128U);  // of 256 descriptors
    EXPECT_TRUE(g.d->set_mac({2, 0, 0, 0, 0, 9}));
    EXPECT_EQ(g.m.commands.back(), (std::vector<std::uint8_t>{1, 1, 2, 0, 0, 0, 0, 9}));
    g.d->set_promiscuous(false);
    EXPECT_EQ(g.m.commands.back(), (std::vector<std::uint8_t>{0, 0, 0}));
    EXPECT_TRUE(g.d->link().up);
    g.m.device_config[6] = 0;
    EXPECT_FALSE(g.d->link().up);
    g.m.isr = 3;
    g.d->ack();  // INTx, as nothing else was set up
    EXPECT_EQ(g.m.isr, 0);
    g.d->stop();
    EXPECT_EQ(g.m.status, 0);
    g.d->stop();
}

TEST(VirtioNet, UsesSeveralPairs) {
    for (const std::uint64_t format : {std::uint64_t{0}, feature::ring_packed}) {
        virtio_model m(basic | feature::mq | feature::ctrl_vq | feature::event_idx | format, 4);
        auto d = device::open(m);
        ASSERT_TRUE(d);
        EXPECT_EQ(d->limits().max_rings, 4U);
        nm::nic_setup s;
        s.rings = 3;
        s.tx_slots = 64, s.rx_slots = 32;
        std::vector<std::byte> buffers(2112 * 300), rings(d->ring_memory(s));
        s.buf_size = 2112;
        s.buffers = {*m.dma_map(buffers.data(), buffers.size()), buffers.data(), 2112};
        s.memory = {rings.data(), *m.dma_map(rings.data(), rings.size()), rings.size()};
        s.vectors = {nm::sys::irq_kind::msix, 0, 1, 2, 6};
        const auto ok = d->start(s);
        ASSERT_TRUE(ok) << ok.error().text;
        EXPECT_EQ(m.tx(2).vector, 5U);
        EXPECT_EQ(m.rx(1).vector, 2U);
        EXPECT_EQ(m.queues.back().enabled, 1U);
        device moved = std::move(*d);
        nm::live_counters stats;
        using bar = virtio_model::bar_type;
        std::vector<nm::virtio_rx<bar>> rx;
        std::vector<nm::virtio_tx<bar>> tx;
        for (unsigned i = 0; i < 3; ++i) {
            rx.push_back(moved.rx(i));
            tx.push_back(moved.tx(i));
            rx[i].stats = tx[i].stats = &stats;
            for (index_t k = 0; k < 32; ++k) rx[i].give(k, 2 + 96 * i + k);
            rx[i].begin();
        }
        const auto runs = moved.run();
        ASSERT_TRUE(runs) << runs.error().text;
        ASSERT_FALSE(m.commands.empty());
        EXPECT_EQ(m.commands[0], (std::vector<std::uint8_t>{4, 0, 3, 0}));
        for (unsigned i = 0; i < 3; ++i) {
            const frame f = numbered(i, 100);
            std::memcpy(buffers.data() + std::size_t{2112} * (2 + 96 * i + 40), f.data(), f.size());
            tx[i].put(0, 2 + 96 * i + 40, 100, true);
            tx[i].publish(1);
            EXPECT_EQ(m.send(i), f);
            ASSERT_TRUE(m.receive(f, i));
            ASSERT_TRUE(rx[i].ready(0));
            nm::slot got{2 + 96 * i, 0, 0, 0};
            rx[i].get(0, got);
            EXPECT_EQ(got.len, 100);
            EXPECT_EQ(std::memcmp(buffers.data() + std::size_t{2112} * got.buf_idx, f.data(), 100), 0);
        }
        EXPECT_EQ(m.memory.faults, 0U);
    }
}

TEST(VirtioNet, SaysWhatIsWrongWithADevice) {
    const auto text = [](virtio_model& m) {
        auto d = device::open(m);
        return d ? std::string("it opened") : d.error().text;
    };
    {
        virtio_model m(feature::mac);
        EXPECT_NE(text(m).find("legacy"), std::string::npos);
    }
    {
        virtio_model m(basic & ~feature::access_platform);
        EXPECT_NE(text(m).find("iommu_platform=on"), std::string::npos);
    }
    {
        virtio_model m(basic);
        m.config[0x34] = 0;
        EXPECT_NE(text(m).find("disable-modern=off"), std::string::npos);
    }
    {
        virtio_model m(basic);
        for (auto& q : m.queues) q.max = q.size = 8;
        EXPECT_NE(text(m).find("rx_queue_size="), std::string::npos);
    }
    {
        virtio_model m(basic | feature::mq | feature::ctrl_vq);
        m.device_config[8] = 0;
        EXPECT_NE(text(m).find("broken"), std::string::npos);
    }
    {
        virtio_model m(basic);
        m.never_resets = true;
        m.status = 4;
        EXPECT_NE(text(m).find("reset"), std::string::npos);
    }
    // A list of capabilities that goes round and round ends.
    {
        virtio_model m(basic);
        m.config[0x71] = 0x40;
        EXPECT_TRUE(device::open(m));
        m.config[0x51] = 0x40;
        EXPECT_FALSE(device::open(m));
    }
}

TEST(VirtioNet, HoldsEveryStructureAgainstItsBar) {
    struct wrong {
        std::uint8_t type;
        std::uint32_t offset, length;
    };
    for (const unsigned at : {0x40U, 0x50U, 0x60U, 0x70U}) {
        const std::uint8_t type = at == 0x40 ? 1 : at == 0x50 ? 3 : at == 0x60 ? 4 : 2;
        for (const wrong w : {wrong{type, 0x4000, 64}, wrong{type, 0x3fff, 64}, wrong{type, 0xffffffff, 64}, wrong{type, 0xfffffff0, 0x20},
                              wrong{type, 0, 0xffffffff}, wrong{type, 8, 0x4000}, wrong{type, 0, 0}}) {
            virtio_model m(basic);
            m.capability(at, m.config[at + 1], w.type, w.offset, w.length, 4);
            EXPECT_FALSE(device::open(m)) << at << " " << w.offset << " " << w.length;
        }
        virtio_model m(basic);
        m.config[at + 4] = 6;  // no such BAR
        EXPECT_FALSE(device::open(m));
        m.config[at + 4] = 2;  // not mapped
        EXPECT_FALSE(device::open(m));
    }
    // Doorbells outside of their structure.
    rig g(basic, 16);
    g.m.capability(0x70, 0, 2, virtio_model::notify_at, 0x1000, 0x2000);
    auto d = device::open(g.m);
    ASSERT_TRUE(d);
    std::vector<std::byte> memory(d->ring_memory({}));
    nm::nic_setup s;
    s.tx_slots = s.rx_slots = 16;
    s.memory = {memory.data(), 0x1000, memory.size()};
    const auto ok = d->start(s);
    ASSERT_FALSE(ok);
    EXPECT_NE(ok.error().text.find("doorbell"), std::string::npos);
}

TEST(VirtioNet, NoticesPairsThatThereAreNoQueuesFor) {
    virtio_model m(basic | feature::mq | feature::ctrl_vq, 2);
    m.device_config[8] = 9;
    auto d = device::open(m);
    ASSERT_TRUE(d);
    nm::nic_setup s;
    s.rings = 4;
    s.tx_slots = s.rx_slots = 16;
    std::vector<std::byte> memory(d->ring_memory(s));
    s.memory = {memory.data(), 0x1000, memory.size()};
    const auto ok = d->start(s);
    ASSERT_FALSE(ok);
    EXPECT_NE(ok.error().text.find("5 queues"), std::string::npos) << ok.error().text;
}

TEST(VirtioNet, RefusesWhatItCannotDo) {
    virtio_model m(basic | feature::ctrl_vq | feature::ctrl_rx);
    auto d = device::open(m);
    ASSERT_TRUE(d);
    nm::nic_setup s;
    s.tx_slots = s.rx_slots = 128;
    s.buf_size = 2112;
    std::vector<std::byte> memory(d->ring_memory(s));
    const auto start = [&](nm::nic_setup with) {
        with.memory = {memory.data(), 0x1000, memory.size()};
        auto ok = d->start(with);
        return ok ? std::string() : ok.error().text;
    };
    EXPECT_EQ(start(s), "");
    s.tx_slots = 256;
    EXPECT_NE(start(s).find("128 at most"), std::string::npos);
    s.tx_slots = 100;
    EXPECT_NE(start(s).find("power of two"), std::string::npos);
    s.tx_slots = 128;
    s.mtu = 4000;
    EXPECT_NE(start(s).find("4018 bytes"), std::string::npos);
    s.mtu = 1500;
    m.needs = feature::bit(0);
    EXPECT_NE(start(s).find("features"), std::string::npos);
    m.needs = 0;
    m.no_vectors = true;
    s.vectors = {nm::sys::irq_kind::msix, 0, 1, 2, 2};
    EXPECT_NE(start(s).find("vectors="), std::string::npos);
    m.no_vectors = false;
    EXPECT_EQ(start(s), "");
    EXPECT_FALSE(d->set_mac({}));
}

TEST(VirtioNet, DoesNotWaitForEverForAControlQueueThatIsDeaf) {
    rig g(basic | feature::ctrl_vq | feature::ctrl_rx | feature::ctrl_mac_addr, 16);
    g.m.deaf = true;
    g.start();
    EXPECT_FALSE(g.d->set_mac({}));
    EXPECT_FALSE(g.d->set_mac({}));
}

}  // namespace
