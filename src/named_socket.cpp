// SPDX-License-Identifier: BSD-2-Clause

#include "named_socket.hpp"

#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

namespace nm::sys {

using base::errno_text;
using base::unique_fd;

namespace {

/// Whoever makes sockets in a folder does so alone, so that a stale one is not mistaken for one that was made just now.
result<unique_fd> lock_folder_of(const std::string& path) {
    const auto slash = path.find_last_of('/');
    const std::string folder = slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    unique_fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return fail(errno, "cannot open the folder of " + path + ": " + errno_text(errno));
    for (int i = 0; i < 100; ++i) {
        if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
        if (errno != EWOULDBLOCK) return fail(errno, "cannot lock " + folder + ": " + errno_text(errno));
        const timespec pause{0, 10'000'000};
        ::nanosleep(&pause, nullptr);
    }
    return fail(EAGAIN, "somebody has had " + folder + " locked for a second; try again");
}

/// A socket that its server left behind goes; one that is answered at stays, and so does what is no socket of ours.
result<void> make_room(const std::string& path, const sockaddr_un& address) {
    struct stat st {};
    if (::lstat(path.c_str(), &st) != 0) {
        if (errno == ENOENT) return {};
        return fail(errno, "cannot look at " + path + ": " + errno_text(errno));
    }
    if (!S_ISSOCK(st.st_mode) || st.st_uid != ::geteuid())
        return fail(EEXIST, path + " is there and is no socket of this user's; give another name, or remove it");
    const unique_fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) return fail(errno, "cannot make a socket: " + errno_text(errno));
    const bool refused = ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 && errno == ECONNREFUSED;
    if (!refused) return fail(EADDRINUSE, "a server is at " + path + " already; end it, or give another name");
    if (::unlink(path.c_str()) != 0) return fail(errno, "cannot remove the stale socket " + path + ": " + errno_text(errno));
    return {};
}

}  // namespace

result<named_socket> named_socket::bind(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return fail(ENAMETOOLONG, "a socket's path has 1 to " + std::to_string(sizeof address.sun_path - 1) + " characters; this one has " +
                                      std::to_string(path.size()));
    std::memcpy(address.sun_path, path.data(), path.size());
    auto alone = lock_folder_of(path);
    if (!alone) return forward_error(alone);
    if (auto r = make_room(path, address); !r) return forward_error(r);
    unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // Before bind: the file is made with this mode (unix(7) is silent; it is how Linux does it), and never has another.
    if (!fd || ::fchmod(fd.get(), 0600) != 0) return fail(errno, "cannot make a socket: " + errno_text(errno));
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return fail(errno, "cannot make the socket " + path + ": " + errno_text(errno));
    named_socket made;
    made.fd_ = std::move(fd);
    made.path_ = path;
    struct stat st {};
    if (::lstat(path.c_str(), &st) == 0) made.device_ = st.st_dev, made.inode_ = st.st_ino;
    return made;
}

named_socket::~named_socket() {
    if (!fd_) return;
    struct stat st {};
    if (::lstat(path_.c_str(), &st) == 0 && st.st_dev == device_ && st.st_ino == inode_) (void)::unlink(path_.c_str());
}

}  // namespace nm::sys
