// SPDX-License-Identifier: BSD-2-Clause
// The host's stack as a ring pair: this namespace is the host, its interface na is opened with its own rings and the
// host's, and somebody forwards between the two.

#include <atomic>
#include <cstring>
#include <optional>
#include <poll.h>
#include <stdexcept>
#include <thread>

#include "nm/fuse.hpp"
#include "nm/offload.hpp"
#include "nm/ports/netdev.hpp"
#include "nm/wait.hpp"
#include "sys/netns.hpp"

namespace {

using namespace nm;
using namespace nm::test;
using namespace std::chrono_literals;

const char* const tcp_script = R"py(
import hashlib, os, socket, sys
role, host, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
if role == "serve":  # takes `size` bytes, gives `size` bytes back, says what they were
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((host, 4321)); s.listen(1)
    open(sys.argv[4], "w").close()
    s.settimeout(15); c, _ = s.accept(); c.settimeout(15)
else:
    c = socket.create_connection((host, 4321), 15); c.settimeout(15)
data = hashlib.shake_256(b"nm").digest(size)
got = bytearray()
def take():
    while len(got) < size:
        b = c.recv(1 << 20)
        if not b: break
        got.extend(b)
if role == "serve": take(); c.sendall(data)
else: c.sendall(data); take()
sys.exit(0 if bytes(got) == data else 3)
)py";

const char* const talk_script = R"py(
import socket, sys, time
role, host = sys.argv[1], sys.argv[2]
if role == "serve":
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((host, 4322)); s.listen(1)
    open(sys.argv[3], "w").close()
    c, _ = s.accept()
    while True:
        b = c.recv(100)
        if not b: sys.exit(0)
        c.sendall(b)
c = socket.create_connection((host, 4322), 10); c.settimeout(10)
open(sys.argv[3], "w").close()
import os
for i in range(100000):
    m = b"%08d" % i
    c.sendall(m)
    if c.recv(8) != m: sys.exit(3)
    time.sleep(0.01)
    if os.path.exists(sys.argv[4]): sys.exit(0)
sys.exit(4)
)py";

netdev must_open(context& ctx, const std::string& name, const open_options& o = {}) {
    auto p = try_open<netdev>(ctx, name, o);
    if (!p) throw std::runtime_error(p.error().text);
    return std::move(*p);
}

struct host_rings : netns_test {
    void SetUp() override {
        netns_test::SetUp();
        if (IsSkipped()) return;
        char path[] = "/tmp/nm-host-rings-XXXXXX";
        ASSERT_NE(::mkdtemp(path), nullptr);
        dir = path;
        write("tcp.py", tcp_script);
        write("talk.py", talk_script);
        ASSERT_EQ(run("ip link add na type veth peer name pa"), 0);
        ASSERT_EQ(run("ip link set pa netns " + far.pid()), 0);
        // Nothing but what a test sends, unless it wants IPv6.
        (void)run("sysctl -w net.ipv6.conf.na.disable_ipv6=1");
        (void)far.run("sysctl -w net.ipv6.conf.pa.disable_ipv6=1");
        ASSERT_EQ(run("ip addr add 10.9.0.100/24 dev na"), 0);
        ASSERT_EQ(far.run("ip addr add 10.9.0.1/24 dev pa"), 0);
        ASSERT_EQ(far.run("ip link set lo up"), 0);
        ASSERT_EQ(far.run("ip link set pa up"), 0);
        ASSERT_EQ(run("ip link set na up"), 0);
    }
    void TearDown() override {
        if (!dir.empty()) (void)run("rm -r " + dir);
    }
    void write(const char* name, const char* text) const {
        FILE* f = std::fopen((dir + "/" + name).c_str(), "w");
        ASSERT_NE(f, nullptr);
        std::fputs(text, f);
        std::fclose(f);
    }
    void with_ipv6() const {
        (void)run("sysctl -w net.ipv6.conf.na.disable_ipv6=0");
        (void)far.run("sysctl -w net.ipv6.conf.pa.disable_ipv6=0");
        ASSERT_EQ(run("ip addr add fd00:9::100/64 dev na nodad"), 0);
        ASSERT_EQ(far.run("ip addr add fd00:9::1/64 dev pa nodad"), 0);
    }
    void offloads_off() const {
        ASSERT_EQ(far.run("ethtool -K pa tx off tso off txvlan off"), 0);
    }
    [[nodiscard]] std::string file(const char* name) const { return dir + "/" + name; }
    [[nodiscard]] bool waits_for(const char* name, int ms = 5000) const {
        return eventually([&] { return ::access(file(name).c_str(), F_OK) == 0; }, ms);
    }
    /// The host connects to the far side and the other way round, with bytes both ways, which are looked at.
    void transfer(const std::string& what, const std::string& here = "10.9.0.100", const std::string& there = "10.9.0.1",
                  const std::string& bytes = "8000000") const {
        for (const bool far_serves : {true, false}) {
            (void)run("rm -f " + file("up"));
            const auto serve = "timeout 20 python3 " + file("tcp.py") + " serve " + (far_serves ? there : here) + " " + bytes + " " + file("up");
            const auto get = "timeout 20 python3 " + file("tcp.py") + " get " + (far_serves ? there : here) + " " + bytes;
            int served = -1;
            std::thread server([&] { served = far_serves ? far.run(serve) : run(serve); });
            EXPECT_TRUE(waits_for("up"));
            EXPECT_EQ(far_serves ? run(get) : far.run(get), 0) << what;
            server.join();
            EXPECT_EQ(served, 0) << what;
        }
    }
    void ping(const std::string& what) const {
        for (const auto& text : {output("ping -c20 -i0.01 -W1 10.9.0.1"), far.output("ping -c20 -i0.01 -W1 10.9.0.100")})
            EXPECT_NE(text.find(" 0% packet loss"), std::string::npos) << what << text;
    }
    /// What an echo request to the host looks like on the wire.
    [[nodiscard]] std::string echo_request(std::size_t payload = 20, std::uint16_t sequence = 1) const {
        const auto me = *sys::query_link("na");
        std::string f(reinterpret_cast<const char*>(me.mac.data()), 6);
        f += std::string("\x02\0\0\0\0\x09\x08\x00", 8);
        std::string ip("\x45\0\0\0\0\1\0\0\x40\x01\0\0\x0a\x09\0\x01\x0a\x09\0\x64", 20);
        std::string icmp("\x08\0\0\0\x12\x34\0\0", 8);
        icmp[6] = static_cast<char>(sequence >> 8);
        icmp[7] = static_cast<char>(sequence & 0xff);
        icmp += std::string(payload, 'p');
        const std::size_t len = ip.size() + icmp.size();
        ip[2] = static_cast<char>(len >> 8);
        ip[3] = static_cast<char>(len & 0xff);
        const auto sum = [](std::string& s, std::size_t at) {
            const auto c = checksum{}.add(std::span(reinterpret_cast<const std::uint8_t*>(s.data()), s.size())).value();
            std::memcpy(s.data() + at, &c, 2);
        };
        sum(ip, 10);
        sum(icmp, 2);
        return f + ip + icmp;
    }
    /// The host knows where 10.9.0.1 is without asking.
    void neighbour() const { ASSERT_EQ(run("ip neigh replace 10.9.0.1 lladdr 02:00:00:00:00:09 dev na"), 0); }
    far_side far;
    std::string dir;
};

/// Both ways between two rings, or two handles, in a thread of its own.
template <class Step, class Sleep>
class worker {
public:
    worker(Step step, Sleep sleep) : thread_([this, step, sleep] {
        while (!stop_.load())
            if (step() == 0) sleep();
    }) {}
    worker(const worker&) = delete;
    worker& operator=(const worker&) = delete;
    ~worker() {
        stop_ = true;
        thread_.join();
    }

private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

auto between(netdev& nic, netdev& host) {
    return worker([&nic, &host] { return forward(nic, host, 256) + forward(host, nic, 256); },
                  [&nic, &host] { (void)wait_any(20ms, watch{nic, events::rx}, watch{host, events::rx}); });
}

/// The host ring is the last one of a `*` port.
auto within(netdev& p) {
    return worker([&p] {
        const auto last_rx = p.num_rx_rings() - 1;
        const auto last_tx = p.num_tx_rings() - 1;
        index_t n = forward(p.rx(last_rx), p.tx(0), 256);
        for (index_t i = 0; i < last_rx; ++i) n += forward(p.rx(i), p.tx(last_tx), 256);
        return n;
    }, [&p] { (void)wait(p, events::rx, 20ms); });
}

struct tap_counters {
    sys::link_counters c;
    tap_counters() {
        const auto l = sys::query_link("nmhost0");
        if (l) c = *sys::read_link_counters(l->index);
    }
};

/// At rest: what a ring pair took over is what the kernel has seen, or dropped by name. `v` views host rings only.
/// A frame of the stack's that is cut into complete ones counts as one there.
void expect_host_conserved(netdev& v, bool cut = false) {
    const tap_counters k;
    const auto in = v.rx_stats();
    const auto out = v.tx_stats();
    if (cut) EXPECT_LE(k.c.tx_packets, in.frames + in.dropped() - in.dropped(cause::full)) << "what the stack sent";
    else EXPECT_EQ(k.c.tx_packets, in.frames + in.dropped() - in.dropped(cause::full)) << "what the stack sent";
    EXPECT_EQ(k.c.tx_dropped, in.dropped(cause::full));
    EXPECT_EQ(k.c.rx_packets + k.c.rx_dropped, out.frames - out.dropped()) << "what the stack heard";
}

/// The frames in a ring, as text.
std::vector<std::string> read_all(netdev& p, index_t ring = 0, int ms = 300) {
    std::vector<std::string> frames;
    for (int i = 0; i < ms / 10; ++i) {
        drain(p.rx(ring), 1024, [&](frame& f) noexcept { frames.emplace_back(reinterpret_cast<const char*>(f.data()), f.size()); });
        ::usleep(10'000);
    }
    return frames;
}

void put(tx_ring<netdev_tx>& r, const std::string& bytes, std::uint16_t flags = 0, std::uint64_t ptr = 0) {
    auto& s = r.slot();
    std::memcpy(r.buf(s), bytes.data(), bytes.size());
    s.len = static_cast<std::uint16_t>(bytes.size());
    s.flags = flags;
    s.ptr = ptr;
    r.advance();
}

bool is_echo_reply(const std::string& f) { return f.size() >= 42 && f.substr(12, 2) == std::string("\x08\0", 2) && f[23] == 1 && f[34] == 0; }

std::string mac_of(const char* name) {
    char text[18];
    const auto m = sys::query_link(name)->mac;
    std::snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    return text;
}

unsigned echo_replies(const std::vector<std::string>& frames) {
    unsigned n = 0;
    for (const auto& f : frames) n += is_echo_reply(f) ? 1U : 0U;
    return n;
}

// Nothing of nm's: no TAP, no table, and the interface as before.
::testing::AssertionResult nothing_left() {
    const auto links = output("ip -br link");
    if (links.find("nmhost") != std::string::npos) return ::testing::AssertionFailure() << "a TAP: " << links;
    for (const char* side : {"ingress", "egress"}) {
        const auto filters = output(std::string("tc filter show dev na ") + side);
        if (!filters.empty()) return ::testing::AssertionFailure() << filters;
    }
    return untouched("na");
}

TEST_F(host_rings, two_handles_in_either_order_carry_ping_and_tcp) {
    for (const int round : {0, 1, 2, 3}) {
        const bool host_first = (round & 1) != 0, offloads = (round & 2) != 0;
        context ctx;
        open_options o;
        o.offloads = offloads;
        std::optional<netdev> nic, host;
        for (const bool now_host : {host_first, !host_first}) {
            if (now_host) host = must_open(ctx, "netmap:na^", o);
            else nic = must_open(ctx, "netmap:na", o);
        }
        ASSERT_EQ(nic->mode(), "af_packet");
        EXPECT_EQ(host->mode(), "host");
        EXPECT_EQ(host->name(), "na^");
        EXPECT_EQ(nic->region().base(), host->region().base());
        EXPECT_NE(nic->fd(), host->fd());
        const std::string what = std::string(offloads ? "headers carried" : "complete frames") + (host_first ? ", host first" : "");
        {
            const auto w = between(*nic, *host);
            ping(what);
            transfer(what);
            ::usleep(300'000);
        }
        EXPECT_EQ(nic->tx_stats().dropped(), 0U);
        EXPECT_EQ(host->tx_stats().dropped(), 0U);
        EXPECT_EQ(nic->rx_stats().frames, host->tx_stats().frames);
        EXPECT_EQ(host->rx_stats().frames, nic->tx_stats().frames);
        expect_host_conserved(*host, !offloads);
    }
    EXPECT_TRUE(eventually([] { return nothing_left() == true; })) << nothing_left().message();
}

TEST_F(host_rings, both_in_one_handle) {
    for (const bool xdp : {false, true}) {
        if (xdp) offloads_off();
        context ctx;
        open_options o;
        o.offloads = true;
        auto p = must_open(ctx, "netmap:na*", o);
        EXPECT_EQ(p.mode(), xdp ? "af_xdp copy" : "af_packet") << p.info().reason;
        EXPECT_EQ(p.num_rx_rings(), p.info().rx_rings);
        ASSERT_GE(p.num_tx_rings(), 2U);
        auto host = must_open(ctx, "netmap:na^");
        EXPECT_EQ(&host.rx(0), &p.rx(p.num_rx_rings() - 1));
        EXPECT_EQ(&host.tx(0), &p.tx(p.num_tx_rings() - 1));
        EXPECT_TRUE(host.carries_headers());
        EXPECT_EQ(p.carries_headers(), !xdp);
        // netmap's own structure: its own rings, then the host's.
        auto* nifp = p.nifp();
        EXPECT_EQ(nifp->ni_host_tx_rings, 1U);
        EXPECT_EQ(nifp->ni_host_rx_rings, 1U);
        EXPECT_EQ(nifp->tx_ring(nifp->ni_tx_rings), &host.tx(0).shared());
        EXPECT_EQ(nifp->rx_ring(nifp->ni_rx_rings), &host.rx(0).shared());
        EXPECT_EQ(nifp->rx_ring(0), &p.rx(0).shared());
        {
            const auto w = within(p);
            ping(p.mode());
            transfer(p.mode());
            ::usleep(300'000);
        }
        EXPECT_EQ(p.tx_stats().dropped(), 0U);
        EXPECT_EQ(p.tx_stats().frames, p.rx_stats().frames);
        expect_host_conserved(host, xdp);
    }
}

TEST_F(host_rings, ipv6_too_and_the_tap_is_silent) {
    with_ipv6();
    context ctx;
    {
        auto p = must_open(ctx, "netmap:na*");
        const auto w = within(p);
        EXPECT_TRUE(eventually([&] { return run("ping -6 -c1 -W1 fd00:9::1") == 0; }, 5000));
        EXPECT_EQ(far.run("ping -6 -c5 -i0.01 -W1 fd00:9::100"), 0);
        transfer("IPv6", "fd00:9::100", "fd00:9::1", "1000000");
    }
    // An interface without IPv6 says nothing by itself; nor may the TAP, which is on a host that speaks IPv6.
    (void)run("sysctl -w net.ipv6.conf.na.disable_ipv6=1");
    auto p = must_open(ctx, "netmap:na^");
    EXPECT_EQ(read_all(p, 0, 3000).size(), 0U);
    EXPECT_EQ(output("ip -6 addr show dev nmhost0"), "");
}

TEST_F(host_rings, vlans_of_the_host_go_through_tagged) {
    const auto vlan = [](const std::string& on, const std::string& address) {
        return "ip link add link " + on + " name v5 type vlan id 5 && ip addr add " + address + "/24 dev v5 && ip link set v5 up";
    };
    if (run("ip link add link na name v4 type vlan id 4") != 0) GTEST_SKIP() << "this kernel has no VLAN interfaces (CONFIG_VLAN_8021Q)";
    ASSERT_EQ(run("sh -c '" + vlan("na", "10.9.5.100") + "'"), 0);
    ASSERT_EQ(far.run("sh -c '" + vlan("pa", "10.9.5.1") + "'"), 0);
    for (const bool offloads : {true, false}) {
        context ctx;
        open_options o;
        o.offloads = offloads;
        auto p = must_open(ctx, "netmap:na*", o);
        {
            const auto w = within(p);
            EXPECT_EQ(run("ping -c5 -i0.01 -W1 10.9.5.1"), 0);
            transfer("VLAN", "10.9.5.100", "10.9.5.1", "1000000");
        }
        EXPECT_EQ(p.tx_stats().dropped(), 0U);
    }
}

TEST_F(host_rings, alone_they_are_what_the_host_says_and_hears) {
    neighbour();
    context ctx;
    auto p = must_open(ctx, "netmap:na^");
    EXPECT_EQ(p.num_tx_rings(), 1U);
    EXPECT_EQ(p.num_rx_rings(), 1U);
    const auto index = sys::query_link("na")->index;
    const auto before = *sys::read_link_counters(index);
    // What it is told, it answers; the answer comes here and not to the wire.
    put(p.tx(), echo_request());
    p.tx().txsync();
    EXPECT_EQ(echo_replies(read_all(p)), 1U);
    EXPECT_EQ(sys::read_link_counters(index)->tx_packets, before.tx_packets);
    // The wire it hears all the same.
    ASSERT_EQ(far.send("pa", {echo_request()}), 0);
    EXPECT_EQ(echo_replies(read_all(p)), 1U);
    // Addressed to somebody else, it is nobody's.
    auto other = echo_request();
    other[5] = static_cast<char>(other[5] ^ 0x55);
    put(p.tx(), other);
    p.tx().txsync();
    EXPECT_EQ(echo_replies(read_all(p)), 0U);
    expect_host_conserved(p);
    p.close();
    EXPECT_TRUE(eventually([] { return nothing_left() == true; })) << nothing_left().message();
    EXPECT_EQ(run("ip neigh del 10.9.0.1 dev na"), 0);
    ping("afterwards");
}

TEST_F(host_rings, with_the_wire_open_the_host_hears_only_the_host_ring) {
    neighbour();
    for (const bool off : {false, true}) {
        if (off) offloads_off();
        context ctx;
        auto p = must_open(ctx, "netmap:na*");
        const auto host = p.num_rx_rings() - 1;
        ASSERT_EQ(far.send("pa", {echo_request()}), 0);
        EXPECT_EQ(echo_replies(read_all(p, host)), 0U) << p.mode();
        std::size_t heard = 0;
        for (index_t i = 0; i < host; ++i) heard += read_all(p, i, 50).size();
        EXPECT_EQ(heard, 1U) << p.mode();
        put(p.tx(p.num_tx_rings() - 1), echo_request());
        p.tx(p.num_tx_rings() - 1).txsync();
        EXPECT_EQ(echo_replies(read_all(p, host)), 1U) << p.mode();
        for (index_t i = 0; i < host; ++i) EXPECT_EQ(read_all(p, i, 50).size(), 0U) << "what goes to the host is not heard again";
    }
}

TEST_F(host_rings, marks_of_others_are_not_disturbed) {
    // What reaches the stack through the host ring carries no mark.
    neighbour();
    ASSERT_EQ(run("nft add table ip marks"), 0);
    ASSERT_EQ(run("nft add chain ip marks in '{ type filter hook input priority 0; }'"), 0);
    ASSERT_EQ(run("nft add rule ip marks in meta mark != 0 counter drop"), 0);
    for (const char* name : {"netmap:na^", "netmap:na*"}) {
        context ctx;
        auto p = must_open(ctx, name);
        put(p.tx(p.num_tx_rings() - 1), echo_request());
        p.tx(p.num_tx_rings() - 1).txsync();
        EXPECT_EQ(echo_replies(read_all(p, p.num_rx_rings() - 1)), 1U) << name << output("nft list ruleset");
    }
    ASSERT_EQ(run("nft delete table ip marks"), 0);
}

TEST_F(host_rings, a_connection_survives_open_close_and_kill) {
    std::thread server([&] { (void)far.run("timeout 40 python3 " + file("talk.py") + " serve 10.9.0.1 " + file("up")); });
    ASSERT_TRUE(waits_for("up"));
    int talked = -1;
    std::thread client([&] {
        talked = run("timeout 40 python3 " + file("talk.py") + " talk 10.9.0.1 " + file("talking") + " " + file("enough"));
    });
    EXPECT_TRUE(waits_for("talking"));
    for (int round = 0; round < 2; ++round) {
        context ctx;
        auto nic = must_open(ctx, "netmap:na");
        auto host = must_open(ctx, "netmap:na^");
        const auto w = between(nic, host);
        ::usleep(500'000);
        EXPECT_GT(host.rx_stats().frames, 10U);
    }
    for (int round = 0; round < 3; ++round) {
        int ready[2];
        ASSERT_EQ(::pipe(ready), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            context ctx;
            auto p = try_open<netdev>(ctx, round == 2 ? "netmap:na*@conf:mode=af_xdp" : "netmap:na*");
            if (!p) std::fprintf(stderr, "%s\n", p.error().text.c_str());
            if (::write(ready[1], p ? "y" : "n", 1) != 1 || !p) ::_exit(1);
            const auto w = within(*p);
            ::sleep(20);
            ::_exit(0);
        }
        char ok = 'n';
        ASSERT_EQ(::read(ready[0], &ok, 1), 1);
        EXPECT_EQ(ok, 'y');
        ::usleep(400'000);
        EXPECT_FALSE(nothing_left());
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        ::close(ready[0]);
        ::close(ready[1]);
        EXPECT_TRUE(eventually([] { return nothing_left() == true; })) << nothing_left().message();
    }
    ::usleep(300'000);
    (void)run("touch " + file("enough"));
    client.join();
    server.join();
    EXPECT_EQ(talked, 0) << "the connection broke";
    ping("afterwards");
}

TEST_F(host_rings, nonsense_is_counted_and_the_next_frame_passes) {
    neighbour();
    context ctx;
    auto p = must_open(ctx, "netmap:na^");
    auto& t = p.tx();
    std::uint64_t bad_len = 0;
    const auto rejected = [&](cause c) { return p.tx_stats().dropped(c); };
    const auto next_passes = [&](const char* what) {
        put(t, echo_request());
        t.txsync();
        EXPECT_EQ(echo_replies(read_all(p, 0, 100)), 1U) << what;
    };
    for (std::size_t n = 1; n < 14; ++n) put(t, echo_request().substr(0, n));
    bad_len += 13;
    put(t, std::string(1515, 'x'));  // longer than the MTU
    ++bad_len;
    put(t, "");  // a hole is no frame
    t.slot().len = 0xffff;  // longer than a buffer
    t.advance();
    ++bad_len;
    t.txsync();
    EXPECT_EQ(rejected(cause::bad_len), bad_len);
    next_passes("lengths");

    const auto index = t.slot().buf_idx;
    t.slot().buf_idx = 0xfffffff0U;
    t.slot().len = 60;
    t.advance();
    t.txsync();
    (void)index;
    EXPECT_EQ(rejected(cause::bad_idx), 1U);
    next_passes("buffers");

    for (index_t i = 0; i < 70; ++i) put(t, echo_request(), ns_morefrag);  // a frame that does not end
    put(t, echo_request());
    t.txsync();
    EXPECT_EQ(rejected(cause::bad_chain), 1U);
    next_passes("chains");

    vnet_hdr h{};
    h.flags = vnet_needs_csum;
    h.csum_start = 5000;  // behind the frame's end
    put(t, echo_request(), ns_vnet, pack(h));
    h = {};
    h.gso_type = vnet_gso_tcpv4;  // segments of nothing
    put(t, echo_request(), ns_vnet, pack(h));
    h.gso_type = 7;
    h.gso_size = 100;
    put(t, echo_request(), ns_vnet, pack(h));
    t.txsync();
    EXPECT_EQ(rejected(cause::bad_hdr), 3U);
    h = {};
    h.gso_type = vnet_gso_tcpv4;  // valid as far as it goes: what the kernel thinks of it is the kernel's
    h.flags = vnet_needs_csum;
    h.gso_size = 8;
    h.csum_start = 34;
    h.csum_offset = 16;
    put(t, echo_request(), ns_vnet, pack(h));
    t.txsync();
    (void)read_all(p, 0, 100);
    next_passes("headers");
    EXPECT_EQ(p.tx_stats().dropped() - rejected(cause::bad_len) - rejected(cause::bad_idx) - rejected(cause::bad_chain),
              rejected(cause::bad_hdr));
    expect_host_conserved(p);
}

TEST_F(host_rings, a_full_ring_drops_in_the_kernel_and_counts) {
    neighbour();
    context ctx;
    auto p = must_open(ctx, "netmap:na^@conf:slots=16");
    // UDP that nobody takes: 16 slots here, 2048 frames in the TAP, the rest is dropped.
    ASSERT_EQ(run("timeout 20 python3 -c 'import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                  "for i in range(3000): s.sendto(b\"x\", (\"10.9.0.1\", 9))'"), 0);
    std::uint64_t got = 0;
    for (int idle = 0; idle < 10;) {
        const auto n = drain(p, 64);
        got += n;
        if (n == 0) ++idle, ::usleep(5'000);
    }
    const auto in = p.rx_stats();
    EXPECT_EQ(in.frames, got);
    EXPECT_EQ(got + in.dropped(cause::full), 3000U);
    EXPECT_GE(in.dropped(cause::full), 500U);
    expect_host_conserved(p);
}

TEST_F(host_rings, transparent_mode_forwards_what_is_flagged) {
    neighbour();
    ASSERT_EQ(far.run("ip neigh replace 10.9.0.100 lladdr " + mac_of("na") + " dev pa"), 0);
    for (const bool off : {false, true}) {
        if (off) offloads_off();
        for (const bool all : {false, true}) {
            context ctx;
            open_options o;
            o.transparent = all;
            auto p = must_open(ctx, "netmap:na*", o);
            const auto host = p.num_rx_rings() - 1;
            const auto host_tx = p.num_tx_rings() - 1;
            const auto what = p.mode() + (all ? ", all" : ", flagged");
            // Of four requests, two are flagged; the ring is not transparent yet in the first round.
            for (const bool on : {false, true}) {
                if (on)
                    for (index_t i = 0; i <= host; ++i) p.rx(i).shared().flags |= nr_forward;
                const auto heard_before = p.tx(host_tx).stats().frames;
                const auto sent_before = p.tx(0).stats().frames;
                std::vector<std::string> frames;
                for (std::uint16_t i = 1; i <= 4; ++i) frames.push_back(echo_request(20, i));
                ASSERT_EQ(far.send("pa", frames), 0);
                ::usleep(50'000);
                unsigned seen = 0;
                for (index_t i = 0; i < host; ++i) {
                    auto& r = p.rx(i);
                    for (r.rxsync(); !r.empty(); r.advance(), ++seen)
                        if (seen % 2 == 0) r.slot().flags |= ns_forward;
                    r.rxsync();
                }
                EXPECT_EQ(seen, 4U) << what;
                const auto forwarded = all ? 4U : on ? 2U : 0U;
                EXPECT_EQ(p.tx(host_tx).stats().frames - heard_before, forwarded) << what;
                // The host answers what it heard; and here the first is let through.
                ::usleep(50'000);
                auto& h = p.rx(host);
                unsigned answers = 0;
                for (h.rxsync(); !h.empty(); h.advance()) {
                    const auto& s = h.slot();
                    if (!is_echo_reply({reinterpret_cast<const char*>(h.buf(s)), s.len})) continue;
                    if (answers++ == 0) h.slot().flags |= ns_forward;
                }
                h.rxsync();
                EXPECT_EQ(answers, forwarded) << what;
                EXPECT_EQ(p.tx(0).stats().frames - sent_before, all ? answers : on ? 1U : 0U) << what;
            }
            auto only_host = must_open(ctx, "netmap:na^");
            expect_host_conserved(only_host);
            EXPECT_EQ(p.tx_stats().dropped(), 0U);
        }
    }
}

TEST_F(host_rings, transparent_chains_go_whole_or_not_at_all) {
    context ctx;
    open_options o;
    o.offloads = true;
    o.transparent = true;
    ASSERT_EQ(run("ip link set na mtu 9000"), 0);
    ASSERT_EQ(far.run("ip link set pa mtu 9000"), 0);
    neighbour();
    auto p = must_open(ctx, "netmap:na*@conf:slots=16", o);
    auto& r = p.rx(0);
    auto& host_tx = p.tx(p.num_tx_rings() - 1);
    const auto arrive = [&](std::size_t payload) {
        EXPECT_EQ(far.send("pa", {echo_request(payload)}), 0);
        ::usleep(20'000);
        return r.rxsync();
    };
    const auto slots = arrive(5000);
    ASSERT_EQ(slots, 3U);
    r.advance(slots);
    r.rxsync();
    EXPECT_EQ(host_tx.stats().frames, 1U);
    EXPECT_EQ(host_tx.stats().slots, 3U);
    ::usleep(20'000);
    EXPECT_EQ(echo_replies(read_all(p, p.num_rx_rings() - 1, 100)), 1U);
    EXPECT_EQ(p.rx(p.num_rx_rings() - 1).stats().frames, 1U);
    // Released in two parts: nothing goes on, and it is counted once.
    ASSERT_EQ(arrive(5000), 3U);
    r.advance(1);
    r.rxsync();
    r.advance(2);
    r.rxsync();
    EXPECT_EQ(host_tx.stats().frames, 2U);
    EXPECT_EQ(host_tx.stats().dropped(cause::bad_chain), 1U);
    ASSERT_EQ(arrive(100), 1U);
    r.advance(1);
    r.rxsync();
    EXPECT_EQ(host_tx.stats().frames, 3U);
    EXPECT_EQ(host_tx.stats().dropped(), 1U);
    auto only_host = must_open(ctx, "netmap:na^");
    (void)read_all(only_host, 0, 50);
    expect_host_conserved(only_host);
}

TEST_F(host_rings, a_descriptor_for_each_part_and_one_for_both) {
    neighbour();
    context ctx;
    auto nic = must_open(ctx, "netmap:na");
    auto host = must_open(ctx, "netmap:na^");
    auto both = must_open(ctx, "netmap:na*");
    const auto readable = [](netdev& p, int ms) {
        pollfd f{p.fd(), POLLIN, 0};
        return ::poll(&f, 1, ms) == 1;
    };
    const auto quiet = [&] {
        for (netdev* p : {&nic, &host}) {
            while (any(wait(*p, events::rx, 100ms))) drain(*p, 64);
            (void)p->rx(0).rxsync();
        }
    };
    quiet();
    nic.arm(events::rx);
    host.arm(events::rx);
    EXPECT_FALSE(readable(nic, 0));
    EXPECT_FALSE(readable(host, 0));
    put(host.tx(), echo_request());
    host.tx().txsync();
    EXPECT_TRUE(readable(host, 1000)) << "the host answers";
    EXPECT_FALSE(readable(nic, 20));
    quiet();
    both.arm(events::rx);
    EXPECT_FALSE(readable(both, 20));
    put(host.tx(), echo_request());
    host.tx().txsync();
    EXPECT_TRUE(readable(both, 1000));
    quiet();
    both.arm(events::rx);
    ASSERT_EQ(far.send("pa", {echo_request()}), 0);
    EXPECT_TRUE(readable(both, 1000));
    quiet();
    EXPECT_FALSE(readable(both, 0));
    for (netdev* p : {&nic, &host, &both}) EXPECT_TRUE(p->status());
    ASSERT_EQ(run("ip link set na down"), 0);
    for (netdev* p : {&nic, &host, &both}) {
        EXPECT_TRUE(eventually([&] { return !p->status(); }, 1000)) << p->name();
        EXPECT_EQ(wait(*p, events::rx, 1000ms), events::error) << p->name();
    }
}

TEST_F(host_rings, who_may_open_what) {
    context ctx, other;
    ASSERT_TRUE(query<netdev>(ctx, "netmap:na*"));
    EXPECT_EQ(query<netdev>(ctx, "netmap:na*")->rx_rings, 2U);
    EXPECT_EQ(query<netdev>(ctx, "netmap:na^")->mode, "host");
    auto host = must_open(ctx, "netmap:na^/x");
    EXPECT_TRUE(try_open<netdev>(ctx, "netmap:na")) << "/x is for rings, and these are others";
    for (const char* name : {"netmap:na^", "netmap:na^0", "netmap:na*"}) {
        const auto again = try_open<netdev>(ctx, name);
        ASSERT_FALSE(again) << name;
        EXPECT_EQ(again.error().code.value(), EBUSY) << name;
    }
    const auto elsewhere = try_open<netdev>(other, "netmap:na^");
    ASSERT_FALSE(elsewhere);
    EXPECT_EQ(elsewhere.error().code.value(), EBUSY) << elsewhere.error().text;
    for (const char* name : {"netmap:na^1", "netmap:na^@conf:host-rings=2"}) {
        const auto none = try_open<netdev>(ctx, name);
        ASSERT_FALSE(none) << name;
        EXPECT_EQ(none.error().code.value(), EINVAL) << none.error().text;
    }
    host.close();
    auto sends = must_open(ctx, "netmap:na^/T@conf:host-rings=1");
    EXPECT_EQ(sends.num_rx_rings(), 0U);
    EXPECT_EQ(sends.num_tx_rings(), 1U);
    sends.close();
    EXPECT_TRUE(eventually([] { return nothing_left() == true; })) << nothing_left().message();
}

TEST_F(host_rings, buffers_all_come_back) {
    context ctx;
    auto memory = *ctx.shared_region(3);
    const auto free_before = memory->bufs().available();
    for (int round = 0; round < 3; ++round) {
        auto nic = must_open(ctx, round == 1 ? "netmap:na@3@conf:mode=af_xdp" : "netmap:na@3");
        auto host = must_open(ctx, "netmap:na^@3");
        const auto w = between(nic, host);
        EXPECT_EQ(run("ping -c20 -i0.005 -W1 10.9.0.1"), 0);
    }
    EXPECT_EQ(memory->bufs().available(), free_before);
    // Memory without room, for buffers or for rings, is a sentence.
    for (const std::size_t meta : {std::size_t{4096}, std::size_t{1} << 20}) {
        region_options r;
        r.bufs = 100;
        r.meta_bytes = meta;
        open_options o;
        o.memory = *region::create(r);
        for (const char* name : {"netmap:na^", "netmap:na", "netmap:na*"}) {
            const auto p = try_open<netdev>(ctx, name, o);
            ASSERT_FALSE(p);
            EXPECT_EQ(p.error().code.value(), ENOMEM) << p.error().text;
        }
        EXPECT_EQ(o.memory->bufs().available(), 98U);
    }
    // A part that cannot be opened gives back what it had, and the other goes on.
    {
        auto host = must_open(ctx, "netmap:na^@3");
        const auto free_now = memory->bufs().available();
        EXPECT_FALSE(try_open<netdev>(ctx, "netmap:na@3@conf:mode=zc"));
        EXPECT_EQ(memory->bufs().available(), free_now);
        EXPECT_NE(run("ping -c1 -W1 10.9.0.1"), 0);
        EXPECT_GT(read_all(host).size(), 0U);
    }
    EXPECT_EQ(memory->bufs().available(), free_before);
}

}  // namespace
