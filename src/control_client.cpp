// SPDX-License-Identifier: BSD-2-Clause

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <thread>

#include "control_wire.hpp"

#include "nm/sys/control_places.hpp"

extern char** environ;

namespace nm::sys {
namespace {

using clock = std::chrono::steady_clock;
constexpr std::size_t max_events = 256;  // that nobody asked for yet

int left_until(clock::time_point end) noexcept {
    const auto left = std::chrono::ceil<milliseconds>(end - clock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

bool poll_until(int fd, short what, clock::time_point end) noexcept {
    for (;;) {
        pollfd p{fd, what, 0};
        const int n = ::poll(&p, 1, left_until(end));
        if (n > 0) return true;
        if (n == 0 && clock::now() >= end) return false;
        if (n < 0 && errno != EINTR) return false;
    }
}

bool runs(const std::string& path) noexcept { return ::access(path.c_str(), X_OK) == 0; }

/// It goes its own way at once; what this returns says when it listens: end of file, after a sentence if it cannot.
result<base::unique_fd> start(const std::string& program, std::string_view rendezvous) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return fail(errno, "cannot make a pipe: " + base::errno_text(errno));
    base::unique_fd report(ends[0]), says(ends[1]);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawnattr_init(&attributes);
    // None of this program's descriptors: it would hold a terminal, or a pipe that somebody waits at the end of.
    constexpr int report_to = 3;
    ::posix_spawn_file_actions_adddup2(&files, says.get(), report_to);
    ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
    ::posix_spawn_file_actions_adddup2(&files, 0, 1);
    ::posix_spawn_file_actions_adddup2(&files, 0, 2);
    ::posix_spawn_file_actions_addclosefrom_np(&files, report_to + 1);
    sigset_t none, all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    std::string path = program, option = "--background", name(rendezvous);
    char* const arguments[] = {path.data(), option.data(), name.data(), nullptr};
    pid_t pid = 0;
    const int e = ::posix_spawn(&pid, path.c_str(), &files, &attributes, arguments, environ);
    ::posix_spawn_file_actions_destroy(&files);
    ::posix_spawnattr_destroy(&attributes);
    if (e != 0) return fail(e, "cannot start " + program + ": " + base::errno_text(e));
    // The process that was started makes another and ends.
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {}
    return report;
}

/// What a host program that was started says until it listens or ends.
std::string heard(int report, clock::time_point end) {
    std::string text;
    std::array<char, 512> piece{};
    ::fcntl(report, F_SETFL, O_NONBLOCK);
    while (text.size() < 4096 && poll_until(report, POLLIN, end)) {
        const ssize_t n = ::read(report, piece.data(), piece.size());
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) break;
        text.append(piece.data(), static_cast<std::size_t>(n));
    }
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

}  // namespace

result<std::string> find_host_program() {
    const std::string name = "/nm-host";
    if (const char* there = ::secure_getenv("NM_LIBEXEC"); there != nullptr && *there == '/')
        if (const auto path = there + name; runs(path)) return path;
    std::array<char, 4096> self{};
    std::string here;
    if (const ssize_t n = ::readlink("/proc/self/exe", self.data(), self.size() - 1); n > 0) here.assign(self.data(), static_cast<std::size_t>(n));
    here.resize(std::min(here.rfind('/'), here.size()));
    if (const auto path = here + name; !here.empty() && runs(path)) return path;
    const std::string above = here.substr(0, std::min(here.rfind('/'), here.size()));
    for (const auto& prefix : {above, std::string("/usr/local"), std::string("/usr")})
        if (const auto path = prefix + "/libexec/nm" + name; runs(path)) return path;
    return fail(ENOENT, "nm-host, the program that a switch or a pipe between processes lives in, is neither beside this program nor in libexec/nm; "
                        "say where it is in NM_LIBEXEC");
}

result<control_channel> control_channel::connect(const runtime_dir& dir, std::string_view rendezvous) noexcept {
    if (auto ok = check_rendezvous(rendezvous); !ok) return forward_error(ok);
    base::unique_fd s(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!s) return fail(errno, "cannot make a socket: " + base::errno_text(errno));
    // For a place in the queue of those who call. All else is done without waiting.
    constexpr timeval a_second{1, 0};
    ::setsockopt(s.get(), SOL_SOCKET, SO_SNDTIMEO, &a_second, sizeof a_second);
    const auto where = wire::address(dir.fd(), wire::socket_file(rendezvous));
    const std::string what = std::string(rendezvous) + " (" + dir.path() + ")";
    if (::connect(s.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0) {
        const int e = errno;
        if (e == ENOENT || e == ECONNREFUSED) return fail(ENOENT, what + " has no host");
        if (e == EAGAIN) return fail(EBUSY, "the host of " + what + " has more callers waiting than it can take; try again");
        return fail(e, "cannot reach the host of " + what + ": " + base::errno_text(e));
    }
    if (auto pid = wire::trusted_peer(s.get(), "the host of " + what); !pid) return forward_error(pid);
    return control_channel(std::move(s));
}

void control_channel::keep(control_message m) noexcept {
    if (m.type != control_type::event) return;
    m.fds.clear();
    if (events_.size() == max_events) events_.pop_front();
    events_.push_back(std::move(m));
}

result<control_message> control_channel::ask(const control_message& request, std::span<const int> fds, milliseconds timeout) noexcept {
    const auto end = clock::now() + timeout;
    const auto late = [&] { return fail(ETIMEDOUT, "the host did not answer within " + std::to_string(timeout.count()) + " ms; is it stopped? valectl --json -l names its process"); };
    const auto sequence = ++sequence_;
    for (;;) {
        auto sent = wire::send(fd(), request, sequence, fds);
        if (sent) break;
        if (sent.error().code.value() == ECONNRESET) break;  // it may have said why
        if (sent.error().code.value() != EAGAIN) return forward_error(sent);
        if (!poll_until(fd(), POLLOUT, end)) return late();
    }
    for (;;) {
        auto got = receive_control(fd());
        if (!got && got.error().code.value() != EAGAIN) {
            gone_ = true;
            return got;
        }
        if (got && got->type == control_type::answer && (got->sequence == sequence || (got->sequence == 0 && got->status != 0))) {
            if (got->status != 0) return fail(got->status > 0 ? got->status : EPROTO, got->payload);
            return got;
        }
        if (got) keep(std::move(*got));
        if (clock::now() >= end || (!got && !poll_until(fd(), POLLIN, end))) return late();
    }
}

std::optional<control_message> control_channel::event() noexcept {
    if (events_.empty() && !gone_) {
        auto got = receive_control(fd());
        if (got) keep(std::move(*got));
        else gone_ = got.error().code.value() != EAGAIN;
    }
    if (events_.empty()) return std::nullopt;
    auto first = std::move(events_.front());
    events_.pop_front();
    return first;
}

bool control_channel::alive() noexcept {
    pollfd p{fd(), POLLIN | POLLRDHUP, 0};
    if (::poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL)) != 0) gone_ = true;
    return !gone_;
}

result<control_channel> reach_host(const runtime_dir& dir, std::string_view rendezvous, const reach_options& o) noexcept {
    const auto end = clock::now() + o.timeout;
    for (auto pause = milliseconds(20);; pause = std::min(2 * pause, milliseconds(200))) {
        auto there = control_channel::connect(dir, rendezvous);
        if (there || !o.start || there.error().code.value() != ENOENT) return there;
        auto program = o.program.empty() ? find_host_program() : result<std::string>(o.program);
        if (!program) return forward_error(program);
        auto report = start(*program, rendezvous);
        if (!report) return forward_error(report);
        // Silence: it listens, or another was faster, which perhaps does not listen yet, or ends just now.
        if (auto why = heard(report->get(), end); !why.empty()) return fail(ECANCELED, why);
        there = control_channel::connect(dir, rendezvous);
        if (there || there.error().code.value() != ENOENT) return there;
        if (clock::now() >= end)
            return fail(ETIMEDOUT, *program + " was started for " + std::string(rendezvous) + ", and did not listen within " +
                                       std::to_string(o.timeout.count()) + " ms; start it by hand to see why: " + *program + " " + std::string(rendezvous));
        std::this_thread::sleep_for(pause);
    }
}

result<hosted_answer> ask_host(std::string_view rendezvous, const control_message& request, std::span<const int> fds, const reach_options& o) noexcept {
    const auto end = clock::now() + o.timeout;
    auto dir = runtime_dir::open();
    if (!dir) return forward_error(dir);
    for (int tries = 0;; ++tries) {
        reach_options rest = o;
        rest.timeout = std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(end - clock::now()));
        auto host = reach_host(*dir, rendezvous, rest);
        if (!host) return forward_error(host);
        auto answer = host->ask(request, fds, rest.timeout);
        if (answer) return hosted_answer{std::move(*host), std::move(*answer)};
        // Nothing was done for who hears nothing: the host was ending with its last port.
        if (answer.error().code.value() != ECONNRESET) return forward_error(answer);
        if (tries == 3 || clock::now() >= end) return fail(ECONNRESET, "the host of " + std::string(rendezvous) + " ended while it was asked; try again");
        std::this_thread::sleep_for(milliseconds(5));
    }
}

result<port_grant> open_at_host(std::string_view rendezvous, std::string_view port, const port_wish& wish, const reach_options& o) noexcept {
    control_message m;
    m.type = control_type::open;
    m.name = port;
    m.put(wish);
    auto got = ask_host(rendezvous, m, {}, o);
    if (!got) return forward_error(got);
    auto& fds = got->answer.fds;
    const auto words = got->answer.words<port_words>();
    if (!words || words->vectors == 0 || words->vectors > 100 || fds.size() != 1 + std::size_t{2} * words->vectors)
        return fail(EPROTO, "the host of " + std::string(rendezvous) + " answered what makes no port; end it and try again");
    port_grant g{std::move(got->channel), std::move(fds[0]), *words, {}, {}};
    for (std::size_t i = 0; i < words->vectors; ++i) g.kicks.push_back(std::move(fds[1 + i]));
    for (std::size_t i = 0; i < words->vectors; ++i) g.irqs.push_back(std::move(fds[1 + words->vectors + i]));
    return g;
}

result<custody> claim_at_host(std::string_view rendezvous, std::string_view name, unsigned end, std::string_view payload,
                              std::span<const int> fds, const reach_options& o) noexcept {
    control_message m;
    m.type = control_type::claim;
    m.name = name;
    m.put(claim_words{.end = end});
    m.payload += payload;
    auto got = ask_host(rendezvous, m, fds, o);
    if (!got) return forward_error(got);
    const auto words = got->answer.words<claim_words>();
    if (!words || words->end != end) return fail(EPROTO, "the host of " + std::string(rendezvous) + " answered what makes no custody; end it and try again");
    return custody{std::move(got->channel), *words, got->answer.payload.substr(sizeof *words), std::move(got->answer.fds)};
}

}  // namespace nm::sys
