// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <thread>
#include <unistd.h>

#include "common/metrics_file.hpp"
#include "common/open.hpp"
#include "settings.hpp"

namespace nmreplay {

namespace {

using tool::parse_count;
using tool::parse_unsigned;
using text = std::string_view;

/// As netmap's: one, two or four CPUs, of which the first two are for this direction, the only one.
void set_cpus(settings& s, text v) {
    int cpus[4] = {-1, -1, -1, -1};
    std::size_t n = 0;
    for (text rest = v;;) {
        if (n == 4) tool::bad_value(v, "has more than four numbers");
        const std::size_t comma = rest.find(',');
        cpus[n++] = static_cast<int>(parse_unsigned(rest.substr(0, comma), 0, 4095));
        if (comma == text::npos) break;
        rest.remove_prefix(comma + 1);
    }
    if (n == 3) tool::bad_value(v, "has three numbers; there are one, two or four");
    const int have = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    s.cpu = cpus[0];
    s.other_cpu = n == 4 ? cpus[1] : (cpus[0] + 1) % have;
}

void set_file(settings& s, text v) {
    if (!s.file.empty()) throw tool::usage_error("one file at a time; \"" + s.file + "\" was given before");
    if (v.empty()) tool::bad_value(v, "is no file; - is standard input");
    s.file = v;
}

constexpr tool::option<settings> table[] = {
    {'f', "file", "FILE", "the capture to replay: pcap of either byte order, with micro- or nanoseconds, or pcapng; - is standard input",
     set_file},
    {'i', "interface", "PORT", "the port to send to, or to record from: netmap:eth0, vale1:a, netmap:p{1 ... (netmap(4)'s names)",
     [](settings& s, text v) {
         if (!s.port.empty()) throw tool::usage_error("one port at a time; \"" + s.port + "\" was given before");
         s.port = tool::checked_port(v);
     }},
    {'B', "bandwidth", "BPS|const,BPS|ether,BPS|real,SPEED",
     "send at so many bits per second, in place of the capture's times: of frames alone, or with preamble, gap and CRC (ether); real (default): as captured, or "
     "so many times as fast; 0: as fast as it goes",
     [](settings& s, text v) { s.rate = parse_bandwidth(v); }},
    {'D', "delay", "TIME|const,TIME|uniform,MIN,MAX|exp,MIN,MEAN", "send each frame so much later, in the same order; 10ms, 5us, 100ns, 0.5s",
     [](settings& s, text v) { s.delay = parse_delay(v); }},
    {'L', "loss", "RATE|plr,RATE|ber,RATE", "lose so many of the frames, or as many as have a wrong bit if so many of the bits have; 0.01, 1%, 1e-7",
     [](settings& s, text v) { s.loss = parse_loss(v); }},
    {'C', "cpu", "CPU[,CPU[,CPU,CPU]]",
     "pin the thread at the port, and the one at the file to the next CPU, or of four to the second; others are for netmap's other direction",
     set_cpus},
    {0, "realtime", "", "both threads go before all others on their CPU (SCHED_RR), as netmap's do: for machines that have other work; wants root",
     [](settings& s, text) { s.realtime = true; }},
    {'b', "burst", "COUNT", "at most so many frames at a time, 1 to 8192 (default 128)",
     [](settings& s, text v) { s.burst = parse_unsigned(v, 1, 8192); }},
    {'w', "wait-link", "SECONDS", "wait before starting (default 0: nm resets no link)",
     [](settings& s, text v) { s.wait_link = tool::parse_seconds(v); }},
    {'v', "verbose", "", "say more: what fits, and how much memory was used", [](settings& s, text) { ++s.verbose; }},
    {0, "speed", "FACTOR", "so many times as fast as captured; 0: as fast as it goes",
     [](settings& s, text v) { s.speed = tool::parse_si(v); }},
    {'R', "rate", "PPS", "so many packets per second; 0: as fast as it goes", [](settings& s, text v) { s.pps = tool::parse_si(v); }},
    {0, "loop", "COUNT", "replay the capture so often; 0: without end (default 1; netmap's never ends)",
     [](settings& s, text v) { s.loops = parse_count(v, 0); }},
    {0, "seed", "NUMBER", "which frames -L loses and how -D delays: the same with the same number (default 1)",
     [](settings& s, text v) { s.seed = parse_count(v, 0); }},
    {0, "read-ahead", "BYTES", "memory between the file and the port, 2M to 16G (default 64M)",
     [](settings& s, text v) { s.read_ahead = parse_count(v, 2'000'000, 16'000'000'000); }},
    {0, "record", "FILE", "the other way: write what arrives on the port, pcap with nanoseconds; - is standard output",
     [](settings& s, text v) {
         if (v.empty()) tool::bad_value(v, "is no file; - is standard output");
         s.record = v;
     }},
    {'W', "exit-when-quiet", "", "--record: end when nothing has come for a second", [](settings& s, text) { s.exit_when_quiet = true; }},
    {'n', "count", "COUNT", "end after so many packets; 0 (default): no end", [](settings& s, text v) { s.count = parse_count(v, 0); }},
    {0, "time", "SECONDS", "end after so long", [](settings& s, text v) { s.seconds = tool::parse_seconds(v); }},
    {0, "report", "MS", "milliseconds between reports (default 1000)", [](settings& s, text v) { s.report_ms = parse_unsigned(v, 1, 3'600'000); }},
    {0, "peer", "PORT", "open a second port and work it from this program: it takes what is replayed, or sends something to record",
     [](settings& s, text v) { s.peer = tool::checked_port(v); }},
    {0, "require-mode", "MODE", "fail unless the port opens as zero-copy, copy, af_xdp, af_packet, vfio, ptnet, pipe or null",
     [](settings& s, text v) {
         (void)tool::parse_mode(v);
         s.require_mode = v;
     },
     tool::mode_choices},
    {0, "expect-loss", "FRAMES|PERCENT%", "exit 3 if more is lost, those of -L not counted", [](settings& s, text v) { s.expect.set_loss(v); }},
    {0, "expect-pps", "[<>=]RATE", "exit 3 if the mean rate is not so", [](settings& s, text v) { s.expect.set_pps(v); }},
    {0, "expect-lateness", "TIME", "exit 3 if more than 1 % of the frames went later than so long after their time",
     [](settings& s, text v) { s.expect_lateness = tool::parse_duration(v); }},
    {0, "hgrm", "FILE", "write how late frames went, in HdrHistogram's text format, in microseconds", [](settings& s, text v) { s.hgrm = v; }},
    {0, "json", "", "one JSON object per report and one at the end, on stdout", [](settings& s, text) { s.style.json = true; }},
    {0, "csv", "", "the same as rows", [](settings& s, text) { s.style.csv = true; }},
    {0, "metrics", "FILE", tool::metrics_help, [](settings& s, text v) { s.metrics = tool::metrics_name(v); }},
};

void settle_record(settings& s) {
    if (!s.file.empty()) throw tool::usage_error("-f replays and --record records; choose one");
    const auto refuse = [](bool given, const char* what) {
        if (given) throw tool::usage_error(std::string(what) + " is for replaying (-f), not for --record");
    };
    refuse(s.rate.has_value(), "-B");
    refuse(s.delay.has_value(), "-D");
    refuse(s.loss.has_value(), "-L");
    refuse(s.speed.has_value(), "--speed");
    refuse(s.pps.has_value(), "-R");
    refuse(s.loops.has_value(), "--loop");
    refuse(s.seed.has_value(), "--seed");
    refuse(s.expect_lateness.has_value(), "--expect-lateness");
    refuse(!s.hgrm.empty(), "--hgrm");
    if (s.to_stdout() && (s.style.json || s.style.csv)) throw tool::usage_error("--record - and --json or --csv both want stdout; write to a file");
    if (s.to_stdout() && ::isatty(1) != 0)
        throw tool::usage_error("--record -: standard output is a terminal, which shows no pcap; write `| tshark -r -` behind it");
}

}  // namespace

std::span<const tool::option<settings>> option_table() { return table; }

void settle(settings& s) {
    if (s.style.json && s.style.csv) throw tool::usage_error("--json and --csv both want stdout; choose one");
    if (s.metrics == "-" && (s.style.json || s.style.csv || s.to_stdout())) throw tool::usage_error("--metrics -, --json, --csv and --record - all want stdout; choose one");
    if (s.file.empty() && !s.records()) throw tool::usage_error("nothing to do; say -f FILE to replay it, or --record FILE");
    if (s.port.empty()) throw tool::usage_error("no port given; say -i PORT, for instance -i netmap:eth0");
    if (s.records()) return settle_record(s);
    if (s.exit_when_quiet) throw tool::usage_error("-W is for --record; a replay ends with its capture");
    if (s.rate.has_value() + s.pps.has_value() + s.speed.has_value() > 1)
        throw tool::usage_error("-B, -R and --speed each say when frames go; choose one");
    if (s.from_stdin() && s.loops.value_or(1) != 1) throw tool::usage_error("--loop: standard input can be read once only; replay a file");
    const bool timed = s.pace().what != bandwidth::kind::unlimited;
    if (!timed && s.delay) throw tool::usage_error("-D: a frame that goes as soon as it can has no time to be delayed from; say -B, -R or --speed");
    if (!timed && (s.expect_lateness || !s.hgrm.empty()))
        throw tool::usage_error("frames that go as soon as they can are never late; --expect-lateness and --hgrm want -B, -R or --speed");
}

}  // namespace nmreplay
