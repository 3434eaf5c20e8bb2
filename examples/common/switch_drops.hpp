// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <string>

#include "common/hosts.hpp"
#include "common/json.hpp"
#include "common/open.hpp"
#include "common/report.hpp"

namespace tool {

/// What a switch in another process has dropped of what this program has sent into it through its port `name`: a port's own counters end where
/// the switch takes a frame. Nothing if the port is not one of such a switch, or the switch's host does not answer. Ask before the port is closed.
[[nodiscard]] inline nm::counters dropped_by_switch(const std::string& name) {
    const nm::port_spec spec = spec_of(name);
    if (spec.kind != nm::port_kind::vale || !spec.pipe_id.empty() || spec.monitor()) return {};
    const auto dir = nm::sys::runtime_dir::open();
    if (!dir) return {};
    try {
        const auto host = look_at_host(*dir, spec.name.substr(0, spec.name.find(':')));
        if (!host) return {};
        for (const auto& port : host->ports)
            if (port.value("name") == spec.name) return direction_of(port, "from_port");
    } catch (const run_error&) {  // a host that is ending; what it counted is gone with it
    }
    return {};
}

/// A line about it, or nothing.
[[nodiscard]] inline std::string switch_drops_text(const nm::counters& at_switch) {
    return at_switch.dropped() == 0 ? "" : fmt::format("The switch dropped {} of them ({})\n", at_switch.dropped(), drops_text(at_switch));
}
inline void add_switch_drops(json& j, const nm::counters& at_switch) {
    j.add("switch_dropped", at_switch.dropped()).add("switch_drops", drops_json(at_switch));
}

}  // namespace tool
