// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <fmt/format.h>
#include <string>
#include <string_view>
#include <vector>

#include "common/failure.hpp"
#include "common/json.hpp"
#include "common/ports.hpp"
#include "common/report.hpp"

namespace tool {

/// A port name as typed: one that does not parse is a usage error, before anything is opened.
[[nodiscard]] inline nm::port_spec spec_of(std::string_view name) {
    auto spec = nm::parse_port(name);
    if (!spec) throw usage_error(spec.error().text);
    return *spec;
}
[[nodiscard]] inline std::string checked_port(std::string_view name) {
    (void)spec_of(name);
    return std::string(name);
}

/// The modes that --require-mode knows, and how a port calls them.
inline constexpr std::string_view mode_choices = "zero-copy|copy|af_xdp|af_packet|vfio|ptnet|pipe|null";
struct mode_name {
    std::string_view typed;
    std::string_view reported;  ///< what port.mode() begins with
    std::vector<nm::netdev_mode> ask;
};
[[nodiscard]] inline mode_name parse_mode(std::string_view text) {
    using m = nm::netdev_mode;
    const std::array<mode_name, 10> known{{{"zero-copy", "af_xdp zero-copy", {m::af_xdp_zero_copy}},
                                          {"af_xdp-zero-copy", "af_xdp zero-copy", {m::af_xdp_zero_copy}},
                                          {"copy", "af_xdp copy", {m::af_xdp_copy}},
                                          {"af_xdp-copy", "af_xdp copy", {m::af_xdp_copy}},
                                          {"af_xdp", "af_xdp", {m::af_xdp_zero_copy, m::af_xdp_copy}},
                                          {"af_packet", "af_packet", {m::af_packet}},
                                          {"vfio", "vfio", {m::best}},
                                          {"ptnet", "ptnet", {m::best}},
                                          {"pipe", "pipe", {m::best}},
                                          {"null", "null", {m::best}}}};
    std::string typed(text);
    for (char& c : typed)
        if (c == ' ') c = '-';
    for (const auto& k : known)
        if (k.typed == typed) return k;
    throw usage_error("\"" + std::string(text) + "\" is no mode; there are " + std::string(mode_choices));
}

/// Opens a port and says aloud how: its mode, why, and what would make a better one possible.
[[nodiscard]] inline any_port open_port(nm::context& ctx, const std::string& name, nm::open_options o,
                                        std::string_view required) {
    const auto announced = [&name](any_port p) {
        const nm::port_info& i = std::visit([](auto& port) -> const nm::port_info& { return port.info(); }, p);
        print_err(fmt::format("{}: {}{}; {} tx rings of {} slots, {} rx rings of {} slots, {} KiB\n", name, i.mode,
                              i.reason.empty() ? "" : " (" + i.reason + ")", i.tx_rings, i.tx_slots, i.rx_rings,
                              i.rx_slots, i.memory / 1024));
        if (!i.advice.empty()) print_err(fmt::format("{}: for a faster mode, or a safer one: {}\n", name, i.advice));
        return p;
    };
    if (required.empty()) return announced(nm::open<ports>(ctx, name, o));
    const mode_name want = parse_mode(required);
    o.require_mode = true;
    nm::error why;
    for (const auto mode : want.ask) {
        o.mode = mode;
        auto p = nm::try_open<ports>(ctx, name, o);
        if (!p) {
            why = p.error();
            continue;
        }
        const std::string mode_now = std::visit([](auto& port) { return port.mode(); }, *p);
        if (mode_now.starts_with(want.reported)) return announced(std::move(*p));
        why.text = fmt::format("{} opens in mode {}, and --require-mode {} was asked for", name, mode_now, required);
    }
    throw run_error(why.text);
}

[[nodiscard]] inline json to_json(const nm::port_info& i) {
    return json()
        .add("name", i.name)
        .add("mode", i.mode)
        .add("reason", i.reason)
        .add("advice", i.advice)
        .add("tx_rings", i.tx_rings)
        .add("rx_rings", i.rx_rings)
        .add("tx_slots", i.tx_slots)
        .add("rx_slots", i.rx_slots)
        .add("buf_size", i.buf_size);
}

[[nodiscard]] inline json drops_json(const nm::counters& c) {
    json out;
    for (std::size_t i = 0; i < nm::causes; ++i) out.add(nm::cause_name(static_cast<nm::cause>(i)), c.drops[i]);
    return out;
}
/// "3 full, 1 bad length", or nothing.
[[nodiscard]] inline std::string drops_text(const nm::counters& c) {
    std::string out;
    for (std::size_t i = 0; i < nm::causes; ++i)
        if (c.drops[i] != 0)
            out +=
                fmt::format("{}{} {}", out.empty() ? "" : ", ", c.drops[i], nm::cause_name(static_cast<nm::cause>(i)));
    return out;
}

}  // namespace tool
