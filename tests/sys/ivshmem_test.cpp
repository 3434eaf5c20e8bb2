// SPDX-License-Identifier: BSD-2-Clause
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <vector>

#include "nm/sys/ivshmem.hpp"

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using nm::base::unique_fd;
using nm::sys::ivshmem_event;
using nm::sys::ivshmem_options;
using nm::sys::ivshmem_server;
using clock_type = std::chrono::steady_clock;

std::size_t open_files() {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator{}));
}

struct message {
    std::int64_t value = 0;
    unique_fd fd;
};

/// What QEMU is to the server; or worse.
class client {
public:
    explicit client(const std::string& path) : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        std::memcpy(a.sun_path, path.data(), path.size());
        connected_ = ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a) == 0;
    }
    [[nodiscard]] bool connected() const { return connected_; }
    [[nodiscard]] int fd() const { return socket_.get(); }
    void close() { socket_.reset(); }

    /// 1: a message; 0: the server has closed; -1: nothing.
    int read(message& m) {
        iovec part{&m.value, sizeof m.value};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
        msghdr h{};
        h.msg_iov = &part;
        h.msg_iovlen = 1;
        h.msg_control = control.data();
        h.msg_controllen = control.size();
        const auto n = ::recvmsg(socket_.get(), &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n == 0 || (n < 0 && errno == ECONNRESET)) return 0;
        if (n < 0) return -1;
        EXPECT_EQ(n, 8);
        m.fd.reset();
        if (const cmsghdr* c = CMSG_FIRSTHDR(&h); c != nullptr) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
            m.fd.reset(fd);
        }
        return 1;
    }
    bool send(const void* bytes, std::size_t n, const std::vector<int>& fds = {}) {
        iovec part{const_cast<void*>(bytes), n};
        std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
        msghdr h{};
        h.msg_iov = &part;
        h.msg_iovlen = 1;
        if (!fds.empty()) {
            h.msg_control = control.data();
            h.msg_controllen = control.size();
            cmsghdr* c = CMSG_FIRSTHDR(&h);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
            std::memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
        }
        return ::sendmsg(socket_.get(), &h, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(n);
    }

private:
    unique_fd socket_;
    bool connected_ = false;
};

class Ivshmem : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "nm-ivshmem-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
        memory_ = std::move(nm::base::make_memfd("nm-test", 1 << 20).value());
        o.path = (folder_ / "guest").string();
        o.memory = memory_.get();
        add_vectors(3);
    }
    void TearDown() override { fs::remove_all(folder_); }

    void add_vectors(std::size_t n) {
        for (std::size_t i = 0; i < n; ++i)
            for (auto* list : {&o.kicks, &o.irqs}) {
                fds_.push_back(std::move(nm::base::make_eventfd().value()));
                list->push_back(fds_.back().get());
            }
    }
    ivshmem_server listen() { return std::move(ivshmem_server::listen(o).value()); }
    int refusal() {
        auto s = ivshmem_server::listen(o);
        if (s) return 0;
        EXPECT_GT(s.error().text.size(), 20U);
        return s.error().code.value();
    }

    /// Whatever the server has to do, for a while or until it is so. No call of poll() may take long.
    template <class Done>
    bool serve(ivshmem_server& s, Done done, std::chrono::milliseconds limit = 3000ms) {
        const auto end = clock_type::now() + limit;
        while (!done()) {
            if (clock_type::now() > end) return false;
            pollfd p{s.fd(), POLLIN, 0};
            ::poll(&p, 1, 5);
            const auto begin = clock_type::now();
            while (const auto e = s.poll()) events.push_back(*e);
            EXPECT_LT(clock_type::now() - begin, 100ms) << "the server waited for somebody";
        }
        return true;
    }
    bool happened(ivshmem_event::kind what, unsigned peer = 1) {
        for (auto e = events.begin(); e != events.end(); ++e)
            if (e->what == what && e->peer == peer) return events.erase(e), true;
        return false;
    }
    bool joined(ivshmem_server& s, unsigned peer = 1) {
        return serve(s, [&] { return happened(ivshmem_event::kind::joined, peer); });
    }
    bool left(ivshmem_server& s, unsigned peer = 1) {
        return serve(s, [&] { return happened(ivshmem_event::kind::left, peer); });
    }
    bool closed(ivshmem_server& s, client& c) {
        message m;
        return serve(s, [&] {
            for (int r = c.read(m); r >= 0; r = c.read(m))
                if (r == 0) return true;
            return false;
        });
    }

    /// All that a client is greeted with; the eventfds by peer.
    struct greeting {
        std::int64_t version = -9, id = -9, marker = -9;
        unique_fd memory;
        std::map<std::int64_t, std::vector<unique_fd>> peers;
    };
    greeting greet(ivshmem_server& s, client& c, std::size_t eventfds) {
        greeting g;
        std::vector<message> got;
        serve(s, [&] {
            for (message m; got.size() < 3 + eventfds && c.read(m) == 1;) got.push_back(std::move(m));
            return got.size() == 3 + eventfds;
        });
        EXPECT_EQ(got.size(), 3 + eventfds);
        if (got.size() < 3) return g;
        g.version = got[0].value, g.id = got[1].value, g.marker = got[2].value;
        EXPECT_FALSE(got[0].fd || got[1].fd);
        g.memory = std::move(got[2].fd);
        for (std::size_t i = 3; i < got.size(); ++i) g.peers[got[i].value].push_back(std::move(got[i].fd));
        return g;
    }

    fs::path folder_;
    unique_fd memory_;
    std::vector<unique_fd> fds_;
    ivshmem_options o;
    std::vector<ivshmem_event> events;
};

TEST_F(Ivshmem, GivesAGuestTheMemoryAndDoorbellsBothWays) {
    auto s = listen();
    EXPECT_EQ(fs::status(o.path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
    client c(o.path);
    ASSERT_TRUE(c.connected());
    auto g = greet(s, c, 6);
    ASSERT_TRUE(joined(s));
    EXPECT_EQ(g.version, 0);
    EXPECT_EQ(g.id, 1);
    EXPECT_EQ(g.marker, -1);
    EXPECT_EQ(s.guests(), 1U);
    ASSERT_EQ(g.peers[0].size(), 3U);
    ASSERT_EQ(g.peers[1].size(), 3U);

    auto mine = nm::base::map(1 << 20, MAP_SHARED, memory_.get()).value();
    auto its = nm::base::map_sealed(g.memory.get(), 1 << 20).value();
    std::memcpy(its.data() + 4096, "hello", 5);
    EXPECT_EQ(std::memcmp(mine.data() + 4096, "hello", 5), 0);

    for (std::size_t v = 0; v < 3; ++v) {
        nm::base::eventfd_signal(g.peers[0][v].get());
        EXPECT_TRUE(nm::base::eventfd_clear(o.kicks[v]));
        nm::base::eventfd_signal(s.irq_fd(1, static_cast<unsigned>(v)));
        EXPECT_TRUE(nm::base::eventfd_clear(g.peers[1][v].get()));
        EXPECT_FALSE(nm::base::eventfd_clear(o.kicks[(v + 1) % 3]));
    }
    EXPECT_EQ(s.irq_fd(1, 3), -1);
    EXPECT_EQ(s.irq_fd(0, 0), -1);
    EXPECT_EQ(s.irq_fd(2, 0), -1);
    c.close();
    EXPECT_TRUE(left(s));
    EXPECT_EQ(s.guests(), 0U);
}

TEST_F(Ivshmem, TheSameProcessMayComeAgain) {
    auto s = listen();
    for (int i = 0; i < 3; ++i) {
        client c(o.path);
        nm::base::eventfd_signal(o.irqs[0]);  // left over
        auto g = greet(s, c, 6);
        EXPECT_EQ(g.id, 1);
        EXPECT_FALSE(nm::base::eventfd_clear(o.irqs[0])) << "a new guest is rung for what its predecessor missed";
        ASSERT_TRUE(joined(s));
        c.close();
        ASSERT_TRUE(left(s));
    }
    EXPECT_EQ(s.counters().joined, 3U);
    EXPECT_EQ(s.counters().left, 3U);
    EXPECT_EQ(s.counters().full, 0U);
}

TEST_F(Ivshmem, ASecondGuestIsRefused) {
    auto s = listen();
    client c(o.path);
    (void)greet(s, c, 6);
    client late(o.path);
    EXPECT_TRUE(closed(s, late));
    EXPECT_EQ(s.counters().full, 1U);
    EXPECT_EQ(s.guests(), 1U);
    message m;
    EXPECT_EQ(c.read(m), -1) << "the first one notices nothing";
}

/// A process that connects, and then does as it is told.
struct other_process {
    pid_t pid = -1;
    unique_fd in, out;
    explicit other_process(const std::function<void(int say, int hear)>& body) {
        std::array<int, 2> a{}, b{};
        if (::pipe2(a.data(), O_CLOEXEC) != 0 || ::pipe2(b.data(), O_CLOEXEC) != 0) return;
        pid = ::fork();
        if (pid == 0) {
            body(a[1], b[0]);
            ::_exit(0);
        }
        in.reset(a[0]);
        out.reset(b[1]);
        ::close(a[1]);
        ::close(b[0]);
    }
    void kill() {
        if (pid <= 0) return;
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        pid = -1;
    }
    ~other_process() { kill(); }
    char hear(std::chrono::milliseconds limit = 3000ms) const {
        pollfd p{in.get(), POLLIN, 0};
        char c = 0;
        return ::poll(&p, 1, static_cast<int>(limit.count())) > 0 && ::read(in.get(), &c, 1) == 1 ? c : '?';
    }
};

TEST_F(Ivshmem, AnotherProcessMustWaitUntilTheLastUserOfTheMemoryIsGone) {
    auto s = listen();
    const auto path = o.path;
    // It lets go of the socket and lives on: it could still write to the memory.
    other_process villain([&](int say, int hear) {
        client c(path);
        const char word = c.connected() ? 'c' : '-';
        (void)!::write(say, &word, 1);
        char what = 0;
        (void)!::read(hear, &what, 1);
        c.close();
        (void)!::write(say, "x", 1);
        (void)!::read(hear, &what, 1);
    });
    ASSERT_EQ(villain.hear(), 'c');
    ASSERT_TRUE(joined(s));
    (void)!::write(villain.out.get(), "g", 1);
    ASSERT_EQ(villain.hear(), 'x');
    ASSERT_TRUE(left(s));
    client early(o.path);
    EXPECT_TRUE(closed(s, early));
    EXPECT_EQ(s.counters().full, 1U);
    villain.kill();
    client c(o.path);
    EXPECT_EQ(greet(s, c, 6).id, 1);
}

TEST_F(Ivshmem, AGuestThatIsKilledMakesRoomAtOnce) {
    auto s = listen();
    const auto path = o.path;
    for (int i = 0; i < 20; ++i) {
        other_process guest([&](int say, int hear) {
            client c(path);
            (void)!::write(say, "c", 1);
            char what = 0;
            (void)!::read(hear, &what, 1);
        });
        ASSERT_EQ(guest.hear(), 'c');
        ASSERT_TRUE(joined(s));
        const auto begin = clock_type::now();
        guest.kill();
        ASSERT_TRUE(left(s));
        EXPECT_LT(clock_type::now() - begin, 200ms);
    }
    EXPECT_EQ(s.counters().full, 0U);
}

TEST_F(Ivshmem, WhoSpeaksIsDroppedAndItsDescriptorsAreClosed) {
    auto s = listen();
    { client c(o.path); (void)greet(s, c, 6); c.close(); ASSERT_TRUE(joined(s) && left(s)); }
    const auto before = open_files();
    for (const std::size_t n : {0U, 1U, 2U, 253U}) {
        client c(o.path);
        (void)greet(s, c, 6);
        const std::array<char, 100> bytes{};
        ASSERT_TRUE(c.send(bytes.data(), n == 2 ? 1 : bytes.size(), std::vector<int>(n, memory_.get())));
        EXPECT_TRUE(closed(s, c));
        c.close();
        EXPECT_EQ(open_files(), before) << n << " descriptors";
    }
    EXPECT_EQ(s.counters().dropped, 4U);
}

TEST_F(Ivshmem, WhoDoesNotReadIsDroppedInTime) {
    add_vectors(1000);  // more than a socket's buffer takes
    o.handshake_ms = 200;
    auto s = listen();
    client c(o.path);
    ASSERT_TRUE(joined(s));
    const auto begin = clock_type::now();
    ASSERT_TRUE(left(s));
    EXPECT_GT(clock_type::now() - begin, 100ms);
    EXPECT_EQ(s.counters().dropped, 1U);
    c.close();
    client good(o.path);
    auto g = greet(s, good, 2006);
    EXPECT_EQ(g.peers[0].size(), 1003U);
    EXPECT_EQ(g.peers[1].size(), 1003U);
    EXPECT_EQ(s.counters().dropped, 1U);
}

TEST_F(Ivshmem, AThousandThatComeAndGoLeaveNothing) {
    auto s = listen();
    client first(o.path);
    (void)greet(s, first, 6);
    first.close();
    ASSERT_TRUE(left(s));
    events.clear();
    const auto before = open_files();
    for (int i = 0; i < 1000; ++i) {
        client c(o.path);
        ASSERT_TRUE(c.connected()) << i;
        if (i % 3 == 0) (void)greet(s, c, 6);
        if (i % 3 == 1) (void)c.send("?", 1);
        c.close();
        while (const auto e = s.poll()) events.push_back(*e);
    }
    EXPECT_TRUE(serve(s, [&] { return s.guests() == 0 && s.counters().joined + s.counters().full >= 1001; }));
    EXPECT_EQ(open_files(), before);
    EXPECT_EQ(s.counters().joined, s.counters().left);
}

TEST_F(Ivshmem, ManyAtOnceAreNotLetIn) {
    auto s = listen();
    const auto before = open_files();
    {
        std::vector<client> crowd;
        for (int i = 0; i < 12; ++i) crowd.emplace_back(o.path);
        EXPECT_TRUE(serve(s, [&] { return s.counters().full >= 11; }));
        EXPECT_EQ(s.guests(), 1U);
    }
    EXPECT_TRUE(serve(s, [&] { return s.guests() == 0; }));
    EXPECT_EQ(open_files(), before + 1);  // of the last one's process
}

TEST_F(Ivshmem, TwoGuestsKnowEachOther) {
    o.guests = 2;
    auto s = listen();
    client a(o.path), b(o.path);
    auto first = greet(s, a, 6 + 3);  // the second comes while it is greeted
    auto second = greet(s, b, 6 + 3);
    EXPECT_EQ(first.id, 1);
    EXPECT_EQ(second.id, 2);
    ASSERT_EQ(second.peers[1].size(), 3U);
    ASSERT_EQ(first.peers[2].size(), 3U);
    nm::base::eventfd_signal(first.peers[2][1].get());
    EXPECT_TRUE(nm::base::eventfd_clear(second.peers[2][1].get()));
    nm::base::eventfd_signal(s.irq_fd(2, 2));
    EXPECT_TRUE(nm::base::eventfd_clear(second.peers[2][2].get()));
    b.close();
    ASSERT_TRUE(left(s, 2));
    message m;
    ASSERT_TRUE(serve(s, [&] { return a.read(m) == 1; }));
    EXPECT_EQ(m.value, 2);
    EXPECT_FALSE(m.fd) << "a peer without a descriptor has left";
}

TEST_F(Ivshmem, OneThatNeverReadsWhileOthersComeAndGoIsDropped) {
    o.guests = 2;
    o.handshake_ms = 100'000;
    add_vectors(40);
    auto s = listen();
    client lazy(o.path);
    ASSERT_TRUE(joined(s, 1));
    bool gone = false;
    for (int i = 0; i < 200 && !gone; ++i) {
        client c(o.path);
        ASSERT_TRUE(serve(s, [&] { return happened(ivshmem_event::kind::joined, 2) || s.guests() == 2; }));
        c.close();
        ASSERT_TRUE(serve(s, [&] { return s.guests() <= 1; }));
        gone = happened(ivshmem_event::kind::left, 1);
    }
    EXPECT_TRUE(gone) << "what it does not read would grow for ever";
}

TEST_F(Ivshmem, AStaleSocketIsReplacedALivingOneIsNot) {
    {
        const unique_fd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        std::memcpy(a.sun_path, o.path.data(), o.path.size());
        ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a), 0);
    }
    {
        auto s = listen();
        EXPECT_EQ(refusal(), EADDRINUSE);
        EXPECT_TRUE(client(o.path).connected());
    }
    EXPECT_FALSE(fs::exists(o.path));
}

TEST_F(Ivshmem, WhatIsNoSocketOfOursIsLeftAlone) {
    const auto real = folder_ / "real";
    for (const bool link : {false, true}) {
        fs::remove(o.path);
        if (link) fs::create_symlink(real, o.path);
        else std::fclose(std::fopen(o.path.c_str(), "w"));
        EXPECT_EQ(refusal(), EEXIST);
        EXPECT_TRUE(fs::symlink_status(o.path).type() != fs::file_type::not_found);
        EXPECT_FALSE(fs::exists(real));
    }
}

TEST_F(Ivshmem, RefusesWhatCannotWork) {
    const auto good = o;
    o.path = std::string(108, 'x');
    EXPECT_EQ(refusal(), ENAMETOOLONG);
    o.path = (folder_ / "not" / "there").string();
    EXPECT_EQ(refusal(), ENOENT);
    o = good;
    const auto odd = nm::base::make_memfd("odd", 12 << 10).value();
    o.memory = odd.get();
    EXPECT_EQ(refusal(), EINVAL);
    const unique_fd loose(::memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(loose.get(), 4096), 0);
    o.memory = loose.get();
    EXPECT_EQ(refusal(), EPERM);
    o = good;
    o.irqs.clear();
    EXPECT_EQ(refusal(), EINVAL);
    o = good;
    o.guests = 0;
    EXPECT_EQ(refusal(), EINVAL);
    o = good;
    EXPECT_EQ(refusal(), 0);
}

TEST_F(Ivshmem, ASocketThatSomebodyElseMadeMeanwhileIsNotRemoved) {
    {
        auto s = listen();
        fs::rename(o.path, folder_ / "aside");
        std::fclose(std::fopen(o.path.c_str(), "w"));
    }
    EXPECT_TRUE(fs::exists(o.path));
}

}  // namespace
