// SPDX-License-Identifier: BSD-2-Clause
// needs: pcap
// filter A B EXPRESSION [FRAMES]: what A receives goes to B if pcap-filter(7)'s EXPRESSION says so, e.g. "tcp port 80 or arp", and is
// dropped if not; what B receives goes to A. The expression is compiled once; each frame gets its verdict in the forwarding loop.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <pcap/pcap.h>
#include <string>

#include "nm/nm.hpp"

namespace {

using ports = nm::port_list<nm::netdev, nm::shared_pipe, nm::process_port>;
volatile std::sig_atomic_t stopped = 0;

class pcap_filter {
public:
    explicit pcap_filter(const char* expression) {
        pcap_t* const ethernet = ::pcap_open_dead(DLT_EN10MB, 65535);
        if (ethernet != nullptr && ::pcap_compile(ethernet, &program_, expression, 1, PCAP_NETMASK_UNKNOWN) != 0)
            error_ = "\"" + std::string(expression) + "\": " + ::pcap_geterr(ethernet);
        if (ethernet != nullptr) ::pcap_close(ethernet);
    }
    pcap_filter(const pcap_filter&) = delete;
    pcap_filter& operator=(const pcap_filter&) = delete;
    ~pcap_filter() { ::pcap_freecode(&program_); }
    [[nodiscard]] const std::string& error() const noexcept { return error_; }
    /// A frame of several slots is judged by its first.
    nm::verdict operator()(nm::frame& f) const noexcept {
        return ::bpf_filter(program_.bf_insns, f.data(), f.size(), f.size()) != 0 ? nm::verdict::pass : nm::verdict::drop;
    }

private:
    bpf_program program_{};
    std::string error_;
};

template <class A, class B>
void run(A& a, B& b, const pcap_filter& filter, unsigned long long frames) {
    std::fprintf(stderr, "filter: %s to %s\n", a.name().c_str(), b.name().c_str());
    unsigned long long seen = 0;
    while (stopped == 0 && seen < frames && a.status() && b.status()) {
        const auto most = static_cast<nm::index_t>(std::min(frames - seen, 256ULL));
        const nm::index_t n = nm::forward(a, b, most, filter);
        seen += n;
        if (n + nm::forward(b, a, 256) == 0)
            (void)nm::wait_any(std::chrono::milliseconds(100), nm::watch{a, nm::events::rx}, nm::watch{b, nm::events::rx});
    }
    const auto dropped = a.rx_stats().dropped(nm::cause::policy);
    std::printf("%llu frames passed, %llu dropped\n", seen - dropped, static_cast<unsigned long long>(dropped));
}

}  // namespace

int main(int argc, char** argv) try {
    char* end = nullptr;
    const auto frames = argc == 5 ? std::strtoull(argv[4], &end, 10) : ~0ULL;
    if (argc < 4 || argc > 5 || (end != nullptr && (*end != '\0' || end == argv[4] || *argv[4] == '-'))) {
        std::fprintf(stderr, "usage: filter A B EXPRESSION [FRAMES]   e.g. filter netmap:eth1 netmap:eth2 'tcp port 80 or arp'\n");
        return 2;
    }
    const pcap_filter filter(argv[3]);
    if (!filter.error().empty()) {
        std::fprintf(stderr, "filter: %s\n", filter.error().c_str());
        return 2;
    }
    std::signal(SIGINT, [](int) { stopped = 1; });
    std::signal(SIGTERM, [](int) { stopped = 1; });
    nm::context ctx;
    auto a = nm::open<ports>(ctx, argv[1]), b = nm::open<ports>(ctx, argv[2]);
    std::visit([&](auto& from, auto& to) { run(from, to, filter, frames); }, a, b);
    return 0;
} catch (const std::system_error& e) {
    std::fprintf(stderr, "filter: %s\n", e.what());
    return 1;
}
