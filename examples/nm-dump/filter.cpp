// SPDX-License-Identifier: BSD-2-Clause
#include "filter.hpp"

#include <cstdint>

#include "common/failure.hpp"

#if defined(NM_HAS_PCAP)
#include <pcap/pcap.h>
#endif

namespace nm_dump {

#if defined(NM_HAS_PCAP)

struct filter::program {
    bpf_program code{};
    program() = default;
    program(const program&) = delete;
    program& operator=(const program&) = delete;
    ~program() { ::pcap_freecode(&code); }
};

filter::filter(const std::string& expression) {
    if (expression.empty()) return;
    const std::unique_ptr<pcap_t, decltype(&::pcap_close)> dead(::pcap_open_dead(DLT_EN10MB, 65535), &::pcap_close);
    program_ = std::make_unique<program>();
    if (!dead || ::pcap_compile(dead.get(), &program_->code, expression.c_str(), 1, PCAP_NETMASK_UNKNOWN) != 0) {
        const std::string why = dead ? ::pcap_geterr(dead.get()) : "no memory";
        throw tool::usage_error("-f: \"" + expression + "\": " + why);
    }
}

bool filter::passes(std::span<const std::uint8_t> bytes) const noexcept {
    if (!program_) return true;
    pcap_pkthdr h{};
    h.caplen = h.len = static_cast<bpf_u_int32>(bytes.size());
    return ::pcap_offline_filter(&program_->code, &h, bytes.data()) != 0;
}

const char* filter::support() noexcept { return ::pcap_lib_version(); }

#else

struct filter::program {};
filter::filter(const std::string& expression) {
    if (!expression.empty())
        throw tool::usage_error("-f: this nm-dump was built without libpcap; install libpcap-dev and build again");
}
bool filter::passes(std::span<const std::uint8_t>) const noexcept { return true; }
const char* filter::support() noexcept { return "no libpcap"; }

#endif

filter::filter() = default;
filter::~filter() = default;

}  // namespace nm_dump
