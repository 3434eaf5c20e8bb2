// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// How processes meet. Names rendezvous as sockets in a runtime directory of the user's; behind each is one host program,
// elected by a lock, which whoever needs it starts. A message has one size and brings descriptors along. Whatever comes
// from the other side may be anything (rules R5 to R8 of docs/architecture.md): it is checked here, and descriptors that
// nobody asked for are closed before anything else is looked at. Every wait is bounded. unix(7), cmsg(3).

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nm/base/os.hpp"
#include "nm/result.hpp"

namespace nm::sys {

/// The directory that sockets are in: $NM_RUNTIME_DIR, else nm in $XDG_RUNTIME_DIR if that is this user's, else /run/nm for
/// root and /tmp/nm-UID for others. Only its owner may look into it.
class runtime_dir {
public:
    /// Makes it if there is none. EACCES when it is somebody else's, a link, or open to others: nothing in it can be trusted.
    [[nodiscard]] static result<runtime_dir> open() noexcept;
    [[nodiscard]] static result<runtime_dir> open_at(const std::string& path) noexcept;

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }  ///< the directory that was checked, whatever its name leads to now
    /// Names that have a host now, sorted. Removes what hosts that were killed have left.
    [[nodiscard]] std::vector<std::string> hosted() const noexcept;

private:
    std::string path_;
    base::unique_fd fd_;
};

/// EINVAL unless `name` may be the name of a rendezvous: 1 to 64 letters, digits, '_', '-', '.', not beginning with '.'.
[[nodiscard]] result<void> check_rendezvous(std::string_view name) noexcept;

enum class control_type : std::uint16_t {
    open = 1,      ///< name: a port; payload: port_wish. Answer: payload port_words, descriptors: memory, kicks, irqs
    claim = 2,     ///< name: what is in custody; payload: claim_words, then the claimant's. Answer: claim_words, then what is kept
    update = 3,    ///< name: what is in custody; payload: what is kept from now on. By who holds an end of it
    release = 4,   ///< name: what is in custody; payload: claim_words
    command = 5,   ///< payload: text. Answer: text
    answer = 16,   ///< to the request of the same sequence (0: to any, before the end); status: an errno with a sentence as payload, or 0
    event = 17,    ///< unasked. name: what is in custody; payload: claim_words of the other end
};

struct control_message {
    static constexpr std::size_t max_name = 256, max_payload = 1024, max_fds = 253;  // SCM_MAX_FD

    control_type type = control_type::command;
    std::uint32_t sequence = 0;  ///< of a request: not 0
    std::int32_t status = 0;
    std::string name;     ///< up to max_name bytes
    std::string payload;  ///< up to max_payload bytes
    std::vector<base::unique_fd> fds;

    template <class T>
    void put(const T& words) {
        payload.append(reinterpret_cast<const char*>(&words), sizeof words);
    }
    /// The words at the beginning of the payload, if it is long enough for them.
    template <class T>
    [[nodiscard]] std::optional<T> words() const noexcept {
        if (payload.size() < sizeof(T)) return std::nullopt;
        T out;
        std::memcpy(&out, payload.data(), sizeof out);
        return out;
    }
};

/// Sends a message and duplicates of `fds`. Never waits: EAGAIN when the other side does not read.
[[nodiscard]] result<void> send_control(int socket, const control_message& m, std::span<const int> fds = {}) noexcept;
/// Receives one. Never waits: EAGAIN when there is none. ECONNRESET: the other side has gone. EPROTONOSUPPORT: it is of another
/// version of nm. EPROTO: this is no message. More than `max_fds` descriptors: EMFILE. After an error none of them is open.
[[nodiscard]] result<control_message> receive_control(int socket, std::size_t max_fds = control_message::max_fds) noexcept;

using milliseconds = std::chrono::milliseconds;

/// A client's connection to the host of one name. When it is closed, however that comes, the host closes what was opened through it.
class control_channel {
public:
    /// ENOENT: that name has no host. EACCES: what listens there is another user's.
    [[nodiscard]] static result<control_channel> connect(const runtime_dir& dir, std::string_view rendezvous) noexcept;
    explicit control_channel(base::unique_fd socket) noexcept : socket_(std::move(socket)) {}

    /// Asks and waits for the answer. An answer with a status is an error with the host's sentence; ECONNRESET: the host has
    /// gone; ETIMEDOUT: it does not answer.
    [[nodiscard]] result<control_message> ask(const control_message& request, std::span<const int> fds = {}, milliseconds timeout = milliseconds(2000)) noexcept;
    /// What the host says unasked, oldest first, if there is anything. Never waits.
    [[nodiscard]] std::optional<control_message> event() noexcept;
    /// Whether the host is there still. Never waits.
    [[nodiscard]] bool alive() noexcept;

    /// Readable when there is an event, or the host has gone.
    [[nodiscard]] int fd() const noexcept { return socket_.get(); }
    [[nodiscard]] base::unique_fd release() noexcept { return std::move(socket_); }

private:
    void keep(control_message m) noexcept;

    base::unique_fd socket_;
    std::uint32_t sequence_ = 0;
    std::deque<control_message> events_;
    bool gone_ = false;
};

struct reach_options {
    bool start = true;                 ///< a host program where there is none
    milliseconds timeout{2000};        ///< for all of it
    std::string program;               ///< empty: nm-host in $NM_LIBEXEC, beside this program, or where that is installed
};

/// A connection to the host of a name, which is started if need be. ENOENT: there is none, or its program is not found.
[[nodiscard]] result<control_channel> reach_host(const runtime_dir& dir, std::string_view rendezvous, const reach_options& o = {}) noexcept;

struct hosted_answer {
    control_channel channel;
    control_message answer;
};
/// Reaches the host and asks it; once more of a new one when the old was just ending.
[[nodiscard]] result<hosted_answer> ask_host(std::string_view rendezvous, const control_message& request, std::span<const int> fds = {},
                                             const reach_options& o = {}) noexcept;

/// How a port is wanted, beyond what its name says. 0: as the host likes.
struct port_wish {
    std::uint32_t tx_rings = 0, rx_rings = 0, tx_slots = 0, rx_slots = 0, extra_bufs = 0;
    std::uint32_t vnet_hdr = 0;  ///< bytes
    std::uint32_t exclusive = 0;
    std::uint32_t eventfds = 0;  ///< 1: irqs are to be eventfds, for KVM; they cost more
};
struct port_words {
    std::uint64_t size = 0;     ///< bytes of the memory
    std::uint32_t port = 0;     ///< which of its directory
    std::uint32_t vectors = 0;  ///< kicks, and as many interrupts
};
/// A port that a host serves to this process.
struct port_grant {
    control_channel channel;  ///< closing it closes the port
    base::unique_fd memory;   ///< sealed; to be mapped by base::map_sealed(memory, words.size)
    port_words words;
    std::vector<base::unique_fd> kicks;  ///< per vector, an eventfd that wakes the host
    std::vector<base::unique_fd> irqs;   ///< per vector, a pipe that the host signals (to be reopened: base/pipe_wakes.hpp), or an eventfd
};
/// Opens a port by the host of `rendezvous` ("vale1" for "vale1:a").
[[nodiscard]] result<port_grant> open_at_host(std::string_view rendezvous, std::string_view port, const port_wish& wish = {},
                                              const reach_options& o = {}) noexcept;

/// Custody: a host keeps bytes and descriptors under a name for two ends that may come and go, each held by one connection.
struct claim_words {
    std::uint32_t end = 0;     ///< 0 or 1
    std::uint32_t made = 0;    ///< answer: 1: what this claimant brought is kept from now on, there was nothing
    std::uint32_t other = 0;   ///< answer, event: 1: the other end is held by somebody
    std::uint32_t reserved = 0;
};
struct custody {
    control_channel channel;  ///< closing it gives the end back
    claim_words words;
    std::string payload;
    std::vector<base::unique_fd> fds;
};
/// Claims an end of `name`, bringing what is to be kept if nothing is: at most 1008 bytes and 64 descriptors (empty: ENOENT if
/// nothing is kept). EBUSY: somebody holds that end. What is kept lasts as long as an end is held.
[[nodiscard]] result<custody> claim_at_host(std::string_view rendezvous, std::string_view name, unsigned end, std::string_view payload,
                                            std::span<const int> fds, const reach_options& o = {}) noexcept;

}  // namespace nm::sys
