// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Frames slot by slot, as a program in netmap's own words would send and take them: for tests of what is not one plain slot.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/targets.hpp"
#include "nm/nm.hpp"

namespace nm::test {

/// The first byte says where to: a port's number, 255 for all.
struct by_byte {
    vale::destination operator()(const vale::packet& p) const noexcept {
        return p.data[0] == 255 ? vale::destination::to_all() : vale::destination::to(p.data[0]);
    }
};
using test_switch = vale::vale_switch<by_byte>;

inline void expect_conserved(test_switch& sw) {
    const auto s = sw.stats();
    EXPECT_TRUE(s.conserved()) << s.accepted << " + " << s.replicas << " != " << s.delivered << " + " << s.dropped();
}

inline open_options with(std::uint32_t buf_size, unsigned slots = 1024) {
    region_options r;
    r.bufs = 2 * slots + 2;
    r.buf_size = buf_size;
    r.meta_bytes = 1U << 20U;
    open_options o;
    o.memory = *region::create(r);
    o.tx_slots = slots;
    return o;
}

/// A frame of so many bytes to that port.
inline bytes frame_to(std::uint8_t to, std::size_t len, unsigned seed = 1) {
    bytes f(len);
    for (std::size_t i = 0; i < len; ++i) f[i] = static_cast<std::uint8_t>(i * 7 + seed);
    if (len != 0) f[0] = to;
    return f;
}
/// Cut into pieces of these lengths, as far as it goes, and one more for the rest.
inline std::vector<bytes> pieces_of(const bytes& f, const std::vector<std::size_t>& lens) {
    std::vector<bytes> pieces;
    std::size_t at = 0;
    for (const auto n : lens) {
        if (at == f.size()) break;
        pieces.emplace_back(f.begin() + static_cast<long>(at), f.begin() + static_cast<long>(std::min(at + n, f.size())));
        at += pieces.back().size();
    }
    if (at < f.size()) pieces.emplace_back(f.begin() + static_cast<long>(at), f.end());
    return pieces;
}

/// Queues a frame slot per slot, without sync.
inline void queue(vale_port& p, const std::vector<bytes>& pieces, const vnet_hdr* in_slot = nullptr) {
    auto& r = p.tx();
    for (std::size_t k = 0; k < pieces.size(); ++k) {
        auto& s = r.slot();
        ASSERT_LE(pieces[k].size(), r.buf_size());
        if (!pieces[k].empty()) std::memcpy(r.buf(s), pieces[k].data(), pieces[k].size());
        s.len = static_cast<std::uint16_t>(pieces[k].size());
        s.flags = k + 1 < pieces.size() ? ns_morefrag : std::uint16_t{0};
        s.ptr = 0;
        if (k == 0 && in_slot != nullptr) s.flags |= ns_vnet, s.ptr = pack(*in_slot);
        r.advance();
    }
}
inline void send(vale_port& p, const std::vector<bytes>& pieces, const vnet_hdr* in_slot = nullptr) {
    queue(p, pieces, in_slot);
    p.tx().txsync();
}

struct received {
    bytes data;
    std::vector<std::size_t> lens;
    bool vnet = false;
    vnet_hdr head{};
};
/// What has arrived, with netmap's flags checked. Holes are skipped.
inline std::vector<received> receive(vale_port& p) {
    auto& r = p.rx();
    r.rxsync();
    std::vector<received> all;
    received now;
    unsigned expected = 0;
    for (; r.head() != r.tail(); r.advance()) {
        const slot s = r.slot();
        if (s.len == 0) {
            EXPECT_TRUE(now.lens.empty()) << "a hole within a frame";
            continue;
        }
        if (now.lens.empty()) {
            // A plain frame on the fast path has no count.
            expected = ns_rfrags(s) == 0 ? 1 : ns_rfrags(s);
            if ((s.flags & ns_vnet) != 0) now.vnet = true, now.head = unpack(s.ptr);
        } else {
            EXPECT_EQ(ns_rfrags(s), expected);
            EXPECT_EQ(s.flags & ns_vnet, 0);
        }
        EXPECT_EQ((s.flags & ns_morefrag) != 0, expected > 1) << "NS_RFRAGS > 1 has NS_MOREFRAG";
        now.data.insert(now.data.end(), r.buf(s), r.buf(s) + s.len);
        now.lens.push_back(s.len);
        if (--expected == 0) all.push_back(std::exchange(now, {}));
    }
    r.rxsync();  // gives back
    EXPECT_TRUE(now.lens.empty()) << "half a frame";
    return all;
}
using sizes = std::vector<std::size_t>;

}  // namespace nm::test
