// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "bind.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "common/report.hpp"
#include "drivers.hpp"

#include "nm/sys/link.hpp"
#include "nm/sys/pci.hpp"

namespace nmctl {
namespace {

using nm::sys::pci_info;

template <class T>
[[nodiscard]] T need(nm::result<T> r) {
    if (!r) throw tool::run_error(r.error().text);
    return std::move(*r);
}

[[nodiscard]] std::string joined(const std::vector<std::string>& words, const char* between = ", ") {
    std::string text;
    for (const auto& w : words) text += (text.empty() ? "" : between) + w;
    return text;
}

[[nodiscard]] std::string or_dash(std::string text) { return text.empty() ? "-" : text; }

/// What someone who is about to bind it should know.
[[nodiscard]] std::string remarks(const pci_info& d) {
    std::vector<std::string> all;
    if (d.in_use) all.emplace_back("in use");
    if (d.carries_default_route) all.emplace_back("default route");
    if (d.iommu_group.empty()) all.emplace_back("no IOMMU");
    if (!d.group_mates.empty()) all.push_back("shares its group with " + joined(d.group_mates));
    return joined(all);
}

[[nodiscard]] std::string vendor_device(const pci_info& d) { return fmt::format("{:04x}:{:04x}", d.ids.vendor, d.ids.device); }

[[nodiscard]] tool::json to_json(const pci_info& d) {
    const auto array = [](const std::vector<std::string>& words) {
        std::string text;
        for (const auto& w : words) text += (text.empty() ? "" : ", ") + tool::json::quoted(w);
        return "[" + text + "]";
    };
    tool::json j;
    j.add("address", d.address).add("vendor", fmt::format("{:04x}", d.ids.vendor)).add("device", fmt::format("{:04x}", d.ids.device));
    j.add("subsystem_vendor", fmt::format("{:04x}", d.ids.subsystem_vendor));
    j.add("subsystem_device", fmt::format("{:04x}", d.ids.subsystem_device)).add("class", fmt::format("{:06x}", d.ids.class_code));
    j.add("nm", own_driver(d.ids)).add("driver", d.driver).raw("interfaces", array(d.interfaces));
    j.add("iommu_group", d.iommu_group).raw("group_mates", array(d.group_mates));
    j.add("default_route", d.carries_default_route).add("in_use", d.in_use);
    return j;
}

[[nodiscard]] std::string to_json(const std::vector<pci_info>& devices) {
    std::string list;
    for (const auto& d : devices) list += (list.empty() ? "" : ", ") + to_json(d).text();
    return tool::json().raw("devices", "[" + list + "]").text() + "\n";
}

[[nodiscard]] std::string to_table(const std::vector<pci_info>& devices) {
    using row = std::array<std::string, 7>;
    std::vector<row> rows{{"ADDRESS", "DEVICE", "NM", "DRIVER", "INTERFACE", "GROUP", "REMARKS"}};
    for (const auto& d : devices)
        rows.push_back({d.address, vendor_device(d), or_dash(own_driver(d.ids)), or_dash(d.driver), or_dash(joined(d.interfaces)),
                        or_dash(d.iommu_group), remarks(d)});
    std::array<std::size_t, 7> width{};
    for (const auto& r : rows)
        for (std::size_t i = 0; i < r.size(); ++i) width[i] = std::max(width[i], r[i].size());
    std::string text;
    for (const auto& r : rows) {
        std::string line;
        for (std::size_t i = 0; i < r.size(); ++i) line += fmt::format("{:<{}}", r[i], i + 1 < r.size() ? width[i] + 2 : 0);
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + "\n";
    }
    return text;
}

/// The device that was meant: by its address, or by the name of an interface that its driver made.
[[nodiscard]] std::string address_of(const std::string& name, const std::vector<pci_info>& devices) {
    if (auto address = nm::sys::pci_address(name); !address.empty()) return address;
    for (const auto& d : devices)
        if (std::count(d.interfaces.begin(), d.interfaces.end(), name) != 0) return d.address;
    if (nm::sys::link_exists(name)) throw tool::run_error(name + " is not a PCI device's interface; there is nothing to bind");
    throw tool::run_error("\"" + name + "\" is neither a PCI address (0000:03:00.0) nor an interface of this network namespace; "
                                       "an interface is gone while vfio-pci has its device. See: nmctl bind");
}

[[nodiscard]] std::string named(const pci_info& d) {
    return d.driver.empty() ? "no driver" : d.interfaces.empty() ? d.driver : d.driver + " (" + joined(d.interfaces) + ")";
}

/// What became of it, and what is still to be done.
[[nodiscard]] std::string outcome(const pci_info& before, const pci_info& after, bool to_kernel) {
    if (before.driver == after.driver) return fmt::format("{}: {} has it already\n", after.address, named(after));
    std::string text = fmt::format("{}: {}, was {}\n", after.address, named(after), named(before));
    if (to_kernel && after.driver.empty()) text += "  the kernel has no driver for it\n";
    if (!to_kernel && !after.group_mates.empty())
        text += "  before a program can open it: nmctl bind " + joined(after.group_mates, " ") + "\n";
    if (!to_kernel && own_driver(after.ids).empty()) text += "  nm has no driver for it; see docs/nics.md\n";
    return text;
}

[[nodiscard]] pci_info bind_one(const std::string& name, const std::vector<pci_info>& devices, const settings& s) {
    const auto before = need(nm::sys::query_pci(address_of(name, devices)));
    if (!s.kernel && !s.force && before.ids.class_code >> 16 != 0x02 && !nm::sys::is_ptnet(before.ids))
        throw tool::run_error(fmt::format("{} ({}) is not a network device; if it is meant all the same: --force", before.address,
                                          vendor_device(before)));
    if (auto r = s.kernel ? nm::sys::bind_to_kernel(before.address) : nm::sys::bind_to_vfio(before.address, s.force); !r)
        throw tool::run_error(r.error().text);
    auto after = need(nm::sys::query_pci(before.address));
    if (!s.json) tool::print_out(outcome(before, after, s.kernel));
    return after;
}

}  // namespace

int show(const settings& s) {
    const auto devices = need(nm::sys::list_network_devices());
    if (s.json) tool::print_out(to_json(devices));
    else if (devices.empty()) tool::print_out("no PCI network devices\n");
    else tool::print_out(to_table(devices));
    return tool::exit_ok;
}

int bind(const settings& s) {
    const auto devices = need(nm::sys::list_network_devices());
    std::vector<pci_info> done;
    int code = tool::exit_ok;
    for (const auto& name : s.words) {
        try {
            done.push_back(bind_one(name, devices, s));
        } catch (const tool::run_error& e) {
            tool::print_err(fmt::format("nmctl: {}\n", e.what()));
            code = tool::exit_failure;
        }
    }
    if (s.json) tool::print_out(to_json(done));
    return code;
}

int bind_command(settings& s) {
    if (s.kernel && s.words.empty()) throw tool::usage_error("say which devices to give back; nmctl bind shows them");
    if (s.force && s.kernel) throw tool::usage_error("--force is for taking a device, not for giving it back");
    if (s.force && s.words.empty()) throw tool::usage_error("--force is for a device; say which");
    return s.words.empty() ? show(s) : bind(s);
}

int unbind_command(settings& s) {
    s.kernel = true;
    return bind_command(s);
}

}  // namespace nmctl
