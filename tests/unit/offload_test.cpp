// SPDX-License-Identifier: BSD-2-Clause

#include "nm/offload.hpp"

#include <array>
#include <cstdlib>
#include <gtest/gtest.h>
#include <random>
#include <string>
#include <vector>

namespace {

using bytes = std::vector<std::uint8_t>;

/// RFC 1071 as its own example has it: 16 bits at a time, no tricks.
std::uint16_t plain_sum(const bytes& b, std::size_t from = 0) {
    std::uint32_t sum = 0;
    for (std::size_t i = from; i < b.size(); i += 2)
        sum += static_cast<std::uint32_t>(b[i] << 8 | (i + 1 < b.size() ? b[i + 1] : 0));
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

bytes from_hex(const std::string& hex) {
    bytes b;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
        b.push_back(static_cast<std::uint8_t>(std::strtoul(hex.substr(i, 2).c_str(), nullptr, 16)));
    return b;
}

struct shape {
    bool v6 = false;
    bool udp = false;
    unsigned tags = 0;
    std::size_t options = 0;  // of TCP
};

/// A large frame with a header that asks for segments of `size`.
bytes large(const shape& s, std::size_t payload, std::size_t size, nm::vnet_hdr& h) {
    std::string head = "020000000002" "020000000001";
    for (unsigned t = 0; t < s.tags; ++t) head += "81000005";
    bytes f = from_hex(head);
    const auto ip4 = from_hex("0800450000001234400040000000" "0a0900010a090002");
    const auto ip6 = from_hex("86dd6000000000000640" "fd000000000000000000000000000001" "fd000000000000000000000000000002");
    const auto& ip = s.v6 ? ip6 : ip4;
    f.insert(f.end(), ip.begin(), ip.end());
    const std::size_t l3 = 14 + 4 * s.tags;
    f[l3 + (s.v6 ? 6 : 9)] = s.udp ? 17 : 6;
    const std::size_t l4 = f.size();
    const std::size_t l4_header = s.udp ? 8 : 20 + s.options;
    f.resize(l4 + l4_header);
    f[l4 + 1] = 80;
    f[l4 + 3] = 99;
    if (!s.udp) {
        f[l4 + 4] = f[l4 + 5] = f[l4 + 6] = 0xff;  // the sequence number wraps
        f[l4 + 12] = static_cast<std::uint8_t>((l4_header / 4) << 4);
        f[l4 + 13] = 0x80 | 0x10 | 0x08 | 0x01;  // CWR ACK PSH FIN
    }
    for (std::size_t i = 0; i < payload; ++i) f.push_back(static_cast<std::uint8_t>(i * 7));
    h = {};
    h.flags = nm::vnet_needs_csum;
    h.gso_type = s.udp ? nm::vnet_gso_udp_l4 : s.v6 ? nm::vnet_gso_tcpv6 : nm::vnet_gso_tcpv4;
    h.gso_size = static_cast<std::uint16_t>(size);
    h.csum_start = static_cast<std::uint16_t>(l4);
    h.csum_offset = s.udp ? 6 : 16;
    h.hdr_len = static_cast<std::uint16_t>(l4 + l4_header);
    return f;
}

/// Whether the checksums of a complete frame are those that a receiver expects.
void expect_complete(const bytes& f, const shape& s) {
    const std::size_t l3 = 14 + 4 * s.tags;
    const std::size_t l4 = l3 + (s.v6 ? 40 : 20);
    if (!s.v6) {
        EXPECT_EQ(plain_sum(bytes(f.begin() + static_cast<long>(l3), f.begin() + static_cast<long>(l4))), 0);
        EXPECT_EQ(static_cast<std::size_t>(f[l3 + 2] << 8 | f[l3 + 3]), f.size() - l3);
    } else {
        EXPECT_EQ(static_cast<std::size_t>(f[l3 + 4] << 8 | f[l3 + 5]), f.size() - l4);
    }
    bytes pseudo(f.begin() + static_cast<long>(s.v6 ? l3 + 8 : l3 + 12), f.begin() + static_cast<long>(l4));
    const std::size_t n = f.size() - l4;
    for (const std::size_t b : {std::size_t{0}, std::size_t{s.udp ? 17U : 6U}, n >> 8, n & 0xff})
        pseudo.push_back(static_cast<std::uint8_t>(b));
    pseudo.insert(pseudo.end(), f.begin() + static_cast<long>(l4), f.end());
    EXPECT_EQ(plain_sum(pseudo), 0);
}

TEST(checksum, equals_the_plain_sum_at_every_length_and_alignment) {
    std::mt19937 random(1);
    for (std::size_t n = 0; n < 200; ++n) {
        bytes b(n + 8);
        for (auto& x : b) x = static_cast<std::uint8_t>(random());
        for (std::size_t at = 0; at < 8; ++at) {
            const bytes part(b.begin() + static_cast<long>(at), b.begin() + static_cast<long>(at + n));
            const auto c = nm::checksum{}.add(std::span<const std::uint8_t>(b.data() + at, n)).value();
            EXPECT_EQ(static_cast<std::uint16_t>(c << 8 | c >> 8), plain_sum(part)) << n;
        }
    }
    EXPECT_EQ(nm::checksum{}.add(std::span<const std::uint8_t>(bytes(70000, 0xff))).value(), 0);
}

TEST(finish_checksum, completes_what_the_kernel_left_partial) {
    nm::vnet_hdr h;
    auto f = large({}, 100, 1448, h);
    h.gso_type = nm::vnet_gso_none;
    // The pseudo-header's sum is in the field, as CHECKSUM_PARTIAL has it.
    const std::size_t n = f.size() - h.csum_start;
    const bytes pseudo{10, 9, 0, 1, 10, 9, 0, 2, 0, 6, static_cast<std::uint8_t>(n >> 8), static_cast<std::uint8_t>(n)};
    const auto sum = static_cast<std::uint16_t>(~plain_sum(pseudo));
    f[h.csum_start + 16U] = static_cast<std::uint8_t>(sum >> 8);
    f[h.csum_start + 17U] = static_cast<std::uint8_t>(sum);
    ASSERT_TRUE(nm::finish_checksum(f, h));
    bytes all = pseudo;
    all.insert(all.end(), f.begin() + h.csum_start, f.end());
    EXPECT_EQ(plain_sum(all), 0);
    h.csum_start = static_cast<std::uint16_t>(f.size() - 1);
    EXPECT_FALSE(nm::finish_checksum(f, h));
}

TEST(segmenter, cuts_into_complete_frames_with_all_the_payload) {
    for (const bool v6 : {false, true})
        for (const bool udp : {false, true})
            for (unsigned tags = 0; tags < 3; ++tags)
                for (const std::size_t payload : {1U, 1447U, 1448U, 1449U, 10000U, 65000U}) {
                    const shape s{v6, udp, tags, udp ? 0U : 12U};
                    nm::vnet_hdr h;
                    const auto f = large(s, payload, 1448, h);
                    nm::segmenter cut(f, h);
                    ASSERT_TRUE(cut.valid());
                    EXPECT_EQ(cut.segments(), (payload + 1447) / 1448);
                    bytes got;
                    std::size_t count = 0;
                    while (!cut.done()) {
                        bytes out(2048);
                        const std::size_t expected = cut.next_size();
                        out.resize(cut.next(out));
                        ASSERT_EQ(out.size(), expected);
                        expect_complete(out, s);
                        got.insert(got.end(), out.begin() + h.hdr_len, out.end());
                        if (!udp) {
                            EXPECT_EQ(out[h.csum_start + 13U], 0x10 | (count == 0 ? 0x80 : 0) | (cut.done() ? 0x09 : 0));
                        }
                        ++count;
                    }
                    EXPECT_EQ(count, (payload + 1447) / 1448);
                    EXPECT_EQ(got, bytes(f.begin() + h.hdr_len, f.end()));
                    std::array<std::uint8_t, 2048> more{};
                    EXPECT_EQ(cut.next(more), 0U);
                }
}

TEST(segmenter, agrees_with_scapy) {
    // Ether()/IP(src="10.9.0.1",dst="10.9.0.2",id=0x1234+1,flags="DF")/TCP(sport=80,dport=99,seq=0xffffff00+4,flags="A",
    // window=0)/bytes([28,35,42,49]), and its checksums as scapy makes them.
    nm::vnet_hdr h;
    const auto f = large({}, 12, 4, h);
    nm::segmenter cut(f, h);
    std::array<std::uint8_t, 128> out{};
    (void)cut.next(out);
    const std::size_t n = cut.next(out);
    EXPECT_EQ(bytes(out.begin(), out.begin() + static_cast<long>(n)), from_hex("02000000000202000000000108004500002c12354000400614830a090001"
             "0a09000200500063ffffff04000000005010000055b000001c232a31"));
}

TEST(segmenter, survives_hostile_headers_and_frames) {
    std::mt19937 random(7);
    std::array<std::uint8_t, 4096> out{};
    for (int round = 0; round < 20'000; ++round) {
        nm::vnet_hdr h;
        shape s{(random() & 1) != 0, (random() & 1) != 0, static_cast<unsigned>(random() % 3), random() % 11 * 4};
        auto f = large(s, random() % 3000, 1 + random() % 2000, h);
        // Valid first, then one thing broken: what is random from the start never passes the first check.
        switch (random() % 9) {
            case 0: h.csum_start = static_cast<std::uint16_t>(random()); break;
            case 1: h.gso_size = static_cast<std::uint16_t>(random() % 3); break;
            case 2: h.gso_type = static_cast<std::uint8_t>(random()); break;
            case 3: f.resize(random() % (f.size() + 1)); break;
            case 4: f[random() % std::min<std::size_t>(f.size(), 90)] = static_cast<std::uint8_t>(random()); break;
            case 5: h.csum_offset = static_cast<std::uint16_t>(random() % 300); break;
            case 6: h.hdr_len = static_cast<std::uint16_t>(random()); break;
            case 7: h.flags = static_cast<std::uint8_t>(random()); break;
            default: break;
        }
        const bytes exact(f);  // its own allocation: a sanitizer sees the first byte behind it
        nm::segmenter cut(exact, h);
        std::size_t total = 0;
        for (std::size_t budget = cut.segments() + 1; !cut.done(); --budget) {
            ASSERT_NE(budget, 0U);
            if (cut.next(out) == 0) break;
            ++total;
        }
        ASSERT_LE(total, f.size());
        bytes copy(f);
        (void)nm::finish_checksum(copy, h);
    }
}

}  // namespace
