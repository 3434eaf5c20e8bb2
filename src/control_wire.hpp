// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What a control message is between two sockets.

#include <array>
#include <cstdint>
#include <sys/socket.h>
#include <sys/un.h>

#include "nm/sys/control.hpp"

namespace nm::sys::wire {

inline constexpr std::uint32_t magic = 0x6c74636eU;  // "nctl"
inline constexpr std::uint16_t version = 1;

/// Always all of it.
struct frame {
    std::uint32_t magic;
    std::uint16_t version;
    std::uint16_t type;
    std::uint32_t sequence;
    std::int32_t status;
    std::uint32_t name_size;
    std::uint32_t payload_size;
    std::array<char, control_message::max_name> name;
    std::array<char, control_message::max_payload> payload;
};
static_assert(sizeof(frame) == 24 + 256 + 1024);

[[nodiscard]] result<void> send(int socket, const control_message& m, std::uint32_t sequence, std::span<const int> fds) noexcept;

/// The address of a socket in the directory: by its descriptor, so that neither a long path nor one that has been replaced
/// meanwhile matters.
[[nodiscard]] sockaddr_un address(int dir, std::string_view file) noexcept;

/// Who listens or connected there: this user or root, else EACCES with a sentence. The process.
[[nodiscard]] result<int> trusted_peer(int socket, std::string_view what) noexcept;

[[nodiscard]] inline std::string socket_file(std::string_view rendezvous) { return std::string(rendezvous) + ".socket"; }
[[nodiscard]] inline std::string lock_file(std::string_view rendezvous) { return std::string(rendezvous) + ".lock"; }

/// A lock on `file`: EBUSY if somebody has it. With `make` the file is made if there is none.
[[nodiscard]] result<base::unique_fd> lock(int dir, const std::string& file, bool make) noexcept;

}  // namespace nm::sys::wire
