// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/pci.hpp"

#include <array>
#include <charconv>
#include <cstdio>

#include "pci_tree.hpp"

namespace nm::sys {
namespace pci {
namespace {

std::uint32_t number_in(const std::string& path) {
    const auto line = read_line(path);
    const std::string_view digits = line.starts_with("0x") ? std::string_view(line).substr(2) : std::string_view(line);
    std::uint32_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    return value;
}

pci_ids ids_in(const std::string& folder) {
    const auto half = [&](const char* name) { return static_cast<std::uint16_t>(number_in(join(folder, name))); };
    return {half("vendor"), half("device"), half("subsystem_vendor"), half("subsystem_device"),
            static_cast<std::uint8_t>(number_in(folder + "/revision")), number_in(folder + "/class") & 0xffffff};
}

/// The address as sysfs has it, of a device that is there.
result<std::string> find(const tree& t, std::string_view text) {
    auto address = pci_address(text);
    if (address.empty())
        return fail(EINVAL, "\"" + std::string(text) + "\" is no PCI address; they look like 0000:03:00.0");
    if (!exists(folder_of(t, address)))
        return fail(ENODEV, "there is no PCI device " + address + "; see what there is with: nmctl bind");
    return address;
}

/// Of network interfaces; virtio's are one level further down.
std::vector<std::string> interfaces_of(const std::string& folder) {
    auto names = entries(folder + "/net");
    for (const auto& child : entries(folder)) {
        if (!child.starts_with("virtio")) continue;
        const auto more = entries(join(folder, child) + "/net");
        names.insert(names.end(), more.begin(), more.end());
    }
    return names;
}

/// Drivers that leave DMA alone, so that they may stay in a group that is given away.
bool harmless_in_group(std::string_view driver) noexcept {
    return driver.empty() || driver == "pci-stub" || driver == "pcieport" || is_vfio_driver(driver);
}

struct surroundings {
    std::set<std::string> carriers;
    std::vector<std::pair<std::string, user>> open;
};

pci_info describe(const tree& t, const std::string& address, const surroundings& around) {
    const auto folder = folder_of(t, address);
    pci_info info;
    info.address = address;
    info.ids = ids_in(folder);
    info.driver = driver_of(t, address);
    const auto nodes = vfio_nodes(t, address);
    if (!nodes.no_iommu) info.iommu_group = link_target(folder + "/iommu_group");
    if (!info.iommu_group.empty())
        for (const auto& mate : entries(t.sys + "/kernel/iommu_groups/" + info.iommu_group + "/devices"))
            if (mate != address && !harmless_in_group(driver_of(t, mate))) info.group_mates.push_back(mate);
    info.interfaces = interfaces_of(folder);
    for (const auto& name : info.interfaces)
        info.carries_default_route = info.carries_default_route || carries_default_route(t, name, around.carriers);
    info.in_use = !users_among(around.open, nodes).empty();
    return info;
}

bool is_network(const pci_ids& ids) noexcept { return ids.class_code >> 16 == 0x02 || is_ptnet(ids); }

}  // namespace

result<pci_info> query(const tree& t, std::string_view text) {
    auto address = find(t, text);
    if (!address) return forward_error(address);
    return describe(t, *address, {default_route_interfaces(t), open_nodes(t)});
}

result<std::vector<pci_info>> network_devices(const tree& t) {
    std::vector<pci_info> devices;
    const surroundings around{default_route_interfaces(t), open_nodes(t)};
    for (const auto& address : entries(t.sys + "/bus/pci/devices"))
        if (is_network(ids_in(folder_of(t, address)))) devices.push_back(describe(t, address, around));
    return devices;
}

}  // namespace pci

std::string pci_address(std::string_view text) {
    // [domain:]bus:device.function, all of them hexadecimal
    std::array<unsigned, 4> part{};
    std::array<std::string_view, 4> piece;
    const auto dot = text.rfind('.');
    if (dot == text.npos) return {};
    piece[3] = text.substr(dot + 1);
    auto rest = text.substr(0, dot);
    const auto colon = rest.rfind(':');
    if (colon == rest.npos) return {};
    piece[2] = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    const auto first = rest.rfind(':');
    piece[1] = first == rest.npos ? rest : rest.substr(first + 1);
    piece[0] = first == rest.npos ? std::string_view("0") : rest.substr(0, first);
    constexpr std::array<unsigned, 4> limit{0xffffffff, 0xff, 0x1f, 7};
    constexpr std::array<std::size_t, 4> digits{8, 2, 2, 1};
    for (std::size_t i = 0; i < part.size(); ++i) {
        const auto* end = piece[i].data() + piece[i].size();
        const auto [at, error] = std::from_chars(piece[i].data(), end, part[i], 16);
        if (piece[i].empty() || piece[i].size() > digits[i] || error != std::errc{} || at != end || part[i] > limit[i]) return {};
    }
    std::array<char, 24> out{};
    std::snprintf(out.data(), out.size(), "%04x:%02x:%02x.%x", part[0], part[1], part[2], part[3]);
    return out.data();
}

result<pci_ids> read_pci_ids(std::string_view address) {
    const pci::tree t;
    auto found = pci::find(t, address);
    if (!found) return forward_error(found);
    return pci::ids_in(pci::folder_of(t, *found));
}

result<pci_info> query_pci(std::string_view address) { return pci::query({}, address); }
result<std::vector<pci_info>> list_network_devices() { return pci::network_devices({}); }
result<void> bind_to_vfio(std::string_view address, bool force) { return pci::to_vfio({}, address, force); }
result<void> bind_to_kernel(std::string_view address) { return pci::to_kernel({}, address); }

}  // namespace nm::sys
