// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "list.hpp"

#include <map>
#include <optional>
#include <unistd.h>

#include "common/metrics_file.hpp"
#include "common/rates.hpp"
#include "common/run.hpp"

namespace valectl {
namespace {

using tool::fields;
using tool::hosted;
using by_name = std::map<std::string, tool::port_rate>;

[[nodiscard]] std::string line(const fields& f) {
    const auto kind = f.value("kind");
    if (kind == "pipe") {
        const auto side = [&f](const char* field) { return f.value(field) == "0" ? std::string("nobody") : "process " + f.value(field); };
        return fmt::format("  {:<24} {:<11} {} and {}\n", f.value("name"), kind, side("master_pid"), side("slave_pid"));
    }
    return fmt::format("  {:<24} {:<11} {:<20} {} frames in, {} out, {} + {} dropped\n", f.value("name"), kind, tool::holder_of(f), f.value("from_port_frames"),
                       f.value("to_port_frames"), f.value("from_port_dropped"), f.value("to_port_dropped"));
}

[[nodiscard]] std::string text_of(const std::vector<hosted>& hosts, const std::optional<by_name>& rates) {
    std::string text;
    for (const auto& h : hosts) {
        text += fmt::format("{}: process {}", h.name, h.about.value("pid"));
        if (h.is_switch())
            text += fmt::format(", {} accepted + {} copies = {} delivered + {} dropped", h.about.value("accepted"), h.about.value("replicas"),
                                h.about.value("delivered"), h.about.value("dropped"));
        text += "\n";
        for (const auto& p : h.ports) {
            const auto r = rates ? rates->find(p.value("name")) : by_name::const_iterator{};
            text += rates && r != rates->end() && r->second.seconds > 0 ? "  " + r->second.line() : line(p);
        }
    }
    return text;
}

[[nodiscard]] std::string json_of(const std::vector<hosted>& hosts, const std::optional<by_name>& rates) {
    std::string all;
    for (const auto& h : hosts) {
        std::string ports;
        for (const auto& p : h.ports) {
            auto one = tool::to_json(p);
            if (rates && rates->contains(p.value("name")) && rates->at(p.value("name")).seconds > 0) {
                const auto& r = rates->at(p.value("name"));
                one.add("in_pps", r.in_pps()).add("in_bps", r.in_bps()).add("out_pps", r.out_pps()).add("out_bps", r.out_bps()).add("drops_pps", r.drops_pps());
            }
            ports += (ports.empty() ? "" : ", ") + one.text();
        }
        all += (all.empty() ? "" : ", ") + tool::to_json(h.about).raw("ports", "[" + ports + "]").text();
    }
    return tool::json().add("type", "list").raw("switches", "[" + all + "]").text() + "\n";
}

[[nodiscard]] std::vector<hosted> look(const nm::sys::runtime_dir& dir, const std::string& only) {
    std::vector<hosted> hosts;
    for (const auto& name : dir.hosted()) {
        if (!only.empty() && name != only) continue;
        if (auto h = tool::look_at_host(dir, name)) hosts.push_back(std::move(*h));
    }
    return hosts;
}

}  // namespace

int list(const settings& s, std::string only) {
    if (const auto colon = only.find(':'); colon != only.npos) only.resize(colon);
    std::optional<tool::run> run;  // SIGINT ends it
    if (s.report_ms != 0) run.emplace();
    auto dir = nm::sys::runtime_dir::open();
    if (!dir) throw tool::run_error(dir.error().text);
    tool::metrics_file file("valectl", s.metrics);
    tool::rates rates;
    std::vector<hosted> hosts;
    const std::uint64_t start = nm::system_clock::now_ns();
    if (s.csv) tool::print_out(tool::port_rate::csv_title);
    for (std::uint64_t n = 1;; ++n) {
        hosts = look(*dir, only);
        if (!only.empty() && hosts.empty()) throw tool::run_error("there is no " + only + " (in " + dir->path() + ")");
        const std::uint64_t now = nm::system_clock::now_ns();
        std::vector<tool::port_look> looks;
        for (const auto& h : hosts) tool::add_looks(looks, h);
        std::optional<by_name> timed;
        if (s.report_ms != 0) timed.emplace();
        for (auto& r : rates.since_last(std::move(looks), now)) {
            if (s.csv) tool::print_out(r.csv(static_cast<double>(now - start) / 1e9));
            if (timed) timed->insert_or_assign(r.now.name, std::move(r));
        }
        if (s.json) tool::print_out(json_of(hosts, timed));
        else if (hosts.empty())
            tool::print_err(fmt::format("there is no switch and no pipe of other processes (in {}{})\n", dir->path(),
                                        ::geteuid() == 0 ? "" : fmt::format("; only those of user {} are seen, and sudo valectl shows root's", ::geteuid())));
        else if (!s.csv && s.metrics != "-") tool::print_out(text_of(hosts, timed));
        if (s.report_ms == 0 || n == s.count) break;
        file.interval([&](tool::metrics& m) { for (const auto& h : hosts) tool::add_host(m, h); });
        run->pause(s.report_ms / 1000.0);
        if (run->stopped()) break;
    }
    file.last([&](tool::metrics& m) { for (const auto& h : hosts) tool::add_host(m, h); });
    return tool::exit_ok;
}

}  // namespace valectl
