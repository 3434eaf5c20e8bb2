// SPDX-License-Identifier: BSD-2-Clause

// libpcap between two veth ends in one thread: pcap_inject on --a, pcap_dispatch on --b (immediate mode, no blocking).

#include <pcap/pcap.h>

#include "kernel.hpp"

namespace {

pcap_t* open_interface(const std::string& name) {
    char error[PCAP_ERRBUF_SIZE] = "";
    pcap_t* p = pcap_create(name.c_str(), error);
    if (p == nullptr || pcap_set_snaplen(p, 2048) != 0 || pcap_set_immediate_mode(p, 1) != 0 ||
        pcap_set_buffer_size(p, 8 << 20) != 0 || pcap_activate(p) < 0 || pcap_setdirection(p, PCAP_D_IN) != 0 ||
        pcap_setnonblock(p, 1, error) != 0)
        bench::die("libpcap cannot open " + name + ": " + (p != nullptr ? pcap_geterr(p) : error));
    return p;
}

}  // namespace

int main(int argc, char** argv) {
    const auto o = bench::parse(argc, argv);
    if (o.work != "loop") bench::die("--work loop", 2);
    bench::pin(o.cpu_b);
    pcap_t* const out = open_interface(o.a);
    pcap_t* const in = open_interface(o.b);
    std::array<std::byte, 64> frame{};
    std::uint64_t sequence = 0, sum = 0;
    const bench::measured rate = bench::timed_rate(o, 1, [&]() -> std::uint64_t {
        for (unsigned i = 0; i < o.batch; ++i) {
            bench::fill_ethernet(frame.data(), sequence++);
            pcap_inject(out, frame.data(), bench::frame_bytes);
        }
        const int n = pcap_dispatch(
            in, static_cast<int>(o.batch),
            [](unsigned char* user, const pcap_pkthdr*, const unsigned char* data) {
                *reinterpret_cast<std::uint64_t*>(user) += bench::read_frame(data);
            },
            reinterpret_cast<unsigned char*>(&sum));
        return n > 0 ? static_cast<std::uint64_t>(n) : 0;
    });
    if (sum == 0) bench::die("nothing arrived");
    bench::report_one(o, "libpcap", rate);
}
