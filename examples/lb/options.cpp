// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <map>

#include "common/metrics_file.hpp"
#include "common/open.hpp"
#include "settings.hpp"

namespace lb {

namespace {

using text = std::string_view;

// PREFIX:NUMBER, PREFIX:, NUMBER or nothing. A prefix may have colons of its own: a switch's port, a PCI address.
[[nodiscard]] pipe_group parse_group(text v) {
    pipe_group g;
    const auto colon = v.rfind(':');
    const text number = colon == text::npos ? v : v.substr(colon + 1);
    if (!number.empty()) g.count = tool::parse_unsigned(number, 1, most_pipes_of_a_host);
    if (colon == text::npos) return g;
    text prefix = v.substr(0, colon);
    if (prefix.starts_with("netmap:")) prefix.remove_prefix(7);
    if (prefix.empty()) tool::bad_value(v, "has nothing before its colon; say NAME:NUMBER, or only NUMBER");
    g.prefix = prefix;
    (void)tool::spec_of(pipe_name(g.prefix, 0));
    return g;
}

constexpr tool::option<settings> table[] = {
    {'i', "interface", "PORT", "the port to read, of any kind: netmap:eth0, vale1:a, netmap:p{1 ... (netmap(4)'s names)",
     [](settings& s, text v) {
         if (!s.input.empty()) throw tool::usage_error("was given twice; there is one input");
         s.input = tool::checked_port(v);
     }},
    {'p', "pipes", "[PREFIX:]COUNT", "a group of pipes among which all frames are spread; consumers open netmap:PREFIX}0 and so on. Any number "
     "of groups, and each gets all frames. PREFIX is the input's name unless given; groups of one prefix are numbered on. Default: 2",
     [](settings& s, text v) { s.groups.push_back(parse_group(v)); }},
    {'b', "burst", "COUNT", "frames per round and ring (default 512)",
     [](settings& s, text v) { s.burst = tool::parse_unsigned(v, 1, 16384); }},
    {'B', "extra-buffers", "COUNT", "buffers in which frames wait for consumers whose pipe is full, shared by all pipes; when none is left "
     "the longest queue loses its oldest frames (default 0: a full pipe drops)",
     [](settings& s, text v) { s.extra_bufs = static_cast<std::uint32_t>(tool::parse_count(v, 0, 2'000'000)); }},
    {'s', "syslog", "SECONDS", "statistics to syslog so often (default 0: never)",
     [](settings& s, text v) { s.syslog_s = tool::parse_unsigned(v, 0, 86'400); }},
    {'o', "stats", "SECONDS", "the same to stdout, a JSON object per pipe and one for all, with netmap's field names (default 0: never)",
     [](settings& s, text v) { s.stdout_s = tool::parse_unsigned(v, 0, 86'400); }},
    {'w', "wait-link", "SECONDS", "wait before starting (default 0: nm resets no link)",
     [](settings& s, text v) { s.wait_link = tool::parse_seconds(v); }},
    {'W', "busy-wait", "", "never sleep: one CPU all the time, and no wake-up to wait for", [](settings& s, text) { s.busy_wait = true; }},
    {0, "copy", "", "pipes in memory of their own: a copy per frame, and no consumer can reach what is another's",
     [](settings& s, text) { s.copy = true; }},
    {0, "slots", "COUNT", "slots of a pipe (default 1024)", [](settings& s, text v) { s.slots = tool::parse_unsigned(v, 128, 16384); }},
    {0, "hash-key", "NUMBER", "spread as others with this key do; without it nobody can foretell where a flow goes",
     [](settings& s, text v) { s.hash_key = tool::parse_count(v, 0); }},
    {'n', "count", "COUNT", "end after so many frames; 0 (default): no end", [](settings& s, text v) { s.count = tool::parse_count(v, 0); }},
    {0, "time", "SECONDS", "end after so long", [](settings& s, text v) { s.seconds = tool::parse_seconds(v); }},
    {'T', "report", "MS", "milliseconds between reports (default 1000)",
     [](settings& s, text v) { s.report_ms = tool::parse_unsigned(v, 1, 3'600'000); }},
    {0, "feed", "PORT", "open this port too and send into it as fast as it goes: the far end of a pipe, to try lb alone",
     [](settings& s, text v) { s.feed = tool::checked_port(v); }},
    {0, "drain", "PORT", "open this port too and take all that comes out of it; may be repeated",
     [](settings& s, text v) { s.drains.push_back(tool::checked_port(v)); }},
    {0, "require-mode", "MODE", "fail unless the input opens as zero-copy, copy, af_xdp, af_packet, vfio, ptnet, pipe or null",
     [](settings& s, text v) {
         (void)tool::parse_mode(v);
         s.require_mode = v;
     },
     tool::mode_choices},
    {0, "expect-loss", "FRAMES|PERCENT%", "exit 3 if more is dropped, or still waits in the end",
     [](settings& s, text v) { s.expect.set_loss(v); }},
    {0, "expect-pps", "[<>=]RATE", "exit 3 if the mean rate is not so", [](settings& s, text v) { s.expect.set_pps(v); }},
    {0, "json", "", "one JSON object per report and one at the end, on stdout", [](settings& s, text) { s.style.json = true; }},
    {0, "csv", "", "the same as rows", [](settings& s, text) { s.style.csv = true; }},
    {0, "metrics", "FILE", tool::metrics_help, [](settings& s, text v) { s.metrics = tool::metrics_name(v); }},
};

// The input's own name, as consumers of its pipes would say it.
[[nodiscard]] std::string prefix_of(const settings& s) {
    const auto spec = tool::spec_of(s.input);
    if (spec.name.empty()) throw tool::usage_error(s.input + " has no name for pipes to go by; say -p NAME:NUMBER");
    (void)tool::spec_of(pipe_name(spec.name, 0));
    return spec.name;
}

}  // namespace

std::string pipe_name(const std::string& prefix, unsigned number) {
    return (prefix.starts_with("vale") && prefix.find(':') != std::string::npos ? "" : "netmap:") + prefix + "{" + std::to_string(number);
}

std::span<const tool::option<settings>> option_table() { return table; }

void settle(settings& s) {
    if (s.input.empty()) throw tool::usage_error("no input given; say -i netmap:eth0");
    if (int{s.style.json} + int{s.style.csv} + int{s.stdout_s != 0} + int{s.metrics == "-"} > 1)
        throw tool::usage_error("-o, --json, --csv and --metrics - all want stdout; choose one");
    if (s.groups.empty()) s.groups.emplace_back();
    std::map<std::string, unsigned> numbered, hosted;
    const auto in = tool::spec_of(s.input);
    for (auto& g : s.groups) {
        if (g.prefix.empty()) g.prefix = prefix_of(s);
        g.first = std::exchange(numbered[g.prefix], numbered[g.prefix] + g.count);
        unsigned& n = hosted[nm::shared_pipe::rendezvous(tool::spec_of(pipe_name(g.prefix, 0)))];
        n += g.count;
        if (n > most_pipes_of_a_host)
            throw tool::usage_error(fmt::format("-p: {} pipes of \"{}\": there can be {} of one name; give a group another", n, g.prefix, most_pipes_of_a_host));
        if (in.kind != nm::port_kind::pipe || in.name != g.prefix) continue;
        for (unsigned i = g.first; i < g.first + g.count; ++i)
            if (in.pipe_id == std::to_string(i)) throw tool::usage_error(s.input + " is an end of the pipe that -p would make; say -p NAME:NUMBER with another name");
    }
    if (s.pipes() > most_pipes) throw tool::usage_error(fmt::format("-p: {} pipes; there can be {}", s.pipes(), most_pipes));
}

}  // namespace lb
