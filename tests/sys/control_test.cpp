// SPDX-License-Identifier: BSD-2-Clause
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <mutex>
#include <random>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "../../src/control_wire.hpp"
#include "nm/nm.hpp"
#include "nm/ptnet/process.hpp"
#include "nm/sys/control_server.hpp"
#include "support/nm_test.hpp"

namespace {

namespace fs = std::filesystem;
using namespace nm::sys;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

std::size_t open_fds() {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

/// A host that answers each request with its own name and payload, and as many descriptors as came.
struct echo : control_server::handler {
    control_server* server = nullptr;
    std::atomic<unsigned> messages = 0, gone_ = 0;
    bool holds = false;
    void message(control_server::client from, control_message m) override {
        ++messages;
        if (holds) server->hold(from, true);
        if (m.name == "silence") return;
        std::vector<int> fds;
        for (const auto& fd : m.fds) fds.push_back(fd.get());
        control_message a;
        a.type = control_type::answer;
        a.sequence = m.sequence;
        a.status = m.status;
        a.name = m.name;
        a.payload = m.payload;
        for (unsigned i = 0; i < (m.name == "verbose" ? 1000U : 1U); ++i) server->send(from, a, fds);
    }
    void gone(control_server::client) override { ++gone_; }
};

class Control : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "nm-control-XXXXXX").string();
        root = ::mkdtemp(pattern.data());
        path = (root / "run").string();
        ::setenv("NM_RUNTIME_DIR", path.c_str(), 1);
    }
    void TearDown() override {
        stop();
        ::unsetenv("NM_RUNTIME_DIR");
        fs::remove_all(root);
    }

    runtime_dir dir() {
        auto d = runtime_dir::open();
        EXPECT_TRUE(d) << d.error().text;
        return std::move(*d);
    }
    void host(control_quota q = {}) {
        auto s = control_server::create(dir(), "vale1", q);
        ASSERT_TRUE(s) << s.error().text;
        server = std::move(*s);
        handler.server = server.get();
        thread = std::jthread([this](std::stop_token t) {
            while (!t.stop_requested()) server->serve(handler, 20ms);
        });
    }
    void stop() {
        thread = {};
        server.reset();
    }
    control_channel channel() {
        auto c = control_channel::connect(dir(), "vale1");
        EXPECT_TRUE(c) << c.error().text;
        return c ? std::move(*c) : control_channel(nm::base::unique_fd());
    }
    /// A client that obeys: the slowest of a few answers.
    milliseconds answer_time() {
        auto c = channel();
        milliseconds worst{0};
        for (int i = 0; i < 5; ++i) {
            const auto start = steady::now();
            const auto a = c.ask(message("well-behaved"));
            EXPECT_TRUE(a) << a.error().text;
            worst = std::max(worst, std::chrono::duration_cast<milliseconds>(steady::now() - start));
        }
        return worst;
    }
    static control_message message(std::string name, std::string payload = {}) {
        control_message m;
        m.name = std::move(name);
        m.payload = std::move(payload);
        return m;
    }
    static wire::frame frame() {
        wire::frame f{};
        f.magic = wire::magic;
        f.version = wire::version;
        f.type = 5;
        f.sequence = 1;
        return f;
    }
    /// Any bytes, with any number of descriptors.
    static bool send_raw(int socket, const void* data, std::size_t size, std::size_t fds) {
        iovec part{const_cast<void*>(data), size};
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 253)> room{};
        msghdr h{};
        h.msg_iov = &part;
        h.msg_iovlen = 1;
        if (fds != 0) {
            h.msg_control = room.data();
            h.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
            cmsghdr* const c = CMSG_FIRSTHDR(&h);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(sizeof(int) * fds);
            const std::vector<int> many(fds, 0);
            std::memcpy(CMSG_DATA(c), many.data(), sizeof(int) * fds);
        }
        return ::sendmsg(socket, &h, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
    }
    template <class Until>
    static bool soon(Until until) {
        for (int i = 0; i < 200; ++i, std::this_thread::sleep_for(10ms))
            if (until()) return true;
        return false;
    }
    std::string script(const std::string& text) {
        const auto file = (root / "nm-host").string();
        std::ofstream(file) << "#!/bin/sh\n" << text << "\n";
        fs::permissions(file, fs::perms::owner_all);
        return file;
    }

    fs::path root;
    std::string path;
    std::unique_ptr<control_server> server;
    echo handler;
    std::jthread thread;
};

TEST_F(Control, TheDirectoryIsItsOwnersAlone) {
    const auto d = dir();
    struct stat st {};
    ASSERT_EQ(::stat(path.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0700U);
    EXPECT_EQ(d.path(), path);
    EXPECT_TRUE(runtime_dir::open_at(path));
}

TEST_F(Control, ADirectoryThatOthersMayHaveLaidThereIsRefused) {
    const auto refused = [](const std::string& where, const char* why) {
        const auto d = runtime_dir::open_at(where);
        ASSERT_FALSE(d) << where;
        EXPECT_EQ(d.error().code.value(), EACCES) << d.error().text;
        EXPECT_NE(d.error().text.find(why), std::string::npos) << d.error().text;
        EXPECT_NE(d.error().text.find("NM_RUNTIME_DIR"), std::string::npos);
    };
    fs::create_directory(root / "real");
    fs::permissions(root / "real", fs::perms::owner_all);
    fs::create_directory_symlink(root / "real", root / "link");
    refused(root / "link", "link");
    fs::create_symlink(root / "nowhere", root / "dangling");
    refused(root / "dangling", "link");
    std::ofstream(root / "file") << "x";
    refused(root / "file", "not a directory");
    fs::permissions(root / "real", fs::perms::owner_all | fs::perms::others_exec);
    refused(root / "real", "chmod 700");
    EXPECT_EQ(runtime_dir::open_at(root / "no" / "such").error().code.value(), ENOENT);
    NM_TEST_NEEDS_ROOT();
    fs::create_directory(root / "foreign");
    fs::permissions(root / "foreign", fs::perms::owner_all);
    ASSERT_EQ(::chown((root / "foreign").c_str(), 4321, 4321), 0);
    refused(root / "foreign", "belongs to user 4321");
}

TEST_F(Control, TheDirectoryIsWhereTheUserHasOne) {
    ::unsetenv("NM_RUNTIME_DIR");
    ::setenv("XDG_RUNTIME_DIR", root.c_str(), 1);
    EXPECT_EQ(dir().path(), (root / "nm").string());
    if (nm::test::is_root()) {  // su leaves the variable: another user's directory is no place for root's
        ASSERT_EQ(::chown(root.c_str(), 4321, 4321), 0);
        const auto d = runtime_dir::open();
        EXPECT_TRUE(!d || d->path() == "/run/nm");
    }
    ::unsetenv("XDG_RUNTIME_DIR");
}

TEST_F(Control, APathLongerThanASocketsIsNone) {
    fs::path deep = root;
    for (int i = 0; i < 8; ++i) deep /= std::string(40, static_cast<char>('a' + i));
    fs::create_directories(deep);
    ::setenv("NM_RUNTIME_DIR", (deep / "run").c_str(), 1);
    host();
    EXPECT_TRUE(channel().ask(message("x")));
    EXPECT_TRUE(fs::is_socket(deep / "run" / "vale1.socket"));
}

TEST_F(Control, NamesThatAreNone) {
    for (const std::string name : {"", ".", "..", "../x", "a/b", ".hidden", "a b", "a\n"})
        EXPECT_EQ(control_channel::connect(dir(), name).error().code.value(), EINVAL) << name;
    EXPECT_EQ(control_channel::connect(dir(), std::string(65, 'a')).error().code.value(), EINVAL);
    EXPECT_EQ(control_channel::connect(dir(), std::string(64, 'a')).error().code.value(), ENOENT);
    EXPECT_FALSE(control_server::create(dir(), "../vale1"));
}

TEST_F(Control, OneHostPerName) {
    host();
    const auto second = control_server::create(dir(), "vale1");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code.value(), EBUSY);
    EXPECT_TRUE(control_server::create(dir(), "vale2"));
    EXPECT_EQ(dir().hosted(), std::vector<std::string>{"vale1"});
    stop();
    EXPECT_TRUE(fs::is_empty(path)) << "a host that ends leaves nothing";
    host();
}

TEST_F(Control, AHostThatWasKilledIsReplaced) {
    for (int round = 0; round < 3; ++round) {
        const pid_t child = ::fork();
        if (child == 0) {
            auto s = control_server::create(std::move(*runtime_dir::open()), "vale1");
            ::_exit(s ? 7 : 1);  // as kill -9: no destructor
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_EQ(WEXITSTATUS(status), 7);
        ASSERT_TRUE(fs::exists(path + "/vale1.socket"));
        EXPECT_EQ(control_channel::connect(dir(), "vale1").error().code.value(), ENOENT) << "what it left is known as stale";
        if (round == 1) {
            EXPECT_TRUE(dir().hosted().empty());
            EXPECT_TRUE(fs::is_empty(path)) << "whoever lists removes it";
        }
        host();
        EXPECT_TRUE(channel().ask(message("x")));
        stop();
    }
}

TEST_F(Control, ElectionsInARushHaveOneWinner) {
    (void)dir();
    for (int round = 0; round < 20; ++round) {
        std::atomic<int> won = 0, listening = 0;
        {
            std::mutex mutex;
            std::vector<std::unique_ptr<control_server>> hosts;
            std::vector<std::jthread> rush;
            for (int i = 0; i < 8; ++i)
                rush.emplace_back([&] {
                    auto s = control_server::create(std::move(*runtime_dir::open()), "vale1");
                    if (!s) return;
                    ++won;
                    const std::lock_guard guard(mutex);
                    hosts.push_back(std::move(*s));
                });
            rush.clear();
            if (control_channel::connect(dir(), "vale1")) ++listening;
        }
        EXPECT_EQ(won, 1);
        EXPECT_EQ(listening, 1);
        EXPECT_TRUE(fs::is_empty(path));
    }
}

TEST_F(Control, MessagesArriveWhole) {
    host();
    auto c = channel();
    ASSERT_TRUE(c.ask(message("x")));
    const auto before = open_fds();
    for (std::size_t fds = 0; fds <= 64; ++fds) {
        const std::vector<int> many(fds, 0);
        const auto a = c.ask(message(std::string(fds * 4, 'n'), std::string(fds * 16, 'p')), many);
        ASSERT_TRUE(a) << a.error().text;
        EXPECT_EQ(a->name, std::string(fds * 4, 'n'));
        EXPECT_EQ(a->payload, std::string(fds * 16, 'p'));
        ASSERT_EQ(a->fds.size(), fds);
        for (const auto& fd : a->fds) EXPECT_EQ(::fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
    }
    EXPECT_TRUE(soon([&] { return open_fds() == before; }));
    EXPECT_EQ(c.ask(message(std::string(257, 'n'))).error().code.value(), EMSGSIZE);
    EXPECT_EQ(c.ask(message("x", std::string(1025, 'p'))).error().code.value(), EMSGSIZE);
    auto m = message("x", "no port of that name; ...");
    m.status = ENOENT;
    const auto refusal = c.ask(m);
    ASSERT_FALSE(refusal);
    EXPECT_EQ(refusal.error().code.value(), ENOENT);
    EXPECT_EQ(refusal.error().text, m.payload);
}

TEST_F(Control, AnyNumberOfDescriptorsOnAnyMessageLeaksNone) {
    host({.clients = 64, .messages_per_s = 1'000'000, .fds = 64});
    const auto before = open_fds();
    std::mt19937 random(1);
    for (std::size_t fds = 0; fds <= 253; ++fds) {
        auto c = channel();
        auto f = frame();
        std::size_t size = sizeof f;
        switch (fds % 6) {
            case 1: f.magic ^= 1; break;
            case 2: f.version = 9; break;
            case 3: size = random() % size; break;
            case 4: f.name_size = static_cast<std::uint32_t>(random()); break;
            case 5: f.type = 999; break;
            default: break;
        }
        EXPECT_TRUE(send_raw(c.fd(), &f, size, fds)) << fds;
    }
    EXPECT_TRUE(soon([&] { return open_fds() == before; })) << open_fds() << " descriptors, " << before << " at first";
    EXPECT_LE(answer_time(), 100ms);
}

TEST_F(Control, WhatIsNoMessageEndsTheConnectionAndNothingElse) {
    host();
    auto good = channel();
    ASSERT_TRUE(good.ask(message("x")));
    std::mt19937 random(2);
    std::vector<std::vector<std::byte>> bad;
    for (const std::size_t size : {0UL, 1UL, 4UL, 23UL, 24UL, 280UL, sizeof(wire::frame) - 1, sizeof(wire::frame) + 1, 5000UL, 65000UL}) {
        std::vector<std::byte> b(size, std::byte{0x5a});
        const auto f = frame();
        if (size != 0) std::memcpy(b.data(), &f, std::min(size, sizeof f));
        bad.push_back(b);
        for (auto& x : b) x = static_cast<std::byte>(random());
        bad.push_back(b);
    }
    for (const auto& b : bad) {
        auto c = channel();
        EXPECT_TRUE(send_raw(c.fd(), b.data(), b.size(), 0));
        EXPECT_TRUE(soon([&] { return !c.alive(); })) << b.size();
    }
    // One rule broken at a time, from a message that is good.
    const auto broken = [&](auto change, int status) {
        auto c = channel();
        auto f = frame();
        change(f);
        ASSERT_TRUE(send_raw(c.fd(), &f, sizeof f, 0));
        ASSERT_TRUE(soon([&] { return !c.alive(); }));
        const auto said = receive_control(c.fd());
        ASSERT_TRUE(said) << said.error().text;
        EXPECT_EQ(said->status, status) << said->payload;
    };
    broken([](wire::frame& f) { f.magic = 0; }, EPROTO);
    broken([](wire::frame& f) { f.version = 2; }, EPROTONOSUPPORT);
    broken([](wire::frame& f) { f.name_size = 257; }, EPROTO);
    broken([](wire::frame& f) { f.name_size = 0xffffffff; }, EPROTO);
    broken([](wire::frame& f) { f.payload_size = 1025; }, EPROTO);
    broken([](wire::frame& f) { f.payload_size = 0x80000000; }, EPROTO);
    EXPECT_TRUE(good.ask(message("x"))) << "the others did not notice";
}

TEST_F(Control, AnotherVersionIsToldSo) {
    host();
    auto c = channel();
    auto f = frame();
    f.version = 2;
    ASSERT_TRUE(send_raw(c.fd(), &f, 100, 3));  // another size, too
    ASSERT_TRUE(soon([&] { return !c.alive(); }));
    const auto said = receive_control(c.fd());
    ASSERT_TRUE(said);
    EXPECT_NE(said->payload.find("two versions of nm"), std::string::npos) << said->payload;
}

TEST_F(Control, TooManyDescriptorsAreRefusedWithASentence) {
    host();
    auto c = channel();
    ASSERT_TRUE(c.ask(message("x")));
    const auto before = open_fds();
    const std::vector<int> many(65, 0);
    const auto a = c.ask(message("x"), many);
    ASSERT_FALSE(a);
    EXPECT_EQ(a.error().code.value(), EMFILE);
    EXPECT_NE(a.error().text.find("65 descriptors"), std::string::npos) << a.error().text;
    EXPECT_TRUE(soon([&] { return open_fds() < before; }));
}

TEST_F(Control, AFloodOfConnectionsTakesNobodysPlace) {
    handler.holds = true;
    host({.clients = 16, .messages_per_s = 1000, .fds = 64});
    const auto before = open_fds();
    {
        auto holder = channel();
        ASSERT_TRUE(holder.ask(message("x")));
        std::vector<control_channel> flood;
        for (int i = 0; i < 300; ++i) {
            auto c = control_channel::connect(dir(), "vale1");
            if (c) flood.push_back(std::move(*c));
        }
        auto fresh = channel();
        const auto start = steady::now();
        EXPECT_TRUE(fresh.ask(message("x")));
        EXPECT_LE(steady::now() - start, 500ms);
        EXPECT_TRUE(holder.alive());
        EXPECT_TRUE(holder.ask(message("x")));
    }
    EXPECT_TRUE(soon([&] { return open_fds() == before; }));
}

TEST_F(Control, AHostThatIsFullSaysSo) {
    handler.holds = true;
    host({.clients = 4, .messages_per_s = 1000, .fds = 64});
    std::vector<control_channel> full;
    for (int i = 0; i < 4; ++i) {
        full.push_back(channel());
        ASSERT_TRUE(full.back().ask(message("x")));
    }
    const auto a = channel().ask(message("x"));
    ASSERT_FALSE(a);
    EXPECT_EQ(a.error().code.value(), EBUSY) << a.error().text;
    full.pop_back();
    EXPECT_TRUE(soon([&] { return channel().ask(message("x")).has_value(); }));
}

TEST_F(Control, AFloodOfMessagesIsSlowedDown) {
    host();
    std::atomic<bool> end = false;
    {
        std::vector<std::jthread> flood;
        for (int i = 0; i < 8; ++i)
            flood.emplace_back([&, c = std::make_shared<control_channel>(channel())] {
                const auto f = frame();
                while (!end && c->alive())
                    if (::send(c->fd(), &f, sizeof f, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) std::this_thread::sleep_for(1ms);
            });
        std::this_thread::sleep_for(100ms);
        const auto then = handler.messages.load();
        const auto start = steady::now();
        EXPECT_LE(answer_time(), 100ms);
        std::this_thread::sleep_for(300ms);
        const double seconds = std::chrono::duration<double>(steady::now() - start).count();
        EXPECT_LE(handler.messages - then, 8 * (1000 * seconds + 100) + 100);
        end = true;
    }
    EXPECT_LE(answer_time(), 100ms);
}

TEST_F(Control, WhoDoesNotReadIsDropped) {
    host();
    auto deaf = channel();
    auto good = channel();
    ASSERT_TRUE(send_control(deaf.fd(), message("verbose")));
    EXPECT_TRUE(soon([&] { return handler.gone_ == 1; }));
    EXPECT_TRUE(good.ask(message("x")));
}

TEST_F(Control, ItIsNoticedThatTheOtherSideHasGone) {
    host();
    auto c = channel();
    ASSERT_TRUE(c.ask(message("x")));
    EXPECT_TRUE(c.alive());
    stop();
    EXPECT_FALSE(c.alive());
    EXPECT_EQ(c.ask(message("x")).error().code.value(), ECONNRESET);
    host();
    {
        auto other = channel();
        ASSERT_TRUE(other.ask(message("x")));
    }
    EXPECT_TRUE(soon([&] { return handler.gone_ >= 1; }));
}

TEST_F(Control, AHostThatSaysNothingIsNotWaitedForLong) {
    host();
    auto c = channel();
    const auto start = steady::now();
    const auto a = c.ask(message("silence"), {}, 150ms);
    ASSERT_FALSE(a);
    EXPECT_EQ(a.error().code.value(), ETIMEDOUT);
    EXPECT_GE(steady::now() - start, 150ms);
    EXPECT_LE(steady::now() - start, 1s);
    EXPECT_TRUE(c.ask(message("x"))) << "and a late answer is not taken for another";
}

TEST_F(Control, AHostMayLie) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    const nm::base::unique_fd villain(ends[1]);
    control_channel c{nm::base::unique_fd(ends[0])};
    const auto before = open_fds();
    // Events nobody asked for, answers to nothing, descriptors with all of them; then what is no message.
    std::jthread talk([&] {
        for (unsigned i = 0; i < 2000; ++i) {
            auto f = frame();
            f.type = i % 2 != 0 ? 17 : 16;
            f.sequence = 77;
            while (!send_raw(villain.get(), &f, sizeof f, i % 100 == 0 ? 253 : i % 3) && errno == ETOOMANYREFS) std::this_thread::sleep_for(1ms);
        }
        auto f = frame();
        f.payload_size = 5000;
        (void)send_raw(villain.get(), &f, sizeof f, 9);
    });
    const auto a = c.ask(message("x"), {}, 10s);
    ASSERT_FALSE(a);
    EXPECT_EQ(a.error().code.value(), EPROTO) << a.error().text;
    unsigned events = 0;
    while (c.event()) ++events;
    EXPECT_EQ(events, 256U);
    talk.join();
    EXPECT_EQ(open_fds(), before);
}

TEST_F(Control, AHostProgramIsStartedAndSaysWhatIsWrong) {
    reach_options o;
    o.program = script("[ \"$1\" = --background ] || exit 1\necho \"$2 cannot be\" >&3");
    auto a = ask_host("vale5", message("x"), {}, o);
    ASSERT_FALSE(a);
    EXPECT_EQ(a.error().text, "vale5 cannot be");

    o.program = script("exit 0");  // silent, as one that lost an election
    o.timeout = 200ms;
    const auto start = steady::now();
    a = ask_host("vale5", message("x"), {}, o);
    ASSERT_FALSE(a);
    EXPECT_EQ(a.error().code.value(), ETIMEDOUT) << a.error().text;
    EXPECT_LE(steady::now() - start, 2s);

    o.program = script("exec sleep 0.7");  // never says that it listens
    a = ask_host("vale5", message("x"), {}, o);
    ASSERT_FALSE(a);
    EXPECT_EQ(a.error().code.value(), ETIMEDOUT) << a.error().text;

    o.program = (root / "none").string();
    EXPECT_EQ(ask_host("vale5", message("x"), {}, o).error().code.value(), ENOENT);
    o.start = false;
    EXPECT_EQ(ask_host("vale5", message("x"), {}, o).error().code.value(), ENOENT);
}

TEST_F(Control, AHostProgramInheritsNothing) {
    // Its signals are unblocked, and of descriptors it has three and the one to report by.
    sigset_t all, old;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &old);
    nm::base::unique_fd open_one(::dup(0));  // without CLOEXEC
    reach_options o;
    o.program = script("echo $(ls /proc/self/fd | wc -l) $(grep SigBlk /proc/self/status) $(readlink /proc/self/fd/2) >&3");
    const auto a = ask_host("vale5", message("x"), {}, o);
    ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
    ASSERT_FALSE(a);
    EXPECT_NE(a.error().text.find("SigBlk: 0000000000000000"), std::string::npos) << a.error().text;
    EXPECT_NE(a.error().text.find("/dev/null"), std::string::npos) << a.error().text;
    EXPECT_LE(std::stoi(a.error().text), 6) << a.error().text;  // ls's own among them
}

TEST_F(Control, AHostThatEndsWhileItIsAskedIsReplaced) {
    // The first host closes what connects; the second, "started" meanwhile, answers.
    auto d = dir();
    auto first = control_server::create(dir(), "vale1");
    ASSERT_TRUE(first);
    std::jthread change([&] {
        std::this_thread::sleep_for(50ms);
        first->reset();
        host();
    });
    reach_options o;
    o.program = script("exit 0");
    const auto a = ask_host("vale1", message("again"), {}, o);
    change.join();
    ASSERT_TRUE(a) << a.error().text;
    EXPECT_EQ(a->answer.name, "again");
}

TEST_F(Control, ThousandClientsThatDieLeaveNothing) {
    host();
    const auto before = open_fds();
    for (int i = 0; i < 20; ++i) {
        const pid_t child = ::fork();
        if (child == 0) {
            auto d = runtime_dir::open();
            for (int k = 0; k < 50; ++k) {
                auto c = control_channel::connect(*d, "vale1");
                const std::vector<int> fds(static_cast<std::size_t>(k), 0);
                if (c) (void)send_control(c->fd(), {}, fds);
                if (c && k % 10 == 9) (void)c->release().release();
            }
            ::kill(::getpid(), SIGKILL);
        }
        ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    }
    EXPECT_TRUE(soon([&] { return open_fds() == before; }));
    EXPECT_LE(answer_time(), 100ms);
}

/// The host program itself, where it has been built beside this one.
class Custody : public Control {
protected:
    void SetUp() override {
        Control::SetUp();
        if (!fs::exists(fs::read_symlink("/proc/self/exe").parent_path() / "nm-host")) GTEST_SKIP() << "nm-host has not been built";
    }
    static int memory() { return ::memfd_create("custody", MFD_CLOEXEC); }
    static ino_t inode(int fd) {
        struct stat st {};
        return ::fstat(fd, &st) == 0 ? st.st_ino : 0;
    }
    static custody claim(const std::string& name, unsigned end, const std::string& payload, std::span<const int> fds) {
        auto c = claim_at_host("p", name, end, payload, fds);
        EXPECT_TRUE(c) << c.error().text;
        return std::move(*c);
    }
    static int refused(const std::string& name, unsigned end, const std::string& payload, std::span<const int> fds) {
        const auto c = claim_at_host("p", name, end, payload, fds);
        return c ? 0 : c.error().code.value();
    }
    static std::optional<claim_words> told(custody& c) {
        std::optional<control_message> e;
        return soon([&] { return (e = c.channel.event()).has_value(); }) ? e->words<claim_words>() : std::nullopt;
    }
};

TEST_F(Custody, WhatTheFirstBringsTheSecondGets) {
    const nm::base::unique_fd a(memory()), b(memory());
    const int mine[] = {a.get()}, other[] = {b.get()};
    auto first = claim("p{1", 0, "as I made it", mine);
    EXPECT_EQ(first.words.made, 1U);
    EXPECT_EQ(first.words.other, 0U);
    auto second = claim("p{1", 1, "not this", other);
    EXPECT_EQ(second.words.made, 0U);
    EXPECT_EQ(second.words.other, 1U);
    EXPECT_EQ(second.payload, "as I made it");
    ASSERT_EQ(second.fds.size(), 1U);
    EXPECT_EQ(inode(second.fds[0].get()), inode(a.get()));
    const auto came = told(first);
    ASSERT_TRUE(came);
    EXPECT_EQ(came->end, 1U);
    EXPECT_EQ(came->other, 1U);
    EXPECT_EQ(refused("p{1", 0, "x", other), EBUSY);
    EXPECT_EQ(refused("p{1", 1, "x", other), EBUSY);
}

TEST_F(Custody, AnEndThatGoesCanBeTakenAgain) {
    const nm::base::unique_fd a(memory());
    const int mine[] = {a.get()};
    auto first = claim("p{1", 0, "kept", mine);
    {
        auto second = claim("p{1", 1, "", mine);
        EXPECT_EQ(told(first)->other, 1U);
    }
    const auto start = steady::now();
    EXPECT_EQ(told(first)->other, 0U);
    EXPECT_LE(steady::now() - start, 200ms);
    auto again = claim("p{1", 1, "other", mine);
    EXPECT_EQ(again.payload, "kept");
    // The first goes too; it is the second that keeps it now.
    first.channel.release().reset();
    EXPECT_EQ(told(again)->other, 0U);
    auto third = claim("p{1", 0, "other", mine);
    EXPECT_EQ(third.payload, "kept");
}

TEST_F(Custody, WithTheLastEndItIsGoneAndSoIsTheHost) {
    const nm::base::unique_fd a(memory());
    const int mine[] = {a.get()};
    {
        auto first = claim("p{1", 0, "old", mine);
        EXPECT_EQ(dir().hosted(), std::vector<std::string>{"p"});
    }
    EXPECT_TRUE(soon([&] { return fs::is_empty(path); }));
    const auto again = claim("p{1", 1, "new", mine);
    EXPECT_EQ(again.words.made, 1U);
}

TEST_F(Custody, WhatIsKeptCanBeChangedByWhoHoldsAnEnd) {
    const nm::base::unique_fd a(memory());
    const int mine[] = {a.get()};
    auto first = claim("p{1", 0, "old", mine);
    control_message m;
    m.type = control_type::update;
    m.name = "p{1";
    m.put(claim_words{});
    m.payload += "new";
    EXPECT_TRUE(first.channel.ask(m));
    EXPECT_EQ(claim("p{1", 1, "", mine).payload, "new");
    auto stranger = claim("p{2", 0, "x", mine);
    EXPECT_EQ(stranger.channel.ask(m).error().code.value(), ENOENT);
    m.type = control_type::release;
    EXPECT_EQ(stranger.channel.ask(m).error().code.value(), ENOENT);
    EXPECT_TRUE(first.channel.ask(m));
    EXPECT_EQ(claim("p{1", 0, "newest", mine).payload, "newest");
}

TEST_F(Custody, ClaimsThatAreNone) {
    const nm::base::unique_fd a(memory());
    const int mine[] = {a.get()};
    auto first = claim("p{1", 0, "", mine);
    EXPECT_EQ(refused("p{2", 0, "x", {}), ENOENT);
    EXPECT_EQ(refused("p{2", 2, "x", mine), EINVAL);
    EXPECT_EQ(refused("", 0, "x", mine), EINVAL);
    EXPECT_EQ(refused("p{2", 0, std::string(1024, 'x'), mine), EMSGSIZE);
    control_message m;
    m.type = control_type::claim;
    m.name = "p{3";
    m.payload = "short";
    EXPECT_EQ(first.channel.ask(m, mine).error().code.value(), EINVAL);
    m.type = static_cast<control_type>(77);
    EXPECT_EQ(first.channel.ask(m).error().code.value(), EOPNOTSUPP);
    EXPECT_EQ(open_at_host("p", "vale1:a").error().code.value(), EINVAL) << "it is no switch";
    // One connection holds so much and no more.
    int held = 1;
    for (int i = 0; i < 100; ++i) {
        control_message c;
        c.type = control_type::claim;
        c.name = "many{" + std::to_string(i);
        c.put(claim_words{});
        held += first.channel.ask(c, mine).has_value() ? 1 : 0;
    }
    EXPECT_EQ(held, 64);
}

TEST_F(Custody, PortsOfASwitchAreGrantedWhole) {
    auto g = open_at_host("vale1", "vale1:a");
    ASSERT_TRUE(g) << g.error().text;
    EXPECT_EQ(g->words.vectors, 3U);
    EXPECT_EQ(g->kicks.size(), 3U);
    EXPECT_TRUE(nm::base::map_sealed(g->memory.get(), g->words.size));
    EXPECT_EQ(open_at_host("vale1", "vale1:a").error().code.value(), EBUSY);
    EXPECT_EQ(open_at_host("vale1", "vale2:a").error().code.value(), EINVAL);
    EXPECT_EQ(open_at_host("vale1", "netmap:eth0").error().code.value(), EINVAL);
    EXPECT_EQ(open_at_host("vale1", "vale1:").error().code.value(), EINVAL);
    EXPECT_EQ(open_at_host("vale1", "vale1:b", {.tx_rings = 0xffffffffU}).error().code.value(), EINVAL);
    EXPECT_EQ(open_at_host("vale1", "vale1:b", {.tx_rings = 16, .rx_rings = 16, .tx_slots = 16384, .rx_slots = 16384}).error().code.value(), ENOMEM);
    // Closed, it can be opened anew; what one connection may open has a limit.
    g->channel.release().reset();
    EXPECT_TRUE(soon([] { return open_at_host("vale1", "vale1:a").has_value(); }));
    auto many = open_at_host("vale1", "vale1:m0");
    ASSERT_TRUE(many);
    control_message m;
    m.type = control_type::open;
    m.put(port_wish{.tx_slots = 16, .rx_slots = 16});
    int opened = 1;
    for (int i = 1; i < 40; ++i) {
        m.name = "vale1:m" + std::to_string(i);
        opened += many->channel.ask(m).has_value() ? 1 : 0;
    }
    EXPECT_EQ(opened, 16);
}

/// What a host signals, or how, is its own affair: a client cannot make it wait, whatever it does to what it was given.
class BlockedWakeUps : public Custody, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(, BlockedWakeUps, testing::Bool());

TEST_P(BlockedWakeUps, StallNobody) {
    nm::context ctx;
    auto villain = open_at_host("vale1", "vale1:v", {.eventfds = GetParam()});
    ASSERT_TRUE(villain) << villain.error().text;
    for (auto* many : {&villain->irqs, &villain->kicks})
        for (const auto& fd : *many) {
            const nm::base::unique_fd full(::open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
            const std::uint64_t most = 0xfffffffffffffffeULL;
            while (full && ::write(full.get(), &most, sizeof most) > 0) {}
            if (!full) {  // an eventfd has one open file
                EXPECT_EQ(::write(fd.get(), &most, sizeof most), 8);
            }
            ASSERT_EQ(::fcntl(fd.get(), F_SETFL, 0), 0);
        }
    auto map = nm::base::map_sealed(villain->memory.get(), villain->words.size);
    ASSERT_TRUE(map);
    nm::ptnet::link_to_host link;
    link.base = map->data();
    link.size = map->size();
    link.bells.resize(villain->kicks.size());
    auto& port = reinterpret_cast<nm::ptnet::memory_directory*>(link.base)->port[0];
    const auto layout = nm::ptnet::read_layout(link, "villain");
    ASSERT_TRUE(layout) << layout.error().text;
    const std::uint32_t word = 0x100U | static_cast<std::uint32_t>(nm::ptnet::port_control::create);
    __atomic_store_n(&port.control, word, __ATOMIC_SEQ_CST);  // the answer is a wake-up

    auto a = nm::try_open<nm::process_port>(ctx, "vale1:a");
    ASSERT_TRUE(a) << a.error().text;
    auto b = nm::try_open<nm::process_port>(ctx, "vale1:b");
    ASSERT_TRUE(b) << b.error().text;
    EXPECT_TRUE(soon([&] { return __atomic_load_n(&port.answered, __ATOMIC_ACQUIRE) == word; }));
    for (unsigned i = 0; i < 2; ++i) *reinterpret_cast<volatile std::uint32_t*>(reinterpret_cast<std::byte*>(layout->to_host + i) + 8) = 1;  // it sleeps
    unsigned received = 0;
    EXPECT_TRUE(soon([&] {
        auto& tx = a->tx(0);
        (void)tx.txsync();
        if (!tx.empty()) {
            auto& s = tx.slot();
            std::memset(tx.buf(s), 0xff, 60);  // to all
            s.len = 60;
            tx.advance();
            (void)tx.txsync();
        }
        auto& rx = b->rx(0);
        (void)rx.rxsync();
        for (; !rx.empty(); rx.advance()) ++received;
        return received >= 50;
    })) << received;
    EXPECT_TRUE(open_at_host("vale1", "vale1:c")) << "and it answers";
}

}  // namespace
