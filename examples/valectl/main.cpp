// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// valectl -a vale1:eth0: talks to the switches that other processes' ports are on, with the letters of netmap's vale-ctl.
#include <algorithm>
#include <span>

#include "common/hosts.hpp"
#include "common/main.hpp"
#include "common/metrics_file.hpp"
#include "common/open.hpp"
#include "common/values.hpp"
#include "list.hpp"

#include "nm/sys/control.hpp"

namespace {

using namespace valectl;
using text = std::string_view;

template <char Letter>
void act(settings& s, text name) {
    s.actions.push_back({Letter, std::string(name)});
}

constexpr tool::option<settings> options[] = {
    {'l', "list", "[valeN]", "the switches, pipes and their ports, or those of one; also what is done when nothing is said", act<'l'>},
    {'g', "get", "valeN:PORT", "all that is known of a port; of an interface alone (eth0), how it would be opened", act<'g'>},
    {'a', "attach", "valeN:eth0", "the interface becomes a port of the switch; the host's stack is cut off from it", act<'a'>},
    {'h', "attach-host", "valeN:eth0", "the same, and the host's stack on it becomes another port, valeN:eth0^", act<'h'>},
    {'d', "detach", "valeN:eth0", "the interface leaves the switch, and the host's stack has it back", act<'d'>},
    {'n', "create", "valeN:NAME", "a port that lasts, and is an interface of the system: ip link shows NAME", act<'n'>},
    {'r', "destroy", "valeN:NAME", "removes what -n made", act<'r'>},
    {'p', "poll", "valeN:eth0", "a core that does nothing else moves this interface's frames; which: -C 0,CORE", act<'p'>},
    {'P', "stop-polling", "valeN:eth0", "ends that", act<'P'>},
    {'C', "config", "N[,N...]", "with -a, -h, -n: tx slots, rx slots; with -p: 0, core", [](settings& s, text v) {
         s.numbers.clear();
         for (std::size_t at = 0; at <= v.size();) {
             const auto end = std::min(v.find(',', at), v.size());
             s.numbers.push_back(tool::parse_unsigned(v.substr(at, end - at), 0, 1'000'000));
             at = end + 1;
         }
         if (s.numbers.size() > 4) throw tool::usage_error("has more than four numbers");
     }},
    {'m', "memory", "ID", "with -a, -h, -n: in the switch's memory of that number, which its members of the same number share",
     [](settings& s, text v) { s.memory = tool::parse_unsigned(v, 1, 65535); }},
    {0, "mtu", "BYTES", "with -n: the interface's (default 1500)", [](settings& s, text v) { s.mtu = tool::parse_unsigned(v, 68, 65521); }},
    {'T', "report", "MS", "with -l: again every so many milliseconds, with rates, until SIGINT", [](settings& s, text v) { s.report_ms = tool::parse_unsigned(v, 1, 3'600'000); }},
    {0, "count", "COUNT", "with -T: so many times", [](settings& s, text v) { s.count = tool::parse_count(v, 1); }},
    {0, "csv", "", "with -l: a row per port, with rates", [](settings& s, text) { s.csv = true; }},
    {0, "metrics", "FILE", tool::metrics_help, [](settings& s, text v) { s.metrics = tool::metrics_name(v); }},
    {0, "json", "", "one JSON object on stdout; with -T one each time", [](settings& s, text) { s.json = true; }},
};

/// "vale1:eth0", apart.
[[nodiscard]] std::pair<std::string, std::string> split(const action& a) {
    const auto colon = a.name.find(':');
    const std::string where = a.name.substr(0, colon);
    if (colon == a.name.npos || !where.starts_with("vale") || colon + 1 == a.name.size())
        throw tool::usage_error(fmt::format("-{0}: \"{1}\" does not say which switch and which port; write -{0} vale0:{1}", a.letter, a.name));
    if (auto ok = nm::sys::check_rendezvous(where); !ok) throw tool::usage_error(fmt::format("-{}: {}", a.letter, ok.error().text));
    if (a.name.find(' ') != a.name.npos) throw tool::usage_error(fmt::format("-{}: \"{}\" has a space in it", a.letter, a.name));
    return {where, a.name.substr(colon + 1)};
}

int get(const settings& s, const action& a) {
    if (a.name.find(':') == a.name.npos) {
        nm::context ctx;
        auto i = nm::query<nm::netdev>(ctx, "netmap:" + a.name);
        if (!i) throw tool::run_error(i.error().text);
        if (s.json) tool::print_out(tool::to_json(*i).text() + "\n");
        else
            tool::print_out(fmt::format("{}: {}{}; {} tx rings of {} slots, {} rx rings of {} slots\n", i->name, i->mode, i->reason.empty() ? "" : " (" + i->reason + ")",
                                        i->tx_rings, i->tx_slots, i->rx_rings, i->rx_slots));
        return tool::exit_ok;
    }
    auto dir = nm::sys::runtime_dir::open();
    if (!dir) throw tool::run_error(dir.error().text);
    const auto where = a.name.substr(0, a.name.find(':'));
    auto c = tool::running_host(*dir, where);
    if (!c) throw tool::run_error("there is no " + where);
    auto one = c->ask(tool::host_command("item " + a.name));
    if (!one) throw tool::run_error(one.error().text);
    const tool::fields f(one->payload);
    if (s.json) {
        tool::print_out(tool::to_json(f).text() + "\n");
        return tool::exit_ok;
    }
    for (const auto& [n, v] : f) tool::print_out(fmt::format("{:<20} {}\n", n, v));
    return tool::exit_ok;
}

[[nodiscard]] std::string shape(const settings& s) {
    const unsigned tx = s.numbers.empty() ? 0 : s.numbers[0];
    if ((s.numbers.size() > 2 && s.numbers[2] > 1) || (s.numbers.size() > 3 && s.numbers[3] > 1))
        throw tool::usage_error("-C: a port made by -n has one ring each way, and an interface those that it has (`ethtool -L`)");
    return fmt::format("{} {} {}", tx, s.numbers.size() > 1 ? s.numbers[1] : tx, s.memory);
}

void tell(const settings& s, const action& a) {
    const auto [where, port] = split(a);
    nm::sys::reach_options o;
    o.timeout = nm::sys::milliseconds(30'000);  // a NIC may take long
    o.start = a.letter == 'a' || a.letter == 'h' || a.letter == 'n';
    std::string words;
    switch (a.letter) {
        case 'a': words = "attach " + port + " 0 " + shape(s); break;
        case 'h': words = "attach " + port + " 1 " + shape(s); break;
        case 'd': words = "detach " + port; break;
        case 'n': words = fmt::format("create {} {} {}", port, s.mtu, shape(s)); break;
        case 'r': words = "destroy " + port; break;
        case 'p': words = fmt::format("poll {} on {}", port, s.numbers.size() > 1 ? s.numbers[1] : 0); break;
        default: words = "poll " + port + " off"; break;
    }
    auto done = nm::sys::ask_host(where, tool::host_command(words), {}, o);
    if (!done) throw tool::run_error(done.error().code.value() == ENOENT && !o.start ? "there is no " + where : done.error().text);
    if (s.json) tool::print_out(tool::json().add("type", "done").add("action", std::string(1, a.letter)).add("port", a.name).text() + "\n");
}

int run(const settings& s) {
    if (s.json + s.csv + (s.metrics == "-") > 1) throw tool::usage_error("--json, --csv and --metrics - all want stdout; choose one");
    if (s.count != 0 && s.report_ms == 0) throw tool::usage_error("--count: how often? say -T MS, too");
    const bool lists = s.actions.empty() || std::any_of(s.actions.begin(), s.actions.end(), [](const action& a) { return a.letter == 'l'; });
    if (!lists && (s.csv || s.report_ms != 0 || !s.metrics.empty())) throw tool::usage_error("--csv, -T and --metrics are for -l");
    if (s.actions.empty()) return list(s, {});
    for (const auto& a : s.actions) {
        if (a.letter == 'l') (void)list(s, a.name);
        else if (a.letter == 'g') (void)get(s, a);
        else tell(s, a);
    }
    return tool::exit_ok;
}

constexpr tool::about self{
    .name = "valectl",
    .usage = "valectl [-l [valeN]]              what there is\n"
             "valectl -T 1000 [--csv]           the same every second, with rates\n"
             "valectl -a valeN:eth0 [-C 2048]   attaches an interface; -h with the host's stack, -d detaches it\n"
             "valectl -n valeN:NAME             makes a port that is an interface of the system; -r removes it",
    .purpose = "A switch comes into being with its first port, in a process of its own (nm-host), and goes with its last.\n",
    .built_in = [] { return fmt::format("interfaces: {}; -l as text, JSON, CSV, OpenMetrics", nm::all_ports::kinds()); },
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main<settings>(self, options, argc, argv, [](settings& s) { return run(s); });
}
