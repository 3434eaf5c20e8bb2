// SPDX-License-Identifier: BSD-2-Clause
#include "support/nm_test.hpp"

#include <cstdio>
#include <fcntl.h>
#include <linux/if.h>
#include <sched.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

namespace nm::test {

bool is_root() { return geteuid() == 0; }

std::string enter_namespaces() {
    if (!is_root()) return "needs root for network namespaces; run: sudo ctest --test-dir <build directory> -L scenario";
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0) return "this machine allows no network namespaces (unshare failed)";
    // Nothing mounted from here on may reach the machine, and `ip netns` keeps its names where they die with us.
    if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return "cannot make the mounts private";
    (void)mount("nm-tests", "/run", "tmpfs", 0, "mode=0755");
    // /sys/class/net shows the namespace of whoever mounted it.
    (void)mount("nm-tests", "/sys", "sysfs", 0, nullptr);
    (void)mount("nm-tests", "/sys/fs/bpf", "bpf", 0, nullptr);

    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::snprintf(request.ifr_name, sizeof request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    const bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    if (fd >= 0) close(fd);
    return up ? std::string() : "cannot bring up lo in the new namespace";
}

}  // namespace nm::test
