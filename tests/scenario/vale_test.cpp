// SPDX-License-Identifier: BSD-2-Clause
// A switch in this process and four namespaces on it, each with a kernel's stack of its own:
//   f0[p0] --- [v0] this namespace, vale0: v0 v1 v2 v3 [v3] --- [p3]f3       10.7.0.1 to 10.7.0.4, fd00:7::1 to fd00:7::4

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <list>
#include <poll.h>
#include <stdexcept>
#include <thread>
#include <unistd.h>

#include "nm/ports/netdev.hpp"
#include "nm/vale/switch.hpp"
#include "sys/netns.hpp"

namespace {

using namespace nm;
using namespace nm::test;
using vale::vale_switch;
using member = vale::bwrap<netdev>;

// serve: takes SIZE bytes from each of COUNT clients, gives SIZE bytes back. Both sides look at every byte.
const char* const tcp_script = R"py(
import hashlib, socket, sys, threading
role, host, size, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
data = hashlib.shake_256(b"nm").digest(size)
bad = []
def talk(c, first):
    c.settimeout(20)
    got = hashlib.sha256()
    def send(): c.sendall(data)
    def take():
        left = size
        while left:
            b = c.recv(min(left, 1 << 20))
            if not b: break
            got.update(b); left -= len(b)
    for step in (send, take) if first else (take, send): step()
    if got.digest() != hashlib.sha256(data).digest(): bad.append(1)
if role == "serve":
    s = socket.create_server((host, 4321), family=family)
    open(sys.argv[5], "w").close()
    s.settimeout(20)
    threads = [threading.Thread(target=talk, args=(s.accept()[0], False)) for _ in range(int(last))]
    for t in threads: t.start()
    for t in threads: t.join()
else:
    talk(socket.create_connection((host, 4321), 20), True)
sys.exit(3 if bad else 0)
)py";

/// A switch and the thread that moves its members' frames, as a program would.
class running_switch {
public:
    explicit running_switch(const std::vector<std::string>& interfaces, const std::string& with_host = {}, std::uint64_t storm = 10'000'000) {
        open_options o;
        o.storm_copies = storm;
        for (const auto& name : interfaces) add(sw.try_attach<netdev>(name, false, o));
        if (!with_host.empty()) add(sw.try_attach<netdev>(with_host, true, o));
        thread_ = std::thread([this] { run(); });
    }
    running_switch(const running_switch&) = delete;
    running_switch& operator=(const running_switch&) = delete;
    ~running_switch() { stop(); }

    void stop() {
        if (!thread_.joinable()) return;
        stop_ = true;
        thread_.join();
        for (int i = 0; i < 4; ++i)
            for (auto& m : members) m.poll(4096);
    }
    /// All members' own frames that went to several ports, so far.
    [[nodiscard]] std::uint64_t floods() const {
        std::uint64_t n = 0;
        for (const auto& p : sw.ports()) n += p.floods;
        return n;
    }

    context ctx;
    vale_switch<> sw{ctx, "vale0"};
    std::list<member> members;

private:
    void add(result<std::vector<member>> made) {
        if (!made) throw std::runtime_error(made.error().text);
        for (auto& m : *made) members.push_back(std::move(m));
    }
    void run() {
        std::vector<pollfd> fds;
        while (!stop_) {
            index_t n = 0;
            for (auto& m : members) n += m.poll();
            if (n != 0) continue;
            fds.clear();
            for (auto& m : members)
                if (m.status()) {
                    m.arm();
                    fds.push_back({m.fd(), POLLIN, 0});
                }
            (void)::poll(fds.data(), fds.size(), 20);
        }
    }
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

struct vale_scenario : netns_test {
    static constexpr std::size_t sides = 4;
    static constexpr const char* host_address = "10.7.0.100";

    void SetUp() override {
        netns_test::SetUp();
        if (IsSkipped()) return;
        char path[] = "/tmp/nm-vale-XXXXXX";
        ASSERT_NE(::mkdtemp(path), nullptr);
        dir = path;
        FILE* f = std::fopen(file("tcp.py").c_str(), "w");
        ASSERT_NE(f, nullptr);
        std::fputs(tcp_script, f);
        std::fclose(f);
        for (std::size_t i = 0; i < sides; ++i) {
            ASSERT_EQ(run("ip link add " + here(i) + " type veth peer name " + there(i)), 0);
            ASSERT_EQ(run("ip link set " + there(i) + " netns " + far[i].pid()), 0);
            // Nothing is sent before the switch is there, so that the kernel's counters are about what it has seen.
            (void)run("sysctl -w net.ipv6.conf." + here(i) + ".disable_ipv6=1");
            (void)far[i].run("sysctl -w net.ipv6.conf." + there(i) + ".disable_ipv6=1");
            ASSERT_EQ(far[i].run("ip addr add " + address(i) + "/24 dev " + there(i)), 0);
            ASSERT_EQ(far[i].run("ip link set lo up"), 0);
            ASSERT_EQ(far[i].run("ip link set " + there(i) + " up"), 0);
            ASSERT_EQ(run("ip link set " + here(i) + " up"), 0);
        }
    }
    void TearDown() override {
        if (!dir.empty()) (void)run("rm -r " + dir);
    }
    static std::string here(std::size_t i) { return "v" + std::to_string(i); }
    static std::string there(std::size_t i) { return "p" + std::to_string(i); }
    static std::string address(std::size_t i) { return "10.7.0." + std::to_string(i + 1); }
    static std::string address6(std::size_t i) { return "fd00:7::" + std::to_string(i + 1); }
    static std::vector<std::string> interfaces(std::size_t n = sides) {
        std::vector<std::string> all;
        for (std::size_t i = 0; i < n; ++i) all.push_back(here(i));
        return all;
    }
    [[nodiscard]] std::string file(const std::string& name) const { return dir + "/" + name; }
    void with_ipv6() const {
        for (std::size_t i = 0; i < sides; ++i) {
            (void)far[i].run("sysctl -w net.ipv6.conf." + there(i) + ".disable_ipv6=0");
            ASSERT_EQ(far[i].run("ip addr add " + address6(i) + "/64 dev " + there(i) + " nodad"), 0);
        }
    }
    void offloads(std::size_t i, const std::string& what) const { ASSERT_EQ(far[i].run("ethtool -K " + there(i) + " " + what), 0); }

    /// Each side reaches each other one.
    void ping_all(const std::string& what) const {
        for (std::size_t i = 0; i < sides; ++i) {
            std::string all = "true";
            for (std::size_t k = 0; k < sides; ++k) {
                if (k == i) continue;
                all += " && ping -q -c5 -i0.01 -W2 " + address(k) + " && ping -6 -q -c5 -i0.01 -W2 " + address6(k);
            }
            EXPECT_EQ(far[i].run("sh -c '" + all + "'"), 0) << what << " from side " << i;
        }
    }
    [[nodiscard]] static bool pings(const far_side& from, const std::string& to, int tries = 5) {
        for (; tries != 0; --tries)
            if (from.run("ping -q -c3 -i0.05 -W1 " + to) == 0) return true;
        return false;
    }
    /// Each of `clients` (-1: the host) connects to `server` at the same time, and bytes go both ways.
    void transfer(const std::string& what, int server, const std::string& to, const std::vector<int>& clients,
                  const std::string& bytes = "2000000") const {
        const auto on = [this](int side, const std::string& command) {
            return side < 0 ? run(command) : far[static_cast<std::size_t>(side)].run(command);
        };
        const std::string script = "timeout 30 python3 " + file("tcp.py");
        const std::string up = file("up" + std::to_string(++transfers));
        int served = -1;
        std::thread s([&] { served = on(server, script + " serve " + to + " " + bytes + " " + std::to_string(clients.size()) + " " + up); });
        EXPECT_TRUE(eventually([&] { return ::access(up.c_str(), F_OK) == 0; }, 10'000));
        std::vector<std::thread> all;
        std::atomic<int> failed{0};
        for (const int c : clients)
            all.emplace_back([&, c] { failed += on(c, script + " get " + to + " " + bytes + " -") != 0 ? 1 : 0; });
        for (auto& t : all) t.join();
        s.join();
        EXPECT_EQ(failed, 0) << what << ": connections to " << to;
        EXPECT_EQ(served, 0) << what << ": " << to;
    }
    void transfer_all(const std::string& what) const {
        transfer(what, 0, address(0), {1, 2, 3});
        transfer(what, 1, address6(1), {2, 3});
        transfer(what, 2, address(2), {3});
    }
    /// The end of every test: when all is quiet, the switch, its members and the kernel agree on how many frames there were.
    void expect_conserved(running_switch& s) const {
        for (std::size_t i = 0; i < sides; ++i) (void)far[i].run("ip link set " + there(i) + " down");
        // A storm may have left a lot in the sockets.
        for (std::uint64_t before = 0, now = 1; before != now; now = s.sw.stats().accepted) {
            before = s.sw.stats().accepted;
            ::usleep(100'000);
        }
        s.stop();
        const auto sum = s.sw.stats();
        EXPECT_TRUE(sum.conserved()) << sum.accepted << " + " << sum.replicas << " != " << sum.delivered << " + " << sum.dropped();
        EXPECT_GT(sum.delivered, 0U);
        for (auto& m : s.members) {
            const auto in = m.port().rx_stats(), out = m.port().tx_stats();
            EXPECT_EQ(in.frames, m.on_switch().tx_stats().frames) << m.name();
            EXPECT_EQ(out.frames, m.on_switch().rx_stats().frames) << m.name();
            const auto kernel = m.port().kernel_counters();
            if (!kernel) continue;
            // The TAP to the host counts what it has no room for beside what it takes, an interface the same among it.
            const bool host = m.port().mode() == "host";
            EXPECT_EQ(kernel->rx_packets + (host ? kernel->rx_dropped : 0), in.frames + in.dropped()) << m.name() << " " << m.port().mode();
            EXPECT_EQ(kernel->tx_packets + (host ? kernel->tx_dropped : 0), out.frames - out.dropped()) << m.name() << " " << m.port().mode();
        }
    }
    [[nodiscard]] std::uint64_t heard(std::size_t side) const {
        return std::stoull("0" + far[side].output("awk '/" + there(side) + ":/ { print $3 }' /proc/net/dev"));
    }

    std::array<far_side, sides> far;
    std::string dir;
    mutable int transfers = 0;
};

::testing::AssertionResult nothing_left(const std::vector<std::string>& names) {
    const auto links = output("ip -br link");
    if (links.find("nmhost") != std::string::npos) return ::testing::AssertionFailure() << "a TAP: " << links;
    for (const auto& name : names) {
        for (const char* side : {"ingress", "egress"})
            if (const auto filters = output("tc filter show dev " + name + " " + side); !filters.empty())
                return ::testing::AssertionFailure() << filters;
        if (auto same = untouched(name); !same) return same;
    }
    return ::testing::AssertionSuccess();
}

TEST_F(vale_scenario, four_namespaces_with_default_offloads_and_without_segmentation) {
    running_switch s(interfaces());
    for (auto& m : s.members) EXPECT_EQ(m.port().mode(), "af_packet") << m.port().info().reason;
    with_ipv6();
    ping_all("default offloads");
    transfer_all("default offloads");
    // Bytes per frame since the last time: more than the MTU where segments are left to the receiver, and ACKs are few.
    auto mean = [&s, bytes = std::uint64_t{0}, frames = std::uint64_t{0}]() mutable {
        counters sum;
        for (auto& m : s.members) sum += m.on_switch().tx_stats();
        const double d = static_cast<double>(sum.bytes - bytes) / static_cast<double>(sum.frames - frames);
        bytes = sum.bytes;
        frames = sum.frames;
        return d;
    };
    EXPECT_GT(mean(), 1600);
    for (std::size_t i = 0; i < sides; ++i) offloads(i, "tso off gso off");
    transfer_all("no segmentation");
    EXPECT_LE(mean(), 1514);
    for (std::size_t i = 0; i < sides; ++i) offloads(i, "tx off");
    transfer_all("complete frames");
    EXPECT_LE(mean(), 1514);
    // Members lose nothing that is not counted; between kernels that push back nothing is lost at all.
    EXPECT_EQ(s.sw.stats().drops[static_cast<std::size_t>(cause::bad_hdr)], 0U);
    EXPECT_EQ(s.sw.stats().drops[static_cast<std::size_t>(cause::bad_len)], 0U);
    expect_conserved(s);
}

TEST_F(vale_scenario, what_has_been_learnt_is_not_flooded) {
    running_switch s(interfaces());
    ASSERT_TRUE(pings(far[0], address(1)));
    EXPECT_GE(s.sw.lookup().stats().learnt, 2U);
    // Who asks for the other's address again does so by broadcast: nobody does.
    for (const std::size_t i : {std::size_t{0}, std::size_t{1}})
        ASSERT_EQ(far[i].run("sysctl -w net.ipv4.neigh." + there(i) + ".base_reachable_time_ms=600000"), 0);
    const auto floods = s.floods();
    const auto bystander = heard(2);
    EXPECT_GT(floods, 0U) << "the first request for an address went to all";
    EXPECT_EQ(far[0].run("ping -q -c200 -i0.002 -W2 " + address(1)), 0);
    EXPECT_LE(s.floods(), floods + 1);
    EXPECT_LE(heard(2), bystander + 1);
    // A third station is found by a flood, and then known as well.
    ASSERT_TRUE(pings(far[2], address(1)));
    EXPECT_GT(s.floods(), floods);
    expect_conserved(s);
}

TEST_F(vale_scenario, an_interface_with_its_host_rings_beside_others) {
    // v3 is the host's own interface: the host is on the switch through it, and so is what is behind it.
    ASSERT_EQ(run(std::string("ip addr add ") + host_address + "/24 dev v3"), 0);
    const auto addresses = output("ip -4 addr show dev v3");
    {
        running_switch s(interfaces(3), "v3");
        ASSERT_EQ(s.members.size(), 5U);
        EXPECT_EQ(s.members.back().port().mode(), "host");
        EXPECT_EQ(s.members.back().name(), "vale0:v3^");
        for (std::size_t i = 0; i < sides; ++i) {
            EXPECT_TRUE(pings(far[i], host_address)) << i;
            EXPECT_EQ(run("ping -q -c3 -i0.05 -W1 " + address(i)), 0) << i;
        }
        EXPECT_TRUE(pings(far[0], address(3)));
        transfer("to the host", -1, host_address, {0, 3});
        transfer("from the host", 1, address(1), {-1, 3});
        EXPECT_EQ(output("ip -4 addr show dev v3"), addresses);
        expect_conserved(s);
    }
    EXPECT_TRUE(eventually([] { return nothing_left(interfaces()) == true; })) << nothing_left(interfaces()).message();
    ASSERT_EQ(far[3].run("ip link set p3 up"), 0);
    EXPECT_TRUE(pings(far[3], host_address)) << "what the interface was before, it is again";
}

TEST_F(vale_scenario, af_xdp_members_beside_af_packet_ones) {
    for (const std::size_t i : {std::size_t{0}, std::size_t{1}}) offloads(i, "tx off tso off txvlan off");
    running_switch s(interfaces());
    std::vector<std::string> modes;
    for (auto& m : s.members) modes.push_back(m.port().mode());
    ASSERT_EQ(modes, (std::vector<std::string>{"af_xdp copy", "af_xdp copy", "af_packet", "af_packet"}));
    with_ipv6();
    ping_all("both modes");
    transfer("to AF_XDP", 0, address(0), {1, 2, 3});
    transfer("to AF_PACKET", 2, address6(2), {0, 1, 3});
    EXPECT_EQ(s.sw.stats().drops[static_cast<std::size_t>(cause::bad_hdr)], 0U);
    expect_conserved(s);
}

TEST_F(vale_scenario, kill_leaves_nothing_and_the_host_goes_on) {
    ASSERT_EQ(run(std::string("ip addr add ") + host_address + "/24 dev v3"), 0);
    ASSERT_TRUE(pings(far[3], host_address)) << "before";
    for (int round = 0; round < 2; ++round) {
        int ready[2];
        ASSERT_EQ(::pipe(ready), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            std::unique_ptr<running_switch> s;
            try {
                s = std::make_unique<running_switch>(interfaces(3), "v3");
            } catch (const std::exception& e) {
                std::fprintf(stderr, "%s\n", e.what());
            }
            if (::write(ready[1], s ? "y" : "n", 1) != 1 || !s) ::_exit(1);
            ::sleep(30);
            ::_exit(0);
        }
        char ok = 'n';
        ::close(ready[1]);
        EXPECT_EQ(::read(ready[0], &ok, 1), 1);
        ::close(ready[0]);
        EXPECT_EQ(ok, 'y');
        EXPECT_TRUE(pings(far[0], host_address));
        EXPECT_TRUE(pings(far[0], address(3)));
        EXPECT_FALSE(nothing_left(interfaces()));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        EXPECT_TRUE(eventually([] { return nothing_left(interfaces()) == true; })) << nothing_left(interfaces()).message();
        EXPECT_TRUE(pings(far[3], host_address)) << "the host's own connections are back";
        EXPECT_NE(far[0].run("ping -q -c1 -W1 " + address(1)), 0) << "nobody switches any more";
    }
}

TEST_F(vale_scenario, a_member_that_is_down_or_gone_does_not_stop_the_others) {
    running_switch s(interfaces());
    ASSERT_TRUE(pings(far[0], address(1)));
    ASSERT_TRUE(pings(far[0], address(2)));
    ASSERT_EQ(run("ip link set v2 down"), 0);
    transfer("one is down", 1, address(1), {0, 3});
    EXPECT_NE(far[0].run("ping -q -c1 -W1 " + address(2)), 0);
    ASSERT_EQ(run("ip link set v2 up"), 0);
    EXPECT_TRUE(pings(far[0], address(2), 10)) << "and up again";
    ASSERT_EQ(run("ip link del v2"), 0);
    transfer("one is gone", 1, address(1), {0, 3});
    EXPECT_TRUE(pings(far[3], address(0)));
    s.stop();
    const auto status = std::next(s.members.begin(), 2)->status();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code.value(), ENODEV) << status.error().text;
    s.members.erase(std::next(s.members.begin(), 2));
    EXPECT_EQ(s.sw.ports().size(), 3U);
    expect_conserved(s);
}

TEST_F(vale_scenario, a_storm_is_counted_and_the_others_go_on) {
    constexpr std::uint64_t budget = 20'000;  // copies per second, and half of it at once
    running_switch s(interfaces(), {}, budget);
    // The budget is for floods to more than four.
    std::vector<vale_port> idle;
    for (const char* name : {"x", "y"}) idle.push_back(s.sw.new_port(name));
    for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) ASSERT_TRUE(pings(far[3], address(i)));
    // Side 0 sends broadcasts as fast as a socket takes them.
    const std::string storm = "import socket, time\n"
                              "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((\"p0\", 0))\n"
                              "f = bytes.fromhex(\"ffffffffffff02000000000188b5\") + bytes(46)\n"
                              "end = time.monotonic() + 4\n"
                              "while time.monotonic() < end:\n"
                              "    for _ in range(1000):\n"
                              "        try: s.send(f)\n"
                              "        except OSError: pass\n";
    const auto started = std::chrono::steady_clock::now();
    std::thread flood([&] { EXPECT_EQ(far[0].run("timeout 20 python3 -c '" + storm + "'"), 0); });
    ::usleep(300'000);
    transfer("in a storm", 1, address(1), {2, 3}, "1000000");
    EXPECT_TRUE(pings(far[3], address(2)));
    flood.join();
    const auto noisy = s.sw.ports()[0];
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    ASSERT_EQ(noisy.name, "v0");
    EXPECT_GT(noisy.tx.dropped(cause::policy), 1000U);
    EXPECT_LE(static_cast<double>(noisy.floods + noisy.replicas), (seconds + 2) * budget) << "copies that it caused";
    EXPECT_EQ(noisy.tx.dropped(cause::policy), s.sw.stats().drops[static_cast<std::size_t>(cause::policy)]) << "the others were not held to it";
    // Who does not read loses by count.
    for (const auto& p : s.sw.ports())
        if (p.name == "x" || p.name == "y") {
            EXPECT_GT(p.rx.dropped(cause::full), 0U);
        }
    expect_conserved(s);
}

TEST_F(vale_scenario, a_member_that_the_kernel_had_no_room_for_is_woken_when_there_is) {
    // What side 0 gets waits there at ten megabytes a second, and is our socket's until it is through.
    const std::string slow = "ip link add slow type ifb && ip link set slow up && tc qdisc add dev slow root tbf rate 80mbit burst 100kb limit 100mb && "
                             "tc qdisc add dev p0 ingress && tc filter add dev p0 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev slow";
    if (far[0].run("sh -c '" + slow + "'") != 0) GTEST_SKIP() << "this kernel has no ifb, tbf, u32 or mirred";
    context ctx;
    vale_switch<> sw(ctx, "vale0");
    auto sender = sw.new_port("sender");
    auto m = std::move(sw.attach<netdev>("v0")[0]);
    const auto unsent = [&m] { return m.port().tx_stats().frames - m.port().tx_stats().dropped() - m.port().kernel_counters()->tx_packets; };
    std::uint64_t sent = 0;
    for (int i = 0; i < 1000 && unsent() == 0; ++i) {
        sent += generate(sender.tx(), 64, [](frame& f) noexcept {
            std::memset(f.data(), 0xff, 1500);
            f.data()[6] = 2;
            f.resize(1500);
        });
        m.poll();
    }
    ASSERT_GT(unsent(), 0U) << "after " << sent << " frames";
    unsigned sleeps = 0;
    for (; unsent() != 0 && sleeps < 100; ++sleeps) {
        ASSERT_TRUE(m.wait(std::chrono::seconds(5))) << "asleep with " << unsent() << " frames to send";
        m.poll();
    }
    EXPECT_EQ(unsent(), 0U);
    EXPECT_LT(sleeps, 100U) << "it was woken for nothing";
    EXPECT_EQ(m.port().tx_stats().frames, sent);
    EXPECT_EQ(m.port().tx_stats().dropped(), 0U);
    EXPECT_TRUE(sw.stats().conserved());
}

}  // namespace
