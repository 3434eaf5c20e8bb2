// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A frame at its sender that is more than one plain slot: several slots, memory outside the region (ns_indirect), a
// virtio-net header in front or in the slot.

#include "nm/vale/source.hpp"

namespace nm::vale::detail {

/// Where a slot's bytes are. An address is the sender's own word: the ring has checked that there is one, and the memory
/// behind it is his, in this process.
[[nodiscard]] inline const std::uint8_t* bytes_of(const source& s, const slot_words& w) noexcept {
    if (w.has(ns_indirect)) return reinterpret_cast<const std::uint8_t*>(w.hi);
    return reinterpret_cast<const std::uint8_t*>(s.bufs.of(w.buf_idx()));
}

/// What classify sees of a frame that is not one plain slot: its Ethernet header and what follows in one piece, and how many
/// slots it has beyond the first.
struct odd_view {
    const std::uint8_t* data;  ///< null: it has been dropped
    std::uint16_t len;
    index_t more;
};

/// The frame at ring index `first`, which has several slots, or a header or an address; `left` slots of the batch are left.
/// A virtio-net header is read here, once; when it is not one that such a frame may have, the frame is dropped.
[[nodiscard]] [[gnu::noinline, gnu::cold]] inline odd_view look_at(source& s, const index_t first, index_t left) noexcept {
    const slot_words w = s.fwd[first];
    const std::uint32_t in_front = bytes_in_frame(s.head);
    index_t more = 0;
    std::size_t bytes = w.len();
    for (index_t i = first; more + 1 < left && s.fwd[i].has(ns_morefrag); ++more) {
        i = ring_next(i, s.num_slots);
        bytes += s.fwd[i].len();
    }
    odd_view v{bytes_of(s, w), w.len(), more};
    if (in_front == 0 && !w.has(ns_vnet)) return v;

    vnet_hdr h{};
    bool good = true;
    if (in_front == 0) {
        good = !w.has(ns_indirect);  // ptr cannot be both
        h = unpack(w.hi);
    } else if (w.len() < in_front) {
        good = false;
    } else {
        std::memcpy(&h, v.data, sizeof h);
        bytes -= in_front;
        if (w.len() == in_front && more != 0) {
            const slot_words second = s.fwd[ring_next(first, s.num_slots)];
            v.data = bytes_of(s, second);
            v.len = second.len();
        } else {
            v.data += in_front;
            v.len = static_cast<std::uint16_t>(v.len - in_front);
        }
    }
    if (good && valid_vnet(h, bytes)) {
        s.odd->headers[first] = h;
    } else {
        s.drop(cause::bad_hdr);
        v.data = nullptr;
    }
    return v;
}

struct piece {
    const std::uint8_t* data;
    std::uint32_t len;
};

/// The frame that begins at a ring index, after look_at() if it is not plain: its bytes without a header, and the header.
class parcel {
public:
    parcel(const source& s, index_t begin) noexcept : first(begin) {
        std::uint32_t in_front = bytes_in_frame(s.head);
        if (in_front != 0 || s.fwd[begin].has(ns_vnet)) head = s.odd->headers[begin];
        in_place = in_front == 0;
        for (index_t i = begin;; i = ring_next(i, s.num_slots)) {
            const slot_words w = s.fwd[i];
            in_place &= !w.has(ns_indirect);
            pieces[count++] = {bytes_of(s, w) + in_front, w.len() - in_front};
            bytes += w.len() - in_front;
            in_front = 0;
            if (!w.has(ns_morefrag) || count == max_frags) break;
        }
    }

    [[nodiscard]] bool has_work() const noexcept { return (head.flags & vnet_needs_csum) != 0 || head.gso_type != vnet_gso_none; }

    /// Copies all of it to `out`, which has room for it.
    void gather(std::uint8_t* out) const noexcept {
        for (index_t k = 0; k < count; ++k) {
            std::memcpy(out, pieces[k].data, pieces[k].len);
            out += pieces[k].len;
        }
    }

    const index_t first;
    index_t count = 0;
    std::size_t bytes = 0;
    vnet_hdr head{};         // zero when it has none
    bool in_place = true;    // each piece is a buffer of the region, from its beginning
    std::array<piece, max_frags> pieces;  // one per slot; the first is empty when its slot was all header
};

}  // namespace nm::vale::detail
