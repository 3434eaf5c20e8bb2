// SPDX-License-Identifier: BSD-2-Clause

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <sys/file.h>

#include "control_wire.hpp"

#include "nm/sys/control_places.hpp"

namespace nm::sys {
namespace {

bool same_file(int fd, int dir, const std::string& file) noexcept {
    struct stat mine {}, there {};
    return ::fstat(fd, &mine) == 0 && ::fstatat(dir, file.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 && mine.st_ino == there.st_ino &&
           mine.st_dev == there.st_dev;
}

}  // namespace

std::string runtime_place() {
    // Not for a program that has more rights than who started it.
    if (const char* there = ::secure_getenv("NM_RUNTIME_DIR"); there != nullptr && *there != 0) return there;
    struct stat st {};
    // `su` leaves the variable of whoever called it.
    if (const char* x = ::secure_getenv("XDG_RUNTIME_DIR"); x != nullptr && *x == '/' && ::stat(x, &st) == 0 && st.st_uid == ::geteuid())
        return std::string(x) + "/nm";
    if (::geteuid() == 0) return "/run/nm";
    return "/tmp/nm-" + std::to_string(::geteuid());
}

result<runtime_dir> runtime_dir::open() noexcept { return open_at(runtime_place()); }

result<runtime_dir> runtime_dir::open_at(const std::string& path) noexcept {
    constexpr const char* other = "; or name another directory in NM_RUNTIME_DIR";
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        return fail(errno, "cannot make the directory " + path + " that programs meet in: " + base::errno_text(errno) + other);
    runtime_dir d;
    d.path_ = path;
    d.fd_.reset(::open(path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!d.fd_) {
        const int e = errno;
        if (e == ELOOP || e == ENOTDIR)
            return fail(EACCES, path + ", which programs meet in, is not a directory but a link or a file: somebody may have laid it there; remove it" + other);
        return fail(e, "cannot open the directory " + path + " that programs meet in: " + base::errno_text(e) + other);
    }
    struct stat st {};
    if (::fstat(d.fd(), &st) != 0) return fail(errno, path + ": " + base::errno_text(errno));
    if (st.st_uid != ::geteuid())
        return fail(EACCES, path + ", which programs meet in, belongs to user " + std::to_string(st.st_uid) + " and not to you (" +
                                std::to_string(::geteuid()) + "): what is in it cannot be trusted" + other);
    if ((st.st_mode & 077) != 0) return fail(EACCES, path + ", which programs meet in, is open to other users; chmod 700 " + path + other);
    return d;
}

std::vector<std::string> runtime_dir::hosted() const noexcept {
    std::vector<std::string> names;
    const int listed = ::openat(fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* const all = listed >= 0 ? ::fdopendir(listed) : nullptr;
    if (all == nullptr) return names;
    constexpr std::string_view suffix = ".lock";
    while (const dirent* e = ::readdir(all)) {
        std::string_view file = e->d_name;
        if (!file.ends_with(suffix)) continue;
        const std::string name(file.substr(0, file.size() - suffix.size()));
        if (!check_rendezvous(name)) continue;
        if (auto mine = wire::lock(fd(), e->d_name, false)) {  // nobody is the host: it was killed
            ::unlinkat(fd(), wire::socket_file(name).c_str(), 0);
            ::unlinkat(fd(), e->d_name, 0);
        } else if (mine.error().code.value() == EBUSY) {
            names.push_back(name);
        }
    }
    ::closedir(all);
    std::sort(names.begin(), names.end());
    return names;
}

result<void> check_rendezvous(std::string_view name) noexcept {
    const auto good = [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-' || c == '.';
    };
    if (!name.empty() && name.size() <= 64 && name[0] != '.' && std::all_of(name.begin(), name.end(), good)) return {};
    return fail(EINVAL, "\"" + std::string(name.substr(0, 80)) + "\" is no name to meet under: up to 64 letters, digits, '_', '-' and '.'");
}

namespace wire {

sockaddr_un address(int dir, std::string_view file) noexcept {
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    std::snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%.*s", dir, static_cast<int>(file.size()), file.data());
    return a;
}

result<int> trusted_peer(int socket, std::string_view what) noexcept {
    ucred c{};
    socklen_t size = sizeof c;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &c, &size) != 0 || size != sizeof c)
        return fail(EACCES, std::string(what) + ": it cannot be known whose process that is: " + base::errno_text(errno));
    if (c.uid != ::geteuid() && c.uid != 0)
        return fail(EACCES, std::string(what) + " is a process of user " + std::to_string(c.uid) + "; only your own and root's are trusted");
    return static_cast<int>(c.pid);
}

result<base::unique_fd> lock(int dir, const std::string& file, bool make) noexcept {
    // Who ends removes the file: a lock on one that has no name any more elects nobody.
    for (int tries = 0; tries < 16; ++tries) {
        base::unique_fd fd(::openat(dir, file.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0), 0600));
        if (!fd) return fail(errno, "cannot open the lock " + file + ": " + base::errno_text(errno));
        if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return fail(errno == EWOULDBLOCK ? EBUSY : errno, file + " is locked by another process");
        if (same_file(fd.get(), dir, file)) return fd;
    }
    return fail(EBUSY, file + " comes and goes; try again");
}

}  // namespace wire
}  // namespace nm::sys
