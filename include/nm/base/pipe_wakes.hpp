// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Wake-ups between processes that need not believe each other. An eventfd would not do: whether a read or write of it waits is a flag of
// the open file, which both would share, and the other side could make one of our syncs wait for ever (rule R6). A kernel's pipe
// can be opened again: each side has an open file of its own. pipe(7), proc(5).

#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "nm/base/os.hpp"

namespace nm::pipe_wakes {

/// One that can be handed over.
[[nodiscard]] inline result<base::unique_fd> make() {
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return fail(errno, "cannot make a pipe: " + base::errno_text(errno) + " (raise `ulimit -n`?)");
    const base::unique_fd write(ends[1]);
    return base::unique_fd(ends[0]);
}

/// An open file of this process's own, to read and to write: with no reader but us there is no SIGPIPE. EINVAL for what is no pipe.
[[nodiscard]] inline result<base::unique_fd> reopen(const base::unique_fd& given) {
    struct stat st {};
    if (::fstat(given.get(), &st) != 0 || !S_ISFIFO(st.st_mode)) return fail(EINVAL, "what was handed over to be woken by is not a pipe");
    base::unique_fd fd(::open(("/proc/self/fd/" + std::to_string(given.get())).c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!fd) return fail(errno, "cannot open a pipe again: " + base::errno_text(errno) + " (is /proc mounted?)");
    return fd;
}

[[nodiscard]] inline result<std::vector<base::unique_fd>> reopen(const std::vector<base::unique_fd>& given) {
    std::vector<base::unique_fd> own;
    for (const auto& g : given) {
        auto fd = reopen(g);
        if (!fd) return forward_error(fd);
        own.push_back(std::move(*fd));
    }
    return own;
}

}  // namespace nm::pipe_wakes
