// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// ptnet-host -s vm1.sock -i vale0:a: passes ports through to virtual machines of an unmodified QEMU, and says with which options to
// start it. One thread drives the ports (or as many as are asked for), another sees to who connects.
#include <algorithm>
#include <mutex>
#include <poll.h>
#include <stop_token>

#include "common/idle.hpp"
#include "common/main.hpp"
#include "common/metrics_file.hpp"
#include "common/run.hpp"
#include "common/values.hpp"
#include "guests.hpp"

namespace {

using namespace ptnet_host;
using text = std::string_view;

constexpr tool::option<settings> options[] = {
    {'s', "socket", "PATH", "a guest: the socket for QEMU (default ptnet.sock); the ports after it are in that guest's memory",
     [](settings& s, text v) { s.guests.push_back({std::string(v), {}, false, 0, {}}); }},
    {'i', "interface", "PORT", "a port to pass through: vale0:a, netmap:p{1, netmap:eth0 ...; give as many as there are, up to 16 for a guest",
     [](settings& s, text v) { s.guest().ports.push_back(tool::checked_port(v)); }},
    {0, "nvdimm", "", "this guest's memory is an nvdimm, which every host lets it cache, and the device is for doorbells only",
     [](settings& s, text) { s.guest().nvdimm = true; }},
    {0, "share", "MIB", "no port, but a memory of so many MiB (a power of two) for two guests, one of which runs ptnet-host --device for the other",
     [](settings& s, text v) { s.guest().shared_mib = tool::parse_unsigned(v, 1, 65536); }},
    {0, "device", "ADDRESS", "in a guest: the ports are for the other guest of the memory that this PCI device has (--share), without another copy",
     [](settings& s, text v) { s.guest().device = v; }},
    {0, "own-switches", "", "switches are this program's own, not those that all programs meet on; their ports may then share a memory with others",
     [](settings& s, text) { s.own_switches = true; }},
    {0, "echo", "PORT", "open PORT here, and send back what it receives, addresses swapped: to try a guest with",
     [](settings& s, text v) { s.echoes.push_back(tool::checked_port(v)); }},
    {'t', "threads", "N", "that drive the ports, each those of some guests (default 1)",
     [](settings& s, text v) { s.threads = tool::parse_unsigned(v, 1, 64); }},
    {0, "spin", "MICROSECONDS", "how long they go on looking when there is nothing to do, before they sleep (default 50)",
     [](settings& s, text v) { s.spin_us = tool::parse_unsigned(v, 0, 1'000'000); }},
    {0, "no-vnet-hdr", "", "do not offer the virtio-net header (offloads), where a port has one",
     [](settings& s, text) { s.host.vnet_hdr = false; }},
    {'T', "report", "MS", "a line per port every so many milliseconds (default: none)",
     [](settings& s, text v) { s.report_ms = tool::parse_unsigned(v, 1, 3'600'000); }},
    {0, "time", "SECONDS", "end after so long (default: on SIGINT or SIGTERM)",
     [](settings& s, text v) { s.seconds = tool::parse_seconds(v); }},
    {0, "json", "", "one JSON object per report and one at the end, on stdout", [](settings& s, text) { s.json = true; }},
    {0, "csv", "", "a row per port and report, and at the end, on stdout, as valectl's", [](settings& s, text) { s.csv = true; }},
    {0, "metrics", "FILE", tool::metrics_help, [](settings& s, text v) { s.metrics = tool::metrics_name(v); }},
};

/// Sends back whatever comes, until the run is stopped.
template <class P>
void echo(P& port, const tool::run& run) {
    tool::idle rest;
    const auto swap = [](nm::frame& f) noexcept {
        if (f.first() && f.size() >= 12) std::swap_ranges(f.data(), f.data() + 6, f.data() + 6);
        return nm::verdict::pass;
    };
    while (!run.stopped()) {
        if (nm::forward(port, port, 256, swap) != 0) rest.busy();
        else if (rest.should_sleep()) (void)nm::wait(port, nm::events::rx, tool::nap_limit);
    }
}

/// A guest has one end of a pipe, and other programs have the other: theirs is between processes, the guest's is not, and this is where
/// the two meet, at the price of a copy.
struct relay {
    nm::pipe inside;
    nm::shared_pipe outside;

    void run(const tool::run& run) {
        tool::idle rest;
        for (bool full = false; !run.stopped();) {
            if (nm::forward(inside, outside, 256) + nm::forward(outside, inside, 256) != 0) {
                rest.busy();
                full = false;
            } else if (full) {
                tool::idle::nap();  // there is something, and no room for it
                full = false;
            } else if (rest.should_sleep()) {
                for (const auto e : nm::wait_any(tool::nap_limit, nm::watch{inside, nm::events::rx}, nm::watch{outside, nm::events::rx})) full |= nm::any(e);
            }
        }
    }
};

/// The pipes whose other end is for other programs; what an echo has is not.
[[nodiscard]] std::vector<relay> relays(nm::context& ctx, nm::context& outside, const settings& s) {
    std::vector<relay> all;
    for (const auto& g : s.guests)
        for (const auto& name : g.ports) {
            const auto spec = tool::spec_of(name);
            if (!nm::shared_pipe::matches(spec)) continue;
            std::string other = "netmap:" + spec.name + (spec.pipe_slave ? "{" : "}") + spec.pipe_id;
            if (spec.name.find(':') != std::string::npos) other.erase(0, 7);  // a switch port's
            if (std::count(s.echoes.begin(), s.echoes.end(), other) == 0)
                all.push_back({nm::open<nm::pipe>(ctx, other), nm::open<nm::shared_pipe>(outside, name)});
        }
    return all;
}

using guest_list = std::vector<std::unique_ptr<guest>>;

/// Whoever comes and goes does so in one thread, and the books are looked at in another.
void tend(guest_list& guests, std::mutex& changes, const tool::run& run, std::stop_source& end) {
    while (!run.stopped()) {
        std::vector<pollfd> fds;
        for (const auto& g : guests) g->watch(fds);
        (void)::poll(fds.data(), fds.size(), static_cast<int>(tool::nap_limit.count()));
        const std::lock_guard guard(changes);
        for (const auto& g : guests) g->tend();
    }
    end.request_stop();
}

/// All that is said of the guests while they run, and at the end.
class teller {
public:
    teller(const guest_list& guests, std::mutex& changes, const std::vector<std::unique_ptr<nm::ptnet::sync_loop>>& loops, const settings& s)
        : guests_(guests), changes_(changes), loops_(loops), s_(s), file_("ptnet-host", s.metrics), rows_(s.csv, looks()) {
        file_.interval([this](tool::metrics& m) { count(m); });  // one that cannot be written is said at once
    }
    /// 0: never.
    [[nodiscard]] std::uint64_t period_ns() const noexcept {
        return (s_.report_ms == 0 && file_.wanted() ? 1000U : s_.report_ms) * std::uint64_t{1'000'000};
    }
    void tick() {
        const std::lock_guard guard(changes_);
        if (s_.report_ms != 0) {
            for (const auto& g : guests_) tool::print_err(g->report());
            if (s_.json) tool::print_out(object("interval"));
            rows_.print(looks());
        }
        file_.interval([this](tool::metrics& m) { count(m); });
    }
    /// When all threads have ended.
    void close() {
        if (!s_.json)
            for (const auto& g : guests_) tool::print_err(g->report());
        else tool::print_out(object("summary"));
        rows_.print(looks());
        file_.last([this](tool::metrics& m) { count(m); });
    }

private:
    [[nodiscard]] std::string object(const char* type) const {
        std::string list;
        for (const auto& g : guests_) list += (list.empty() ? "" : ", ") + g->to_json().text();
        return tool::json().add("type", type).raw("guests", "[" + list + "]").add("sleeps", sleeps()).text() + "\n";
    }
    [[nodiscard]] std::uint64_t sleeps() const noexcept {
        std::uint64_t sum = 0;
        for (const auto& l : loops_) sum += l->sleeps();
        return sum;
    }
    [[nodiscard]] std::vector<tool::port_look> looks() const {
        std::vector<tool::port_look> all;
        for (const auto& g : guests_) g->add_looks(all);
        return all;
    }
    void count(tool::metrics& m) const {
        for (const auto& g : guests_) g->count(m);
        m.counter("nm_host_sleeps", "Times that the threads that drive the ports had nothing to do and slept.", {{"tool", "ptnet-host"}}, sleeps());
    }

    const guest_list& guests_;
    std::mutex& changes_;
    const std::vector<std::unique_ptr<nm::ptnet::sync_loop>>& loops_;
    const settings& s_;
    tool::metrics_file file_;
    tool::port_rows rows_;
};

int serve(const settings& s) {
    if (s.json + s.csv + (s.metrics == "-") > 1) throw tool::usage_error("--json, --csv and --metrics - all want stdout; choose one");
    std::mutex changes;
    std::stop_source end;
    tool::run run;
    nm::context ctx;
    std::vector<std::unique_ptr<nm::ptnet::sync_loop>> loops;
    for (unsigned i = 0; i < std::min<std::size_t>(s.threads, s.guests.size()); ++i)
        loops.push_back(need(nm::ptnet::sync_loop::create({std::chrono::microseconds(s.spin_us)})));
    guest_list guests;
    for (const auto& g : s.guests) {
        if (g.shared_mib != 0) guests.push_back(std::make_unique<shared_memory>(g));
        else if (!g.device.empty()) guests.push_back(std::make_unique<neighbour>(ctx, g, s, *loops[guests.size() % loops.size()]));
        else if (by_its_host(g, s)) guests.push_back(std::make_unique<hosted_guest>(g));
        else guests.push_back(std::make_unique<served_guest>(ctx, g, s, *loops[guests.size() % loops.size()]));
    }
    std::vector<ports::variant> echoes;
    for (const auto& name : s.echoes)
        echoes.push_back(s.own_switches || !is_switch_port(name) ? nm::open<ports>(ctx, name) : ports::variant(nm::open<nm::process_port>(ctx, name)));
    nm::context outside;
    auto between = relays(ctx, outside, s);
    for (std::size_t i = 0; i < guests.size(); ++i) tool::print_err(guests[i]->instructions(i + 1));

    teller books(guests, changes, loops, s);
    for (auto& l : loops) run.start([&l, &end] { l->run(end.get_token()); });
    run.start([&] { tend(guests, changes, run, end); });
    for (auto& e : echoes) run.start([&e, &run] { std::visit([&run](auto& p) { echo(p, run); }, e); });
    for (auto& r : between) run.start([&r, &run] { r.run(run); });
    constexpr std::uint64_t day = 86'400'000'000'000;
    const std::uint64_t period = books.period_ns();
    run.watch(period != 0 ? period : day, static_cast<std::uint64_t>(s.seconds * 1e9), [&] {
        if (period != 0) books.tick();
    });
    books.close();
    run.rethrow();
    return tool::exit_ok;
}

constexpr tool::about self{
    .name = "ptnet-host",
    .usage = "ptnet-host [-s SOCKET] -i PORT [-i PORT ...] [-s SOCKET -i PORT ...] [OPTIONS]",
    .purpose = "Passes ports through to virtual machines, and says how QEMU is to be started.\n",
    .built_in = [] { return fmt::format("ports: {}", ports::kinds()); },
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main<settings>(self, options, argc, argv, [](settings& s) {
        if (s.guests.empty()) throw tool::usage_error("no port given; say -i vale0:a");
        for (const auto& g : s.guests)
            if (g.ports.empty() != (g.shared_mib != 0) && !g.ports.empty()) throw tool::usage_error("--share has no ports; those are the guests' own");
        for (const auto& g : s.guests)
            if (g.ports.empty() && g.shared_mib == 0) throw tool::usage_error("no port for " + g.socket + "; say -i vale0:a after it");
        return serve(s);
    });
}
