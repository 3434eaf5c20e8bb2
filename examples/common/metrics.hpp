// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What is counted, as OpenMetrics text (https://openmetrics.io, version 1.0.0). node_exporter's textfile collector reads the
// same text, so there is nothing in it that only one of the two knows.

#include <cstdint>
#include <fmt/format.h>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/utf8.hpp"

#include "nm/nm.hpp"
#include "nm/version.hpp"

namespace tool {

class metrics {
public:
    using labels = std::vector<std::pair<std::string_view, std::string>>;

    /// Goes up only. `name` is without the _total that is written behind it. What is said of the same labels twice is added.
    void counter(std::string_view name, std::string_view help, const labels& l, std::uint64_t v) {
        family_of(name, help, true).samples[text_of(l)] += v;
    }
    /// A number of things that are, or 1 for what is so.
    void gauge(std::string_view name, std::string_view help, const labels& l, std::uint64_t v) {
        family_of(name, help, false).samples[text_of(l)] = v;
    }

    [[nodiscard]] std::string text() const {
        std::string out;
        for (const auto& f : families_) {
            out += fmt::format("# TYPE {} {}\n", f.name, f.counts ? "counter" : "gauge");
            if (f.name.ends_with("_bytes")) out += fmt::format("# UNIT {} bytes\n", f.name);
            out += fmt::format("# HELP {} {}\n", f.name, escaped(f.help));
            for (const auto& [l, v] : f.samples) out += fmt::format("{}{}{} {}\n", f.name, f.counts ? "_total" : "", l, v);
        }
        return out + "# EOF\n";
    }

    /// A label's value: UTF-8, nothing in it ends the line or the value, and nothing is a command for a terminal.
    [[nodiscard]] static std::string escaped(std::string_view s) {
        std::string out;
        for (std::size_t i = 0; i < s.size();) {
            const std::size_t n = utf8_bytes(s.substr(i));
            if (s[i] == '\n') out += "\\n";
            else if (n == 0 || is_control(s.substr(i, n))) out += replacement;
            else if (s[i] == '"' || s[i] == '\\') out += '\\', out += s[i];
            else out += s.substr(i, n);
            i += n == 0 ? 1 : n;
        }
        return out;
    }

private:
    struct family {
        std::string name, help;
        bool counts;
        std::map<std::string, std::uint64_t> samples;  ///< by their labels
    };

    /// The samples of a family stand together, whoever they are of.
    [[nodiscard]] family& family_of(std::string_view name, std::string_view help, bool counts) {
        for (auto& f : families_)
            if (f.name == name) return f;
        return families_.emplace_back(family{std::string(name), std::string(help), counts, {}});
    }
    [[nodiscard]] static std::string text_of(const labels& l) {
        std::string out;
        for (const auto& [name, value] : l) out += fmt::format("{}{}=\"{}\"", out.empty() ? "" : ",", name, escaped(value));
        return out.empty() ? out : "{" + out + "}";
    }

    std::vector<family> families_;
};

/// "no destination" -> "no_destination", for machines.
[[nodiscard]] inline std::string cause_label(std::size_t i) {
    std::string name = nm::cause_name(static_cast<nm::cause>(i));
    for (char& c : name)
        if (c == ' ') c = '_';
    return name;
}

/// One direction of a port. `who`: the port's labels, the same for both directions.
inline void add_direction(metrics& m, metrics::labels who, std::string_view direction, const nm::counters& c) {
    who.emplace_back("direction", direction);
    m.counter("nm_port_frames", "Frames that a port has taken to send (tx) or delivered (rx).", who, c.frames);
    m.counter("nm_port_bytes", "Bytes of these frames.", who, c.bytes);
    m.counter("nm_port_reinits", "Times that a ring's indexes made no sense.", who, c.reinits);
    for (std::size_t i = 0; i < nm::causes; ++i) {
        auto l = who;
        l.emplace_back("cause", cause_label(i));
        m.counter("nm_port_drops", "Frames that went nowhere, by cause.", l, c.drops[i]);
    }
}
inline void add_mode(metrics& m, metrics::labels who, const std::string& mode) {
    who.emplace_back("mode", mode);
    m.gauge("nm_port_mode", "1: the port is driven in this mode.", who, 1);
}
inline void add_version(metrics& m, std::string_view tool) {
    m.gauge("nm_build", "1: the version that says this.", {{"tool", std::string(tool)}, {"version", NM_VERSION_STRING}}, 1);
}
[[nodiscard]] inline metrics::labels labels_of(std::string_view tool, const std::string& port) {
    return {{"tool", std::string(tool)}, {"port", port}};
}

/// A switch, wherever it lives.
struct switch_numbers {
    std::uint64_t accepted, replicas, delivered, dropped, stations;
};
inline void add_switch(metrics& m, const std::string& name, const switch_numbers& n) {
    const metrics::labels who{{"switch", name}};
    m.counter("nm_switch_accepted_frames", "Frames that a switch has taken.", who, n.accepted);
    m.counter("nm_switch_replicas", "Copies of flooded frames and segments of large ones, beyond the first of each.", who, n.replicas);
    m.counter("nm_switch_delivered_frames", "Frames, copies and segments that a switch has delivered.", who, n.delivered);
    m.counter("nm_switch_dropped_frames", "Frames, copies and segments that a switch has dropped.", who, n.dropped);
    m.gauge("nm_switch_stations", "Addresses learnt.", who, n.stations);
}
/// What it costs to serve a port to another program, or to a guest.
inline void add_serving(metrics& m, const metrics::labels& who, std::uint64_t kicks, std::uint64_t wakes, std::uint64_t bad_indexes) {
    m.counter("nm_port_kicks", "Times that a port's user woke its host.", who, kicks);
    m.counter("nm_port_wakes", "Times that a host woke a port's user.", who, wakes);
    m.counter("nm_port_bad_indexes", "Times that a port's user said indexes that made no sense.", who, bad_indexes);
}

/// What a thread that does not own the rings may read of them meanwhile. The kernel's own drops are not asked for here: those are
/// added by who owns the port, at the end.
template <class P>
[[nodiscard]] nm::counters live_tx(P& port) {
    nm::counters c;
    for (nm::index_t i = 0; i < port.num_tx_rings(); ++i) c += port.tx(i).stats();
    return c;
}
template <class P>
[[nodiscard]] nm::counters live_rx(P& port) {
    nm::counters c;
    for (nm::index_t i = 0; i < port.num_rx_rings(); ++i) c += port.rx(i).stats();
    return c;
}
template <class P>
void add_live_port(metrics& m, std::string_view tool, const std::string& name, P& port) {
    const auto who = labels_of(tool, name);
    add_mode(m, who, port.info().mode);
    add_direction(m, who, "tx", live_tx(port));
    add_direction(m, who, "rx", live_rx(port));
}
/// When nobody else uses it any more: with what the kernel or the device dropped.
template <class P>
void add_port(metrics& m, std::string_view tool, const std::string& name, P& port) {
    const auto who = labels_of(tool, name);
    add_mode(m, who, port.info().mode);
    add_direction(m, who, "tx", port.tx_stats());
    add_direction(m, who, "rx", port.rx_stats());
}

}  // namespace tool
