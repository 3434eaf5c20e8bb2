// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Sleeping on a kernel interface. Its own rings and the host's have a sleeper each: two threads may work one port.

#include <array>
#include <atomic>
#include <string>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <vector>

#include "nm/base/os.hpp"
#include "nm/clock.hpp"
#include "nm/port_options.hpp"
#include "nm/sys/link.hpp"

namespace nm {

/// A descriptor that is readable when one of several sockets has what was asked of it, or the interface is lost.
class netdev_sleeper {
public:
    [[nodiscard]] result<void> open(const sys::link_info& link, std::uint64_t mitigation_ns) {
        mitigation_ns_ = mitigation_ns;
        auto watch = sys::link_watch::open(link);
        if (!watch) return forward_error(watch);
        watch_ = std::move(*watch);
        poll_.reset(::epoll_create1(EPOLL_CLOEXEC));
        timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
        auto wake = base::make_eventfd();
        if (!wake) return forward_error(wake);
        wake_ = std::move(*wake);
        if (!poll_ || !timer_ || !base::epoll_add(poll_.get(), wake_.get()) || !base::epoll_add(poll_.get(), timer_.get()) ||
            !base::epoll_add(poll_.get(), watch_.fd()))
            return fail(errno, link.name + ": cannot make a descriptor to wait on: " + base::errno_text(errno));
        return {};
    }
    void close() noexcept {
        poll_.reset();
        sockets_.clear();
        rx_armed = tx_armed = false;
    }
    [[nodiscard]] int fd() const noexcept { return poll_.get(); }
    /// One of the descriptors that frames pass; before anybody sleeps.
    void over(int socket) { sockets_.push_back(socket); }

    /// Whose publish ends what was armed for a direction; all else that a side has in common.
    template <events Direction, class Side>
    void serve(Side& side, region* memory, slot* slots, index_t n) noexcept {
        side.memory = memory;
        side.slots = slots;
        side.num_slots = n;
        side.armed = Direction == events::rx ? &rx_armed : &tx_armed;
        side.disarm = [](void* s) noexcept { static_cast<netdev_sleeper*>(s)->disarm(Direction); };
        side.port = this;
    }

    /// `look` says whether there is work in an armed direction already.
    template <class Look>
    [[gnu::cold]] void arm(events e, Look look) noexcept {
        // A socket says "writable" while it has room, which is nearly always: what counts is the change. So sockets are
        // watched for edges, what they say at once is taken off, and then rings and sockets are looked at.
        rx_armed = any(e & events::rx);
        tx_armed = any(e & events::tx);
        const bool lost = watch_.look().lost();
        if (!lost) base::eventfd_clear(wake_.get());
        const std::uint64_t now = system_clock::now_ns();
        if (mitigation_ns_ != 0 && now - last_wake_ < mitigation_ns_) {
            // Too soon after the last one: look again when the time has come, not when the next frame has.
            const auto left = static_cast<long>(mitigation_ns_ - (now - last_wake_));
            const itimerspec when{{0, 0}, {left / 1'000'000'000, left % 1'000'000'000}};
            (void)::timerfd_settime(timer_.get(), 0, &when, nullptr);
            watch_sockets(0);
            return;
        }
        watch_sockets();
        std::array<epoll_event, 16> stale;
        (void)::epoll_wait(poll_.get(), stale.data(), static_cast<int>(stale.size()), 0);
        if (look() || lost) base::eventfd_signal(wake_.get());
    }

    /// By a ring's publish: only what was armed for that ring's direction ends, since somebody else may sleep for the
    /// other.
    void disarm(events direction) noexcept {
        (direction == events::rx ? rx_armed : tx_armed) = false;
        if (rx_armed || tx_armed) {
            if (mitigation_ns_ == 0) watch_sockets();
            return;
        }
        last_wake_ = system_clock::now_ns();
        watch_sockets(0);
        if (mitigation_ns_ != 0) {
            const itimerspec never{};
            (void)::timerfd_settime(timer_.get(), 0, &never, nullptr);
        }
        if (!watch_.state().lost()) base::eventfd_clear(wake_.get());
    }

    /// An error while the link is down; for good once it is gone or its MTU changed.
    [[nodiscard]] result<void> status(const sys::link_info& link) {
        const auto& s = watch_.look();
        if (!s.lost()) return {};
        base::eventfd_signal(wake_.get());
        if (s.gone || !base::interface_exists(link.name.c_str())) return fail(ENODEV, link.name + " is gone; close the port");
        if (s.down) return fail(ENETDOWN, link.name + " is down; run `ip link set " + link.name + " up`");
        return fail(EMSGSIZE, "the MTU of " + link.name + " changed from " + std::to_string(link.mtu) + " to " +
                                  std::to_string(s.mtu) + "; close the port and open it again");
    }

    std::atomic<bool> rx_armed = false, tx_armed = false;  // one thread may sleep while another uses the other direction

private:
    // A socket that somebody watches runs the watcher for every frame it sends or gets, whatever it is watched for: with
    // it the loop over two veth ends ran at 0.8 of one by hand, without it at 1.0. So sockets are in the set only while
    // armed.
    void watch_sockets(std::uint32_t what) noexcept {
        epoll_event e{};
        e.events = what | EPOLLET;
        for (const int fd : sockets_) {
            if (what == 0) (void)::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, fd, nullptr);
            else if (::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, fd, &e) != 0) (void)::epoll_ctl(poll_.get(), EPOLL_CTL_MOD, fd, &e);
        }
    }
    void watch_sockets() noexcept {
        watch_sockets((rx_armed ? static_cast<std::uint32_t>(EPOLLIN) : 0U) | (tx_armed ? static_cast<std::uint32_t>(EPOLLOUT) : 0U));
    }

    sys::link_watch watch_;
    std::vector<int> sockets_;
    base::unique_fd poll_, wake_, timer_;
    std::uint64_t mitigation_ns_ = 0;
    std::uint64_t last_wake_ = 0;
};

}  // namespace nm
