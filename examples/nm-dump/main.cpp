// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <cerrno>
#include <fcntl.h>
#include <map>
#include <memory>

#include "common/main.hpp"
#include "common/metrics_file.hpp"
#include "common/peer.hpp"
#include "dump.hpp"
#include "passage.hpp"

#include "nm/version.hpp"

namespace {

using namespace nm_dump;

/// The run comes last: it ends the thread before anything that it uses goes.
struct job {
    explicit job(settings settled) : s(std::move(settled)) {}

    settings s;
    nm::context ctx;
    std::map<std::string, passage> passages;  ///< of interfaces that are watched, by name
    std::unique_ptr<tool::peer> feeder, drain;
    std::vector<source> sources;
    nm::base::unique_fd file;
    std::optional<pcapng_writer> out;
    std::optional<dump> taking;
    tool::run run;
};

/// A port that another program has, and lets others watch. Else a monitor sees a port of this program, which alone has none but
/// those of --feed and --drain; but an interface can be taken, and its host kept connected meanwhile.
[[nodiscard]] nm::result<any_port> open_elsewhere(job& j, const std::string& name, const nm::port_spec& spec, const nm::error& not_here) {
    if (!spec.zero_copy_monitor) {
        auto theirs = nm::try_open<nm::process_port>(j.ctx, name);
        if (theirs) return any_port(std::move(*theirs));
        if (theirs.error().code.value() != ENOENT) return nm::forward_error(theirs);
        if (spec.kind != nm::port_kind::netdev)
            throw tool::run_error(name + ": " + not_here.text + " (with --feed or --drain); nor does another program let it be watched (--watchable)");
    }
    if (spec.kind != nm::port_kind::netdev) throw tool::run_error(name + ": a monitor in the memory of a port is for the program that has it; leave out the z");
    if (!j.passages.contains(spec.name)) {
        const auto& p = j.passages.try_emplace(spec.name, j.ctx, spec.name).first->second;
        tool::print_err(fmt::format("netmap:{}: {}{}; joined with the host's stack\n", spec.name, p.info().mode,
                                    p.info().reason.empty() ? "" : " (" + p.info().reason + ")"));
    }
    return nm::try_open<nm::process_ports>(j.ctx, name);
}

void open_source(job& j, const std::string& name) {
    const nm::port_spec spec = tool::spec_of(name);
    auto port = nm::try_open<nm::process_ports>(j.ctx, name);
    if (!port && spec.monitor() && port.error().code.value() == ENOENT) port = open_elsewhere(j, name, spec, port.error());
    if (!port) throw tool::run_error(port.error().text);
    const nm::port_info& i = std::visit([](auto& p) -> const nm::port_info& { return p.info(); }, *port);
    tool::print_err(fmt::format("{}: {}{}; {} rx rings of {} slots\n", name, i.mode, i.reason.empty() ? "" : " (" + i.reason + ")",
                                i.rx_rings, i.rx_slots));
    if (!i.advice.empty()) tool::print_err(fmt::format("{}: for a faster mode, or a safer one: {}\n", name, i.advice));
    j.sources.push_back({name, std::move(*port), spec.monitor()});
}

void open_file(job& j) {
    const settings& s = j.s;
    if (s.file.empty()) return;
    int fd = 1;
    if (!s.to_stdout()) {
        j.file.reset(::open(s.file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        if (!j.file) throw tool::run_error("-w: cannot write to \"" + s.file + "\": " + nm::base::errno_text(errno));
        fd = j.file.get();
    }
    j.out.emplace(fd, s.to_stdout() ? "standard output" : "\"" + s.file + "\"");
    j.out->section("nm-dump (nm " NM_VERSION_STRING ")");
    for (auto& from : j.sources) {
        const nm::port_info& i = std::visit([](auto& p) -> const nm::port_info& { return p.info(); }, from.port);
        from.interface = j.out->interface(from.name, i.mode + (i.reason.empty() ? "" : ": " + i.reason), s.snaplen);
    }
    j.out->flush();  // a reader of a pipe begins at once
}

[[nodiscard]] std::uint64_t dropped(source& from) {
    return std::visit([](auto& p) { return p.rx_stats().dropped(); }, from.port);
}

[[nodiscard]] std::string summary_text(job& j, double seconds, const std::vector<tool::outcome>& outcomes) {
    std::string out;
    for (auto& from : j.sources) {
        const nm::counters c = std::visit([](auto& p) { return p.rx_stats(); }, from.port);
        out += fmt::format("{}: {} packets, {} bytes in {:.2f} seconds; {} dropped{}{}\n", from.name, from.packets, from.bytes, seconds,
                           c.dropped(), c.dropped() != 0 ? " (" + tool::drops_text(c) + ")" : "",
                           from.filtered != 0 ? fmt::format("; {} not wanted by the filter", from.filtered) : "");
    }
    return out + tool::to_text(outcomes);
}

[[nodiscard]] std::string summary_json(job& j, double seconds, std::uint64_t packets, const std::vector<tool::outcome>& outcomes) {
    std::string list;
    for (auto& from : j.sources) {
        const nm::counters c = std::visit([](auto& p) { return p.rx_stats(); }, from.port);
        const nm::port_info& i = std::visit([](auto& p) -> const nm::port_info& { return p.info(); }, from.port);
        list += (list.empty() ? "" : ", ") + tool::json()
                                                 .add("name", from.name)
                                                 .add("mode", i.mode)
                                                 .add("packets", from.packets)
                                                 .add("bytes", from.bytes)
                                                 .add("filtered", from.filtered)
                                                 .add("dropped", c.dropped())
                                                 .add("drops", tool::drops_json(c))
                                                 .text();
    }
    return tool::json()
        .add("type", "summary")
        .add("seconds", seconds)
        .add("packets", packets)
        .raw("ports", "[" + list + "]")
        .raw("expectations", tool::to_json(outcomes))
        .text();
}

/// What the file ends with, before anything is shown: stdout may have gone. Not in a file that could not be written. What was wrong, or nothing.
[[nodiscard]] std::string end_file(job& j, std::uint64_t began, std::uint64_t ended) {
    if (!j.out || !j.run.failure().empty()) return {};
    for (auto& from : j.sources)
        j.out->interface_statistics(from.interface, {began, ended, from.packets + from.filtered + dropped(from), dropped(from)});
    try {
        j.out->flush();
    } catch (const tool::run_error& e) {
        return e.what();
    }
    return {};
}

[[nodiscard]] tool::totals look(dump& d) {
    tool::totals t;
    t.add(d.done);
    return t;
}

/// While the other thread takes frames, or when it has ended.
void count(job& j, tool::metrics& m, bool ended) {
    for (auto& from : j.sources)
        std::visit([&](auto& p) {
            const auto who = tool::labels_of("nm-dump", from.name);
            tool::add_mode(m, who, p.info().mode);
            tool::add_direction(m, who, "rx", ended ? p.rx_stats() : tool::live_rx(p));
        }, from.port);
}

[[nodiscard]] int run(settings settled) {
    job j(std::move(settled));
    const settings& s = j.s;
    (void)filter(s.filter);  // a usage error, before anything is opened
    std::optional<tool::any_port> feed, drain;
    if (!s.feed.empty()) feed = tool::open_port(j.ctx, s.feed, {}, {});
    if (!s.drain.empty()) drain = tool::open_port(j.ctx, s.drain, {}, {});
    for (const auto& name : s.ports) open_source(j, name);
    open_file(j);
    // Nothing moves before somebody looks.
    if (drain) j.drain = std::make_unique<tool::peer>(std::move(*drain), tool::peer_role::drain, 60);
    if (feed) j.feeder = std::make_unique<tool::peer>(std::move(*feed), tool::peer_role::feed, 60);

    for (auto& [name, p] : j.passages) j.run.start([&j, &p = p] { p.work(j.run); });

    tool::metrics_file metrics("nm-dump", s.metrics);
    const auto live = [&j](tool::metrics& m) { count(j, m, false); };
    metrics.interval(live);  // one that cannot be written is said at once
    const std::uint64_t began = tool::wall_ns();
    dump& d = j.taking.emplace(j.run, s, j.sources, j.out);
    j.run.start([&j, &d] {
        d.work();
        j.run.stop();
    });
    tool::rate_report report(s.style);
    j.run.watch(s.report_ms != 0 ? s.report_ms * std::uint64_t{1'000'000} : 1'000'000'000, static_cast<std::uint64_t>(s.seconds * 1e9), [&] {
        if (s.report_ms != 0) report.interval(look(d));
        metrics.interval(live);
    });
    const std::uint64_t ended = tool::wall_ns();
    if (j.feeder) j.feeder->stop();
    if (j.drain) j.drain->stop();
    const std::string file_trouble = end_file(j, began, ended);

    const double seconds = static_cast<double>(ended - began) / 1e9;
    std::uint64_t lost = 0;
    for (auto& from : j.sources) lost += dropped(from);
    const auto outcomes = tool::judge(s.expect, d.packets() + lost, lost, seconds > 0 ? static_cast<double>(d.packets()) / seconds : 0);
    const std::string text = summary_text(j, seconds, outcomes);
    if (s.style.json || s.style.csv || s.to_stdout() || metrics.on_stdout()) tool::print_err(text);
    else tool::print_out(text);
    if (s.style.json) tool::print_out(summary_json(j, seconds, d.packets(), outcomes) + "\n");
    if (s.style.csv) tool::csv_sum("summary", seconds, look(d));
    metrics.last([&j](tool::metrics& m) { count(j, m, true); });
    j.run.rethrow();
    if (!file_trouble.empty()) throw tool::run_error(file_trouble);
    return tool::exit_of(outcomes);
}

constexpr tool::about self{
    .name = "nm-dump",
    .usage = "nm-dump -i PORT/rt [-w FILE|-] [OPTIONS]",
    .purpose = "Shows or writes down what passes on a port of nm. A monitor (PORT/r, /t, /rt) is not in the port's way.\n",
    .example = "nm-dump -i 'netmap:p{1/t' --feed 'netmap:p{1' --drain 'netmap:p}1' -c 1000 -w - | tshark -r -",
    .built_in = [] { return fmt::format("ports: {}; {}", nm::process_ports::kinds(), filter::support()); },
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main(self, option_table(), argc, argv, [](settings& s) {
        settle(s);
        return run(std::move(s));
    });
}
