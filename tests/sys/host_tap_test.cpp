// SPDX-License-Identifier: BSD-2-Clause
// The TAP to the host's stack and the diversion to it, in each way that a kernel may force on us.

#include <array>
#include <cstring>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "veth.hpp"
#include "nm/sys/cutoff.hpp"
#include "nm/sys/packet.hpp"
#include "nm/sys/tap.hpp"

namespace {

using namespace nm;
using namespace nm::test;

class host_tap : public veth_test {
protected:
    host_tap() : veth_test(true) {}
    static sys::link_info link() { return *sys::query_link("nsa"); }
};

/// Frames that the TAP has, without their headers.
std::vector<std::string> read_all(const sys::host_tap& t) {
    std::vector<std::string> frames;
    std::array<char, 70000> buffer;
    for (pollfd p{t.fd(), POLLIN, 0}; ::poll(&p, 1, 300) == 1;) {
        const auto n = ::read(t.fd(), buffer.data(), buffer.size());
        if (n < static_cast<ssize_t>(sys::vnet_header_bytes)) break;
        frames.emplace_back(buffer.data() + sys::vnet_header_bytes, static_cast<std::size_t>(n) - sys::vnet_header_bytes);
    }
    return frames;
}

/// Who has 10.7.0.1? The stack answers; the answer is told from questions of its own by its operation.
void ask(const sys::host_tap& t) {
    std::string f(sys::vnet_header_bytes, '\0');
    f += std::string("\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x09\x08\x06\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x09\x0a\x07\0\x02\0\0\0\0\0\0\x0a\x07\0\x01", 42);
    ASSERT_EQ(::write(t.fd(), f.data(), f.size()), static_cast<ssize_t>(f.size()));
}
int answers(const std::vector<std::string>& frames) {
    int n = 0;
    for (const auto& f : frames) n += f.size() >= 42 && f.substr(12, 2) == "\x08\x06" && f[21] == 2 ? 1 : 0;
    return n;
}

/// Drops the capabilities that BPF needs from this thread, for as long as it lives. CAP_NET_ADMIN stays.
class without_bpf {
public:
    without_bpf() {
        get();
        auto less = kept_;
        less[0].effective &= ~(1U << CAP_SYS_ADMIN);
        less[1].effective &= ~(1U << (CAP_BPF - 32));
        set(less);
    }
    ~without_bpf() { set(kept_); }
    without_bpf(const without_bpf&) = delete;
    without_bpf& operator=(const without_bpf&) = delete;

private:
    using sets = std::array<__user_cap_data_struct, 2>;
    void get() {
        __user_cap_header_struct h{_LINUX_CAPABILITY_VERSION_3, 0};
        (void)::syscall(SYS_capget, &h, kept_.data());
    }
    static void set(sets s) {
        __user_cap_header_struct h{_LINUX_CAPABILITY_VERSION_3, 0};
        (void)::syscall(SYS_capset, &h, s.data());
    }
    sets kept_{};
};

/// In this process, for good: there is no nf_tables.
bool forbid_nf_tables() {
    std::array<sock_filter, 6> code{{
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, SYS_socket},
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, args[2])},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 12},  // NETLINK_NETFILTER
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPROTONOSUPPORT},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    }};
    sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// What the host says comes to the TAP and nowhere else, and what the TAP is given the host hears, wire or not.
void diverts(const far_side& far, sys::host_tap& tap, bool ingress) {
    const auto l = *sys::query_link("nsa");
    const auto before = *sys::read_link_counters(l.index);
    (void)run("timeout 1 ping -c1 -W1 10.7.0.2");
    EXPECT_GE(read_all(tap).size(), 1U);
    EXPECT_EQ(sys::read_link_counters(l.index)->tx_packets, before.tx_packets);
    ask(tap);
    EXPECT_EQ(answers(read_all(tap)), 1);
    // From the wire, the same question.
    EXPECT_NE(far.run("ping -c1 -W1 10.7.0.1"), 0);
    EXPECT_EQ(answers(read_all(tap)) > 0, !ingress);
}

TEST_F(host_tap, diverts_and_injects_and_leaves_nothing) {
    for (const bool ingress : {false, true}) {
        auto t = sys::host_tap::open(link());
        ASSERT_TRUE(t) << t.error().text;
        const auto c = sys::cutoff::open(link(), {.ingress = ingress, .divert_to = t->index(), .pass = sys::host_mark});
        ASSERT_TRUE(c) << c.error().text;
        diverts(far, *t, ingress);
    }
    EXPECT_EQ(output("ip -br link").find("nmhost"), std::string::npos);
    EXPECT_EQ(far.run("ping -c1 -W1 10.7.0.1"), 0);
}

TEST_F(host_tap, by_nf_tables_where_there_is_no_tcx) {
    for (const bool by_packet : {false, true}) {
        auto t = sys::host_tap::open(link());
        ASSERT_TRUE(t) << t.error().text;
        std::optional<sys::cutoff> c;
        {
            const without_bpf now;
            auto made = sys::cutoff::open(link(), {.sends_by_packet = by_packet, .divert_to = t->index(), .pass = sys::host_mark});
            ASSERT_TRUE(made) << made.error().text;
            c = std::move(*made);
        }
        EXPECT_NE(output("nft list ruleset").find("fwd to \"nmhost"), std::string::npos) << output("nft list ruleset");
        EXPECT_EQ(c->mark() != 0, by_packet);
        diverts(far, *t, true);
        if (!by_packet) continue;
        // The port's own frames pass by their mark.
        auto l = link();
        auto s = sys::packet_socket::open({.link = &l, .mark = c->mark()});
        ASSERT_TRUE(s) << s.error().text;
        const auto before = *sys::read_link_counters(l.index);
        sys::packet_batch batch(sys::packet_batch::direction::send, 1, 1);
        std::string frame(60, '\xff');
        batch.pieces(0)[0] = {frame.data(), frame.size()};
        batch.set_pieces(0, 1);
        batch.set_header(0, {});
        EXPECT_EQ(batch.send(s->fd(), 0, 1), 1);
        EXPECT_TRUE(eventually([&] { return sys::read_link_counters(l.index)->tx_packets == before.tx_packets + 1; }));
        EXPECT_EQ(read_all(*t).size(), 0U);
    }
}

TEST_F(host_tap, by_tcx_where_there_is_no_nf_tables) {
    for (const bool ingress : {false, true}) {
        const pid_t child = ::fork();
        if (child == 0) {
            if (!forbid_nf_tables()) ::_exit(2);
            auto t = sys::host_tap::open(link());
            auto c = t ? sys::cutoff::open(link(), {.ingress = ingress, .divert_to = t->index(), .pass = sys::host_mark})
                       : result<sys::cutoff>(fail(EIO, "no TAP"));
            if (!c) std::fprintf(stderr, "%s\n", c.error().text.c_str());
            if (!c || std::strcmp(c->how(), "tcx") != 0) ::_exit(3);
            diverts(far, *t, ingress);
            ::_exit(::testing::Test::HasFailure() ? 1 : 0);
        }
        int status = -1;
        ::waitpid(child, &status, 0);
        EXPECT_EQ(WEXITSTATUS(status), 0);
    }
}

TEST_F(host_tap, a_socket_that_ignores_the_mark_hears_the_rest) {
    auto l = link();
    auto t = sys::host_tap::open(l);
    ASSERT_TRUE(t) << t.error().text;
    auto c = sys::cutoff::open(l, {.divert_to = t->index(), .pass = sys::host_mark});
    ASSERT_TRUE(c) << c.error().text;
    auto s = sys::packet_socket::open({.link = &l});
    ASSERT_TRUE(s) << s.error().text;
    const auto hears = [&] {
        std::array<char, 2048> b;
        int n = 0;
        while (::recv(s->fd(), b.data(), b.size(), MSG_DONTWAIT) > 0) ++n;
        return n;
    };
    (void)hears();
    ask(*t);
    EXPECT_EQ(hears(), 1) << "the mark is there for this";
    ASSERT_TRUE(s->ignore(sys::host_mark));
    ask(*t);
    EXPECT_EQ(hears(), 0);
    ASSERT_EQ(far.send("nsb", {std::string(60, '\xff')}), 0);
    EXPECT_EQ(hears(), 1);
}

TEST_F(host_tap, says_what_is_missing) {
    const auto l = link();
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setuid(65534) != 0) ::_exit(2);
        const auto t = sys::host_tap::open(l);
        ::_exit(!t && t.error().text.find("nsa") != std::string::npos ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    const without_bpf now;
    const auto t = sys::host_tap::open(l);  // act_skbedit takes the program's place where there is one
    if (!t) { EXPECT_NE(t.error().text.find("act_skbedit"), std::string::npos) << t.error().text; }
}

}  // namespace
