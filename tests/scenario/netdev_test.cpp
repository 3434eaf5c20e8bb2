// SPDX-License-Identifier: BSD-2-Clause

#include <atomic>
#include <cstring>
#include <poll.h>
#include <stdexcept>
#include <thread>

#include "nm/fuse.hpp"
#include "nm/ports/netdev.hpp"
#include "nm/wait.hpp"
#include "sys/netns.hpp"

namespace {

using namespace nm;
using namespace nm::test;
using namespace std::chrono_literals;

/// left[pa] --- [na] this namespace [nb] --- [pb]right
class netdev_scenario : public netns_test {
protected:
    void SetUp() override {
        netns_test::SetUp();
        if (IsSkipped()) return;
        for (std::size_t i = 0; i < 2; ++i) {
            const std::string s = i == 0 ? "a" : "b";
            ASSERT_EQ(run("ip link add n" + s + " type veth peer name p" + s), 0);
            ASSERT_EQ(run("ip link set p" + s + " netns " + far[i].pid()), 0);
            (void)run("sysctl -w net.ipv6.conf.n" + s + ".disable_ipv6=1");
            (void)far[i].run("sysctl -w net.ipv6.conf.p" + s + ".disable_ipv6=1");
            ASSERT_EQ(far[i].run("ip addr add 10.9.0." + std::to_string(i + 1) + "/24 dev p" + s), 0);
            ASSERT_EQ(far[i].run("ip link set lo up"), 0);
            ASSERT_EQ(far[i].run("ip link set p" + s + " up"), 0);
            ASSERT_EQ(run("ip link set n" + s + " up"), 0);
        }
    }
    void offloads_off() {
        ASSERT_EQ(far[0].run("ethtool -K pa tx off tso off txvlan off"), 0);
        ASSERT_EQ(far[1].run("ethtool -K pb tx off tso off txvlan off"), 0);
    }
    void mtu(const std::string& bytes) {
        ASSERT_EQ(far[0].run("ip link set pa mtu " + bytes), 0);
        ASSERT_EQ(far[1].run("ip link set pb mtu " + bytes), 0);
        ASSERT_EQ(run("ip link set na mtu " + bytes), 0);
        ASSERT_EQ(run("ip link set nb mtu " + bytes), 0);
    }
    far_side far[2];
};

netdev must_open(context& ctx, const std::string& name, const open_options& o = {}) {
    auto p = try_open<netdev>(ctx, name, o);
    if (!p) throw std::runtime_error(p.error().text);
    return std::move(*p);
}

open_options in_region(unsigned id, bool offloads = false) {
    open_options o;
    o.mem_id = id;
    o.offloads = offloads;
    return o;
}

/// Forwards both ways in a thread of its own until told to stop.
class forwarder {
public:
    forwarder(netdev& a, netdev& b) : thread_([this, &a, &b] {
        while (!stop_.load()) {
            const auto n = forward(a, b, 256) + forward(b, a, 256);
            if (n == 0) (void)wait_any(20ms, watch{a, events::rx}, watch{b, events::rx});
        }
    }) {}
    forwarder(const forwarder&) = delete;
    forwarder& operator=(const forwarder&) = delete;
    ~forwarder() {
        stop_ = true;
        thread_.join();
    }

private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

/// What the kernel says came in was delivered or dropped by name; what was accepted went out, or likewise.
void expect_conserved(netdev& from, netdev& to) {
    const auto in = from.rx_stats();
    const auto out = to.tx_stats();
    EXPECT_EQ(in.frames, out.frames + in.dropped(cause::policy));
    const auto rx = sys::read_link_counters(from.state().link.index);
    const auto tx = sys::read_link_counters(to.state().link.index);
    ASSERT_TRUE(rx && tx);
    EXPECT_EQ(rx->rx_packets, in.frames + in.dropped()) << from.name() << " " << from.mode();
    EXPECT_EQ(tx->tx_packets, out.frames - out.dropped()) << to.name() << " " << to.mode();
}

double gigabits(const std::string& iperf) {
    const auto end = iperf.rfind("receiver");
    if (end == std::string::npos) return 0;
    const auto line = iperf.rfind('\n', end);
    const auto bytes = iperf.find("Bytes", line);
    double value = 0;
    char unit = 0;
    if (bytes != std::string::npos) (void)std::sscanf(iperf.c_str() + bytes + 5, "%lf %cbits", &value, &unit);
    return unit == 'G' ? value : unit == 'M' ? value / 1000 : 0;
}

void ping_and_tcp(const far_side (&far)[2], const std::string& what) {
    const auto ping = far[0].output("ping -c20 -i0.01 -W1 10.9.0.2");
    EXPECT_NE(ping.find(" 0% packet loss"), std::string::npos) << what << ping;
    std::string text[2];
    for (int reverse = 0; reverse < 2; ++reverse) {
        ASSERT_EQ(far[1].run("iperf3 -s -D -1"), 0);
        ::usleep(200'000);
        text[reverse] = far[0].output(std::string("timeout 10 iperf3 -c 10.9.0.2 -t1") + (reverse != 0 ? " -R" : ""));
        EXPECT_GT(gigabits(text[reverse]), 0.05) << what << text[reverse];
    }
    std::printf("%s: TCP %.2f, back %.2f Gb/s\n", what.c_str(), gigabits(text[0]), gigabits(text[1]));
}

std::string small_frame(char fill = 'x') {
    std::string f(60, fill);
    std::memcpy(f.data(), "\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5", 14);
    return f;
}

TEST_F(netdev_scenario, default_offloads_mean_af_packet_and_it_says_why) {
    context ctx;
    const auto i = query<netdev>(ctx, "netmap:na");
    ASSERT_TRUE(i) << i.error().text;
    EXPECT_EQ(i->mode, "af_packet");
    EXPECT_NE(i->advice.find("ethtool -K pa tx off"), std::string::npos) << i->advice;
    offloads_off();
    const auto j = query<netdev>(ctx, "netmap:na");
    ASSERT_TRUE(j);
    EXPECT_EQ(j->mode, "af_xdp copy") << j->reason;
    EXPECT_FALSE(query<netdev>(ctx, "netmap:nothere"));
}

TEST_F(netdev_scenario, bridge_with_default_offloads_carries_headers) {
    context ctx;
    auto a = must_open(ctx, "netmap:na", in_region(7, true));
    auto b = must_open(ctx, "netmap:nb", in_region(7, true));
    EXPECT_EQ(a.mode(), "af_packet");
    {
        const forwarder f(a, b);
        ping_and_tcp(far, "af_packet, offloads carried");
        ::usleep(300'000);
    }
    expect_conserved(a, b);
    expect_conserved(b, a);
}

TEST_F(netdev_scenario, bridge_with_default_offloads_and_complete_frames) {
    context ctx;
    auto a = must_open(ctx, "netmap:na", in_region(7));
    auto b = must_open(ctx, "netmap:nb", in_region(7));
    EXPECT_EQ(a.mode(), "af_packet");
    const forwarder f(a, b);
    ping_and_tcp(far, "af_packet, complete frames");
}

TEST_F(netdev_scenario, bridge_with_offloads_off_is_af_xdp) {
    offloads_off();
    context ctx;
    auto a = must_open(ctx, "netmap:na", in_region(7));
    auto b = must_open(ctx, "netmap:nb", in_region(7));
    EXPECT_EQ(a.mode(), "af_xdp copy") << a.info().reason;
    {
        const forwarder f(a, b);
        ping_and_tcp(far, "af_xdp copy, one region");
        ::usleep(300'000);
    }
    expect_conserved(a, b);
    expect_conserved(b, a);
}

TEST_F(netdev_scenario, bridge_between_regions_and_modes) {
    offloads_off();
    context ctx;
    auto a = must_open(ctx, "netmap:na");
    auto b = must_open(ctx, "netmap:nb@conf:mode=af_packet");
    EXPECT_EQ(a.mode(), "af_xdp copy");
    EXPECT_EQ(b.mode(), "af_packet");
    {
        const forwarder f(a, b);
        ping_and_tcp(far, "af_xdp to af_packet");
        ::usleep(300'000);
    }
    expect_conserved(a, b);
    expect_conserved(b, a);
}

TEST_F(netdev_scenario, bridge_where_one_side_has_offloads_and_the_other_is_af_xdp) {
    ASSERT_EQ(far[1].run("ethtool -K pb tx off tso off txvlan off"), 0);
    context ctx;
    auto a = must_open(ctx, "netmap:na", in_region(7, true));
    auto b = must_open(ctx, "netmap:nb", in_region(7, true));
    EXPECT_TRUE(a.carries_headers());
    EXPECT_FALSE(b.carries_headers());
    a.deliver_headers(false);
    {
        const forwarder f(a, b);
        ping_and_tcp(far, "af_packet with offloads to af_xdp");
        ::usleep(300'000);
    }
    EXPECT_EQ(b.tx_stats().dropped(cause::bad_hdr), 0U);
    const auto b_in = b.rx_stats();
    EXPECT_EQ(b_in.frames, a.tx_stats().frames);
}

TEST_F(netdev_scenario, jumbo_frames_pass_in_every_mode) {
    mtu("9000");
    for (int round = 0; round < 3; ++round) {
        if (round == 2) offloads_off();
        context ctx;
        auto a = must_open(ctx, "netmap:na", in_region(7, round == 0));
        auto b = must_open(ctx, "netmap:nb", in_region(7, round == 0));
        EXPECT_EQ(a.mode(), round == 2 ? "af_xdp copy" : "af_packet") << a.info().reason;
        {
            const forwarder f(a, b);
            ping_and_tcp(far, "jumbo, " + a.mode() + (round == 0 ? ", offloads carried" : ""));
            EXPECT_EQ(far[0].run("ping -c3 -i0.01 -W1 -s 8972 -M do 10.9.0.2"), 0);
        }
    }
}

TEST_F(netdev_scenario, a_tagged_frame_arrives_tagged) {
    for (const char* conf : {"", "@conf:mode=af_xdp"}) {
        if (*conf != 0) offloads_off();
        context ctx;
        auto p = must_open(ctx, std::string("netmap:na") + conf);
        for (const char* tpid : {"\x81\x00", "\x88\xa8"}) {
            std::string f = small_frame() + small_frame();
            f.replace(12, 6, std::string(tpid, 2) + std::string("\x20\x05\x88\xb5", 4));
            for (int round = 0; round < 3; ++round) {  // from the second on the tag is foreseen
                ASSERT_EQ(far[0].send("pa", {f}), 0);
                bool same = false;
                EXPECT_TRUE(eventually([&] {
                    drain(p, 64, [&](frame& x) noexcept {
                        same |= x.size() == f.size() && std::memcmp(x.data(), f.data(), f.size()) == 0;
                    });
                    return same;
                }, 1000)) << p.mode() << " round " << round;
            }
        }
    }
}

TEST_F(netdev_scenario, the_stack_is_silent_and_comes_back) {
    ASSERT_EQ(run("ip addr add 10.9.0.100/24 dev na"), 0);
    ASSERT_EQ(far[0].run("ping -c1 -W1 10.9.0.100"), 0);
    for (const bool off : {false, true}) {
        if (off) offloads_off();
        context ctx;
        {
            auto p = must_open(ctx, "netmap:na");
            EXPECT_NE(far[0].run("ping -c1 -W1 10.9.0.100"), 0) << p.mode();
            EXPECT_NE(run("ping -c1 -W1 10.9.0.1"), 0) << p.mode();
        }
        EXPECT_TRUE(eventually([&] { return untouched("na") == true; }));
        EXPECT_EQ(far[0].run("ping -c1 -W1 10.9.0.100"), 0);
    }
}

TEST_F(netdev_scenario, link_down_and_mtu_are_errors_within_a_second_and_removal_too) {
    for (const bool off : {false, true}) {
        if (off) offloads_off();
        const auto lose = [&](const std::string& command, const std::string& undo) {
            {
                context ctx;
                auto p = must_open(ctx, "netmap:na");
                EXPECT_TRUE(p.status());
                const auto start = std::chrono::steady_clock::now();
                std::thread later([&] {
                    ::usleep(100'000);
                    (void)run(command);
                });
                events e = events::none;
                while (!any(e & events::error) && std::chrono::steady_clock::now() - start < 3s) {
                    e = wait(p, events::rx, 3000ms);
                    drain(p, 64);
                }
                EXPECT_LT(std::chrono::steady_clock::now() - start, 1100ms) << command << " " << p.mode();
                EXPECT_FALSE(p.status());
                later.join();
            }
            (void)run(undo);
        };
        lose("ip link set na down", "ip link set na up");
        lose("ip link set na mtu 1400", "ip link set na mtu 1500");
    }
    for (const char* mode : {"af_xdp", "af_packet"}) {
        const std::string name = std::strcmp(mode, "af_xdp") == 0 ? "na" : "nb";
        context ctx;
        auto p = must_open(ctx, "netmap:" + name + "@conf:mode=" + mode);
        ASSERT_EQ(run("ip link del " + name), 0);
        EXPECT_TRUE(eventually([&] { return !p.status(); }, 1000));
        generate(p, 8, [](frame& f) noexcept { f.resize(60); });
        drain(p, 8);
    }
}

TEST_F(netdev_scenario, opening_what_cannot_be_opened_says_why) {
    context ctx;
    ASSERT_EQ(run("ip link set na down"), 0);
    auto down = try_open<netdev>(ctx, "netmap:na");
    ASSERT_FALSE(down);
    EXPECT_EQ(down.error().code.value(), ENETDOWN);
    EXPECT_NE(down.error().text.find("ip link set na up"), std::string::npos);
    ASSERT_EQ(run("ip link set na up"), 0);
    EXPECT_FALSE(try_open<netdev>(ctx, "netmap:na-9"));
    EXPECT_FALSE(try_open<netdev>(ctx, "netmap:na@conf:slots=1000000"));
    EXPECT_FALSE(try_open<netdev>(ctx, "netmap:na@conf:mode=zc"));  // a veth has none, and it was required
    EXPECT_FALSE(try_open<netdev>(ctx, "netmap:na^1"));
    EXPECT_FALSE(try_open<netdev>(ctx, "netmap:na*@conf:host-rings=2"));
    EXPECT_TRUE(eventually([&] { return untouched("na") == true; }));
}

TEST_F(netdev_scenario, two_opens_share_a_port_and_x_is_alone) {
    context ctx;
    auto a = must_open(ctx, "netmap:na");
    auto b = must_open(ctx, "netmap:na");
    EXPECT_EQ(&a.tx(0), &b.tx(0));
    EXPECT_FALSE(try_open<netdev>(ctx, "netmap:na/x"));
    a.close();
    b.close();
    auto x = must_open(ctx, "netmap:na/x");
    EXPECT_FALSE(try_open<netdev>(ctx, "netmap:na"));
}

TEST_F(netdev_scenario, a_second_open_that_wants_something_else_is_told_so) {
    context ctx, other;
    auto p = must_open(ctx, "netmap:na");
    ASSERT_EQ(p.mode(), "af_packet");
    for (const char* name : {"netmap:na@conf:mode=af_xdp", "netmap:na@conf:mode=af-xdp-zc", "netmap:na@conf:slots=64"}) {
        const auto r = try_open<netdev>(ctx, name);
        ASSERT_FALSE(r) << name;
        EXPECT_EQ(r.error().code.value(), EBUSY) << r.error().text;
    }
    EXPECT_TRUE(try_open<netdev>(ctx, "netmap:na@conf:mode=af_packet").has_value());
    const auto elsewhere = try_open<netdev>(other, "netmap:na");
    ASSERT_FALSE(elsewhere) << "two sockets would each get every frame";
    EXPECT_EQ(elsewhere.error().code.value(), EBUSY) << elsewhere.error().text;
    p.close();
    EXPECT_TRUE(try_open<netdev>(other, "netmap:na").has_value());
}

TEST_F(netdev_scenario, too_long_is_counted_and_the_next_one_passes) {
    for (const bool off : {false, true}) {
        if (off) offloads_off();
        context ctx;
        auto p = must_open(ctx, "netmap:na");
        const auto before = sys::read_link_counters(p.state().link.index);
        int n = 0;
        generate(p, 5, [&](frame& f) noexcept {
            std::memset(f.data(), 0xff, 60);
            if (++n == 4) std::memcpy(f.data() + 12, "\x81\0\0\x05", 4);  // what is longer by its tag is not too long
            f.resize(n == 3 ? 1515 : n == 4 ? 1518 : 1514);
        });
        EXPECT_TRUE(eventually([&] {
            p.tx(0).txsync();
            return sys::read_link_counters(p.state().link.index)->tx_packets == before->tx_packets + 4;
        })) << p.mode();
        EXPECT_EQ(p.tx_stats().frames, 5U);
        EXPECT_EQ(p.tx_stats().dropped(cause::bad_len), 1U) << p.mode();
        EXPECT_EQ(p.tx_stats().dropped(), 1U);
    }
}

TEST_F(netdev_scenario, buffers_all_come_back_to_a_shared_region) {
    for (const bool off : {false, true}) {
        if (off) offloads_off();
        context ctx;
        auto memory = *ctx.shared_region(3);
        const auto free_before = memory->bufs().available();
        for (int round = 0; round < 3; ++round) {
            auto a = must_open(ctx, "netmap:na@3");
            auto b = must_open(ctx, "netmap:nb@3");
            const forwarder f(a, b);
            EXPECT_EQ(far[0].run("ping -c20 -i0.005 -W1 10.9.0.2"), 0);
        }
        EXPECT_EQ(memory->bufs().available(), free_before);
    }
}

TEST_F(netdev_scenario, two_processes_on_two_queues) {
    ASSERT_EQ(run("ip link add qa numrxqueues 2 numtxqueues 2 type veth peer name qb numrxqueues 2 numtxqueues 2"), 0);
    (void)run("ethtool -L qa rx 2 tx 2");
    (void)run("sysctl -w net.ipv6.conf.qa.disable_ipv6=1 net.ipv6.conf.qb.disable_ipv6=1");
    ASSERT_EQ(run("ip link set qb netns " + far[0].pid()), 0);
    (void)far[0].run("ethtool -L qb rx 2 tx 2");
    (void)far[0].run("sysctl -w net.ipv6.conf.qb.disable_ipv6=1");
    ASSERT_EQ(far[0].run("ip link set qb up"), 0);
    ASSERT_EQ(run("ip link set qa up"), 0);
    for (const bool off : {false, true}) {
        if (off) { ASSERT_EQ(far[0].run("ethtool -K qb tx off tso off txvlan off"), 0); }
        int ready[2];
        ASSERT_EQ(::pipe(ready), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            context ctx;
            auto p = try_open<netdev>(ctx, "netmap:qa-1");
            if (!p) std::fprintf(stderr, "%s\n", p.error().text.c_str());
            if (::write(ready[1], p ? "y" : "n", 1) != 1) ::_exit(1);
            // Says so when frames of its queue arrive.
            for (int i = 0; i < 2000; ++i) {
                if (drain(*p, 1000) != 0) (void)!::write(ready[1], "g", 1);
                ::usleep(1000);
            }
            ::_exit(0);
        }
        char ok = 'n';
        ASSERT_EQ(::read(ready[0], &ok, 1), 1);
        EXPECT_EQ(ok, 'y');
        context ctx;
        auto p = try_open<netdev>(ctx, "netmap:qa-0");
        ASSERT_TRUE(p) << p.error().text;
        EXPECT_EQ(p->mode(), off ? "af_xdp copy" : "af_packet");
        EXPECT_EQ(p->num_rx_rings(), 1U);
        const std::vector<std::string> frames(64, small_frame());
        (void)drain(*p, 1000);
        const auto sent_on = [&](int queue) {
            EXPECT_EQ(far[0].send("qb", frames, queue), 0);
            ::usleep(50'000);
            return drain(*p, 1000);
        };
        EXPECT_EQ(sent_on(0), 64U) << p->mode();
        // Without XDP a veth does not record the queue, and the kernel takes all frames for queue 0's.
        EXPECT_EQ(sent_on(1), off ? 0U : 64U) << p->mode() << ": the other process's queue";
        if (off) {
            pollfd heard{ready[0], POLLIN, 0};
            EXPECT_EQ(::poll(&heard, 1, 1000), 1) << "the other process got nothing";
        }
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        EXPECT_EQ(sent_on(0), 64U) << p->mode() << ": what serves this queue outlives its first owner";
        p->close();
        EXPECT_TRUE(eventually([&] { return untouched("qa") == true; })) << untouched("qa").message();
        ::close(ready[0]);
        ::close(ready[1]);
    }
}

TEST_F(netdev_scenario, kill_leaves_nothing) {
    for (const bool off : {false, true}) {
        if (off) offloads_off();
        int ready[2];
        ASSERT_EQ(::pipe(ready), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            context ctx;
            auto a = must_open(ctx, "netmap:na");
            auto b = must_open(ctx, "netmap:nb");
            if (::write(ready[1], "y", 1) != 1) ::_exit(1);
            for (int i = 0; i < 10'000'000; ++i) (void)(forward(a, b, 256) + forward(b, a, 256));
            ::_exit(0);
        }
        char ok = 'n';
        ASSERT_EQ(::read(ready[0], &ok, 1), 1);
        EXPECT_EQ(far[0].run("ping -c3 -i0.01 -W1 10.9.0.2"), 0);
        EXPECT_FALSE(untouched("na"));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        EXPECT_TRUE(eventually([&] { return untouched("na") && untouched("nb"); })) << untouched("na").message();
        ::close(ready[0]);
        ::close(ready[1]);
    }
}

TEST_F(netdev_scenario, descriptor_is_readable_only_for_work_that_was_asked_for) {
    for (const bool off : {false, true}) {
        if (off) offloads_off();
        context ctx;
        auto p = must_open(ctx, "netmap:na");
        const auto readable = [&](int ms) {
            pollfd f{p.fd(), POLLIN, 0};
            return ::poll(&f, 1, ms) == 1;
        };
        const auto f = small_frame();
        while (any(wait(p, events::rx, 300ms))) drain(p, 64);
        (void)p.rx(0).rxsync();
        EXPECT_FALSE(readable(0)) << p.mode();
        p.arm(events::rx);
        EXPECT_FALSE(readable(50)) << p.mode();
        ASSERT_EQ(far[0].send("pa", {f, f}), 0);
        EXPECT_TRUE(readable(1000)) << p.mode();
        ::usleep(10'000);
        EXPECT_EQ(p.rx(0).rxsync(), 2U);  // disarms
        EXPECT_FALSE(readable(0)) << p.mode();
        p.rx(0).advance();  // one of two consumed
        p.arm(events::rx);
        EXPECT_TRUE(readable(0)) << p.mode() << ": half-consumed ring";
        (void)p.rx(0).rxsync();
        p.rx(0).advance();
        (void)p.rx(0).rxsync();
        p.arm(events::tx);
        EXPECT_TRUE(readable(0)) << p.mode() << ": there is room";
        (void)p.tx(0).txsync();
        EXPECT_FALSE(readable(0)) << p.mode();
        ASSERT_EQ(far[0].send("pa", {f}), 0);
        EXPECT_FALSE(readable(50)) << p.mode() << ": not armed";
        p.arm(events::rx);
        EXPECT_TRUE(readable(0)) << p.mode() << ": came while nobody was armed";
    }
}

// One thread sleeps for frames, another sends on the same port: its sends do not put out the sleeper's light.
TEST_F(netdev_scenario, sending_does_not_disarm_who_waits_to_receive) {
    for (const bool xdp : {false, true}) {
        if (xdp) offloads_off();
        context ctx;
        auto r = must_open(ctx, "netmap:na/R");
        auto t = must_open(ctx, "netmap:na/T");
        EXPECT_EQ(r.mode() == "af_packet", !xdp);
        (void)wait(r, events::rx, 100ms);
        r.arm(events::rx);
        for (int i = 0; i < 3; ++i) {
            EXPECT_EQ(generate(t, 1, [](frame& f) noexcept {
                std::memset(f.data(), 0xff, 60);
                f.resize(60);
            }), 1U);
            t.tx().txsync();
        }
        ASSERT_EQ(far[0].send("pa", {small_frame()}), 0);
        pollfd p{r.fd(), POLLIN, 0};
        EXPECT_EQ(::poll(&p, 1, 2000), 1) << r.mode();
        EXPECT_EQ(wait(r, events::rx, 0ms), events::rx);
    }
}

}  // namespace
