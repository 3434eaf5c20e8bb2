// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A control message as somebody else sends it: any bytes, with any number of descriptors. Returns what is wrong, or nothing.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "../../src/control_wire.hpp"

namespace nm::test {

inline std::string receive_any(std::span<const std::uint8_t> data, std::size_t fds, std::size_t allowed) {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return "no socketpair";
    const base::unique_fd ours(pair[0]), theirs(pair[1]);
    const base::unique_fd some(::dup(pair[0]));
    iovec part{const_cast<std::uint8_t*>(data.data()), data.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 253)> room{};
    msghdr h{};
    h.msg_iov = &part;
    h.msg_iovlen = 1;
    if (fds != 0) {
        h.msg_control = room.data();
        h.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
        cmsghdr* const c = CMSG_FIRSTHDR(&h);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fds);
        const std::vector<int> many(fds, some.get());
        std::memcpy(CMSG_DATA(c), many.data(), sizeof(int) * fds);
    }
    if (::sendmsg(theirs.get(), &h, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return {};
    const int first_free = [] {
        const base::unique_fd probe(::dup(0));
        return probe.get();
    }();
    {
        const auto m = sys::receive_control(ours.get(), allowed);
        if (m) {
            if (m->name.size() > sys::control_message::max_name || m->payload.size() > sys::control_message::max_payload) return "a message that is longer than one can be";
            if (m->fds.size() != fds || fds > allowed) return "another number of descriptors than was sent, or is allowed";
            // What was understood can be said again, and is the same then.
            if (!sys::send_control(theirs.get(), *m)) return "what was received cannot be sent";
            const auto again = sys::receive_control(ours.get());
            if (!again || again->type != m->type || again->sequence != m->sequence || again->status != m->status || again->name != m->name || again->payload != m->payload)
                return "a message that changes on its way";
        } else {
            const int e = m.error().code.value();
            if (e != EPROTO && e != EPROTONOSUPPORT && e != EMFILE) return "error " + std::to_string(e) + ": " + m.error().text;
            if (m.error().text.size() < 20) return "an error without a sentence";
        }
    }
    const base::unique_fd probe(::dup(0));
    return probe.get() == first_free ? "" : "descriptors are left open";
}

/// From a message that is good: the input says what is otherwise. Its first bytes: how many descriptors, how many are allowed, whether
/// the message is as long as the rest of the input.
inline std::string fuzz_control(std::span<const std::uint8_t> input) {
    if (input.size() < 4) return {};
    sys::wire::frame f{};
    f.magic = sys::wire::magic;
    f.version = sys::wire::version;
    f.name_size = 7;
    f.payload_size = 32;
    std::vector<std::uint8_t> data(sizeof f);
    std::memcpy(data.data(), &f, sizeof f);
    const auto changes = input.subspan(3);
    if (input[2] % 2 != 0) data.resize(changes.size());
    for (std::size_t i = 0; i < std::min(data.size(), changes.size()); ++i) data[i] = static_cast<std::uint8_t>(data[i] ^ changes[i]);
    return receive_any(data, input[0] % 254, input[1] % 254);
}

}  // namespace nm::test
