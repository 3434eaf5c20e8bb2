// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/tap.hpp"

#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <linux/tc_act/tc_skbedit.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>

#include "bpf.hpp"
#include "netlink.hpp"

namespace nm::sys {
namespace {

// Newer than Debian 12's headers.
constexpr unsigned tun_f_uso4 = 0x20;
constexpr unsigned tun_f_uso6 = 0x40;

// What waits for the reader is a few of the largest TCP windows.
constexpr int queue_length = 2048;
// IPv6 does not live on an interface that cannot carry its smallest MTU: no address, no solicitation, no report. What is
// diverted to the TAP may be longer all the same.
constexpr int mtu_without_ipv6 = 1279;

constexpr std::uint32_t clsact_handle = TC_H_MAKE(TC_H_CLSACT, 0);
constexpr std::uint32_t at_ingress = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);

int control(int fd, unsigned long request, ifreq& r) noexcept { return ::ioctl(fd, request, &r) == 0 ? 0 : errno; }

tcmsg about(unsigned index, std::uint32_t handle, std::uint32_t parent, std::uint32_t info = 0) noexcept {
    tcmsg t{};
    t.tcm_family = AF_UNSPEC;
    t.tcm_ifindex = static_cast<int>(index);
    t.tcm_handle = handle;
    t.tcm_parent = parent;
    t.tcm_info = info;
    return t;
}

template <class Parameters>
void put_action(netlink::message& m, std::uint16_t order, const char* kind, Parameters fill) {
    const auto action = m.nest(order);
    m.put_string(TCA_ACT_KIND, kind);
    const auto options = m.nest(TCA_ACT_OPTIONS);
    fill();
    m.end_nest(options);
    m.end_nest(action);
}

/// All that comes in goes to the interface's ingress. mirred, since generic XDP there would take a frame that BPF
/// redirected for a new one, for ever.
int hand_over(unsigned tap, unsigned to, bool mark) noexcept {
    auto fd = netlink::open(NETLINK_ROUTE);
    if (!fd) return fd.error().code.value();
    netlink::message m;
    m.begin(RTM_NEWQDISC, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, 1, about(tap, clsact_handle, TC_H_CLSACT));
    m.put_string(TCA_KIND, "clsact");
    m.end();
    if (const int e = netlink::transact(fd->get(), m, 1, [](const auto&...) {}); e != 0 && e != EEXIST) return e;

    netlink::message f;
    f.begin(RTM_NEWTFILTER, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, 2,
            about(tap, 0, at_ingress, TC_H_MAKE(1U << 16, htons(ETH_P_ALL))));
    f.put_string(TCA_KIND, "u32");
    const auto options = f.nest(TCA_OPTIONS);
    // One key that all frames have.
    std::array<std::byte, sizeof(tc_u32_sel) + sizeof(tc_u32_key)> select{};
    select[offsetof(tc_u32_sel, flags)] = std::byte{TC_U32_TERMINAL};
    select[offsetof(tc_u32_sel, nkeys)] = std::byte{1};
    f.put(TCA_U32_SEL, select.data(), select.size());
    const auto actions = f.nest(TCA_U32_ACT);
    std::uint16_t order = 0;
    if (mark)
        put_action(f, ++order, "skbedit", [&] {
            tc_skbedit p{};
            p.action = TC_ACT_PIPE;
            f.put(TCA_SKBEDIT_PARMS, &p, sizeof p);
            f.put_u32(TCA_SKBEDIT_MARK, host_mark);
        });
    put_action(f, ++order, "mirred", [&] {
        tc_mirred p{};
        p.action = TC_ACT_STOLEN;
        p.eaction = TCA_INGRESS_REDIR;
        p.ifindex = to;
        f.put(TCA_MIRRED_PARMS, &p, sizeof p);
    });
    f.end_nest(actions);
    f.end_nest(options);
    f.end();
    return netlink::transact(fd->get(), f, 1, [](const auto&...) {});
}

/// Before the filters of clsact.
base::unique_fd mark_all(unsigned tap) noexcept {
    const std::array<bpf_insn, 4> code{
        bpf::mov_imm(2, static_cast<std::int32_t>(host_mark)),
        bpf::store_u32(1, 2, offsetof(__sk_buff, mark)),
        bpf::mov_imm(0, -1),  // TCX_NEXT
        bpf::exit_program(),
    };
    const auto program = bpf::load(BPF_PROG_TYPE_SCHED_CLS, "nm_host_mark", code);
    if (!program) return {};
    return bpf::link(program.get(), tap, bpf::tcx_ingress, 0);
}

/// Its settings, and up. The interface's address, so that frames to it are the host's own (PACKET_HOST) on the TAP too.
int set_up(const char* name, const std::array<std::uint8_t, 6>& mac, int mtu, int flags) noexcept {
    const base::unique_fd s(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!s) return errno;
    ifreq r{};
    std::memcpy(r.ifr_name, name, std::strlen(name) + 1);
    r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    std::memcpy(r.ifr_hwaddr.sa_data, mac.data(), mac.size());
    if (const int e = control(s.get(), SIOCSIFHWADDR, r); e != 0) return e;
    r.ifr_mtu = mtu;
    if (const int e = control(s.get(), SIOCSIFMTU, r); e != 0) return e;
    r.ifr_qlen = queue_length;
    if (const int e = control(s.get(), SIOCSIFTXQLEN, r); e != 0) return e;
    r.ifr_flags = static_cast<short>(flags);
    return control(s.get(), SIOCSIFFLAGS, r);
}

tl::unexpected<error> refusal(int e, const std::string& what) {
    const char* hint = e == EPERM || e == EACCES
                           ? "; it needs CAP_NET_ADMIN: run as root, or in a namespace of your own (unshare -Urn)"
                           : "";
    return fail(e, what + base::errno_text(e) + hint);
}

}  // namespace

int host_tap::make(const char* name) noexcept {
    ifreq r{};
    std::strncpy(r.ifr_name, name, IFNAMSIZ - 1);
    r.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (const int e = control(fd(), TUNSETIFF, r); e != 0) return e;
    name_ = r.ifr_name;
    index_ = ::if_nametoindex(r.ifr_name);
    return 0;
}

/// What the kernel need not do before it hands a frame over. Kernels before 6.2 do not know segments of UDP.
int host_tap::take_offloads() noexcept {
    constexpr unsigned offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    return ::ioctl(fd(), TUNSETOFFLOAD, offloads | tun_f_uso4 | tun_f_uso6) != 0 && ::ioctl(fd(), TUNSETOFFLOAD, offloads) != 0 ? errno : 0;
}

result<host_tap> host_tap::open(const link_info& link) noexcept {
    const auto what = "cannot make a TAP to the host's stack on " + link.name + ": ";
    host_tap t;
    t.fd_.reset(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!t.fd_) return refusal(errno, what + "/dev/net/tun (modprobe tun): ");
    if (const int e = t.make("nmhost%d"); e != 0) return refusal(e, what);
    if (const int e = t.take_offloads(); e != 0) return refusal(e, what + "TUNSETOFFLOAD: ");
    t.marks_ = mark_all(t.index_);
    const int without_bpf = errno;
    if (const int e = hand_over(t.index_, link.index, !t.marks_); e != 0) {
        if (!t.marks_ && e != EPERM)
            return fail(e, what + "its frames can be marked neither by a tcx program (" + base::errno_text(without_bpf) +
                               "; Linux 6.6, CAP_BPF) nor by tc (" + base::errno_text(e) + "; modprobe act_skbedit)");
        return refusal(e, what + "tc (modprobe sch_ingress cls_u32 act_mirred): ");
    }
    if (const int e = set_up(t.name_.c_str(), link.mac, mtu_without_ipv6, IFF_UP | IFF_NOARP); e != 0) return refusal(e, what);
    return t;
}

result<host_tap> host_tap::stand_in(const std::string& name, const std::array<std::uint8_t, 6>& mac, unsigned mtu) noexcept {
    const auto what = "cannot make interface " + name + " for the host's stack: ";
    host_tap t;
    t.fd_.reset(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!t.fd_) return refusal(errno, what + "/dev/net/tun (modprobe tun): ");
    if (const int e = t.make(name.c_str()); e == EBUSY || e == EINVAL)
        return fail(EBUSY, what + "there is one of that name already; another program has this device's host rings, or close what made it");
    else if (e != 0) return refusal(e, what);
    if (const int e = t.take_offloads(); e != 0) return refusal(e, what + "TUNSETOFFLOAD: ");
    if (const int e = set_up(name.c_str(), mac, static_cast<int>(mtu), IFF_UP | IFF_BROADCAST | IFF_MULTICAST); e != 0) return refusal(e, what);
    return t;
}

link_counters host_tap::counters() const noexcept {
    link_counters c;
    const auto tap = read_link_counters(index_);
    if (!tap) return c;
    c.rx_packets = tap->tx_packets + tap->tx_dropped;
    c.tx_packets = tap->rx_packets + tap->rx_dropped;
    c.rx_bytes = tap->tx_bytes;
    c.tx_bytes = tap->rx_bytes;
    c.rx_dropped = tap->tx_dropped;
    c.tx_dropped = tap->rx_dropped;
    return c;
}

}  // namespace nm::sys
