// SPDX-License-Identifier: BSD-2-Clause
// What is the port's part of a NIC, over a device that is a few counters: who sleeps and who is woken, what is left when an open
// fails, whose buffers are whose.
#include "nm/ports/nic.hpp"
#include "nm/ptnet/host.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <poll.h>
#include <random>
#include <set>
#include <thread>

namespace {

using namespace nm;

constexpr unsigned most_rings = 4;

/// The device: frames that have come, by ring, of 60 bytes each; what was sent is gone at once, unless it is held back.
struct fake_device {
    std::atomic<std::uint64_t> arrived[most_rings]{}, sendable[most_rings]{};
    std::atomic<bool> rx_on[most_rings]{}, tx_on[most_rings]{};
    std::atomic<bool> cause{false}, masked{false}, up{true};
    bool hold = false;
    unsigned msix = 0, msi = 0;
    sys::irq_kind kind = sys::irq_kind::intx;
    std::vector<int> fds;
    std::set<std::uint64_t> maps;
    bool master = false, running = false;
    unsigned calls = 0, fail_at = ~0U, stops = 0;
    std::vector<index_t> restored;
    std::atomic<std::uint64_t> missed{0};

    [[nodiscard]] bool fails() { return calls++ == fail_at; }
    [[nodiscard]] bool shared() const { return kind != sys::irq_kind::msix || fds.size() == 1; }
    /// INTx masks itself; a cause stays until it is acknowledged.
    void tell(unsigned vector) {
        if (fds.empty()) return;
        if (kind == sys::irq_kind::intx) {
            cause = true;
            if (masked.exchange(true)) return;
        }
        base::eventfd_signal(fds[shared() ? 0 : vector]);
    }
    void frame(unsigned ring) {
        ++arrived[ring];
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (rx_on[ring].exchange(false)) tell(ring);
    }
    void sent(unsigned ring, std::uint64_t n) {
        sendable[ring] += n;
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (tx_on[ring].exchange(false)) tell(static_cast<unsigned>(fds.size() / 2) + ring);
    }
};

class fake_bus;
struct fake_bar {
    using bus = fake_bus;
    template <class Word>
    [[nodiscard]] Word read(std::size_t) const noexcept { return 0; }
    template <class Word>
    void write(std::size_t, Word) const noexcept {}
    [[nodiscard]] std::size_t size() const noexcept { return 4096; }
};
class fake_bus {
public:
    using bar_type = fake_bar;
    explicit fake_bus(fake_device& d) : d_(&d) {}
    [[nodiscard]] static result<fake_bus> open(const std::string&, sys::vfio_options) {
        if (there == nullptr) return fail(ENODEV, "no device");
        return fake_bus(*there).step(fake_bus(*there));
    }
    static inline fake_device* there = nullptr;
    [[nodiscard]] std::string name() const { return "0000:01:00.0"; }
    [[nodiscard]] static const char* mode() { return "fake"; }
    [[nodiscard]] sys::pci_ids ids() const { return {}; }
    [[nodiscard]] result<fake_bar> bar(unsigned) { return step(fake_bar{}); }
    [[nodiscard]] std::uint32_t config_read(unsigned, unsigned) const { return 0; }
    [[nodiscard]] result<void> bus_master(bool on) {
        if (on && d_->fails()) return fail(EIO, "as the test wants it");
        d_->master = on;
        return {};
    }
    [[nodiscard]] result<void> reset() { return {}; }
    [[nodiscard]] unsigned irq_count(sys::irq_kind k) const { return k == sys::irq_kind::msix ? d_->msix : k == sys::irq_kind::msi ? d_->msi : 1; }
    [[nodiscard]] result<void> set_irqs(sys::irq_kind k, std::span<const int> fds) {
        if (!fds.empty() && d_->fails()) return fail(EIO, "as the test wants it");
        if (fds.size() > irq_count(k)) return fail(EINVAL, "too many");
        d_->kind = k;
        d_->fds.assign(fds.begin(), fds.end());
        return {};
    }
    void unmask_intx() noexcept {
        d_->masked = false;
        if (d_->cause && !d_->masked.exchange(true) && !d_->fds.empty()) base::eventfd_signal(d_->fds[0]);
    }
    [[nodiscard]] result<std::uint64_t> dma_map(void*, std::size_t) {
        const std::uint64_t at = (d_->calls + 1) * 0x100'0000ULL;
        if (auto ok = step(at); !ok) return ok;
        d_->maps.insert(at);
        return at;
    }
    [[nodiscard]] result<void> dma_unmap(std::uint64_t at) {
        if (d_->maps.erase(at) == 0) return fail(EINVAL, "not mapped");
        return {};
    }
    [[nodiscard]] fake_device& device() { return *d_; }

private:
    template <class T>
    [[nodiscard]] result<T> step(T v) {
        if (d_->fails()) return fail(EIO, "as the test wants it");
        return v;
    }
    fake_device* d_;
};

struct fake_tx {
    fake_device* d = nullptr;
    unsigned ring = 0;
    index_t slots = 0;
    live_counters* stats = nullptr;
    index_t published = 0;
    std::uint64_t put_count = 0, told = 0, taken = 0;
    index_t sent = 0;
    void put(index_t, std::uint32_t, std::uint32_t, bool) noexcept { ++put_count; }
    void report(index_t) noexcept {}
    void rewind(index_t k) noexcept { put_count -= k; }
    void publish(index_t i) noexcept {
        published = i;
        if (put_count == told) return;
        const auto n = put_count - told;
        told = put_count;
        if (!d->hold) d->sent(ring, n);
    }
    [[nodiscard]] index_t reclaim() noexcept {
        const auto now = d->sendable[ring].load();
        if (now == told) sent = published;
        else sent = static_cast<index_t>((sent + (now - taken)) % slots);
        taken = now;
        return sent;
    }
};
struct fake_rx {
    fake_device* d = nullptr;
    unsigned ring = 0;
    live_counters* stats = nullptr;
    std::uint64_t got = 0;
    [[nodiscard]] bool ready(index_t) noexcept { return d->arrived[ring].load() != got; }
    void get(index_t, slot& s) noexcept {
        ++got;
        s.len = 60;
        s.flags = 0;
    }
    void give(index_t, std::uint32_t) noexcept {}
    void begin() noexcept {}
    void publish(index_t) noexcept {}
    void restore(slot*, index_t hwcur, index_t hwtail) const noexcept { d->restored = {hwcur, hwtail, d->running ? 1U : 0U}; }
};

struct fake {
    static constexpr const char* name = "fake";
    static constexpr const char* kind_name = "fake";
    [[nodiscard]] static bool drives(const sys::pci_ids&) { return true; }
    template <nic_bus Bus>
    class control {
    public:
        [[nodiscard]] static result<control> open(Bus& bus) {
            if (auto bar = bus.bar(0); !bar) return forward_error(bar);
            return control(bus.device());
        }
        [[nodiscard]] nic_limits limits() const {
            nic_limits l;
            l.max_rings = most_rings;
            return l;
        }
        [[nodiscard]] mac_address mac() const { return {2, 0, 0, 0, 0, 1}; }
        [[nodiscard]] std::size_t ring_memory(const nic_setup&) const { return 4096; }
        [[nodiscard]] result<void> start(const nic_setup& s) {
            setup_ = s;
            if (d_->fails()) return fail(EIO, "as the test wants it");
            return {};
        }
        [[nodiscard]] fake_tx tx(unsigned i) noexcept { return {d_, i, setup_.tx_slots}; }
        [[nodiscard]] fake_rx rx(unsigned i) noexcept { return {d_, i}; }
        [[nodiscard]] result<void> run() {
            if (d_->fails()) return fail(EIO, "as the test wants it");
            d_->running = true;
            return {};
        }
        void stop() noexcept {
            d_->running = false;
            ++d_->stops;
        }
        void interrupt_rx(unsigned i, bool on) noexcept { d_->rx_on[i] = on; }
        void interrupt_tx(unsigned i, bool on) noexcept { d_->tx_on[i] = on; }
        bool ack() noexcept { return d_->kind == sys::irq_kind::intx && d_->cause.exchange(false); }
        [[nodiscard]] nic_link link() noexcept { return {d_->up, 0}; }
        void set_promiscuous(bool) noexcept {}
        [[nodiscard]] result<void> set_mac(const mac_address&) noexcept { return {}; }
        void add_counters(nic_counters& c) noexcept { c.rx_missed += d_->missed.exchange(0); }

    private:
        explicit control(fake_device& d) : d_(&d) {}
        fake_device* d_;
        nic_setup setup_;
    };
};
using port = nic<fake, fake_bar>;

[[nodiscard]] bool readable(int fd, int ms = 0) {
    pollfd p{fd, POLLIN, 0};
    return ::poll(&p, 1, ms) == 1;
}

struct nic_port : testing::TestWithParam<sys::irq_kind> {
    fake_device d;
    context ctx;
    open_options o;

    nic_port() {
        if (GetParam() == sys::irq_kind::msix) d.msix = 16;
        if (GetParam() == sys::irq_kind::msi) d.msi = 1;
        fake_bus::there = &d;
        o.tx_slots = o.rx_slots = 64;
    }
    ~nic_port() override { fake_bus::there = nullptr; }
    [[nodiscard]] port open(const std::string& rings = {}) { return value_or_throw(try_open<port>(ctx, "netmap:0000:01:00.0" + rings, o)); }
    /// Takes what is there, with a sync.
    static unsigned take(port& p, index_t ring = 0) {
        auto& r = p.rx(ring);
        r.rxsync();
        const index_t n = r.space();
        r.advance(n);
        return n;
    }
};
std::string kind_name(const testing::TestParamInfo<sys::irq_kind>& kind) {
    constexpr const char* names[] = {"intx", "msi", "msix"};
    return names[static_cast<unsigned>(kind.param)];
}
INSTANTIATE_TEST_SUITE_P(, nic_port, testing::Values(sys::irq_kind::intx, sys::irq_kind::msi, sys::irq_kind::msix), kind_name);

TEST_P(nic_port, wakes_who_sleeps_for_what_was_armed) {
    auto p = open();
    p.arm(events::rx);
    EXPECT_FALSE(readable(p.fd()));
    d.frame(0);
    EXPECT_TRUE(readable(p.fd()));
    EXPECT_EQ(take(p), 1U);
    EXPECT_FALSE(readable(p.fd())) << "a sync disarms";
    d.frame(0);
    EXPECT_FALSE(readable(p.fd())) << "nobody asked";
    p.arm(events::rx);
    EXPECT_TRUE(readable(p.fd())) << "there already";
    EXPECT_EQ(take(p), 1U);
    p.arm(events::none);
    d.frame(0);
    EXPECT_FALSE(readable(p.fd()));
    EXPECT_EQ(take(p), 1U);
}

TEST_P(nic_port, wakes_a_sender_when_a_slot_comes_back) {
    auto p = open();
    d.hold = true;
    p.tx().txsync();
    const index_t n = p.tx().space();
    for (index_t i = 0; i < n; ++i) p.tx().slot(i).len = 60;
    p.tx().advance(n);
    p.tx().txsync();
    ASSERT_TRUE(p.tx().empty());
    p.arm(events::tx);
    EXPECT_FALSE(readable(p.fd()));
    d.frame(0);
    EXPECT_FALSE(readable(p.fd()));
    d.sent(0, 5);
    EXPECT_TRUE(readable(p.fd()));
    p.tx().txsync();
    EXPECT_EQ(p.tx().space(), 5U);
    EXPECT_FALSE(readable(p.fd()));
}

TEST_P(nic_port, does_not_put_a_sender_to_sleep_who_has_room) {
    auto p = open();
    d.hold = true;
    p.arm(events::tx);
    EXPECT_TRUE(readable(p.fd()));
    const index_t n = p.tx().space();
    for (index_t i = 0; i < n; ++i) p.tx().slot(i).len = 60;
    p.tx().advance(n);
    p.tx().txsync();
    EXPECT_FALSE(readable(p.fd()));
    d.sent(0, 1);
    EXPECT_FALSE(readable(p.fd())) << "nobody asked";
    p.arm(events::tx);
    EXPECT_TRUE(readable(p.fd())) << "it came back before";
}

TEST_P(nic_port, lets_a_device_put_buffers_back_when_it_is_quiet) {
    auto p = open();
    for (int i = 0; i < 3; ++i) d.frame(0);
    p.rx().rxsync();
    p.rx().advance(1);
    p.rx().rxsync();
    p.close();
    EXPECT_EQ(d.restored, (std::vector<index_t>{1, 3, 0}));
}

TEST_P(nic_port, a_ring_that_is_full_wakes_nobody) {
    o.tx_rings = 2;
    auto p = open();
    for (int i = 0; i < 70; ++i) d.frame(0);  // more than it has slots
    p.rx(0).rxsync();
    p.arm(events::rx);
    EXPECT_TRUE(readable(p.fd())) << "he has not looked at them yet";
    p.rx(0).set_cur(p.rx(0).tail());
    p.arm(events::rx);
    EXPECT_FALSE(readable(p.fd())) << "he wants more, and gives nothing back";
    d.frame(0);
    EXPECT_FALSE(readable(p.fd()));
    d.frame(1);
    EXPECT_TRUE(readable(p.fd()));
    EXPECT_EQ(take(p, 1), 1U);
    p.rx(0).set_head(1);
    p.rx(0).rxsync();
    p.rx(0).set_cur(p.rx(0).tail());
    p.rx(0).set_head(p.rx(0).tail());
    p.rx(0).rxsync();
    EXPECT_EQ(p.rx(0).space(), 7U) << "none is lost";
}

TEST_P(nic_port, a_guests_full_ring_does_not_wake_the_host) {
    o.tx_rings = 2;
    ptnet::host_options with;
    with.open = o;
    const std::string name = "netmap:0000:01:00.0";
    auto memory = value_or_throw(ptnet::host_memory::create(value_or_throw(ptnet::memory_for<port>(ctx, name, with))));
    auto s = value_or_throw(ptnet::serve<port>(ctx, memory, name, with));
    memory->directory().port[0].control = 0x100 | static_cast<std::uint32_t>(ptnet::port_control::create);
    EXPECT_TRUE(s->visit());
    for (int i = 0; i < 70; ++i) d.frame(0);
    EXPECT_TRUE(s->visit());
    EXPECT_FALSE(s->visit()) << "the guest gives nothing back";
    EXPECT_TRUE(s->arm());
    EXPECT_FALSE(readable(s->port_fd())) << "the loop would never sleep";
    d.frame(0);
    EXPECT_FALSE(readable(s->port_fd()));
    d.frame(1);
    EXPECT_TRUE(readable(s->port_fd())) << "its other ring is waited for all the same";
    s->disarm();
    EXPECT_TRUE(s->visit());
}

// With one vector for all, whoever takes its signal must not take it from others.
TEST_P(nic_port, a_ring_that_arms_takes_no_wake_up_from_another) {
    o.tx_rings = 2;
    auto a = open("-0"), b = open("-1");
    a.arm(events::rx);
    d.frame(0);
    b.arm(events::rx);
    EXPECT_TRUE(readable(a.fd()));
    EXPECT_EQ(take(a), 1U);
}
TEST_P(nic_port, a_ring_that_syncs_takes_no_wake_up_from_another) {
    o.tx_rings = 2;
    auto a = open("-0"), b = open("-1");
    for (int k = 0; k < 3; ++k) {
        a.arm(events::rx);
        b.arm(events::rx);
        d.frame(1);
        d.frame(0);  // INTx: in the same interrupt
        EXPECT_EQ(take(b), 1U);
        EXPECT_TRUE(readable(a.fd()));
        EXPECT_EQ(take(a), 1U);
    }
    a.arm(events::rx);
    b.arm(events::rx);
    EXPECT_FALSE(readable(a.fd()));
    EXPECT_FALSE(readable(b.fd()));
}
TEST_P(nic_port, directions_opened_apart_take_no_wake_ups_from_each_other) {
    auto r = open("/R"), t = open("/T");
    d.hold = true;
    const index_t n = t.tx().space();
    for (index_t i = 0; i < n; ++i) t.tx().slot(i).len = 60;
    t.tx().advance(n);
    t.tx().txsync();
    t.arm(events::tx);
    r.arm(events::rx);
    d.sent(0, 1);
    EXPECT_EQ(take(r), 0U);
    EXPECT_TRUE(readable(t.fd()));
    t.tx().txsync();
    r.arm(events::rx);
    d.frame(0);
    t.tx().txsync();
    t.arm(events::tx);
    EXPECT_TRUE(readable(r.fd()));
    EXPECT_EQ(take(r), 1U);
}
// A wake-up that is passed on wakes once: who finds nothing does not pass it back.
TEST_P(nic_port, idle_sleepers_leave_each_other_asleep) {
    o.tx_rings = 4;
    std::vector<port> p;
    for (int i = 0; i < 4; ++i) p.push_back(open("-" + std::to_string(i)));
    for (auto& q : p) q.arm(events::rx);
    d.frame(2);
    unsigned wakes = 0, got = 0;
    for (bool any = true; any && wakes < 100;) {
        any = false;
        for (auto& q : p)
            if (readable(q.fd())) {
                any = true;
                ++wakes;
                got += take(q);
                q.arm(events::rx);
            }
    }
    EXPECT_EQ(got, 1U);
    EXPECT_LE(wakes, GetParam() == sys::irq_kind::msix ? 1U : 8U);
}
TEST_P(nic_port, loses_no_frame_and_no_sleeper_with_a_thread_per_ring) {
    o.tx_rings = 4;
    constexpr unsigned frames = 2000;
    std::vector<port> p;
    for (int i = 0; i < 4; ++i) p.push_back(open("-" + std::to_string(i)));
    std::atomic<unsigned> got[4]{}, lost{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 4; ++i)
        threads.emplace_back([&, i] {
            while (got[i] < frames) {
                p[i].tx().txsync();
                if (const unsigned n = take(p[i]); n != 0) {
                    got[i] += n;
                    continue;
                }
                if (!p[i].status()) ++lost;
                p[i].arm(events::rx);
                if (!readable(p[i].fd(), 2000)) {
                    if (d.arrived[i] != got[i]) ++lost;
                    return;
                }
            }
        });
    std::thread device([&] {  // a device is one
        std::minstd_rand random(1);
        for (unsigned sent[4]{}, n = 0; n < 4 * frames;) {
            const unsigned i = random() % 4;
            if (sent[i] == frames || sent[i] - got[i] > 32) {
                std::this_thread::yield();
                if (lost != 0) return;
                continue;
            }
            ++sent[i], ++n;
            d.frame(i);
        }
    });
    for (auto& t : threads) t.join();
    EXPECT_EQ(lost, 0U);
    if (lost != 0) for (auto& g : got) g = frames;
    device.join();
}

TEST_P(nic_port, counts_once_whatever_threads_ask) {
    o.tx_rings = 2;
    auto a = open("-0"), b = open("-1");
    std::vector<std::thread> threads;
    for (port* p : {&a, &b})
        threads.emplace_back([p, this] {
            for (int k = 0; k < 1000; ++k) {
                ++d.missed;
                (void)p->rx_stats();
                (void)p->device_counters();
            }
        });
    for (auto& t : threads) t.join();
    EXPECT_EQ(a.rx_stats().dropped(cause::full), 2000U);
    EXPECT_EQ(b.device_counters().rx_missed, 2000U);
}

TEST_P(nic_port, says_that_the_link_has_gone_to_all_who_sleep) {
    o.tx_rings = 2;
    auto a = open("-0"), b = open("-1");
    ASSERT_TRUE(a.status());
    a.arm(events::rx);
    b.arm(events::rx);
    d.up = false;
    d.tell(4);
    EXPECT_TRUE(readable(a.fd()) && readable(b.fd()));
    a.arm(events::rx);
    EXPECT_FALSE(a.status());
    EXPECT_TRUE(readable(a.fd()) && readable(b.fd()));
}

// Each thing that an open asks of the system fails once: nothing is left, and the next open works.
TEST_P(nic_port, an_open_that_fails_leaves_nothing) {
    region_options r;
    r.bufs = 2048;
    o.memory = *region::create(r);
    const auto bufs = o.memory->bufs().available();
    const auto objects = o.memory->objects().available();
    const auto fds = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); };
    const auto before = fds();
    unsigned step = 0;
    for (;; ++step) {
        d.calls = d.stops = 0;
        d.fail_at = step;
        auto p = try_open<port>(ctx, "netmap:0000:01:00.0", o);
        if (p) break;
        EXPECT_EQ(p.error().text, "as the test wants it");
        EXPECT_TRUE(d.maps.empty() && d.fds.empty() && !d.master && !d.running) << step;
        EXPECT_EQ(o.memory->bufs().available(), bufs) << step;
        EXPECT_EQ(o.memory->objects().available(), objects) << step;
        EXPECT_EQ(fds(), before) << step;
        if (step >= 2) { EXPECT_EQ(d.stops, 1U) << step; }
        d.fail_at = ~0U;
        ASSERT_TRUE(try_open<port>(ctx, "netmap:0000:01:00.0", o)) << step;
    }
    EXPECT_EQ(step, 8U);  // bus, BAR, two mappings, interrupts, bus master, start, run
    EXPECT_EQ(o.memory->bufs().available(), bufs);
    EXPECT_EQ(fds(), before);
    EXPECT_TRUE(d.maps.empty() && d.fds.empty() && !d.master && !d.running);
}

TEST_P(nic_port, keeps_rings_apart_by_x) {
    o.tx_rings = 2;
    auto a = open("-0/x");
    EXPECT_FALSE(try_open<port>(ctx, "netmap:0000:01:00.0", o));
    EXPECT_FALSE(try_open<port>(ctx, "netmap:0000:01:00.0-0", o));
    EXPECT_FALSE(try_open<port>(ctx, "netmap:0000:01:00.0-2", o));
    auto b = open("-1/x");
    d.frame(1);
    EXPECT_EQ(take(b), 1U);
    a.close();
    EXPECT_TRUE(try_open<port>(ctx, "netmap:0000:01:00.0-0", o));
}

}  // namespace
