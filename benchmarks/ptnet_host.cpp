// SPDX-License-Identifier: BSD-2-Clause

// The host's end of the works across a guest's boundary: --a SOCKET serves one end of a pipe by ivshmem, and uses the other end; --b
// INTERFACE, a TAP's, does the same by AF_PACKET in a thread of its own. Both read, fill and echo as they are told (boundary.hpp). Runs
// until its parent ends.

#include <nm/fuse.hpp>
#include <nm/ports/pipe.hpp>
#include <nm/ptnet/host.hpp>
#include <nm/sys/ivshmem.hpp>

#include <cerrno>
#include <fstream>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <optional>
#include <poll.h>
#include <sstream>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "boundary.hpp"

namespace {

template <class T>
T need(nm::result<T> r) {
    if (!r) bench::die(r.error().text);
    return std::move(*r);
}

std::uint64_t now_us() noexcept { return nm::system_clock::now_ns() / 1000; }

/// nm's: one thread drives the served end and uses the other one.
class by_memory {
public:
    explicit by_memory(const std::string& socket) {
        const std::string name = "netmap:bench{1";
        memory_ = need(nm::ptnet::host_memory::create(need(nm::ptnet::memory_for<nm::pipe>(context_, name))));
        service_ = need(nm::ptnet::serve<nm::pipe>(context_, memory_, name));
        far_.emplace(need(nm::try_open<nm::pipe>(context_, "netmap:bench}1")));
        nm::sys::ivshmem_options o;
        o.path = socket;
        o.memory = memory_->fd();
        epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
        for (unsigned v = 0; v < service_->vectors(); ++v) {
            o.kicks.push_back(service_->kick_fd(v));
            o.irqs.push_back(service_->irq_fd(v));
            watch(service_->kick_fd(v), EPOLLIN | EPOLLET);
        }
        server_.emplace(need(nm::sys::ivshmem_server::listen(std::move(o))));
        watch(server_->fd(), EPOLLIN);
    }
    [[noreturn]] void run() {
        std::uint64_t idle_since = now_us();
        for (unsigned n = 0;; ++n) {
            if (n % 4096 == 0) tend();
            if (pass()) {
                idle_since = 0;
                continue;
            }
            bench::relax();
            const std::uint64_t t = now_us();
            if (idle_since == 0) idle_since = t;
            if (t - idle_since < side_.sleep_after) continue;
            if (service_->arm()) {
                std::array<epoll_event, 8> found{};
                (void)::epoll_wait(epoll_.get(), found.data(), static_cast<int>(found.size()), 1000);
                tend();
            }
            service_->disarm();
        }
    }

private:
    bool pass() noexcept {
        bool worked = service_->visit();
        worked |= nm::drain(far_->rx(), 256, [this](nm::frame& f) noexcept { side_.hear(f.data()); }) != 0;
        if (side_.fill_batch != 0)
            worked |= nm::generate(far_->tx(), side_.fill_batch, [this](nm::frame& f) noexcept {
                bench::fill_ethernet(f.data(), side_.next++);
                f.resize(bench::frame_bytes);
            }) != 0;
        if (side_.has_answer) [[unlikely]]
            worked |= answer();
        return worked;
    }
    [[gnu::cold]] bool answer() noexcept {
        const auto s = service_->stats();
        side_.counts.kicks = s.kicks;
        side_.counts.wakes = s.wakes;
        return nm::generate(far_->tx(), 1, [this](nm::frame& f) noexcept {
            side_.give(f.data());
            f.resize(bench::frame_bytes);
        }) != 0;
    }
    void tend() {
        while (const auto e = server_->poll())
            if (e->what == nm::sys::ivshmem_event::kind::left) service_->stop();
    }
    void watch(int fd, std::uint32_t events) {
        epoll_event e{};
        e.events = events;
        if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e) != 0) bench::die("cannot wait for kicks");
    }

    nm::context context_;
    std::shared_ptr<nm::ptnet::host_memory> memory_;
    std::shared_ptr<nm::ptnet::service> service_;
    std::optional<nm::pipe> far_;
    std::optional<nm::sys::ivshmem_server> server_;
    nm::base::unique_fd epoll_;
    bench::host_side side_;
};

/// The peer's: sendmmsg and recvmmsg. What it fills is bounded by what the TAP's queue holds, so that nothing is thrown away there.
class by_tap {
public:
    explicit by_tap(const std::string& interface) : interface_(interface) {
        fd_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
        int one = 1, bytes = 8 << 20;
        (void)::setsockopt(fd_, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
        (void)::setsockopt(fd_, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
        if (::setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0) (void)::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(ETH_P_ALL);
        address.sll_ifindex = static_cast<int>(bench::interface_index(interface));
        if (fd_ < 0 || ::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) bench::die("packet socket: " + std::string(std::strerror(errno)));
        for (unsigned i = 0; i < most; ++i) {
            parts_[i] = {frames_[i].data(), frames_[i].size()};
            headers_[i].msg_hdr.msg_iov = &parts_[i];
            headers_[i].msg_hdr.msg_iovlen = 1;
        }
    }
    [[noreturn]] void run() {
        for (std::uint64_t idle_since = now_us();;) {
            for (auto& p : parts_) p.iov_len = frames_[0].size();
            const int n = ::recvmmsg(fd_, headers_.data(), most, MSG_DONTWAIT, nullptr);
            for (int i = 0; i < n; ++i) {
                const bool whole = headers_[static_cast<unsigned>(i)].msg_len >= bench::frame_bytes;
                const auto* frame = frames_[static_cast<unsigned>(i)].data();
                if (whole && frame[12] == std::byte{0x88} && frame[13] == std::byte{0xb5}) side_.hear(frame);
            }
            bool worked = n > 0;
            if (side_.has_answer) {
                side_.give(frames_[0].data());
                worked |= ::send(fd_, frames_[0].data(), bench::frame_bytes, MSG_DONTWAIT) > 0;
            }
            if (side_.fill_batch != 0) worked |= fill();
            const std::uint64_t t = now_us();
            if (worked) idle_since = t;
            else if (side_.fill_batch != 0) (void)::usleep(50);
            else if (t - idle_since >= side_.sleep_after) {
                pollfd p{fd_, POLLIN, 0};
                (void)::poll(&p, 1, 1000);
            }
        }
    }

private:
    static constexpr unsigned most = 256, under_way = 500;  // a TAP's queue holds 1000

    /// Frames that the TAP's other end has taken, or that were thrown away. (What /sys shows may be another namespace's.)
    [[nodiscard]] std::uint64_t passed() const {
        std::ifstream file("/proc/thread-self/net/dev");
        for (std::string line; std::getline(file, line);) {
            const auto colon = line.find(':');
            if (colon == std::string::npos || line.substr(line.find_first_not_of(' '), colon - line.find_first_not_of(' ')) != interface_) continue;
            std::istringstream words(line.substr(colon + 1));
            std::array<std::uint64_t, 12> n{};
            for (auto& w : n) words >> w;
            return n[9] + n[11];
        }
        return 0;
    }

    bool fill() {
        if (filled_ == 0) base_ = passed();
        if (filled_ - gone_ + side_.fill_batch > under_way) gone_ = std::min(filled_, passed() - base_);
        const std::uint64_t waiting = filled_ - gone_;
        if (waiting >= under_way) return false;
        const unsigned n = std::min<unsigned>({side_.fill_batch, most, under_way - static_cast<unsigned>(waiting)});
        for (unsigned i = 0; i < n; ++i) {
            bench::fill_ethernet(frames_[i].data(), side_.next++);
            parts_[i].iov_len = bench::frame_bytes;
        }
        const int sent = ::sendmmsg(fd_, headers_.data(), n, MSG_DONTWAIT);
        if (sent > 0) filled_ += static_cast<std::uint64_t>(sent);
        return sent > 0;
    }

    std::string interface_;
    int fd_ = -1;
    std::uint64_t filled_ = 0, gone_ = 0, base_ = 0;
    std::array<std::array<std::byte, 2048>, most> frames_{};
    std::array<iovec, most> parts_{};
    std::array<mmsghdr, most> headers_{};
    bench::host_side side_;
};

}  // namespace

int main(int argc, char** argv) {
    const auto o = bench::parse(argc, argv);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_TIMERSLACK, 1);
    by_memory memory(o.a);
    std::optional<std::jthread> tap;
    if (!o.b.empty()) tap.emplace([&o] { std::make_unique<by_tap>(o.b)->run(); });
    memory.run();
}
