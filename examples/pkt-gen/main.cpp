// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <fstream>
#include <memory>

#include "common/cpu.hpp"
#include "common/deserted.hpp"
#include "common/main.hpp"
#include "common/metrics_file.hpp"
#include "common/open.hpp"
#include "common/peer.hpp"
#include "common/watchable.hpp"
#include "pinger.hpp"
#include "receiver.hpp"
#include "sender.hpp"
#include "summary.hpp"

namespace {

using namespace pkt_gen;

/// What the worker threads share. The run comes last: it ends the threads before anything that they use goes.
struct job {
    explicit job(settings settled) : s(std::move(settled)), packets_left(s.count) {}

    settings s;
    quota packets_left;
    capture packets;
    std::string nobody_there;
    nm::context ctx;
    std::optional<tool::any_port> port;
    tool::watch_permits permits;
    std::unique_ptr<tool::peer> peer;
    std::vector<std::unique_ptr<tool::tally>> tallies;
    std::vector<std::unique_ptr<worker>> workers;
    summary sum;
    tool::metrics_file metrics{"pkt-gen", s.metrics};
    tool::run run;
};

[[nodiscard]] tool::totals look(job& j) {
    tool::totals t;
    for (auto& one : j.tallies) t.add(*one);
    return t;
}

/// The thread of worker i: made in that thread, so that its memory is there too.
template <class P>
void work(job& j, P& port, worker& w, int cpu) {
    if (cpu >= 0) tool::pin_to(cpu, "-a");
    switch (j.s.what) {
        case function::tx: return sender<P>(port, w, j.packets)();
        case function::rx: return receiver<P>(port, w)();
        case function::pong: return ponger<P>(port, w)();
        case function::ping: {
            pinger<P> p(port, w, j.sum.times);
            p();
            j.sum.pings = p.sent();
        }
    }
}

template <class P>
void drive(job& j, P& port) {
    const auto counters = [&](tool::metrics& m) { tool::add_live_port(m, "pkt-gen", j.s.port, port); };
    j.metrics.interval(counters);  // one that cannot be written is said at once
    if (!j.s.src_mac) j.s.src_mac = tool::mac_of(port);
    const settings& s = j.s;
    const nm::index_t rings = s.what == function::tx ? port.num_tx_rings() : port.num_rx_rings();
    if (s.threads > 1 && s.threads > rings)
        throw tool::run_error(
            fmt::format("-p {}: {} has {} ring{} and each thread wants one; open it with more (-C) or use "
                        "fewer threads",
                        s.threads, port.name(), rings, rings == 1 ? "" : "s"));
    const int cpus = s.cpus != 0 ? static_cast<int>(s.cpus) : static_cast<int>(std::thread::hardware_concurrency());
    for (unsigned i = 0; i < s.threads; ++i) {
        const nm::index_t first = rings * i / s.threads;
        j.tallies.push_back(std::make_unique<tool::tally>());
        j.workers.push_back(
            std::make_unique<worker>(worker{j.run, *j.tallies.back(), s, first, rings * (i + 1) / s.threads - first,
                                            s.threads == 1, j.packets_left, j.nobody_there}));
        const int cpu = s.cpu < 0 || i == 0 ? s.cpu : (s.cpu + static_cast<int>(i)) % std::max(1, cpus);
        j.run.start([&j, &port, cpu, w = j.workers.back().get()] { work(j, port, *w, cpu); });
    }
    tool::rate_report report(s.style);
    j.run.watch(std::uint64_t{s.report_ms} * 1'000'000, static_cast<std::uint64_t>(s.seconds * 1e9),
                [&] {
                    report.interval(look(j));
                    j.metrics.interval(counters);
                });
    j.sum.collect(port, j.workers, look(j));
}

void limit_cpus(unsigned count) {
    const unsigned have = std::thread::hardware_concurrency();
    if (count > have) throw tool::run_error(fmt::format("-c {}: this machine has {} CPUs", count, have));
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned i = 0; i < count; ++i) CPU_SET(i, &set);
    if (::sched_setaffinity(0, sizeof set, &set) != 0)
        throw tool::run_error(fmt::format("-c {}: the system does not allow it here", count));
}

[[nodiscard]] int run(settings settled) {
    job j(std::move(settled));
    const settings& s = j.s;
    for (const auto& n : s.notes) tool::print_err("pkt-gen: note: " + n + "\n");
    if (s.cpus != 0) limit_cpus(s.cpus);
    if (!s.pcap.empty() && s.what == function::tx) j.packets = read_capture(s.pcap);
    std::ofstream hgrm;
    if (!s.hgrm.empty() && s.what == function::ping) {
        hgrm.open(s.hgrm);
        if (!hgrm) throw tool::run_error("--hgrm: cannot write \"" + s.hgrm + "\"");
    }
    j.nobody_there = tool::missing_end(s.port, s.peer);
    if (!j.nobody_there.empty() && s.what != function::tx) tool::print_err("pkt-gen: note: " + j.nobody_there + "\n");

    nm::open_options o;
    if (s.tx_slots != 0) o.tx_slots = s.tx_slots;
    if (s.rx_slots != 0) o.rx_slots = s.rx_slots;
    if (s.tx_rings != 0) o.tx_rings = s.tx_rings;
    if (s.rx_rings != 0) o.rx_rings = s.rx_rings;
    j.port = tool::open_port(j.ctx, s.port, o, s.require_mode);
    if (s.watchable) tool::let_watch(j.permits, j.ctx, s.port);
    if (!s.peer.empty()) {
        const auto role = s.what == function::tx     ? tool::peer_role::drain
                          : s.what == function::ping ? tool::peer_role::echo
                                                     : tool::peer_role::feed;
        j.peer = std::make_unique<tool::peer>(tool::open_port(j.ctx, s.peer, {}, {}), role, *s.length);
    }
    if (s.wait_link > 0) j.run.pause(s.wait_link);

    std::visit([&j](auto& p) { drive(j, p); }, *j.port);
    if (j.peer) {
        j.peer->stop();
        j.sum.peer_received = j.peer->received();
        j.sum.peer_sent = j.peer->sent();
        j.sum.has_peer = true;
    }
    const bool hgrm_ok = !hgrm.is_open() || hgrm << j.sum.times.hgrm(1000) << std::flush;  // before stdout, which may have gone
    j.sum.at_switch = tool::dropped_by_switch(s.port);
    const auto outcomes = j.sum.judge(s);
    nm::port_info info = std::visit([](auto& p) { return p.info(); }, *j.port);
    info.name = s.port;
    j.sum.print(s, outcomes, info);
    std::visit([&](auto& p) { j.metrics.last([&](tool::metrics& m) { tool::add_port(m, "pkt-gen", s.port, p); }); }, *j.port);
    j.run.rethrow();
    if (!hgrm_ok) throw tool::run_error("--hgrm: cannot write \"" + s.hgrm + "\"");
    return tool::exit_of(outcomes);
}

constexpr tool::about self{
    .name = "pkt-gen",
    .usage = "pkt-gen -i PORT [-f tx|rx|ping|pong] [OPTIONS]",
    .purpose = "Sends, receives and measures packets on any port of nm; the letters are those of netmap's pkt-gen.\n",
    .example = "pkt-gen -i 'netmap:p{1' --peer 'netmap:p}1' -f tx -n 10M",
    .built_in = [] { return fmt::format("ports: {}; {}", tool::ports::kinds(), capture_support()); },
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main(self, option_table(), argc, argv, [](settings& s) {
        settle(s);
        return run(std::move(s));
    });
}
