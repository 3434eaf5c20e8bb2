// SPDX-License-Identifier: BSD-2-Clause
#include "nm/ports/vmxnet3.hpp"

#include <cstdlib>
#include <gtest/gtest.h>
#include <memory>
#include <random>

#include "nm/context.hpp"
#include "nm/ports/nic.hpp"
#include "nm/wait.hpp"
#include "support/vmxnet3_model.hpp"

namespace {

using namespace nm;
using namespace nm::test;
using abi = vmxnet3_abi;
using control = vmxnet3::control<vmxnet3_model>;
static_assert(nic_device<vmxnet3, vmxnet3_model>);
static_assert(vmxnet3::drives({0x15ad, 0x07b0, 0, 0, 0, 0}) && !vmxnet3::drives({0x15ad, 0x0720, 0, 0, 0, 0}));

struct page_memory {
    explicit page_memory(std::size_t n) : size(dma_memory::rounded(n)), at(static_cast<std::byte*>(std::aligned_alloc(4096, size))) {
        std::memset(at, 0, size);
    }
    ~page_memory() { std::free(at); }
    page_memory(const page_memory&) = delete;
    page_memory& operator=(const page_memory&) = delete;
    std::size_t size;
    std::byte* at;
};

/// A device that runs, with buffers: of tx ring q slot i has buffer tx_buf(q, i), of rx rx_buf(q, i).
struct bench {
    explicit bench(const nic_setup& wish = {}) : setup(wish) {
        auto opened = control::open(device);
        EXPECT_TRUE(opened) << opened.error().text;
        c.emplace(std::move(*opened));
        buffers = std::make_unique<page_memory>(std::size_t{2 + setup.rings * (setup.tx_slots + setup.rx_slots)} * setup.buf_size);
        setup.buffers = {*device.dma_map(buffers->at, buffers->size), buffers->at, setup.buf_size};
        rings = std::make_unique<page_memory>(c->ring_memory(setup));
        setup.memory = dma_memory(rings->at, *device.dma_map(rings->at, rings->size), rings->size);
    }
    result<void> start() {
        if (auto ok = c->start(setup); !ok) return ok;
        for (unsigned q = 0; q < setup.rings; ++q) {
            tx.push_back(c->tx(q));
            tx.back().stats = &tx_stats;
            rx.push_back(c->rx(q));
            rx.back().stats = &rx_stats;
            for (index_t i = 0; i < setup.rx_slots; ++i) rx.back().give(i, rx_buf(q, i));
            rx.back().begin();
        }
        return c->run();
    }
    [[nodiscard]] std::uint32_t tx_buf(unsigned q, index_t i) const { return 2 + q * (setup.tx_slots + setup.rx_slots) + i; }
    [[nodiscard]] std::uint32_t rx_buf(unsigned q, index_t i) const { return tx_buf(q, setup.tx_slots + i); }
    [[nodiscard]] std::uint8_t* data(std::uint32_t buf) const {
        return reinterpret_cast<std::uint8_t*>(buffers->at) + std::size_t{buf} * setup.buf_size;
    }
    void put(unsigned q, index_t i, const bytes& b, bool last = true) {
        std::memcpy(data(tx_buf(q, i)), b.data(), b.size());
        tx[q].put(i, tx_buf(q, i), static_cast<std::uint32_t>(b.size()), last);
    }
    /// The slot that ready() found.
    slot get(index_t i, unsigned q = 0) {
        slot s{rx_buf(q, i), 0xaaaa, 0xaaaa, 0};
        rx[q].get(i, s);
        return s;
    }
    bytes payload(const slot& s) const { return {data(s.buf_idx), data(s.buf_idx) + s.len}; }

    vmxnet3_model device;
    nic_setup setup;
    std::optional<control> c;
    std::unique_ptr<page_memory> buffers, rings;
    std::vector<vmxnet3_tx<vmxnet3_model::bar_type>> tx;
    std::vector<vmxnet3_rx<vmxnet3_model::bar_type>> rx;
    live_counters tx_stats, rx_stats;
};

struct dice {
    explicit dice(unsigned seed) : engine(seed) {}
    std::uint32_t operator()() { return static_cast<std::uint32_t>(engine()); }
    std::mt19937 engine;
};
nic_setup small(index_t slots = 64) {
    nic_setup s;
    s.tx_slots = s.rx_slots = slots;
    return s;
}
bytes frame(unsigned seed, std::size_t len = 60) {
    bytes b(len);
    for (std::size_t i = 0; i < len; ++i) b[i] = static_cast<std::uint8_t>(seed * 31 + i);
    return b;
}

TEST(vmxnet3, open_resets_and_reads_the_address) {
    vmxnet3_model m;
    m.mac = {2, 2, 2, 2, 2, 2};  // a driver before us changed it
    auto c = control::open(m);
    ASSERT_TRUE(c);
    EXPECT_EQ(c->mac(), m.perm_mac);
    EXPECT_EQ(m.commands.front(), abi::reset);
    EXPECT_EQ(c->limits().slots_multiple, 32U);
    EXPECT_EQ(c->limits().memory.no_cross, 4096U);
    EXPECT_FALSE(m.master);

    vmxnet3_model later;
    later.revisions = 2;
    EXPECT_EQ(control::open(later).error().code.value(), ENOTSUP);
    vmxnet3_model gone;
    gone.revisions = ~0U;
    EXPECT_EQ(control::open(gone).error().code.value(), ENOTSUP);
    vmxnet3_model tiny;
    tiny.bar_size = 64;
    EXPECT_EQ(control::open(tiny).error().code.value(), EIO);
}

TEST(vmxnet3, start_tells_the_device_all_and_run_activates_it) {
    nic_setup s = small(96);
    s.rings = 2;
    s.mtu = 4000;
    s.vectors = {sys::irq_kind::msix, 0, 2, 1, 4};
    bench b(s);
    ASSERT_TRUE(b.start());
    ASSERT_TRUE(b.device.active);
    const abi::shared& a = *b.device.config;
    EXPECT_EQ(a.misc.mtu, 4000U);
    EXPECT_EQ(a.misc.max_rx_parts, 2U);
    EXPECT_EQ(a.misc.tx_queues, 2);
    EXPECT_EQ(a.misc.features, abi::feature_rss);
    EXPECT_EQ(a.rss.len, sizeof(abi::rss_conf));
    EXPECT_EQ(a.intr.auto_mask, 1);
    EXPECT_EQ(a.intr.vectors, 5);
    EXPECT_EQ(a.intr.event_vector, 4);
    EXPECT_EQ(a.intr.control, 0U);
    EXPECT_EQ(b.device.rx_[1].vector, 1U);
    EXPECT_EQ(b.device.tx_[1].vector, 3U);
    EXPECT_EQ(b.device.wrong, 0U);
    EXPECT_EQ(b.device.rx_mode & abi::rx_promiscuous, abi::rx_promiscuous);
    // One descriptor stays out.
    EXPECT_EQ(b.device.rx_descriptors(0), 95U);
    EXPECT_EQ(b.device.rxprod, 95U);
}

TEST(vmxnet3, what_the_device_cannot_do_is_refused_with_a_sentence) {
    const auto refused = [](auto change) {
        bench b(small());
        change(b.setup);
        const auto r = b.c->start(b.setup);
        EXPECT_FALSE(r);
        EXPECT_FALSE(b.device.master);
        return r ? 0 : r.error().code.value();
    };
    EXPECT_EQ(refused([](nic_setup& s) { s.mtu = 59; }), EINVAL);
    EXPECT_EQ(refused([](nic_setup& s) { s.mtu = 9001; }), EINVAL);
    EXPECT_EQ(refused([](nic_setup& s) { s.rings = 9; }), EINVAL);
    EXPECT_EQ(refused([](nic_setup& s) { s.rings = 0; }), EINVAL);
    EXPECT_EQ(refused([](nic_setup& s) { s.tx_slots = 48; }), EINVAL);
    EXPECT_EQ(refused([](nic_setup& s) { s.rx_slots = 4128; }), EINVAL);
    EXPECT_EQ(refused([](nic_setup& s) { s.mtu = 9000, s.buf_size = 512; }), EINVAL);
    EXPECT_EQ(refused([](nic_setup& s) { s.vectors = {sys::irq_kind::msix, 0, 25, 1, 1}; }), EINVAL);
    EXPECT_EQ(refused([](nic_setup& s) { s.memory = {}; }), ENOMEM);
    bench b(small());
    b.device.refuses = true;
    EXPECT_EQ(b.start().error().code.value(), EIO);
}

TEST(vmxnet3, sends_in_order_for_many_rounds_with_one_doorbell_a_batch) {
    bench b(small());
    ASSERT_TRUE(b.start());
    index_t at = 0;
    unsigned n = 0;
    dice rng(1);
    for (unsigned batch = 0; batch < 500; ++batch) {
        const index_t done = b.tx[0].reclaim();
        ASSERT_EQ(done, at);  // the model sends at once
        const auto before_reads = b.device.reads, before = b.device.doorbells_tx;
        const unsigned k = rng() % 63;
        for (unsigned j = 0; j < k; ++j, at = ring_next(at, 64)) b.put(0, at, frame(n + j, 60 + (n + j) % 1400));
        b.tx[0].publish(at);
        EXPECT_EQ(b.device.doorbells_tx - before, k == 0 ? 0U : 1U);
        EXPECT_EQ(b.device.reads, before_reads);
        ASSERT_EQ(b.device.sent.size(), k);
        for (unsigned j = 0; j < k; ++j, ++n, b.device.sent.pop_front()) ASSERT_EQ(b.device.sent.front(), frame(n, 60 + n % 1400));
    }
    EXPECT_EQ(b.tx_stats.now().dropped(), 0U);
    EXPECT_EQ(b.device.faults + b.device.wrong, 0U);
}

TEST(vmxnet3, slots_that_send_nothing_come_back_with_those_before_them) {
    bench b(small());
    ASSERT_TRUE(b.start());
    b.device.holds_tx = true;
    b.tx[0].publish(3);  // three holes
    EXPECT_EQ(b.device.doorbells_tx, 0U);
    EXPECT_EQ(b.tx[0].reclaim(), 3U);
    b.put(0, 3, frame(1));
    b.put(0, 6, frame(2));
    b.tx[0].publish(9);
    EXPECT_EQ(b.tx[0].reclaim(), 3U);
    b.device.lie_tx(0, 0);  // the first is done
    EXPECT_EQ(b.tx[0].reclaim(), 4U);
    b.device.lie_tx(0, 1);
    EXPECT_EQ(b.tx[0].reclaim(), 9U);
}

TEST(vmxnet3, a_frame_of_several_slots_is_shown_when_it_is_whole) {
    bench b(small());
    ASSERT_TRUE(b.start());
    b.device.holds_tx = true;
    index_t at = 0;
    unsigned n = 0;
    dice rng(2);
    for (unsigned turn = 0; turn < 300; ++turn) {
        const index_t from = at;
        const unsigned parts = 1 + rng() % 16;
        bytes all;
        for (unsigned p = 0; p < parts; ++p, at = ring_next(at, 64)) {
            EXPECT_EQ(b.device.tx_descriptors(0), 0U);
            const bytes part = frame(n++, 20 + rng() % 500);
            b.put(0, at, part, p + 1 == parts);
            all.insert(all.end(), part.begin(), part.end());
            if (p + 1 == parts) break;
        }
        at = ring_next(at, 64);
        EXPECT_EQ(b.device.tx_descriptors(0), parts);
        // Another one begins, and does not end.
        const unsigned undone = rng() % 5;
        index_t open = at;
        for (unsigned p = 0; p < undone; ++p, open = ring_next(open, 64)) b.put(0, open, frame(7), false);
        b.tx[0].publish(at);
        b.device.transmit(0);
        EXPECT_EQ(b.device.wrong, 0U);
        ASSERT_EQ(b.device.sent.size(), 1U);
        ASSERT_EQ(b.device.sent.front(), all);
        b.device.sent.clear();
        b.tx[0].rewind(undone);
        ASSERT_EQ(b.tx[0].reclaim(), at) << from;
    }
    EXPECT_EQ(b.tx_stats.now().dropped(), 0U);
}

TEST(vmxnet3, a_frame_of_more_than_16_parts_is_dropped_and_counted) {
    bench b(small());
    ASSERT_TRUE(b.start());
    for (index_t i = 0; i < 17; ++i) b.put(0, i, frame(i), i == 16);
    b.put(0, 17, frame(99));
    b.tx[0].publish(18);
    ASSERT_EQ(b.device.sent.size(), 1U);
    EXPECT_EQ(b.device.sent.front(), frame(99));
    EXPECT_EQ(b.tx[0].reclaim(), 18U);
    EXPECT_EQ(b.tx_stats.now().dropped(cause::bad_chain), 1U);
}

TEST(vmxnet3, completions_of_what_was_not_sent_are_counted_and_not_believed) {
    bench b(small());
    ASSERT_TRUE(b.start());
    b.device.holds_tx = true;
    for (index_t i = 0; i < 4; ++i) b.put(0, i, frame(i));
    b.put(0, 4, frame(4), false);
    b.tx[0].publish(4);
    for (const std::uint32_t d : {5U, 63U, 64U, 4095U, 4U}) {  // not outstanding, no such descriptor, not the end of a frame
        const auto before = b.tx_stats.now().dropped(cause::bad_idx);
        b.device.lie_tx(0, d);
        EXPECT_EQ(b.tx[0].reclaim(), 0U) << d;
        EXPECT_EQ(b.tx_stats.now().dropped(cause::bad_idx), before + 1);
    }
    b.device.lie_tx(0, 2);
    EXPECT_EQ(b.tx[0].reclaim(), 3U);
    b.device.lie_tx(0, 2);  // again
    EXPECT_EQ(b.tx[0].reclaim(), 3U);
    EXPECT_EQ(b.tx_stats.now().dropped(cause::bad_idx), 6U);
    // All completions say that they are new, all the time.
    b.device.fill_tx(0, 0);
    for (int i = 0; i < 200; ++i) EXPECT_EQ(b.tx[0].reclaim(), 3U);
    EXPECT_LE(b.tx_stats.now().dropped(cause::bad_idx), 206U);
}

TEST(vmxnet3, receives_in_order_for_many_rounds_without_a_register) {
    bench b(small());
    ASSERT_TRUE(b.start());
    const auto before = b.device.reads + b.device.writes;
    index_t at = 0;
    unsigned n = 0;
    dice rng(3);
    for (unsigned batch = 0; batch < 500; ++batch) {
        const unsigned k = rng() % 64;
        for (unsigned j = 0; j < k; ++j) ASSERT_TRUE(b.device.receive(frame(n + j, 60 + (n + j) % 1400)));
        for (unsigned j = 0; j < k; ++j, ++n, at = ring_next(at, 64)) {
            ASSERT_TRUE(b.rx[0].ready(at));
            ASSERT_TRUE(b.rx[0].ready(at));  // looking changes nothing
            const slot s = b.get(at);
            EXPECT_EQ(s.buf_idx, b.rx_buf(0, at));
            EXPECT_EQ(s.flags, 0);
            ASSERT_EQ(b.payload(s), frame(n, 60 + n % 1400));
            if (rng() % 2 == 0 || j + 1 == k) {
                // Given back in runs that end where the reader stands.
                for (index_t i = b.rx[0].newest; (i = ring_next(i, 64)) != ring_next(at, 64);) b.rx[0].give(i, b.rx_buf(0, i));
                b.rx[0].publish(ring_next(at, 64));
            }
        }
        EXPECT_FALSE(b.rx[0].ready(at));
    }
    EXPECT_EQ(b.device.reads + b.device.writes, before);
    EXPECT_EQ(b.rx_stats.now().dropped(), 0U);
    EXPECT_EQ(b.device.faults + b.device.wrong, 0U);
}

TEST(vmxnet3, a_full_ring_loses_frames_and_the_device_counts_them) {
    bench b(small());
    ASSERT_TRUE(b.start());
    for (unsigned i = 0; i < 63; ++i) EXPECT_TRUE(b.device.receive(frame(i)));
    EXPECT_FALSE(b.device.receive(frame(63)));
    for (index_t i = 0; i < 63; ++i) {
        ASSERT_TRUE(b.rx[0].ready(i));
        (void)b.get(i);
    }
    EXPECT_FALSE(b.rx[0].ready(63));
    b.rx[0].give(0, b.rx_buf(0, 0));
    b.rx[0].publish(1);
    EXPECT_TRUE(b.device.receive(frame(64)));
    ASSERT_TRUE(b.rx[0].ready(63));
    EXPECT_EQ(b.payload(b.get(63)), frame(64));
    nic_counters c;
    b.c->add_counters(c);
    EXPECT_EQ(c.rx_missed, 1U);
    EXPECT_EQ(c.rx_frames, 64U);
}

TEST(vmxnet3, a_device_that_wants_to_be_told_of_buffers_is_told_once_a_batch) {
    bench b(small());
    ASSERT_TRUE(b.start());
    b.device.rx_[0].shared->wants_doorbell = 1;
    const auto before = b.device.doorbells_rx;
    for (unsigned i = 0; i < 5; ++i) EXPECT_TRUE(b.device.receive(frame(i)));
    for (index_t i = 0; i < 5; ++i) {
        ASSERT_TRUE(b.rx[0].ready(i));
        (void)b.get(i);
        b.rx[0].give(i, b.rx_buf(0, i));
    }
    b.rx[0].publish(5);
    b.rx[0].publish(5);
    EXPECT_EQ(b.device.doorbells_rx - before, 1U);
    EXPECT_EQ(b.device.rxprod, 4U);  // the first that it has not got
}

// What a slot loop would make of the rings: frames joined from their slots, holes left out.
struct reader {
    bench& b;
    index_t at = 0;
    bytes open{};
    unsigned holes = 0;
    std::vector<bytes> frames{};
    void read(bool give_back = true) {
        while (b.rx[0].ready(at)) {
            const slot s = b.get(at);
            if (s.len == 0) {
                ++holes;
                EXPECT_TRUE(open.empty());
            } else {
                const bytes part = b.payload(s);
                open.insert(open.end(), part.begin(), part.end());
                if ((s.flags & ns_morefrag) == 0) frames.push_back(std::exchange(open, {}));
            }
            if (give_back) b.rx[0].give(at, b.rx_buf(0, at));
            at = ring_next(at, b.setup.rx_slots);
            if (ring_next(at, b.setup.rx_slots) == ring_next(b.rx[0].newest, b.setup.rx_slots) && !give_back) break;
        }
        b.rx[0].publish(at);
    }
};

TEST(vmxnet3, frames_longer_than_a_buffer_take_several_slots) {
    nic_setup s = small(64);
    s.mtu = 9000;  // 5 buffers a frame; 64 is no multiple of it
    bench b(s);
    ASSERT_TRUE(b.start());
    reader r{b};
    dice rng(4);
    std::vector<bytes> expected;
    for (unsigned n = 0; n < 3000; ++n) {
        const std::size_t len = rng() % 3 == 0 ? 60 + rng() % 200 : 60 + rng() % 8959;
        const unsigned k = rng() % 4;
        for (unsigned j = 0; j <= k; ++j) {
            expected.push_back(frame(n + j, len));
            ASSERT_TRUE(b.device.receive(expected.back())) << n;
        }
        r.read();
        ASSERT_EQ(r.frames, expected);
        expected.clear();
        r.frames.clear();
    }
    EXPECT_NE(r.holes, 0U);
    EXPECT_EQ(b.rx_stats.now().dropped(), 0U);
    EXPECT_EQ(b.device.faults + b.device.wrong, 0U);
}

TEST(vmxnet3, a_frame_that_is_too_long_or_finds_no_buffers_is_no_part_of_a_frame) {
    for (const unsigned mtu : {1500U, 9000U}) {
        nic_setup s = small(64);
        s.mtu = mtu;
        bench b(s);
        ASSERT_TRUE(b.start());
        reader r{b};
        EXPECT_FALSE(b.device.receive(frame(1, mtu == 1500 ? 3000 : 12000)));
        r.read();
        EXPECT_TRUE(r.frames.empty());
        EXPECT_TRUE(b.device.receive(frame(2, 1000)));
        r.read();
        ASSERT_EQ(r.frames.size(), 1U);
        EXPECT_EQ(r.frames[0], frame(2, 1000));
        nic_counters c;
        b.c->add_counters(c);
        EXPECT_EQ(c.rx_missed + c.rx_errors, 1U);
        // Until nothing is left, the last one in the middle of a frame.
        unsigned fit = 0;
        while (b.device.receive(frame(fit, mtu == 1500 ? 1500 : 7000))) ++fit;
        r.frames.clear();
        r.read();
        EXPECT_EQ(r.frames.size(), fit);
        EXPECT_TRUE(b.device.receive(frame(5, 1000)));
        r.read();
        EXPECT_EQ(r.frames.back(), frame(5, 1000));
        EXPECT_EQ(b.rx_stats.now().dropped(), 0U);
    }
}

TEST(vmxnet3, the_end_of_a_frame_is_waited_for) {
    nic_setup s = small(64);
    s.mtu = 4000;
    bench b(s);
    ASSERT_TRUE(b.start());
    b.device.lie_rx(0, 0 | abi::comp_sop, 2048);
    EXPECT_FALSE(b.rx[0].ready(0));
    b.device.lie_rx(0, 1 | abi::comp_eop, 10);
    ASSERT_TRUE(b.rx[0].ready(0));
    EXPECT_EQ(b.get(0).flags, ns_morefrag);
    ASSERT_TRUE(b.rx[0].ready(1));
    const slot last = b.get(1);
    EXPECT_EQ(last.len, 10);
    EXPECT_EQ(last.flags, 0);
    EXPECT_FALSE(b.rx[0].ready(2));
}

TEST(vmxnet3, rx_completions_that_cannot_be_are_counted_and_not_believed) {
    constexpr std::uint32_t whole = abi::comp_sop | abi::comp_eop;
    bench b(small());
    ASSERT_TRUE(b.start());
    // No such descriptor, the one that the device has not got, another queue's, ring 2's.
    for (const std::uint32_t w : {64U | whole, 4095U | whole, 63U | whole, whole | 5U << 16, whole | 1U << 16}) {
        const auto before = b.rx_stats.now().dropped(cause::bad_idx);
        b.device.lie_rx(0, w, 60);
        EXPECT_FALSE(b.rx[0].ready(0)) << w;
        EXPECT_EQ(b.rx_stats.now().dropped(cause::bad_idx), before + 1) << w;
    }
    // It goes on after that, with a length that the ring will count.
    b.device.lie_rx(0, whole, 0x3fff);
    ASSERT_TRUE(b.rx[0].ready(0));
    EXPECT_EQ(b.get(0).len, 0x3fff);
    // The same again: not outstanding.
    b.device.lie_rx(0, whole, 60);
    EXPECT_FALSE(b.rx[0].ready(1));
    EXPECT_EQ(b.rx_stats.now().dropped(cause::bad_idx), 6U);
    // No beginning; no end.
    b.device.lie_rx(0, 1U | abi::comp_eop, 60);
    ASSERT_TRUE(b.rx[0].ready(1));
    EXPECT_EQ(b.get(1).len, 0);
    b.device.lie_rx(0, 2U | abi::comp_sop, 60);
    ASSERT_TRUE(b.rx[0].ready(2));
    EXPECT_EQ(b.get(2).len, 0);
    EXPECT_EQ(b.rx_stats.now().dropped(cause::bad_chain), 2U);
    // Descriptors passed over are holes.
    b.device.lie_rx(0, 5U | whole, 77);
    for (index_t i = 3; i < 5; ++i) {
        ASSERT_TRUE(b.rx[0].ready(i));
        EXPECT_EQ(b.get(i).len, 0);
    }
    ASSERT_TRUE(b.rx[0].ready(5));
    EXPECT_EQ(b.get(5).len, 77);
    EXPECT_EQ(b.rx_stats.now().dropped(), 8U);
}

TEST(vmxnet3, completions_that_are_always_new_do_not_hold_up_the_reader) {
    bench b(small());
    ASSERT_TRUE(b.start());
    b.device.fill_rx(0, 4095);
    unsigned looks = 0;
    while (b.rx_stats.now().dropped(cause::bad_idx) < 96) {
        ASSERT_FALSE(b.rx[0].ready(0));
        ASSERT_LT(++looks, 100U);
    }
    EXPECT_GE(looks, 3U);  // each look has a budget
}

TEST(vmxnet3, random_lies_lead_nowhere) {
    dice rng(5);
    for (unsigned run = 0; run < 200; ++run) {
        nic_setup s = small(32);
        s.mtu = rng() % 2 == 0 ? 1500 : 9000;
        bench b(s);
        ASSERT_TRUE(b.start());
        b.device.holds_tx = true;
        index_t at = 0, sent = 0, done = 0;
        for (unsigned n = 0; n < 300; ++n) {
            const std::uint32_t w = rng();
            b.device.lie_rx(0, rng() % 2 == 0 ? w : (w & ~0x3ff0fffU) | (at + rng() % 3) % 32, rng());
            b.device.lie_tx(0, rng() % 2 == 0 ? rng() : (done + rng() % 4) % 32);
            for (unsigned k = 0; k < 40 && b.rx[0].ready(at); ++k) {
                const slot got = b.get(at);
                EXPECT_EQ(got.buf_idx, b.rx_buf(0, at));
                b.rx[0].give(at, got.buf_idx);
                at = ring_next(at, 32);
            }
            b.rx[0].publish(at);
            if (ring_distance(done, sent, 32) < 30) b.put(0, sent, frame(n)), sent = ring_next(sent, 32);
            b.tx[0].publish(sent);
            const index_t now = b.tx[0].reclaim();
            ASSERT_LE(ring_distance(done, now, 32), ring_distance(done, sent, 32));
            done = now;
        }
    }
}

TEST(vmxnet3, a_vector_of_its_own_fires_once_each_time_it_is_asked_for) {
    nic_setup s = small();
    s.vectors = {sys::irq_kind::msix, 0, 1, 2, 2};
    bench b(s);
    b.setup.vectors = s.vectors;
    ASSERT_TRUE(b.start());
    EXPECT_TRUE(b.device.receive(frame(1)));
    EXPECT_EQ(b.device.interrupts[0], 0U);
    b.c->interrupt_rx(0, true);  // what came before is not lost
    EXPECT_EQ(b.device.interrupts[0], 1U);
    EXPECT_TRUE(b.device.receive(frame(2)));
    EXPECT_EQ(b.device.interrupts[0], 1U);
    b.c->interrupt_rx(0, true);
    b.c->interrupt_rx(0, true);
    EXPECT_EQ(b.device.interrupts[0], 2U);
    b.c->interrupt_tx(0, true);
    b.c->interrupt_tx(0, false);
    b.put(0, 0, frame(3));
    b.tx[0].publish(1);
    EXPECT_EQ(b.device.interrupts[1], 0U);
    b.c->interrupt_tx(0, true);
    EXPECT_EQ(b.device.interrupts[1], 1U);
    // The link's is open without being asked for, and after each look.
    for (unsigned i = 1; i <= 2; ++i) {
        b.device.set_link(i == 2);
        EXPECT_EQ(b.device.interrupts[2], i);
        EXPECT_EQ(b.c->link().up, i == 2);
        EXPECT_EQ(b.device.config->ecr, 0U);
    }
    EXPECT_EQ(b.c->link().mbps, 1000U);
}

TEST(vmxnet3, interrupts_asked_for_before_it_runs_are_on_when_it_does) {
    nic_setup s = small();
    s.vectors = {sys::irq_kind::msix, 0, 1, 2, 2};
    bench b(s);
    b.c->interrupt_rx(0, true);
    ASSERT_TRUE(b.start());
    EXPECT_TRUE(b.device.receive(frame(1)));
    EXPECT_EQ(b.device.interrupts[0], 1U);
}

TEST(vmxnet3, a_shared_vector_is_open_while_anybody_wants_it) {
    bench b(small());
    b.device.intx = true;
    ASSERT_TRUE(b.start());
    EXPECT_TRUE(b.device.masked[0]);
    b.c->interrupt_rx(0, true);
    b.c->interrupt_tx(0, true);
    b.c->interrupt_rx(0, false);
    EXPECT_FALSE(b.device.masked[0]);
    b.c->interrupt_tx(0, false);
    EXPECT_TRUE(b.device.masked[0]);
    b.c->interrupt_rx(0, true);
    EXPECT_TRUE(b.device.receive(frame(1)));
    EXPECT_TRUE(b.device.asserted);
    b.c->ack();
    EXPECT_FALSE(b.device.asserted);
    EXPECT_TRUE(b.device.masked[0]);
    b.c->interrupt_rx(0, false);
    b.c->interrupt_rx(0, true);
    EXPECT_FALSE(b.device.masked[0]);
}

TEST(vmxnet3, address_mode_and_counters) {
    bench b(small());
    ASSERT_TRUE(b.c->set_mac({2, 0, 0, 0, 0, 9}));
    EXPECT_EQ(b.c->set_mac({1, 0, 0, 0, 0, 9}).error().code.value(), EINVAL);
    ASSERT_TRUE(b.start());
    EXPECT_EQ(b.device.mac, (mac_address{2, 0, 0, 0, 0, 9}));  // ACTIVATE forgets it
    EXPECT_EQ(b.c->mac(), b.device.mac);
    b.c->set_promiscuous(false);
    EXPECT_EQ(b.device.rx_mode & abi::rx_promiscuous, 0U);
    EXPECT_NE(b.device.rx_mode & abi::rx_unicast, 0U);
    b.c->set_promiscuous(true);
    EXPECT_NE(b.device.rx_mode & abi::rx_promiscuous, 0U);
    for (index_t i = 0; i < 3; ++i) b.put(0, i, frame(i, 100));
    b.tx[0].publish(3);
    EXPECT_TRUE(b.device.receive(frame(0, 70)));
    nic_counters c;
    b.c->add_counters(c);
    b.c->add_counters(c);  // no more since
    EXPECT_EQ(c.tx_frames, 3U);
    EXPECT_EQ(c.tx_bytes, 300U);
    EXPECT_EQ(c.rx_frames, 1U);
    EXPECT_EQ(c.rx_bytes, 70U);
}

TEST(vmxnet3, a_queue_that_the_device_has_stopped_is_a_link_that_is_down) {
    bench b(small());
    ASSERT_TRUE(b.start());
    EXPECT_TRUE(b.c->link().up);
    b.device.tx_[0].shared->status.stopped = 1;
    b.device.config->ecr = abi::event_tx_error;
    EXPECT_FALSE(b.c->link().up);
}

TEST(vmxnet3, after_stop_it_writes_nowhere) {
    bench b(small());
    b.c->stop();  // also before it runs
    ASSERT_TRUE(b.start());
    b.c->interrupt_rx(0, true);
    const auto stats = b.device.faults;
    b.c->stop();
    EXPECT_FALSE(b.device.active);
    EXPECT_FALSE(b.device.master);
    EXPECT_EQ(b.device.shared_at, 0U);
    std::vector<std::byte> before(b.rings->at, b.rings->at + b.rings->size);
    EXPECT_FALSE(b.device.receive(frame(1)));
    b.device.set_link(false);
    b.c->interrupt_rx(0, true);
    EXPECT_EQ(std::memcmp(before.data(), b.rings->at, b.rings->size), 0);
    EXPECT_EQ(b.device.faults, stats);
    b.c->stop();
}

TEST(vmxnet3, several_pairs_are_kept_apart) {
    nic_setup s = small();
    s.rings = 8;
    bench b(s);
    ASSERT_TRUE(b.start());
    for (unsigned q = 0; q < 8; ++q) {
        b.put(q, 0, frame(q));
        b.tx[q].publish(1);
        EXPECT_EQ(b.device.sent_by[q], 1U);
        EXPECT_EQ(b.tx[q].reclaim(), 1U);
        EXPECT_TRUE(b.device.receive(frame(100 + q), q));
        ASSERT_TRUE(b.rx[q].ready(0));
        EXPECT_EQ(b.payload(b.get(0, q)), frame(100 + q));
    }
    // Ring 2 of queue 1 has the number 9, which is nobody's here.
    b.device.lie_rx(1, abi::comp_sop | abi::comp_eop | 9U << 16, 60);
    EXPECT_FALSE(b.rx[1].ready(1));
    EXPECT_EQ(b.rx_stats.now().dropped(cause::bad_idx), 1U);
}

using port = nic<vmxnet3, vmxnet3_model::bar_type>;

/// Queues `b` in as many slots as it needs; false: no room.
bool queue(port& p, const bytes& b) {
    auto& t = p.tx(0);
    const std::size_t size = p.region().buf_size();
    const auto slots = static_cast<index_t>((b.size() + size - 1) / size);
    if (t.space() < slots) return false;
    for (std::size_t at = 0; at < b.size();) {
        slot& s = t.slot(t.head());
        const std::size_t len = std::min(size, b.size() - at);
        std::memcpy(p.region().buf(s.buf_idx), b.data() + at, len);
        at += len;
        s.len = static_cast<std::uint16_t>(len);
        s.flags = at < b.size() ? ns_morefrag : std::uint16_t{0};
        t.advance(1);
    }
    return true;
}

TEST(vmxnet3, as_a_port_what_goes_out_comes_back) {
    for (const unsigned mtu : {1500U, 9000U}) {
        vmxnet3_model device;
        context ctx;
        open_options o;
        o.mtu = mtu;
        o.tx_slots = o.rx_slots = 96;
        auto opened = port::open_on(ctx, vmxnet3_model_bus(device), o);
        ASSERT_TRUE(opened) << opened.error().text;
        port& p = *opened;
        dice rng(6);
        unsigned out = 0, in = 0;
        std::deque<bytes> expected;
        while (in < 3000) {
            while (out - in < 8) {  // what was read is given back by the next rxsync
                const bytes b = frame(out, 60 + rng() % (mtu - 45));
                if (!queue(p, b)) break;
                expected.push_back(b);
                ++out;
            }
            p.tx(0).txsync();
            for (; !device.sent.empty(); device.sent.pop_front()) ASSERT_TRUE(device.receive(device.sent.front()));
            p.rx(0).rxsync();
            for (bytes open; !p.rx(0).empty(); p.rx(0).advance(1)) {
                const slot s = p.rx(0).slot(p.rx(0).head());
                if (s.len == 0) continue;
                const auto* at = reinterpret_cast<const std::uint8_t*>(p.region().buf(s.buf_idx));
                open.insert(open.end(), at, at + s.len);
                if ((s.flags & ns_morefrag) != 0) continue;
                ASSERT_EQ(open, expected.front()) << in;
                expected.pop_front();
                open.clear();
                ++in;
            }
        }
        EXPECT_EQ(p.rx_stats().dropped(), 0U);
        EXPECT_EQ(p.tx_stats().dropped(), 0U);
        EXPECT_EQ(p.tx_stats().frames, out);
        EXPECT_EQ(p.rx_stats().frames, in);
        EXPECT_EQ(p.device_counters().tx_frames, out);
        EXPECT_EQ(device.faults + device.wrong, 0U);
    }
}

TEST(vmxnet3, as_a_port_it_wakes_a_sleeper_and_says_when_the_link_goes) {
    vmxnet3_model device;
    context ctx;
    auto opened = port::open_on(ctx, vmxnet3_model_bus(device));
    ASSERT_TRUE(opened) << opened.error().text;
    port& p = *opened;
    EXPECT_EQ(wait(p, events::rx, std::chrono::milliseconds(1)), events::none);
    p.arm(events::rx);
    pollfd fd{p.fd(), POLLIN, 0};
    EXPECT_EQ(::poll(&fd, 1, 0), 0);
    ASSERT_TRUE(device.receive(frame(1)));
    EXPECT_EQ(::poll(&fd, 1, 0), 1);
    EXPECT_EQ(wait(p, events::rx, std::chrono::milliseconds(0)), events::rx);
    p.rx(0).advance(1);
    EXPECT_EQ(wait(p, events::rx, std::chrono::milliseconds(1)), events::none);
    p.arm(events::rx);
    device.set_link(false);
    EXPECT_EQ(::poll(&fd, 1, 0), 1);
    EXPECT_FALSE(p.status());
}

}  // namespace
