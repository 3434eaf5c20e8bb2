// SPDX-License-Identifier: BSD-2-Clause
// Virtio-net headers and addresses on a switch. What every pair of ports makes of every kind of frame is compared with a
// slow reference in model/fuzz_test.cpp; here is what is refused, what counts, and what room it takes.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "support/vale_frames.hpp"

namespace {

using nm::cause;
using namespace nm::test;

/// A TCP frame with an IPv4 header and `payload` bytes, and a header that wants it cut every `size` bytes.
bytes large(std::uint8_t to, std::size_t payload, std::size_t size, nm::vnet_hdr& h) {
    bytes f(14 + 20 + 20 + payload);
    f[0] = to;
    f[12] = 0x08;
    f[14] = 0x45;
    f[23] = 6;
    f[46] = 0x50;
    for (std::size_t i = 54; i < f.size(); ++i) f[i] = static_cast<std::uint8_t>(i * 3);
    h = {nm::vnet_needs_csum, nm::vnet_gso_tcpv4, 54, static_cast<std::uint16_t>(size), 34, 16};
    return f;
}
bytes headed(const nm::vnet_hdr& h, std::size_t n, const bytes& f) {
    bytes all(n);
    std::memcpy(all.data(), &h, sizeof h);
    all.insert(all.end(), f.begin(), f.end());
    return all;
}
nm::open_options with_header(std::uint32_t n, unsigned slots = 1024) {
    nm::open_options o;
    o.vnet_hdr = n;
    o.tx_slots = slots;
    return o;
}

TEST(ValeHeaders, SegmentsAreReplicas) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    auto a = sw.new_port("a", with_header(10)), b = sw.new_port("b"), c = sw.new_port("c", with_header(12)), d = sw.new_port("d");
    nm::vnet_hdr h;
    const auto f = large(1, 10'000, 1448, h);
    send(a, pieces_of(headed(h, 10, f), {2112, 2112, 2112, 2112}));
    EXPECT_EQ(receive(b).size(), 7U);
    auto s = sw.stats();
    EXPECT_EQ(s.accepted, 1U);
    EXPECT_EQ(s.replicas, 6U);
    EXPECT_EQ(s.delivered, 7U);
    // To all: two ports get 7 each, one gets the large one.
    const auto all = large(255, 10'000, 1448, h);
    send(a, pieces_of(headed(h, 10, all), {10, 2112, 2112, 2112, 2112}));
    EXPECT_EQ(receive(b).size(), 7U);
    EXPECT_EQ(receive(d).size(), 7U);
    const auto got = receive(c);
    ASSERT_EQ(got.size(), 1U);
    bytes want = headed(h, 12, all);
    want[10] = 6;
    EXPECT_EQ(got[0].data, want);
    EXPECT_EQ(got[0].lens[0], 12U) << "a slot that is all header stays one";
    s = sw.stats();
    EXPECT_EQ(s.replicas, 6U + 2 + 6 + 6);
    EXPECT_EQ(sw.ports()[0].replicas, s.replicas);
    expect_conserved(sw);
}

TEST(ValeHeaders, BadOnesAreDroppedAndTheNextPasses) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    auto a = sw.new_port("a", with_header(12)), b = sw.new_port("b"), c = sw.new_port("c", with_header(10));
    nm::vnet_hdr good;
    const auto f = large(1, 3000, 1448, good);
    std::uint64_t dropped = 0;
    const auto refused = [&](const nm::vnet_hdr& h, const char* what) {
        send(a, pieces_of(headed(h, 12, f), {2112}));
        EXPECT_EQ(a.tx_stats().dropped(cause::bad_hdr), ++dropped) << what;
        EXPECT_TRUE(receive(b).empty());
        send(a, pieces_of(headed(good, 12, f), {2112}));
        EXPECT_EQ(receive(b).size(), 3U) << what;
    };
    const auto changed = [&](auto change) {
        auto h = good;
        change(h);
        return h;
    };
    refused(changed([](auto& h) { h.gso_type = 2; }), "type");
    refused(changed([](auto& h) { h.gso_type = 6; }), "type");
    refused(changed([](auto& h) { h.gso_type = 0x80; }), "ecn alone");
    refused(changed([](auto& h) { h.flags |= 4; }), "flags");
    refused(changed([](auto& h) { h.flags = 0; }), "segments without a checksum");
    refused(changed([](auto& h) { h.gso_size = 0; }), "size");
    refused(changed([](auto& h) { h.csum_start = 3053; }), "the checksum beyond the end");
    refused(changed([](auto& h) { h.csum_offset = 0xffff; }), "the checksum beyond the end");
    // Not bad as such, but not one that this frame can be cut by.
    refused(changed([](auto& h) { h.gso_type = nm::vnet_gso_tcpv6; }), "another protocol");
    refused(changed([](auto& h) { h.csum_start = 38; }), "not where TCP is");
    // A port with headers gets that as it is, like from a wire.
    auto to_c = f;
    to_c[0] = 2;
    send(a, pieces_of(headed(changed([](auto& h) { h.csum_start = 38; }), 12, to_c), {2112}));
    EXPECT_EQ(receive(c).size(), 1U);
    // Shorter than the header, or than the header and an Ethernet header.
    send(a, {bytes(11)});
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_hdr), dropped + 1);
    send(a, {bytes(11), bytes(60)});
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_hdr), dropped + 2) << "a header in two slots";
    send(a, {bytes(12)});
    send(a, {bytes(12 + 13)});
    send(a, {bytes(12), bytes(13)});
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_len), 3U);
    send(a, {bytes(12), frame_to(1, 14)});
    EXPECT_EQ(receive(b).size(), 1U);
    expect_conserved(sw);
}

TEST(ValeHeaders, SegmentsHaveRoomOrNoneGoes) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    nm::open_options small;
    small.rx_slots = 8;
    auto a = sw.new_port("a", with_header(10)), b = sw.new_port("b", small);
    nm::vnet_hdr h;
    const auto of = [&](std::size_t segments) { return pieces_of(headed(h, 10, large(1, segments * 100, 100, h)), {}); };
    const auto plain = pieces_of(headed({}, 10, frame_to(1, 60)), {});
    (void)of(1);
    queue(a, of(8));  // will never fit
    queue(a, plain);
    queue(a, of(6));
    queue(a, plain);  // behind one that does
    a.tx().txsync();
    EXPECT_EQ(receive(b).size(), 7U);
    EXPECT_EQ(b.rx_stats().dropped(cause::full), 2U);
    queue(a, of(4));
    queue(a, of(4));
    queue(a, plain);
    a.tx().txsync();
    EXPECT_EQ(receive(b).size(), 4U);
    EXPECT_EQ(b.rx_stats().dropped(cause::full), 4U);
    // With one buffer missing only what would have lain there is lost.
    const std::uint32_t was = b.rx().slot().buf_idx;
    b.rx().slot().buf_idx = 1;
    send(a, of(4));
    EXPECT_EQ(receive(b).size(), 3U);
    EXPECT_EQ(b.rx_stats().dropped(cause::bad_idx), 1U);
    (void)was;
    expect_conserved(sw);
}

TEST(ValeHeaders, MayBeSetWhileThePortIsOpen) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    send(a, {frame_to(1, 60)});
    ASSERT_EQ(receive(b).at(0).data.size(), 60U);
    ASSERT_TRUE(b.set_header(12));
    send(a, {frame_to(1, 60)});
    EXPECT_EQ(receive(b).at(0).data, headed({0, 0, 0, 0, 0, 0}, 10, [] {
                  auto f = frame_to(1, 60);
                  f.insert(f.begin(), {1, 0});  // one buffer
                  return f;
              }()));
    ASSERT_TRUE(a.set_header(10));
    send(a, {headed({}, 10, frame_to(1, 60))});
    EXPECT_EQ(receive(b).at(0).data.size(), 72U);
    ASSERT_TRUE(b.set_header(0));
    send(a, {headed({}, 10, frame_to(1, 60))});
    EXPECT_EQ(receive(b).at(0).data, frame_to(1, 60));
    EXPECT_FALSE(a.set_header(11));
    // A frame that fills its buffer, and a header in front.
    ASSERT_TRUE(b.set_header(12));
    send(a, {headed({}, 10, frame_to(1, 2102))});
    const auto got = receive(b);
    EXPECT_EQ(got.at(0).lens, (sizes{2112, 2}));
    EXPECT_EQ(got.at(0).data[10], 2);
    expect_conserved(sw);
}

/// Sends one frame from where it lies.
void send_from(nm::vale_port& p, const void* at, std::size_t len, std::uint16_t flags = 0) {
    auto& s = p.tx().slot();
    s.len = static_cast<std::uint16_t>(len);
    s.flags = static_cast<std::uint16_t>(nm::ns_indirect | flags);
    s.ptr = reinterpret_cast<std::uintptr_t>(at);
    p.tx().advance();
    p.tx().txsync();
}

TEST(ValeIndirect, FramesComeFromAnywhereInTheProcess) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    nm::open_options o;
    o.indirect = true;
    auto a = sw.new_port("a", o), b = sw.new_port("b");
    for (const std::size_t len : {0U, 13U, 14U, 60U, 64U, 2112U, 2113U, 9000U, 65535U}) {
        const bytes f = frame_to(1, len);
        const auto exact = std::make_unique<std::uint8_t[]>(std::max<std::size_t>(len, 1));  // a sanitizer sees its end
        std::copy(f.begin(), f.end(), exact.get());
        send_from(a, exact.get(), len);
        const auto got = receive(b);
        ASSERT_EQ(got.size(), len < 14 ? 0U : 1U) << len;
        if (len < 14) continue;
        EXPECT_EQ(got[0].data, f);
        EXPECT_EQ(got[0].lens.size(), (len + 2111) / 2112);
    }
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_len), 1U) << "13 bytes; 0 are a hole";
    // Two pieces from memory and one from a buffer.
    const bytes one = frame_to(1, 3000), two = frame_to(9, 100, 7);
    send_from(a, one.data(), one.size(), nm::ns_morefrag);
    send_from(a, two.data(), two.size(), nm::ns_morefrag);
    send(a, {frame_to(5, 40)});
    auto got = receive(b);
    ASSERT_EQ(got.size(), 1U);
    EXPECT_EQ(got[0].lens, (sizes{2112, 888, 100, 40}));
    bytes all = one;
    for (const auto& more : {two, frame_to(5, 40)}) all.insert(all.end(), more.begin(), more.end());
    EXPECT_EQ(got[0].data, all);
    // With its header, to be cut.
    ASSERT_TRUE(a.set_header(12));
    nm::vnet_hdr h;
    const auto f = headed({}, 12, large(1, 60'000, 1448, h));
    const auto g = headed(h, 12, bytes(f.begin() + 12, f.end()));
    send_from(a, g.data(), g.size());
    EXPECT_EQ(receive(b).size(), 42U);
    expect_conserved(sw);
}

TEST(ValeIndirect, IsABadSlotWhereItWasNotAskedFor) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    nm::open_options o;
    o.indirect = true;
    auto a = sw.new_port("a"), b = sw.new_port("b"), c = sw.new_port("c", o);
    const bytes f = frame_to(1, 100);
    send_from(a, f.data(), f.size());
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_idx), 1U);
    send_from(c, nullptr, 100);
    EXPECT_EQ(c.tx_stats().dropped(cause::bad_idx), 1U);
    send_from(c, f.data(), f.size(), nm::ns_vnet);  // ptr cannot be both
    EXPECT_EQ(c.tx_stats().dropped(cause::bad_hdr), 1U);
    EXPECT_TRUE(receive(b).empty());
    send_from(c, f.data(), f.size());
    EXPECT_EQ(receive(b).size(), 1U);
    // A chain with one such slot is bad as a whole.
    queue(a, {frame_to(1, 60)});
    a.tx().slot((a.tx().head() + 1023) % 1024).flags = nm::ns_morefrag;
    send_from(a, f.data(), f.size());
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_idx), 2U);
    expect_conserved(sw);

    auto left = nm::open<nm::pipe>(ctx, "netmap:p{1"), right = nm::open<nm::pipe>(ctx, "netmap:p}1");
    for (int i = 0; i < 2; ++i) {
        left.tx().slot().len = 60;
        left.tx().slot().flags = i == 0 ? nm::ns_indirect : std::uint16_t{0};
        left.tx().slot().ptr = reinterpret_cast<std::uintptr_t>(f.data());
        left.tx().advance();
    }
    left.tx().txsync();
    EXPECT_EQ(nm::drain(right.rx(), 8), 1U);
    EXPECT_EQ(left.tx_stats().dropped(cause::bad_idx), 1U);
}

// A frame that a kernel interface handed on with its header in the slot is finished for who has none.
TEST(ValeHeaders, InASlotOfAPortWithoutThem) {
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    auto a = sw.new_port("a"), b = sw.new_port("b");
    nm::vnet_hdr h;
    const auto f = large(1, 4000, 1000, h);
    send(a, pieces_of(f, {2112}), &h);
    EXPECT_EQ(receive(b).size(), 4U);
    h.gso_type = 2;
    send(a, pieces_of(f, {2112}), &h);
    EXPECT_EQ(a.tx_stats().dropped(cause::bad_hdr), 1U);
    expect_conserved(sw);
}

}  // namespace
