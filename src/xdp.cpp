// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/xdp.hpp"

#include <chrono>
#include <linux/if_link.h>
#include <net/if.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>

#include "bpf.hpp"

namespace nm::sys {
namespace {

constexpr const char* program_name = "nm_xsk";
constexpr std::uint16_t bind_use_sg = 1U << 4;    // XDP_USE_SG, Linux 6.6
constexpr int max_tx_budget_option = 9;           // XDP_MAX_TX_SKB_BUDGET, Linux 6.18
constexpr std::uint32_t map_entries = 256;        // queues that one interface may have here

std::string privileges(int e) {
    return base::errno_text(e) +
           "; AF_XDP needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF in the initial user namespace: run as root, or choose the af_packet mode";
}

std::string explain(int e, const link_info& link) {
    switch (e) {
        case EPERM:
        case EACCES: return privileges(e);
        case ENOBUFS:
        case ENOMEM:
            return base::errno_text(e) + "; not enough memory may be locked: raise `ulimit -l`, or ask for fewer slots";
        case EBUSY:
            return base::errno_text(e) + "; another program holds it: `ip link show " + link.name +
                   "` and `bpftool net` say which";
        case EOPNOTSUPP: return base::errno_text(e) + "; the driver or the kernel cannot do this: choose another mode";
        case ENETDOWN: return base::errno_text(e) + "; run `ip link set " + link.name + " up`";
        default: return base::errno_text(e);
    }
}

/// The kernel forgets a closed socket or link some milliseconds after the close.
template <class Try>
int retry_while_busy(Try attempt) noexcept {
    int e = attempt();
    for (int i = 0; i < 20 && (e == EBUSY || e == EEXIST); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        e = attempt();
    }
    return e;
}

bool program_info(int fd, bpf_prog_info& info) noexcept {
    std::uint32_t size = sizeof info;
    return ::bpf_obj_get_info_by_fd(fd, &info, &size) == 0;
}

/// The link by which program `id` is attached to interface `ifindex`.
base::unique_fd find_link(std::uint32_t id, unsigned ifindex) noexcept {
    std::uint32_t at = 0;
    while (::bpf_link_get_next_id(at, &at) == 0) {
        base::unique_fd fd(::bpf_link_get_fd_by_id(at));
        if (fd.get() < 0) continue;
        bpf_link_info info{};
        std::uint32_t size = sizeof info;
        if (::bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) continue;
        if (info.type == BPF_LINK_TYPE_XDP && info.prog_id == id && info.xdp.ifindex == ifindex) return fd;
    }
    return {};
}

struct joined_program {
    base::unique_fd map, program, link;
};

/// 0, or EBUSY while somebody is about to go, or EEXIST if the program there is not ours.
int join(const link_info& asked, const bpf_prog_info& own, joined_program& out) noexcept {
    auto link = query_link(asked.name);
    if (!link) return link.error().code.value();
    if (link->xdp_program_id == 0) return EBUSY;
    out.program.reset(::bpf_prog_get_fd_by_id(link->xdp_program_id));
    if (out.program.get() < 0) return EBUSY;
    bpf_prog_info info{};
    std::uint32_t map_id = 0;
    info.nr_map_ids = 1;
    info.map_ids = reinterpret_cast<std::uintptr_t>(&map_id);
    if (!program_info(out.program.get(), info)) return errno;
    if (std::strcmp(info.name, program_name) != 0 || std::memcmp(info.tag, own.tag, sizeof own.tag) != 0 || map_id == 0)
        return ENOTUNIQ;
    out.map.reset(::bpf_map_get_fd_by_id(map_id));
    if (out.map.get() < 0) return errno;
    out.link = find_link(link->xdp_program_id, asked.index);
    return out.link ? 0 : EBUSY;
}

}  // namespace

result<xdp_program> xdp_program::open(const link_info& link, xdp_attach how, bool multi_buffer) noexcept {
    const auto what = "cannot attach the XDP program to " + link.name + ": ";
    xdp_program p;
    const int map = ::bpf_map_create(BPF_MAP_TYPE_XSKMAP, "nm_xsk", sizeof(int), sizeof(int), map_entries, nullptr);
    if (map < 0) return fail(-map, what + explain(-map, link));
    p.map_.reset(map);
    const std::array<bpf_insn, 6> code{
        bpf::load_u32(2, 1, offsetof(xdp_md, rx_queue_index)),
        bpf::insn(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map),
        bpf::insn(0, 0, 0, 0, 0),
        bpf::mov_imm(3, XDP_PASS),  // where the queue has no socket
        bpf::call(BPF_FUNC_redirect_map),
        bpf::exit_program(),
    };
    // Frames of several buffers need a program that says it knows of them (before Linux 6.6: as it is).
    if (multi_buffer) p.program_ = bpf::load(BPF_PROG_TYPE_XDP, program_name, code, bpf::prog_xdp_has_frags);
    if (!p.program_) p.program_ = bpf::load(BPF_PROG_TYPE_XDP, program_name, code);
    if (!p.program_) {
        const int e = errno;
        return fail(e, what + explain(e, link));
    }
    bpf_prog_info own{};
    if (!program_info(p.program_.get(), own)) return fail(errno, what + base::errno_text(errno));

    const std::uint32_t mode = how == xdp_attach::skb ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
    const int e = retry_while_busy([&] {
        p.link_ = bpf::link(p.program_.get(), link.index, BPF_XDP, mode);
        if (p.link_) return 0;
        const int attach_error = errno;
        if (attach_error != EBUSY && attach_error != EEXIST) return attach_error;
        joined_program there;
        const int join_error = join(link, own, there);
        if (join_error != 0) return join_error;
        p.map_ = std::move(there.map);
        p.program_ = std::move(there.program);
        p.link_ = std::move(there.link);
        p.joined_ = true;
        return 0;
    });
    if (e == ENOTUNIQ)
        return fail(EBUSY, what + "another program is attached there; `ip link set " + link.name + " xdp off` removes it, if its owner does not mind");
    if (e != 0) return fail(e, what + explain(e, link));
    return p;
}

result<void> xdp_program::insert(unsigned queue, int socket) noexcept {
    if (queue >= map_entries)
        return fail(ERANGE, "queue " + std::to_string(queue) + " is beyond the " + std::to_string(map_entries) + " that the XDP program serves");
    const int e = -::bpf_map_update_elem(map_.get(), &queue, &socket, BPF_ANY);
    if (e != 0) return fail(e, "cannot hand queue " + std::to_string(queue) + " to its AF_XDP socket: " + base::errno_text(e));
    return {};
}

xdp_socket& xdp_socket::operator=(xdp_socket&& other) noexcept {
    if (this == &other) return *this;
    close();
    fd_ = std::move(other.fd_);
    maps_ = std::move(other.maps_);
    rx_ = other.rx_;
    tx_ = other.tx_;
    fill_ = other.fill_;
    completion_ = other.completion_;
    zero_copy_ = other.zero_copy_;
    multi_buffer_ = other.multi_buffer_;
    return *this;
}

void xdp_socket::close() noexcept {
    for (auto& m : maps_) m.reset();
    fd_.reset();
}

result<void> xdp_socket::map_rings(const std::string& what) noexcept {
    xdp_mmap_offsets offsets{};
    socklen_t size = sizeof offsets;
    if (::getsockopt(fd_.get(), SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &size) != 0 || size != sizeof offsets)
        return fail(ENOTSUP, what + "this kernel's AF_XDP is older than Linux 5.4; choose the af_packet mode");
    const auto map_one = [&](base::mapping& m, xdp_ring& r, const xdp_ring_offset& o, std::uint64_t page_offset,
                             std::size_t entry) -> result<void> {
        auto mapped = base::map(o.desc + r.size * entry, MAP_SHARED | MAP_POPULATE, fd_.get(), static_cast<off_t>(page_offset));
        if (!mapped) return forward_error(mapped);
        m = std::move(*mapped);
        r.producer = reinterpret_cast<std::uint32_t*>(m.data() + o.producer);
        r.consumer = reinterpret_cast<std::uint32_t*>(m.data() + o.consumer);
        r.flags = reinterpret_cast<const std::uint32_t*>(m.data() + o.flags);
        r.descriptors = m.data() + o.desc;
        r.mask = r.size - 1;
        return {};
    };
    if (auto r = map_one(maps_[0], rx_, offsets.rx, XDP_PGOFF_RX_RING, sizeof(xdp_desc)); !r) return r;
    if (auto r = map_one(maps_[1], tx_, offsets.tx, XDP_PGOFF_TX_RING, sizeof(xdp_desc)); !r) return r;
    if (auto r = map_one(maps_[2], fill_, offsets.fr, XDP_UMEM_PGOFF_FILL_RING, sizeof(std::uint64_t)); !r) return r;
    return map_one(maps_[3], completion_, offsets.cr, XDP_UMEM_PGOFF_COMPLETION_RING, sizeof(std::uint64_t));
}

result<xdp_socket> xdp_socket::open(const xdp_socket_options& o) noexcept {
    const auto what = "cannot open an AF_XDP socket on queue " + std::to_string(o.queue) + " of " + o.link->name + ": ";
    xdp_socket s;
    s.fd_.reset(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
    if (!s.fd_) {
        const int e = errno;
        if (e == EAFNOSUPPORT) return fail(e, what + "this kernel was built without CONFIG_XDP_SOCKETS; choose the af_packet mode");
        return fail(e, what + explain(e, *o.link));
    }
    xdp_umem_reg umem{};
    umem.addr = reinterpret_cast<std::uintptr_t>(o.memory);
    umem.len = o.memory_size;
    // The frame follows 256 bytes of headroom: a chunk that begins that much before a buffer puts it at offset 0, and
    // unaligned chunks may overlap the end of the buffer before, which the kernel does not write.
    umem.chunk_size = o.stride + xdp_headroom;
    umem.flags = XDP_UMEM_UNALIGNED_CHUNK_FLAG;
    if (::setsockopt(s.fd(), SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem) != 0) {
        const int e = errno;
        return fail(e, what + "the memory was refused: " + explain(e, *o.link));
    }
    s.rx_.size = s.fill_.size = o.rx_size;
    s.tx_.size = s.completion_.size = o.tx_size;
    const auto set_size = [&](int option, std::uint32_t n) { return ::setsockopt(s.fd(), SOL_XDP, option, &n, sizeof n) == 0; };
    if (!set_size(XDP_UMEM_FILL_RING, o.rx_size) || !set_size(XDP_UMEM_COMPLETION_RING, o.tx_size) ||
        !set_size(XDP_RX_RING, o.rx_size) || !set_size(XDP_TX_RING, o.tx_size)) {
        const int e = errno;
        return fail(e, what + "rings of " + std::to_string(o.rx_size) + " and " + std::to_string(o.tx_size) + " entries were refused: " + explain(e, *o.link));
    }
    if (auto r = s.map_rings(what); !r) return forward_error(r);

    const auto bind_as = [&](std::uint16_t mode, bool multi) {
        sockaddr_xdp address{};
        address.sxdp_family = AF_XDP;
        address.sxdp_ifindex = o.link->index;
        address.sxdp_queue_id = o.queue;
        address.sxdp_flags = static_cast<std::uint16_t>(mode | XDP_USE_NEED_WAKEUP | (multi ? bind_use_sg : 0));
        return retry_while_busy([&] {
            return ::bind(s.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
        });
    };
    int e = EOPNOTSUPP;
    const auto attempt = [&](std::uint16_t mode) {
        if (o.multi_buffer) {
            e = bind_as(mode, true);
            s.multi_buffer_ = e == 0;
        }
        if (e == EINVAL || e == EOPNOTSUPP) e = bind_as(mode, false);
        return e == 0;
    };
    bool bound = false;
    if (o.copy != xdp_copy::copy) bound = s.zero_copy_ = attempt(XDP_ZEROCOPY);
    if (!bound && o.copy != xdp_copy::zero_copy && e != EPERM) {
        e = EOPNOTSUPP;
        bound = attempt(XDP_COPY);
    }
    if (!bound) {
        if (e == EINVAL)
            return fail(e, what + "the interface has no such queue (or the kernel cannot take unaligned chunks)");
        return fail(e, what + explain(e, *o.link));
    }
    // One sendto takes 32 descriptors, unless the kernel lets itself be asked for more; and a send buffer for all of
    // them, or frames on their way would stop those behind.
    const int budget = static_cast<int>(o.tx_size);
    (void)::setsockopt(s.fd(), SOL_XDP, max_tx_budget_option, &budget, sizeof budget);
    const int send_buffer = 64 << 20;
    if (::setsockopt(s.fd(), SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer, sizeof send_buffer) != 0)
        (void)::setsockopt(s.fd(), SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
    return s;
}

xdp_statistics xdp_socket::statistics() const noexcept {
    ::xdp_statistics k{};
    socklen_t size = sizeof k;
    if (::getsockopt(fd(), SOL_XDP, XDP_STATISTICS, &k, &size) != 0) return {};
    return {k.rx_dropped, k.rx_invalid_descs, k.tx_invalid_descs, k.rx_ring_full, k.rx_fill_ring_empty_descs};
}

int xdp_socket::kick_tx() const noexcept {
    return ::sendto(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) >= 0 ? 0 : errno;
}

int xdp_socket::kick_rx() const noexcept {
    return ::recvfrom(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr) >= 0 ? 0 : errno;
}

}  // namespace nm::sys
