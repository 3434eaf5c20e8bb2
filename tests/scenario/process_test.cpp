// SPDX-License-Identifier: BSD-2-Clause
// A switch in a process of its own, and programs that use it: some well, some badly, some killed.

#include <csignal>
#include <dirent.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "nm/fuse.hpp"
#include "nm/ptnet/process.hpp"
#include "nm/wait.hpp"
#include "support/remove_folder.hpp"

namespace {

using namespace std::chrono_literals;
using nm::events;
using clock = std::chrono::steady_clock;

class Processes : public testing::Test {
protected:
    void SetUp() override {
        std::string name = "/tmp/nm-processes-XXXXXX";
        dir_ = ::mkdtemp(name.data());
        ::setenv("NM_RUNTIME_DIR", (dir_ + "/run").c_str(), 1);
        // The host program is beside this one.
        const auto bin = std::filesystem::read_symlink("/proc/self/exe").parent_path();
        ASSERT_TRUE(std::filesystem::exists(bin / "nm-host")) << bin;
        ::setenv("NM_LIBEXEC", bin.c_str(), 1);
    }
    void TearDown() override {
        // With its last port a host ends, within a second or so.
        const auto end = clock::now() + 10s;
        while (!hosts().empty() && clock::now() < end) std::this_thread::sleep_for(20ms);
        EXPECT_TRUE(hosts().empty());
        nm::test::remove_folder(dir_);
    }

    [[nodiscard]] std::vector<std::string> hosts() const {
        auto dir = nm::sys::runtime_dir::open();
        return dir ? dir->hosted() : std::vector<std::string>{};
    }
    /// The process behind a name.
    [[nodiscard]] static pid_t host_of(const char* name) {
        auto dir = nm::sys::runtime_dir::open();
        auto channel = dir ? nm::sys::control_channel::connect(*dir, name) : nm::fail(ENOENT, "");
        ucred peer{};
        socklen_t size = sizeof peer;
        if (!channel || ::getsockopt(channel->fd(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return -1;
        return peer.pid;
    }
    [[nodiscard]] static std::size_t entries(const std::string& path) {
        std::size_t n = 0;
        std::error_code none;
        for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(path, none)) ++n;
        return n;
    }
    [[nodiscard]] static std::size_t lines(const std::string& path) {
        std::ifstream in(path);
        return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(in), {}, '\n'));
    }
    /// Runs in a process of its own, which dies with this one.
    [[nodiscard]] static pid_t child(const std::function<void()>& body) {
        const pid_t pid = ::fork();
        if (pid != 0) return pid;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        body();
        ::_exit(0);
    }
    [[nodiscard]] static nm::process_port open(nm::context& ctx, const std::string& name, const nm::open_options& o = {}) {
        return nm::value_or_throw(nm::try_open<nm::process_port>(ctx, name, o));
    }

    std::string dir_;
};

// Broadcasts, each filled with its number.
template <class P>
void send(P& port, std::uint32_t n, std::uint32_t& number) {
    nm::generate(port, n, [&](nm::frame& f) noexcept {
        ++number;
        std::memset(f.data(), 0xff, 12);
        f.data()[6] = 2;
        for (std::size_t at = 12; at < 60; at += 4) std::memcpy(f.data() + at, &number, sizeof number);
        f.resize(60);
    });
}
struct reader {
    std::uint32_t last = 0, got = 0;
    bool whole = true, in_order = true;

    template <class P>
    void take(P& port) {
        nm::drain(port, 4096, [&](nm::frame& f) noexcept {
            if (f.size() != 60 || f.data()[0] != 0xff || f.data()[6] != 2) return;  // not of ours
            std::uint32_t number = 0, part = 0;
            std::memcpy(&number, f.data() + 12, sizeof number);
            for (std::size_t at = 16; at < 60; at += 4) {
                std::memcpy(&part, f.data() + at, sizeof part);
                whole &= part == number;
            }
            in_order &= number > last;
            last = number;
            ++got;
        });
    }
};

/// Two clients that behave, in this process, for as long as `go` says: bursts that fit the ring, so that nothing of theirs is lost but for
/// what others send.
struct pair_of_clients {
    nm::context ctx;
    nm::process_port a, b;
    std::uint32_t sent = 0;
    reader to_b;

    pair_of_clients()
        : a(nm::value_or_throw(nm::try_open<nm::process_port>(ctx, "vale1:a"))), b(nm::value_or_throw(nm::try_open<nm::process_port>(ctx, "vale1:b"))) {}
    void round() {
        send(a, 100, sent);
        for (int i = 0; i < 20 && to_b.last != sent; ++i) {
            (void)nm::wait(b, events::rx, 20ms);
            to_b.take(b);
        }
        reader nobody;
        nobody.take(a);
    }
    void check() const {
        EXPECT_TRUE(to_b.whole);
        EXPECT_TRUE(to_b.in_order);
        EXPECT_GT(to_b.got, sent / 10 * 8) << "of " << sent;
    }
};

TEST_F(Processes, two_programs_meet_on_a_switch) {
    nm::context ctx;
    auto b = open(ctx, "vale1:b");
    const pid_t sender = child([] {
        nm::context mine;
        auto a = open(mine, "vale1:a");
        std::uint32_t number = 0;
        send(a, 500, number);
        while (a.tx().pending()) (void)a.tx().txsync();
        ::usleep(300'000);
    });
    reader got;
    while (got.got < 500 && nm::wait(b, events::rx, 5s) == events::rx) got.take(b);
    EXPECT_EQ(got.got, 500U);
    EXPECT_TRUE(got.whole && got.in_order);
    int status = 0;
    ::waitpid(sender, &status, 0);
    EXPECT_EQ(status, 0);
}

TEST_F(Processes, a_killed_first_opener_disturbs_nobody) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t first = child([&] {
        nm::context mine;
        auto p = open(mine, "vale1:first");
        (void)!::write(ready[1], "", 1);
        ::pause();
    });
    char c = 0;
    ASSERT_EQ(::read(ready[0], &c, 1), 1);
    pair_of_clients pair;
    pair.round();
    ::kill(first, SIGKILL);
    ::waitpid(first, nullptr, 0);
    for (int i = 0; i < 50; ++i) pair.round();
    pair.check();
    EXPECT_EQ(pair.to_b.got, pair.sent);
    ::close(ready[0]);
    ::close(ready[1]);
}

TEST_F(Processes, a_thousand_clients_are_killed_and_nothing_is_left_of_them) {
    pair_of_clients pair;
    pair.round();
    const pid_t host = host_of("vale1");
    ASSERT_GT(host, 0);
    const std::string proc = "/proc/" + std::to_string(host);
    const auto fds = entries(proc + "/fd"), maps = lines(proc + "/maps");
    std::mt19937 any(7);
    const int kills = ::getenv("NM_FEW") != nullptr ? 100 : 1000;
    for (int i = 0; i < kills; ++i) {
        const auto delay = any() % 4000;
        const pid_t victim = child([&] {
            nm::context mine;
            nm::open_options o;
            o.tx_slots = 32;
            auto p = nm::try_open<nm::process_port>(mine, "vale1:v" + std::to_string(i % 8), o);
            if (!p) ::_exit(1);
            for (std::uint32_t number = 0;;) send(*p, 8, number);
        });
        ::usleep(static_cast<useconds_t>(500 + delay));
        ::kill(victim, SIGKILL);
        ::waitpid(victim, nullptr, 0);
        if (i % 10 == 0) {
            pair.to_b.last = pair.sent;  // what comes of the victims looks like ours
            reader nobody;
            nobody.take(pair.b);
            nobody.take(pair.a);
        }
    }
    const auto end = clock::now() + 5s;
    while (clock::now() < end && (entries(proc + "/fd") > fds || lines(proc + "/maps") > maps + 8)) std::this_thread::sleep_for(10ms);
    EXPECT_LE(entries(proc + "/fd"), fds);
    EXPECT_LE(lines(proc + "/maps"), maps + 8) << "mappings of ports that have gone";
    EXPECT_TRUE(pair.a.status());
    // And it works as before.
    reader nobody;
    nobody.take(pair.b);
    const auto before = pair.to_b.got;
    pair.to_b = {};
    pair.sent = 0;
    (void)before;
    for (int i = 0; i < 10; ++i) pair.round();
    pair.check();
}

TEST_F(Processes, a_port_of_another_program_can_be_watched) {
    pair_of_clients pair;
    nm::context ctx;
    auto eye = open(ctx, "vale1:a/rt");
    EXPECT_EQ(eye.num_rx_rings(), 1U);
    pair.round();
    std::uint32_t seen = 0;
    bool sent = true;
    while (seen < 100 && nm::wait(eye, events::rx, 2s) == events::rx)
        nm::drain(eye, 1000, [&](nm::frame& f) noexcept {
            sent &= (f.meta().flags & nm::ns_txmon) != 0;
            ++seen;
        });
    EXPECT_EQ(seen, 100U);
    EXPECT_TRUE(sent);
    auto none = nm::try_open<nm::process_port>(ctx, "vale1:c/r");
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code.value(), ENOENT) << none.error().text;
    EXPECT_FALSE(nm::try_open<nm::process_port>(ctx, "vale1:a/zr"));
    pair.a.close();
    EXPECT_EQ(nm::wait(eye, events::rx, 5s), events::error);
}

TEST_F(Processes, when_the_host_is_killed_its_ports_say_so_and_open_again) {
    nm::context ctx;
    for (int i = 0; i < (::getenv("NM_FEW") != nullptr ? 5 : 50); ++i) {
        auto a = open(ctx, "vale1:a"), b = open(ctx, "vale1:b");
        std::uint32_t number = 0;
        reader got;
        send(a, 20, number);
        while (got.got != 20 && nm::wait(b, events::rx, 2s) == events::rx) got.take(b);
        ASSERT_EQ(got.got, 20U) << i;
        const pid_t host = host_of("vale1");
        ASSERT_GT(host, 0);
        const auto when = clock::now();
        ::kill(host, SIGKILL);
        ASSERT_EQ(nm::wait(b, events::rx, 5s), events::error);
        while (a.status() && clock::now() - when < 1s) std::this_thread::sleep_for(1ms);
        ASSERT_LT(clock::now() - when, 1s);  // 200 ms, were nobody else on this machine
        // A port of a host that has gone does no harm.
        for (int k = 0; k < 10; ++k) send(a, 300, number);
    }
}

// Someone who has a port, and breaks every rule: the memory, the doorbells, the control socket.
TEST_F(Processes, a_villain_disturbs_nobody) {
    pair_of_clients pair;
    pair.round();
    const pid_t host = host_of("vale1");
    const std::string proc = "/proc/" + std::to_string(host);
    const auto fds = entries(proc + "/fd"), maps = lines(proc + "/maps");
    const auto villain = [](unsigned seed) {
        std::mt19937 any(seed);
        auto grant = nm::sys::open_at_host("vale1", "vale1:villain" + std::to_string(seed));
        if (!grant) ::_exit(1);
        auto map = nm::base::map_sealed(grant->memory.get(), grant->words.size);
        if (!map) ::_exit(1);
        auto& reg = reinterpret_cast<nm::ptnet::memory_directory*>(map->data())->port[grant->words.port];
        const auto region = reg.region_offset;
        const auto words = reg.bufs_offset / 4, csb = reg.csb_gh_offset;
        // First it is a good client.
        nm::base::eventfd_signal(grant->kicks[0].get());
        reg.control = 0x101;
        nm::base::eventfd_signal(grant->kicks[0].get());
        ::usleep(2000);
        const std::uint32_t values[] = {0, 1, 2, 1022, 1023, 1024, 0x7fffffff, ~0U, 0x0020003c, 0x003c0005};
        for (std::uint64_t i = 0;; ++i) {
            auto* word = reinterpret_cast<std::uint32_t*>(map->data() + region) + any() % words;
            __atomic_store_n(word, any() % 3 == 0 ? static_cast<std::uint32_t>(any()) : values[any() % std::size(values)], __ATOMIC_RELAXED);
            __atomic_store_n(reinterpret_cast<std::uint32_t*>(map->data() + region + csb) + any() % 4, values[any() % 8], __ATOMIC_RELAXED);
            if (i % 8 == 0) nm::base::eventfd_signal(grant->kicks[any() % grant->kicks.size()].get());
            if (i % 64 == 0) __atomic_store_n(&reg.control, static_cast<std::uint32_t>(any() << 8 | (any() % 4 != 0)), __ATOMIC_RELAXED);
            if (i % 1024 == 0) __atomic_store_n(reinterpret_cast<std::uint32_t*>(map->data()) + any() % (sizeof(nm::ptnet::memory_directory) / 4), static_cast<std::uint32_t>(any()), __ATOMIC_RELAXED);
            if (i % 128 == 0) {
                nm::sys::control_message m;
                m.type = static_cast<nm::sys::control_type>(any() % 8);
                m.sequence = static_cast<std::uint32_t>(i);
                m.name.assign(any() % 64, 'x');
                m.payload.assign(any() % 512, static_cast<char>(any()));
                const int descriptors[] = {0, 1, 2};
                (void)nm::sys::send_control(grant->channel.fd(), m, std::span(descriptors).first(any() % 4));
            }
            if (i % 512 == 0) {
                // A hole: zeros where there was something.
                (void)::fallocate(grant->memory.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(any() % grant->words.size / 4096 * 4096), 4096);
                ::usleep(100);
            }
        }
    };
    pid_t villains[] = {child([&] { villain(1); }), child([&] { villain(2); })};
    auto slowest = 0ms;
    for (int i = 0; i < 400; ++i) {
        pair.round();
        const auto asked = clock::now();
        ASSERT_EQ(host_of("vale1"), host);
        auto dir = nm::sys::runtime_dir::open();
        ASSERT_TRUE(dir);
        auto channel = nm::sys::control_channel::connect(*dir, "vale1");
        ASSERT_TRUE(channel) << channel.error().text;
        nm::sys::control_message ask;
        ask.type = nm::sys::control_type::command;
        ask.payload = "list";
        (void)channel->ask(ask);
        slowest = std::max(slowest, std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - asked));
    }
    std::printf("the host's slowest answer took %d ms\n", static_cast<int>(slowest.count()));
    EXPECT_LT(slowest, 1500ms);  // 100 ms on a machine that does nothing else
    for (const pid_t v : villains) {
        EXPECT_EQ(::kill(v, SIGKILL), 0);
        int status = 0;
        ::waitpid(v, &status, 0);
        EXPECT_TRUE(WIFSIGNALED(status)) << "the villain could not begin";
    }
    EXPECT_TRUE(pair.to_b.whole);  // perhaps not in order: what a villain has heard it may say again
    std::printf("%u of %u frames of the others arrived\n", pair.to_b.got, pair.sent);
    const auto end = clock::now() + 5s;
    while (clock::now() < end && (entries(proc + "/fd") > fds || lines(proc + "/maps") > maps + 8)) std::this_thread::sleep_for(10ms);
    EXPECT_LE(entries(proc + "/fd"), fds);
    EXPECT_LE(lines(proc + "/maps"), maps + 8);
}

}  // namespace
