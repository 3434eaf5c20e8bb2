// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "common/metrics_file.hpp"
#include "common/open.hpp"
#include "settings.hpp"

namespace bridge {

namespace {

using text = std::string_view;

constexpr tool::option<settings> table[] = {
    {'i', "interface", "PORT", "a port to join, given twice: netmap:eth0, netmap:p{1 ... (netmap(4)'s names); one interface alone is joined to the host's stack",
     [](settings& s, text v) { s.ports.push_back(tool::checked_port(v)); }},
    {'b', "burst", "COUNT", "frames per batch (default 256)",
     [](settings& s, text v) { s.burst = tool::parse_unsigned(v, 1, 16384); }},
    {'c', "copy", "", "copy frames between memories of their own instead of swapping buffers in a common one",
     [](settings& s, text) { s.copy = true; }},
    {'L', "loopback", "", "one port: send back there what comes", [](settings& s, text) { s.loopback = true; }},
    {'w', "wait-link", "SECONDS", "wait before starting (default 0: nm resets no link)",
     [](settings& s, text v) { s.wait_link = tool::parse_seconds(v); }},
    {'v', "verbose", "", "a line per direction with each report", [](settings& s, text) { ++s.verbose; }},
    {'n', "count", "COUNT", "end after so many frames; 0 (default): no end",
     [](settings& s, text v) { s.count = tool::parse_count(v, 0); }},
    {0, "time", "SECONDS", "end after so long", [](settings& s, text v) { s.seconds = tool::parse_seconds(v); }},
    {'T', "report", "MS", "milliseconds between reports (default 1000)",
     [](settings& s, text v) { s.report_ms = tool::parse_unsigned(v, 1, 3'600'000); }},
    {0, "feed", "PORT",
     "open this port too and send into it as fast as it goes: the far end of a pipe, to try a bridge alone",
     [](settings& s, text v) { s.feed = tool::checked_port(v); }},
    {0, "drain", "PORT", "open this port too and take all that comes out of it",
     [](settings& s, text v) { s.drain = tool::checked_port(v); }},
    {0, "require-mode", "MODE", "fail unless both ports open as zero-copy, copy, af_xdp, af_packet, pipe or null",
     [](settings& s, text v) {
         (void)tool::parse_mode(v);
         s.require_mode = v;
     },
     tool::mode_choices},
    {0, "watchable", "", "let other programs of this user watch the ports: nm-dump -i PORT/rt", [](settings& s, text) { s.watchable = true; }},
    {0, "expect-loss", "FRAMES|PERCENT%", "exit 3 if more is dropped",
     [](settings& s, text v) { s.expect.set_loss(v); }},
    {0, "expect-pps", "[<>=]RATE", "exit 3 if the mean rate is not so",
     [](settings& s, text v) { s.expect.set_pps(v); }},
    {0, "json", "", "one JSON object per report and one at the end, on stdout",
     [](settings& s, text) { s.style.json = true; }},
    {0, "csv", "", "the same as rows", [](settings& s, text) { s.style.csv = true; }},
    {0, "metrics", "FILE", tool::metrics_help, [](settings& s, text v) { s.metrics = tool::metrics_name(v); }},
};

}  // namespace

std::span<const tool::option<settings>> option_table() { return table; }

void settle(settings& s) {
    if (s.ports.empty()) throw tool::usage_error("no port given; say -i netmap:eth0 -i netmap:eth1");
    if (s.ports.size() > 2) throw tool::usage_error("-i was given more than twice; a bridge has two ends");
    if (s.style.json && s.style.csv) throw tool::usage_error("--json and --csv both want stdout; choose one");
    if (s.metrics == "-" && (s.style.json || s.style.csv)) throw tool::usage_error("--metrics -, --json and --csv all want stdout; choose one");
    if (s.ports.size() == 2 && s.ports[0] == s.ports[1]) s.ports.pop_back();
    if (s.ports.size() == 2 && s.loopback) s.notes.emplace_back("-L is for one port and does nothing between two");
    if (s.ports.size() == 1 && s.copy)
        s.notes.emplace_back("-c is for two ports; what a port sends back is in its own memory already");
    if (s.ports.size() == 1 && !s.loopback) {
        const auto spec = tool::spec_of(s.ports[0]);
        if (spec.kind != nm::port_kind::netdev || spec.mode != nm::ring_mode::all)
            throw tool::run_error("one port means a bridge between an interface and the host's stack, and " + s.ports[0] +
                                  " has no host rings to go with it; give a second -i, or -L to send back what comes");
        s.ports.push_back("netmap:" + spec.name + "^");
        s.with_host = true;
    }
}

}  // namespace bridge
