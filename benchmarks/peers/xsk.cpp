// SPDX-License-Identifier: BSD-2-Clause

// AF_XDP by hand, with libxdp's xsk.h: need_wakeup, copy mode, generic receive (faster than native on veth). Works:
//   loop    a batch goes out on --a and is received on --b, two veth ends in one thread; the rate is what arrived
//   tx      out on --a
//   bridge  forwards between --a and --b until SIGTERM without copying: both sockets register the same memory, a received
//           frame's address goes straight into the other side's tx ring

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>
#include <xdp/xsk.h>

#include "kernel.hpp"

namespace {

constexpr std::uint32_t ring_slots = 1024, frame_size = 2048, num_frames = 4 * ring_slots;

struct memory {
    memory() {
        void* p = mmap(nullptr, size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (p == MAP_FAILED) bench::die("no memory for the frames");
        base = static_cast<std::byte*>(p);
    }
    static constexpr std::size_t size() { return std::size_t{num_frames} * frame_size; }
    std::byte* base;
};

/// One interface's socket with its four rings. `first` is the first frame that is this socket's own.
class socket_pair_end {
public:
    socket_pair_end(memory& m, const std::string& name, std::uint32_t first, bool receive) : base_(m.base) {
        xsk_umem_config umem_config{};
        umem_config.fill_size = 2 * ring_slots;
        umem_config.comp_size = ring_slots;
        umem_config.frame_size = frame_size;
        if (const int e = xsk_umem__create(&umem_, m.base, memory::size(), &fill, &completion, &umem_config); e != 0)
            bench::die(std::string("UMEM: ") + std::strerror(-e));
        xsk_socket_config config{};
        config.rx_size = config.tx_size = ring_slots;
        config.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD;
        config.xdp_flags = XDP_FLAGS_SKB_MODE;
        config.bind_flags = XDP_COPY | XDP_USE_NEED_WAKEUP;
        int e = -EBUSY;  // the interface is busy for some milliseconds after its last socket closed
        for (int tries = 0; e == -EBUSY && tries < 100; ++tries) {
            e = xsk_socket__create(&socket_, name.c_str(), 0, umem_, receive ? &rx : nullptr, &tx, &config);
            if (e == -EBUSY) usleep(5000);
        }
        if (e != 0) bench::die("AF_XDP on " + name + ": " + std::strerror(-e));
        if (receive) attach(bench::interface_index(name));
        if (receive) {
            std::uint32_t at = 0;
            xsk_ring_prod__reserve(&fill, ring_slots, &at);
            for (std::uint32_t i = 0; i < ring_slots; ++i) *xsk_ring_prod__fill_addr(&fill, at + i) = std::uint64_t{first + i} * frame_size;
            xsk_ring_prod__submit(&fill, ring_slots);
        }
        for (std::uint32_t i = ring_slots; i < 2 * ring_slots; ++i) free_frames.push_back(std::uint64_t{first + i} * frame_size);
    }

    int fd() const { return xsk_socket__fd(socket_); }
    std::byte* at(std::uint64_t address) const { return base_ + address; }

    void reap() {
        std::uint32_t at = 0;
        const std::uint32_t n = xsk_ring_cons__peek(&completion, ring_slots, &at);
        for (std::uint32_t i = 0; i < n; ++i) free_frames.push_back(*xsk_ring_cons__comp_addr(&completion, at + i));
        if (n != 0) xsk_ring_cons__release(&completion, n);
        outstanding -= n;
    }

    /// One sendto takes 32 descriptors at most, so it is repeated until all are out.
    void kick() {
        for (int tries = 0; outstanding != 0 && tries < 64; ++tries) {
            if (xsk_ring_prod__needs_wakeup(&tx) != 0 && sendto(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) < 0 && errno != EAGAIN &&
                errno != EBUSY && errno != ENOBUFS)
                bench::die(std::string("sendto: ") + std::strerror(errno));
            reap();
        }
    }

    std::uint32_t send_batch(std::uint32_t batch, std::uint64_t& sequence) {
        std::uint32_t at = 0;
        const std::uint32_t want = std::min<std::uint32_t>(batch, static_cast<std::uint32_t>(free_frames.size()));
        const std::uint32_t n = xsk_ring_prod__reserve(&tx, want, &at);
        for (std::uint32_t i = 0; i < n; ++i) {
            xdp_desc* d = xsk_ring_prod__tx_desc(&tx, at + i);
            *d = {free_frames.back(), bench::frame_bytes, 0};
            free_frames.pop_back();
            bench::fill_ethernet(base_ + d->addr, sequence++);
        }
        xsk_ring_prod__submit(&tx, n);
        outstanding += n;
        kick();
        return n;
    }

    std::uint32_t receive_batch(std::uint32_t batch, std::uint64_t& sum) {
        std::uint32_t at = 0, room = 0;
        const std::uint32_t n = xsk_ring_cons__peek(&rx, batch, &at);
        if (n == 0) return 0;
        xsk_ring_prod__reserve(&fill, n, &room);
        for (std::uint32_t i = 0; i < n; ++i) {
            const xdp_desc* d = xsk_ring_cons__rx_desc(&rx, at + i);
            sum += bench::read_frame(base_ + d->addr);
            *xsk_ring_prod__fill_addr(&fill, room + i) = d->addr;
        }
        xsk_ring_prod__submit(&fill, n);
        xsk_ring_cons__release(&rx, n);
        return n;
    }

    std::vector<std::uint64_t> free_frames;
    std::uint32_t outstanding = 0;
    xsk_ring_prod fill{}, tx{};
    xsk_ring_cons completion{}, rx{};

private:
    /// bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS); the link dies with this process.
    void attach(unsigned index) {
        const int map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "bench", 4, 4, 4, nullptr);
        if (map < 0 || xsk_socket__update_xskmap(socket_, map) != 0) bench::die("no map for the socket");
        const std::array<bpf_insn, 6> program{{
            {BPF_LDX | BPF_W | BPF_MEM, BPF_REG_2, BPF_REG_1, offsetof(xdp_md, rx_queue_index), 0},
            {BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map},
            {0, 0, 0, 0, 0},
            {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, XDP_PASS},
            {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map},
            {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
        }};
        const int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "bench", "BSD", program.data(), program.size(), nullptr);
        if (fd < 0) bench::die(std::string("XDP program: ") + std::strerror(errno));
        bpf_link_create_opts options{};
        options.sz = sizeof options;
        options.flags = XDP_FLAGS_SKB_MODE;
        int link = -1;
        for (int tries = 0; link < 0 && tries < 100; ++tries) {
            link = bpf_link_create(fd, static_cast<int>(index), BPF_XDP, &options);
            if (link < 0) usleep(5000);
        }
        if (link < 0) bench::die(std::string("XDP link: ") + std::strerror(errno));
    }

    std::byte* base_;
    xsk_umem* umem_ = nullptr;
    xsk_socket* socket_ = nullptr;
};

bench::measured loop(const bench::options& o, bool receive) {
    bench::pin(o.cpu_b);
    memory for_a, for_b;
    socket_pair_end a(for_a, o.a, 0, false);
    std::uint64_t sequence = 0, sum = 0;
    if (!receive) return bench::timed_rate(o, 1, [&]() -> std::uint64_t { return a.send_batch(o.batch, sequence); });
    socket_pair_end b(for_b, o.b, 0, true);
    const bench::measured rate = bench::timed_rate(o, 1, [&]() -> std::uint64_t {
        a.send_batch(o.batch, sequence);
        return b.receive_batch(o.batch, sum);
    });
    if (sum == 0) bench::die("nothing arrived");
    return rate;
}

/// Moves what arrived on `in` to `out`; `in` is refilled from whatever frames are free on either side.
void forward(socket_pair_end& in, socket_pair_end& out) {
    out.reap();
    std::uint32_t at = 0, room = 0, to = 0;
    std::uint32_t n = xsk_ring_cons__peek(&in.rx, 64, &at);
    if (n == 0) return;
    const std::uint32_t fits = xsk_prod_nb_free(&out.tx, n);
    if (fits < n) xsk_ring_cons__cancel(&in.rx, n - fits), n = fits;
    if (n == 0) return out.kick();
    xsk_ring_prod__reserve(&out.tx, n, &to);
    for (std::uint32_t i = 0; i < n; ++i) {
        const xdp_desc* d = xsk_ring_cons__rx_desc(&in.rx, at + i);
        *xsk_ring_prod__tx_desc(&out.tx, to + i) = {d->addr, d->len, 0};
    }
    xsk_ring_prod__submit(&out.tx, n);
    xsk_ring_cons__release(&in.rx, n);
    out.outstanding += n;
    out.kick();
    const std::uint32_t refill = std::min<std::uint32_t>(n, static_cast<std::uint32_t>(out.free_frames.size()));
    if (xsk_ring_prod__reserve(&in.fill, refill, &room) != refill) return;
    for (std::uint32_t i = 0; i < refill; ++i) {
        *xsk_ring_prod__fill_addr(&in.fill, room + i) = out.free_frames.back();
        out.free_frames.pop_back();
    }
    xsk_ring_prod__submit(&in.fill, refill);
}

void bridge(const bench::options& o) {
    memory shared;
    socket_pair_end a(shared, o.a, 0, true), b(shared, o.b, 2 * ring_slots, true);
    std::array<pollfd, 2> wait{pollfd{a.fd(), POLLIN, 0}, pollfd{b.fd(), POLLIN, 0}};
    while (bench::stop_requested == 0) {
        if (poll(wait.data(), wait.size(), 200) <= 0) continue;
        forward(a, b);
        forward(b, a);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const auto o = bench::parse(argc, argv);
    bench::stop_on_signals();
    if (o.work == "bridge") bridge(o);
    else if (o.work == "tx" || o.work == "loop") bench::report_one(o, "AF_XDP by hand", loop(o, o.work == "loop"));
    else bench::die("--work loop, tx or bridge", 2);
}
