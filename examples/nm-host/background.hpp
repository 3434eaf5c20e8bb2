// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What takes long (opening and closing devices) is done beside the thread that answers.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace host {

class background {
public:
    using after = std::function<void()>;

    background() : thread_([this](const std::stop_token& stop) { run(stop); }) {}

    /// `job` runs in the other thread; what it returns runs in the one that calls finish().
    void start(std::function<after()> job) {
        const std::lock_guard guard(mutex_);
        ++pending_;
        jobs_.push_back(std::move(job));
        more_.notify_one();
    }
    void finish() {
        for (;;) {
            after next;
            {
                const std::lock_guard guard(mutex_);
                if (done_.empty()) return;
                next = std::move(done_.front());
                done_.pop_front();
                --pending_;
            }
            if (next) next();
        }
    }
    [[nodiscard]] std::size_t pending() const {
        const std::lock_guard guard(mutex_);
        return pending_;
    }

private:
    void run(const std::stop_token& stop) {
        std::unique_lock guard(mutex_);
        while (more_.wait(guard, stop, [this] { return !jobs_.empty(); })) {
            auto job = std::move(jobs_.front());
            jobs_.pop_front();
            guard.unlock();
            auto then = job();
            job = nullptr;
            guard.lock();
            done_.push_back(std::move(then));
        }
    }

    mutable std::mutex mutex_;
    std::condition_variable_any more_;
    std::deque<std::function<after()>> jobs_;
    std::deque<after> done_;
    std::size_t pending_ = 0;
    std::jthread thread_;
};

}  // namespace host
