// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "common/flows.hpp"

namespace tool {

/// An Ethernet frame with IPv4 or IPv6, UDP and a text that repeats, with right lengths and checksums; flow, length and
/// the first 16 bytes of payload can be changed at a cost that does not depend on the length. Frames that are too short
/// for the headers carry the ethertype for local experiments (88b5) and nothing else.
class packet {
public:
    static constexpr std::size_t eth_bytes = 14;
    static constexpr std::size_t udp_bytes = 8;
    static constexpr std::size_t stamp_bytes = 16;

    packet(const mac_address& dst, const mac_address& src, const flow& f, std::size_t max_length)
        : v6_(f.src.v6), flow_(f), bytes_(std::max(max_length, payload_at() + stamp_bytes)) {
        std::copy(dst.begin(), dst.end(), bytes_.begin());
        std::copy(src.begin(), src.end(), bytes_.begin() + 6);
        constexpr std::string_view text = "nm pkt-gen ";
        for (std::size_t i = payload_at(); i < bytes_.size(); ++i)
            bytes_[i] = static_cast<std::uint8_t>(text[(i - payload_at()) % text.size()]);
        // Sums of the payload from byte 16 on, up to each even length: a checksum of any length is then one look-up.
        sums_.push_back(0);
        for (std::size_t i = payload_at() + stamp_bytes; i + 1 < bytes_.size(); i += 2)
            sums_.push_back(sums_.back() + word(i));
        set_length(max_length);
    }

    [[nodiscard]] static std::size_t headers(bool v6) noexcept { return eth_bytes + (v6 ? 40U : 20U) + udp_bytes; }
    [[nodiscard]] std::size_t payload_at() const noexcept { return headers(v6_); }
    [[nodiscard]] std::span<const std::uint8_t> bytes() const noexcept { return {bytes_.data(), length_}; }

    void set_length(std::size_t length) noexcept {
        length_ = length;
        finish();
    }
    void set_flow(const flow& f) noexcept {
        flow_ = f;
        finish();
    }
    /// The first 16 bytes of payload, from where they begin at stamp(). Call finish() afterwards.
    [[nodiscard]] std::uint8_t* stamp() noexcept { return bytes_.data() + payload_at(); }

    void finish() noexcept {
        if (length_ < headers(v6_)) {
            put16(12, 0x88b5);
            return;
        }
        const std::size_t ip_length = length_ - eth_bytes;
        const std::size_t udp_at = payload_at() - udp_bytes;
        const std::size_t udp_length = length_ - udp_at;
        v6_ ? ipv6(udp_length) : ipv4(ip_length);
        put16(udp_at, flow_.src_port);
        put16(udp_at + 2, flow_.dst_port);
        put16(udp_at + 4, static_cast<std::uint16_t>(udp_length));
        const std::uint64_t sum = address_sum(flow_.src) + address_sum(flow_.dst) + 17U + udp_length + flow_.src_port +
                                  flow_.dst_port + udp_length + payload_sum(length_ - payload_at());
        const std::uint16_t checksum = folded(sum);
        put16(udp_at + 6, checksum == 0 ? 0xffff : checksum);  // 0 would say that there is none
    }

private:
    void ipv4(std::size_t total) noexcept {
        put16(12, 0x0800);
        put16(14, 0x4500);
        put16(16, static_cast<std::uint16_t>(total));
        put16(18, 0);
        put16(20, 0x4000);  // do not fragment
        put16(22, 64 << 8 | 17);
        put16(24, 0);
        put32(26, static_cast<std::uint32_t>(flow_.src.low));
        put32(30, static_cast<std::uint32_t>(flow_.dst.low));
        std::uint64_t sum = 0;
        for (std::size_t i = 14; i < 34; i += 2) sum += word(i);
        put16(24, folded(sum));
    }
    void ipv6(std::size_t payload) noexcept {
        put16(12, 0x86dd);
        put16(14, 0x6000);
        put16(16, 0);
        put16(18, static_cast<std::uint16_t>(payload));
        put16(20, 17 << 8 | 64);
        put64(22, flow_.src.high);
        put64(30, flow_.src.low);
        put64(38, flow_.dst.high);
        put64(46, flow_.dst.low);
    }

    [[nodiscard]] std::uint64_t payload_sum(std::size_t n) const noexcept {
        const std::size_t at = payload_at();
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i + 1 < std::min(n, stamp_bytes); i += 2) sum += word(at + i);
        if (n > stamp_bytes) sum += sums_[(n - stamp_bytes) / 2];
        if (n % 2 != 0) sum += static_cast<std::uint64_t>(bytes_[at + n - 1]) << 8;
        return sum;
    }
    [[nodiscard]] static std::uint64_t address_sum(const address& a) noexcept {
        const auto words = [](std::uint64_t v) {
            return (v >> 48) + (v >> 32 & 0xffffU) + (v >> 16 & 0xffffU) + (v & 0xffffU);
        };
        return words(a.high) + words(a.low);
    }
    [[nodiscard]] static std::uint16_t folded(std::uint64_t sum) noexcept {
        while (sum >> 16 != 0) sum = (sum & 0xffffU) + (sum >> 16);
        return static_cast<std::uint16_t>(~sum);
    }
    [[nodiscard]] std::uint64_t word(std::size_t at) const noexcept {
        return static_cast<std::uint64_t>(bytes_[at]) << 8 | bytes_[at + 1];
    }
    void put16(std::size_t at, std::uint16_t v) noexcept {
        bytes_[at] = static_cast<std::uint8_t>(v >> 8);
        bytes_[at + 1] = static_cast<std::uint8_t>(v);
    }
    void put32(std::size_t at, std::uint32_t v) noexcept {
        put16(at, static_cast<std::uint16_t>(v >> 16));
        put16(at + 2, static_cast<std::uint16_t>(v));
    }
    void put64(std::size_t at, std::uint64_t v) noexcept {
        put32(at, static_cast<std::uint32_t>(v >> 32));
        put32(at + 4, static_cast<std::uint32_t>(v));
    }

    bool v6_;
    flow flow_;
    std::vector<std::uint8_t> bytes_;
    std::vector<std::uint64_t> sums_;
    std::size_t length_ = 0;
};

}  // namespace tool
