// SPDX-License-Identifier: BSD-2-Clause
// nic A B [SECONDS]: forwards both ways between two NICs of one kind, which this program drives itself:
//     nmctl bind 0000:03:00.0 0000:03:00.1
//     nic netmap:0000:03:00.0 netmap:0000:03:00.1
// The loop is compiled for each kind of device; which one runs is decided once.
#include <cstdio>
#include <cstdlib>

#include "nm/nm.hpp"

namespace {

template <class Nic>
void run(const char* first, const char* second, double seconds) {
    nm::context ctx;
    nm::open_options together;
    together.mem_id = 1;  // one region, which both devices reach: frames are forwarded without a copy
    auto a = nm::open<Nic>(ctx, first, together);
    auto b = nm::open<Nic>(ctx, second, together);
    for (auto* p : {&a, &b}) std::fprintf(stderr, "%s: %s (%s)\n", p->name().c_str(), p->mode().c_str(), p->info().reason.c_str());
    const auto end = nm::system_clock::now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
    std::uint64_t moved = 0;
    while (nm::system_clock::now_ns() < end) {
        nm::index_t n = 0;
        for (int i = 0; i < 64; ++i) n += nm::forward(a, b, 64) + nm::forward(b, a, 64);
        moved += n;
        if (n == 0)
            (void)nm::wait_any(std::chrono::milliseconds(100), nm::watch{a, nm::events::rx}, nm::watch{b, nm::events::rx});
    }
    std::printf("%llu frames moved\n", static_cast<unsigned long long>(moved));
}

template <class... Device>
bool run_first_that_drives(const char* first, const char* second, double seconds) {
    const auto spec = nm::parse_port(first);
    return spec && ((nm::nic<Device>::matches(*spec) && (run<nm::nic<Device>>(first, second, seconds), true)) || ...);
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 3) {
        std::fprintf(stderr, "usage: nic A B [SECONDS]   e.g. nic netmap:0000:03:00.0 netmap:0000:03:00.1\n");
        return 2;
    }
    if (run_first_that_drives<nm::e1000, nm::virtio_net, nm::vmxnet3, nm::ixgbe>(argv[1], argv[2], argc > 3 ? std::atof(argv[3]) : 1e9))
        return 0;
    std::fprintf(stderr, "nic: %s is no NIC that this program drives; nmctl bind shows what there is\n", argv[1]);
    return 1;
} catch (const std::system_error& e) {
    std::fprintf(stderr, "nic: %s\n", e.what());
    return 1;
}
