// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>

#include "common/idle.hpp"
#include "common/report.hpp"
#include "common/run.hpp"
#include "quota.hpp"
#include "settings.hpp"

namespace pkt_gen {

/// One thread of the generator: some rings of a port, and where it tells what it did.
struct worker {
    tool::run& run;
    tool::tally& done;
    const settings& s;
    nm::index_t first_ring, rings;
    bool alone;  ///< nobody else uses the port: it may be armed and asked
    quota& packets;
    std::string nobody_there;  ///< what to say when a pipe stays full and its other end is not open
    std::uint64_t began = 0, ended = 0;

    [[nodiscard]] bool over() const noexcept { return run.stopped() || packets.used_up(); }

    /// Nothing could be done: looks again soon, later sleeps; throws when the port is of no use any more.
    template <class P>
    void rest(P& port, nm::events wanted) {
        if (!idle.should_sleep()) return;
        if (!alone) return tool::idle::nap();
        if (any(nm::wait(port, wanted, tool::nap_limit) & nm::events::error)) check(port);
    }
    void busy() noexcept { idle.busy(); }

    template <class P>
    void check(P& port) {
        if (auto ok = port.status(); !ok) throw tool::run_error(ok.error().text);
    }
    /// Now and then while all goes well: the loss of the link must not wait for a full ring.
    template <class P>
    void check_sometimes(P& port) {
        if (alone && (++rounds & 1023U) == 0) check(port);
    }

    tool::idle idle = {};
    unsigned rounds = 0;
};

/// A frame in hex, as -X prints it.
inline void dump_frame(const char* direction, const nm::frame& f) {
    std::string out = fmt::format("{} {} bytes{}\n", direction, f.size(), f.last() ? "" : ", more follow");
    const auto bytes = f.bytes().first(std::min<std::size_t>(f.size(), f.capacity()));
    for (std::size_t at = 0; at < bytes.size(); at += 16) {
        out += fmt::format("{:6}:", at);
        std::string ascii;
        for (std::size_t i = at; i < at + 16; ++i) {
            out += i < bytes.size() ? fmt::format(" {:02x}", bytes[i]) : "   ";
            if (i < bytes.size()) ascii += bytes[i] >= 0x20 && bytes[i] < 0x7f ? static_cast<char>(bytes[i]) : '.';
        }
        out += "  " + ascii + "\n";
    }
    tool::print_err(out);
}

}  // namespace pkt_gen
