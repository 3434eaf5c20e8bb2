// SPDX-License-Identifier: BSD-2-Clause

// AF_PACKET on NICs of a guest that the kernel drives, one thread, in each of the ways there are. --mode says which:
//   send   send() and recv() for each frame
//   mmsg   sendmmsg() and recvmmsg() for each batch
//   v2     mapped rings of TPACKET_V2, one send() for each batch
//   v3     the same of TPACKET_V3, which receives in blocks
//   qdisc  as v2, and sends through the interface's queue; all others pass it by (PACKET_QDISC_BYPASS)
// Works:
//   tx    on --a; the rate is what the interface says it sent
//   loop  sends on --a and receives on --b; the rate is what arrived
// Against bench-ptnet-host behind --a, a TAP of the host's:
//   from-host  it fills; the rate is what arrived
//   poll       round-trip times of one frame at a time, in microseconds, send() and recv(), nobody sleeps
//   sleep      the same, and both sleep

#include <cerrno>
#include <fstream>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <tuple>
#include <unistd.h>

#include "boundary.hpp"

namespace {

constexpr unsigned slots = 512, slot_bytes = 2048;

void set(int fd, int option, int value) {
    if (setsockopt(fd, SOL_PACKET, option, &value, sizeof value) != 0)
        bench::die("packet socket option " + std::to_string(option) + ": " + std::strerror(errno));
}

int packet_socket() {
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0) bench::die(std::string("packet socket: ") + std::strerror(errno));
    return fd;
}

void bind_to(int fd, const std::string& interface, int protocol) {
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(static_cast<std::uint16_t>(protocol));
    address.sll_ifindex = static_cast<int>(bench::interface_index(interface));
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) bench::die(std::string("bind: ") + std::strerror(errno));
}

template <class Request>
std::byte* map_ring(int fd, int version, int which, const Request& request) {
    set(fd, PACKET_VERSION, version);
    if (setsockopt(fd, SOL_PACKET, which, &request, sizeof request) != 0) bench::die(std::string("packet ring: ") + std::strerror(errno));
    const std::size_t size = std::size_t{request.tp_block_size} * request.tp_block_nr;
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (at == MAP_FAILED) bench::die(std::string("packet ring: mmap: ") + std::strerror(errno));
    return static_cast<std::byte*>(at);
}

struct sender {
    sender(const std::string& interface, bench::flow& f, bool through_queue) : fd(packet_socket()), flow(f) {
        set(fd, PACKET_IGNORE_OUTGOING, 1);
        if (!through_queue) set(fd, PACKET_QDISC_BYPASS, 1);
        bind_to(fd, interface, 0);
    }
    void kick() const noexcept {}
    /// Bytes that are under way to the device.
    [[nodiscard]] int pending() const noexcept {
        int bytes = 0;
        return ioctl(fd, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
    }
    int fd;
    bench::flow& flow;
};

struct receiver {
    explicit receiver(bench::flow& f) : fd(packet_socket()), flow(f) {}
    int fd;
    bench::flow& flow;

    void start(const std::string& interface) {
        const int bytes = 8 << 20;
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
        bind_to(fd, interface, ETH_P_ALL);
    }
};

struct single {
    struct out : sender {
        out(const std::string& i, bench::flow& f) : sender(i, f, false) {}
        unsigned operator()(unsigned n) {
            unsigned sent = 0;
            for (; n != 0; --n) {
                flow.fill(frame.data());
                if (send(fd, frame.data(), bench::frame_bytes, MSG_DONTWAIT) > 0) ++sent;
            }
            return sent;
        }
        std::array<std::byte, slot_bytes> frame{};
    };
    struct in : receiver {
        in(const std::string& i, bench::flow& f) : receiver(f) { start(i); }
        unsigned operator()(unsigned max) {
            unsigned n = 0;
            for (; n < max && recv(fd, frame.data(), frame.size(), MSG_DONTWAIT) > 0; ++n) flow.read(frame.data());
            return n;
        }
        std::array<std::byte, slot_bytes> frame{};
    };
};

struct many {
    struct messages {
        static constexpr unsigned most = 128;
        explicit messages(std::size_t len) {
            for (unsigned i = 0; i < most; ++i) {
                parts[i] = {frames[i].data(), len};
                headers[i].msg_hdr.msg_iov = &parts[i];
                headers[i].msg_hdr.msg_iovlen = 1;
            }
        }
        std::array<std::array<std::byte, slot_bytes>, most> frames{};
        std::array<iovec, most> parts{};
        std::array<mmsghdr, most> headers{};
    };
    struct out : sender {
        out(const std::string& i, bench::flow& f) : sender(i, f, false) {}
        unsigned operator()(unsigned n) {
            n = std::min(n, messages::most);
            for (unsigned i = 0; i < n; ++i) flow.fill(m.frames[i].data());
            const int sent = sendmmsg(fd, m.headers.data(), n, MSG_DONTWAIT);
            return sent > 0 ? static_cast<unsigned>(sent) : 0;
        }
        messages m{bench::frame_bytes};
    };
    struct in : receiver {
        in(const std::string& i, bench::flow& f) : receiver(f) { start(i); }
        unsigned operator()(unsigned max) {
            const int n = recvmmsg(fd, m.headers.data(), std::min(max, messages::most), MSG_DONTWAIT, nullptr);
            for (int i = 0; i < n; ++i) flow.read(m.frames[static_cast<unsigned>(i)].data());
            return n > 0 ? static_cast<unsigned>(n) : 0;
        }
        messages m{slot_bytes};
    };
};

std::uint32_t status_of(const __u32& field) noexcept { return __atomic_load_n(&field, __ATOMIC_ACQUIRE); }
void set_status(__u32& field, std::uint32_t value) noexcept { __atomic_store_n(&field, value, __ATOMIC_RELEASE); }

/// Header is tpacket2_hdr or tpacket3_hdr: the two differ in where things are.
template <class Header, class Request, int Version>
struct ring_out : sender {
    static constexpr std::size_t data_at = (sizeof(Header) + TPACKET_ALIGNMENT - 1) / TPACKET_ALIGNMENT * TPACKET_ALIGNMENT;

    ring_out(const std::string& i, bench::flow& f, bool through_queue) : sender(i, f, through_queue) {
        Request r{};
        r.tp_block_size = 65536, r.tp_block_nr = slots * slot_bytes / 65536, r.tp_frame_size = slot_bytes, r.tp_frame_nr = slots;
        ring = map_ring(fd, Version, PACKET_TX_RING, r);
    }
    unsigned operator()(unsigned n) {
        unsigned queued = 0;
        for (; queued < n; ++queued) {
            auto* h = reinterpret_cast<Header*>(ring + std::size_t{head} * slot_bytes);
            if (const auto s = status_of(h->tp_status); s != TP_STATUS_AVAILABLE) {
                if ((s & TP_STATUS_WRONG_FORMAT) != 0) bench::die("the kernel refused a frame");
                break;
            }
            flow.fill(reinterpret_cast<std::byte*>(h) + data_at);
            h->tp_len = h->tp_snaplen = bench::frame_bytes;
            set_status(h->tp_status, TP_STATUS_SEND_REQUEST);
            head = (head + 1) % slots;
        }
        kick();
        return queued;
    }
    /// What it had no memory for is sent next time.
    void kick() const noexcept { (void)send(fd, nullptr, 0, MSG_DONTWAIT); }
    std::byte* ring = nullptr;
    unsigned head = 0;
};

struct v2 {
    struct out : ring_out<tpacket2_hdr, tpacket_req, TPACKET_V2> {
        explicit out(const std::string& i, bench::flow& f, bool through_queue = false) : ring_out(i, f, through_queue) {}
    };
    struct in : receiver {
        in(const std::string& i, bench::flow& f) : receiver(f) {
            tpacket_req r{};
            r.tp_block_size = 65536, r.tp_block_nr = slots * slot_bytes / 65536, r.tp_frame_size = slot_bytes, r.tp_frame_nr = slots;
            ring = map_ring(fd, TPACKET_V2, PACKET_RX_RING, r);
            start(i);
        }
        unsigned operator()(unsigned max) {
            unsigned n = 0;
            for (; n < max; ++n) {
                auto* h = reinterpret_cast<tpacket2_hdr*>(ring + std::size_t{head} * slot_bytes);
                if ((status_of(h->tp_status) & TP_STATUS_USER) == 0) break;
                flow.read(reinterpret_cast<std::byte*>(h) + h->tp_mac);
                set_status(h->tp_status, TP_STATUS_KERNEL);
                head = (head + 1) % slots;
            }
            return n;
        }
        std::byte* ring = nullptr;
        unsigned head = 0;
    };
};

struct qdisc {
    struct out : v2::out {
        out(const std::string& i, bench::flow& f) : v2::out(i, f, true) {}
    };
    using in = v2::in;
};

struct v3 {
    struct out : ring_out<tpacket3_hdr, tpacket_req3, TPACKET_V3> {
        out(const std::string& i, bench::flow& f) : ring_out(i, f, false) {}
    };
    /// Blocks of a page, which some thirty frames fill; the kernel gives one that is not full after a millisecond.
    struct in : receiver {
        static constexpr unsigned block_bytes = 4096, blocks = 64;

        in(const std::string& i, bench::flow& f) : receiver(f) {
            tpacket_req3 r{};
            r.tp_block_size = block_bytes, r.tp_block_nr = blocks, r.tp_frame_size = slot_bytes, r.tp_frame_nr = blocks * block_bytes / slot_bytes;
            r.tp_retire_blk_tov = 1;
            ring = map_ring(fd, TPACKET_V3, PACKET_RX_RING, r);
            start(i);
        }
        unsigned operator()(unsigned max) {
            unsigned n = 0;
            while (n < max) {
                auto* b = reinterpret_cast<tpacket_block_desc*>(ring + std::size_t{block} * block_bytes);
                if (left == 0) {
                    if ((status_of(b->hdr.bh1.block_status) & TP_STATUS_USER) == 0) break;
                    left = b->hdr.bh1.num_pkts;
                    at = reinterpret_cast<std::byte*>(b) + b->hdr.bh1.offset_to_first_pkt;
                }
                for (; left != 0 && n < max; --left, ++n) {
                    const auto* h = reinterpret_cast<const tpacket3_hdr*>(at);
                    flow.read(at + h->tp_mac);
                    at += h->tp_next_offset;
                }
                if (left != 0) break;
                set_status(b->hdr.bh1.block_status, TP_STATUS_KERNEL);
                block = (block + 1) % blocks;
            }
            return n;
        }
        std::byte* ring = nullptr;
        std::byte* at = nullptr;
        unsigned block = 0, left = 0;
    };
};

std::uint64_t sent_by(const std::string& interface) {
    std::uint64_t n = 0;
    std::ifstream("/sys/class/net/" + interface + "/statistics/tx_packets") >> n;
    return n;
}

/// An order to the host's end; it may get lost.
void tell(int fd, bench::order what, std::uint64_t argument) {
    std::array<std::byte, bench::frame_bytes> frame{};
    bench::fill_order(frame.data(), what, argument);
    (void)send(fd, frame.data(), frame.size(), 0);
}

template <class Way>
void from_host(const bench::options& o) {
    bench::flow flow;
    typename Way::in in(o.a, flow);
    bench::flow unused;
    single::out orders(o.a, unused);
    const auto receive = [&](unsigned n) -> std::uint64_t {
        const unsigned got = in(n);
        if (got == 0) {
            pollfd p{in.fd, POLLIN, 0};
            (void)poll(&p, 1, 1);
        }
        return got;
    };
    for (const double start = bench::now(); flow.received == 0;) {
        if (bench::now() - start > 5) bench::die("nothing arrives");
        tell(orders.fd, bench::order::fill, o.batch);
        for (int tries = 0; tries < 200 && receive(o.batch) == 0; ++tries) {}
    }
    const double rate = bench::guest_rate(o, [&] { return receive(o.batch); });
    for (int i = 0; i < 3; ++i) tell(orders.fd, bench::order::stop, 0);
    for (const double start = bench::now(); bench::now() - start < 0.2;) (void)receive(256);
    bench::report_one(o, "AF_PACKET", {rate, false}, o.mode);
}

void round_trips(const bench::options& o) {
    bench::flow unused;
    single::in in(o.a, unused);
    single::out orders(o.a, unused);
    const bool sleeps = o.work == "sleep";
    tell(orders.fd, bench::order::spin, sleeps ? 0 : 1'000'000);
    bench::histogram h;
    const auto rate = bench::round_trips(
        o, h, [&](std::uint64_t i) { tell(orders.fd, bench::order::echo, i); },
        [&] {
            for (unsigned tries = 0; tries < (sleeps ? 5U : 300'000U); ++tries) {
                if (sleeps) {
                    pollfd p{in.fd, POLLIN, 0};
                    (void)poll(&p, 1, 200);
                }
                if (recv(in.fd, in.frame.data(), in.frame.size(), MSG_DONTWAIT) > 0 && bench::order_of(in.frame.data()) == bench::order::echo) return true;
            }
            return false;
        });
    tell(orders.fd, bench::order::spin, 50);
    bench::report_one(o, "AF_PACKET", rate, h.text());
}

template <class Way>
void run(const bench::options& o) {
    if (o.work == "from-host") return from_host<Way>(o);
    bench::flow flow;
    typename Way::out out(o.a, flow);
    bench::measured rate;
    std::uint64_t lost = 0;
    if (o.work == "tx") {
        // A frame for which the device has no room is thrown away behind the socket, which does not say so.
        const std::uint64_t before = sent_by(o.a);
        std::uint64_t queued = 0;
        rate.rate = bench::guest_rate(o, [&]() -> std::uint64_t {
            const unsigned n = out(o.batch);
            queued += n;
            return n;
        });
        for (const double end = bench::now() + 0.3; out.pending() != 0 && bench::now() < end; (void)usleep(1000)) out.kick();
        const std::uint64_t sent = sent_by(o.a) - before;
        lost = queued - std::min(queued, sent);
        if (lost != 0) rate.rate *= static_cast<double>(sent) / static_cast<double>(queued);
    } else {
        typename Way::in in(o.b, flow);
        std::tie(rate, lost) = bench::guest_loop(o, flow, out, in, [&] {
            out.kick();
            pollfd p{in.fd, POLLIN, 0};
            (void)poll(&p, 1, 1);
        });
    }
    bench::report_one(o, "AF_PACKET", rate, o.mode + ", " + std::to_string(lost) + " lost");
}

}  // namespace

int main(int argc, char** argv) {
    const auto o = bench::parse(argc, argv);
    if (o.work == "poll" || o.work == "sleep") {
        round_trips(o);
        return 0;
    }
    if (o.work != "loop" && o.work != "tx" && o.work != "from-host") bench::die("--work loop, tx, from-host, poll or sleep", 2);
    if (o.mode == "send") run<single>(o);
    else if (o.mode == "mmsg") run<many>(o);
    else if (o.mode == "v2") run<v2>(o);
    else if (o.mode == "v3") run<v3>(o);
    else if (o.mode == "qdisc") run<qdisc>(o);
    else bench::die("--mode send, mmsg, v2, v3 or qdisc", 2);
}
