// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/pci.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <fstream>
#include <optional>
#include <set>
#include <spawn.h>
#include <sstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nm/base/os.hpp"
#include "nm/sys/link.hpp"
#include "pci_tree.hpp"

extern char** environ;

namespace nm::sys {
namespace pci {

using base::errno_text;
using base::unique_fd;

std::string join(const std::string& folder, std::string_view name) {
    std::string path = folder;
    path += '/';
    path += name;
    return path;
}

std::string link_target(const std::string& path) {
    std::array<char, 4096> to{};
    const auto n = ::readlink(path.c_str(), to.data(), to.size() - 1);
    if (n <= 0) return {};
    const std::string_view whole(to.data(), static_cast<std::size_t>(n));
    return std::string(whole.substr(whole.find_last_of('/') + 1));  // npos + 1 is 0
}

std::string read_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

std::vector<std::string> entries(const std::string& folder) {
    std::vector<std::string> names;
    DIR* dir = ::opendir(folder.c_str());
    if (dir == nullptr) return names;
    while (const dirent* entry = ::readdir(dir))
        if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    ::closedir(dir);
    std::sort(names.begin(), names.end());
    return names;
}

namespace {

bool exists(const std::string& path) noexcept { return ::access(path.c_str(), F_OK) == 0; }

int write_file(const std::string& path, std::string_view text) {
    const unique_fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd) return errno;
    const auto n = ::write(fd.get(), text.data(), text.size());
    return n == static_cast<ssize_t>(text.size()) ? 0 : n < 0 ? errno : EIO;
}

int put(const tree& t, const std::string& path, std::string_view text) {
    return t.write ? t.write(path, text) : write_file(path, text);
}

std::string folder_of(const tree& t, std::string_view address) { return join(t.sys + "/bus/pci/devices", address); }
std::string driver_of(const tree& t, std::string_view address) { return link_target(folder_of(t, address) + "/driver"); }

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

/// The interfaces that carry a default route of this network namespace, by IPv4 or IPv6.
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

/// Each open VFIO node of each process that may be looked at: the node's path -> who.
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

/// Waits for modprobe. Whether it did what it should is for the caller to see.
void run_modprobe(const tree& t, const std::string& module) {
    if (!t.real) return;
    const char* program = nullptr;
    for (const char* path : {"/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe", "/usr/bin/modprobe"})
        if (program == nullptr && ::access(path, X_OK) == 0) program = path;
    if (program == nullptr) return;
    posix_spawn_file_actions_t files;
    if (::posix_spawn_file_actions_init(&files) != 0) return;
    std::string name = "modprobe", quiet = "-q", wanted = module;
    std::array<char*, 4> args{name.data(), quiet.data(), wanted.data(), nullptr};
    pid_t pid = 0;
    const bool started = ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0) == 0 &&
                         ::posix_spawn_file_actions_adddup2(&files, 0, 1) == 0 &&
                         ::posix_spawn_file_actions_adddup2(&files, 0, 2) == 0 &&
                         ::posix_spawn(&pid, program, &files, nullptr, args.data(), environ) == 0;
    ::posix_spawn_file_actions_destroy(&files);
    if (!started) return;
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
}

std::string not_allowed(int error_number) {
    return error_number == EACCES || error_number == EPERM ? "; it takes root (sudo)" : "";
}

result<void> set(const tree& t, const std::string& path, std::string_view text, const std::string& to_do) {
    const int error_number = put(t, path, text);
    if (error_number == 0) return {};
    return fail(error_number, "cannot " + to_do + ": " + path + ": " + errno_text(error_number) + not_allowed(error_number));
}

result<void> set_override(const tree& t, const std::string& address, std::string_view driver) {
    return set(t, folder_of(t, address) + "/driver_override", std::string(driver) + "\n",
               "choose the driver of " + address);
}

result<void> take_from(const tree& t, const std::string& address, const std::string& driver) {
    if (driver.empty()) return {};
    return set(t, t.sys + "/bus/pci/drivers/" + driver + "/unbind", address, "take " + address + " from " + driver);
}

void probe(const tree& t, const std::string& address) {
    // A driver that refuses makes this fail or not, as the kernel pleases: who has the device afterwards tells.
    (void)put(t, t.sys + "/bus/pci/drivers_probe", address);
}

std::string why_vfio_refused(const std::string& address, const pci_info& before) {
    if (!before.iommu_group.empty()) return "the kernel's log (dmesg) says why";
    return "no IOMMU translates for " + address +
           ": turn VT-d or AMD-Vi on in the firmware, and boot with intel_iommu=on (or amd_iommu=on). Without one, and at the "
           "risk that the device writes anywhere: modprobe vfio enable_unsafe_noiommu_mode=1";
}

}  // namespace

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

result<void> to_vfio(const tree& t, std::string_view text, bool force) {
    auto info = query(t, text);
    if (!info) return forward_error(info);
    const auto& address = info->address;
    if (is_vfio_driver(info->driver)) return {};
    if (info->carries_default_route && !force)
        return fail(EBUSY, address + " has the interface " + info->interfaces.front() +
                               ", which carries the default route: this machine may be reached through it. If it may "
                               "vanish all the same: --force");
    const auto driver_folder = t.sys + "/bus/pci/drivers/vfio-pci";
    if (!exists(driver_folder)) run_modprobe(t, "vfio-pci");
    if (!exists(driver_folder))
        return fail(ENODEV, "the kernel's driver vfio-pci is not there; load it with: modprobe vfio-pci");

    if (auto r = set_override(t, address, "vfio-pci"); !r) return r;
    auto taken = take_from(t, address, info->driver);
    if (taken) {
        probe(t, address);
        if (is_vfio_driver(driver_of(t, address))) return {};
    }
    // Not left lying between two drivers.
    (void)set_override(t, address, "");
    if (!taken) return taken;
    probe(t, address);
    const auto now = driver_of(t, address);
    return fail(ENODEV, "vfio-pci does not take " + address + " (" + (now.empty() ? "no driver has it now" : now + " has it back") +
                            "): " + why_vfio_refused(address, *info));
}

result<void> to_kernel(const tree& t, std::string_view text) {
    auto info = query(t, text);
    if (!info) return forward_error(info);
    const auto& address = info->address;
    const bool with_vfio = is_vfio_driver(info->driver);
    if (!info->driver.empty() && !with_vfio) return {};
    if (with_vfio) {
        // The kernel would wait, uninterruptibly, until that program closes it; so nothing forces this.
        const auto nodes = vfio_nodes(t, address);
        const auto users = users_of(t, nodes);
        bool busy = !users.empty();
        if (!busy && !nodes.group.empty()) {
            const unique_fd group(::open(nodes.group.c_str(), O_RDWR | O_CLOEXEC));
            busy = !group && errno == EBUSY;
        }
        if (busy) return fail(EBUSY, address + " is in use" + by_whom(users) + "; end that first");
    }
    if (auto r = set_override(t, address, ""); !r) return r;
    if (auto r = take_from(t, address, info->driver); !r) return r;
    probe(t, address);
    if (!driver_of(t, address).empty()) return {};
    if (const auto alias = read_line(folder_of(t, address) + "/modalias"); !alias.empty()) {
        run_modprobe(t, alias);
        probe(t, address);
    }
    return {};
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
