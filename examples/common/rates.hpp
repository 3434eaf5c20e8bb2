// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Rates of ports and interfaces that others drive: the difference between two looks at their counters.

#include <cstdint>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/hosts.hpp"
#include "common/json.hpp"
#include "common/report.hpp"

#include "nm/clock.hpp"

namespace tool {

/// One port of a switch, or one interface. In is what came from its user, or from the wire; out is what went there.
struct port_look {
    std::string name, kind, who;
    std::string same;  ///< differs if it is another one of that name
    nm::counters in, out;
};

/// What a port did since the look before.
struct port_rate {
    port_look now;
    nm::counters in, out;  ///< since then
    double seconds = 0;    ///< 0: it was not there then

    [[nodiscard]] double per_second(double n) const noexcept { return seconds > 0 ? n / seconds : 0; }
    [[nodiscard]] double in_pps() const noexcept { return per_second(static_cast<double>(in.frames)); }
    [[nodiscard]] double out_pps() const noexcept { return per_second(static_cast<double>(out.frames)); }
    [[nodiscard]] double in_bps() const noexcept { return 8 * per_second(static_cast<double>(in.bytes)); }
    [[nodiscard]] double out_bps() const noexcept { return 8 * per_second(static_cast<double>(out.bytes)); }
    [[nodiscard]] double drops_pps() const noexcept { return per_second(static_cast<double>(in.dropped() + out.dropped())); }
    /// All drops of its, by cause: "12 full, 1 policy".
    [[nodiscard]] std::string causes() const {
        std::string text;
        for (std::size_t i = 0; i < nm::causes; ++i)
            if (const auto n = now.in.drops[i] + now.out.drops[i]; n != 0)
                text += fmt::format("{}{} {}", text.empty() ? "" : ", ", n, now.kind == "kernel" ? "kernel" : nm::cause_name(static_cast<nm::cause>(i)));
        return text;
    }
    [[nodiscard]] json to_json() const {
        json j;
        j.add("name", now.name).add("kind", now.kind).add("who", now.who);
        j.add("in_frames", now.in.frames).add("in_bytes", now.in.bytes).add("in_dropped", now.in.dropped());
        j.add("out_frames", now.out.frames).add("out_bytes", now.out.bytes).add("out_dropped", now.out.dropped());
        j.add("in_pps", in_pps()).add("in_bps", in_bps()).add("out_pps", out_pps()).add("out_bps", out_bps()).add("drops_pps", drops_pps());
        json drops;
        if (now.kind != "kernel")
            for (std::size_t i = 0; i < nm::causes; ++i) drops.add(cause_label(i), now.in.drops[i] + now.out.drops[i]);
        return j.add("drops", drops);
    }
    static constexpr const char* csv_title =
        "seconds,name,kind,who,in_frames,in_bytes,in_dropped,out_frames,out_bytes,out_dropped,in_pps,in_bps,out_pps,out_bps,drops_pps,causes\n";
    [[nodiscard]] std::string csv(double since_start) const {
        return fmt::format("{:.3f},{},{},{},{},{},{},{},{},{},{:.0f},{:.0f},{:.0f},{:.0f},{:.0f},{}\n", since_start, cell(now.name), now.kind, cell(now.who),
                           now.in.frames, now.in.bytes, now.in.dropped(), now.out.frames, now.out.bytes, now.out.dropped(), in_pps(), in_bps(), out_pps(),
                           out_bps(), drops_pps(), cell(causes()));
    }
    [[nodiscard]] std::string line() const {
        return fmt::format("{:<20} {:<11} {}pps {}bps in, {}pps {}bps out, {}drops/s{}\n", now.name, now.kind, in_units(in_pps()), in_units(in_bps()),
                           in_units(out_pps()), in_units(out_bps()), in_units(drops_pps()), causes().empty() ? "" : " (all: " + causes() + ")");
    }

private:
    /// RFC 4180
    [[nodiscard]] static std::string cell(const std::string& text) {
        if (text.find_first_of(",\"\r\n") == text.npos) return text;
        std::string out = "\"";
        for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
        return out + '"';
    }
};

[[nodiscard]] inline std::string holder_of(const fields& p) {
    if (p.value("kind") == "port" || p.value("kind") == "monitor") return "process " + p.value("pid", "?");
    return p.value("mode") + (p.value("lost") == "1" ? ", down" : "") + (p.value("polling_cpu", "-1") != "-1" ? ", polled by core " + p.value("polling_cpu") : "");
}

/// Ports only: a pipe's frames pass its host by.
inline void add_looks(std::vector<port_look>& to, const hosted& h) {
    for (const auto& p : h.ports) {
        if (p.value("kind") == "pipe") continue;
        to.push_back({p.value("name"), p.value("kind"), holder_of(p), h.about.value("pid") + "/" + p.value("number") + "/" + p.value("pid"),
                      direction_of(p, "from_port"), direction_of(p, "to_port")});
    }
}

/// What the kernel counts on each interface of this network namespace; proc_net(5).
inline void add_interfaces(std::vector<port_look>& to, std::istream& dev) {
    std::string line;
    while (std::getline(dev, line)) {
        const auto colon = line.rfind(':');  // a name may have one itself
        if (colon == line.npos) continue;
        port_look p;
        p.kind = "kernel";
        p.name = line.substr(std::min(line.find_first_not_of(' '), colon), colon - std::min(line.find_first_not_of(' '), colon));
        std::istringstream numbers(line.substr(colon + 1));
        std::uint64_t v[16] = {};
        for (auto& n : v) numbers >> n;
        if (!numbers) continue;
        p.in.bytes = v[0], p.in.frames = v[1];
        p.out.bytes = v[8], p.out.frames = v[9];
        // The kernel does not say why.
        p.in.drops[0] = v[3] + v[4];
        p.out.drops[0] = v[11];
        to.push_back(std::move(p));
    }
}
inline void add_interfaces(std::vector<port_look>& to) {
    std::ifstream dev("/proc/net/dev");
    add_interfaces(to, dev);
}

/// Remembers the last look.
class rates {
public:
    [[nodiscard]] std::vector<port_rate> since_last(std::vector<port_look> looks, std::uint64_t now_ns) {
        std::vector<port_rate> out;
        std::map<std::string, port_look> seen;
        for (auto& l : looks) {
            port_rate r{l, {}, {}, 0};
            const auto before = last_.find(l.kind + " " + l.name);
            if (before != last_.end() && before->second.same == l.same && grown(before->second.in, l.in) && grown(before->second.out, l.out)) {
                r.seconds = static_cast<double>(now_ns - then_) / 1e9;
                r.in = difference(l.in, before->second.in);
                r.out = difference(l.out, before->second.out);
            }
            seen[l.kind + " " + l.name] = std::move(l);
            out.push_back(std::move(r));
        }
        last_ = std::move(seen);
        then_ = now_ns;
        return out;
    }

private:
    [[nodiscard]] static bool grown(const nm::counters& was, const nm::counters& is) noexcept {
        bool ok = is.frames >= was.frames && is.bytes >= was.bytes;
        for (std::size_t i = 0; i < nm::causes; ++i) ok = ok && is.drops[i] >= was.drops[i];
        return ok;
    }
    [[nodiscard]] static nm::counters difference(nm::counters a, const nm::counters& b) noexcept {
        a.frames -= b.frames;
        a.bytes -= b.bytes;
        for (std::size_t i = 0; i < nm::causes; ++i) a.drops[i] -= b.drops[i];
        return a;
    }

    std::map<std::string, port_look> last_;
    std::uint64_t then_ = 0;
};

/// --csv of a program with ports of its own: a row per port at each look, with rates since the look before.
class port_rows {
public:
    /// `looks`: what the rates of the first rows are held against.
    port_rows(bool wanted, std::vector<port_look> looks) : wanted_(wanted), start_(nm::system_clock::now_ns()) {
        if (wanted) print_out(port_rate::csv_title);
        (void)rates_.since_last(std::move(looks), start_);
    }
    void print(std::vector<port_look> looks) {
        if (!wanted_) return;
        const auto now = nm::system_clock::now_ns();
        for (const auto& r : rates_.since_last(std::move(looks), now)) print_out(r.csv(static_cast<double>(now - start_) / 1e9));
    }

private:
    bool wanted_;
    std::uint64_t start_;
    rates rates_;
};

}  // namespace tool
