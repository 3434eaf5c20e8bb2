// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <pthread.h>
#include <sched.h>
#include <string>

#include "common/account.hpp"
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
    /// Nobody has opened the other end of this pipe, here or in another program.
    template <class P>
    [[nodiscard]] bool deserted(P& port) const noexcept {
        if constexpr (requires { port.peer_open(); }) return !nobody_there.empty() && !port.peer_open();
        else return !nobody_there.empty();
    }

    template <class P>
    void check(P& port) {
        if (auto ok = port.status(); !ok) throw tool::run_error(ok.error().text);
    }
    /// Now and then while all goes well: the loss of the link must not wait for a full ring.
    template <class P>
    void check_sometimes(P& port) {
        if (alone && (++rounds & 1023U) == 0) check(port);
    }

    /// What was queued gets to go out, as long as some of it still does.
    template <class P>
    void flush(P& port) {
        const auto waiting = [&port, this] {
            std::uint64_t slots = 0;
            for (nm::index_t i = first_ring; i < std::min(first_ring + rings, port.num_tx_rings()); ++i) {
                (void)port.tx(i).txsync();
                slots += tool::pending_slots(port.tx(i));
            }
            return slots;
        };
        std::uint64_t since = nm::system_clock::now_ns();
        for (std::uint64_t before = waiting(); before != 0;) {
            const std::uint64_t now_waiting = waiting();
            const std::uint64_t now = nm::system_clock::now_ns();
            if (now_waiting != before)
                since = now;
            else if (now - since > 1'000'000'000)
                return;
            before = now_waiting;
            if (idle.should_sleep()) tool::idle::nap();
        }
    }

    tool::idle idle = {};
    unsigned rounds = 0;
};

inline void pin_to(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(cpu), &set);
    if (::pthread_setaffinity_np(::pthread_self(), sizeof set, &set) != 0)
        throw tool::run_error("-a: cannot run on CPU " + std::to_string(cpu) + "; this machine has " +
                              std::to_string(std::thread::hardware_concurrency()) + ", counted from 0");
}

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
