// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// valectl -a vale1:eth0: talks to the switches that other processes' ports are on, with the letters of netmap's vale-ctl.
#include <map>
#include <span>

#include "common/main.hpp"
#include "common/open.hpp"
#include "common/values.hpp"

#include "nm/sys/control.hpp"

namespace {

using text = std::string_view;
using fields = std::vector<std::pair<std::string, std::string>>;

struct action {
    char letter;
    std::string name;
};
struct settings {
    std::vector<action> actions;
    std::vector<unsigned> numbers;  // -C
    unsigned memory = 0, mtu = 1500;
    bool json = false;
};

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
    {0, "json", "", "one JSON object on stdout", [](settings& s, text) { s.json = true; }},
};

/// "name value" lines.
fields fields_of(const std::string& payload) {
    fields out;
    for (std::size_t at = 0; at < payload.size();) {
        const auto end = std::min(payload.find('\n', at), payload.size());
        const std::string line = payload.substr(at, end - at);
        if (const auto space = line.find(' '); space != line.npos) out.emplace_back(line.substr(0, space), line.substr(space + 1));
        at = end + 1;
    }
    return out;
}
std::string value(const fields& f, text name, const char* otherwise = "") {
    for (const auto& [n, v] : f)
        if (n == name) return v;
    return otherwise;
}
void add(tool::json& j, const fields& f) {
    for (const auto& [n, v] : f) {
        const bool digits = !v.empty() && v.size() < 20 && v.find_first_not_of("0123456789") == v.npos;
        if (n == "conserved" || n == "running" || n == "lost" || n == "made") j.add(n, v == "1");
        else if (digits && n != "name" && n != "interface" && n != "version") j.raw(n, v);
        else if (n == "polling_cpu" && v == "-1") j.raw(n, "null");
        else j.add(n, v);
    }
}

[[nodiscard]] nm::sys::control_message command(const std::string& words) {
    nm::sys::control_message m;
    m.payload = words;
    return m;
}

/// Not started for the asking; nothing if it has ended meanwhile.
[[nodiscard]] std::optional<nm::sys::control_channel> running(const nm::sys::runtime_dir& dir, const std::string& name) {
    auto c = nm::sys::control_channel::connect(dir, name);
    if (c) return std::move(*c);
    if (c.error().code.value() == ENOENT) return std::nullopt;
    throw tool::run_error(c.error().text);
}

struct host {
    fields about;
    std::vector<fields> ports;
};
[[nodiscard]] std::optional<host> look(const nm::sys::runtime_dir& dir, const std::string& name) {
    auto c = running(dir, name);
    if (!c) return std::nullopt;
    auto about = c->ask(command("host"));
    if (!about && about.error().code.value() == ECONNRESET) return std::nullopt;
    if (!about) throw tool::run_error(name + ": " + about.error().text);
    host h{fields_of(about->payload), {}};
    for (unsigned i = 0;; ++i) {
        auto one = c->ask(command("item " + std::to_string(i)));
        if (!one) break;
        h.ports.push_back(fields_of(one->payload));
    }
    return h;
}

[[nodiscard]] std::string line(const fields& f) {
    const auto kind = value(f, "kind");
    std::string who;
    if (kind == "port") who = "process " + value(f, "pid", "?");
    else if (kind == "pipe") {
        const auto side = [&f](const char* field) { return value(f, field) == "0" ? std::string("nobody") : "process " + value(f, field); };
        return fmt::format("  {:<24} {:<11} {} and {}\n", value(f, "name"), kind, side("master_pid"), side("slave_pid"));
    } else {
        who = value(f, "mode") + (value(f, "lost") == "1" ? ", down" : "") + (value(f, "polling_cpu") != "-1" ? ", polled by core " + value(f, "polling_cpu") : "");
    }
    return fmt::format("  {:<24} {:<11} {:<20} {} frames in, {} out, {} + {} dropped\n", value(f, "name"), kind, who, value(f, "from_port_frames"),
                       value(f, "to_port_frames"), value(f, "from_port_dropped"), value(f, "to_port_dropped"));
}

int list(const settings& s, std::string only) {
    if (const auto colon = only.find(':'); colon != only.npos) only.resize(colon);
    auto dir = nm::sys::runtime_dir::open();
    if (!dir) throw tool::run_error(dir.error().text);
    std::string all;
    bool found = false;
    for (const auto& name : dir->hosted()) {
        if (!only.empty() && name != only) continue;
        const auto h = look(*dir, name);
        if (!h) continue;
        found = true;
        if (s.json) {
            tool::json j;
            add(j, h->about);
            std::string ports;
            for (const auto& p : h->ports) {
                tool::json one;
                add(one, p);
                ports += (ports.empty() ? "" : ", ") + one.text();
            }
            all += (all.empty() ? "" : ", ") + j.raw("ports", "[" + ports + "]").text();
            continue;
        }
        tool::print_out(fmt::format("{}: process {}", name, value(h->about, "pid")) +
                        (value(h->about, "accepted").empty() ? "\n" : fmt::format(", {} accepted + {} copies = {} delivered + {} dropped\n", value(h->about, "accepted"),
                                                                                 value(h->about, "replicas"), value(h->about, "delivered"), value(h->about, "dropped"))));
        for (const auto& p : h->ports) tool::print_out(line(p));
    }
    if (!only.empty() && !found) throw tool::run_error("there is no " + only + " (in " + dir->path() + ")");
    if (s.json) tool::print_out(tool::json().add("type", "list").raw("switches", "[" + all + "]").text() + "\n");
    else if (!found) tool::print_err("there is no switch and no pipe of other processes (in " + dir->path() + ")\n");
    return tool::exit_ok;
}

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
    auto c = running(*dir, where);
    if (!c) throw tool::run_error("there is no " + where);
    auto one = c->ask(command("item " + a.name));
    if (!one) throw tool::run_error(one.error().text);
    const auto f = fields_of(one->payload);
    if (s.json) {
        tool::json j;
        add(j, f);
        tool::print_out(j.text() + "\n");
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
    auto done = nm::sys::ask_host(where, command(words), {}, o);
    if (!done) throw tool::run_error(done.error().code.value() == ENOENT && !o.start ? "there is no " + where : done.error().text);
    if (s.json) tool::print_out(tool::json().add("type", "done").add("action", std::string(1, a.letter)).add("port", a.name).text() + "\n");
}

int run(const settings& s) {
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
             "valectl -a valeN:eth0 [-C 2048]   attaches an interface; -h with the host's stack, -d detaches it\n"
             "valectl -n valeN:NAME             makes a port that is an interface of the system; -r removes it",
    .purpose = "A switch comes into being with its first port, in a process of its own (nm-host), and goes with its last.\n",
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main<settings>(self, options, argc, argv, [](settings& s) { return run(s); });
}
