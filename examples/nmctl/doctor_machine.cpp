// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ports.hpp"
#include "doctor.hpp"

#include <fmt/format.h>

#include "nm/sys/control.hpp"
#include "nm/sys/control_places.hpp"
#include "nm/version.hpp"

namespace nmctl {
namespace {

namespace fs = std::filesystem;

[[nodiscard]] bool exists(const std::string& path) {
    std::error_code none;
    return fs::exists(path, none);
}
[[nodiscard]] bool usable(const std::string& path) { return ::access(path.c_str(), R_OK | W_OK) == 0; }
[[nodiscard]] std::size_t entries(const std::string& path) {
    std::error_code none;
    std::size_t n = 0;
    for (auto at = fs::directory_iterator(path, none); !none && at != fs::directory_iterator(); at.increment(none)) ++n;
    return n;
}

/// Built in, loaded, or there to be loaded.
[[nodiscard]] bool has_module(const powers& p, const std::string& name) {
    std::string file = name;
    std::replace(file.begin(), file.end(), '_', '-');
    std::string loaded = name;
    std::replace(loaded.begin(), loaded.end(), '-', '_');
    if (exists("/sys/module/" + loaded)) return true;
    for (const char* list : {"modules.builtin", "modules.dep"}) {
        std::ifstream modules("/lib/modules/" + p.kernel.release + "/" + list);
        for (std::string line; std::getline(modules, line);)
            if (line.find("/" + file + ".ko") != line.npos || line.find("/" + loaded + ".ko") != line.npos) return true;
    }
    return false;
}

[[nodiscard]] std::uint64_t meminfo(const std::string& name) {
    std::ifstream all("/proc/meminfo");
    for (std::string line; std::getline(all, line);)
        if (line.starts_with(name + ":")) return std::strtoull(line.c_str() + name.size() + 1, nullptr, 10);
    return 0;
}

}  // namespace

void look_at_kernel(findings& f, const powers& p) {
    f.about("kernel");
    const auto& k = p.kernel;
    if (k.at_least(6, 6)) f.ok("Linux " + k.release);
    else if (k.at_least(5, 17)) f.better("Linux " + k.release + ": no tcx programs, and AF_XDP takes no frames that are longer than a buffer", "boot Linux 6.6 or newer");
    else f.better("Linux " + k.release + ": too old to cut the host's stack off from an interface in both directions", "boot Linux 5.17 or newer, better 6.6");
    if (p.has_af_xdp) f.ok("AF_XDP is in the kernel");
    else f.better("the kernel has no AF_XDP: interfaces open as af_packet only", "boot a kernel with CONFIG_XDP_SOCKETS (distributions' have it)");
    if (!exists("/dev/net/tun"))
        f.better("no /dev/net/tun: no host rings (netmap:eth0^), no ptnet-if, no valectl -n", exists("/sys/module/tun") ? "mknod /dev/net/tun c 10 200" : "modprobe tun");
    else if (!usable("/dev/net/tun")) f.better("/dev/net/tun is not yours to open", "chmod 666 /dev/net/tun, which is what distributions have");
    else f.ok("/dev/net/tun: host rings, persistent ports of switches");
}

void look_at_privileges(findings& f, const powers& p) {
    f.about("privileges");
    constexpr const char* remedy = "run as root, or: setcap cap_net_raw,cap_net_admin,cap_bpf,cap_ipc_lock+ep PROGRAM; to try things out: unshare -Urn";
    if (p.net_raw && p.net_admin) f.ok("CAP_NET_RAW and CAP_NET_ADMIN: kernel interfaces can be opened");
    else
        f.better(fmt::format("no {}: kernel interfaces cannot be opened; pipes and VALE switches need nothing",
                             p.net_raw ? "CAP_NET_ADMIN" : p.net_admin ? "CAP_NET_RAW" : "CAP_NET_RAW, no CAP_NET_ADMIN"),
                 remedy);
    if (p.bpf) f.ok("programs may be loaded (CAP_BPF): AF_XDP" + std::string(p.tcx() ? " and tcx" : ""));
    else f.better("no CAP_BPF: interfaces open as af_packet, without AF_XDP", remedy);
    if (!p.root)
        f.better(fmt::format("you are user {}: ports of switches and pipes of yours are met by your programs only, not by root's or others'", ::geteuid()),
                 "sudo nmctl doctor shows what root can do; programs of several users need to run as one of them");
}

void look_at_memory(findings& f, const powers& p) {
    f.about("memory");
    constexpr std::uint64_t enough = 64 << 20;  // four interfaces' rings and buffers, which AF_XDP counts twice
    if (p.ipc_lock || p.memlock == ~std::uint64_t{0}) f.ok("locked memory: no limit");
    else if (p.memlock >= enough) f.ok(fmt::format("locked memory: up to {} KiB", p.memlock / 1024));
    else
        f.better(fmt::format("locked memory is limited to {} KiB: too little for AF_XDP and for NICs by VFIO", p.memlock / 1024),
                 fmt::format("ulimit -l {}; to last, in /etc/security/limits.conf: * - memlock {}", enough / 1024, enough / 1024));
    f.ok(fmt::format("hugepages: {} of {} free; none are needed", meminfo("HugePages_Free"), meminfo("HugePages_Total")));
    if (const auto free_kb = meminfo("MemAvailable"); free_kb < 64 * 1024) f.better(fmt::format("{} MiB of memory are available: little", free_kb / 1024), "end something");
    else f.ok(fmt::format("{} MiB of memory are available", free_kb / 1024));
}

void look_at_devices(findings& f, const powers& p) {
    f.about("devices");
    const auto groups = entries("/sys/kernel/iommu_groups");
    const std::string command_line = first_line("/proc/cmdline");
    if (groups != 0) f.ok(fmt::format("IOMMU: {} groups; a NIC's DMA goes to a program's memory and nowhere else", groups));
    else if (command_line.find("iommu=on") != command_line.npos)
        f.better("the kernel's command line asks for an IOMMU, and there is none: no program can drive a NIC itself", "switch VT-d or AMD-Vi on in the firmware");
    else
        f.better("no IOMMU is in use: no program can drive a NIC itself (netmap:0000:03:00.0); interfaces go through AF_XDP all the same",
                 "switch VT-d or AMD-Vi on in the firmware, and put intel_iommu=on (Intel) into the kernel's command line");
    if (!has_module(p, "vfio-pci")) f.better("the kernel has no vfio-pci", "boot a kernel with CONFIG_VFIO_PCI (distributions' have it)");
    else if (exists("/dev/vfio")) f.ok(std::string("vfio") + (exists("/dev/iommu") ? ", iommufd" : "") + ": nmctl bind gives it devices");
    else f.better("vfio-pci is not loaded", "modprobe vfio-pci; nmctl bind does it, too");
}

void look_at_programs(findings& f) {
    f.about("programs");
    const auto host = nm::sys::find_host_program();
    if (host) f.ok("nm-host: " + *host);
    else f.cannot("nm-host is not found: ports of switches and pipes cannot be shared between programs", "say where it is: export NM_LIBEXEC=DIRECTORY");
    const std::string where = nm::sys::runtime_place();
    struct stat st {};
    if (::lstat(where.c_str(), &st) != 0) {
        const std::string parent = fs::path(where).parent_path().string();
        if (::access(parent.empty() ? "." : parent.c_str(), W_OK | X_OK) == 0) return f.ok(where + ", where programs meet: made when it is needed");
        return f.cannot(where + ", where programs meet, is not there and cannot be made", "export NM_RUNTIME_DIR=$HOME/.nm");
    }
    // It is there: nothing is made.
    auto dir = nm::sys::runtime_dir::open_at(where);
    if (!dir) {
        const bool mine = S_ISDIR(st.st_mode) && st.st_uid == ::geteuid();
        return f.cannot(dir.error().text, mine ? "chmod 700 " + where : "export NM_RUNTIME_DIR=$HOME/.nm");
    }
    if (::faccessat(AT_FDCWD, where.c_str(), W_OK | X_OK, AT_EACCESS) != 0) return f.cannot(where + ", where programs meet, cannot be written to", "chmod 700 " + where);
    std::size_t alive = 0, stale = 0;
    std::error_code none;
    for (auto at = fs::directory_iterator(where, none); !none && at != fs::directory_iterator(); at.increment(none)) {
        if (at->path().extension() != ".lock") continue;
        const auto host_there = nm::sys::control_channel::connect(*dir, at->path().stem().string());
        (host_there ? alive : stale) += 1;
    }
    f.ok(fmt::format("{}, where programs meet: {} host{} running", where, alive, alive == 1 ? "" : "s"));
    if (stale != 0) f.better(fmt::format("{} host{} killed and left a socket there, which hinders nobody", stale, stale == 1 ? " was" : "s were"), "valectl");
}

void look_at_qemu(findings& f) {
    f.about("virtual machines");
#if defined(__x86_64__)
    const std::string name = "qemu-system-x86_64", package = "qemu-system-x86";
#elif defined(__aarch64__)
    const std::string name = "qemu-system-aarch64", package = "qemu-system-arm";
#else
    const std::string name = "qemu-system-x86_64", package = "qemu-system-misc";
#endif
    const auto program = in_path(name);
    if (program.empty()) return f.better("no " + name + " in PATH: no guests to pass ports through to", "apt-get install " + package);
    auto version = output_of({program, "--version"});
    version = version.substr(0, version.find('\n'));
    if (output_of({program, "-machine", "none", "-device", "help"}).find("ivshmem-doorbell") == std::string::npos)
        f.better(version + " has no ivshmem-doorbell, the device that ports are passed through by", "apt-get install " + package);
    else f.ok(version + ", with ivshmem-doorbell: ptnet-host passes ports through");
    if (!exists("/dev/kvm")) f.better("no /dev/kvm: guests run, slowly", "switch virtualization on in the firmware, and modprobe kvm_intel or kvm_amd");
    else if (!usable("/dev/kvm")) f.better("/dev/kvm is not yours to open: guests run, slowly", "sudo usermod -a -G kvm $USER, and log in anew");
    else f.ok("/dev/kvm");
}

void look_at_build(findings& f) {
    f.about("build");
    f.ok("nm " NM_VERSION_STRING ", built with "
#if defined(__clang__)
         "clang " __clang_version__
#else
         "g++ " __VERSION__
#endif
    );
    f.ok("ports: " + tool::ports::kinds());
    f.ok("pipes and VALE switches: always, without privileges");
}

}  // namespace nmctl
