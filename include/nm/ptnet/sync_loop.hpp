// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Who drives the served ports: netmap's sync-kloop, for one port or many, in the caller's thread.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <sched.h>
#include <stop_token>
#include <sys/epoll.h>
#include <utility>
#include <vector>

#include "nm/clock.hpp"
#include "nm/cpu.hpp"
#include "nm/ptnet/service.hpp"

namespace nm::ptnet {

struct loop_options {
    std::chrono::microseconds spin{50};  ///< how long to go on looking after there was nothing to do, before sleeping
};

/// Visits services: while there is work, one after the other; for a while longer; then it arms all of them and sleeps until one of
/// their descriptors says that there is some. One thread at a time runs it; services are added and removed by any.
class sync_loop {
public:
    [[nodiscard]] static result<std::unique_ptr<sync_loop>> create(const loop_options& o = {}) {
        auto l = std::unique_ptr<sync_loop>(new sync_loop(o));
        l->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
        auto wake = base::make_eventfd();
        if (!wake) return forward_error(wake);
        l->wake_ = std::move(*wake);
        if (!l->epoll_ || !l->watch(l->wake_.get(), EPOLLIN)) return fail(errno, "cannot make a descriptor to sleep on: " + base::errno_text(errno));
        return l;
    }
    sync_loop(const sync_loop&) = delete;
    sync_loop& operator=(const sync_loop&) = delete;

    [[nodiscard]] result<void> add(std::shared_ptr<service> s) {
        const turn mine(*this);
        for (unsigned v = 0; v < s->vectors(); ++v)
            if (!watch(s->kick_fd(v), EPOLLIN | EPOLLET)) {  // each kick is an edge: nobody needs to read them
                const int why = errno;
                unwatch(*s);
                return fail(why, s->name() + ": cannot wait for its kicks: " + base::errno_text(why));
            }
        services_.push_back({std::move(s), false});
        return {};
    }
    /// Afterwards nobody visits it. False when it was not here.
    bool remove(const service& s) {
        const turn mine(*this);
        const auto at = std::find_if(services_.begin(), services_.end(), [&s](const entry& e) { return e.what.get() == &s; });
        if (at == services_.end()) return false;
        unwatch(*at->what);
        at->what->disarm();
        services_.erase(at);
        return true;
    }
    [[nodiscard]] std::size_t size() {
        const turn mine(*this);
        return services_.size();
    }

    /// One pass over all services. False when there was nothing to do.
    bool poll_once() noexcept {
        const std::lock_guard guard(mutex_);
        return pass();
    }

    /// Until `stop` is asked for.
    void run(const std::stop_token& stop) {
        const std::stop_callback end(stop, [this] { base::eventfd_signal(wake_.get()); });
        std::uint64_t busy_until = 0, look_again = 0;
        bool woken = false;
        while (!stop.stop_requested()) {
            while (waiting_.load(std::memory_order_relaxed) != 0) ::sched_yield();
            std::unique_lock guard(mutex_);
            const bool worked = pass();
            const std::uint64_t now = system_clock::now_ns();
            if ((std::exchange(woken, false) && !worked) || now >= look_again) {
                look_for_lost();
                look_again = now + 100'000'000;  // also while others have work without end
            }
            if (worked) busy_until = now + static_cast<std::uint64_t>(options_.spin.count()) * 1000;
            if (now < busy_until) {
                guard.unlock();
                for (int i = 0; !worked && i < pauses; ++i) cpu_pause();
                continue;
            }
            if (arm()) {
                guard.unlock();
                ++sleeps_;
                sleep();
                guard.lock();
                woken = true;
            }
            for (auto& e : services_) e.what->disarm();
        }
    }
    /// Times that it slept since it was made.
    [[nodiscard]] std::uint64_t sleeps() const noexcept { return sleeps_; }

private:
    static constexpr int pauses = 16;

    struct entry {
        std::shared_ptr<service> what;
        bool watched;  ///< its port wakes this thread
    };
    /// The lock of who changes the list: the loop lets him in after its pass.
    struct turn {
        explicit turn(sync_loop& l) : l_(l) {
            l_.waiting_.fetch_add(1, std::memory_order_relaxed);
            base::eventfd_signal(l_.wake_.get());
            l_.mutex_.lock();
            l_.waiting_.fetch_sub(1, std::memory_order_relaxed);
        }
        ~turn() { l_.mutex_.unlock(); }
        turn(const turn&) = delete;
        turn& operator=(const turn&) = delete;
        sync_loop& l_;
    };

    explicit sync_loop(const loop_options& o) : options_(o) {}

    bool pass() noexcept {
        bool worked = false;
        for (auto& e : services_) worked |= e.what->visit();
        return worked;
    }
    // All of them say that there is nothing to do.
    [[nodiscard]] bool arm() noexcept {
        bool quiet = true;
        for (auto& e : services_) {
            quiet &= e.what->arm();
            heed(e);
        }
        return quiet;
    }
    // One that cannot be slept on is looked at when others wake the loop.
    void heed(entry& e) noexcept {
        const bool wanted = e.what->minds_port();
        if (std::exchange(e.watched, wanted) == wanted) return;
        if (wanted) (void)watch(e.what->port_fd(), EPOLLIN);
        else ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, e.what->port_fd(), nullptr);
    }
    void sleep() noexcept {
        std::array<epoll_event, 32> found{};
        (void)::epoll_wait(epoll_.get(), found.data(), static_cast<int>(found.size()), -1);
        base::eventfd_clear(wake_.get());
    }
    // Ports that can do no more: they wake this thread by it, when it sleeps. One that has gone is not waited for any more.
    void look_for_lost() noexcept {
        for (auto& e : services_) {
            if (!e.what->minds_port() || e.what->status()) continue;
            e.what->lose();
            heed(e);
        }
    }
    [[nodiscard]] bool watch(int fd, std::uint32_t events) noexcept { return base::epoll_add(epoll_.get(), fd, events); }
    void unwatch(const service& s) noexcept {
        for (unsigned v = 0; v < s.vectors(); ++v) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, s.kick_fd(v), nullptr);
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, s.port_fd(), nullptr);
    }

    const loop_options options_;
    base::unique_fd epoll_, wake_;
    std::atomic<unsigned> waiting_{0};
    std::mutex mutex_;
    std::vector<entry> services_;
    counter sleeps_;
};

}  // namespace nm::ptnet
