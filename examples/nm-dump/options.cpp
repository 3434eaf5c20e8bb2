// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <unistd.h>

#include "common/metrics_file.hpp"
#include "common/open.hpp"
#include "settings.hpp"

namespace nm_dump {

namespace {

using text = std::string_view;

constexpr tool::option<settings> table[] = {
    {'i', "interface", "PORT",
     "what to look at, may be given several times: PORT/r what it receives, PORT/t what it sends, PORT/rt both, PORT-2/rt one ring "
     "of it; an interface is joined with its host meanwhile. A PORT alone is opened, and what arrives there is taken",
     [](settings& s, text v) { s.ports.push_back(tool::checked_port(v)); }},
    {'w', "write", "FILE", "write pcapng; - is standard output, to be read as it comes. Without: a line per packet",
     [](settings& s, text v) { s.file = v; }},
    {'c', "count", "COUNT", "end after so many packets; 0 (default): no end",
     [](settings& s, text v) { s.count = tool::parse_count(v, 0); }},
    {'T', "time", "SECONDS", "end after so long", [](settings& s, text v) { s.seconds = tool::parse_seconds(v); }},
    {0, "for", "SECONDS", "the same", [](settings& s, text v) { s.seconds = tool::parse_seconds(v); }},
    {'s', "snaplen", "BYTES", "keep so much of each packet; 0: all (default 262144)",
     [](settings& s, text v) {
         s.snaplen = tool::parse_unsigned(v, 0, 262144);
         if (s.snaplen == 0) s.snaplen = 262144;
     }},
    {'f', "filter", "EXPRESSION", "only what pcap-filter(7) says, for example 'udp port 53'",
     [](settings& s, text v) { s.filter = v; }},
    {0, "feed", "PORT",
     "open this port too and send into it as fast as it goes: something to look at, since a monitor sees ports of this program",
     [](settings& s, text v) { s.feed = tool::checked_port(v); }},
    {0, "drain", "PORT", "open this port too and take all that comes out of it",
     [](settings& s, text v) { s.drain = tool::checked_port(v); }},
    {0, "expect-loss", "FRAMES|PERCENT%", "exit 3 if more was lost because the dump did not keep up",
     [](settings& s, text v) { s.expect.set_loss(v); }},
    {0, "expect-pps", "[<>=]RATE", "exit 3 if the mean rate is not so", [](settings& s, text v) { s.expect.set_pps(v); }},
    {0, "report", "MS", "a line with the rate every so many milliseconds, on stderr (default: none)",
     [](settings& s, text v) { s.report_ms = tool::parse_unsigned(v, 1, 3'600'000); }},
    {0, "json", "", "one JSON object per report and one at the end, on stdout; the packets' lines go to stderr", [](settings& s, text) { s.style.json = true; }},
    {0, "csv", "", "the same as rows", [](settings& s, text) { s.style.csv = true; }},
    {0, "metrics", "FILE", tool::metrics_help, [](settings& s, text v) { s.metrics = tool::metrics_name(v); }},
};

}  // namespace

std::span<const tool::option<settings>> option_table() { return table; }

void settle(settings& s) {
    if (s.ports.empty()) throw tool::usage_error("no port given; say -i PORT/rt");
    if (s.style.json && s.style.csv) throw tool::usage_error("--json and --csv both want stdout; choose one");
    if (s.metrics == "-" && (s.style.json || s.style.csv || s.file.empty() || s.to_stdout()))
        throw tool::usage_error("--metrics - wants stdout alone; write the packets to a file (-w FILE)");
    if (s.to_stdout() && (s.style.json || s.style.csv))
        throw tool::usage_error(std::string(s.style.json ? "--json" : "--csv") + " and -w - both want stdout; write to a file");
    if (s.to_stdout() && ::isatty(1) != 0)
        throw tool::usage_error("-w -: standard output is a terminal, which shows no pcapng; write `| tshark -r -` behind it");
}

}  // namespace nm_dump
