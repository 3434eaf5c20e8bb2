// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What a network card would have done: finishing a partial checksum and cutting a large frame into segments, as the
// virtio-net header that travels with the frame asks. Frames and headers are hostile: lengths are checked against the
// span, and protocol headers are read once, into a private copy.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "nm/slot.hpp"
#include "nm/vnet_hdr.hpp"

namespace nm {

/// Internet checksum (RFC 1071) as a running sum. Sums of pieces may be added when every piece but the last is even.
class checksum {
public:
    constexpr checksum& add(std::uint64_t v) noexcept {
        sum_ += v;
        sum_ += sum_ < v ? 1U : 0U;
        return *this;
    }
    checksum& add(std::span<const std::uint8_t> bytes) noexcept {
        const std::uint8_t* p = bytes.data();
        std::size_t n = bytes.size();
        std::uint64_t w = 0;
        for (; n >= 32; n -= 32, p += 32) {
            std::array<std::uint64_t, 4> q;
            std::memcpy(q.data(), p, 32);
            add(q[0]).add(q[1]).add(q[2]).add(q[3]);
        }
        for (; n >= 8; n -= 8, p += 8) {
            std::memcpy(&w, p, 8);
            add(w);
        }
        if (n != 0) {
            w = 0;
            std::memcpy(&w, p, n);
            add(w);
        }
        return *this;
    }
    /// The 16-bit one's complement sum, in the byte order of the data.
    [[nodiscard]] constexpr std::uint16_t fold() const noexcept {
        std::uint64_t s = (sum_ & 0xffffffffU) + (sum_ >> 32);
        s = (s & 0xffffU) + (s >> 16);
        s = (s & 0xffffU) + (s >> 16);
        s = (s & 0xffffU) + (s >> 16);
        return static_cast<std::uint16_t>(s);
    }
    [[nodiscard]] constexpr std::uint16_t value() const noexcept { return static_cast<std::uint16_t>(~fold()); }

private:
    std::uint64_t sum_ = 0;
};

/// Completes a checksum whose pseudo-header sum is in its field already. False for a header that does not fit.
[[nodiscard]] inline bool finish_checksum(std::span<std::uint8_t> frame, const vnet_hdr& h) noexcept {
    if ((h.flags & vnet_needs_csum) == 0) return true;
    const std::size_t field = static_cast<std::size_t>(h.csum_start) + h.csum_offset;
    if (h.csum_start >= frame.size() || field + 2 > frame.size()) return false;
    std::uint16_t c = checksum{}.add(frame.subspan(h.csum_start)).value();
    if (c == 0) c = 0xffff;  // zero means "none" in UDP, and the two are the same number elsewhere
    std::memcpy(frame.data() + field, &c, sizeof c);
    return true;
}

/// For who sends without a virtio-net header: what the slot's asks for is done here, where one frame stays one frame. False
/// for what is not to be sent.
[[nodiscard]] inline bool finish_frame(const slot& s, std::span<std::uint8_t> frame) noexcept {
    const vnet_hdr h = unpack(s.ptr);
    if (!valid_vnet(h, frame.size()) || h.gso_type != vnet_gso_none) return false;
    if ((h.flags & vnet_needs_csum) == 0) return true;
    return (s.flags & ns_morefrag) == 0 && finish_checksum(frame, h);
}

namespace detail {
[[nodiscard]] inline std::uint16_t load16(const std::uint8_t* p) noexcept {
    return static_cast<std::uint16_t>(p[0] << 8 | p[1]);
}
[[nodiscard]] inline std::uint32_t load32(const std::uint8_t* p) noexcept {
    return static_cast<std::uint32_t>(load16(p)) << 16 | load16(p + 2);
}
inline void store16(std::uint8_t* p, std::size_t v) noexcept {
    p[0] = static_cast<std::uint8_t>(v >> 8);
    p[1] = static_cast<std::uint8_t>(v);
}
inline void store32(std::uint8_t* p, std::uint32_t v) noexcept {
    store16(p, v >> 16);
    store16(p + 2, v);
}
}  // namespace detail

/// Whether a frame that is longer than `max` (MTU and Ethernet header) may be so because of its VLAN tag.
[[nodiscard]] inline bool fits_link(std::span<const std::uint8_t> first_bytes, std::size_t len, std::size_t max) noexcept {
    if (len <= max) return true;
    if (len > max + 4 || first_bytes.size() < 14) return false;
    const std::uint16_t ether = detail::load16(first_bytes.data() + 12);
    return ether == 0x8100 || ether == 0x88a8;
}

/// Cuts one large TCP or UDP frame into complete frames, one call of next() each. The frame must stay where it is
/// meanwhile. TCP and UDP segments are as the kernel's own: the IPv4 id counts up, FIN and PSH go with the last, CWR with
/// the first. Where the header asks for IP fragmentation (vnet_gso_udp) they are fragments of one datagram.
class segmenter {
public:
    static constexpr std::size_t max_header = 256 + 8;  ///< bytes before the payload of a segment

    segmenter() noexcept = default;
    segmenter(std::span<const std::uint8_t> frame, const vnet_hdr& h) noexcept : frame_(frame) { parse(h); }

    /// Payload of each segment but the last, if the frame is one that can be cut.
    [[nodiscard]] static constexpr std::size_t payload_of(const vnet_hdr& h) noexcept {
        // An offset in IP counts units of 8 bytes.
        return (h.gso_type & ~vnet_gso_ecn) == vnet_gso_udp ? h.gso_size & ~7U : h.gso_size;
    }

    /// Whether the headers made sense; next() gives nothing otherwise.
    [[nodiscard]] bool valid() const noexcept { return header_ != 0; }
    [[nodiscard]] bool done() const noexcept { return header_ == 0 || at_ >= frame_.size(); }
    [[nodiscard]] std::size_t segments() const noexcept {
        return header_ == 0 ? 0 : (frame_.size() - begin_ + size_ - 1) / size_;
    }
    /// Bytes of the next segment.
    [[nodiscard]] std::size_t next_size() const noexcept {
        return done() ? 0 : header_ + std::min<std::size_t>(size_, frame_.size() - at_);
    }
    /// Bytes of the last one. All others are as long as the first.
    [[nodiscard]] std::size_t last_size() const noexcept {
        return header_ == 0 ? 0 : header_ + (frame_.size() - begin_ - 1) % size_ + 1;
    }

    /// Writes the next segment; its length, or 0 at the end (or when `out` is shorter than next_size()).
    [[nodiscard]] std::size_t next(std::span<std::uint8_t> out) noexcept {
        const std::size_t length = next_size();
        if (length == 0 || out.size() < length) return 0;
        const std::size_t payload = length - header_;
        const bool first = at_ == begin_;
        const bool last = at_ + payload >= frame_.size();
        std::uint8_t* p = out.data();
        std::memcpy(p, headers_.data(), header_);
        std::memcpy(p + header_, frame_.data() + at_, payload);
        if (fragments_) write_fragment(p, last);
        write_l3(p, length);
        if (fragments_) {
            if (first) std::memcpy(p + header_, udp_.data(), udp_.size());
        } else if (tcp_) {
            detail::store32(p + l4_ + 4, sequence_);
            sequence_ += static_cast<std::uint32_t>(payload);
            std::uint8_t& flags = p[l4_ + 13];
            if (!last) flags = static_cast<std::uint8_t>(flags & ~(fin | psh));
            if (!first) flags = static_cast<std::uint8_t>(flags & ~cwr);
        } else {
            detail::store16(p + l4_ + 4, length - l4_);
        }
        if (!fragments_) write_l4_checksum(p, p + l4_, length - l4_);
        at_ += payload;
        ++count_;
        return length;
    }

private:
    static constexpr std::uint8_t fin = 0x01, psh = 0x08, cwr = 0x80;
    static constexpr std::uint8_t udp = 17, fragment = 44;
    static constexpr std::size_t fragment_header = 8;  // IPv6's, which the frame did not have

    void parse(const vnet_hdr& h) noexcept {
        const auto type = h.gso_type & ~vnet_gso_ecn;
        fragments_ = type == vnet_gso_udp;
        if (!valid_vnet(h, frame_.size()) || ((h.flags & vnet_needs_csum) == 0 && !fragments_)) return;
        if (type != vnet_gso_tcpv4 && type != vnet_gso_tcpv6 && type != vnet_gso_udp_l4 && !fragments_) return;
        const std::size_t readable = std::min(frame_.size(), max_header - fragment_header);
        std::size_t l3 = 14;
        if (readable < l3 + 20) return;
        std::memcpy(headers_.data(), frame_.data(), readable);
        std::uint16_t ether = detail::load16(headers_.data() + 12);
        for (int tags = 0; (ether == 0x8100 || ether == 0x88a8) && tags < 2; ++tags, l3 += 4)
            ether = detail::load16(headers_.data() + l3 + 2);
        tcp_ = type == vnet_gso_tcpv4 || type == vnet_gso_tcpv6;
        const std::uint8_t protocol = tcp_ ? 6 : udp;
        l4_ = h.csum_start;
        l3_ = l3;
        if (l3 + 20 > readable) return;
        if (ether == 0x0800 && type != vnet_gso_tcpv6) {
            v6_ = false;
            const std::size_t ihl = (headers_[l3] & 0xfU) * 4U;
            if (fragments_ && (h.flags & vnet_needs_csum) == 0) l4_ = l3 + ihl;
            if (headers_[l3] >> 4 != 4 || ihl < 20 || l4_ != l3 + ihl || headers_[l3 + 9] != protocol) return;
            if ((detail::load16(headers_.data() + l3 + 6) & 0x3fffU) != 0) return;  // a fragment has no segments
        } else if (ether == 0x86dd && type != vnet_gso_tcpv4) {
            v6_ = true;
            if (l3 + 40 > readable || headers_[l3] >> 4 != 6) return;
            if (fragments_ && !find_udp(readable, h)) return;
            if (l4_ < l3 + 40) return;
        } else {
            return;
        }
        if (l4_ + (tcp_ ? 20U : 8U) > readable) return;
        if ((h.flags & vnet_needs_csum) != 0 && h.csum_offset != (tcp_ ? 16 : 6)) return;
        const std::size_t l4_header = tcp_ ? (headers_[l4_ + 12] >> 4) * 4U : 8U;
        if (tcp_ && l4_header < 20) return;
        if (l4_ + l4_header > readable || l4_ + l4_header >= frame_.size()) return;
        size_ = payload_of(h);
        sequence_ = detail::load32(headers_.data() + l4_ + 4);
        id_ = detail::load16(headers_.data() + l3 + 4);
        if (fragments_) return parse_datagram(h);
        header_ = begin_ = at_ = l4_ + l4_header;
    }

    // Headers that go with every fragment (RFC 8200, 4.5): IPv6's, hop-by-hop, routing and what is for the routed hops; and
    // nothing else before UDP. Leaves in next_ which byte names what follows them.
    [[nodiscard]] bool find_udp(std::size_t readable, const vnet_hdr& h) noexcept {
        constexpr std::uint8_t hop_by_hop = 0, routing = 43, options = 60;
        next_ = l3_ + 6;
        std::size_t at = l3_ + 40;
        for (bool routed = false; headers_[next_] != udp;) {
            const std::uint8_t what = headers_[next_];
            if (what != hop_by_hop && what != routing && (what != options || routed)) return false;
            routed |= what == routing;
            if (at + 8 > readable) return false;
            next_ = at;
            at += 8U + headers_[at + 1] * 8U;
        }
        if ((h.flags & vnet_needs_csum) != 0 && at != l4_) return false;
        l4_ = at;
        return true;
    }

    void parse_datagram(const vnet_hdr& h) noexcept {
        const std::size_t length = frame_.size() - l4_;
        if (size_ == 0 || frame_.size() - l3_ > 65535U + (v6_ ? 40U : 0U)) return;  // no receiver could put it together
        std::memcpy(udp_.data(), frame_.data() + l4_, udp_.size());
        if ((h.flags & vnet_needs_csum) != 0) {
            // One checksum, over all of the datagram, in the first fragment.
            detail::store16(udp_.data() + 4, length);
            detail::store16(udp_.data() + 6, 0);
            std::uint16_t c = pseudo_header(headers_.data(), length)
                                  .add(std::span<const std::uint8_t>(udp_))
                                  .add(frame_.subspan(l4_ + udp_.size()))
                                  .value();
            if (c == 0) c = 0xffff;
            std::memcpy(udp_.data() + 6, &c, sizeof c);
        }
        begin_ = at_ = l4_;
        header_ = l4_;
        if (!v6_ || length <= size_) return;
        std::uint8_t* p = headers_.data() + l4_;
        p[0] = std::exchange(headers_[next_], fragment);
        p[1] = 0;
        detail::store32(p + 4, name_of_datagram());
        header_ += fragment_header;
    }

    // IPv6 leaves the fragments' identification to who cuts: any that the same two stations do not use for something else
    // at the same time, and that a third cannot guess (RFC 7739). What depends on every byte of the datagram is both: the same
    // one twice is the same fragments twice.
    [[nodiscard]] std::uint32_t name_of_datagram() const noexcept {
        std::uint64_t v = 0, name = 0x9e3779b97f4a7c15U;
        const auto mix = [&name](std::uint64_t w) {
            name = (name ^ w) * 0xd6e8feb86659fd93U;
            name ^= name >> 32U;
        };
        std::size_t at = l3_ + 8;
        for (; at + 8 <= frame_.size(); at += 8) {
            std::memcpy(&v, frame_.data() + at, 8);
            mix(v);
        }
        v = 0;
        std::memcpy(&v, frame_.data() + at, frame_.size() - at);
        mix(v);
        return static_cast<std::uint32_t>(name);
    }

    void write_l3(std::uint8_t* p, std::size_t length) const noexcept {
        if (v6_) return detail::store16(p + l3_ + 4, length - l3_ - 40);
        detail::store16(p + l3_ + 2, length - l3_);
        detail::store16(p + l3_ + 4, static_cast<std::uint16_t>(fragments_ ? id_ : id_ + count_));
        detail::store16(p + l3_ + 10, 0);
        const std::uint16_t c = checksum{}.add(std::span<const std::uint8_t>(p + l3_, l4_ - l3_)).value();
        std::memcpy(p + l3_ + 10, &c, sizeof c);
    }

    // Where in the datagram the fragment lies, and whether it is the last.
    void write_fragment(std::uint8_t* p, bool last) const noexcept {
        if (segments() == 1) return;
        const std::size_t offset = at_ - begin_;
        if (!v6_) detail::store16(p + l3_ + 6, offset / 8 | (last ? 0U : 0x2000U));
        else if (header_ != l4_) detail::store16(p + l4_ + 2, offset | (last ? 0U : 1U));
    }

    [[nodiscard]] checksum pseudo_header(const std::uint8_t* p, std::size_t l4_bytes) const noexcept {
        std::array<std::uint8_t, 4> tail{0, static_cast<std::uint8_t>(tcp_ ? 6 : udp), 0, 0};
        detail::store16(tail.data() + 2, l4_bytes);
        const std::size_t addresses = v6_ ? l3_ + 8 : l3_ + 12;
        return checksum{}.add(std::span<const std::uint8_t>(p + addresses, v6_ ? 32U : 8U)).add(std::span<const std::uint8_t>(tail));
    }
    void write_l4_checksum(const std::uint8_t* p, std::uint8_t* l4, std::size_t bytes) const noexcept {
        std::uint8_t* field = l4 + (tcp_ ? 16 : 6);
        detail::store16(field, 0);
        std::uint16_t c = pseudo_header(p, bytes).add(std::span<const std::uint8_t>(l4, bytes)).value();
        if (c == 0 && !tcp_) c = 0xffff;
        std::memcpy(field, &c, sizeof c);
    }

    std::span<const std::uint8_t> frame_;
    std::array<std::uint8_t, max_header> headers_{};
    std::array<std::uint8_t, 8> udp_{};  // the header of the datagram that becomes fragments
    std::size_t header_ = 0;  // bytes before the payload; 0: not a frame that can be cut
    std::size_t begin_ = 0;   // of the payload in the frame
    std::size_t at_ = 0;
    std::size_t l3_ = 0;
    std::size_t l4_ = 0;
    std::size_t next_ = 0;
    std::size_t size_ = 1;
    std::uint32_t sequence_ = 0;
    std::uint32_t count_ = 0;
    std::uint16_t id_ = 0;
    bool v6_ = false;
    bool tcp_ = false;
    bool fragments_ = false;
};

}  // namespace nm
