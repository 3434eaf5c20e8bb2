// SPDX-License-Identifier: BSD-2-Clause

#include "nm/sys/cutoff.hpp"

#include <arpa/inet.h>
#include <array>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "bpf.hpp"
#include "netlink.hpp"

namespace nm::sys {
namespace {

constexpr std::uint32_t netdev_ingress = 0;
constexpr std::uint32_t netdev_egress = 1;

/// The port id of the socket that owns the table tells apart two ports of one process.
std::uint32_t port_id(int socket) {
    sockaddr_nl own{};
    socklen_t size = sizeof own;
    (void)::getsockname(socket, reinterpret_cast<sockaddr*>(&own), &size);
    return own.nl_pid;
}

nfgenmsg family(std::uint8_t f, std::uint16_t resource = 0) {
    nfgenmsg g{};
    g.nfgen_family = f;
    g.version = NFNETLINK_V0;
    g.res_id = htons(resource);
    return g;
}

constexpr std::uint16_t nft(int type) { return static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | type); }

void put_chain(netlink::message& m, std::uint32_t seq, const std::string& table, const char* name, std::uint32_t hook,
               const std::string& device, int policy) {
    m.begin(nft(NFT_MSG_NEWCHAIN), NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, seq, family(NFPROTO_NETDEV));
    m.put_string(NFTA_CHAIN_TABLE, table);
    m.put_string(NFTA_CHAIN_NAME, name);
    const auto nest = m.nest(NFTA_CHAIN_HOOK);
    m.put_u32(NFTA_HOOK_HOOKNUM, htonl(hook));
    m.put_u32(NFTA_HOOK_PRIORITY, htonl(static_cast<std::uint32_t>(-500)));  // before everybody else's chains
    m.put_string(NFTA_HOOK_DEV, device);
    m.end_nest(nest);
    m.put_u32(NFTA_CHAIN_POLICY, htonl(static_cast<std::uint32_t>(policy)));
    m.put_string(NFTA_CHAIN_TYPE, "filter");
    m.end();
}

template <class Fill>
void put_expression(netlink::message& m, const char* name, Fill fill) {
    const auto element = m.nest(NFTA_LIST_ELEM);
    m.put_string(NFTA_EXPR_NAME, name);
    const auto data = m.nest(NFTA_EXPR_DATA);
    fill();
    m.end_nest(data);
    m.end_nest(element);
}

void put_value(netlink::message& m, std::uint16_t attribute, std::uint32_t value) {
    const auto nest = m.nest(attribute);
    m.put_u32(NFTA_DATA_VALUE, value);  // a register's bytes, in the host's order
    m.end_nest(nest);
}

template <class Fill>
void put_rule(netlink::message& m, std::uint32_t seq, const std::string& table, const char* chain, Fill fill) {
    m.begin(nft(NFT_MSG_NEWRULE), NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, seq, family(NFPROTO_NETDEV));
    m.put_string(NFTA_RULE_TABLE, table);
    m.put_string(NFTA_RULE_CHAIN, chain);
    const auto list = m.nest(NFTA_RULE_EXPRESSIONS);
    fill();
    m.end_nest(list);
    m.end();
}

void put_constant(netlink::message& m, std::uint32_t value) {
    put_expression(m, "immediate", [&] {
        m.put_u32(NFTA_IMMEDIATE_DREG, htonl(NFT_REG_1));
        put_value(m, NFTA_IMMEDIATE_DATA, value);
    });
}

/// meta mark MARK meta mark set 0 accept
void put_pass(netlink::message& m, std::uint32_t seq, const std::string& table, const char* chain, std::uint32_t mark) {
    const std::uint32_t reg = htonl(NFT_REG_1);
    const std::uint32_t key = htonl(NFT_META_MARK);
    put_rule(m, seq, table, chain, [&] {
        put_expression(m, "meta", [&] {
            m.put_u32(NFTA_META_KEY, key);
            m.put_u32(NFTA_META_DREG, reg);
        });
        put_expression(m, "cmp", [&] {
            m.put_u32(NFTA_CMP_SREG, reg);
            m.put_u32(NFTA_CMP_OP, htonl(NFT_CMP_EQ));
            put_value(m, NFTA_CMP_DATA, mark);
        });
        put_constant(m, 0);
        put_expression(m, "meta", [&] {
            m.put_u32(NFTA_META_KEY, key);
            m.put_u32(NFTA_META_SREG, reg);
        });
        put_expression(m, "immediate", [&] {
            m.put_u32(NFTA_IMMEDIATE_DREG, htonl(NFT_REG_VERDICT));
            const auto data = m.nest(NFTA_IMMEDIATE_DATA);
            const auto verdict = m.nest(NFTA_DATA_VERDICT);
            m.put_u32(NFTA_VERDICT_CODE, htonl(NF_ACCEPT));
            m.end_nest(verdict);
            m.end_nest(data);
        });
    });
}

/// fwd to DEVICE
void put_divert(netlink::message& m, std::uint32_t seq, const std::string& table, unsigned device) {
    put_rule(m, seq, table, "egress", [&] {
        put_constant(m, device);
        put_expression(m, "fwd", [&] { m.put_u32(NFTA_FWD_SREG_DEV, htonl(NFT_REG_1)); });
    });
}

int make_table(base::unique_fd& out, std::uint32_t& mark, const link_info& link, const cutoff_options& o) noexcept {
    auto fd = netlink::open(NETLINK_NETFILTER);
    if (!fd) return fd.error().code.value();
    const auto id = port_id(fd->get());
    const auto table = "nm_" + std::to_string(::getpid()) + "_" + std::to_string(id);
    netlink::message m;
    m.begin(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 1, family(AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
    m.end();
    m.begin(nft(NFT_MSG_NEWTABLE), NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, 2, family(NFPROTO_NETDEV));
    m.put_string(NFTA_TABLE_NAME, table);
    m.put_u32(NFTA_TABLE_FLAGS, htonl(NFT_TABLE_F_OWNER));
    m.end();
    std::uint32_t seq = 2;
    if (o.ingress || o.pass != 0) put_chain(m, ++seq, table, "ingress", netdev_ingress, link.name, o.ingress ? NF_DROP : NF_ACCEPT);
    if (o.pass != 0) put_pass(m, ++seq, table, "ingress", o.pass);
    if (o.egress) put_chain(m, ++seq, table, "egress", netdev_egress, link.name, NF_DROP);
    if (o.egress && o.sends_by_packet) {
        mark = o.mark != 0 ? o.mark : 0x6e6d0000U | (id & 0xffffU) | 1U;
        put_pass(m, ++seq, table, "egress", mark);
    }
    if (o.egress && o.divert_to != 0) put_divert(m, ++seq, table, o.divert_to);
    const int answers = static_cast<int>(seq) - 1;
    m.begin(NFNL_MSG_BATCH_END, NLM_F_REQUEST, ++seq, family(AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
    m.end();
    const int e = netlink::transact(fd->get(), m, answers, [](const auto&...) {});
    if (e == 0) out = std::move(*fd);
    return e;
}

constexpr std::int32_t drop = 2;
constexpr std::int32_t next = -1;

int link_tcx(base::unique_fd& out, const link_info& link, int attach_type, std::span<const bpf_insn> code) noexcept {
    const auto program = bpf::load(BPF_PROG_TYPE_SCHED_CLS, "nm_cutoff", code);
    if (!program) return errno;
    out = bpf::link(program.get(), link.index, attach_type, 0);
    return out ? 0 : errno;
}

int cut_egress(base::unique_fd& out, const link_info& link, const cutoff_options& o) noexcept {
    const std::array<bpf_insn, 2> cut{bpf::mov_imm(0, drop), bpf::exit_program()};
    const std::array<bpf_insn, 4> divert{
        bpf::mov_imm(1, static_cast<std::int32_t>(o.divert_to)),
        bpf::mov_imm(2, 0),
        bpf::call(BPF_FUNC_redirect),
        bpf::exit_program(),
    };
    return link_tcx(out, link, bpf::tcx_egress, o.divert_to != 0 ? std::span<const bpf_insn>(divert) : cut);
}

int cut_ingress(base::unique_fd& out, const link_info& link, const cutoff_options& o) noexcept {
    if (o.queue) {
        // A skb's queue_mapping at ingress is the receive queue plus one, zero where the driver recorded none.
        const std::array<bpf_insn, 5> of_queue{
            bpf::load_u32(2, 1, offsetof(__sk_buff, queue_mapping)),
            bpf::mov_imm(0, next),
            bpf::jump_if_not_equal(2, static_cast<std::int32_t>(*o.queue + 1), 1),
            bpf::mov_imm(0, drop),
            bpf::exit_program(),
        };
        return link_tcx(out, link, bpf::tcx_ingress, of_queue);
    }
    const std::array<bpf_insn, 7> all{
        bpf::mov_imm(0, o.ingress ? drop : next),
        bpf::load_u32(2, 1, offsetof(__sk_buff, mark)),
        bpf::jump_if_not_equal(2, static_cast<std::int32_t>(o.pass), 3),
        bpf::mov_imm(3, 0),
        bpf::store_u32(1, 3, offsetof(__sk_buff, mark)),
        bpf::mov_imm(0, o.pass != 0 ? next : o.ingress ? drop : next),
        bpf::exit_program(),
    };
    return link_tcx(out, link, bpf::tcx_ingress, all);
}

}  // namespace

result<cutoff> cutoff::open(const link_info& link, const cutoff_options& o) noexcept {
    cutoff c;
    const auto what = "cannot cut the host's stack off from " + link.name + ": ";
    if (o.queue && o.egress)
        return fail(EINVAL, what + "what the stack sends has no queue yet where it could be stopped; ask for ingress only");
    if (!o.queue) {
        auto rest = o;
        // The cheaper one for such a port: nothing of its own is ever looked at.
        if (o.egress && (o.sends_by_packet || o.divert_to != 0) && cut_egress(c.egress_, link, o) == 0) rest.egress = false;
        const int e = make_table(c.table_, c.mark_, link, rest);
        if (e == 0) return c;
        if (e == EPERM || e == EACCES)
            return fail(e, what + base::errno_text(e) + "; it needs CAP_NET_ADMIN: run as root, or in a namespace of your own (unshare -Urn)");
    }
    int e = o.ingress || o.pass != 0 ? cut_ingress(c.ingress_, link, o) : 0;
    if (e == 0 && o.egress && !c.egress_) e = cut_egress(c.egress_, link, o);
    if (e == 0) return c;
    if (e == EPERM || e == EACCES)
        return fail(e, what + base::errno_text(e) + "; a tcx program needs CAP_BPF and CAP_NET_ADMIN: run as root");
    if (o.queue)
        return fail(e, what + base::errno_text(e) + "; one queue alone needs a tcx program (Linux 6.6 or newer): open the whole interface");
    return fail(e, what + base::errno_text(e) +
                       "; it needs nf_tables with the netdev family (Linux 5.17 for egress; `modprobe nf_tables`) or tcx (Linux 6.6)");
}

}  // namespace nm::sys
