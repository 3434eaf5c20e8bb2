// SPDX-License-Identifier: BSD-2-Clause

// Whether this machine may be reached through an interface, so that it should not vanish.

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "nm/sys/link.hpp"
#include "pci_tree.hpp"

namespace nm::sys::pci {
namespace {

/// The interface, and all that stand on it: its bridge, bond, VLANs, and what stands on those.
std::set<std::string> with_uppers(const tree& t, const std::string& name) {
    std::set<std::string> all;
    std::vector<std::string> todo{name};
    while (!todo.empty()) {
        const auto next = todo.back();
        todo.pop_back();
        if (!all.insert(next).second) continue;
        const auto folder = t.sys + "/class/net/" + next;
        if (auto master = link_target(folder + "/master"); !master.empty()) todo.push_back(std::move(master));
        for (const auto& entry : entries(folder))
            if (entry.starts_with("upper_")) todo.push_back(entry.substr(6));
    }
    return all;
}

}  // namespace

std::set<std::string> default_route_interfaces(const tree& t) {
    constexpr unsigned long reject = 0x200;  // RTF_REJECT: a route that leads nowhere
    std::set<std::string> names;
    std::string line;
    std::ifstream v4(t.proc + "/net/route");
    std::getline(v4, line);  // the heading
    while (std::getline(v4, line)) {
        std::istringstream in(line);
        std::string name, to, gateway, flags, references, uses, metric, mask;
        in >> name >> to >> gateway >> flags >> references >> uses >> metric >> mask;
        if (in && to == "00000000" && mask == "00000000" && (std::strtoul(flags.c_str(), nullptr, 16) & reject) == 0)
            names.insert(name);
    }
    std::ifstream v6(t.proc + "/net/ipv6_route");
    while (std::getline(v6, line)) {
        std::istringstream in(line);
        std::string to, bits, from, from_bits, next, metric, references, uses, flags, name;
        in >> to >> bits >> from >> from_bits >> next >> metric >> references >> uses >> flags >> name;
        if (in && bits == "00" && name != "lo" && (std::strtoul(flags.c_str(), nullptr, 16) & reject) == 0) names.insert(name);
    }
    return names;
}

bool carries_default_route(const tree& t, const std::string& interface, const std::set<std::string>& carriers) {
    for (const auto& name : with_uppers(t, interface)) {
        if (carriers.count(name) != 0) return true;
        if (!t.real) continue;
        // Routes of other tables are not in /proc/net/route.
        const auto link = query_link(name);
        if (link && link->carries_default_route) return true;
    }
    return false;
}

}  // namespace nm::sys::pci
