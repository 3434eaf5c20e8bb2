// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Two devices that are wired to each other, as ports of one type. The scenario says which they are: NM_A and NM_B are port names
// (netmap:0000:00:04.0); NM_LINK_A is what QEMU calls the first; NM_BUSY says how often to repeat what takes long.

#include <cstdlib>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <sys/epoll.h>
#include <unistd.h>

#include "vm/traffic.hpp"

namespace nm::test {

[[nodiscard]] inline std::string env(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
}
[[nodiscard]] inline int env_number(const char* name, int otherwise) {
    const std::string value = env(name);
    return value.empty() ? otherwise : std::stoi(value);
}

/// Asks the host: see tests/vm/run.
[[nodiscard]] inline bool host(const std::string& request) { return std::system(("host " + request + " >/dev/null").c_str()) == 0; }

/// An epoll set, because it is what a program with many descriptors has.
class epoll {
public:
    explicit epoll(int fd) : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        epoll_event e{};
        e.events = EPOLLIN;
        if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &e) != 0) throw std::runtime_error("epoll_ctl");
    }
    epoll(const epoll&) = delete;
    epoll& operator=(const epoll&) = delete;
    ~epoll() { ::close(epoll_); }
    /// Whether it was readable within so many milliseconds.
    [[nodiscard]] bool wait(int ms) const {
        epoll_event e{};
        return ::epoll_wait(epoll_, &e, 1, ms) == 1;
    }

private:
    int epoll_;
};

inline open_options with_buffers(std::uint32_t size, std::uint32_t count = 8192) {
    region_options r;
    r.bufs = count;
    r.buf_size = size;
    r.meta_bytes = std::size_t{1} << 20U;
    open_options o;
    o.memory = value_or_throw(region::create(r));
    return o;
}

/// Whatever was accepted was sent, whatever came was delivered, and nothing else.
template <class Port>
void expect_conserved(Port& from, Port& to, std::uint64_t frames) {
    const auto sent = from.tx_stats();
    const auto got = to.rx_stats();
    ++frames;  // the first one
    EXPECT_EQ(sent.frames, frames) << from.name();
    EXPECT_EQ(sent.dropped(), 0U) << from.name();
    EXPECT_EQ(got.frames, frames) << to.name();
    EXPECT_EQ(got.dropped(), 0U) << to.name();
    EXPECT_EQ(sent.bytes, got.bytes);
}

template <class P>
class Nic : public testing::Test {
protected:
    using port = P;
    void SetUp() override {
        if (a_name.empty()) GTEST_SKIP() << "NM_A and NM_B do not say which ports to use";
    }
    [[nodiscard]] P opened(const std::string& name, const open_options& o = {}) {
        P p = nm::open<P>(ctx, name, o);
        // Until the link is up, which a device may take its time for.
        for (int i = 0; i < 100 && !linked(p); ++i) (void)::usleep(50'000);
        EXPECT_TRUE(linked(p)) << name << " has no link";
        return p;
    }
    [[nodiscard]] static bool linked(P& p) {
        if constexpr (requires { p.link().up; })
            if (!p.link().up) return false;
        return p.status().has_value();
    }

    struct wired {
        P a, b;
    };
    /// Both ends, when a first frame has gone each way: some devices of QEMU's receive nothing in their first second.
    [[nodiscard]] wired both(const open_options& o = {}) {
        wired w{opened(a_name, o), opened(b_name, o)};
        one_way<P, P> there{w.a, w.b}, back{w.b, w.a};
        for (auto* way : {&there, &back}) way->frames = 1;
        EXPECT_TRUE(exchange(there, back).finished) << "no frame arrives";
        stream = 1;
        return w;
    }

    /// Both ways, and every frame as it was sent.
    void carries(P& a, P& b, std::uint64_t frames, std::uint64_t window = 64, idle how = idle::spin,
                 std::function<std::size_t(std::uint32_t)> size = {}) {
        one_way<P, P> there{a, b}, back{b, a};
        for (auto* w : {&there, &back}) {
            // What has been looked at is the device's again with the next rxsync. One that has no buffer loses frames, and QEMU's
            // hub sends those that it kept after later ones.
            const std::uint64_t slots = (1514 + w->to.rx().buf_size() - 1) / w->to.rx().buf_size();
            w->frames = frames, w->window = std::min<std::uint64_t>(window, (w->to.rx().num_slots() - 1) / (2 * slots));
            if (size) w->size = size;
            w->streams_from(stream);
        }
        stream = static_cast<std::uint16_t>(stream + std::max(a.num_tx_rings(), b.num_tx_rings()));
        const auto r = exchange(there, back, how);
        if constexpr (requires { a.device_counters(); }) {
            if (!r.finished || !there.got.clean() || !back.got.clean() || r.overslept != 0) {
                for (P* p : {&a, &b}) {
                    const auto c = p->device_counters();
                    const auto counted = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
                    std::printf("%s counted %llu sent, %llu received, %llu missed, %llu bad\n", p->name().c_str(), counted(c.tx_frames),
                                counted(c.rx_frames), counted(c.rx_missed), counted(c.rx_errors));
                }
            }
        }
        EXPECT_TRUE(r.finished) << "after " << r.seconds << " s: there " << there.sent << " sent, " << there.got << "; back " << back.sent
                                << " sent, " << back.got;
        EXPECT_TRUE(there.got.clean()) << "there: " << there.got;
        EXPECT_TRUE(back.got.clean()) << "back: " << back.got;
        EXPECT_EQ(there.got.frames, frames);
        EXPECT_EQ(back.got.frames, frames);
        EXPECT_EQ(r.overslept, 0U) << "of " << r.sleeps << " sleeps";
        std::printf("%s: %llu frames each way in %.2f s, %llu sleeps\n", a.mode().c_str(), static_cast<unsigned long long>(frames), r.seconds,
                    static_cast<unsigned long long>(r.sleeps));
    }

    /// One end, which the host has the other one of.
    [[nodiscard]] P alone(const open_options& o = {}) {
        P p = opened(a_name, o);
        one_way<P, P> first{p, p};
        first.frames = 1;
        EXPECT_TRUE(exchange_how(idle::spin, first).finished) << "the host does not answer";
        return p;
    }

    const std::string a_name = env("NM_A"), b_name = env("NM_B");
    context ctx;
    std::uint16_t stream = 0;
};

}  // namespace nm::test
