// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/ivshmem.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "ivshmem_message.hpp"
#include "named_socket.hpp"

namespace nm::sys {

using base::errno_text;
using base::unique_fd;

namespace {

constexpr std::int64_t protocol_version = 0;
constexpr std::int64_t here_is_memory = -1;
constexpr std::size_t most_vectors = 2048;  // of MSI-X
constexpr unsigned most_guests = 64;
constexpr std::size_t most_waiting = 4;
constexpr std::int64_t patience_ms = 1000;  // with one that comes before its predecessor is quite gone
constexpr std::uint64_t listener_tag = 0, timer_tag = 1, first_client_tag = 2;

std::int64_t now_ms() noexcept {
    using namespace std::chrono;
    return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

bool has_ended(int pidfd) noexcept {
    pollfd p{pidfd, POLLIN, 0};
    return ::poll(&p, 1, 0) > 0;
}

result<void> check_memory(int memory) {
    const int seals = ::fcntl(memory, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
        return fail(EPERM, "memory for a guest must be a memfd that is sealed against shrinking");
    struct stat st {};
    if (::fstat(memory, &st) != 0) return fail(errno, "cannot ask for the size of the guest's memory: " + errno_text(errno));
    const auto size = static_cast<std::uint64_t>(st.st_size);
    if (size < 4096 || (size & (size - 1)) != 0)
        return fail(EINVAL, "memory for a guest becomes a BAR of a PCI device: " + std::to_string(size) + " bytes are not a power of two of at least 4096");
    return {};
}

}  // namespace

struct ivshmem_server::state {
    struct message {
        std::int64_t value;
        int fd;
    };
    struct guest {
        unique_fd socket;
        unique_fd process;  // who has, or had, the memory
        int pid = 0;
        std::deque<message> to_send;
        std::int64_t deadline = 0;      // for what is to be sent
        std::vector<unique_fd> own;     // its irqs, where the caller has none for it
        std::vector<int> irqs;
        std::uint32_t times = 0;  // that somebody had this place: what epoll says of an earlier one is old
    };
    struct newcomer {
        unique_fd socket;
        int pid = 0;
        std::int64_t until = 0;
    };

    ivshmem_options o;
    std::optional<named_socket> listener;
    unique_fd events, timer;
    bool accepting = true;
    std::vector<guest> guests;  // [n] is peer n + 1
    std::deque<newcomer> waiting;
    ivshmem_counters counters;
    std::deque<ivshmem_event> news;
    std::size_t most_queued = 0;

    [[nodiscard]] std::uint64_t tag_of(std::size_t n) const noexcept {
        return (first_client_tag + n) | std::uint64_t{guests[n].times} << 32;
    }
    bool watch(int fd, std::uint32_t what, std::uint64_t tag, int operation) noexcept {
        epoll_event e{};
        e.events = what;
        e.data.u64 = tag;
        return ::epoll_ctl(events.get(), operation, fd, &e) == 0;
    }
    /// Sets the timer for what has to be looked at again without anybody's saying so.
    void plan() noexcept {
        unsigned ms = 0;
        if (std::any_of(guests.begin(), guests.end(), [](const auto& g) { return !g.to_send.empty(); })) ms = o.handshake_ms / 4 + 1;
        if (!accepting) ms = 100;
        if (!waiting.empty()) ms = 10;
        itimerspec t{};
        t.it_value.tv_sec = ms / 1000;
        t.it_value.tv_nsec = static_cast<long>(ms % 1000) * 1'000'000;
        (void)::timerfd_settime(timer.get(), 0, &t, nullptr);
    }

    static void announce(guest& to, std::int64_t peer, const std::vector<int>& fds) {
        for (const int fd : fds) to.to_send.push_back({peer, fd});
    }

    /// QEMU reads as far as its own first eventfd before it goes on, and the rest when its main loop runs.
    void greet(std::size_t n) {
        auto& g = guests[n];
        const auto id = static_cast<std::int64_t>(n + 1);
        g.to_send.clear();
        g.to_send.push_back({protocol_version, -1});
        g.to_send.push_back({id, -1});
        g.to_send.push_back({here_is_memory, o.memory});
        announce(g, 0, o.kicks);
        for (std::size_t other = 0; other < guests.size(); ++other)
            if (other != n && guests[other].socket) announce(g, static_cast<std::int64_t>(other + 1), guests[other].irqs);
        announce(g, id, g.irqs);
        for (std::size_t other = 0; other < guests.size(); ++other)
            if (other != n && guests[other].socket) tell(other, id, g.irqs);
        g.deadline = now_ms() + o.handshake_ms;
        send_to(n);
    }

    /// To one that is there already.
    void tell(std::size_t n, std::int64_t id, const std::vector<int>& fds) {
        auto& g = guests[n];
        if (g.to_send.empty()) g.deadline = now_ms() + o.handshake_ms;
        if (fds.empty()) g.to_send.push_back({id, -1});  // it has left
        else announce(g, id, fds);
        if (g.to_send.size() > most_queued) drop(n);
        else send_to(n);
    }

    /// As much as the socket takes.
    void send_to(std::size_t n) {
        auto& g = guests[n];
        while (g.socket && !g.to_send.empty()) {
            const auto m = g.to_send.front();
            const int e = ivshmem::send_message(g.socket.get(), m.value, m.fd);
            if (e == EINTR) continue;
            if (e == EAGAIN) {
                (void)watch(g.socket.get(), EPOLLIN | EPOLLRDHUP | EPOLLOUT, tag_of(n), EPOLL_CTL_MOD);
                return;
            }
            if (e != 0) return drop(n);  // gone; or its unread descriptors are more than the kernel keeps under way (ETOOMANYREFS)
            g.to_send.pop_front();
        }
        if (g.socket) (void)watch(g.socket.get(), EPOLLIN | EPOLLRDHUP, tag_of(n), EPOLL_CTL_MOD);
    }

    void drop(std::size_t n) {
        if (!guests[n].socket) return;
        ++counters.dropped;
        leave(n);
    }
    void leave(std::size_t n) {
        auto& g = guests[n];
        if (!g.socket) return;
        g.socket.reset();  // epoll forgets it
        g.to_send.clear();
        ++counters.left;
        news.push_back({ivshmem_event::kind::left, static_cast<unsigned>(n + 1), g.pid});
        for (std::size_t other = 0; other < guests.size(); ++other)
            if (other != n && guests[other].socket) tell(other, static_cast<std::int64_t>(n + 1), {});
    }

    /// Room for a process: where it was before, or whose last user is gone. One that lives still may write to the memory.
    std::optional<std::size_t> place_for(int pid) const noexcept {
        for (std::size_t n = 0; n < guests.size(); ++n)
            if (!guests[n].socket && guests[n].pid == pid) return n;
        for (std::size_t n = 0; n < guests.size(); ++n)
            if (!guests[n].socket && (!guests[n].process || has_ended(guests[n].process.get()))) return n;
        return std::nullopt;
    }

    void accept_some() {
        for (int i = 0; i < 8; ++i) {
            unique_fd socket(::accept4(listener->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            if (!socket) {
                if (errno == EINTR || errno == ECONNABORTED) continue;
                if (errno == EAGAIN) break;
                // No descriptors left: look again in a while, rather than be woken by it all the time.
                accepting = false;
                (void)watch(listener->fd(), 0, listener_tag, EPOLL_CTL_MOD);
                break;
            }
            ucred who{};
            socklen_t size = sizeof who;
            if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 ||
                (!o.other_users && who.uid != ::geteuid() && who.uid != 0)) {
                ++counters.strangers;
                continue;
            }
            waiting.push_back({std::move(socket), who.pid, now_ms() + patience_ms});
            if (waiting.size() > most_waiting) {
                waiting.pop_front();
                ++counters.full;
            }
        }
        seat();
    }

    /// Gives places to those who wait for one, as far as there are any.
    void seat() {
        for (std::size_t n = 0; n < guests.size() && !waiting.empty(); ++n)
            if (guests[n].socket && guests[n].process && has_ended(guests[n].process.get())) leave(n);
        for (auto w = waiting.begin(); w != waiting.end();) {
            const auto place = place_for(w->pid);
            if (place) {
                seat(*place, std::move(w->socket), w->pid);
            } else if (now_ms() < w->until) {
                ++w;
                continue;
            } else {
                ++counters.full;
            }
            w = waiting.erase(w);
        }
    }
    void seat(std::size_t n, unique_fd socket, int pid) {
        auto& g = guests[n];
        g.process.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
        g.pid = pid;
        g.socket = std::move(socket);
        ++g.times;
        for (const int fd : g.irqs) (void)base::eventfd_clear(fd);
        if (!watch(g.socket.get(), EPOLLIN | EPOLLRDHUP, tag_of(n), EPOLL_CTL_ADD)) return g.socket.reset();
        ++counters.joined;
        news.push_back({ivshmem_event::kind::joined, static_cast<unsigned>(n + 1), g.pid});
        greet(n);
    }

    void look_again() {
        (void)base::eventfd_clear(timer.get());  // the same eight bytes
        if (!accepting) {
            accepting = true;
            (void)watch(listener->fd(), EPOLLIN, listener_tag, EPOLL_CTL_MOD);
        }
        seat();
        const auto now = now_ms();
        for (std::size_t n = 0; n < guests.size(); ++n)
            if (!guests[n].to_send.empty() && now >= guests[n].deadline) drop(n);
    }

    void look_at(std::uint64_t tag, std::uint32_t what) {
        if (tag == listener_tag) return accept_some();
        if (tag == timer_tag) return look_again();
        const std::size_t n = (tag & 0xffffffff) - first_client_tag;
        if (n >= guests.size() || !guests[n].socket || tag != tag_of(n)) return;
        const int socket = guests[n].socket.get();
        if ((what & EPOLLIN) != 0) {
            std::byte first{};
            if (::recv(socket, &first, 1, MSG_PEEK | MSG_DONTWAIT) != 0 && ivshmem::spoke(socket)) return drop(n);
        }
        if ((what & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0) return leave(n);
        if ((what & EPOLLOUT) != 0) send_to(n);
    }
};

ivshmem_server::ivshmem_server(std::unique_ptr<state> s) noexcept : s_(std::move(s)) {}
ivshmem_server::ivshmem_server(ivshmem_server&&) noexcept = default;
ivshmem_server& ivshmem_server::operator=(ivshmem_server&&) noexcept = default;
ivshmem_server::~ivshmem_server() = default;

result<ivshmem_server> ivshmem_server::listen(ivshmem_options options) {
    auto s = std::make_unique<state>();
    s->o = std::move(options);
    const auto& o = s->o;
    if (auto r = check_memory(o.memory); !r) return forward_error(r);
    if (o.kicks.size() > most_vectors || o.irqs.size() > most_vectors || o.irqs.empty())
        return fail(EINVAL, "a guest has 1 to 2048 interrupt vectors, not " + std::to_string(std::max(o.kicks.size(), o.irqs.size())));
    if (o.guests == 0 || o.guests > most_guests) return fail(EINVAL, "there can be 1 to 64 guests, not " + std::to_string(o.guests));

    s->most_queued = 16 + 2 * (o.kicks.size() + o.guests * o.irqs.size());
    s->guests.resize(o.guests);
    s->guests[0].irqs = o.irqs;
    for (std::size_t n = 1; n < s->guests.size(); ++n) {
        for (std::size_t v = 0; v < o.irqs.size(); ++v) {
            auto fd = base::make_eventfd();
            if (!fd) return forward_error(fd);
            s->guests[n].irqs.push_back(fd->get());
            s->guests[n].own.push_back(std::move(*fd));
        }
    }

    auto named = named_socket::bind(o.path);
    if (!named) return forward_error(named);
    s->listener.emplace(std::move(*named));
    if (::listen(s->listener->fd(), 16) != 0) return fail(errno, "cannot listen at " + o.path + ": " + errno_text(errno));
    s->events.reset(::epoll_create1(EPOLL_CLOEXEC));
    s->timer.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!s->events || !s->timer || !s->watch(s->listener->fd(), EPOLLIN, listener_tag, EPOLL_CTL_ADD) ||
        !s->watch(s->timer.get(), EPOLLIN, timer_tag, EPOLL_CTL_ADD))
        return fail(errno, "cannot watch the socket " + o.path + ": " + errno_text(errno));
    return ivshmem_server(std::move(s));
}

int ivshmem_server::fd() const noexcept { return s_->events.get(); }

std::optional<ivshmem_event> ivshmem_server::poll() noexcept {
    if (s_->news.empty()) {
        std::array<epoll_event, 16> found{};
        const int n = ::epoll_wait(s_->events.get(), found.data(), static_cast<int>(found.size()), 0);
        for (int i = 0; i < n; ++i) s_->look_at(found[static_cast<std::size_t>(i)].data.u64, found[static_cast<std::size_t>(i)].events);
        if (n > 0) s_->plan();
    }
    if (s_->news.empty()) return std::nullopt;
    const auto e = s_->news.front();
    s_->news.pop_front();
    return e;
}

unsigned ivshmem_server::guests() const noexcept {
    return static_cast<unsigned>(std::count_if(s_->guests.begin(), s_->guests.end(), [](const auto& g) { return bool(g.socket); }));
}
const ivshmem_counters& ivshmem_server::counters() const noexcept { return s_->counters; }
int ivshmem_server::irq_fd(unsigned peer, unsigned vector) const noexcept {
    if (peer == 0 || peer > s_->guests.size() || vector >= s_->guests[peer - 1].irqs.size()) return -1;
    return s_->guests[peer - 1].irqs[vector];
}
const std::string& ivshmem_server::path() const noexcept { return s_->o.path; }

}  // namespace nm::sys
