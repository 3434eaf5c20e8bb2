// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What the hosts of switches and pipes (nm-host) say of themselves and of their ports.

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/json.hpp"
#include "common/metrics.hpp"
#include "common/failure.hpp"

#include "nm/sys/control.hpp"

namespace tool {

/// "name value" lines, taken apart.
class fields {
public:
    fields() = default;
    explicit fields(std::string_view payload) {
        for (std::size_t at = 0; at < payload.size();) {
            const auto end = std::min(payload.find('\n', at), payload.size());
            const auto line = payload.substr(at, end - at);
            if (const auto space = line.find(' '); space != line.npos) all_.emplace_back(line.substr(0, space), line.substr(space + 1));
            at = end + 1;
        }
    }
    [[nodiscard]] std::string value(std::string_view name, const char* otherwise = "") const {
        for (const auto& [n, v] : all_)
            if (n == name) return v;
        return otherwise;
    }
    [[nodiscard]] bool has(std::string_view name) const {
        for (const auto& [n, v] : all_)
            if (n == name) return true;
        return false;
    }
    [[nodiscard]] std::uint64_t number(std::string_view name) const { return number_in(value(name)); }
    [[nodiscard]] auto begin() const { return all_.begin(); }
    [[nodiscard]] auto end() const { return all_.end(); }

    /// "full=3,policy=1" -> the same by cause.
    [[nodiscard]] std::array<std::uint64_t, nm::causes> drops(std::string_view name) const {
        std::array<std::uint64_t, nm::causes> out{};
        const std::string text = value(name);
        for (std::size_t at = 0; at < text.size();) {
            const auto end = std::min(text.find(',', at), text.size());
            const auto one = std::string_view(text).substr(at, end - at);
            const auto equals = std::min(one.find('='), one.size());
            for (std::size_t i = 0; i < nm::causes; ++i)
                if (cause_label(i) == one.substr(0, equals)) out[i] = number_in(one.substr(std::min(equals + 1, one.size())));
            at = end + 1;
        }
        return out;
    }

private:
    [[nodiscard]] static std::uint64_t number_in(std::string_view v) {
        std::uint64_t n = 0;
        const auto [end, ec] = std::from_chars(v.data(), v.data() + v.size(), n);
        return ec == std::errc{} && end == v.data() + v.size() ? n : 0;
    }
    std::vector<std::pair<std::string, std::string>> all_;
};

[[nodiscard]] inline json to_json(const fields& f) {
    json j;
    for (const auto& [n, v] : f) {
        const bool digits = !v.empty() && v.size() < 20 && v.find_first_not_of("0123456789") == v.npos;
        if (n == "conserved" || n == "running" || n == "lost" || n == "made") j.add(n, v == "1");
        else if (n.ends_with("_drops")) {
            json causes;
            const auto drops = f.drops(n);
            for (std::size_t i = 0; i < nm::causes; ++i) causes.add(cause_label(i), drops[i]);
            j.add(n, causes);
        } else if (digits && n != "name" && n != "interface" && n != "version") j.raw(n, v);
        else if (n == "polling_cpu" && v == "-1") j.raw(n, "null");
        else j.add(n, v);
    }
    return j;
}

struct hosted {
    std::string name;  ///< of the rendezvous: vale1, or what pipes' names begin with
    fields about;
    std::vector<fields> ports;
    [[nodiscard]] bool is_switch() const { return about.has("accepted"); }
};

[[nodiscard]] inline nm::sys::control_message host_command(const std::string& words) {
    nm::sys::control_message m;
    m.payload = words;
    return m;
}

/// A host is not started for the asking. Nothing if there is none, or none any more. Throws run_error.
[[nodiscard]] inline std::optional<nm::sys::control_channel> running_host(const nm::sys::runtime_dir& dir, const std::string& name) {
    auto c = nm::sys::control_channel::connect(dir, name);
    if (c) return std::move(*c);
    if (c.error().code.value() == ENOENT) return std::nullopt;
    throw run_error(c.error().text);
}
[[nodiscard]] inline std::optional<hosted> look_at_host(const nm::sys::runtime_dir& dir, const std::string& name) {
    auto c = running_host(dir, name);
    if (!c) return std::nullopt;
    auto about = c->ask(host_command("host"));
    if (!about && about.error().code.value() == ECONNRESET) return std::nullopt;
    if (!about) throw run_error(name + ": " + about.error().text);
    hosted h{name, fields(about->payload), {}};
    // Ports may come and go between two questions: none is told twice, and there is an end.
    std::unordered_set<std::string> seen;
    for (unsigned i = 0; i < 4096; ++i) {
        auto one = c->ask(host_command("item " + std::to_string(i)));
        if (!one) break;
        fields f(one->payload);
        if (seen.insert(f.value("name")).second) h.ports.push_back(std::move(f));
    }
    return h;
}

/// All of them. One that does not answer is left out, and said to `complain`.
template <class Complain>
[[nodiscard]] std::vector<hosted> look_at_hosts(const nm::sys::runtime_dir& dir, Complain&& complain) {
    std::vector<hosted> all;
    for (const auto& name : dir.hosted()) {
        try {
            if (auto h = look_at_host(dir, name)) all.push_back(std::move(*h));
        } catch (const run_error& e) {
            complain(std::string(e.what()));
        }
    }
    return all;
}

[[nodiscard]] inline nm::counters direction_of(const fields& port, const std::string& which) {
    nm::counters c;
    c.frames = port.number(which + "_frames");
    c.bytes = port.number(which + "_bytes");
    c.drops = port.drops(which + "_drops");
    return c;
}

inline void add_host(metrics& m, const hosted& h) {
    if (h.is_switch())
        add_switch(m, h.name, {h.about.number("accepted"), h.about.number("replicas"), h.about.number("delivered"), h.about.number("dropped"), h.about.number("stations")});
    m.gauge("nm_host_ports", "Ports and pipes that a host has.", {{"host", h.name}, {"pid", h.about.value("pid")}}, h.about.number("num_ports"));
    for (const auto& p : h.ports) {
        const metrics::labels who{{"tool", "nm-host"}, {"port", p.value("name")}};
        if (p.value("kind") == "pipe") {
            const auto ends = (p.number("master_pid") != 0 ? 1U : 0U) + (p.number("slave_pid") != 0 ? 1U : 0U);
            m.gauge("nm_pipe_ends_open", "Ends of a pipe between processes that are open.", who, ends);
            continue;
        }
        add_mode(m, who, p.has("mode") ? p.value("mode") : p.value("kind"));
        // As the port's user says it: tx is what came from the port to the switch.
        add_direction(m, who, "tx", direction_of(p, "from_port"));
        add_direction(m, who, "rx", direction_of(p, "to_port"));
        m.counter("nm_port_floods", "Frames of a port that went to several others.", who, p.number("floods"));
        if (p.has("kicks")) add_serving(m, who, p.number("kicks"), p.number("wakes"), p.number("bad_indexes"));
        if (!p.has("device_in")) continue;
        m.gauge("nm_port_down", "1: the interface is down.", who, p.number("lost"));
        for (const auto& [field, direction] : {std::pair("device_out", "tx"), std::pair("device_in", "rx")}) {
            auto side = who;
            side.emplace_back("direction", direction);
            m.counter("nm_device_frames", "Frames between a switch's member and its device.", side, p.number(field));
            const auto drops = p.drops(std::string(field) + "_drops");
            for (std::size_t i = 0; i < nm::causes; ++i) {
                auto l = side;
                l.emplace_back("cause", cause_label(i));
                m.counter("nm_device_drops", "Frames that a member's device, or the kernel before it, dropped, by cause.", l, drops[i]);
            }
        }
    }
}

}  // namespace tool
