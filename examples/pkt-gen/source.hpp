// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <random>
#include <vector>

#include "common/packet.hpp"
#include "settings.hpp"

namespace pkt_gen {

/// The packets of a capture file, one after the other in one piece of memory.
struct capture {
    std::vector<std::uint8_t> bytes;
    std::vector<std::pair<std::size_t, std::size_t>> packets;  ///< where each begins, and how long it is
};
[[nodiscard]] capture read_capture(const std::string& file);
[[nodiscard]] const char* capture_support() noexcept;  ///< "libpcap ..." or "no libpcap"

[[nodiscard]] inline tool::flow first_flow(const settings& s) noexcept {
    return {s.src->first, s.dst->first, s.src->first_port, s.dst->first_port};
}
[[nodiscard]] inline tool::packet template_packet(const settings& s) {
    return {s.dst_mac.value_or(tool::mac_address{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}),
            s.src_mac.value_or(tool::mac_address{2, 0, 0, 0, 0, 1}), first_flow(s), *s.length};
}

/// What one ring sends, packet after packet.
class source {
public:
    source(const settings& s, const capture& c, std::size_t lane, std::size_t lanes)
        : packet_(template_packet(s)), walk_(*s.src, *s.dst, s.random_src, s.random_dst, lane * 2654435761U + 12345),
          capture_(c), stride_(lanes), at_(c.packets.empty() ? 0 : lane % c.packets.size()), min_(s.min_length),
          max_(*s.length), random_(static_cast<std::uint32_t>(lane + 1)) {
        if (min_ != 0) packet_.set_length(some_length());
    }

    /// Whether every packet is the same.
    [[nodiscard]] bool constant() const noexcept { return capture_.packets.empty() && walk_.constant() && min_ == 0; }
    [[nodiscard]] std::span<const std::uint8_t> now() const noexcept {
        if (capture_.packets.empty()) return packet_.bytes();
        const auto [begin, length] = capture_.packets[at_];
        return {capture_.bytes.data() + begin, length};
    }
    void next() noexcept {
        if (!capture_.packets.empty()) {
            at_ = (at_ + stride_) % capture_.packets.size();
            return;
        }
        if (min_ != 0) packet_.set_length(some_length());
        if (!walk_.constant()) {
            walk_.next();
            packet_.set_flow(walk_.now());
        }
    }

private:
    [[nodiscard]] std::size_t some_length() noexcept { return min_ + random_() % (max_ - min_ + 1); }

    tool::packet packet_;
    tool::flow_walk walk_;
    const capture& capture_;
    std::size_t stride_, at_;
    std::size_t min_, max_;
    std::minstd_rand random_;
};

}  // namespace pkt_gen
