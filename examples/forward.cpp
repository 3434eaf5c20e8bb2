// SPDX-License-Identifier: BSD-2-Clause
// forward SRC DST: moves frames between two ports, both ways, and says how fast. With no arguments the two ports are
// pipes, with a source at one far end and a sink at the other: the whole of nm in one process, no privileges.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "nm/nm.hpp"

namespace {

// Each pair of these kinds gets a loop of its own; NICs are in nic.cpp.
using ports = nm::port_list<nm::netdev, nm::pipe, nm::vale_port, nm::null_port>;
volatile std::sig_atomic_t stopped = 0;

bool over(std::uint64_t deadline) { return stopped != 0 || nm::system_clock::now_ns() > deadline; }

// The loop: the whole example is in these lines.
template <class A, class B>
void run(A& a, B& b, std::uint64_t deadline) {
    std::uint64_t moved = 0, shown = 0, last = nm::system_clock::now_ns();
    while (!over(deadline) && a.status() && b.status()) {
        for (int i = 0; i < 256; ++i) {
            const nm::index_t n = nm::forward(a, b, 256) + nm::forward(b, a, 256);
            moved += n;
            if (n == 0) {
                using std::chrono::milliseconds;
                (void)nm::wait_any(milliseconds(20), nm::watch{a, nm::events::rx}, nm::watch{b, nm::events::rx});
                break;
            }
        }
        const std::uint64_t now = nm::system_clock::now_ns();
        if (now - last < 500'000'000) continue;
        const double seconds = static_cast<double>(now - last) / 1e9;
        std::fprintf(stderr, "%.3f Mpps (%llu frames so far)\n", static_cast<double>(moved - shown) / seconds / 1e6,
                     static_cast<unsigned long long>(moved));
        shown = moved;
        last = now;
    }
    for (const auto& s : {a.status(), b.status()})
        if (!s) std::fprintf(stderr, "forward: %s\n", s.error().text.c_str());
}

template <class P>
void table(P& p) {
    const nm::counters in = p.rx_stats(), out = p.tx_stats();
    std::printf("%-20s %-20s %14llu %14llu %10llu\n", p.name().c_str(), p.mode().c_str(),
                static_cast<unsigned long long>(in.frames), static_cast<unsigned long long>(out.frames),
                static_cast<unsigned long long>(in.dropped() + out.dropped()));
}

void announce(const nm::port_info& i) {
    std::fprintf(stderr, "%s: %s (%s)%s%s\n", i.name.c_str(), i.mode.c_str(), i.reason.c_str(),
                 i.advice.empty() ? "" : "; ", i.advice.c_str());
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 1 && argc != 3 && argc != 4) {
        std::fprintf(stderr, "usage: forward [SRC DST [SECONDS]]   e.g. forward netmap:eth1 netmap:eth2\n");
        return 2;
    }
    std::signal(SIGINT, [](int) { stopped = 1; });
    std::signal(SIGTERM, [](int) { stopped = 1; });
    const bool alone = argc == 1;
    const double seconds = argc == 4 ? std::atof(argv[3]) : alone ? 3 : 1e9;
    const std::uint64_t deadline = nm::system_clock::now_ns() + static_cast<std::uint64_t>(seconds * 1e9);

    nm::context ctx;
    nm::open_options together;
    together.mem_id = 1;  // one region: frames are forwarded by swapping buffers
    together.offloads = true;
    auto a = nm::open<ports>(ctx, alone ? "netmap:in}1" : argv[1], together);
    auto b = nm::open<ports>(ctx, alone ? "netmap:out{1" : argv[2], together);

    std::thread traffic;
    if (alone)
        traffic = std::thread([&ctx, &together, deadline] {
            auto source = nm::open<nm::pipe>(ctx, "netmap:in{1", together);
            auto sink = nm::open<nm::pipe>(ctx, "netmap:out}1", together);
            while (!over(deadline))
                if (nm::generate(source, 256, [](nm::frame& f) noexcept { f.resize(60); }) + nm::drain(sink, 256) == 0)
                    (void)nm::wait_any(std::chrono::milliseconds(20), nm::watch{source, nm::events::tx},
                                       nm::watch{sink, nm::events::rx});
        });
    std::visit([](auto&... p) { (announce(p.info()), ...); }, a, b);
    std::visit([&](auto& x, auto& y) { run(x, y, deadline); }, a, b);
    if (traffic.joinable()) traffic.join();
    std::printf("%-20s %-20s %14s %14s %10s\n", "port", "mode", "received", "sent", "dropped");
    std::visit([](auto&... p) { (table(p), ...); }, a, b);
    return 0;
} catch (const std::system_error& e) {
    std::fprintf(stderr, "forward: %s\n", e.what());
    return 1;
}
