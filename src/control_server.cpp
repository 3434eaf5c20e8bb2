// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/control_server.hpp"

#include <algorithm>
#include <poll.h>
#include <sys/epoll.h>

#include "control_wire.hpp"

namespace nm::sys {
namespace {

constexpr int backlog = 128;
constexpr unsigned accepts_at_once = 16;
constexpr int events_at_once = 64;
constexpr control_server::client the_listener = 0;

}  // namespace

result<election> election::win(const runtime_dir& dir, std::string_view rendezvous) noexcept {
    if (auto ok = check_rendezvous(rendezvous); !ok) return forward_error(ok);
    const auto file = wire::lock_file(rendezvous);
    auto held = wire::lock(dir.fd(), file, true);
    if (!held && held.error().code.value() == EBUSY) return fail(EBUSY, std::string(rendezvous) + " has a host already (" + dir.path() + "/" + file + " is locked)");
    if (!held) return forward_error(held);
    return election(dir.fd(), file, std::move(*held));
}

election::~election() {
    if (lock_) ::unlinkat(dir_, file_.c_str(), 0);
}

result<std::unique_ptr<control_server>> control_server::create(runtime_dir dir, std::string_view rendezvous, control_quota q) noexcept {
    auto won = election::win(dir, rendezvous);
    if (!won) return forward_error(won);
    std::unique_ptr<control_server> s(new control_server(std::move(dir), std::move(*won), q));
    const auto refuse = [&](const char* what) { return fail(errno, std::string("cannot ") + what + " for " + std::string(rendezvous) + ": " + base::errno_text(errno)); };
    s->listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!s->listener_) return refuse("make a socket");
    // Under another name until it listens, so that nobody is refused who finds it. What a dead host has left is replaced.
    const std::string file = wire::socket_file(rendezvous), unborn = "." + file;
    const auto where = wire::address(s->dir_.fd(), unborn);
    ::unlinkat(s->dir_.fd(), unborn.c_str(), 0);
    if (::bind(s->listener_.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0) return refuse("bind a socket");
    if (::listen(s->listener_.get(), backlog) != 0 || ::renameat(s->dir_.fd(), unborn.c_str(), s->dir_.fd(), file.c_str()) != 0) return refuse("listen");
    s->file_ = file;
    s->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
    s->spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.u64 = the_listener;
    if (!s->epoll_ || ::epoll_ctl(s->epoll_.get(), EPOLL_CTL_ADD, s->listener_.get(), &e) != 0) return refuse("make an epoll");
    return s;
}

control_server::~control_server() {
    // The name first, while the lock is held: the next host's is not removed.
    if (!file_.empty()) ::unlinkat(dir_.fd(), file_.c_str(), 0);
}

int control_server::pid(client who) const noexcept {
    const auto at = clients_.find(who);
    return at == clients_.end() ? 0 : at->second.pid;
}

void control_server::hold(client who, bool holds) noexcept {
    if (const auto at = clients_.find(who); at != clients_.end()) at->second.holds = holds;
}

void control_server::drop(client who) noexcept { clients_.erase(who); }

void control_server::lose(client who, handler& h) {
    if (clients_.erase(who) != 0) h.gone(who);
}

void control_server::watch(client who, peer& p, bool reads) noexcept {
    epoll_event e{};
    e.events = EPOLLRDHUP | (reads ? EPOLLIN : 0U);  // that it has gone is told in any case
    e.data.u64 = who;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, p.socket.get(), &e);
    p.slowed = !reads;
}

/// A tenth of a second's worth may come at once.
bool control_server::may_speak(peer& p, clock::time_point now) noexcept {
    const double rate = quota_.messages_per_s, most = std::max(1.0, rate / 10);
    p.tokens = std::min(most, p.tokens + rate * std::chrono::duration<double>(now - p.since).count());
    p.since = now;
    if (p.tokens < 1) return false;
    p.tokens -= 1;
    return true;
}

void control_server::send(client to, const control_message& m, std::span<const int> fds) noexcept {
    const auto at = clients_.find(to);
    if (at == clients_.end() || at->second.lost) return;
    if (send_control(at->second.socket.get(), m, fds)) return;
    at->second.lost = true;  // who calls may be in the middle of something with this client
    lost_.push_back(to);
}

bool control_server::tell(client to, const control_message& m) noexcept {
    const auto at = clients_.find(to);
    if (at == clients_.end() || at->second.lost) return true;  // nobody to be told
    const auto sent = send_control(at->second.socket.get(), m);
    return sent || sent.error().code.value() != EAGAIN;  // whose connection is broken is found when it is read
}

bool control_server::make_room(handler& h) {
    if (clients_.size() < quota_.clients) return true;
    client oldest = 0;
    for (const auto& [who, p] : clients_)
        if (!p.holds && (oldest == 0 || who < oldest)) oldest = who;
    if (oldest == 0) return false;
    ++stats_.refused;
    lose(oldest, h);
    return true;
}

void control_server::accept_some(handler& h) {
    for (unsigned i = 0; i < accepts_at_once; ++i) {
        base::unique_fd s(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!s && (errno == EMFILE || errno == ENFILE)) {
            // Out of descriptors: the caller is let in and sent away, or it would be announced for ever.
            spare_.reset();
            s.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            s.reset();
            spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
            ++stats_.refused;
            continue;
        }
        if (!s) return;
        auto pid = wire::trusted_peer(s.get(), "who calls");
        if (!pid || !make_room(h)) {
            ++stats_.refused;
            control_message m;
            m.type = control_type::answer;
            m.status = pid ? EBUSY : EACCES;
            m.payload = pid ? "the host serves " + std::to_string(quota_.clients) + " connections already; close some" : pid.error().text;
            (void)send_control(s.get(), m);
            continue;
        }
        const client who = ++last_;
        epoll_event e{};
        e.events = EPOLLIN | EPOLLRDHUP;
        e.data.u64 = who;
        if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, s.get(), &e) != 0) continue;
        peer p;
        p.socket = std::move(s);
        p.pid = *pid;
        p.since = clock::now() - std::chrono::seconds(1);
        clients_.emplace(who, std::move(p));
        ++stats_.accepted;
    }
}

void control_server::read_one(client who, peer& p, handler& h) {
    if (!may_speak(p, clock::now())) {
        ++stats_.slowed;
        watch(who, p, false);
        return;
    }
    auto m = receive_control(p.socket.get(), quota_.fds);
    if (m) {
        ++stats_.messages;
        h.message(who, std::move(*m));
        return;
    }
    const int e = m.error().code.value();
    if (e == EAGAIN) return;
    if (e != ECONNRESET) {
        ++stats_.bad;
        control_message answer;
        answer.type = control_type::answer;
        answer.status = e;
        answer.payload = m.error().text.substr(0, control_message::max_payload);
        (void)send_control(p.socket.get(), answer);
    }
    lose(who, h);
}

void control_server::serve(handler& h, milliseconds wait) {
    const bool slowed = std::any_of(clients_.begin(), clients_.end(), [](const auto& c) { return c.second.slowed; });
    epoll_event events[events_at_once];
    const int n = ::epoll_wait(epoll_.get(), events, events_at_once, static_cast<int>(slowed ? std::min(wait, milliseconds(10)).count() : wait.count()));
    for (int i = 0; i < n; ++i) {
        const client who = events[i].data.u64;
        if (who == the_listener) {
            accept_some(h);
            continue;
        }
        const auto at = clients_.find(who);
        if (at == clients_.end()) continue;  // dropped a moment ago
        if ((events[i].events & EPOLLIN) != 0 && !at->second.slowed) read_one(who, at->second, h);
        // What was sent before the end was read first; one message at a time, each time that it is told.
        else if ((events[i].events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0) lose(who, h);
    }
    if (slowed)
        for (auto& [who, p] : clients_)
            if (p.slowed) watch(who, p, true);
    for (const auto who : std::exchange(lost_, {})) lose(who, h);
}

}  // namespace nm::sys
