// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A Unix socket that strangers find by its path: alone there, this user's (mode 0600), and removed with its maker.

#include <string>
#include <sys/types.h>

#include "nm/base/os.hpp"

namespace nm::sys {

class named_socket {
public:
    /// Bound and not listening yet. A stale one of ours is replaced. EADDRINUSE: somebody answers at the path; EEXIST: what is there is no
    /// socket of this user's; ENAMETOOLONG.
    [[nodiscard]] static result<named_socket> bind(const std::string& path);
    named_socket(named_socket&&) noexcept = default;
    named_socket& operator=(named_socket&&) = delete;
    ~named_socket();

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }

private:
    named_socket() = default;
    base::unique_fd fd_;
    std::string path_;
    dev_t device_ = 0;  // which file is ours: somebody else's may lie there by the time
    ino_t inode_ = 0;
};

}  // namespace nm::sys
