// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The host's end of QEMU's ivshmem-doorbell: a socket that hands a piece of memory, and descriptors to ring each other by, to
// the virtual machines that connect. Nothing here waits for a client, and nothing that a client does lasts longer than it.
// Source: QEMU's docs/specs/ivshmem-spec.txt, protocol version 0.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nm/base/os.hpp"
#include "nm/result.hpp"

namespace nm::sys {

struct ivshmem_options {
    std::string path;        ///< where the socket is made (mode 0600); a stale one of ours is replaced
    int memory = -1;         ///< sealed against shrinking, its size a power of two: it becomes a BAR. Stays the caller's, as all these
    std::vector<int> kicks;  ///< eventfds by which guests ring the host: vector v of peer 0
    std::vector<int> irqs;   ///< eventfds by which the host rings the first guest: its MSI-X vector v
    /// Guests at a time. One is normal: it then has what is in the memory to itself. More see each other's writes and may ring each
    /// other; those after the first are rung by eventfds of the server's own (irq_fd).
    unsigned guests = 1;
    bool other_users = false;           ///< a QEMU of another user may connect, if it may open the socket at all
    unsigned handshake_ms = 5000;       ///< a client that has not taken what it was sent by then is dropped
};

struct ivshmem_event {
    enum class kind { joined, left } what = kind::joined;
    unsigned peer = 0;  ///< 1 is the first guest
    int pid = 0;        ///< of the process that connected
};

/// What has become of those who connected.
struct ivshmem_counters {
    std::uint64_t joined = 0, left = 0;
    std::uint64_t full = 0;       ///< refused: there were guests enough, or the last one's process still had the memory
    std::uint64_t strangers = 0;  ///< refused: other users
    std::uint64_t dropped = 0;    ///< guests that said something (QEMU never does), or did not take what they were sent
};

/// One thread at a time.
class ivshmem_server {
public:
    /// EADDRINUSE when another server is at that path, EEXIST when what is there is no socket of this user's, EINVAL for memory that is
    /// no BAR, EPERM for memory that is not sealed.
    [[nodiscard]] static result<ivshmem_server> listen(ivshmem_options options);
    ivshmem_server(ivshmem_server&&) noexcept;
    ivshmem_server& operator=(ivshmem_server&&) noexcept;
    ~ivshmem_server();  ///< guests that are there keep the memory; QEMU does not connect again

    /// Readable when poll() has something to do.
    [[nodiscard]] int fd() const noexcept;
    /// Does some of what there is to do, and says what happened; nothing when all is done. A guest that has `left` may have its memory
    /// still, until its process is gone: nobody else is let in before.
    [[nodiscard]] std::optional<ivshmem_event> poll() noexcept;

    [[nodiscard]] unsigned guests() const noexcept;  ///< connected now
    [[nodiscard]] const ivshmem_counters& counters() const noexcept;
    /// By what guest `peer` (1 and up) is rung; -1 for a peer or a vector that there cannot be.
    [[nodiscard]] int irq_fd(unsigned peer, unsigned vector) const noexcept;
    [[nodiscard]] const std::string& path() const noexcept;

private:
    struct state;
    explicit ivshmem_server(std::unique_ptr<state> s) noexcept;
    std::unique_ptr<state> s_;
};

}  // namespace nm::sys
