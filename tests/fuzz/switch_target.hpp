// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A switch whose ports have virtio-net headers of every kind and buffers of two sizes: each frame is flooded, and what arrives
// is compared with a reference that takes bytes one by one.

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fuzz/targets.hpp"
#include "nm/context.hpp"
#include "nm/vale/switch.hpp"

namespace nm::test {

namespace slow {

/// Whether a frame may have such a header: virtio 1.2, 5.1.6, and what netmap's switch refuses.
inline bool acceptable(const vnet_hdr& h, std::size_t frame) {
    if (h.flags > 3) return false;
    const bool sums = (h.flags & 1) != 0, ecn = (h.gso_type & 0x80) != 0;
    if (sums && (h.csum_offset > 255 || std::size_t{h.csum_start} + h.csum_offset + 2 > frame)) return false;
    const int type = h.gso_type & 0x7f;
    if (type == 0) return !ecn;
    if (h.gso_size == 0) return false;
    if (type == 1 || type == 4) return sums;
    return (type == 3 || type == 5) && !ecn;
}

/// A frame on its way through a switch.
struct journey {
    vnet_hdr head{};
    std::vector<bytes> pieces;  // slot by slot, without the header
    std::string dropped;        // at the sender, for this reason
    [[nodiscard]] bytes frame() const {
        bytes all;
        for (const auto& p : pieces) all.insert(all.end(), p.begin(), p.end());
        return all;
    }
};

/// `in_front` bytes of header in the first piece, or one in the slot, or none.
inline journey start(std::vector<bytes> pieces, std::size_t in_front, const vnet_hdr* in_slot) {
    journey j;
    if (pieces[0].size() < in_front) return {{}, {}, "bad header"};
    if (in_front != 0) std::memcpy(&j.head, pieces[0].data(), 10);
    else if (in_slot != nullptr) j.head = *in_slot;
    pieces[0].erase(pieces[0].begin(), pieces[0].begin() + static_cast<long>(in_front));
    std::size_t all = 0;
    for (const auto& p : pieces) all += p.size();
    const bool headed = in_front != 0 || in_slot != nullptr;
    if (headed && !acceptable(j.head, all)) return {{}, {}, "bad header"};
    // A first slot with nothing but the header is followed by what a lookup reads; so is no other.
    const bool alone = in_front != 0 && pieces[0].empty() && pieces.size() > 1;
    if (pieces[alone ? 1 : 0].size() < 14) return {{}, {}, "bad length"};
    j.pieces = std::move(pieces);
    return j;
}

/// What a receiver finds: frames, each as the contents of its slots.
using arrival = std::vector<std::vector<bytes>>;

inline std::vector<bytes> split(const bytes& b, std::size_t size) {
    std::vector<bytes> parts;
    for (std::size_t at = 0; at < b.size(); at += size)
        parts.emplace_back(b.begin() + static_cast<long>(at), b.begin() + static_cast<long>(std::min(b.size(), at + size)));
    return parts;
}

inline arrival arrive(const journey& j, vale::header mode, std::size_t buf_size, std::size_t ring) {
    arrival all;
    const bool cuts = j.head.gso_type != 0, sums = (j.head.flags & 1) != 0;
    if (mode == vale::header::none && (cuts || sums)) {
        bytes f = j.frame();
        if (cuts) {
            std::size_t slots = 0;
            for (const auto& s : cut(f, j.head)) {
                all.push_back(split(s, buf_size));
                slots += all.back().size();
            }
            if (slots >= ring) all.clear();
        } else {
            const std::size_t c = complement(sum(f, j.head.csum_start, f.size()));
            set16(f, std::size_t{j.head.csum_start} + j.head.csum_offset, c == 0 ? 0xffff : c);
            all.push_back(split(f, buf_size));
        }
    } else {
        auto pieces = j.pieces;
        const std::size_t in_front = mode == vale::header::ten ? 10 : mode == vale::header::twelve ? 12 : 0;
        bytes head(12);
        std::memcpy(head.data(), &j.head, 10);
        pieces[0].insert(pieces[0].begin(), head.begin(), head.begin() + static_cast<long>(in_front));
        std::vector<bytes> slots;
        for (const auto& p : pieces)
            for (auto& s : split(p, buf_size)) slots.push_back(std::move(s));
        if (in_front == 12) slots[0][10] = static_cast<std::uint8_t>(slots.size());
        all.push_back(std::move(slots));
    }
    std::erase_if(all, [&](const auto& f) { return f.size() > 64 || f.size() >= ring; });
    return all;
}

}  // namespace slow

class switch_under_test {
public:
    static constexpr unsigned slots = 256;
    struct end {
        vale::header mode;
        std::uint32_t buf_size;
    };
    static constexpr end ends[] = {{vale::header::none, 2112}, {vale::header::ten, 2112},   {vale::header::twelve, 2112},
                                   {vale::header::in_slot, 2112}, {vale::header::none, 256}, {vale::header::twelve, 256}};
    static constexpr std::size_t senders = 4;

    switch_under_test() : sw_(*vale::vale_switch<everywhere>::create(ctx_, "vale0")) {
        for (const auto& e : ends) {
            region_options r;
            r.bufs = 2 * slots + 2;
            r.buf_size = e.buf_size;
            r.meta_bytes = 1U << 18U;
            open_options o;
            o.memory = *region::create(r);
            o.tx_slots = slots;
            o.storm_copies = 0;
            auto spec = parse_port("vale0:p" + std::to_string(ports_.size()));
            auto core = ctx_.find<vale::switch_core>("vale:vale0");
            ports_.push_back(*vale_port::create(ctx_, core, *spec, o, e.mode));
        }
    }

    /// Sends the pieces as one frame from port `from`; what is wrong with what arrives, or nothing.
    [[nodiscard]] std::string send(std::size_t from, const std::vector<bytes>& pieces, const vnet_hdr* in_slot) {
        auto& tx = ports_[from].tx();
        const auto before = sw_.stats();
        for (std::size_t k = 0; k < pieces.size(); ++k) {
            auto& s = tx.slot();
            std::memcpy(tx.buf(s), pieces[k].data(), pieces[k].size());
            s.len = static_cast<std::uint16_t>(pieces[k].size());
            s.flags = k + 1 < pieces.size() ? ns_morefrag : std::uint16_t{0};
            if (k == 0 && in_slot != nullptr) s.flags |= ns_vnet, s.ptr = pack(*in_slot);
            tx.advance();
        }
        tx.txsync();
        const std::size_t in_front = bytes_in_frame(ends[from].mode);
        const auto want = slow::start(pieces, in_front, in_front != 0 ? nullptr : in_slot);
        std::uint64_t frames = 0;
        for (std::size_t to = 0; to < ports_.size(); ++to) {
            if (to == from) continue;
            const slow::arrival expected =
                want.dropped.empty() ? slow::arrive(want, ends[to].mode, ends[to].buf_size, slots) : slow::arrival{};
            frames += expected.size();
            if (auto wrong = compare(ports_[to], expected, want, ends[to].mode); !wrong.empty())
                return "from " + std::to_string(from) + " to " + std::to_string(to) + ": " + wrong;
        }
        const auto after = sw_.stats();
        if (!after.conserved()) return "frames were lost or doubled";
        if (after.delivered - before.delivered != frames) return "another count of frames than arrived";
        const auto why = want.dropped == "bad header" ? cause::bad_hdr : cause::bad_len;
        const auto lost = after.drops[static_cast<std::size_t>(why)] - before.drops[static_cast<std::size_t>(why)];
        if (!want.dropped.empty() && (lost != 1 || after.dropped() - before.dropped() != 1)) return "not dropped once as " + want.dropped;
        return {};
    }
    [[nodiscard]] vale::switch_stats stats() { return sw_.stats(); }

private:
    struct everywhere {
        vale::destination operator()(const vale::packet&) const noexcept { return vale::destination::to_all(); }
    };

    [[nodiscard]] static std::string compare(vale_port& p, slow::arrival expected, const slow::journey& j, vale::header mode) {
        auto& rx = p.rx();
        rx.rxsync();
        std::string wrong;
        const bytes whole = j.frame();
        const auto say = [&wrong](const char* what) {
            if (wrong.empty()) wrong = what;
        };
        std::uint32_t id = 0;
        for (std::size_t f = 0; f < expected.size(); ++f) {
            bytes got, want;
            for (std::size_t k = 0; k < expected[f].size(); ++k) {
                if (rx.head() == rx.tail()) return wrong = "less than expected: frame " + std::to_string(f) + " of " + std::to_string(expected.size()) + ", slot " + std::to_string(k) + " of " + std::to_string(expected[f].size()) + ", gso " + std::to_string(j.head.gso_type) + " of " + std::to_string(j.head.gso_size) + ", " + std::to_string(whole.size()) + " bytes";
                const slot s = rx.slot();
                const std::size_t still = expected[f].size() - k;
                if (s.len != expected[f][k].size()) say("another length");
                if (ns_rfrags(s) != still || ((s.flags & ns_morefrag) != 0) != (still > 1)) {
                    // A plain frame to a plain port has no count.
                    if (!(still == 1 && expected[f].size() == 1 && (s.flags & 0xff20) == 0)) say("other flags");
                }
                const bool headed = mode == vale::header::in_slot && k == 0 && (j.head.flags != 0 || j.head.gso_type != 0);
                if (((s.flags & ns_vnet) != 0) != headed) say("a header that is not there, or is");
                if (headed && s.ptr != pack(j.head)) say("another header in the slot");
                got.insert(got.end(), rx.buf(s), rx.buf(s) + s.len);
                want.insert(want.end(), expected[f][k].begin(), expected[f][k].end());
                rx.advance();
            }
            if (mode == vale::header::none && j.head.gso_type == vnet_gso_udp) {
                const auto now = slow::forget_id(got, whole);
                if (f != 0 && now != id) say("fragments of several datagrams");
                id = now;
            }
            if (got != want) say("other bytes");
        }
        if (rx.head() != rx.tail()) say("more than expected");
        while (rx.head() != rx.tail()) rx.advance();
        rx.rxsync();
        return wrong;
    }

    context ctx_;
    vale::vale_switch<everywhere> sw_;
    std::deque<vale_port> ports_;
};

/// Bytes 0 to 2: who sends, whether with a header in the slot, where the frame is cut into slots. The next 10 are a
/// virtio-net header, the rest is the frame.
inline std::string fuzz_switch(switch_under_test& sw, std::span<const std::uint8_t> input) {
    if (input.size() < 13 || input.size() > 30'000) return {};
    const std::size_t from = input[0] % switch_under_test::senders;
    vnet_hdr h{};
    std::memcpy(&h, input.data() + 3, sizeof h);
    const auto mode = switch_under_test::ends[from].mode;
    bytes all(input.begin() + 3, input.begin() + 13);
    if (bytes_in_frame(mode) == 0) all.clear();
    all.resize(bytes_in_frame(mode), 7);  // num_buffers, which mean nothing here
    all.insert(all.end(), input.begin() + 13, input.end());
    std::vector<bytes> pieces;
    std::size_t first = (input[0] & 0x40) != 0 ? bytes_in_frame(mode) : input[1] * std::size_t{9};
    const std::size_t others = 1 + input[2] * std::size_t{9};
    for (std::size_t at = 0; at < all.size();) {
        const std::size_t n = std::min({first != 0 ? first : others, all.size() - at, std::size_t{2112}});
        pieces.emplace_back(all.begin() + static_cast<long>(at), all.begin() + static_cast<long>(at + n));
        at += n;
        first = others;
    }
    if (pieces.empty() || pieces.size() > max_frags) return {};
    const bool in_slot = (input[0] & 0x80) != 0 || mode == vale::header::in_slot;
    // In the slot there is no room for what a header without NEEDS_CSUM says of checksums.
    if (in_slot) h = unpack(pack(h));
    return sw.send(from, pieces, in_slot ? &h : nullptr);
}

}  // namespace nm::test
