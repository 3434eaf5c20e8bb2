// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "nm/nm.hpp"
#include "nm/ptnet/host.hpp"
#include "nm/ptnet/port.hpp"
#include "nm/ptnet/sync_loop.hpp"

namespace nm::test {

/// Both sides of a boundary in one process and on one mapping, so that sanitizers see them as one (trap T2): a host that serves
/// ports of pipes and switches, in a thread or step by step, and guests that use them.
class ptnet_rig {
public:
    using kinds = nm::port_list<nm::pipe, nm::vale_port, nm::null_port, nm::monitor>;

    explicit ptnet_rig(bool threaded = true) : loop_(nm::value_or_throw(nm::ptnet::sync_loop::create())) {
        if (threaded) thread_ = std::jthread([this](const std::stop_token& s) { loop_->run(s); });
    }

    /// Serves the port of that name, in a memory of its own.
    std::shared_ptr<nm::ptnet::service> serve(const std::string& name, const nm::open_options& o = {}) {
        nm::ptnet::host_options with;
        with.open = o;
        memory = nm::value_or_throw(nm::ptnet::host_memory::create(nm::value_or_throw(nm::ptnet::memory_for<kinds>(ctx, name, with))));
        std::shared_ptr<nm::ptnet::service> s = nm::value_or_throw(nm::ptnet::serve<kinds>(ctx, memory, name, with));
        auto added = loop_->add(s);
        EXPECT_TRUE(added) << added.error().text;
        return s;
    }
    /// What a transport would give to the guest of the service that was made last.
    [[nodiscard]] nm::ptnet::link_to_host link(const nm::ptnet::service& s, bool interrupts = true) const {
        nm::ptnet::link_to_host l;
        l.keep = memory;
        l.base = memory->base();
        l.size = memory->size();
        for (unsigned v = 0; v < s.vectors(); ++v) {
            l.bells.push_back({s.kick_fd(v)});
            if (interrupts) l.wakes.emplace_back(::dup(s.irq_fd(v)));
        }
        return l;
    }
    [[nodiscard]] nm::result<nm::ptnet_port> try_attach(nm::ptnet::link_to_host l, const nm::open_options& o = {}, const std::string& as = "ptnet:test") {
        return nm::ptnet_port::attach(guests, std::move(l), nm::value_or_throw(nm::parse_port(as)), o);
    }
    /// A guest of a port that is served now.
    [[nodiscard]] nm::ptnet_port guest(const std::string& name, const nm::open_options& o = {}, bool interrupts = true) {
        const auto s = serve(name, o);
        services.push_back(s);
        nm::open_options mine;
        mine.vnet_hdr = o.vnet_hdr;
        return nm::value_or_throw(try_attach(link(*s, interrupts), mine));
    }
    [[nodiscard]] nm::ptnet::sync_loop& loop() noexcept { return *loop_; }
    /// Without a thread: until nobody has anything to do.
    void settle() {
        for (int i = 0; i < 1000 && loop_->poll_once(); ++i) {}
    }
    void stop() {
        thread_.request_stop();
        if (thread_.joinable()) thread_.join();
    }

    nm::context ctx, guests;  // the host's, and that of who uses the ports
    std::shared_ptr<nm::ptnet::host_memory> memory;
    std::vector<std::shared_ptr<nm::ptnet::service>> services;

private:
    std::unique_ptr<nm::ptnet::sync_loop> loop_;
    std::jthread thread_;
};

/// Sends `n` numbered frames through `from` and takes them from `to`, in one thread, waiting where there is nothing to do.
template <class From, class To>
void pass_numbered(From& from, To& to, std::uint32_t n, std::uint16_t len = 60) {
    std::uint32_t sent = 0, got = 0;
    bool in_order = true;
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (got != n && std::chrono::steady_clock::now() < end) {
        const auto before = sent + got;
        if (sent != n)
            nm::generate(from, std::min<std::uint32_t>(64, n - sent), [&](nm::frame& f) noexcept {
                std::memset(f.data(), 0xff, 12);
                f.data()[6] = 2;
                std::memcpy(f.data() + 14, &sent, sizeof sent);
                ++sent;
                f.resize(len);
            });
        nm::drain(to, 256, [&](nm::frame& f) noexcept {
            std::uint32_t number = 0;
            std::memcpy(&number, f.data() + 14, sizeof number);
            in_order &= number == got && f.size() == len;
            ++got;
        });
        if (sent + got == before) (void)nm::wait_any(std::chrono::milliseconds(1000), nm::watch{to, nm::events::rx}, nm::watch{from, sent != n ? nm::events::tx : nm::events::none});
    }
    EXPECT_EQ(got, n);
    EXPECT_TRUE(in_order);
}

}  // namespace nm::test
