// SPDX-License-Identifier: BSD-2-Clause
// The fuzzers' targets with fixed seeds: valid inputs, then some with one or a few things broken, since what is random from
// the start never passes the first check. tests/fuzz goes on from here with coverage.
#include "fuzz/switch_target.hpp"
#include "fuzz/targets.hpp"

#include <gtest/gtest.h>

#include <random>

namespace {

using nm::test::bytes;

TEST(fuzz, port_names) {
    std::mt19937 random(20);
    const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    const std::string_view heads[] = {"netmap:", "null:", "ptnet:", "vale0:", "vale:", "vale_x:", "", "netmap"};
    const std::string_view names[] = {"eth0", "br-lan", "eth0.100", "a", "fifteen-letters", "0000:03:00.0", "03:00.1", "eth-0-1", "wlp3s0"};
    const std::string_view pipes[] = {"", "", "", "{1", "}ab_1", "{", "{x{y"};
    const std::string_view modes[] = {"", "", "-0", "-17", "-4294967296", "^", "^2", "*", "-", "-x", "+"};
    const std::string_view flags[] = {"", "", "/x", "/xzrt", "/R", "/T", "/RT", "/q", "/"};
    const std::string_view options[] = {"",           "",           "@1",          "@65535",          "@65536",
                                        "@0",         "@1@2",       "@conf:",      "@conf:slots=512", "@conf:rings=2,tx-slots=9,",
                                        "@conf:mode=af_xdp", "@conf:mit=1000000", "@conf:mit=1000001", "@share=netmap:eth1",
                                        "@conf:slots=99999999999999999999", "@extmem:file=/x", "@conf:host-rings=3"};
    const std::string_view alphabet = "netmap:vale0{}^*-/@conf=,xzrtRT19._\x00\xff& ";
    const auto any = [&below](const auto& list) { return list[below(std::size(list))]; };
    std::size_t good = 0;
    for (int i = 0; i < 200'000; ++i) {
        std::string s;
        for (const auto part : {any(heads), any(names), any(pipes), any(modes), any(flags), any(options), any(options)}) s += part;
        for (auto n = below(4); n != 0 && i % 2 == 0 && !s.empty(); --n) switch (below(4)) {
                case 0: s[below(s.size())] = alphabet[below(alphabet.size())]; break;
                case 1: s.insert(below(s.size()), 1, alphabet[below(alphabet.size())]); break;
                case 2: s.erase(below(s.size()), 1 + below(3)); break;
                default: s += s.substr(below(s.size()));
            }
        good += nm::parse_port(s) ? 1U : 0U;
        ASSERT_EQ(nm::test::fuzz_port_name(s), "") << s;
    }
    EXPECT_GT(good, 10'000U);
}

/// A header and a frame that can be cut.
bytes large(std::mt19937& random) {
    const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    bytes f(12);
    for (auto& b : f) b = static_cast<std::uint8_t>(random());
    const auto add = [&f](std::initializer_list<int> list) {
        for (const int b : list) f.push_back(static_cast<std::uint8_t>(b));
    };
    const bool v6 = below(2) != 0, udp = below(2) != 0;
    for (auto tags = below(3); tags != 0; --tags) add({below(2) != 0 ? 0x81 : 0x88, 0, 0, 7}), f[f.size() - 3] = f[f.size() - 4] == 0x88 ? 0xa8 : 0;
    const std::size_t l3 = f.size() + 2;
    const auto words = v6 ? 10 : 5 + below(11);
    add({v6 ? 0x86 : 0x08, v6 ? 0xdd : 0x00});
    for (auto n = words * 4 + (v6 ? below(3) * 8 : 0); n != 0; --n) f.push_back(static_cast<std::uint8_t>(random()));
    const std::size_t l4 = f.size();
    const bool fragments = udp && below(2) != 0;
    if (v6) {
        // What may stand before UDP and what may not.
        const int list[] = {0, 60, 43, 60, 44, 51};
        std::size_t names_next = l3 + 6;
        for (std::size_t at = l3 + 40, k = below(2); at != l4; names_next = at, at += 8, k += 1 + below(2)) {
            f[names_next] = static_cast<std::uint8_t>(list[k % 6]);
            f[at + 1] = 0;
        }
        f[names_next] = udp ? 17 : 6;
    }
    f[l3] = static_cast<std::uint8_t>(v6 ? 0x60 : 0x40 | words);
    if (!v6) f[l3 + 6] = static_cast<std::uint8_t>(f[l3 + 6] & 0xc0), f[l3 + 7] = 0, f[l3 + 9] = udp ? 17 : 6;
    const std::size_t l4_header = udp ? 8 : 20 + below(11) * 4;
    for (auto n = l4_header; n != 0; --n) f.push_back(static_cast<std::uint8_t>(random()));
    if (!udp) f[l4 + 12] = static_cast<std::uint8_t>(l4_header << 2);
    // Now and then bytes that make sums of zero or of all ones.
    const int fill = below(3) == 0 ? (below(2) != 0 ? 0xff : 0) : -1;
    for (auto n = 1 + below(below(8) == 0 ? 60'000 : 1'000); n != 0; --n) f.push_back(static_cast<std::uint8_t>(fill >= 0 ? static_cast<unsigned>(fill) : random()));
    nm::vnet_hdr h{};
    h.flags = nm::vnet_needs_csum;
    h.gso_type = fragments ? nm::vnet_gso_udp : udp ? nm::vnet_gso_udp_l4 : v6 ? nm::vnet_gso_tcpv6 : nm::vnet_gso_tcpv4;
    if (!udp && below(4) == 0) h.gso_type |= nm::vnet_gso_ecn;
    h.gso_size = static_cast<std::uint16_t>(1 + below(below(2) != 0 ? 1448 : 20));
    if (f.size() > 5'000) h.gso_size = static_cast<std::uint16_t>(500 + below(60'000));
    h.csum_start = static_cast<std::uint16_t>(l4);
    h.csum_offset = udp ? 6 : 16;
    h.hdr_len = static_cast<std::uint16_t>(l4 + l4_header);
    if (fragments && below(4) == 0) h.flags = 0;
    bytes all(sizeof h);
    std::memcpy(all.data(), &h, sizeof h);
    all.insert(all.end(), f.begin(), f.end());
    return all;
}

TEST(fuzz, virtio_net_headers_and_segments) {
    std::mt19937 random(21);
    std::size_t good = 0, fragmented = 0;
    for (int i = 0; i < 6'000; ++i) {
        bytes in = large(random);
        nm::vnet_hdr first;
        std::memcpy(&first, in.data(), sizeof first);
        if (first.gso_type == nm::vnet_gso_udp && nm::segmenter(std::span<const std::uint8_t>(in).subspan(10), first).segments() > 1) ++fragmented;
        ASSERT_EQ(nm::test::fuzz_offload(in), "") << "valid, " << i;
        for (int k = 0; k < 3; ++k) {
            bytes bad(in);
            if (bad.size() > 2'000) break;
            for (auto n = 1 + random() % 2; n != 0; --n) switch (random() % 4) {
                    case 0: bad[random() % 10] = static_cast<std::uint8_t>(random()); break;
                    case 1: bad[random() % std::min<std::size_t>(bad.size(), 110)] ^= static_cast<std::uint8_t>(1U << random() % 8); break;
                    case 2: bad.resize(10 + random() % std::min<std::size_t>(bad.size(), 150)); break;
                    default: bad[random() % std::min<std::size_t>(bad.size(), 110)] = static_cast<std::uint8_t>(random());
                }
            nm::vnet_hdr h;
            std::memcpy(&h, bad.data(), sizeof h);
            good += nm::segmenter(std::span<const std::uint8_t>(bad).subspan(10), h).valid() ? 1U : 0U;
            ASSERT_EQ(nm::test::fuzz_offload(bad), "") << i << " " << k;
        }
    }
    EXPECT_GT(good, 1'000U);
    EXPECT_GT(fragmented, 500U);
}

// Every pair of ports with and without headers: valid frames in one slot and in many, then broken ones.
TEST(fuzz, headers_on_a_switch) {
    std::mt19937 random(22);
    nm::test::switch_under_test sw;
    for (int i = 0; i < 4'000; ++i) {
        bytes in(3);
        for (auto& b : in) b = static_cast<std::uint8_t>(random());
        const bytes frame = large(random);
        in.insert(in.end(), frame.begin(), frame.end());
        if (random() % 4 == 0) in[3] = 1, in[4] = 0;              // only the checksum
        if (random() % 6 == 0) std::fill_n(in.begin() + 3, 10, 0);  // nothing
        ASSERT_EQ(nm::test::fuzz_switch(sw, in), "") << "valid, " << i;
        for (auto n = 1 + random() % 3; n != 0; --n) switch (random() % 3) {
                case 0: in[random() % 13] = static_cast<std::uint8_t>(random()); break;
                case 1: in[random() % std::min<std::size_t>(in.size(), 110)] ^= static_cast<std::uint8_t>(1U << random() % 8); break;
                default: in.resize(13 + random() % std::min<std::size_t>(in.size(), 150));
            }
        ASSERT_EQ(nm::test::fuzz_switch(sw, in), "") << "broken, " << i;
    }
    const auto s = sw.stats();
    EXPECT_GT(s.delivered, 20'000U);
    EXPECT_GT(s.drops[static_cast<std::size_t>(nm::cause::bad_hdr)], 300U);
    EXPECT_GT(s.drops[static_cast<std::size_t>(nm::cause::bad_len)], 50U);
    EXPECT_GT(s.drops[static_cast<std::size_t>(nm::cause::bad_chain)], 100U);
    EXPECT_GT(s.drops[static_cast<std::size_t>(nm::cause::full)], 100U);
}

}  // namespace
