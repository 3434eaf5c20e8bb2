// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "http.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <utility>
#include <vector>

#include "common/values.hpp"

#include "nm/clock.hpp"

namespace nmctl {
namespace {

constexpr std::string_view type_of_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";

[[nodiscard]] std::string answer(std::string_view status, std::string_view type, std::string_view body, bool head = false, std::string_view more = {}) {
    return fmt::format("HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n{}", status, type, body.size(), more, head ? "" : body);
}
[[nodiscard]] std::string refusal(std::string_view status, std::string_view more = {}) {
    return answer(status, "text/plain", std::string(status.substr(4)) + "\n", false, more);
}

/// Where the head of the request ends, or npos.
[[nodiscard]] std::size_t end_of_head(const std::string& request) {
    const auto crlf = request.find("\r\n\r\n"), lf = request.find("\n\n");
    return std::min(crlf, lf);
}

}  // namespace

listen_address parse_listen(std::string_view text) {
    listen_address l;
    std::string host = "127.0.0.1";
    std::string_view port = text;
    if (const auto colon = text.rfind(':'); colon != text.npos) {
        host = text.substr(0, colon);
        port = text.substr(colon + 1);
        if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
        else if (host.find(':') != host.npos) tool::bad_value(text, "is no address to listen on; an IPv6 address is written [::1]:9100");
    }
    if (port.empty() || port.find_first_not_of("0123456789") != port.npos) tool::bad_value(text, "has no port; write 9100, 192.0.2.1:9100 or [::1]:9100");
    const auto number = htons(static_cast<std::uint16_t>(tool::parse_unsigned(port, 0, 65535)));
    sockaddr_in v4{};
    sockaddr_in6 v6{};
    if (::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = number;
        std::memcpy(&l.address, &v4, l.size = sizeof v4);
    } else if (::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = number;
        std::memcpy(&l.address, &v6, l.size = sizeof v6);
    } else {
        tool::bad_value(text, "is no address to listen on; write 9100, 192.0.2.1:9100 or [::1]:9100 (numbers, no names)");
    }
    return l;
}

std::string http_answer(std::string_view request, const std::function<std::string()>& body) {
    const auto line = request.substr(0, request.find_first_of("\r\n"));
    const auto method_end = line.find(' '), target_end = line.rfind(' ');
    if (method_end == line.npos || target_end <= method_end) return refusal("400 Bad Request");
    const auto method = line.substr(0, method_end), version = line.substr(target_end + 1);
    auto target = line.substr(method_end + 1, target_end - method_end - 1);
    if (version != "HTTP/1.1" && version != "HTTP/1.0") return refusal(version.starts_with("HTTP/") ? "505 HTTP Version Not Supported" : "400 Bad Request");
    if (target.empty() || target[0] != '/' || target.find(' ') != target.npos) return refusal("400 Bad Request");
    if (method != "GET" && method != "HEAD") return refusal("405 Method Not Allowed", "Allow: GET, HEAD\r\n");
    target = target.substr(0, target.find('?'));
    if (target == "/") return answer("200 OK", "text/plain", "/metrics\n", method == "HEAD");
    if (target != "/metrics") return refusal("404 Not Found");
    return answer("200 OK", type_of_metrics, body(), method == "HEAD");
}

nm::result<http_server> http_server::open(const listen_address& at) {
    http_server s;
    s.listener_.reset(::socket(at.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!s.listener_) return nm::fail(errno, "cannot make a socket: " + nm::base::errno_text(errno));
    const int on = 1;
    ::setsockopt(s.listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(s.listener_.get(), reinterpret_cast<const sockaddr*>(&at.address), at.size) != 0 || ::listen(s.listener_.get(), 16) != 0) {
        const int e = errno;
        return nm::fail(e, "cannot listen there: " + nm::base::errno_text(e) +
                               (e == EADDRINUSE ? "; another program does: choose another port" : e == EACCES ? "; ports below 1024 are root's" : ""));
    }
    s.hold_spares();
    return s;
}

std::string http_server::where() const {
    sockaddr_storage a{};
    socklen_t size = sizeof a;
    std::array<char, INET6_ADDRSTRLEN> host{};
    if (::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&a), &size) != 0) return {};
    if (a.ss_family == AF_INET6) {
        sockaddr_in6 v6;
        std::memcpy(&v6, &a, sizeof v6);
        ::inet_ntop(AF_INET6, &v6.sin6_addr, host.data(), host.size());
        return fmt::format("[{}]:{}", host.data(), ntohs(v6.sin6_port));
    }
    sockaddr_in v4;
    std::memcpy(&v4, &a, sizeof v4);
    ::inet_ntop(AF_INET, &v4.sin_addr, host.data(), host.size());
    return fmt::format("{}:{}", host.data(), ntohs(v4.sin_port));
}

void http_server::hold_spares() {
    for (auto& fd : spares_)
        if (!fd) fd.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

void http_server::accept() {
    const auto next = [this] { return nm::base::unique_fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)); };
    // Who comes when all slots are taken pushes out who has been here longest: a scraper asks at once.
    for (std::size_t n = 0; n < most_clients; ++n) {
        auto fd = next();
        if (!fd && (errno == EMFILE || errno == ENFILE)) {
            // Descriptors are slots, too. If even the first is wanting he is sent away, or he would be announced for ever.
            pollfd waits{listener_.get(), POLLIN, 0};
            if (::poll(&waits, 1, 0) <= 0) return;  // it says so also when nobody comes
            if (!clients_.empty()) {
                clients_.pop_front();
                continue;
            }
            spares_ = {};
            (void)next();
            return hold_spares();
        }
        if (!fd) return;
        if (clients_.size() == most_clients) clients_.pop_front();
        clients_.push_back({std::move(fd), nm::system_clock::now_ns() + patience_ns, {}, {}, 0, false});
    }
}

void http_server::read(client& c) {
    std::array<char, 2048> bytes;
    for (std::size_t round = 0; round <= most_request / bytes.size() && !c.said_all; ++round) {
        const ssize_t n = ::recv(c.fd.get(), bytes.data(), bytes.size(), 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) c.said_all = true;
        else if (c.answer.empty()) c.request.append(bytes.data(), static_cast<std::size_t>(n));  // else nobody wants it any more
    }
}

bool http_server::serve(client& c, const std::function<std::string()>& body) {
    read(c);
    if (c.answer.empty()) {
        const auto end = end_of_head(c.request);
        if (end != std::string::npos && end <= most_request) {
            spares_ = {};  // it may need descriptors, which clients must not have all of
            c.answer = http_answer(std::string_view(c.request).substr(0, end), body);
            hold_spares();
        } else if (c.request.size() > most_request) {
            c.answer = refusal("431 Request Header Fields Too Large");
        } else {
            return !c.said_all;
        }
    }
    while (c.sent < c.answer.size()) {
        const ssize_t n = ::send(c.fd.get(), c.answer.data() + c.sent, c.answer.size() - c.sent, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        c.sent += static_cast<std::size_t>(n);
    }
    // Closing while it still sends would take the answer away from it: it is told that this is all, and has until its time is up.
    if (!std::exchange(c.answered, true)) ::shutdown(c.fd.get(), SHUT_WR);
    return !c.said_all;
}

void http_server::serve(int stop, int timeout_ms, const std::function<std::string()>& body) {
    const auto begin = nm::system_clock::now_ns();
    for (;;) {
        std::vector<pollfd> fds{{stop, POLLIN, 0}, {listener_.get(), POLLIN, 0}};
        for (const auto& c : clients_) {
            const int in = c.said_all ? 0 : POLLIN, out = c.answer.empty() || c.answered ? 0 : POLLOUT;
            fds.push_back({c.fd.get(), static_cast<short>(in | out), 0});
        }
        (void)::poll(fds.data(), fds.size(), 200);
        const auto now = nm::system_clock::now_ns();
        std::size_t i = 2;
        for (auto c = clients_.begin(); c != clients_.end(); ++i) {
            const bool over = now > c->until || (fds[i].revents != 0 && !serve(*c, body));
            c = over ? clients_.erase(c) : std::next(c);
        }
        if ((fds[1].revents & POLLIN) != 0) accept();
        if ((fds[0].revents & POLLIN) != 0 || (timeout_ms >= 0 && now - begin >= static_cast<std::uint64_t>(timeout_ms) * 1'000'000)) return;
    }
}

}  // namespace nmctl
