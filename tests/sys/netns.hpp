// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Network namespaces for tests: each test lives in a fresh one of its own, which goes with the process or the next test.

#include <cstdio>
#include <cstdlib>
#include <csignal>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace nm::test {

inline int run(const std::string& command) {
    const int status = std::system((command + " >/dev/null 2>&1").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

inline std::string output(const std::string& command) {
    std::string text;
    FILE* p = ::popen((command + " 2>&1").c_str(), "r");
    if (p == nullptr) return text;
    char buffer[4096];
    for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, p)) > 0;) text.append(buffer, n);
    ::pclose(p);
    return text;
}

/// A namespace kept alive by a sleeping child, to put the far ends of veth pairs in.
class far_side {
public:
    far_side() {
        int ready[2];
        if (::pipe(ready) != 0) return;
        pid_ = ::fork();
        if (pid_ == 0) {
            char c = ::unshare(CLONE_NEWNET) == 0 ? 'y' : 'n';
            if (::write(ready[1], &c, 1) != 1) ::_exit(1);
            ::close(ready[1]);
            for (int i = 0; i < 300; ++i) ::sleep(1);  // never longer than a test may take
            ::_exit(0);
        }
        char c = 'n';
        ::close(ready[1]);
        if (::read(ready[0], &c, 1) != 1 || c != 'y') std::perror("far side");
        ::close(ready[0]);
    }
    far_side(const far_side&) = delete;
    far_side& operator=(const far_side&) = delete;
    ~far_side() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    [[nodiscard]] std::string pid() const { return std::to_string(pid_); }
    [[nodiscard]] std::string in(const std::string& command) const { return "nsenter -t " + pid() + " -n -- " + command; }
    [[nodiscard]] int run(const std::string& command) const { return test::run(in(command)); }
    [[nodiscard]] std::string output(const std::string& command) const { return test::output(in(command)); }

    /// Sends frames from the far side's interface by a plain raw socket, in a child that lives there.
    [[nodiscard]] int send(const std::string& interface, const std::vector<std::string>& frames,
                           int cpu = -1) const {
        const pid_t child = ::fork();
        if (child == 0) {
            const int ns = ::open(("/proc/" + pid() + "/ns/net").c_str(), O_RDONLY);
            if (::setns(ns, CLONE_NEWNET) != 0) ::_exit(1);
            const int fd = ::socket(AF_PACKET, SOCK_RAW, 0);
            if (cpu >= 0) {
                // Without a qdisc the queue is that of the processor.
                cpu_set_t one;
                CPU_ZERO(&one);
                CPU_SET(static_cast<unsigned>(cpu), &one);
                const int yes = 1;
                if (::sched_setaffinity(0, sizeof one, &one) != 0) ::_exit(3);
                (void)::setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes);
            }
            sockaddr_ll to{};
            to.sll_family = AF_PACKET;
            to.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
            for (const auto& f : frames)
                if (::sendto(fd, f.data(), f.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0) ::_exit(2);
            ::_exit(0);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

private:
    pid_t pid_ = -1;
};

class netns_test : public ::testing::Test {
protected:
    void SetUp() override {
        if (::geteuid() != 0 || ::unshare(CLONE_NEWNET) != 0)
            GTEST_SKIP() << "network namespaces need root (or run under unshare -Urn)";
        ASSERT_EQ(run("ip link set lo up"), 0);
    }
};

/// No XDP program, no table, no promiscuity: what an interface must look like when nobody uses it.
inline ::testing::AssertionResult untouched(const std::string& name) {
    const auto link = output("ip -d link show dev " + name);
    const auto tables = output("nft list ruleset");
    if (link.find("prog/xdp") != std::string::npos) return ::testing::AssertionFailure() << "XDP left: " << link;
    if (link.find("promiscuity 0") == std::string::npos) return ::testing::AssertionFailure() << "promiscuous: " << link;
    if (tables.find("table") != std::string::npos) return ::testing::AssertionFailure() << "table left: " << tables;
    return ::testing::AssertionSuccess();
}

template <class Condition>
bool eventually(Condition condition, int milliseconds = 2000) {
    for (int i = 0; i < milliseconds / 10; ++i) {
        if (condition()) return true;
        ::usleep(10'000);
    }
    return condition();
}

}  // namespace nm::test
