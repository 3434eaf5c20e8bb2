// SPDX-License-Identifier: BSD-2-Clause
// nat INSIDE OUTSIDE ADDRESS [SECONDS]: a middlebox between two ports. What inside begins (UDP, TCP, ping) leaves with ADDRESS, and only
// answers come in; ARP passes, and who asks for ADDRESS gets an answer; all else is dropped. Both sides are one Ethernet, and hosts need
// no setting. The frames are changed where they lie, in the forwarding loop; what they are changed to is in common/nat.hpp.
#include <arpa/inet.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "common/nat.hpp"
#include "nm/nm.hpp"

namespace {

using ports = nm::port_list<nm::netdev, nm::nic<nm::e1000>, nm::nic<nm::virtio_net>, nm::process_port>;
volatile std::sig_atomic_t stopped = 0;

template <class Port>
void run(Port& inside, Port& outside, tool::nat& nat, std::uint64_t end) {
    using then = tool::nat::then;
    for (const auto* p : {&inside, &outside}) std::fprintf(stderr, "nat: %s: %s\n", p->name().c_str(), p->mode().c_str());
    const auto leave = [&nat](nm::frame& f) noexcept {
        return !f.first() || nat.out(f.bytes()) == then::pass ? nm::verdict::pass : nm::verdict::drop;
    };
    const auto enter = [&](nm::frame& f) noexcept {
        const then what = f.first() ? nat.in(f.bytes()) : then::pass;
        if (what == then::answer) (void)nm::inject(outside, f.bytes());  // out with the next batch; if there is no room, it is asked again
        return what == then::pass ? nm::verdict::pass : nm::verdict::drop;
    };
    while (stopped == 0 && inside.status() && outside.status()) {
        const std::uint64_t now = nm::system_clock::now_ns();
        if (now > end) break;
        nat.at(now / 1'000'000'000);
        if (nm::forward(outside, inside, 256, enter) + nm::forward(inside, outside, 256, leave) == 0)
            (void)nm::wait_any(std::chrono::milliseconds(100), nm::watch{inside, nm::events::rx}, nm::watch{outside, nm::events::rx});
    }
    for (const auto& s : {inside.status(), outside.status()})
        if (!s) std::fprintf(stderr, "nat: %s\n", s.error().text.c_str());
    const auto in = outside.rx_stats(), out = inside.rx_stats();
    const auto number = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
    std::printf("from inside: %llu frames, %llu dropped; from outside: %llu frames, %llu dropped; %zu connections\n",
                number(out.frames), number(out.dropped(nm::cause::policy)), number(in.frames),
                number(in.dropped(nm::cause::policy)), nat.connections());
}

}  // namespace

int main(int argc, char** argv) try {
    in_addr address{};
    char* rest = nullptr;
    const double seconds = argc == 5 ? std::strtod(argv[4], &rest) : 1e9;
    const bool good = !(argc == 5 && (rest == argv[4] || *rest != '\0')) && seconds >= 0 && seconds <= 1e9;
    if (argc < 4 || argc > 5 || !good || ::inet_pton(AF_INET, argv[3], &address) != 1) {
        std::fprintf(stderr, "usage: nat INSIDE OUTSIDE ADDRESS [SECONDS]   e.g. nat netmap:eth1 netmap:eth2 192.0.2.1\n");
        return 2;
    }
    std::signal(SIGINT, [](int) { stopped = 1; });
    std::signal(SIGTERM, [](int) { stopped = 1; });
    nm::context ctx;
    nm::open_options together;
    together.mem_id = 1;  // one region: frames move by swapping buffers
    auto inside = nm::open<ports>(ctx, argv[1], together), outside = nm::open<ports>(ctx, argv[2], together);
    tool::nat nat(ntohl(address.s_addr));
    const std::uint64_t end = nm::system_clock::now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
    return std::visit([&]<class A, class B>(A& a, B& b) {
        if constexpr (std::is_same_v<A, B>) return run(a, b, nat, end), 0;
        else return std::fprintf(stderr, "nat: %s and %s: two ports of one kind, please\n", a.name().c_str(), b.name().c_str()), 1;
    }, inside, outside);
} catch (const std::system_error& e) {
    std::fprintf(stderr, "nat: %s\n", e.what());
    return 1;
}
