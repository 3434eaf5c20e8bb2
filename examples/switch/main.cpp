// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// switch -i veth0 -i veth1 -h eth0: a learning Ethernet switch in one process. Its members are ports of any kind; one
// thread moves what they have, and sleeps on their descriptors when they have nothing.
#include <list>
#include <poll.h>

#include "books.hpp"
#include "common/idle.hpp"
#include "common/main.hpp"
#include "common/metrics_file.hpp"
#include "common/signals.hpp"
#include "common/values.hpp"

namespace {

using vswitch::member;

struct settings {
    std::vector<std::string> ports;
    std::string name = "vale0";
    std::uint64_t storm = nm::open_options{}.storm_copies;
    unsigned report_ms = 0;
    double seconds = 0;
    std::string require_mode, metrics;
    tool::expectations expect;
    bool json = false, csv = false;
};

[[nodiscard]] member attach(nm::context& ctx, nm::vale::vale_switch<>& sw, const std::string& port, const settings& s) {
    nm::open_options o;
    o.offloads = true;  // what one member leaves undone (checksums, segments) is done where another could not do it
    o.storm_copies = s.storm;
    const bool stack_only = !nm::wants_own(tool::spec_of(port));
    auto opened = tool::open_port(ctx, port, o, stack_only ? std::string_view{} : s.require_mode);
    return std::visit([&](auto& p) { return member(sw.attach(std::move(p), {}, o)); }, opened);
}

/// Sleeps until a member has something to do, or for a while. Not on those that are down: they say so all the time.
void sleep(std::list<member>& members) {
    std::vector<pollfd> fds;
    for (auto& m : members)
        std::visit([&fds](auto& b) {
            if (!b.status()) return;
            b.arm();
            fds.push_back({b.fd(), POLLIN, 0});
        }, m);
    (void)::poll(fds.data(), fds.size(), static_cast<int>(tool::nap_limit.count()));
}

/// Moves frames until it is told to stop; `tick` is called a few times a second.
template <class Tick>
void run(std::list<member>& members, std::uint64_t until, Tick tick) {
    tool::idle rest;
    for (std::uint64_t now = 0, next = 0; !tool::told_to_end() && now < until; now = nm::system_clock::now_ns()) {
        nm::index_t moved = 0;
        for (auto& m : members) moved += std::visit([](auto& b) { return b.poll(256); }, m);
        if (moved != 0) rest.busy();
        else if (rest.should_sleep()) sleep(members);
        if (now < next) continue;
        tick();
        next = now + 50'000'000;
    }
}

/// A member that can do no more leaves; the others go on, and so does one that is only down.
void tend(std::list<member>& members, vswitch::books& books) {
    for (auto m = members.begin(); m != members.end();) {
        const auto ok = std::visit([](auto& b) { return b.status(); }, *m);
        if (ok || ok.error().code.value() == ENETDOWN) {
            ++m;
            continue;
        }
        tool::print_err("switch: " + ok.error().text + "; it leaves the switch\n");
        books.close(*m);
        m = members.erase(m);
    }
}

// netmap's names, or an interface's alone.
[[nodiscard]] std::string port_name(std::string_view v) {
    return tool::checked_port(v.find(':') == v.npos ? "netmap:" + std::string(v) : std::string(v));
}

using text = std::string_view;
constexpr tool::option<settings> options[] = {
    {'i', "interface", "PORT", "a member: eth0, or any port of nm (netmap:p{1, netmap:eth0^ ...); give as many as there are",
     [](settings& s, text v) { s.ports.push_back(port_name(v)); }},
    {'h', "host", "INTERFACE", "two members: the interface, and the host's stack on it, which keeps its addresses and connections",
     [](settings& s, text v) {
         s.ports.push_back(port_name(v));
         s.ports.push_back(port_name(std::string(v) + "^"));
     }},
    {'n', "name", "valeNAME", "the switch's name (default vale0)", [](settings& s, text v) { s.name = v; }},
    {0, "storm", "COPIES", "copies per second that one member may cause of frames flooded to more than four others (default 1M; 0: no limit)",
     [](settings& s, text v) { s.storm = tool::parse_count(v, 0); }},
    {'T', "report", "MS", "a line per member every so many milliseconds (default: none)",
     [](settings& s, text v) { s.report_ms = tool::parse_unsigned(v, 1, 3'600'000); }},
    {0, "time", "SECONDS", "end after so long (default: on SIGINT or SIGTERM)",
     [](settings& s, text v) { s.seconds = tool::parse_seconds(v); }},
    {0, "require-mode", "MODE", "fail unless each member opens as zero-copy, copy, af_xdp, af_packet, vfio, ptnet, pipe or null; not a host's stack",
     [](settings& s, text v) {
         (void)tool::parse_mode(v);
         s.require_mode = v;
     },
     tool::mode_choices},
    {0, "expect-loss", "FRAMES|PERCENT%", "exit 3 if more is dropped, on the switch or by a member's device", [](settings& s, text v) { s.expect.set_loss(v); }},
    {0, "expect-pps", "[<>=]RATE", "exit 3 if the mean rate of frames that the switch accepts is not so", [](settings& s, text v) { s.expect.set_pps(v); }},
    {0, "metrics", "FILE", tool::metrics_help, [](settings& s, text v) { s.metrics = tool::metrics_name(v); }},
    {0, "json", "", "one JSON object per report and one at the end, on stdout", [](settings& s, text) { s.json = true; }},
    {0, "csv", "", "a row per member and report, and at the end, on stdout, as valectl's", [](settings& s, text) { s.csv = true; }},
};

int run(const settings& s) {
    if (s.json + s.csv + (s.metrics == "-") > 1) throw tool::usage_error("--json, --csv and --metrics - all want stdout; choose one");
    tool::listen_for_the_end();
    nm::context ctx;
    nm::vale::vale_switch<> sw(ctx, s.name);
    std::list<member> members;
    for (const auto& port : s.ports) members.push_back(attach(ctx, sw, port, s));
    tool::print_err(fmt::format("{}: {} members\n", sw.name(), members.size()));

    tool::metrics_file metrics("switch", s.metrics);
    vswitch::books books(sw, s.json, s.csv || metrics.on_stdout());
    const auto count = [&](tool::metrics& m) { books.count(m, members); };
    metrics.interval(count);  // one that cannot be written is said at once
    tool::port_rows rows(s.csv, books.looks(members));
    const std::uint64_t period = (s.report_ms == 0 && metrics.wanted() ? 1000U : s.report_ms) * std::uint64_t{1'000'000}, start = nm::system_clock::now_ns();
    const auto until = s.seconds > 0 ? start + static_cast<std::uint64_t>(s.seconds * 1e9) : ~std::uint64_t{0};
    run(members, until, [&, next = start + period]() mutable {
        tend(members, books);
        if (period == 0 || nm::system_clock::now_ns() < next) return;
        if (s.report_ms != 0) books.report(members), rows.print(books.looks(members));
        metrics.interval(count);
        next += period;
    });
    // What arrived before the end has been moved; what it caused has not.
    for (int i = 0; i < 4; ++i)
        for (auto& m : members) std::visit([](auto& b) { b.poll(2048); }, m);
    for (auto& m : members) books.close(m);
    const auto verdict = books.summary(s.expect, static_cast<double>(nm::system_clock::now_ns() - start) / 1e9);
    members.clear();
    rows.print(books.looks(members));
    metrics.last(count);
    tool::require_conserved(verdict.conserved);
    return tool::exit_of(verdict.outcomes);
}

constexpr tool::about self{
    .name = "switch",
    .usage = "switch -i PORT -i PORT ... [-h INTERFACE] [OPTIONS]",
    .purpose = "Switches Ethernet frames between ports, and learns where who is.\n",
    .built_in = [] { return fmt::format("ports: {}", tool::ports::kinds()); },
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main<settings>(self, options, argc, argv, [](settings& s) {
        if (s.ports.empty()) throw tool::usage_error("no member given; say -i eth0 -i eth1, or -h eth0");
        return run(s);
    });
}
