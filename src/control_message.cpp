// SPDX-License-Identifier: BSD-2-Clause

#include "control_wire.hpp"

namespace nm::sys {
namespace {

/// Takes what came along, also of a message that is good for nothing else.
void adopt(msghdr& h, std::vector<base::unique_fd>& fds) {
    for (cmsghdr* c = CMSG_FIRSTHDR(&h); c != nullptr; c = CMSG_NXTHDR(&h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            fds.emplace_back(fd);
        }
    }
}

}  // namespace

namespace wire {

result<void> send(int socket, const control_message& m, std::uint32_t sequence, std::span<const int> fds) noexcept {
    if (m.name.size() > control_message::max_name || m.payload.size() > control_message::max_payload || fds.size() > control_message::max_fds)
        return fail(EMSGSIZE, "a control message has up to 256 bytes of name, 1024 of payload and 253 descriptors");
    frame f{};
    f.magic = magic;
    f.version = version;
    f.type = static_cast<std::uint16_t>(m.type);
    f.sequence = sequence;
    f.status = m.status;
    f.name_size = static_cast<std::uint32_t>(m.name.size());
    f.payload_size = static_cast<std::uint32_t>(m.payload.size());
    m.name.copy(f.name.data(), m.name.size());
    m.payload.copy(f.payload.data(), m.payload.size());
    iovec part{&f, sizeof f};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * control_message::max_fds)> room{};
    msghdr h{};
    h.msg_iov = &part;
    h.msg_iovlen = 1;
    if (!fds.empty()) {
        h.msg_control = room.data();
        h.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* const c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
    }
    if (::sendmsg(socket, &h, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(sizeof f)) return {};
    const int e = errno == EPIPE || errno == ENOTCONN ? ECONNRESET : errno;
    return fail(e, e == ECONNRESET ? std::string("the other side has gone") : "cannot send a control message: " + base::errno_text(e));
}

}  // namespace wire

result<void> send_control(int socket, const control_message& m, std::span<const int> fds) noexcept {
    return wire::send(socket, m, m.sequence, fds);
}

result<control_message> receive_control(int socket, std::size_t max_fds) noexcept {
    wire::frame f{};
    iovec part{&f, sizeof f};
    // Room for all that the kernel lets pass: what is cut off would be lost, and what is not wanted is closed here.
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * control_message::max_fds) + CMSG_SPACE(sizeof(ucred))> room{};
    msghdr h{};
    h.msg_iov = &part;
    h.msg_iovlen = 1;
    h.msg_control = room.data();
    h.msg_controllen = room.size();
    ssize_t n = ::recvmsg(socket, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    // Told before what was said last, when the other side has left something unread.
    if (n < 0 && errno == ECONNRESET) n = ::recvmsg(socket, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return fail(EAGAIN, "there is no message");
    if (n < 0) return fail(errno == ECONNRESET ? ECONNRESET : errno, "cannot receive a control message: " + base::errno_text(errno));
    control_message m;
    adopt(h, m.fds);
    if (n == 0) return fail(ECONNRESET, "the other side has gone");
    constexpr std::size_t head = offsetof(wire::frame, type);
    if (static_cast<std::size_t>(n) >= head && f.magic == wire::magic && f.version != wire::version)
        return fail(EPROTONOSUPPORT, "the other side speaks version " + std::to_string(f.version) + " and this one " + std::to_string(wire::version) +
                                         ": two versions of nm are running; end the programs of the older one");
    if (n != static_cast<ssize_t>(sizeof f) || f.magic != wire::magic || (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
        f.name_size > f.name.size() || f.payload_size > f.payload.size())
        return fail(EPROTO, "the other side sent what is no message of nm");
    if (m.fds.size() > max_fds)
        return fail(EMFILE, "the other side sent " + std::to_string(m.fds.size()) + " descriptors, of which " + std::to_string(max_fds) + " are allowed");
    m.type = static_cast<control_type>(f.type);
    m.sequence = f.sequence;
    m.status = f.status;
    m.name.assign(f.name.data(), f.name_size);
    m.payload.assign(f.payload.data(), f.payload_size);
    return m;
}

}  // namespace nm::sys
