// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The host's side of control.hpp: it never waits for a client, and what a client may cost it is bounded.

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "nm/sys/control.hpp"

namespace nm::sys {

/// The one who is the host of a name: holds its lock, until it is destroyed or dies.
class election {
public:
    /// EBUSY: there is a host.
    [[nodiscard]] static result<election> win(const runtime_dir& dir, std::string_view rendezvous) noexcept;
    election(election&&) noexcept = default;
    election& operator=(election&&) noexcept = delete;
    ~election();

private:
    election(int dir, std::string file, base::unique_fd lock) noexcept : dir_(dir), file_(std::move(file)), lock_(std::move(lock)) {}

    int dir_;
    std::string file_;
    base::unique_fd lock_;
};

struct control_quota {
    unsigned clients = 64;
    unsigned messages_per_s = 1000;  ///< of each client; what is above it waits in its socket
    unsigned fds = 64;               ///< with one message; a client that sends more is dropped
};

/// Takes connections and messages, in one thread: whoever calls serve().
class control_server {
public:
    using client = std::uint64_t;  ///< no two have the same

    class handler {
    public:
        virtual ~handler() = default;
        virtual void message(client from, control_message m) = 0;
        virtual void gone(client who) = 0;  ///< also who was dropped, but by drop()
    };

    /// Becomes the host of `rendezvous` and listens. EBUSY: it has one.
    [[nodiscard]] static result<std::unique_ptr<control_server>> create(runtime_dir dir, std::string_view rendezvous, control_quota q = {}) noexcept;
    /// Listens no more: new clients find no host, and start one, which waits for this one's lock to be free.
    ~control_server();
    control_server(const control_server&) = delete;
    control_server& operator=(const control_server&) = delete;

    /// Waits at most so long for something to do, and does a bounded part of it. Calls the handler.
    void serve(handler& h, milliseconds wait);
    /// For poll: readable when serve() has something to do, but for clients that are being slowed down.
    [[nodiscard]] int fd() const noexcept { return epoll_.get(); }

    /// Sends; a client that does not read what it is sent is dropped. `m.sequence` is the request's.
    void send(client to, const control_message& m, std::span<const int> fds = {}) noexcept;
    /// Sends what may as well be said later. False: the client has not read what it was sent before; it is not dropped.
    [[nodiscard]] bool tell(client to, const control_message& m) noexcept;
    /// One who holds something is not dropped to make room for others.
    void hold(client who, bool holds) noexcept;
    void drop(client who) noexcept;
    [[nodiscard]] std::size_t clients() const noexcept { return clients_.size(); }
    [[nodiscard]] bool has(client who) const noexcept { return clients_.contains(who); }
    [[nodiscard]] int pid(client who) const noexcept;

    struct statistics {
        std::uint64_t accepted = 0, refused = 0, messages = 0, bad = 0, slowed = 0;
    };
    [[nodiscard]] const statistics& stats() const noexcept { return stats_; }

private:
    using clock = std::chrono::steady_clock;
    struct peer {
        base::unique_fd socket;
        int pid = 0;
        bool holds = false, slowed = false, lost = false;
        double tokens = 0;
        clock::time_point since{};
    };

    control_server(runtime_dir dir, election won, control_quota q) noexcept : dir_(std::move(dir)), won_(std::move(won)), quota_(q) {}
    void accept_some(handler& h);
    bool make_room(handler& h);
    void read_one(client who, peer& p, handler& h);
    void lose(client who, handler& h);
    [[nodiscard]] bool may_speak(peer& p, clock::time_point now) noexcept;
    void watch(client who, peer& p, bool reads) noexcept;

    runtime_dir dir_;
    election won_;
    control_quota quota_;
    std::string file_;
    base::unique_fd listener_, epoll_, spare_;
    std::unordered_map<client, peer> clients_;
    std::vector<client> lost_;  // found so while sending
    client last_ = 0;
    statistics stats_;
};

}  // namespace nm::sys
