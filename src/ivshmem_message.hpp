// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What goes over the socket between an ivshmem server and a client (QEMU's docs/specs/ivshmem-spec.txt).

#include <cstdint>

namespace nm::sys::ivshmem {

/// Eight bytes, little-endian as this machine is, and at most one descriptor. Returns 0, or an errno.
[[nodiscard]] int send_message(int socket, std::int64_t value, int fd) noexcept;

/// A client has nothing to say. What it sends is thrown away, and the descriptors that come with it are closed (R8). True: it spoke.
[[nodiscard]] bool spoke(int socket) noexcept;

}  // namespace nm::sys::ivshmem
