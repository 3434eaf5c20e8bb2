// SPDX-License-Identifier: BSD-2-Clause

// AF_PACKET as programs use it. Works:
//   loop    send() a batch on --a and recv() it on --b, two veth ends in one thread; the rate is what arrived
//   tx      send() on --a
//   bridge  forwards between --a and --b until SIGTERM with the virtio-net header (offloads stay whole), recvmmsg and
//           sendmmsg, sleeping in poll when there is nothing

#include <cerrno>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "kernel.hpp"

namespace {

void set(int fd, int option, int value) {
    if (setsockopt(fd, SOL_PACKET, option, &value, sizeof value) != 0)
        bench::die("packet socket option " + std::to_string(option) + ": " + std::strerror(errno));
}

int packet_socket(const std::string& interface, int protocol, bool vnet = false) {
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0) bench::die(std::string("packet socket: ") + std::strerror(errno));
    set(fd, PACKET_IGNORE_OUTGOING, 1);
    set(fd, PACKET_QDISC_BYPASS, 1);
    if (vnet) set(fd, PACKET_VNET_HDR, 1);
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(static_cast<std::uint16_t>(protocol));
    address.sll_ifindex = static_cast<int>(bench::interface_index(interface));
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) bench::die(std::string("bind: ") + std::strerror(errno));
    return fd;
}

bench::measured loop(const bench::options& o, bool receive) {
    bench::pin(o.cpu_b);
    const int out = packet_socket(o.a, 0);
    const int in = receive ? packet_socket(o.b, ETH_P_ALL) : -1;
    std::array<std::byte, 2048> tx{}, rx{};
    std::uint64_t sequence = 0, sum = 0;
    const bench::measured rate = bench::timed_rate(o, 1, [&]() -> std::uint64_t {
        std::uint64_t sent = 0, received = 0;
        for (unsigned i = 0; i < o.batch; ++i) {
            bench::fill_ethernet(tx.data(), sequence++);
            if (send(out, tx.data(), bench::frame_bytes, MSG_DONTWAIT) > 0) ++sent;
        }
        if (!receive) return sent;
        while (received < o.batch && recv(in, rx.data(), rx.size(), MSG_DONTWAIT) > 0) {
            sum += bench::read_frame(rx.data());
            ++received;
        }
        return received;
    });
    if (receive && sum == 0) bench::die("nothing arrived");
    return rate;
}

/// Frames with their header, in buffers that hold the largest a peer with TSO sends.
struct direction {
    static constexpr unsigned batch = 64;
    static constexpr std::size_t capacity = 65536 + 256;

    direction() : memory(batch * capacity) {
        for (unsigned i = 0; i < batch; ++i) {
            parts[i].iov_base = memory.data() + i * capacity;
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
    }

    void forward(int from, int to) {
        for (auto& p : parts) p.iov_len = capacity;
        const int n = recvmmsg(from, messages.data(), batch, MSG_DONTWAIT, nullptr);
        for (int i = 0; i < n; ++i) parts[static_cast<unsigned>(i)].iov_len = messages[static_cast<unsigned>(i)].msg_len;
        for (int done = 0; done < n && bench::stop_requested == 0;) {
            const int m = sendmmsg(to, messages.data() + done, static_cast<unsigned>(n - done), 0);
            done += m > 0 ? m : 1;  // a frame that the interface refuses must not hold up the next one
        }
    }

    std::vector<std::byte> memory;
    std::array<iovec, batch> parts{};
    std::array<mmsghdr, batch> messages{};
};

void bridge(const bench::options& o) {
    const int a = packet_socket(o.a, ETH_P_ALL, true), b = packet_socket(o.b, ETH_P_ALL, true);
    for (const auto& [fd, name] : {std::pair{a, o.a}, std::pair{b, o.b}}) {
        packet_mreq m{};
        m.mr_ifindex = static_cast<int>(bench::interface_index(name));
        m.mr_type = PACKET_MR_PROMISC;
        if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m) != 0) bench::die("cannot be promiscuous");
    }
    direction there, back;
    std::array<pollfd, 2> wait{pollfd{a, POLLIN, 0}, pollfd{b, POLLIN, 0}};
    while (bench::stop_requested == 0) {
        if (poll(wait.data(), wait.size(), 200) <= 0) continue;
        if (wait[0].revents != 0) there.forward(a, b);
        if (wait[1].revents != 0) back.forward(b, a);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const auto o = bench::parse(argc, argv);
    bench::stop_on_signals();
    if (o.work == "bridge") bridge(o);
    else if (o.work == "tx") bench::report_one(o, "AF_PACKET send", loop(o, false));
    else if (o.work == "loop") bench::report_one(o, "AF_PACKET send/recv", loop(o, true));
    else bench::die("--work loop, tx or bridge", 2);
}
