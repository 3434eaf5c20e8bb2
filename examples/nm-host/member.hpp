// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Interfaces on the switch: visited by the loop that serves the ports of other processes, or each by a thread of its own.

#include <atomic>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <sched.h>
#include <string>
#include <thread>
#include <utility>

#include "nm/nm.hpp"
#include "nm/ports/tap.hpp"
#include "nm/ptnet/service.hpp"
#include "nm/ptnet/sync_loop.hpp"

namespace host {

class member : public nm::ptnet::service {
public:
    [[nodiscard]] virtual const std::string& place() const noexcept = 0;  ///< "vale0:eth0"
    [[nodiscard]] virtual nm::counters received() noexcept = 0;           ///< from the device
    [[nodiscard]] virtual nm::counters sent() noexcept = 0;               ///< there

    [[nodiscard]] bool lost() const noexcept { return lost_.load(std::memory_order_relaxed); }
    void found() noexcept { lost_.store(false, std::memory_order_relaxed); }

protected:
    std::atomic<bool> lost_ = false;
};

template <class P>
class member_of final : public member {
public:
    explicit member_of(nm::vale::bwrap<P> b) : bwrap_(std::move(b)) {}

    [[nodiscard]] const nm::port_info& info() const noexcept override { return const_cast<nm::vale::bwrap<P>&>(bwrap_).port().info(); }
    [[nodiscard]] int port_fd() const noexcept override { return bwrap_.fd(); }
    bool visit() noexcept override {
        const std::lock_guard guard(mutex_);
        return !lost() && bwrap_.poll(256) != 0;
    }
    [[nodiscard]] bool arm() noexcept override {
        const std::lock_guard guard(mutex_);
        if (!lost()) bwrap_.arm();
        return true;
    }
    void disarm() noexcept override {}
    [[nodiscard]] bool minds_port() const noexcept override { return !lost(); }
    [[nodiscard]] nm::ptnet::service_stats stats() noexcept override { return {}; }
    [[nodiscard]] nm::result<void> status() override {
        const std::lock_guard guard(mutex_);
        return bwrap_.status();
    }
    void stop() noexcept override {}
    void lose() noexcept override { lost_.store(true, std::memory_order_relaxed); }

    [[nodiscard]] const std::string& place() const noexcept override { return bwrap_.name(); }
    [[nodiscard]] nm::counters received() noexcept override {
        const std::lock_guard guard(mutex_);
        return bwrap_.port().rx_stats();
    }
    [[nodiscard]] nm::counters sent() noexcept override {
        const std::lock_guard guard(mutex_);
        return bwrap_.port().tx_stats();
    }

private:
    std::mutex mutex_;  // once per visit: what the kernel counted is asked for by the thread that answers
    nm::vale::bwrap<P> bwrap_;
};

/// One member, and who visits it.
struct attached {
    std::shared_ptr<member> what;
    std::string interface;      ///< "eth0", of "eth0^" too
    bool made = false;          ///< the interface exists because of it
    int cpu = -1;               ///< of its own thread, if it has one
    std::jthread thread;

    /// netmap's polling mode: a core that does nothing else.
    void poll_on(nm::ptnet::sync_loop& loop, int core) {
        loop.remove(*what);
        cpu = core;
        thread = std::jthread([this_one = what, core](std::stop_token stop) {
            cpu_set_t only;
            CPU_ZERO(&only);
            CPU_SET(static_cast<unsigned>(core), &only);
            ::pthread_setaffinity_np(::pthread_self(), sizeof only, &only);
            for (unsigned dry = 0; !stop.stop_requested();) {
                if (this_one->visit()) {
                    dry = 0;
                } else {
                    nm::cpu_pause();
                    if (++dry % 4096 == 0) {  // also a core of its own is not always one's own
                        ::sched_yield();
                        if (!this_one->status()) this_one->lose();
                    }
                }
            }
        });
    }
    void stop_polling() {
        thread = {};
        cpu = -1;
    }
};

}  // namespace host
