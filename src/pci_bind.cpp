// SPDX-License-Identifier: BSD-2-Clause

// Which driver has a device.

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nm/base/os.hpp"
#include "pci_tree.hpp"

extern char** environ;

namespace nm::sys::pci {

using base::errno_text;
using base::unique_fd;

namespace {

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

}  // namespace nm::sys::pci
