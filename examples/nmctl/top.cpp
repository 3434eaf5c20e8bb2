// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// nmctl top: who moves how much, and what is dropped why, now.
#include <net/if.h>

#include <algorithm>
#include <array>
#include <limits>

#include "common/rates.hpp"
#include "common/run.hpp"
#include "common/values.hpp"
#include "screen.hpp"
#include "settings.hpp"

namespace nmctl {
namespace {

constexpr std::array<std::string_view, 3> order_names{"rate", "name", "drops"};
using rows = std::vector<tool::port_rate>;

void sort(rows& all, order by) {
    const auto key = [by](const tool::port_rate& r) {
        return by == order::rate ? r.in_pps() + r.out_pps() : by == order::drops ? r.drops_pps() : 0.0;
    };
    std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) {
        const double x = key(a), y = key(b);
        return x != y ? x > y : a.now.name < b.now.name;
    });
}

struct view {
    rows ports, interfaces;
    std::size_t switches = 0;
    std::string trouble;  ///< a host that does not answer
    double seconds = 0;   ///< since the first look

    [[nodiscard]] std::string to_json() const {
        const auto list = [](const rows& all) {
            std::string out;
            for (const auto& r : all) out += (out.empty() ? "" : ", ") + r.to_json().text();
            return "[" + out + "]";
        };
        return tool::json().add("type", "interval").add("seconds", seconds).raw("ports", list(ports)).raw("interfaces", list(interfaces)).text() + "\n";
    }
    [[nodiscard]] std::string csv() const {
        std::string out;
        for (const auto* all : {&ports, &interfaces})
            for (const auto& r : *all) out += r.csv(seconds);
        return out;
    }
    [[nodiscard]] std::string plain() const {
        std::string out;
        for (const auto* all : {&ports, &interfaces})
            for (const auto& r : *all) out += printable(r.line().substr(0, r.line().size() - 1)) + "\n";
        return out.empty() ? "nothing: no switch of other programs, and no interface\n" : out;
    }
};

class observer {
public:
    explicit observer(const settings& s) : s_(s), start_(nm::system_clock::now_ns()) {
        auto dir = nm::sys::runtime_dir::open();
        if (dir) dir_.emplace(std::move(*dir));
        if (!dir) not_seen_ = "no switch and no pipe can be seen: " + dir.error().text;
        else if (::geteuid() != 0)
            not_seen_ = fmt::format("only switches of user {} are seen, in {}; sudo nmctl top shows root's", ::geteuid(), dir_->path());
        for (const auto& name : s.interfaces)
            if (::if_nametoindex(name.c_str()) == 0) throw tool::run_error("there is no interface " + name + "; ip -br link lists them");
        (void)look(order::rate);
    }

    /// What this user does not get to see, and what to do about it; or nothing.
    [[nodiscard]] const std::string& not_seen() const noexcept { return not_seen_; }

    [[nodiscard]] view look(order by) {
        view v;
        std::vector<tool::port_look> ports, interfaces;
        if (dir_)
            for (const auto& h : tool::look_at_hosts(*dir_, [&v](const std::string& why) { v.trouble = why; })) {
                v.switches += h.is_switch() ? 1U : 0U;
                tool::add_looks(ports, h);
            }
        if (!s_.no_interfaces || !s_.interfaces.empty()) tool::add_interfaces(interfaces);
        std::erase_if(interfaces, [this](const tool::port_look& p) { return !wanted(p); });
        const auto now = nm::system_clock::now_ns();
        v.seconds = static_cast<double>(now - start_) / 1e9;
        v.ports = port_rates_.since_last(std::move(ports), now);
        v.interfaces = interface_rates_.since_last(std::move(interfaces), now);
        sort(v.ports, by);
        sort(v.interfaces, by);
        return v;
    }

private:
    [[nodiscard]] bool wanted(const tool::port_look& p) const {
        if (!s_.interfaces.empty()) return std::find(s_.interfaces.begin(), s_.interfaces.end(), p.name) != s_.interfaces.end();
        return p.in.frames + p.out.frames + p.in.dropped() + p.out.dropped() != 0;
    }

    const settings& s_;
    std::uint64_t start_;
    std::optional<nm::sys::runtime_dir> dir_;
    std::string not_seen_;
    tool::rates port_rates_, interface_rates_;
};

// ---- lines

int print_lines(const settings& s) {
    tool::run run;
    observer o(s);
    if (!o.not_seen().empty()) tool::print_err("nmctl: " + o.not_seen() + "\n");
    if (s.csv) tool::print_out(tool::port_rate::csv_title);
    for (std::uint64_t n = 0; s.count == 0 || n < s.count; ++n) {
        run.pause(s.report_ms / 1000.0);
        if (run.stopped()) break;
        const auto v = o.look(s.by);
        if (!v.trouble.empty()) tool::print_err("nmctl: " + v.trouble + "\n");
        tool::print_out(s.json ? v.to_json() : s.csv ? v.csv() : v.plain());
    }
    return tool::exit_ok;
}

// ---- a screen

[[nodiscard]] std::string row(const std::string& name, const std::string& kind, const std::array<std::string, 5>& numbers, const std::string& causes) {
    return fmt::format("{:<22.22} {:<10.10} {:>10} {:>10} {:>10} {:>10} {:>9}  {}", name, kind, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], causes);
}
[[nodiscard]] std::string row(const tool::port_rate& r) {
    // "1.235 M" and not "1.235 Mpps": the column says it.
    const auto n = [&r](double v) { return r.seconds > 0 ? tool::in_units(v) : std::string("- "); };
    return row(r.now.name, r.now.kind == "kernel" ? "kernel" : r.now.kind == "port" ? r.now.who.substr(r.now.who.find(' ') + 1) : r.now.who,
               {n(r.in_pps()), n(r.in_bps()), n(r.out_pps()), n(r.out_bps()), n(r.drops_pps())}, r.causes());
}

[[nodiscard]] std::vector<screen::line> lines_of(const view& v, const std::string& not_seen, order by, bool paused, unsigned report_ms) {
    std::vector<screen::line> out;
    out.push_back({fmt::format("nmctl top: {} switch{}, {} port{}, every {} ms, by {}{}", v.switches, v.switches == 1 ? "" : "es", v.ports.size(),
                               v.ports.size() == 1 ? "" : "s", report_ms, order_names[static_cast<std::size_t>(by)], paused ? ", PAUSED" : ""),
                   true});
    out.push_back({v.trouble.empty() ? "q quit  s sort  p pause" : v.trouble});
    if (!not_seen.empty()) out.push_back({not_seen});
    const auto table = [&out](const rows& all, const char* name, const char* who, const char* causes) {
        out.push_back({""});
        out.push_back({row(name, who, {"in pps", "in bps", "out pps", "out bps", "drops/s"}, causes), true});
        for (const auto& r : all) out.push_back({row(r)});
    };
    table(v.ports, "PORT", "PROCESS", "all drops by cause");
    if (v.ports.empty()) out.push_back({"no program has a port of a switch open; for example: pkt-gen -i vale0:a -f rx"});
    if (!v.interfaces.empty()) table(v.interfaces, "INTERFACE", "", "all drops");
    return out;
}

int fill_screen(const settings& s) {
    observer o(s);
    screen terminal;
    order by = s.by;
    bool paused = false;
    view v = o.look(by);
    const std::uint64_t period = std::uint64_t{s.report_ms} * 1'000'000;
    std::uint64_t looks = 0, next = nm::system_clock::now_ns() + period;
    for (;;) {
        terminal.show(lines_of(v, o.not_seen(), by, paused, s.report_ms));
        const auto now = nm::system_clock::now_ns();
        const auto e = terminal.wait(now < next ? static_cast<int>((next - now) / 1'000'000 + 1) : 0);
        if (e.end || e.key == 'q' || e.key == 'Q') return tool::exit_ok;
        if (e.key == 'p') paused = !paused;
        if (e.key == 's') {
            by = static_cast<order>((static_cast<std::size_t>(by) + 1) % order_names.size());
            sort(v.ports, by);
            sort(v.interfaces, by);
        }
        if (nm::system_clock::now_ns() < next) continue;
        next = nm::system_clock::now_ns() + period;
        if (paused) continue;
        v = o.look(by);
        if (++looks == s.count) return tool::exit_ok;
    }
}

}  // namespace

int top_command(settings& s) {
    if (!s.words.empty()) throw tool::usage_error("\"" + s.words[0] + "\" stands alone; interfaces are chosen by -i");
    if (s.json && s.csv) throw tool::usage_error("--json and --csv both want stdout; choose one");
    if (s.no_interfaces && !s.interfaces.empty()) throw tool::usage_error("-i none, and another one: which is meant?");
    return s.json || s.csv || s.plain || !is_screen() ? print_lines(s) : fill_screen(s);
}

}  // namespace nmctl
