// SPDX-License-Identifier: BSD-2-Clause

// Which programs have a device by VFIO.

#include <algorithm>
#include <array>
#include <charconv>
#include <unistd.h>

#include "pci_tree.hpp"

namespace nm::sys::pci {

bool is_vfio_driver(std::string_view driver) noexcept {
    // vfio-pci, and what vendors make of it: mlx5_vfio_pci ...
    return driver.find("vfio-pci") != driver.npos || driver.find("vfio_pci") != driver.npos;
}

device_nodes vfio_nodes(const tree& t, const std::string& address) {
    device_nodes nodes;
    const auto folder = folder_of(t, address);
    const auto group = link_target(folder + "/iommu_group");
    if (!group.empty()) {
        nodes.no_iommu = read_line(t.sys + "/kernel/iommu_groups/" + group + "/name") == "vfio-noiommu";
        nodes.group = t.dev + "/vfio/" + (nodes.no_iommu ? "noiommu-" : "") + group;
    }
    for (const auto& name : entries(folder + "/vfio-dev")) nodes.cdev = t.dev + "/vfio/devices/" + name;
    return nodes;
}

std::vector<std::pair<std::string, user>> open_nodes(const tree& t) {
    std::vector<std::pair<std::string, user>> found;
    const std::string prefix = t.dev + "/vfio/";
    std::array<char, 256> to{};
    for (const auto& process : entries(t.proc)) {
        if (process.front() < '0' || process.front() > '9') continue;
        const auto folder = join(t.proc, process) + "/fd";
        for (const auto& fd : entries(folder)) {
            const auto n = ::readlink(join(folder, fd).c_str(), to.data(), to.size());
            if (n <= 0) continue;
            const std::string_view path(to.data(), static_cast<std::size_t>(n));
            if (!path.starts_with(prefix)) continue;
            user u;
            std::from_chars(process.data(), process.data() + process.size(), u.pid);
            u.command = read_line(join(t.proc, process) + "/comm");
            found.emplace_back(std::string(path), std::move(u));
        }
    }
    return found;
}

std::vector<user> users_among(const std::vector<std::pair<std::string, user>>& open, const device_nodes& nodes) {
    std::vector<user> users;
    for (const auto& [path, who] : open) {
        if (path != nodes.group && path != nodes.cdev) continue;
        const auto same = [pid = who.pid](const user& u) { return u.pid == pid; };
        if (std::none_of(users.begin(), users.end(), same)) users.push_back(who);
    }
    return users;
}

std::vector<user> users_of(const tree& t, const device_nodes& nodes) { return users_among(open_nodes(t), nodes); }

std::string by_whom(const std::vector<user>& users) {
    std::string text;
    for (const auto& u : users) {
        text += text.empty() ? " by " : ", ";
        text += u.pid == ::getpid() ? "this program itself" : u.command + " (process " + std::to_string(u.pid) + ")";
    }
    return text;
}

bool shares_group(const tree& t, const pci_info& info) {
    return !info.iommu_group.empty() && entries(t.sys + "/kernel/iommu_groups/" + info.iommu_group + "/devices").size() > 1;
}

}  // namespace nm::sys::pci
