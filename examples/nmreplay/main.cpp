// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <memory>

#include "common/cpu.hpp"
#include "common/main.hpp"
#include "common/metrics_file.hpp"
#include "common/peer.hpp"
#include "summary.hpp"

namespace {

using namespace nmreplay;

/// What the threads share. The run comes last: it ends them before anything that they use goes.
struct job {
    explicit job(settings settled, std::unique_ptr<capture> c) : s(std::move(settled)), from(std::move(c)) {}

    settings s;
    std::unique_ptr<capture> from;
    tool::metrics_file metrics{"nmreplay", s.metrics};
    nm::base::unique_fd file;
    nm::context ctx;
    std::optional<tool::any_port> port;
    std::unique_ptr<tool::peer> peer;
    tool::tally done;
    summary sum;
    tool::run run;

    [[nodiscard]] std::size_t boxes() const { return static_cast<std::size_t>(s.read_ahead.value_or(64'000'000) >> 20) + 1; }
    /// Bytes that may be kept for further passes; none for a file that is larger, since keeping its beginning costs time and helps nobody.
    [[nodiscard]] std::size_t keep() const {
        std::error_code none;
        const auto size = std::filesystem::file_size(s.file, none);
        const std::size_t most = boxes() << 20;
        return !none && size <= most ? most : 0;
    }
    [[nodiscard]] bool wanted() const { return !run.stopped(); }
    [[nodiscard]] tool::totals look() {
        tool::totals t;
        t.add(done);
        return t;
    }
    /// While other threads use the port, or when they have ended.
    void count(tool::metrics& m, bool ended) {
        std::visit([&](auto& p) {
            if (ended) tool::add_port(m, "nmreplay", s.port, p);
            else tool::add_live_port(m, "nmreplay", s.port, p);
        }, *port);
    }
    /// Until the threads are done, also when the reports have nowhere to go any more.
    void watch() {
        try {
            const auto live = [this](tool::metrics& m) { count(m, false); };
            metrics.interval(live);  // one that cannot be written is said at once
            tool::rate_report report(s.style);
            // A replay's time begins with its first frame.
            const auto limit = s.records() ? static_cast<std::uint64_t>(s.seconds * 1e9) : 0;
            run.watch(std::uint64_t{s.report_ms} * 1'000'000, limit, [&] {
                report.interval(look());
                metrics.interval(live);
            });
        } catch (...) {
            run.stop();
            run.watch(1'000'000'000, 0, [] {});
            throw;
        }
        sum.done = look();
    }
    /// Puts the calling thread where it is to run.
    void place(int cpu) const {
        if (cpu >= 0) tool::pin_to(cpu, "-C");
        if (s.realtime) tool::run_in_real_time("--realtime");
    }
};

[[nodiscard]] double seconds_of(std::uint64_t began, std::uint64_t ended) { return ended > began ? static_cast<double>(ended - began) / 1e9 : 0; }

template <class P>
void replay(job& j, P& port) {
    const settings& s = j.s;
    conveyor<crate> road(j.boxes());
    const schedule times(s.pace(), s.delay.value_or(delay{}), s.loss.value_or(loss{}), s.seed.value_or(1));
    sender<P> send(port, j.run, s, road, j.done, j.sum.sent);
    loader read(*j.from, road, times, s.loops.value_or(1), j.keep(), sender<P>::longest(port),
                [&j] { return j.wanted(); });
    j.run.start([&] {
        const conveyor<crate>::closing end(road);
        j.place(s.other_cpu);
        read();
    });
    j.run.start([&] {
        j.place(s.cpu);
        send();
    });
    j.watch();
    if (s.verbose > 0)
        tool::print_err(fmt::format("nmreplay: frames of up to {} bytes fit; {} MiB of {} were in use between the file and the port\n", sender<P>::longest(port),
                                    road.made(), j.boxes()));
    j.sum.from_file = read.what();
    j.sum.tx.add(port.tx(0));
    j.sum.seconds = seconds_of(j.sum.sent.began, j.sum.sent.ended);
}

template <class P>
void record(job& j, P& port) {
    const settings& s = j.s;
    int fd = 1;
    if (!s.to_stdout()) {
        j.file.reset(::open(s.record.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        if (!j.file) throw tool::run_error("--record: cannot write to \"" + s.record + "\": " + nm::base::errno_text(errno));
        fd = j.file.get();
    }
    conveyor<reel> road(j.boxes());
    recorder<P> take(port, j.run, s, road, j.done, j.sum.recorded);
    film_writer write(road, fd, s.to_stdout() ? "standard output" : "\"" + s.record + "\"");
    j.run.start([&] {
        j.place(s.other_cpu);
        write();
    });
    j.run.start([&] {
        const conveyor<reel>::closing end(road);
        j.place(s.cpu);
        take();
    });
    j.watch();
    if (s.verbose > 0) tool::print_err(fmt::format("nmreplay: {} MiB of {} were in use between the port and the file\n", road.made(), j.boxes()));
    j.sum.rx = port.rx_stats();
    j.sum.seconds = seconds_of(j.sum.recorded.began, j.sum.recorded.ended);
}

[[nodiscard]] int run(settings settled) {
    // Before signals are blocked: a pipe that nothing comes out of can be interrupted.
    std::unique_ptr<capture> from;
    if (!settled.records()) from = std::make_unique<capture>(settled.file);
    if (from && settled.loops.value_or(1) != 1 && !from->can_rewind())
        throw tool::usage_error("--loop: \"" + settled.file + "\" is no file on a disk and can be read once only; write what comes out of it into one");
    job j(std::move(settled), std::move(from));
    const settings& s = j.s;
    std::ofstream hgrm;
    if (!s.hgrm.empty()) {
        hgrm.open(s.hgrm);
        if (!hgrm) throw tool::run_error("--hgrm: cannot write \"" + s.hgrm + "\"");
    }
    j.port = tool::open_port(j.ctx, s.port, {}, s.require_mode);
    if (!s.peer.empty())
        j.peer = std::make_unique<tool::peer>(tool::open_port(j.ctx, s.peer, {}, {}), s.records() ? tool::peer_role::feed : tool::peer_role::drain, 60);
    if (s.wait_link > 0) j.run.pause(s.wait_link);

    std::visit([&j](auto& p) { j.s.records() ? record(j, p) : replay(j, p); }, *j.port);
    if (j.peer) {
        j.peer->stop();
        j.sum.peer_received = j.peer->received();
        j.sum.has_peer = true;
    }
    if (!s.records()) j.sum.at_switch = tool::dropped_by_switch(s.port);
    const auto outcomes = j.sum.judge(s);
    nm::port_info info = std::visit([](auto& p) { return p.info(); }, *j.port);
    info.name = s.port;
    j.sum.print(s, outcomes, info);
    j.metrics.last([&j](tool::metrics& m) { j.count(m, true); });
    j.run.rethrow();
    if (!j.sum.from_file.trouble.empty()) throw tool::run_error(j.sum.from_file.trouble);
    if (hgrm.is_open() && !(hgrm << j.sum.sent.lateness.hgrm(1000) << std::flush)) throw tool::run_error("--hgrm: cannot write \"" + s.hgrm + "\"");
    for (const auto& one : outcomes)
        if (!one.met) return tool::exit_expectation;
    return tool::exit_ok;
}

constexpr tool::about self{
    .name = "nmreplay",
    .usage = "nmreplay -f FILE -i PORT [OPTIONS]\n"
             "nmreplay --record FILE -i PORT [OPTIONS]",
    .purpose = "Sends a capture through any port of nm, at the times that it was captured at or at others, with delays and losses if\n"
               "wanted; or records one. The letters are those of netmap's nmreplay.\n",
    .example = "nmreplay --record x.pcap -i 'netmap:p{1' --peer 'netmap:p}1' -n 1000\n"
               "nmreplay -f x.pcap -i 'netmap:p{1' --peer 'netmap:p}1' -R 10k",
    .built_in = [] { return fmt::format("ports: {}; {}", tool::ports::kinds(), capture::support()); },
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main(self, option_table(), argc, argv, [](settings& s) {
        settle(s);
        return run(std::move(s));
    });
}
