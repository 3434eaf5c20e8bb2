// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
// nmctl doctor: what this machine can do, and what mends what it cannot. It looks, and changes nothing.
#include "doctor.hpp"

#include <algorithm>

#include "common/open.hpp"
#include "screen.hpp"
#include "settings.hpp"

#include "nm/sys/link.hpp"
#include "nm/sys/pci.hpp"

namespace nmctl {
namespace {

/// eth0 is netmap:eth0, and so is a device's address.
[[nodiscard]] std::string port_name(const std::string& word) {
    return tool::checked_port(word.find(':') == word.npos || !nm::sys::pci_address(word).empty() ? "netmap:" + word : word);
}

[[nodiscard]] std::string lines_of(const findings& all) {
    const bool colour = ::isatty(1) != 0 && wants_colour();
    std::string out, topic;
    for (const auto& f : all) {
        if (f.topic != topic) out += printable(f.topic) + "\n";
        topic = f.topic;
        const char* const shade = !colour ? "" : f.is == level::ok ? "\x1b[32m" : f.is == level::better ? "\x1b[33m" : "\x1b[31m";
        out += fmt::format("  {}{:<15}{}  {}\n", shade, name_of(f.is), colour ? "\x1b[0m" : "", printable(f.what));
        if (!f.remedy.empty()) out += fmt::format("  {:<15}  > {}\n", "", printable(f.remedy));
    }
    return out;
}

[[nodiscard]] std::string json_of(const findings& all, bool ok) {
    std::string list;
    for (const auto& f : all)
        list += (list.empty() ? "" : ", ") +
                tool::json().add("topic", f.topic).add("level", name_of(f.is)).add("what", f.what).add("remedy", f.remedy).text();
    return tool::json().add("type", "doctor").raw("findings", "[" + list + "]").add("ok", ok).text() + "\n";
}

}  // namespace

int doctor_command(settings& s) {
    auto words = s.words;
    for (auto& w : words) w = port_name(w);
    const powers p = look_at_powers();
    findings f;
    if (words.empty()) {
        look_at_kernel(f, p);
        look_at_privileges(f, p);
        look_at_memory(f, p);
        look_at_devices(f, p);
        if (auto links = nm::sys::list_links())
            for (const auto& name : *links) look_at_interface(f, p, name);
        look_at_programs(f);
        look_at_qemu(f);
        look_at_build(f);
    } else {
        for (const auto& w : words) look_at_port(f, p, w);
    }
    const bool ok = words.empty() || f.cannots() == 0;
    tool::print_out(s.json ? json_of(f, ok) : lines_of(f));
    return ok ? tool::exit_ok : tool::exit_failure;
}

}  // namespace nmctl
