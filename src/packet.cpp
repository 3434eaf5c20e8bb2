// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/packet.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <vector>

namespace nm::sys {
namespace {

constexpr std::size_t control_bytes = CMSG_SPACE(sizeof(tpacket_auxdata));

bool set_option(int fd, int level, int option, int value) noexcept {
    return ::setsockopt(fd, level, option, &value, sizeof value) == 0;
}

int only_queue(int fd, unsigned queue) noexcept {
    // queue_mapping of a received frame is the queue plus one; a driver that records none leaves zero, which is queue 0.
    const auto other = queue == 0 ? 0U : queue + 1;
    std::array<sock_filter, 5> code{{
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_QUEUE)},
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, queue + 1},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, other},
        {BPF_RET | BPF_K, 0, 0, 0xffffffffU},
        {BPF_RET | BPF_K, 0, 0, 0},
    }};
    sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
    return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? 0 : errno;
}

bool make_promiscuous(int fd, unsigned index) noexcept {
    packet_mreq m{};
    m.mr_ifindex = static_cast<int>(index);
    m.mr_type = PACKET_MR_PROMISC;
    return ::setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m) == 0;
}

void size_buffer(int fd, int forced, int asked, int bytes) noexcept {
    if (!set_option(fd, SOL_SOCKET, forced, bytes)) (void)set_option(fd, SOL_SOCKET, asked, bytes);
}

}  // namespace

result<packet_socket> packet_socket::open(const packet_options& o) noexcept {
    const auto what = "cannot open an AF_PACKET socket on " + o.link->name + ": ";
    // Protocol 0: nothing is received before the socket is bound to its interface.
    packet_socket s;
    s.fd_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!s.fd_) {
        const int e = errno;
        if (e == EPERM || e == EACCES)
            return fail(e, what + base::errno_text(e) + "; it needs CAP_NET_RAW: run as root, or in a namespace of your own (unshare -Urn)");
        return fail(e, what + base::errno_text(e));
    }
    const int fd = s.fd();
    const auto need = [&](int option, const char* name) -> result<void> {
        if (set_option(fd, SOL_PACKET, option, 1)) return {};
        return fail(errno, what + "the kernel refused " + name + ": " + base::errno_text(errno));
    };
    if (auto r = need(PACKET_VNET_HDR, "PACKET_VNET_HDR"); !r) return forward_error(r);
    if (auto r = need(PACKET_AUXDATA, "PACKET_AUXDATA"); !r) return forward_error(r);
    if (auto r = need(PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING (Linux 4.20)"); !r) return forward_error(r);
    if (auto r = need(PACKET_QDISC_BYPASS, "PACKET_QDISC_BYPASS"); !r) return forward_error(r);
    if (o.mark != 0 && !set_option(fd, SOL_SOCKET, SO_MARK, static_cast<int>(o.mark)))
        return fail(errno, what + "cannot mark its frames: " + base::errno_text(errno));
    size_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, o.receive_buffer);
    size_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, o.send_buffer);
    if (o.queue) {
        if (const int e = only_queue(fd, *o.queue); e != 0)
            return fail(e, what + "cannot filter for queue " + std::to_string(*o.queue) + ": " + base::errno_text(e));
    }
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(o.link->index);
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        const int e = errno;
        if (e == ENETDOWN) return fail(e, what + "it is down; run `ip link set " + o.link->name + " up`");
        return fail(e, what + base::errno_text(e));
    }
    if (o.promiscuous && !make_promiscuous(fd, o.link->index))
        return fail(errno, what + "cannot make it promiscuous: " + base::errno_text(errno));
    return s;
}

result<base::unique_fd> hold_promiscuous(const link_info& link) noexcept {
    base::unique_fd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    if (!fd || !make_promiscuous(fd.get(), link.index))
        return fail(errno, "cannot make " + link.name + " promiscuous: " + base::errno_text(errno));
    return fd;
}

std::uint64_t packet_socket::kernel_drops() noexcept {
    tpacket_stats s{};
    socklen_t size = sizeof s;
    // Reading the statistics resets them.
    if (::getsockopt(fd(), SOL_PACKET, PACKET_STATISTICS, &s, &size) == 0) drops_ += s.tp_drops;
    return drops_;
}

result<void> packet_socket::ignore(std::uint32_t mark) noexcept {
    std::array<sock_filter, 4> code{{
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_MARK)},
        {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, mark},
        {BPF_RET | BPF_K, 0, 0, 0},
        {BPF_RET | BPF_K, 0, 0, 0xffffffffU},
    }};
    sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
    if (::setsockopt(fd(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0) return {};
    return fail(errno, "cannot filter an AF_PACKET socket: " + base::errno_text(errno));
}

result<void> packet_socket::set_mark(std::uint32_t mark) noexcept {
    if (set_option(fd(), SOL_SOCKET, SO_MARK, static_cast<int>(mark))) return {};
    return fail(errno, "cannot mark the frames of an AF_PACKET socket: " + base::errno_text(errno));
}

struct packet_batch::memory {
    std::vector<mmsghdr> messages;
    std::vector<iovec> iov;
    std::vector<std::array<std::byte, vnet_header_bytes>> headers;
    std::vector<std::byte> control;
};

packet_batch::packet_batch(packet_batch&&) noexcept = default;
packet_batch& packet_batch::operator=(packet_batch&&) noexcept = default;
packet_batch::~packet_batch() = default;

packet_batch::packet_batch(direction d, unsigned frames, unsigned pieces)
    : memory_(std::make_unique<memory>()), frames_(frames), pieces_(pieces) {
    memory_->messages.resize(frames);
    memory_->iov.resize(static_cast<std::size_t>(frames) * (pieces + 1));
    memory_->headers.resize(frames);
    if (d == direction::receive) memory_->control.resize(frames * control_bytes);
    iov_ = memory_->iov.data();
    for (unsigned m = 0; m < frames; ++m) {
        auto& h = memory_->messages[m].msg_hdr;
        h.msg_iov = this->pieces(m) - 1;
        h.msg_iovlen = 1;
        *h.msg_iov = {memory_->headers[m].data(), vnet_header_bytes};
        if (d == direction::receive) h.msg_control = memory_->control.data() + m * control_bytes;
    }
}

void packet_batch::set_pieces(unsigned m, unsigned count) noexcept {
    memory_->messages[m].msg_hdr.msg_iovlen = count + 1;
}

void packet_batch::set_header(unsigned m, const std::array<std::byte, vnet_header_bytes>& header) noexcept {
    memory_->headers[m] = header;
}

int packet_batch::receive_single(int fd, unsigned count) noexcept {
    for (unsigned m = 0; m < count; ++m) {
        auto& message = memory_->messages[m];
        const auto n = ::readv(fd, message.msg_hdr.msg_iov, static_cast<int>(message.msg_hdr.msg_iovlen));
        if (n < 0) return m != 0 ? static_cast<int>(m) : -errno;
        message.msg_len = static_cast<unsigned>(n);
        message.msg_hdr.msg_flags = 0;
        message.msg_hdr.msg_controllen = 0;
    }
    return static_cast<int>(count);
}

int packet_batch::send_single(int fd, unsigned first, unsigned count) noexcept {
    for (unsigned m = 0; m < count; ++m) {
        const auto& h = memory_->messages[first + m].msg_hdr;
        if (::writev(fd, h.msg_iov, static_cast<int>(h.msg_iovlen)) < 0) return m != 0 ? static_cast<int>(m) : -errno;
    }
    return static_cast<int>(count);
}

int packet_batch::receive(int fd, unsigned count) noexcept {
    if (single_) return receive_single(fd, count);
    for (unsigned m = 0; m < count; ++m) memory_->messages[m].msg_hdr.msg_controllen = control_bytes;
    const int n = ::recvmmsg(fd, memory_->messages.data(), count, MSG_DONTWAIT | MSG_TRUNC, nullptr);
    return n >= 0 ? n : -errno;
}

int packet_batch::send(int fd, unsigned first, unsigned count) noexcept {
    if (single_) return send_single(fd, first, count);
    const int n = ::sendmmsg(fd, memory_->messages.data() + first, count, MSG_DONTWAIT);
    return n >= 0 ? n : -errno;
}

packet_info packet_batch::info(unsigned m) const noexcept {
    packet_info i;
    auto& message = memory_->messages[m];
    if (message.msg_len < vnet_header_bytes) return i;
    i.len = message.msg_len - static_cast<std::uint32_t>(vnet_header_bytes);
    i.truncated = (message.msg_hdr.msg_flags & MSG_TRUNC) != 0;
    i.header = memory_->headers[m];
    for (cmsghdr* c = CMSG_FIRSTHDR(&message.msg_hdr); c != nullptr; c = CMSG_NXTHDR(&message.msg_hdr, c)) {
        if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
        tpacket_auxdata a;
        std::memcpy(&a, CMSG_DATA(c), sizeof a);
        if ((a.tp_status & TP_STATUS_VLAN_VALID) == 0) continue;
        i.tagged = true;
        i.tci = a.tp_vlan_tci;
        i.tpid = (a.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? a.tp_vlan_tpid : std::uint16_t{ETH_P_8021Q};
    }
    return i;
}

result<base::unique_fd> claim_interface(unsigned index, int queue, const std::string& name) {
    // An abstract socket's name lives in the network namespace, as the interface does, and ends with its owner.
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string text = "nm/interface/" + std::to_string(index) + (queue == whole_interface ? ""
                                                                               : queue == host_rings ? "/host"
                                                                                                     : "/" + std::to_string(queue));
    std::copy(text.begin(), text.end(), address.sun_path + 1);
    base::unique_fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    if (!fd) return fail(errno, name + ": cannot make a socket: " + base::errno_text(errno));
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0) return fd;
    if (errno != EADDRINUSE) return fail(errno, name + ": cannot be claimed: " + base::errno_text(errno));
    return fail(EBUSY, name + " is open in another program (or another context of this one); close it there first");
}

}  // namespace nm::sys
