// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// nmctl COMMAND: what is about a machine and not about one port. A command is a row here and a file of its own.
#include <algorithm>
#include <array>

#include "common/main.hpp"
#include "common/metrics_file.hpp"
#include "common/open.hpp"
#include "common/values.hpp"
#include "settings.hpp"

namespace {

using nmctl::settings;
using text = std::string_view;

struct command {
    text name, words, summary;  ///< of one line, for the overview
    tool::about about;
    int (*run)(settings&);
};

constexpr command commands[] = {
    {"doctor", "[PORT|INTERFACE...]", "what this machine can do, and what mends what it cannot",
     {.name = "nmctl doctor",
      .usage = "nmctl doctor [--json] [PORT|INTERFACE|ADDRESS...]",
      .purpose = "What this machine and this user can do, and under each thing that is missing what mends it. Nothing is changed or opened.\n"
                 "Ports that are named are looked at alone, and are the only ones that the exit status is about.\n",
      .operand = "PORT"},
     nmctl::doctor_command},
    {"top", "", "ports of all switches, their rates and drops, as they are now",
     {.name = "nmctl top",
      .usage = "nmctl top [OPTIONS]",
      .purpose = "Ports of all switches that programs meet on, and the kernel's interfaces: rates, and drops by cause.\n"
                 "Keys: q ends it, s sorts otherwise, p stops and goes on.\n"},
     nmctl::top_command},
    {"metrics", "[--listen PORT]", "the counters of all switches as OpenMetrics text",
     {.name = "nmctl metrics",
      .usage = "nmctl metrics [-o FILE]\nnmctl metrics --listen 9431",
      .purpose = "The counters of all ports of all switches, drops by cause, as OpenMetrics text.\n"},
     nmctl::metrics_command},
    {"bind", "[--force] [DEVICE...]", "gives devices to vfio-pci, so that a program may open netmap:ADDRESS; alone: who has which",
     {.name = "nmctl bind",
      .usage = "nmctl bind                             which network devices there are, and who has them\n"
               "nmctl bind [--force] DEVICE...         gives them to vfio-pci, so that a program may open netmap:ADDRESS",
      .purpose = "A DEVICE is a PCI address (0000:03:00.0), or an interface (eth1). Its interface vanishes while vfio-pci has it, until it is\n"
                 "given back or the machine starts anew.\n",
      .operand = "DEVICE"},
     nmctl::bind_command},
    {"unbind", "DEVICE...", "gives them back to the kernel",
     {.name = "nmctl unbind", .usage = "nmctl unbind DEVICE...", .purpose = "Gives devices back to the kernel's own drivers.\n", .operand = "DEVICE"},
     nmctl::unbind_command},
};

/// An option, and which commands have it: its help begins with them.
constexpr std::array<text, 3> order_names{"rate", "name", "drops"};
constexpr tool::option<settings> options[] = {
    {0, "json", "", "doctor, top, bind, unbind: one JSON object on stdout; of top one each time", [](settings& s, text) { s.json = true; }},
    {0, "csv", "", "top: a row per port each time, on stdout", [](settings& s, text) { s.csv = true; }},
    {'T', "report", "MS", "top: milliseconds between two looks (default 1000)", [](settings& s, text v) { s.report_ms = tool::parse_unsigned(v, 10, 3'600'000); }},
    {'n', "count", "COUNT", "top: end after so many", [](settings& s, text v) { s.count = tool::parse_count(v, 1); }},
    {'1', "once", "", "top: look twice, print once as plain lines, and end", [](settings& s, text) { s.count = 1, s.plain = true; }},
    {'s', "sort", "rate|name|drops", "top: what stands above (default rate); the key s changes it",
     [](settings& s, text v) {
         const auto at = std::find(order_names.begin(), order_names.end(), v);
         if (at == order_names.end()) tool::bad_value(v, "is no order; there are rate, name, drops");
         s.by = static_cast<nmctl::order>(at - order_names.begin());
     }},
    {'i', "interface", "INTERFACE", "top: of the kernel's interfaces only this one, may be given several times; none: no interface (default: those that are in use)",
     [](settings& s, text v) {
         if (v.empty()) throw tool::usage_error("the name is empty");
         if (v == "none") s.no_interfaces = true;
         else s.interfaces.emplace_back(v);
     }},
    {0, "plain", "", "top: lines in place of a full screen, which is also what comes out when stdout is no terminal", [](settings& s, text) { s.plain = true; }},
    {'l', "listen", "PORT|ADDR:PORT", "metrics: answer GET /metrics over HTTP until SIGINT, on loopback unless an address is given; port 0: any that is free",
     [](settings& s, text v) { s.listen = nmctl::parse_listen(v); }, "NUMBER"},
    {'o', "output", "FILE", "metrics: write it into this file, whole or not at all, in place of stdout", [](settings& s, text v) { s.file = tool::metrics_name(v); }},
    {0, "time", "SECONDS", "metrics: with --listen, end after so long", [](settings& s, text v) { s.seconds = tool::parse_seconds(v); }},
    {0, "force", "", "bind: also what carries the default route, and what is not a network device", [](settings& s, text) { s.force = true; }},
    {0, "kernel", "", "bind: back to the kernel's own driver, as unbind does", [](settings& s, text) { s.kernel = true; }},
};

/// Those of one command, without its name.
[[nodiscard]] std::vector<tool::option<settings>> options_of(text command) {
    std::vector<tool::option<settings>> own;
    for (auto o : options) {
        const auto colon = o.help.find(": ");
        const text names = o.help.substr(0, colon);
        for (std::size_t at = 0; at <= names.size();) {
            const auto end = std::min(names.find(", ", at), names.size());
            if (names.substr(at, end - at) == command) {
                o.help.remove_prefix(colon + 2);
                own.push_back(o);
                break;
            }
            at = end + 2;
        }
    }
    return own;
}

[[nodiscard]] std::string overview() {
    std::string lines;
    for (const auto& c : commands) lines += fmt::format("{}{:<34}{}", lines.empty() ? "" : "\n", fmt::format("nmctl {} {}", c.name, c.words), c.summary);
    return lines;
}

}  // namespace

int main(int argc, char** argv) {
    const text first = argc > 1 ? argv[1] : "";
    for (const auto& c : commands)
        if (c.name == first) {
            const auto own = options_of(c.name);
            return tool::tool_main<settings>(c.about, own, argc - 1, argv + 1, [&c](settings& s) { return c.run(s); });
        }
    const std::string usage = overview();
    const tool::about self{
        .name = "nmctl",
        .usage = usage,
        .purpose = "What is about a machine and not about one port. nmctl COMMAND --help tells of one command.\n",
        .commands = "doctor|top|metrics|bind|unbind",
        .operand = "DEVICE",
        .built_in = [] { return fmt::format("ports: {}", tool::ports::kinds()); },
    };
    return tool::tool_main<settings>(self, options, argc, argv, [](settings& s) -> int {
        if (s.words.empty()) throw tool::usage_error("say what to do: nmctl doctor, for one, says what this machine can do");
        for (const auto& c : commands)
            if (c.name == s.words[0]) throw tool::usage_error("the command comes first, and then its options: nmctl " + s.words[0]);
        throw tool::usage_error("\"" + s.words[0] + "\" is no command of this program");
    });
}
