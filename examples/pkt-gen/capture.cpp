// SPDX-License-Identifier: BSD-2-Clause
#include "source.hpp"

#if defined(NM_HAS_PCAP)
#include <memory>
#include <pcap/pcap.h>
#endif

namespace pkt_gen {

#if defined(NM_HAS_PCAP)

capture read_capture(const std::string& file) {
    char why[PCAP_ERRBUF_SIZE] = "";
    const std::unique_ptr<pcap_t, decltype(&::pcap_close)> in(::pcap_open_offline(file.c_str(), why), &::pcap_close);
    if (!in) throw tool::run_error("-P: cannot read \"" + file + "\": " + why);
    if (::pcap_datalink(in.get()) != DLT_EN10MB) throw tool::run_error("-P: \"" + file + "\" holds no Ethernet frames");
    constexpr std::size_t limit = std::size_t{256} << 20;
    capture c;
    pcap_pkthdr* header = nullptr;
    const u_char* data = nullptr;
    int got = 0;
    while ((got = ::pcap_next_ex(in.get(), &header, &data)) == 1) {
        if (header->caplen < 14 || header->caplen > 16384) continue;
        if (c.bytes.size() + header->caplen > limit)
            throw tool::run_error("-P: \"" + file + "\" is larger than 256 MiB; send a part of it");
        c.packets.emplace_back(c.bytes.size(), header->caplen);
        c.bytes.insert(c.bytes.end(), data, data + header->caplen);
    }
    if (got == PCAP_ERROR) throw tool::run_error("-P: \"" + file + "\": " + ::pcap_geterr(in.get()));
    if (c.packets.empty()) throw tool::run_error("-P: \"" + file + "\" has no packet of 14 to 16384 bytes");
    return c;
}

const char* capture_support() noexcept { return ::pcap_lib_version(); }

#else

capture read_capture(const std::string&) {
    throw tool::run_error("-P: this pkt-gen was built without libpcap; install libpcap-dev and build again");
}

const char* capture_support() noexcept { return "no libpcap"; }

#endif

}  // namespace pkt_gen
