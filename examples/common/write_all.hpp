// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <unistd.h>

#include "common/failure.hpp"

#include "nm/base/os.hpp"

namespace tool {

/// Writes all of it or throws the sentence. `name` is how the file is called there.
inline void write_all(int fd, std::span<const std::uint8_t> bytes, const std::string& name) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd, bytes.data(), bytes.size());
        if (n > 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(n));
        } else if (errno != EINTR) {
            throw run_error("cannot write to " + name + ": " +
                            (errno == EPIPE ? std::string("who was to read it has gone") : nm::base::errno_text(errno)));
        }
    }
}

}  // namespace tool
