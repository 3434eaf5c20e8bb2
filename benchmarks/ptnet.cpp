// SPDX-License-Identifier: BSD-2-Clause

// nm in a guest, on a port that the host passes through (--a ptnet:PCI-ADDRESS) and bench-ptnet-host serves. Works:
//   to-host    nm::generate; the host reads
//   from-host  the host fills; nm::drain
//   poll       round-trip times, in microseconds, of one frame at a time; nobody sleeps
//   sleep      the same; both sides sleep whenever there is nothing to do
//   processes  no host: two processes of this guest and a pipe between them

#include <nm/fuse.hpp>
#include <nm/ports/shared_pipe.hpp>
#include <nm/ptnet/port.hpp>
#include <nm/wait.hpp>

#include <filesystem>
#include <sched.h>
#include <sys/wait.h>

#include "boundary.hpp"

namespace {

using namespace std::chrono_literals;

/// Looks again for a while, and then sleeps.
struct rest {
    static constexpr unsigned patience = 2000;
    unsigned idle = 0;

    template <class P>
    [[gnu::always_inline]] void after(std::uint64_t n, P& port, nm::events what) noexcept {
        if (n != 0) [[likely]]
            idle = 0;
        else if (++idle > patience) sleep(port, what);
        else bench::relax();
    }
    template <class P>
    [[gnu::noinline, gnu::cold]] void sleep(P& port, nm::events what) noexcept {
        (void)nm::wait(port, what, 100ms);
        idle = 0;
    }
};

class user {
public:
    explicit user(const bench::options& o) : o_(o), port_(open(context_, o.a)) {
        order(bench::order::spin, 50);
        (void)ask();
    }

    void to_host() {
        const auto before = ask();
        const std::uint64_t first = sent_, sum = sent_sum_;
        const double rate = bench::guest_rate(o_, [&]() noexcept -> std::uint64_t {
            const auto n = nm::generate(port_.tx(), o_.batch, [&](nm::frame& f) noexcept {
                bench::fill_ethernet(f.data(), sent_);
                sent_sum_ += sent_++;
                f.resize(bench::frame_bytes);
            });
            rest_.after(n, port_, nm::events::tx);
            return n;
        });
        const auto after = ask();
        const std::uint64_t frames = sent_ - first;
        if (after.received - before.received != frames || after.sum - before.sum != frames * constant() + (sent_sum_ - sum))
            bench::die("the host did not get what was sent: " + std::to_string(after.received - before.received) + " of " + std::to_string(frames));
        say({rate, false}, before, after, frames);
    }
    void from_host() {
        const auto before = ask();
        const std::uint64_t first = received_;
        order(bench::order::fill, o_.batch);
        const double rate = bench::guest_rate(o_, [&]() noexcept -> std::uint64_t {
            const auto n = receive(o_.batch);
            rest_.after(n, port_, nm::events::rx);
            return n;
        });
        const auto after = ask();
        say({rate, false}, before, after, received_ - first);
    }
    void round_trips(bool sleeps) {
        order(bench::order::spin, sleeps ? 0 : 1'000'000);
        const auto before = ask();
        bench::histogram h;
        const auto rate = bench::round_trips(
            o_, h, [&](std::uint64_t i) { order(bench::order::echo, i); },
            [&] {
                for (unsigned tries = 0; tries < (sleeps ? 5U : 50'000'000U); ++tries) {
                    if (sleeps) (void)nm::wait(port_, nm::events::rx, 200ms);
                    else bench::relax();
                    if (receive(8) != 0) return true;
                }
                return false;
            });
        const auto after = ask();
        order(bench::order::spin, 50);
        bench::report_one(o_, "nm", rate, h.text() + "; " + per_million(before, after, h.us.size()));
    }

private:
    static nm::ptnet_port open(nm::context& c, const std::string& name) {
        auto port = nm::try_open<nm::ptnet_port>(c, name);
        if (!port) bench::die(port.error().text);
        return std::move(*port);
    }
    // What read_frame adds up to without the number, and what the numbers add.
    static std::uint64_t constant() noexcept {
        std::array<std::byte, bench::frame_bytes> frame{};
        bench::fill_ethernet(frame.data(), 0);
        return bench::read_frame(frame.data());
    }

    void order(bench::order what, std::uint64_t argument) {
        for (const double start = bench::now(); nm::generate(port_.tx(), 1, [&](nm::frame& f) noexcept {
                 bench::fill_order(f.data(), what, argument);
                 f.resize(bench::frame_bytes);
             }) == 0;) {
            (void)receive(256);
            (void)nm::wait(port_, nm::events::tx | nm::events::rx, 10ms);
            if (bench::now() - start > 5) bench::die("the host takes nothing");
        }
    }
    // What was on its way comes before the answer.
    bench::host_counts ask() {
        answered_ = false;
        order(bench::order::stop, 0);
        for (const double start = bench::now(); !answered_;) {
            if (receive(256) == 0) (void)nm::wait(port_, nm::events::rx, 10ms);
            if (bench::now() - start > 5) bench::die("the host does not answer");
        }
        expected_ = 0;
        any_ = false;
        return answer_;
    }
    [[gnu::always_inline]] std::uint64_t receive(unsigned n) noexcept {
        return nm::drain(port_.rx(), n, [&](nm::frame& f) noexcept {
            if (bench::order_of(f.data()) == bench::order::none) [[likely]] {
                const std::uint64_t number = bench::argument_of(f.data());
                if (any_ && number != expected_) [[unlikely]]
                    bench::die("frames were lost or repeated");
                any_ = true;
                expected_ = number + 1;
                sum_ += bench::read_frame(f.data());
                ++received_;
            } else if (bench::order_of(f.data()) == bench::order::stop) {
                std::memcpy(&answer_, f.data() + 24, sizeof answer_);
                answered_ = true;
            }
        });
    }
    static std::string per_million(const bench::host_counts& before, const bench::host_counts& after, std::uint64_t packets) {
        const double millions = std::max(1e-6, static_cast<double>(packets) / 1e6);
        std::array<char, 128> text{};
        std::snprintf(text.data(), text.size(), "%.3g doorbells and %.3g interrupts per million packets", static_cast<double>(after.kicks - before.kicks) / millions,
                      static_cast<double>(after.wakes - before.wakes) / millions);
        return text.data();
    }
    void say(bench::measured rate, const bench::host_counts& before, const bench::host_counts& after, std::uint64_t packets) {
        bench::report_one(o_, "nm", rate, per_million(before, after, packets));
    }

    const bench::options& o_;
    nm::context context_;
    nm::ptnet_port port_;
    rest rest_;
    std::uint64_t sent_ = 0, sent_sum_ = 0, received_ = 0, sum_ = 0, expected_ = 0;
    bool any_ = false, answered_ = false;
    bench::host_counts answer_;
};

/// A guest of one processor: who has nothing to do lets the other one.
void processes(const bench::options& o) {
    std::string dir = (std::filesystem::temp_directory_path() / "nm-bench-XXXXXX").string();
    if (::mkdtemp(dir.data()) == nullptr || ::setenv("NM_RUNTIME_DIR", (dir + "/run").c_str(), 1) != 0) bench::die("no place for a socket");
    const auto open = [](nm::context& c, const char* name) {
        auto port = nm::try_open<nm::shared_pipe>(c, name);
        if (!port) bench::die(port.error().text);
        return std::move(*port);
    };
    bench::flow flow;
    const pid_t child = ::fork();
    if (child < 0) bench::die("cannot make a process");
    nm::context context;
    if (child == 0) {
        auto port = open(context, "netmap:bench{1");
        for (;;)
            if (nm::generate(port.tx(), o.batch, [&](nm::frame& f) noexcept {
                    flow.fill(f.data());
                    f.resize(bench::frame_bytes);
                }) == 0)
                ::sched_yield();
    }
    {
        auto port = open(context, "netmap:bench}1");
        const double rate = bench::guest_rate(o, [&]() noexcept -> std::uint64_t {
            const auto n = nm::drain(port.rx(), o.batch, [&](nm::frame& f) noexcept { flow.read(f.data()); });
            if (n == 0) ::sched_yield();
            return n;
        });
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        if (flow.received == 0 || flow.awaited != flow.received) bench::die("frames were lost or repeated");
        bench::report_one(o, "nm", {rate, false}, "one processor for both");
    }
    bench::remove_folder(dir);
}

}  // namespace

int main(int argc, char** argv) {
    const auto o = bench::parse(argc, argv);
    if (o.work == "processes") {
        processes(o);
        return 0;
    }
    if (o.work != "to-host" && o.work != "from-host" && o.work != "poll" && o.work != "sleep")
        bench::die("--work to-host, from-host, poll, sleep or processes", 2);
    user u(o);
    if (o.work == "to-host") u.to_host();
    else if (o.work == "from-host") u.from_host();
    else u.round_trips(o.work == "sleep");
}
