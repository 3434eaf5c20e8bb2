// SPDX-License-Identifier: BSD-2-Clause
#include "probe.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nm/base/os.hpp"
#include "nm/clock.hpp"

extern char** environ;

namespace nmctl {
namespace {

using nm::base::unique_fd;

[[nodiscard]] bool effective(unsigned capability) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> data{};
    if (::syscall(SYS_capget, &header, data.data()) != 0) return false;
    return (data[capability / 32].effective >> capability % 32 & 1U) != 0;
}

/// A capability counts for a network namespace when it is held in the user namespace that owns it.
[[nodiscard]] bool owns_network() {
    const unique_fd net(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!net) return true;
    const unique_fd owner(::ioctl(net.get(), NS_GET_USERNS));
    if (!owner) return errno != EPERM;  // EPERM: it belongs to somebody outside
    struct stat theirs {}, mine {};
    if (::fstat(owner.get(), &theirs) != 0 || ::stat("/proc/self/ns/user", &mine) != 0) return true;
    return theirs.st_ino == mine.st_ino;
}

[[nodiscard]] bool may_load_bpf() {
    // r0 = XDP_PASS; exit. It is attached nowhere, and gone with its descriptor.
    std::array<bpf_insn, 2> program{{{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 2}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}}};
    bpf_attr a;
    std::memset(&a, 0, sizeof a);
    a.prog_type = BPF_PROG_TYPE_XDP;
    a.insns = reinterpret_cast<std::uint64_t>(program.data());
    a.insn_cnt = program.size();
    a.license = reinterpret_cast<std::uint64_t>("BSD");
    const unique_fd fd(static_cast<int>(::syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof a)));
    return static_cast<bool>(fd);
}

// ---- generic netlink: one question, one answer

constexpr std::size_t attribute_header = sizeof(nlattr);  // NLA_HDRLEN, without its signs

class question {
public:
    question(std::uint16_t family, std::uint8_t command) {
        auto& h = at<nlmsghdr>(0);
        h.nlmsg_type = family;
        h.nlmsg_flags = NLM_F_REQUEST;
        h.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
        at<genlmsghdr>(NLMSG_HDRLEN).cmd = command;
        at<genlmsghdr>(NLMSG_HDRLEN).version = 1;
    }
    void add(std::uint16_t type, const void* data, std::size_t size) {
        auto& h = at<nlmsghdr>(0);
        const std::size_t offset = NLMSG_ALIGN(h.nlmsg_len);
        at<nlattr>(offset) = {static_cast<std::uint16_t>(attribute_header + size), type};
        std::memcpy(bytes_.data() + offset + attribute_header, data, size);
        h.nlmsg_len = static_cast<std::uint32_t>(offset + attribute_header + size);
    }
    /// The attribute of that type in the answer, as far as it goes.
    template <class T>
    [[nodiscard]] std::optional<T> ask(std::uint16_t wanted) {
        const unique_fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
        const timeval limit{2, 0};
        if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) return std::nullopt;
        if (::send(fd.get(), bytes_.data(), at<nlmsghdr>(0).nlmsg_len, 0) < 0) return std::nullopt;
        alignas(8) std::array<std::byte, 8192> in{};
        const ssize_t n = ::recv(fd.get(), in.data(), in.size(), 0);
        nlmsghdr h{};
        if (n < static_cast<ssize_t>(NLMSG_LENGTH(GENL_HDRLEN))) return std::nullopt;
        std::memcpy(&h, in.data(), sizeof h);
        if (h.nlmsg_type == NLMSG_ERROR) return std::nullopt;
        const std::size_t end = std::min<std::size_t>(static_cast<std::size_t>(n), h.nlmsg_len);
        for (std::size_t o = NLMSG_LENGTH(GENL_HDRLEN); o + attribute_header <= end;) {
            nlattr a{};
            std::memcpy(&a, in.data() + o, sizeof a);
            if (a.nla_len < attribute_header || o + a.nla_len > end) break;
            if ((a.nla_type & NLA_TYPE_MASK) == wanted && a.nla_len >= attribute_header + sizeof(T)) {
                T v;
                std::memcpy(&v, in.data() + o + attribute_header, sizeof v);
                return v;
            }
            o += (a.nla_len + 3U) & ~3U;
        }
        return std::nullopt;
    }

private:
    template <class T>
    [[nodiscard]] T& at(std::size_t offset) { return *reinterpret_cast<T*>(bytes_.data() + offset); }
    alignas(8) std::array<std::byte, 256> bytes_{};
};

}  // namespace

powers look_at_powers() {
    powers p;
    utsname u{};
    if (::uname(&u) == 0) {
        p.kernel.release = u.release;
        (void)std::sscanf(u.release, "%u.%u", &p.kernel.major, &p.kernel.minor);
    }
    p.root = ::geteuid() == 0;
    const unique_fd packet(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));  // of no protocol: it hears nothing
    p.net_raw = static_cast<bool>(packet);
    p.net_admin = effective(CAP_NET_ADMIN) && owns_network();
    p.bpf = may_load_bpf();
    p.ipc_lock = effective(CAP_IPC_LOCK);
    const unique_fd xdp(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
    p.has_af_xdp = xdp || errno == EPERM;
    rlimit locked{};
    p.memlock = ::getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_cur != RLIM_INFINITY ? locked.rlim_cur : ~std::uint64_t{0};
    return p;
}

std::optional<bool> has_zero_copy(unsigned index) {
    // linux/netdev.h, which Debian 12 has not.
    constexpr std::uint8_t dev_get = 1;
    constexpr std::uint16_t ifindex = 1, xdp_features = 3;
    constexpr std::uint64_t zero_copy = 8;
    question family(GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
    family.add(CTRL_ATTR_FAMILY_NAME, "netdev", 7);
    const auto id = family.ask<std::uint16_t>(CTRL_ATTR_FAMILY_ID);
    if (!id) return std::nullopt;
    question device(*id, dev_get);
    const std::uint32_t i = index;
    device.add(ifindex, &i, sizeof i);
    const auto features = device.ask<std::uint64_t>(xdp_features);
    if (!features) return std::nullopt;
    return (*features & zero_copy) != 0;
}

std::vector<std::string> claims_on(unsigned index) {
    std::vector<std::string> found;
    const std::string mine = "@nm/interface/" + std::to_string(index);
    std::ifstream all("/proc/net/unix");
    for (std::string line; std::getline(all, line);) {
        const auto at = line.find(mine);
        if (at == line.npos) continue;
        const std::string rest = line.substr(at + mine.size());
        if (rest.empty() || rest[0] == '/') found.push_back(rest);
    }
    return found;
}

std::string first_line(const std::string& path) {
    std::ifstream f(path);
    std::string line;
    std::getline(f, line);
    return line;
}

std::string in_path(const std::string& program) {
    const char* const path = std::getenv("PATH");
    std::string_view all = path != nullptr ? path : "/usr/bin:/bin";
    while (!all.empty()) {
        const auto end = std::min(all.find(':'), all.size());
        const std::string candidate = std::string(all.substr(0, end)) + "/" + program;
        if (candidate[0] == '/' && ::access(candidate.c_str(), X_OK) == 0) return candidate;
        all.remove_prefix(std::min(end + 1, all.size()));
    }
    return {};
}

std::string output_of(const std::vector<std::string>& command) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return {};
    const unique_fd ours(ends[0]);
    unique_fd theirs(ends[1]);
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&files, theirs.get(), 1);
    ::posix_spawn_file_actions_adddup2(&files, theirs.get(), 2);
    std::vector<char*> argv;
    for (const auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    pid_t pid = 0;
    const int failed = ::posix_spawn(&pid, command[0].c_str(), &files, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&files);
    if (failed != 0) return {};
    theirs.reset();
    std::string text;
    const auto until = nm::system_clock::now_ns() + 10'000'000'000;
    for (;;) {
        const auto now = nm::system_clock::now_ns();
        pollfd fd{ours.get(), POLLIN, 0};
        std::array<char, 4096> bytes;
        if (now >= until || ::poll(&fd, 1, static_cast<int>((until - now) / 1'000'000 + 1)) <= 0) {
            ::kill(pid, SIGKILL);
            break;
        }
        const ssize_t n = ::read(ours.get(), bytes.data(), bytes.size());
        if (n <= 0) break;
        if (text.size() < 1'000'000) text.append(bytes.data(), static_cast<std::size_t>(n));
    }
    (void)::waitpid(pid, nullptr, 0);
    return text;
}

}  // namespace nmctl
