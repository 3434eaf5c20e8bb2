// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cerrno>
#include <deque>
#include <poll.h>
#include <string>
#include <vector>

#include "common/idle.hpp"
#include "common/open.hpp"
#include "common/run.hpp"
#include "settings.hpp"
#include "spreader.hpp"

namespace lb {

using pipe_outlet = outlet<nm::shared_pipe>;
using pipe_spreader = spreader<nm::shared_pipe>;

/// The working thread: from the input to the pipes until the run is over, busy while there is something to do.
class balancer {
public:
    balancer(tool::run& run, const settings& s, tool::any_port& input, std::deque<pipe_outlet>& outlets, pipe_spreader& spread)
        : run_(run), s_(s), input_(input), outlets_(outlets), spread_(spread), from_pipe_(tool::spec_of(s.input).kind == nm::port_kind::pipe) {
        for (nm::index_t n = std::visit([](auto& p) { return p.num_rx_rings(); }, input); n != 0; --n) broken_.push_back(false);
        free.store(spread.waiting().free(), std::memory_order_relaxed);
    }

    void work() {
        tool::idle rest;
        std::string trouble;
        for (unsigned rounds = 1; trouble.empty() && !run_.stopped() && !enough(); ++rounds) {
            if (round() != 0) {
                rest.busy();
                if ((rounds & 1023U) == 0) trouble = look();
            } else if (rest.should_sleep()) {
                if (s_.busy_wait) rest.busy();
                trouble = look();
                if (trouble.empty() && !s_.busy_wait) sleep();
            }
        }
        finish();
        if (!trouble.empty()) throw tool::run_error(trouble);
    }

    // For who looks on.
    tool::tally done;
    std::atomic<std::uint64_t> without_ip{0}, free;

private:
    [[nodiscard]] bool enough() const noexcept { return s_.count != 0 && spread_.received() >= s_.count; }

    nm::index_t round() noexcept {
        spread_.begin_round();
        nm::index_t moved = spread_.serve_waiting();
        const nm::index_t taken = std::visit([this](auto& p) noexcept { return take(p); }, input_);
        moved += taken;
        spread_.end_round();
        if (moved != 0) show();
        return moved;
    }

    template <class P>
    nm::index_t take(P& port) noexcept {
        nm::index_t taken = 0;
        for (nm::index_t i = 0; i < port.num_rx_rings() && !enough(); ++i) {
            auto& ring = port.rx(i);
            if (ring.rxsync() != 0) done.event(ring.space());
            bool broken = broken_[i];
            const std::uint64_t left = s_.count == 0 ? s_.burst : s_.count - spread_.received();
            taken += spread_.take(ring, broken, static_cast<nm::index_t>(std::min<std::uint64_t>(s_.burst, left)));
            broken_[i] = broken;
            (void)ring.rxsync();  // what was taken is given back at once
        }
        return taken;
    }

    /// What makes going on useless. A process at the other end of a pipe may go, and another one come.
    [[nodiscard]] std::string look() {
        const auto of_input = std::visit([](auto& p) { return p.status(); }, input_);
        if (!of_input && !(from_pipe_ && of_input.error().code.value() == EPIPE)) return of_input.error().text;
        for (auto& o : outlets_)
            if (const auto ok = o.port.status(); !ok && ok.error().code.value() != EPIPE) return ok.error().text;
        return {};
    }

    void sleep() {
        std::vector<pollfd> fds;
        std::visit([&](auto& p) {
            p.arm(nm::events::rx);
            fds.push_back({p.fd(), POLLIN, 0});
        }, input_);
        for (std::size_t q = 0; q < outlets_.size(); ++q) {
            if (!spread_.waits(q)) continue;
            outlets_[q].port.arm(nm::events::tx);
            fds.push_back({outlets_[q].port.fd(), POLLIN, 0});
        }
        (void)::poll(fds.data(), fds.size(), static_cast<int>(tool::nap_limit.count()));
    }

    /// Who is still there gets what waits for him, as long as some of it goes.
    void finish() {
        std::uint64_t since = nm::system_clock::now_ns();
        for (;;) {
            spread_.begin_round();
            const nm::index_t moved = spread_.serve_waiting();
            spread_.end_round();
            const std::uint64_t now = nm::system_clock::now_ns();
            if (moved != 0) since = now;
            bool somebody = false;
            for (std::size_t q = 0; q < outlets_.size(); ++q) somebody |= spread_.waits(q) && outlets_[q].port.peer_open();
            if (!somebody || now - since > 500'000'000) break;
            tool::idle::nap();
        }
        show();
    }

    void show() noexcept {
        using nm::vale::told_by;
        const auto& told = spread_.told();
        done.set(spread_.received(), spread_.bytes());
        without_ip.store(told[static_cast<std::size_t>(told_by::stations)] + told[static_cast<std::size_t>(told_by::nothing)], std::memory_order_relaxed);
        free.store(spread_.waiting().free(), std::memory_order_relaxed);
    }

    tool::run& run_;
    const settings& s_;
    tool::any_port& input_;
    std::deque<pipe_outlet>& outlets_;
    pipe_spreader& spread_;
    bool from_pipe_;
    std::vector<std::uint8_t> broken_;
};

}  // namespace lb
