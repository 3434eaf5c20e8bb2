// SPDX-License-Identifier: BSD-2-Clause
// Drivers over models of their devices: what they write into registers and descriptors, what comes of it, and what a device
// that lies can do.
#include "nm/fuse.hpp"
#include "nm/ports/e1000.hpp"
#include "nm/ports/ixgbe.hpp"
#include "nm/ports/monitor.hpp"
#include "nm/ports/nic.hpp"
#include "nm/ports/recording_bar.hpp"
#include "nm/ports/sim_bus.hpp"
#include "nm/ports/sim_e1000.hpp"
#include "nm/ports/sim_ixgbe.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "support/nic_rig.hpp"

namespace {

using namespace nm::test;
using nm::sim_lie;

using rec_bus = nm::recording_bus<nm::sim_bus>;

// One kind of device per typed test.
struct e1000_kind {
    using device = nm::e1000;
    using model = nm::sim_e1000;
    static constexpr std::size_t rdt = 0x2818, tdt = 0x3818;
    static std::unique_ptr<model> make() { return std::make_unique<model>(); }
    static constexpr bool msix = true;
};
struct e1000_pci_kind : e1000_kind {
    static std::unique_ptr<model> make() { return std::make_unique<model>(nm::sim_e1000_options{.device = 0x100e}); }
    static constexpr bool msix = false;
};

struct ixgbe_kind {
    using device = nm::ixgbe;
    using model = nm::sim_ixgbe;
    static constexpr std::size_t rdt = 0x1018, tdt = 0x6018;
    static std::unique_ptr<model> make() { return std::make_unique<model>(); }
    static constexpr bool msix = true;
};
struct ixgbe_intx_kind : ixgbe_kind {
    static std::unique_ptr<model> make() {
        auto m = std::make_unique<model>(nm::sim_ixgbe_options{.device = 0x1528});
        m->msix_vectors = 0;
        m->msi_vectors = 0;
        return m;
    }
    static constexpr bool msix = false;
};

template <class Kind>
struct nic_model : testing::Test {
    using rig = nic_rig<typename Kind::device, rec_bus>;
    std::unique_ptr<typename Kind::model> left = Kind::make(), right = Kind::make();
    std::shared_ptr<nm::recorder> record = std::make_shared<nm::recorder>();
    std::unique_ptr<rig> a, b;

    void open(nic_rig_options o = {}) {
        if (!Kind::msix) o.kind = nm::sys::irq_kind::intx;
        left->connect(*right);
        a = std::make_unique<rig>(rec_bus(nm::sim_bus(*left), record), o);
        b = std::make_unique<rig>(rec_bus(nm::sim_bus(*right), record), o);
        record->clear_counts();
    }
    static unsigned tx_vector() { return Kind::msix ? 1 : 0; }
};
using kinds = testing::Types<e1000_kind, e1000_pci_kind, ixgbe_kind, ixgbe_intx_kind>;
TYPED_TEST_SUITE(nic_model, kinds);

TYPED_TEST(nic_model, is_driven_and_is_up) {
    this->open();
    EXPECT_TRUE(TypeParam::device::drives(this->left->ids));
    EXPECT_EQ(this->a->device->mac(), (nm::mac_address{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}));
    EXPECT_TRUE(this->a->device->link().up);
    EXPECT_NE(this->a->device->link().mbps, 0U);
    EXPECT_EQ(this->left->dma.faults, 0U);
}

TYPED_TEST(nic_model, exchanges_numbered_frames_in_order_over_many_wraps) {
    this->open();
    std::uint32_t next = 0, seen = 0;
    std::mt19937 random(1);
    while (next < 5000) {
        const auto batch = random() % 20 + 1;
        for (auto i = batch; i != 0 && this->a->tx_room() != 0; --i) this->a->put(numbered(next++, 20 + random() % 1495));
        this->a->publish();
        for (const auto& f : this->b->frames()) {
            ASSERT_EQ(number_of(f), seen);
            const auto sent = numbered(seen, std::max<std::size_t>(f.size(), 60));
            ASSERT_GE(f.size(), 60U);
            if (f.size() > 60) { ASSERT_EQ(f, sent); }
            ++seen;
        }
    }
    EXPECT_EQ(seen, next);
    EXPECT_EQ(this->left->dma.faults + this->right->dma.faults, 0U);
}

TYPED_TEST(nic_model, one_tail_write_per_batch_and_no_register_is_read) {
    this->open();
    for (int batch = 0; batch < 100; ++batch) {
        for (unsigned i = 0; i < 16; ++i) {
            ASSERT_NE(this->a->tx_room(), 0U);
            this->a->put(numbered(i));
        }
        this->a->publish();
        this->a->publish();  // nothing is new
        nm::slot s{};
        unsigned n = 0;
        while (this->b->take(s)) ++n;
        this->b->release();
        this->b->release();
        ASSERT_EQ(n, 16U);
    }
    EXPECT_EQ(this->record->writes(0), 100U);
    EXPECT_EQ(this->record->writes(0, TypeParam::tdt), 100U);
    EXPECT_EQ(this->record->writes(1), 100U);
    EXPECT_EQ(this->record->writes(1, TypeParam::rdt), 100U);
    EXPECT_EQ(this->record->reads(0) + this->record->reads(1), 0U);
}

TYPED_TEST(nic_model, carries_frames_of_several_buffers) {
    nic_rig_options o;
    o.mtu = 9000;
    this->open(o);
    std::uint32_t sent = 0, seen = 0;
    for (const std::size_t size : {2047U, 2048U, 2049U, 4096U, 4097U, 6000U, 9014U, 60U, 2050U}) {
        for (int k = 0; k < 7; ++k) {
            const auto f = numbered(sent++, size);
            for (std::size_t at = 0; at < f.size(); at += 1500)
                this->a->put(std::span(f).subspan(at, std::min<std::size_t>(1500, f.size() - at)), at + 1500 >= f.size());
            this->a->publish();
            const auto got = this->b->frames();
            ASSERT_EQ(got.size(), 1U) << size;
            ASSERT_EQ(got[0], numbered(seen++, size));
            ASSERT_NE(this->a->tx_room(), 0U);
        }
    }
    EXPECT_EQ(this->left->dma.faults + this->right->dma.faults, 0U);
}

TYPED_TEST(nic_model, counts_what_it_has_no_buffers_for) {
    this->open();
    const unsigned fit = this->b->options.rx_slots - 1;
    unsigned sent = 0;
    for (int round = 0; round < 3; ++round) {
        while (this->a->tx_room() != 0) this->a->put(numbered(sent++));
        this->a->publish();
    }
    ASSERT_GT(sent, fit);
    EXPECT_EQ(this->b->frames().size(), fit);
    nm::nic_counters c;
    this->b->device->add_counters(c);
    EXPECT_EQ(c.rx_missed, sent - fit);
    EXPECT_EQ(c.rx_frames, fit);
    nm::nic_counters t;
    this->a->device->add_counters(t);
    EXPECT_EQ(t.tx_frames, c.rx_frames + c.rx_missed);
    EXPECT_GE(t.tx_bytes, 60U * sent);
    EXPECT_LE(t.tx_bytes, 64U * sent);
    this->a->device->add_counters(t);  // they are cleared by reading
    EXPECT_EQ(t.tx_frames, sent);
}

TYPED_TEST(nic_model, passes_its_own_address_only_when_not_promiscuous) {
    nic_rig_options o;
    o.promiscuous = false;
    this->open(o);
    const auto to = [](const nm::mac_address& m) {
        auto f = numbered(1);
        std::memcpy(f.data(), m.data(), m.size());
        return f;
    };
    const auto arrives = [&](const nm::mac_address& m) {
        this->a->put(to(m));
        this->a->publish();
        return this->b->frames().size();
    };
    const nm::mac_address other{2, 0, 0, 0, 0, 9}, all{255, 255, 255, 255, 255, 255};
    EXPECT_EQ(arrives(this->b->device->mac()), 1U);
    EXPECT_EQ(arrives(other), 0U);
    EXPECT_EQ(arrives(all), 1U);
    ASSERT_TRUE(this->b->device->set_mac(other));
    EXPECT_EQ(arrives(other), 1U);
    this->b->device->set_promiscuous(true);
    EXPECT_EQ(arrives({2, 0, 0, 0, 0, 17}), 1U);
    EXPECT_EQ(arrives({3, 0, 0, 0, 0, 17}), 1U);
    this->b->device->set_promiscuous(false);
    EXPECT_EQ(arrives({2, 0, 0, 0, 0, 17}), 0U);
}

TYPED_TEST(nic_model, interrupts_when_asked) {
    this->open();
    const auto send = [&] {
        this->a->put(numbered(1));
        this->a->publish();
        ASSERT_EQ(this->a->tx_room(), this->a->options.tx_slots - 1);
    };
    const auto seen = [](auto& nic, unsigned v) {
        const auto n = nic.interrupts(v);
        if (!TypeParam::msix) nic.device->ack(), nic.bus.unmask_intx();
        return n;
    };
    (void)seen(*this->b, 0);
    send();
    EXPECT_EQ(seen(*this->b, 0), 0U) << "interrupts are off";
    this->b->device->interrupt_rx(0, true);
    (void)seen(*this->b, 0);  // of the frame before
    this->b->device->interrupt_rx(0, true);
    send();
    EXPECT_EQ(seen(*this->b, 0), 1U);
    this->b->device->interrupt_rx(0, false);
    (void)seen(*this->b, 0);
    send();
    EXPECT_EQ(seen(*this->b, 0), 0U);
    this->a->device->interrupt_tx(0, true);
    (void)seen(*this->a, this->tx_vector());
    this->a->device->interrupt_tx(0, true);
    send();
    EXPECT_EQ(seen(*this->a, this->tx_vector()), 1U);
}

TYPED_TEST(nic_model, says_that_the_link_changed) {
    this->open();
    const unsigned v = TypeParam::msix ? 2 * this->b->options.rings : 0;
    this->b->device->ack();
    (void)this->b->interrupts(v);
    this->b->bus.unmask_intx();
    this->right->set_link(false);
    EXPECT_EQ(this->b->interrupts(v), 1U);
    this->b->device->ack();
    this->b->bus.unmask_intx();
    EXPECT_FALSE(this->b->device->link().up);
    this->a->put(numbered(1));
    this->a->publish();
    EXPECT_TRUE(this->b->frames().empty());
    this->right->set_link(true);
    EXPECT_EQ(this->b->interrupts(v), 1U);
    EXPECT_TRUE(this->b->device->link().up);
    this->a->put(numbered(2));
    this->a->publish();
    EXPECT_EQ(this->b->frames().size(), 1U);
}

TYPED_TEST(nic_model, keeps_interrupts_apart_by_the_time_asked_for) {
    using namespace std::chrono_literals;
    nic_rig_options o;
    o.moderation_ns = 100'000;
    this->open(o);
    unsigned told = 0;
    for (int us = 0; us < 1000; us += 10) {  // a frame every 10 us
        this->b->device->interrupt_rx(0, true);
        this->a->put(numbered(1));
        this->a->publish();
        ASSERT_NE(this->a->tx_room(), 0U);
        told += this->b->interrupts(0) != 0;
        if (!TypeParam::msix) this->b->device->ack(), this->b->bus.unmask_intx();
        ASSERT_EQ(this->b->frames().size(), 1U);
        this->right->step(10us);
    }
    EXPECT_GE(told, 9U);
    EXPECT_LE(told, 11U);
}

// A device reports at the last descriptor of a batch, and where it is asked to.
TYPED_TEST(nic_model, reports_where_it_is_asked_to) {
    this->open();
    this->left->connect(*this->right);
    unsigned arrived = 0;
    this->left->out = [&](std::span<const std::byte>) { ++arrived; };
    auto& q = this->a->tx[0];
    for (unsigned i = 0; i < 6; ++i) {
        this->a->put(numbered(i));
        if (i == 2) q.report(i);
    }
    this->a->publish();
    EXPECT_EQ(arrived, 6U);
    unsigned reports = 0, with = 0;
    for (unsigned i = 0; i < 6; ++i) {
        std::uint64_t word = 0;
        std::memcpy(&word, this->a->rings.data() + 16 * i + 8, 8);
        if ((word >> 32 & 1) != 0) ++reports, with |= 1U << i;
    }
    EXPECT_EQ(with, 1U << 2 | 1U << 5);
    EXPECT_EQ(reports, 2U);
    EXPECT_EQ(q.reclaim(), 6U);
}

TYPED_TEST(nic_model, is_not_harmed_by_a_device_that_lies) {
    for (const sim_lie lie : {sim_lie::long_lengths, sim_lie::no_lengths, sim_lie::no_end, sim_lie::scribble}) {
        this->a.reset(), this->b.reset();
        this->left = TypeParam::make(), this->right = TypeParam::make();
        this->record = std::make_shared<nm::recorder>();
        this->open();
        this->right->lie = lie;
        for (int round = 0; round < 50; ++round) {
            for (unsigned i = 0; i < 8 && this->a->tx_room() != 0; ++i) this->a->put(numbered(i));
            this->a->publish();
            this->right->step();
            nm::slot s{};
            unsigned budget = 100;
            while (--budget != 0 && this->b->take(s)) {
                if (lie == sim_lie::long_lengths) { ASSERT_GT(s.len, this->b->options.buf_size); }
                if (lie == sim_lie::no_lengths) { ASSERT_EQ(s.len, 0U); }
                if (lie == sim_lie::no_end) { ASSERT_NE(s.flags & nm::ns_morefrag, 0); }
            }
            ASSERT_NE(budget, 0U);
            this->b->release();
            ASSERT_LE(this->b->tx_room(), this->b->options.tx_slots);
        }
        if (lie == sim_lie::no_lengths) { EXPECT_GT(this->b->stats[1].now().dropped(nm::cause::bad_len), 0U); }
        EXPECT_EQ(this->right->dma.faults, 0U);
    }
}

TYPED_TEST(nic_model, does_nothing_more_once_stopped) {
    this->open();
    for (unsigned i = 0; i < 5; ++i) this->a->put(numbered(i));
    this->b->device->stop();
    const std::vector<std::byte> before(this->b->rings.data(), this->b->rings.data() + this->b->rings.size());
    this->a->publish();
    this->right->step();
    EXPECT_EQ(std::memcmp(before.data(), this->b->rings.data(), before.size()), 0);
    EXPECT_EQ(this->right->dma.faults, 0U);
}

TYPED_TEST(nic_model, says_that_a_reset_does_not_end) {
    auto m = TypeParam::make();
    m->stuck = true;
    nm::sim_bus bus(*m);
    auto c = TypeParam::device::template control<nm::sim_bus>::open(bus);
    ASSERT_FALSE(c);
    EXPECT_EQ(c.error().code.value(), EIO);
}

// accepted == delivered + drops, with losses of every kind that the model knows.
TYPED_TEST(nic_model, loses_nothing_uncounted) {
    this->open();
    this->right->fifo_bytes = 2000;
    std::mt19937 random(2);
    std::uint64_t sent = 0, got = 0;
    for (int round = 0; round < 500; ++round) {
        for (auto n = random() % 40; n != 0 && this->a->tx_room() != 0; --n) this->a->put(numbered(1)), ++sent;
        this->a->publish();
        if (random() % 3 == 0) got += this->b->frames().size();
    }
    got += this->b->frames().size();
    nm::nic_counters c, t;
    this->b->device->add_counters(c);
    this->a->device->add_counters(t);
    EXPECT_EQ(t.tx_frames, sent);
    EXPECT_GT(c.rx_missed, 0U);
    EXPECT_EQ(sent, got + c.rx_missed);
    EXPECT_EQ(c.rx_frames, got);
}

// QEMU's device counts in another way; what the driver makes of it is the same.
TEST(nic_model_qemu, counts_every_frame_once) {
    auto model = std::make_unique<nm::sim_e1000>(nm::sim_e1000_options{.qemu = true});
    nic_rig<nm::e1000, nm::sim_bus> nic{nm::sim_bus(*model)};
    nm::nic_counters c;
    for (int k = 1; k <= 3; ++k) {
        for (unsigned i = 0; i < 5; ++i) nic.put(numbered(i));
        nic.publish();
        ASSERT_NE(nic.tx_room(), 0U);
        nic.device->add_counters(c);
        EXPECT_EQ(c.tx_frames, 5U * static_cast<unsigned>(k));
        EXPECT_EQ(c.tx_bytes, 300U * static_cast<unsigned>(k));
    }
}

// With IVAR's bit 31 it would write them all back, which costs it a quarter of its rate.
TEST(nic_model_qemu, writes_back_only_what_is_asked_for) {
    auto model = std::make_unique<nm::sim_e1000>(nm::sim_e1000_options{.qemu = true});
    nic_rig<nm::e1000, nm::sim_bus> nic{nm::sim_bus(*model)};
    for (unsigned i = 0; i < 5; ++i) nic.put(numbered(i));
    nic.publish();
    unsigned done = 0;
    for (unsigned i = 0; i < 5; ++i) done |= (std::to_integer<unsigned>(nic.rings.data()[16 * i + 12]) & 1U) << i;
    EXPECT_EQ(done, 1U << 4);
}

// What a NIC sends and receives is there for others to see, as copies and by swapping buffers, and passes all the same.
TYPED_TEST(nic_model, can_be_watched) {
    this->left->connect(*this->right);
    this->left->name = "0000:01:00.0", this->right->name = "0000:02:00.0";
    using port = nm::nic<typename TypeParam::device, nm::sim_bar>;
    nm::context ctx;
    auto one = nm::value_or_throw(port::open_on(ctx, nm::sim_bus(*this->left)));
    auto two = nm::value_or_throw(port::open_on(ctx, nm::sim_bus(*this->right)));
    auto sent = nm::open<nm::monitor>(ctx, "netmap:0000:01:00.0/t");
    auto received = nm::open<nm::monitor>(ctx, "netmap:0000:02:00.0/r");
    auto swapped = nm::open<nm::monitor>(ctx, "netmap:0000:02:00.0/zr");
    std::uint32_t next = 0, of_sent = 0, of_received = 0, of_swapped = 0, arrived = 0;
    const auto in_order = [](auto& from, std::uint32_t& expected) {
        nm::drain(from, 1000, [&expected](nm::frame& f) noexcept {
            EXPECT_EQ(number_of({reinterpret_cast<const std::byte*>(f.data()), f.size()}), expected);
            ++expected;
        });
    };
    for (int round = 0; round < 200; ++round) {
        nm::generate(one, 5, [&next](nm::frame& f) noexcept {
            const auto bytes = numbered(next++);
            std::memcpy(f.data(), bytes.data(), bytes.size());
            f.resize(static_cast<std::uint16_t>(bytes.size()));
        });
        in_order(two, arrived);
        in_order(sent, of_sent);
        in_order(received, of_received);
        in_order(swapped, of_swapped);
    }
    for (int i = 0; i < 3; ++i) in_order(two, arrived), in_order(swapped, of_swapped), in_order(received, of_received);
    EXPECT_EQ(next, 1000U);
    EXPECT_EQ(arrived, 1000U);
    EXPECT_EQ(of_sent, 1000U);
    EXPECT_EQ(of_received, 1000U);
    EXPECT_EQ(of_swapped, 1000U);
}

// As a port: whatever is not special to a NIC is tested elsewhere.
TYPED_TEST(nic_model, is_a_port) {
    this->left->connect(*this->right);
    this->left->name = "0000:01:00.0", this->right->name = "0000:02:00.0";
    using port = nm::nic<typename TypeParam::device, nm::sim_bar>;
    nm::context ctx;
    auto one = port::open_on(ctx, nm::sim_bus(*this->left));
    ASSERT_TRUE(one) << one.error().text;
    auto two = port::open_on(ctx, nm::sim_bus(*this->right));
    ASSERT_TRUE(two) << two.error().text;
    EXPECT_EQ(one->mode(), "model");
    std::uint32_t sent = 0, seen = 0;
    for (int round = 0; round < 1000; ++round) {
        auto& t = one->tx(0);
        for (int k = 0; k < 7 && t.space() != 0; ++k) {
            const auto f = numbered(sent++);
            nm::slot& s = t.slot(t.head());
            std::memcpy(one->region().buf(s.buf_idx), f.data(), f.size());
            s.len = static_cast<std::uint16_t>(f.size());
            t.advance(1);
        }
        t.txsync();
        auto& r = two->rx(0);
        r.rxsync();
        for (; r.space() != 0; r.advance(1)) {
            const nm::slot& s = r.slot(r.head());
            ASSERT_EQ(number_of({two->region().buf(s.buf_idx), s.len}), seen++);
        }
    }
    EXPECT_EQ(sent, seen);
    EXPECT_EQ(sent, 7000U);
    EXPECT_EQ(this->left->dma.faults + this->right->dma.faults, 0U);
    EXPECT_EQ(two->device_counters().rx_frames, sent);
}

// IPv4 and UDP from a to b.
std::vector<std::byte> flow(std::uint32_t a, std::uint32_t b, std::uint16_t from, std::uint16_t to) {
    auto f = numbered(0, 60);
    const std::array<std::uint8_t, 12> ip{0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17};
    std::memcpy(f.data() + 12, ip.data(), ip.size());
    const auto put = [&f](std::size_t at, std::uint32_t v, std::size_t bytes) {
        for (std::size_t i = 0; i < bytes; ++i) f[at + i] = static_cast<std::byte>(v >> 8 * (bytes - 1 - i));
    };
    put(26, a, 4), put(30, b, 4), put(34, from, 2), put(36, to, 2);
    return f;
}

TEST(nic_model_ixgbe, spreads_flows_over_rings_each_with_its_own_interrupt) {
    nm::sim_ixgbe left, right;
    left.connect(right);
    nic_rig_options o;
    o.rings = 16, o.tx_slots = 256, o.rx_slots = 256;
    nic_rig<nm::ixgbe, nm::sim_bus> a{nm::sim_bus(left), o}, b{nm::sim_bus(right), o};
    for (unsigned r = 0; r < o.rings; ++r) b.device->interrupt_rx(r, true);
    std::mt19937 random(3);
    for (unsigned i = 0; i < 200; ++i) {
        const std::uint32_t from = 0x0a000000 + static_cast<std::uint32_t>(random() % 1000), to = 0x0a010000;
        const auto port = static_cast<std::uint16_t>(random());
        const unsigned ring = i % o.rings;
        a.put(flow(from, to, port, 53), true, ring);
        a.publish(ring);
        a.put(flow(to, from, 53, port), true, ring);  // and the way back
        a.publish(ring);
    }
    std::size_t got = 0, used = 0;
    for (unsigned r = 0; r < o.rings; ++r) {
        const auto f = b.frames(r);
        EXPECT_EQ(f.size() % 2, 0U) << "both directions of a flow meet in one ring";
        got += f.size();
        used += !f.empty();
        EXPECT_EQ(b.interrupts(2 * r) != 0, !f.empty()) << r;
    }
    EXPECT_EQ(got, 400U);
    EXPECT_EQ(used, o.rings);
    EXPECT_EQ(left.dma.faults + right.dma.faults, 0U);
}

TEST(nic_model_ixgbe, does_not_hold_up_other_rings_when_one_is_full) {
    nm::sim_ixgbe left, right;
    left.connect(right);
    right.fifo_bytes = 100000;
    nic_rig_options o;
    o.rings = 2;
    nic_rig<nm::ixgbe, nm::sim_bus> a{nm::sim_bus(left), o}, b{nm::sim_bus(right), o};
    std::array<std::uint64_t, 2> got{};
    std::uint64_t sent = 0;
    for (std::uint16_t i = 0; i < 500; ++i, ++sent) {
        ASSERT_NE(a.tx_room(), 0U);
        a.put(flow(1, 2, i, 7));
        a.publish();
        got[1] += b.frames(1).size();
    }
    EXPECT_GT(got[1], 100U) << "ring 0, which nobody reads, is full";
    got[0] = b.frames(0).size();
    nm::nic_counters c;
    b.device->add_counters(c);
    EXPECT_EQ(sent, got[0] + got[1] + c.rx_missed);
}

// 82599 datasheet, 7.2.1: the transmitter does not survive a frame of less than 17 bytes.
TEST(nic_model_ixgbe, is_never_given_frames_that_hang_it) {
    nm::sim_ixgbe left, right;
    left.connect(right);
    left.name = "0000:01:00.0", right.name = "0000:02:00.0";
    nm::context ctx;
    auto one = nm::nic<nm::ixgbe, nm::sim_bar>::open_on(ctx, nm::sim_bus(left));
    auto two = nm::nic<nm::ixgbe, nm::sim_bar>::open_on(ctx, nm::sim_bus(right));
    ASSERT_TRUE(one && two);
    auto& t = one->tx(0);
    for (const std::uint16_t len : std::initializer_list<std::uint16_t>{14, 16, 17, 60}) {
        t.slot(t.head()).len = len;
        t.advance(1);
        t.txsync();
    }
    EXPECT_FALSE(left.hung);
    EXPECT_EQ(one->tx_stats().dropped(nm::cause::bad_len), 2U);
    two->rx(0).rxsync();
    EXPECT_EQ(two->rx(0).space(), 2U);
}

// What a model must not let a driver get away with.
TEST(sim_device, refuses_and_counts_what_is_not_mapped) {
    nm::sim_dma dma;
    std::array<std::byte, 64> memory{};
    const auto at = dma.map(memory.data(), memory.size());
    EXPECT_EQ(dma.reach(at, 1), nullptr) << "the bus does not let the device through";
    dma.enabled = true;
    EXPECT_EQ(dma.reach(at, 64), memory.data());
    EXPECT_EQ(dma.reach(at + 63, 1), memory.data() + 63);
    EXPECT_EQ(dma.faults, 1U);
    EXPECT_EQ(dma.reach(at + 63, 2), nullptr);
    EXPECT_EQ(dma.reach(at - 1, 1), nullptr);
    EXPECT_EQ(dma.reach(~std::uint64_t{0}, 2), nullptr);
    EXPECT_TRUE(dma.unmap(at));
    EXPECT_FALSE(dma.unmap(at));
    EXPECT_EQ(dma.reach(at, 1), nullptr);
    EXPECT_EQ(dma.faults, 5U);
}

TEST(recording_bar, writes_down_what_happened_to_registers_and_memory) {
    nm::sim_e1000 model;
    auto record = std::make_shared<nm::recorder>();
    record->trace(true);
    rec_bus bus(nm::sim_bus(model), record);
    alignas(8) std::array<std::byte, 64> memory{};
    const auto at = *bus.dma_map(memory.data(), memory.size());
    memory[8] = std::byte{0xab};
    const auto bar = *bus.bar(0);
    bar.write<std::uint32_t>(0x5400, 0x11223344);
    EXPECT_EQ(bar.read<std::uint32_t>(0x5400), 0x11223344U);
    EXPECT_EQ(record->writes(0, 0x5400), 1U);
    EXPECT_EQ(record->reads(0, 0x5400), 1U);
    EXPECT_TRUE(bus.dma_unmap(at));
    EXPECT_EQ(record->text(), "device 0 8086 10d3\nmap 0 0 140000000 40\nm 0 8 ab00000000000000\nw 0 5400 4 11223344\nr 0 5400 4 11223344\n"
                              "unmap 0 140000000\n");
}

}  // namespace
