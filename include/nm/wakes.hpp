// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
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

    /// Descriptors that somebody else made, for rings of both directions: i is for ring i of both. A handle is woken by `also` too, as long
    /// as that is open.
    [[nodiscard]] result<void> adopt(std::vector<base::unique_fd> wakes, const std::string& name, int also = -1) {
        each_ = std::move(wakes);
        if (also < 0) return each_.size() == 1 ? result<void>{} : join(name);
        for (const auto& w : each_) {
            const int both[] = {w.get(), also};
            auto made = base::make_epoll(name, both);
            if (!made) return forward_error(made);
            each_also_.push_back(std::move(*made));
        }
        return join(name, also);
    }

    [[nodiscard]] int fd(index_t i) const noexcept { return each_[i].get(); }
    /// What a handle for these rings is slept on.
    [[nodiscard]] int fd(const ring_view& v) const noexcept {
        const bool one = v.tx_count + v.rx_count == 1 || (v.tx_count == 1 && v.rx_count == 1 && v.tx_first == v.rx_first);
        if (!one && all_) return all_.get();
        const index_t i = v.rx_count != 0 ? v.rx_first : v.tx_first;
        return each_also_.empty() ? fd(i) : each_also_[i].get();
    }

private:
    [[nodiscard]] result<void> join(const std::string& name, int also = -1) {
        std::vector<int> fds;
        for (const auto& w : each_) fds.push_back(w.get());
        if (also >= 0) fds.push_back(also);
        auto made = base::make_epoll(name, fds);
        if (!made) return forward_error(made);
        all_ = std::move(*made);
        return {};
    }

    std::vector<base::unique_fd> each_, each_also_;
    base::unique_fd all_;  // an epoll of all of them, when there are several
};

}  // namespace nm
