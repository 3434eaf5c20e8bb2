// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <atomic>
#include <csignal>
#include <cstdint>
#include <functional>
#include <mutex>
#include <poll.h>
#include <string>
#include <sys/signalfd.h>
#include <thread>
#include <vector>

#include "common/failure.hpp"
#include "common/signals.hpp"

#include "nm/base/os.hpp"
#include "nm/clock.hpp"

namespace tool {

/// Threads that work until they are done or told to stop, while the main thread reports: the signals that end a program, the
/// time limit and the first failure of a thread stop all of them. Make it before anything starts a thread, so that the signals are blocked
/// in all of them.
class run {
public:
    run() {
        ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
        signal_fd_.reset(::signalfd(-1, &signals_, SFD_CLOEXEC | SFD_NONBLOCK));
        auto wake = nm::base::make_eventfd();
        if (!signal_fd_ || !wake) throw run_error("cannot make a signalfd or an eventfd (raise `ulimit -n`?)");
        wake_ = std::move(*wake);
    }
    run(const run&) = delete;
    run& operator=(const run&) = delete;
    ~run() {
        stop();
        join();
    }

    [[nodiscard]] bool stopped() const noexcept { return stop_.load(std::memory_order_relaxed); }
    void stop() noexcept { stop_.store(true, std::memory_order_relaxed); }

    /// Starts a thread that the run is about; it ends when all of them are done.
    void start(std::function<void()> work) {
        ++working_;
        threads_.emplace_back([this, w = std::move(work)] {
            guarded(w);
            --working_;
            nm::base::eventfd_signal(wake_.get());
        });
    }

    /// In the main thread: calls `tick` every `period_ns` until the threads are done, someone said stop, or `limit_ns`
    /// (0: none) have passed. Then joins them. What one of them threw waits in failure(), so that the sums can be shown. What `tick` throws
    /// goes on when all have ended, since they use what the caller has.
    template <class Tick>
    void watch(std::uint64_t period_ns, std::uint64_t limit_ns, Tick&& tick) {
        const std::uint64_t start = nm::system_clock::now_ns();
        std::uint64_t next = start + period_ns;
        while (working_ != 0) {
            const std::uint64_t now = nm::system_clock::now_ns();
            if (limit_ns != 0 && now - start >= limit_ns) stop();
            if (now >= next) {
                try {
                    tick();
                } catch (...) {
                    stop();
                    join();
                    throw;
                }
                next += period_ns * ((now - next) / period_ns + 1);
            }
            std::uint64_t sleep = next - std::min(now, next);
            if (limit_ns != 0 && !stopped())
                sleep = std::min(sleep, start + limit_ns - std::min(now, start + limit_ns));
            pollfd fds[] = {{signal_fd_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
            ::poll(fds, 2, static_cast<int>(std::min<std::uint64_t>(sleep / 1'000'000 + 1, 1000)));
            if ((fds[0].revents & POLLIN) != 0) interrupted();
            if ((fds[1].revents & POLLIN) != 0) nm::base::eventfd_clear(wake_.get());
        }
        stop();
        join();
    }
    [[nodiscard]] const std::string& failure() const noexcept { return failure_; }
    void rethrow() const {
        if (!failure_.empty()) throw run_error(failure_);
    }

    /// Sleeps, unless the run is stopped meanwhile. In the main thread, before watch.
    void pause(double seconds) {
        pollfd fd{signal_fd_.get(), POLLIN, 0};
        if (::poll(&fd, 1, static_cast<int>(std::min(seconds, 1e6) * 1000)) > 0) interrupted();
    }

private:
    template <class Work>
    void guarded(Work& w) noexcept {
        try {
            w();
        } catch (const std::exception& e) {
            const std::lock_guard guard(mutex_);
            if (failure_.empty()) failure_ = e.what();
            stop();
        }
    }
    void interrupted() noexcept {
        signalfd_siginfo info;
        [[maybe_unused]] const auto n = ::read(signal_fd_.get(), &info, sizeof info);
        stop();
        // Who presses ^C again wants out at once.
        ::pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
    }
    void join() {
        for (auto& t : threads_)
            if (t.joinable()) t.join();
    }

    sigset_t signals_ = ending_signals();
    nm::base::unique_fd signal_fd_, wake_;
    std::atomic<bool> stop_ = false;
    std::atomic<unsigned> working_ = 0;
    std::mutex mutex_;
    std::string failure_;
    std::vector<std::thread> threads_;
};

}  // namespace tool
