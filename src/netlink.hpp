// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Netlink by hand, for the helper only: messages are built in a vector, answers are walked in place.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <linux/netlink.h>
#include <string_view>
#include <sys/socket.h>
#include <vector>

#include "nm/base/os.hpp"

namespace nm::sys::netlink {

inline constexpr std::size_t align(std::size_t n) noexcept { return (n + 3U) & ~std::size_t{3}; }

/// Several messages in a row, each with nested attributes.
class message {
public:
    template <class Header>
    void begin(std::uint16_t type, std::uint16_t flags, std::uint32_t seq, const Header& header) {
        pad();
        start_ = bytes_.size();
        nlmsghdr h{};
        h.nlmsg_type = type;
        h.nlmsg_flags = flags;
        h.nlmsg_seq = seq;
        append(&h, sizeof h);
        append(&header, sizeof header);
        pad();
    }
    void end() {
        pad();
        const auto length = static_cast<std::uint32_t>(bytes_.size() - start_);
        std::memcpy(bytes_.data() + start_, &length, sizeof length);
    }
    void put(std::uint16_t type, const void* data, std::size_t size) {
        const nlattr a{static_cast<std::uint16_t>(sizeof(nlattr) + size), type};
        append(&a, sizeof a);
        append(data, size);
        pad();
    }
    void put_string(std::uint16_t type, std::string_view text) {
        std::vector<char> z(text.begin(), text.end());
        z.push_back('\0');
        put(type, z.data(), z.size());
    }
    void put_u32(std::uint16_t type, std::uint32_t value) { put(type, &value, sizeof value); }
    [[nodiscard]] std::size_t nest(std::uint16_t type) {
        const auto at = bytes_.size();
        put(static_cast<std::uint16_t>(type | NLA_F_NESTED), nullptr, 0);
        return at;
    }
    void end_nest(std::size_t at) {
        const auto length = static_cast<std::uint16_t>(bytes_.size() - at);
        std::memcpy(bytes_.data() + at, &length, sizeof length);
    }
    [[nodiscard]] const void* data() const noexcept { return bytes_.data(); }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }

private:
    void append(const void* data, std::size_t size) {
        const auto* p = static_cast<const std::byte*>(data);
        if (size != 0) bytes_.insert(bytes_.end(), p, p + size);
    }
    void pad() { bytes_.resize(align(bytes_.size())); }

    std::vector<std::byte> bytes_;
    std::size_t start_ = 0;
};

/// Calls fn(type, data, size) for every attribute in [p, p + size).
template <class Fn>
void for_each_attribute(const std::byte* p, std::size_t size, Fn fn) {
    while (size >= sizeof(nlattr)) {
        nlattr a;
        std::memcpy(&a, p, sizeof a);
        if (a.nla_len < sizeof a || a.nla_len > size) return;
        fn(static_cast<std::uint16_t>(a.nla_type & NLA_TYPE_MASK), p + sizeof a, a.nla_len - sizeof a);
        const auto step = align(a.nla_len);
        if (step >= size) return;
        p += step;
        size -= step;
    }
}

template <class T>
[[nodiscard]] T read_as(const std::byte* p, std::size_t size) noexcept {
    T value{};
    std::memcpy(&value, p, size < sizeof value ? size : sizeof value);
    return value;
}

[[nodiscard]] inline std::string read_string(const std::byte* p, std::size_t size) {
    const auto* c = reinterpret_cast<const char*>(p);
    return std::string(c, ::strnlen(c, size));
}

/// Calls fn(header, body, body_size) for every message in a datagram; stops when fn returns false.
template <class Fn>
void for_each_message(const std::byte* p, std::size_t size, Fn fn) {
    while (size >= sizeof(nlmsghdr)) {
        nlmsghdr h;
        std::memcpy(&h, p, sizeof h);
        if (h.nlmsg_len < sizeof h || h.nlmsg_len > size) return;
        if (!fn(h, p + sizeof h, h.nlmsg_len - sizeof h)) return;
        const auto step = align(h.nlmsg_len);
        if (step >= size) return;
        p += step;
        size -= step;
    }
}

[[nodiscard]] inline result<base::unique_fd> open(int protocol, std::uint32_t groups = 0) {
    base::unique_fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
    if (!fd) return fail(errno, "cannot open a netlink socket: " + base::errno_text(errno));
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = groups;
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return fail(errno, "cannot bind a netlink socket: " + base::errno_text(errno));
    // Nothing the kernel says may make us wait for ever.
    const timeval limit{2, 0};
    (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

/// Sends `m` and hands every answer to fn(header, body, size) until `answers` acknowledgements (or the end of a dump)
/// were seen. Returns 0, or the first errno the kernel answered with.
template <class Fn>
[[nodiscard]] int transact(int fd, const message& m, int answers, Fn fn) {
    if (::send(fd, m.data(), m.size(), 0) < 0) return errno;
    std::vector<std::byte> buffer(64 * 1024);
    int first_error = 0;
    while (answers > 0) {
        const auto n = ::recv(fd, buffer.data(), buffer.size(), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return first_error != 0 ? first_error : errno;
        for_each_message(buffer.data(), static_cast<std::size_t>(n),
                         [&](const nlmsghdr& h, const std::byte* body, std::size_t size) {
                             if (h.nlmsg_type == NLMSG_ERROR) {
                                 const int e = -read_as<int>(body, size);
                                 if (e != 0 && first_error == 0) first_error = e;
                                 --answers;
                             } else if (h.nlmsg_type == NLMSG_DONE) {
                                 --answers;
                             } else {
                                 fn(h, body, size);
                             }
                             return true;
                         });
        if (first_error != 0) return first_error;
    }
    return 0;
}

}  // namespace nm::sys::netlink
