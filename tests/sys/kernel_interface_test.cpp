// SPDX-License-Identifier: BSD-2-Clause

#include <cstring>
#include <poll.h>

#include "veth.hpp"
#include "nm/sys/cutoff.hpp"
#include "nm/sys/link.hpp"
#include "nm/sys/packet.hpp"
#include "nm/sys/xdp.hpp"

namespace {

using namespace nm;
using namespace nm::test;

class kernel_interface : public veth_test {
protected:
    kernel_interface() : veth_test(true) {}
    [[nodiscard]] bool ping() const { return run("ping -c1 -W1 10.7.0.2") == 0; }
    [[nodiscard]] bool far_ping() const { return far.run("ping -c1 -W1 10.7.0.1") == 0; }
    static sys::link_info link() {
        auto l = sys::query_link("nsa");
        EXPECT_TRUE(l) << (l ? "" : l.error().text);
        return *l;
    }
};

TEST_F(kernel_interface, query_tells_what_a_veth_is) {
    auto l = link();
    EXPECT_EQ(l.kind, "veth");
    EXPECT_EQ(l.driver, "veth");
    EXPECT_FALSE(l.physical);
    EXPECT_TRUE(l.up);
    EXPECT_TRUE(l.ethernet);
    EXPECT_EQ(l.mtu, 1500U);
    EXPECT_TRUE(l.offloads.tx_csum);
    ASSERT_TRUE(l.has_peer);
    ASSERT_TRUE(l.peer_offloads) << "the namespace of a process is visible to root";
    EXPECT_EQ(l.peer_name, "nsb");
    EXPECT_TRUE(l.peer_offloads->tx_csum);
    ASSERT_EQ(far.run("ethtool -K nsb tx off"), 0);
    EXPECT_FALSE(link().peer_offloads->tx_csum);
    EXPECT_FALSE(l.carries_default_route);
    ASSERT_EQ(run("ip route add default via 10.7.0.2"), 0);
    EXPECT_TRUE(link().carries_default_route);
}

TEST_F(kernel_interface, a_name_that_is_not_there_gets_a_sentence) {
    auto l = sys::query_link("nothere");
    ASSERT_FALSE(l);
    EXPECT_EQ(l.error().code.value(), ENODEV);
    EXPECT_NE(l.error().text.find("nothere"), std::string::npos);
    EXPECT_FALSE(sys::query_link("a_name_far_too_long_for_it"));
    EXPECT_TRUE(sys::link_exists("nsa"));
    EXPECT_FALSE(sys::link_exists("nothere"));
    auto all = sys::list_links();
    ASSERT_TRUE(all);
    EXPECT_EQ(all->size(), 2U);
}

TEST_F(kernel_interface, watch_sees_mtu_down_up_and_gone) {
    auto w = sys::link_watch::open(link());
    ASSERT_TRUE(w);
    EXPECT_FALSE(w->look().lost());
    const auto wakes = [&] {
        pollfd p{w->fd(), POLLIN, 0};
        return ::poll(&p, 1, 1000) == 1;
    };
    ASSERT_EQ(run("ip link set nsa mtu 1400"), 0);
    EXPECT_TRUE(wakes());
    EXPECT_TRUE(w->look().mtu_changed);
    EXPECT_EQ(w->state().mtu, 1400U);
    ASSERT_EQ(run("ip link set nsa down"), 0);
    EXPECT_TRUE(wakes());
    EXPECT_TRUE(w->look().down);
    ASSERT_EQ(run("ip link set nsa up"), 0);
    EXPECT_TRUE(wakes());
    EXPECT_FALSE(w->look().down);
    ASSERT_EQ(run("ip link del nsa"), 0);
    EXPECT_TRUE(wakes());
    EXPECT_TRUE(w->look().gone);
}

TEST_F(kernel_interface, cutoff_silences_the_stack_both_ways_and_ends_with_the_descriptor) {
    ASSERT_TRUE(ping());
    {
        auto c = sys::cutoff::open(link(), {});
        ASSERT_TRUE(c) << c.error().text;
        auto second = sys::cutoff::open(link(), {});  // another port's table beside it
        ASSERT_TRUE(second) << second.error().text;
        EXPECT_FALSE(ping());
        EXPECT_FALSE(far_ping());
        EXPECT_NE(output("nft list ruleset").find("owner"), std::string::npos);
    }
    EXPECT_TRUE(eventually([&] { return untouched("nsa") == true; }));
    EXPECT_TRUE(ping());
}

TEST_F(kernel_interface, cutoff_of_one_queue_takes_a_tcx_link) {
    auto bad = sys::cutoff::open(link(), {true, true, 0U, false});
    EXPECT_FALSE(bad);
    auto c = sys::cutoff::open(link(), {true, false, 7U, false});
    ASSERT_TRUE(c) << c.error().text;
    EXPECT_STREQ(c->how(), "tcx");
    EXPECT_TRUE(ping());  // nothing arrives on queue 7
}

TEST_F(kernel_interface, packet_socket_hears_what_the_cut_off_stack_does_not) {
    auto l = link();
    auto c = sys::cutoff::open(l, {});
    auto s = sys::packet_socket::open({.link = &l});
    ASSERT_TRUE(s) << s.error().text;
    // Tag 5 in the frame: the receiving kernel takes it out and keeps it beside the frame.
    std::string frame(60, 'x');
    frame.replace(0, 18, std::string("\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x81\x00\x00\x05\x88\xb5", 18));
    ASSERT_EQ(far.send("nsb", {frame}), 0);

    sys::packet_batch batch(sys::packet_batch::direction::receive, 8, 2);
    std::vector<std::byte> memory(8 * 4096);
    for (unsigned m = 0; m < 8; ++m) {
        batch.pieces(m)[0] = {memory.data() + m * 4096, 2048};
        batch.pieces(m)[1] = {memory.data() + m * 4096 + 2048, 2048};
        batch.set_pieces(m, 2);
    }
    const int n = batch.receive(s->fd(), 8);
    ASSERT_GT(n, 0);
    bool tagged = false;
    for (unsigned m = 0; m < static_cast<unsigned>(n); ++m) {
        const auto i = batch.info(m);
        if (!i.tagged) continue;
        tagged = true;
        EXPECT_EQ(i.tpid, 0x8100);
        EXPECT_EQ(i.tci & 0xfff, 5);
    }
    EXPECT_TRUE(tagged);
    EXPECT_EQ(s->kernel_drops(), 0U);
}

/// A port's worth of plumbing over one queue, by hand.
struct bare_xsk {
    static constexpr std::uint32_t stride = 2112;
    bare_xsk(const sys::link_info& l, unsigned queue) : memory(std::aligned_alloc(4096, stride * 256)) {
        std::memset(memory, 0, stride * 256);
        auto s = sys::xdp_socket::open({.link = &l, .queue = queue, .memory = base(), .memory_size = stride * 256,
                                        .stride = stride, .rx_size = 64, .tx_size = 64});
        EXPECT_TRUE(s) << s.error().text;
        if (s) socket = std::move(*s);
    }
    bare_xsk(const bare_xsk&) = delete;
    bare_xsk& operator=(const bare_xsk&) = delete;
    ~bare_xsk() {
        socket.close();
        std::free(memory);
    }
    [[nodiscard]] std::byte* base() const { return static_cast<std::byte*>(memory); }
    [[nodiscard]] std::byte* buf(std::uint32_t i) const { return base() + i * stride; }
    void fill() const {
        const auto& r = socket.fill();
        for (std::uint32_t i = 0; i < 32; ++i)
            static_cast<std::uint64_t*>(r.descriptors)[i] = (i + 2) * stride - sys::xdp_headroom;
        __atomic_store_n(r.producer, 32U, __ATOMIC_RELEASE);
    }
    void send(std::uint32_t b, std::uint32_t len) const {
        const auto& r = socket.tx();
        const auto p = *r.producer;
        static_cast<xdp_desc*>(r.descriptors)[p & r.mask] = {b * stride, len, 0};
        __atomic_store_n(r.producer, p + 1, __ATOMIC_RELEASE);
        EXPECT_EQ(socket.kick_tx(), 0);
    }
    [[nodiscard]] std::uint32_t received() const { return __atomic_load_n(socket.rx().producer, __ATOMIC_ACQUIRE); }
    void* memory;
    sys::xdp_socket socket;
};

TEST_F(kernel_interface, xdp_frames_land_at_offset_zero_of_a_buffer) {
    auto l = link();
    auto p = sys::xdp_program::open(l, sys::xdp_attach::skb, true);
    ASSERT_TRUE(p) << p.error().text;
    bare_xsk x(l, 0);
    ASSERT_GE(x.socket.fd(), 0);
    EXPECT_FALSE(x.socket.zero_copy());
    EXPECT_TRUE(x.socket.multi_buffer());
    x.fill();
    ASSERT_TRUE(p->insert(0, x.socket.fd()));
    EXPECT_FALSE(far_ping());
    ASSERT_GT(x.received(), 0U);
    const auto d = static_cast<const xdp_desc*>(x.socket.rx().descriptors)[0];
    const auto at = (d.addr & sys::xdp_address_mask) + (d.addr >> sys::xdp_offset_shift);
    EXPECT_EQ(at % bare_xsk::stride, 0U);
    EXPECT_EQ(std::memcmp(x.base() + at, "\xff\xff\xff\xff\xff\xff", 6), 0);  // who has 10.7.0.1?
    EXPECT_EQ(d.len, 42U);
    // And out again.
    const auto before = sys::read_link_counters(l.index);
    std::memset(x.buf(40), 0xff, 60);
    x.send(40, 60);
    const auto after = sys::read_link_counters(l.index);
    ASSERT_TRUE(before && after);
    EXPECT_EQ(after->tx_packets, before->tx_packets + 1);
    EXPECT_EQ(static_cast<const std::uint64_t*>(x.socket.completion().descriptors)[0], 40U * bare_xsk::stride);
}

TEST_F(kernel_interface, xdp_program_is_joined_and_survives_the_first_owner) {
    auto l = link();
    auto first = sys::xdp_program::open(l, sys::xdp_attach::skb, true);
    ASSERT_TRUE(first) << first.error().text;
    EXPECT_FALSE(first->joined());
    auto second = sys::xdp_program::open(l, sys::xdp_attach::skb, true);
    ASSERT_TRUE(second) << second.error().text;
    EXPECT_TRUE(second->joined());
    { auto gone = std::move(*first); }
    bare_xsk x(l, 0);
    x.fill();
    ASSERT_TRUE(second->insert(0, x.socket.fd()));
    EXPECT_FALSE(far_ping());
    EXPECT_GT(x.received(), 0U);
}

TEST_F(kernel_interface, a_queue_can_be_opened_again_right_after_a_close) {
    auto l = link();
    for (int i = 0; i < 3; ++i) {
        auto p = sys::xdp_program::open(l, sys::xdp_attach::skb, true);
        ASSERT_TRUE(p) << p.error().text;
        EXPECT_FALSE(p->joined());
        bare_xsk x(l, 0);
        ASSERT_GE(x.socket.fd(), 0);
        ASSERT_TRUE(p->insert(0, x.socket.fd()));
    }
}

TEST_F(kernel_interface, queues_that_are_not_there_are_refused_with_a_sentence) {
    auto l = link();
    std::vector<std::byte> none;
    void* memory = std::aligned_alloc(4096, 1 << 20);
    auto s = sys::xdp_socket::open({.link = &l, .queue = 9, .memory = static_cast<std::byte*>(memory),
                                    .memory_size = 1 << 20, .stride = 2112});
    EXPECT_FALSE(s);
    if (!s) { EXPECT_NE(s.error().text.find("queue 9"), std::string::npos) << s.error().text; }
    std::free(memory);
}

TEST_F(kernel_interface, kill_leaves_nothing_behind) {
    for (int round = 0; round < 2; ++round) {
        int ready[2];
        ASSERT_EQ(::pipe(ready), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            auto l = sys::query_link("nsa");
            auto c = sys::cutoff::open(*l, {});
            auto p = sys::xdp_program::open(*l, sys::xdp_attach::skb, true);
            auto s = sys::packet_socket::open({.link = &*l});
            const char ok = c && p && s ? 'y' : 'n';
            if (::write(ready[1], &ok, 1) != 1) ::_exit(1);
            ::sleep(30);
            ::_exit(0);
        }
        char ok = 'n';
        ASSERT_EQ(::read(ready[0], &ok, 1), 1);
        EXPECT_EQ(ok, 'y');
        EXPECT_FALSE(untouched("nsa"));
        EXPECT_FALSE(ping());
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        ::close(ready[0]);
        ::close(ready[1]);
        EXPECT_TRUE(eventually([] { return untouched("nsa") == true; })) << untouched("nsa").message();
        EXPECT_TRUE(ping());
    }
}

// AF_PACKET sockets do not exclude each other: the claim does, per interface or queue, and ends with its descriptor.
TEST_F(kernel_interface, a_claim_excludes_others_until_it_is_closed) {
    const auto index = link().index;
    auto whole = sys::claim_interface(index, -1, "nsa");
    ASSERT_TRUE(whole) << whole.error().text;
    const auto again = sys::claim_interface(index, -1, "nsa");
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code.value(), EBUSY);
    EXPECT_NE(again.error().text.find("another program"), std::string::npos) << again.error().text;
    EXPECT_TRUE(sys::claim_interface(index, 0, "nsa-0")) << "another name";
    whole->reset();
    EXPECT_TRUE(sys::claim_interface(index, -1, "nsa"));
}

}  // namespace
