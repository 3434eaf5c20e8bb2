// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <sys/epoll.h>
#include <vector>

#include "nm/port.hpp"

namespace nm {

/// The descriptors that a port without a kernel behind it is slept on: one for ring i of both directions, so that threads
/// with a handle for one ring each do not take each other's wake-ups, and one for all of them.
class ring_wakes {
public:
    [[nodiscard]] result<void> make(index_t rings, const std::string& name) {
        for (index_t i = 0; i < rings; ++i) {
            auto w = base::make_eventfd();
            if (!w) return forward_error(w);
            each_.push_back(std::move(*w));
        }
        return rings == 1 ? result<void>{} : join(name);
    }

    /// Descriptors that somebody else made, for rings of both directions: i is for ring i of both.
    [[nodiscard]] result<void> adopt(std::vector<base::unique_fd> wakes, const std::string& name) {
        each_ = std::move(wakes);
        return each_.size() == 1 ? result<void>{} : join(name);
    }

    [[nodiscard]] int fd(index_t i) const noexcept { return each_[i].get(); }
    /// What a handle for these rings is slept on.
    [[nodiscard]] int fd(const ring_view& v) const noexcept {
        const bool one = v.tx_count + v.rx_count == 1 || (v.tx_count == 1 && v.rx_count == 1 && v.tx_first == v.rx_first);
        return one || !all_ ? fd(v.rx_count != 0 ? v.rx_first : v.tx_first) : all_.get();
    }

private:
    [[nodiscard]] result<void> join(const std::string& name) {
        all_.reset(::epoll_create1(EPOLL_CLOEXEC));
        for (const auto& w : each_) {
            epoll_event e{};
            e.events = EPOLLIN;
            if (!all_ || ::epoll_ctl(all_.get(), EPOLL_CTL_ADD, w.get(), &e) != 0)
                return fail(errno, name + ": cannot make a descriptor to wait on: " + base::errno_text(errno));
        }
        return {};
    }

    std::vector<base::unique_fd> each_;
    base::unique_fd all_;  // an epoll of all of them, when there are several
};

}  // namespace nm
