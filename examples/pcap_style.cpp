// SPDX-License-Identifier: BSD-2-Clause
// pcap_style PORT [COUNT]: prints who sends what to whom, frame by frame, as a program of libpcap's would, on any port: an interface, a
// pipe, a port of a switch. With no arguments it is its own test: what it injects into a pipe, dispatch and next have to find.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "nm/nm.hpp"

namespace {

using ports = nm::port_list<nm::netdev, nm::shared_pipe, nm::process_port, nm::null_port>;

void print(const nm::received& f) {
    const auto b = f.bytes();  // the first slot's: all of a frame, unless it is longer than a buffer
    if (b.size() < 14) return;
    const auto mac = [&b](std::size_t at) {
        for (std::size_t i = at; i < at + 6; ++i) std::printf("%s%02x", i == at ? "" : ":", b[i]);
    };
    mac(6), std::printf(" > "), mac(0);
    std::printf(", type 0x%02x%02x, length %zu\n", b[12], b[13], f.size());
}

// pcap_loop: the whole example is in these lines.
template <class Port>
int loop(Port& port, nm::index_t count) {
    std::fprintf(stderr, "pcap_style: %s, %s\n", port.name().c_str(), port.mode().c_str());
    for (nm::index_t seen = 0; seen != count;) {
        const nm::index_t n = nm::dispatch(port, count - seen, print);
        seen += n;
        if (n == 0 && nm::wait(port, nm::events::rx) == nm::events::error) {
            std::fprintf(stderr, "pcap_style: %s\n", port.status().error().text.c_str());
            return 1;
        }
    }
    return 0;
}

int self_test() {
    nm::context ctx;
    auto tx = nm::open<nm::pipe>(ctx, "netmap:p{1"), rx = nm::open<nm::pipe>(ctx, "netmap:p}1");
    std::vector<std::uint8_t> frame(60), whole(9000);
    std::uint32_t sent = 0, received = 0, in_order = 0;
    const auto check = [&](const nm::received& f) noexcept {
        in_order += f.copy(whole) == 60 + received % 8940 && std::memcmp(whole.data(), &received, 4) == 0;
        ++received;
    };
    while (sent < 100'000) {
        do {  // until there is no room
            frame.resize(60 + sent % 8940);
            std::memcpy(frame.data(), &sent, sizeof sent);
        } while (nm::inject(tx, frame) != 0 && ++sent < 100'000);
        nm::flush(tx);
        nm::dispatch(rx, 50, check);
        while (const nm::received f = nm::next(rx)) check(f);
    }
    std::printf("%u frames injected, %u received, %u in order\n", sent, received, in_order);
    return received == sent && in_order == sent ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc == 1) return self_test();
    char* end = nullptr;
    const unsigned long long count = argc == 3 ? std::strtoull(argv[2], &end, 10) : ~0U;
    if (argc > 3 || (end != nullptr && (*end != '\0' || end == argv[2])) || count == 0 || count > ~0U) {
        std::fprintf(stderr, "usage: pcap_style [PORT [COUNT]]   e.g. pcap_style netmap:eth1 10\n");
        return 2;
    }
    nm::context ctx;
    auto port = nm::open<ports>(ctx, argv[1]);
    return std::visit([count](auto& p) { return loop(p, static_cast<nm::index_t>(count)); }, port);
} catch (const std::system_error& e) {
    std::fprintf(stderr, "pcap_style: %s\n", e.what());
    return 1;
}
