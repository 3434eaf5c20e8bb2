// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <atomic>
#include <cstring>
#include <thread>
#include <utility>

#include "common/idle.hpp"
#include "common/packet.hpp"
#include "common/ports.hpp"

namespace tool {

enum class peer_role {
    drain,  ///< takes all that comes
    echo,   ///< sends it back
    feed    ///< sends, and takes what comes back
};

/// A second port in this program and a thread that works it: the other end of a pipe, which only this program can open.
class peer {
public:
    peer(any_port port, peer_role role, std::size_t length)
        : port_(std::move(port)), role_(role),
          packet_({0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {2, 0, 0, 0, 0, 2},
                  flow{address{false, 0, 0x0a000002}, address{false, 0, 0x0a010001}, 1234, 1234}, length),
          thread_([this] { std::visit([this](auto& p) { work(p); }, port_); }) {}
    peer(const peer&) = delete;
    peer& operator=(const peer&) = delete;
    ~peer() { stop(); }

    void stop() {
        stop_.store(true, std::memory_order_relaxed);
        if (thread_.joinable()) thread_.join();
    }
    /// After stop().
    [[nodiscard]] nm::counters received() {
        return std::visit([](auto& p) { return p.rx_stats(); }, port_);
    }
    [[nodiscard]] nm::counters sent() {
        return std::visit([](auto& p) { return p.tx_stats(); }, port_);
    }

private:
    template <class P>
    void work(P& p) {
        constexpr nm::index_t burst = 512;
        const nm::events wanted = role_ == peer_role::feed ? nm::events::tx | nm::events::rx : nm::events::rx;
        idle rest;
        while (!stop_.load(std::memory_order_relaxed)) {
            nm::index_t moved = 0;
            if (role_ == peer_role::echo) {
                moved = nm::forward(p, p, burst);
            } else {
                moved = nm::drain(p, burst);
                if (role_ == peer_role::feed) moved += feed(p, burst);
            }
            if (moved != 0)
                rest.busy();
            else if (rest.should_sleep())
                (void)nm::wait(p, wanted, nap_limit);
        }
    }

    template <class P>
    nm::index_t feed(P& p, nm::index_t burst) {
        return nm::generate(p, burst, [bytes = packet_.bytes()](nm::frame& f) noexcept {
            const auto n = std::min<std::size_t>(bytes.size(), f.capacity());
            std::memcpy(f.data(), bytes.data(), n);
            f.resize(static_cast<std::uint16_t>(n));
        });
    }

    any_port port_;
    peer_role role_;
    packet packet_;
    std::atomic<bool> stop_ = false;
    std::thread thread_;
};

}  // namespace tool
