// SPDX-License-Identifier: BSD-2-Clause

#include "find_namespace.hpp"

#include <algorithm>
#include <dirent.h>
#include <fcntl.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <sys/stat.h>
#include <vector>

#include "netlink.hpp"

namespace nm::sys {
namespace {

/// The id by which this namespace knows the one behind `netns`, or -1.
std::int32_t namespace_id(int rtnetlink, int netns) noexcept {
    netlink::message m;
    rtgenmsg g{};
    m.begin(RTM_GETNSID, NLM_F_REQUEST | NLM_F_ACK, 1, g);
    m.put_u32(NETNSA_FD, static_cast<std::uint32_t>(netns));
    m.end();
    std::int32_t id = -1;
    (void)netlink::transact(rtnetlink, m, 1, [&](const nlmsghdr&, const std::byte* body, std::size_t size) {
        const auto skip = netlink::align(sizeof(rtgenmsg));
        if (size < skip) return;
        netlink::for_each_attribute(body + skip, size - skip,
                                    [&](std::uint16_t type, const std::byte* p, std::size_t n) {
                                        if (type == NETNSA_NSID) id = netlink::read_as<std::int32_t>(p, n);
                                    });
    });
    return id;
}

}  // namespace

// A namespace is found by a name in /run/netns or by a process that lives in it. Each is asked once, by its inode.
std::string find_namespace(std::int32_t wanted) {
    auto rtnetlink = netlink::open(NETLINK_ROUTE);
    if (!rtnetlink) return {};
    std::vector<ino_t> seen;
    const auto is_it = [&](const std::string& path) {
        const base::unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        struct stat st{};
        if (!fd || ::fstat(fd.get(), &st) != 0) return false;
        if (std::find(seen.begin(), seen.end(), st.st_ino) != seen.end()) return false;
        seen.push_back(st.st_ino);
        return namespace_id(rtnetlink->get(), fd.get()) == wanted;
    };
    const auto search = [&](const char* folder, const char* tail) -> std::string {
        DIR* dir = ::opendir(folder);
        if (dir == nullptr) return {};
        std::string found;
        while (const dirent* entry = ::readdir(dir)) {
            if (entry->d_name[0] == '.' || (*tail != '\0' && (entry->d_name[0] < '0' || entry->d_name[0] > '9')))
                continue;
            auto path = std::string(folder) + "/" + entry->d_name + tail;
            if (is_it(path)) {
                found = std::move(path);
                break;
            }
        }
        ::closedir(dir);
        return found;
    };
    auto found = search("/run/netns", "");
    return found.empty() ? search("/proc", "/ns/net") : found;
}

}  // namespace nm::sys
