// SPDX-License-Identifier: BSD-2-Clause
// The AF_PACKET backend against a socket that says what the test wants: full at the right moment, frames that no veth
// would send today. A datagram socket takes the place of the packet socket, under the same descriptor.
#include <gtest/gtest.h>

#include <cstdio>
#include <sys/socket.h>
#include <unistd.h>

#include "nm/ports/packet_rx.hpp"
#include "support/nm_test.hpp"

namespace {

using namespace nm;

class packet_backend : public testing::Test {
protected:
    void SetUp() override {
        if (std::FILE* f = std::fopen("/proc/sys/net/unix/max_dgram_qlen", "w")) {
            std::fputs("512", f);
            std::fclose(f);
        }
        auto link = sys::query_link("lo");
        ASSERT_TRUE(link) << link.error().text;
        sys::packet_options o;
        o.link = &*link;
        o.promiscuous = false;
        auto opened = sys::packet_socket::open(o);
        ASSERT_TRUE(opened) << opened.error().text;
        socket = std::make_unique<sys::packet_socket>(std::move(*opened));
        int pair[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
        ASSERT_GE(::dup2(pair[0], socket->fd()), 0);
        ::close(pair[0]);
        kernel.reset(pair[1]);
        const int bytes = 64 << 20;
        for (const int fd : {socket->fd(), kernel.get()})
            ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes), 0);
    }

    void make(std::uint32_t buf_size, index_t slots) {
        region_options r;
        r.bufs = slots + 2;
        r.buf_size = buf_size;
        memory = *region::create(r);
        ring_slots.resize(slots);
    }
    void join(packet_side& s) {
        s.socket = socket->fd();
        s.memory = memory.get();
        s.slots = ring_slots.data();
        s.num_slots = static_cast<index_t>(ring_slots.size());
        s.stats = &stats;
        s.armed = &armed;
    }
    packet_rx make_rx() {
        const auto n = static_cast<index_t>(ring_slots.size());
        rx = std::make_unique<packet_rx_state>();
        join(*rx);
        rx->ready.resize(n);
        rx->free.resize(n);
        rx->lent.resize(std::size_t{packet_rx_state::batch_frames} * packet_rx_state::most_pieces);
        packet_rx p{rx.get(), rx->ready.data(), rx->free.data()};
        for (index_t i = 0; i < n; ++i) p.give(slot{i + 2, 0, 0, 0});
        return p;
    }
    void arrives(std::size_t len) {
        std::vector<char> message(sys::vnet_header_bytes + len);
        ASSERT_EQ(::send(kernel.get(), message.data(), message.size(), 0), static_cast<ssize_t>(message.size()));
    }
    /// Takes all that there is and gives it back at once; frames.
    static unsigned take(packet_rx& p) {
        unsigned frames = 0;
        for (int idle = 0; idle < 3;) {
            if (!p.ready()) {
                ++idle;
                p.state->publish();
                continue;
            }
            idle = 0;
            slot s{};
            p.get(s);
            frames += (s.flags & ns_morefrag) == 0 ? 1U : 0U;
            p.give(s);
        }
        return frames;
    }

    std::unique_ptr<sys::packet_socket> socket;
    base::unique_fd kernel;
    region_ptr memory;
    std::vector<slot> ring_slots;
    live_counters stats;
    std::atomic<bool> armed = false;
    std::unique_ptr<packet_rx_state> rx;
    packet_tx_state tx;
};

// Big TCP: the kernel's frames may be longer than 64 KB. What the batch's buffers and the spill hold together is more than
// the linear copy does.
TEST_F(packet_backend, a_frame_longer_than_64_kb_is_counted) {
    make(2112, 1024);
    packet_rx p = make_rx();
    arrives(65'000);
    EXPECT_EQ(take(p), 1U);
    for (const std::size_t len : {sys::packet_max_frame, sys::packet_max_frame + 1, std::size_t{100'000}, std::size_t{130'000}}) {
        arrives(65'000);
        arrives(len);
        arrives(100);
    }
    EXPECT_EQ(take(p), 4U * 2 + 1);
    EXPECT_EQ(stats.now().dropped(cause::bad_len), 3U);
    EXPECT_EQ(stats.now().dropped(), 3U);
    EXPECT_EQ(p.free_count, 1024U);
}

// Small buffers and a small ring: the buffers that were lent to the frames behind are missing to the one in front.
TEST_F(packet_backend, a_long_frame_finds_its_buffers) {
    for (const std::uint32_t slots : {40U, 66U, 80U, 100U, 130U}) {
        make(256, slots);
        packet_rx p = make_rx();
        EXPECT_EQ(take(p), 0U);
        arrives(9014);  // 36 buffers
        for (int i = 0; i < 100; ++i) arrives(60);
        arrives(9014);
        EXPECT_EQ(take(p), 102U) << slots;
        EXPECT_EQ(stats.now().dropped(), 0U);
        EXPECT_EQ(p.free_count, slots);
    }
}

TEST_F(packet_backend, a_bad_frame_behind_a_full_socket_is_counted_once) {
    make(2112, 16);
    join(tx);
    tx.queue.resize(16);
    tx.max_len = 1514;
    while (::send(socket->fd(), "x", 1, 0) == 1) {}
    for (index_t i = 0; i < 3; ++i) tx.queue[i] = slot{i + 2, static_cast<std::uint16_t>(i == 1 ? 5 : 60), 0, 0};
    tx.publish(3);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(tx.reclaim(), 15U);
    char c = 0;
    while (::recv(kernel.get(), &c, 1, 0) == 1 && c == 'x') c = 0;
    EXPECT_EQ(tx.reclaim(), 2U);
    EXPECT_EQ(stats.now().dropped(cause::bad_len), 1U);
}

}  // namespace
