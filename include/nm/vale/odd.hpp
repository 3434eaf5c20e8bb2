// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Delivery of what is not one plain slot for one plain slot: frames of several slots, buffers of different sizes,
// addresses, virtio-net headers on one side or on both, and what these ask for when the other side has none. A frame is
// delivered whole or not at all. Lengths come from the private copies of the slots, so the two passes over a batch (how
// many slots, then fill them) agree whatever others do to the memory; bytes that are looked at, and not merely copied, are
// looked at in a private copy.

#include <algorithm>
#include <span>

#include "nm/offload.hpp"
#include "nm/vale/fabric.hpp"
#include "nm/vale/parcel.hpp"

namespace nm::vale::detail {

/// One opening of an inbox, and how its frames are to look.
struct target {
    std::uint32_t id;
    std::uint32_t buf_size;
    header head;
    bool only;  ///< the frames go nowhere else
};

class odd_delivery {
public:
    odd_delivery(source& s, inbox& in, const target& t) noexcept : s_(s), in_(in), t_(t), room_(most_in(t.buf_size)) {}

    /// The first `count` of s.odd->frames. What does not fit ends the batch: order is kept, nothing is tried again.
    void run(index_t count) noexcept {
        const std::uint16_t* const frames = s_.odd->frames.data();
        std::uint64_t want = 0;
        for (index_t k = 0; k < count; ++k) want += most_slots(parcel(s_, frames[k]));
        bool gone = false;
        const lease l = in_.reserve_slots(t_.id, static_cast<index_t>(std::min<std::uint64_t>(want, 1U << 30U)), gone);
        if (gone) return s_.drop(cause::no_dst, count);
        next_ = l.first;
        left_ = l.count;
        if (l.count != 0) {
            slots_ = in_.slots();
            num_slots_ = in_.num_slots();
            to_ = in_.buffers();
            room_ = most_in(to_.size);
        }
        for (index_t k = 0; k < count && !full_; ++k) {
            put(parcel(s_, frames[k]));
            if (full_) d_.drop(cause::full, count - k - 1);
        }
        d_.slots = l.count - left_;
        if (l.count != 0) in_.complete(l, d_);
        else if (d_.dropped != 0 && !in_.drop(t_.id, d_)) s_.drop(cause::no_dst, d_.dropped);
    }

private:
    // A slot's length has 16 bits, and a buffer may have 65536 bytes.
    [[nodiscard]] static std::uint32_t most_in(std::uint32_t buf_size) noexcept { return std::min(buf_size, 65535U); }
    [[nodiscard]] std::size_t slots_for(std::size_t bytes) const noexcept { return (bytes + room_ - 1) / room_; }
    /// Whether the frame's header asks for something that must be done here.
    [[nodiscard]] bool finishes(const parcel& p) const noexcept { return t_.head == header::none && p.has_work(); }

    /// Slots that a frame needs whose fragments stay fragments.
    [[nodiscard]] std::size_t slots_of(const parcel& p) const noexcept {
        std::size_t n = slots_for(bytes_in_frame(t_.head) + p.pieces[0].len);
        for (index_t k = 1; k < p.count; ++k) n += slots_for(p.pieces[k].len);
        return n;
    }
    /// Slots that a frame may need; 0 for one that cannot be delivered.
    [[nodiscard]] std::size_t most_slots(const parcel& p) const noexcept {
        if (!finishes(p)) {
            const std::size_t n = slots_of(p);
            return n <= max_frags ? n : 0;
        }
        if (p.bytes > odd_work::longest) return 0;
        if (p.head.gso_type == vnet_gso_none) return slots_for(p.bytes);
        // How long the headers are is not known yet.
        const std::size_t size = std::max<std::size_t>(segmenter::payload_of(p.head), 1);
        return (p.bytes / size + 1) * slots_for(std::min(p.bytes, segmenter::max_header + size));
    }

    void put(const parcel& p) noexcept {
        if (finishes(p)) put_finished(p);
        else if (t_.only && p.in_place && bytes_in_frame(t_.head) == 0 && to_.base == s_.bufs.base) put_swapped(p);
        else put_whole(p);
    }

    /// The next `n` slots are one frame's. False when they cannot be: then it has been counted.
    [[nodiscard]] bool claim(std::size_t n) noexcept {
        if (n > max_frags || (num_slots_ != 0 && n >= num_slots_)) return d_.drop(cause::bad_chain), false;
        if (n > left_) return refuse(), false;
        for (index_t j = 0; j < n; ++j) {
            held_[j] = load_words(slots_[at(j)]);
            if (to_.valid(held_[j].buf_idx())) continue;
            // The reader left no buffer here: his loss, and holes as far as this slot.
            for (index_t k = 0; k <= j; ++k) update_words(slots_[at(k)], {held_[k].lo & slot_words::index_bits, 0}, held_[k]);
            pass(j + 1);
            d_.drop(cause::bad_idx);
            return false;
        }
        claimed_ = static_cast<index_t>(n);
        return true;
    }
    void refuse() noexcept {
        full_ = true;
        d_.drop(cause::full);
    }
    [[nodiscard]] index_t at(index_t j) const noexcept {
        const index_t i = next_ + j;
        return i >= num_slots_ ? i - num_slots_ : i;
    }
    void pass(index_t n) noexcept {
        next_ = at(n);
        left_ -= n;
    }
    [[nodiscard]] std::uint8_t* out(index_t j) const noexcept {
        return reinterpret_cast<std::uint8_t*>(to_.of(held_[j].buf_idx()));
    }

    /// Slot j of those claimed holds `len` bytes in buffer `idx`. The flags are netmap's: the slots that the frame still
    /// has in the high byte (NS_RFRAGS), NS_MOREFRAG on all but the last.
    void fill(index_t j, std::uint32_t idx, std::size_t len, unsigned extra, const vnet_hdr* h) noexcept {
        const index_t still = claimed_ - j;
        unsigned flags = still << 8U | extra | (still > 1 ? unsigned{ns_morefrag} : 0U);
        std::uint64_t hi = 0;
        if (j == 0 && h != nullptr && t_.head == header::in_slot && (h->flags != 0 || h->gso_type != vnet_gso_none)) {
            flags |= ns_vnet;
            hi = pack(*h);
        }
        update_words(slots_[at(j)], {idx | static_cast<std::uint64_t>(len) << 32U | slot_words::bits(static_cast<std::uint16_t>(flags)), hi}, held_[j]);
    }
    void delivered(std::size_t bytes) noexcept {
        ++d_.frames;
        d_.bytes += bytes;
        pass(claimed_);
    }

    /// Buffers change places, slot by slot: one region, one destination.
    void put_swapped(const parcel& p) noexcept {
        if (!claim(p.count)) return;
        for (index_t j = 0; j < p.count; ++j) {
            const index_t mine = s_.at(p.first, j);
            const slot_words w = s_.fwd[mine];
            fill(j, w.buf_idx(), w.len(), ns_buf_changed, &p.head);
            store_once(reinterpret_cast<u64_alias&>(s_.slots[mine]),
                       (held_[j].lo & slot_words::index_bits) | (w.lo & slot_words::len_bits) | slot_words::bits(ns_buf_changed));
        }
        delivered(p.bytes);
    }

    /// Fragments stay fragments (one that is longer than a buffer becomes several), with the header that is wanted here.
    void put_whole(const parcel& p) noexcept {
        std::uint32_t in_front = bytes_in_frame(t_.head);
        const std::size_t bytes = p.bytes + in_front;
        if (!claim(slots_of(p))) return;
        // Virtio 1.2, 5.1.6: after the header proper the number of buffers that the frame fills, little endian.
        std::array<std::uint8_t, 12> head{};
        std::memcpy(head.data(), &p.head, sizeof p.head);
        head[10] = static_cast<std::uint8_t>(claimed_);
        index_t j = 0;
        for (index_t k = 0; k < p.count; ++k) {
            const std::uint8_t* from = p.pieces[k].data;
            for (std::uint32_t left = p.pieces[k].len; left + in_front != 0; ++j) {
                const std::uint32_t n = std::min(left, room_ - in_front);
                std::memcpy(out(j), head.data(), in_front);
                std::memcpy(out(j) + in_front, from, n);
                fill(j, held_[j].buf_idx(), n + in_front, 0, &p.head);
                from += n;
                left -= n;
                in_front = 0;
            }
        }
        delivered(bytes);
    }

    /// Complete frames from private memory: what the header asks for is done on the way.
    void put_finished(const parcel& p) noexcept {
        if (p.bytes > odd_work::longest) return s_.drop(cause::bad_len);
        std::uint8_t* const linear = s_.odd->linear.get();
        const std::span<std::uint8_t> frame(linear, p.bytes);
        if (p.head.gso_type == vnet_gso_none) {
            p.gather(linear);
            if (!finish_checksum(frame, p.head)) return s_.drop(cause::bad_hdr);
            return put_linear(frame);
        }
        p.gather(linear);
        segmenter cut(frame, p.head);
        if (!cut.valid()) return s_.drop(cause::bad_hdr);
        const std::size_t segments = cut.segments();
        const std::size_t slots = (segments - 1) * slots_for(cut.next_size()) + slots_for(cut.last_size());
        if (num_slots_ != 0 && slots >= num_slots_) return d_.drop(cause::full);  // will never fit: the others may
        if (slots > left_) return refuse();
        s_.replicas += segments - 1;
        const std::span<std::uint8_t> apart(s_.odd->segment.get(), odd_work::longest);
        while (!cut.done()) {
            if (cut.next_size() > room_) {
                put_linear(apart.first(cut.next(apart)));
            } else if (!claim(1)) {
                (void)cut.next(apart);
            } else {
                const std::size_t n = cut.next({out(0), room_});
                fill(0, held_[0].buf_idx(), n, 0, nullptr);
                delivered(n);
            }
        }
    }

    void put_linear(std::span<const std::uint8_t> frame) noexcept {
        if (!claim(slots_for(frame.size()))) return;
        index_t j = 0;
        for (std::size_t done = 0; done < frame.size(); ++j) {
            const std::size_t n = std::min<std::size_t>(frame.size() - done, room_);
            std::memcpy(out(j), frame.data() + done, n);
            fill(j, held_[j].buf_idx(), n, 0, nullptr);
            done += n;
        }
        delivered(frame.size());
    }

    source& s_;
    inbox& in_;
    const target t_;
    std::uint32_t room_;  // bytes that one slot takes
    slot* slots_ = nullptr;
    index_t num_slots_ = 0;  // 0: nothing was leased
    buffer_space to_;
    index_t next_ = 0;
    index_t left_ = 0;     // of the lease
    index_t claimed_ = 0;
    bool full_ = false;
    delivery d_;
    std::array<slot_words, max_frags> held_;  // what the claimed slots were: read once
};

/// `count` frames (ring indexes of their first slots) to one receive ring, whatever they are and whatever it wants.
template <class Frames>
[[gnu::noinline, gnu::cold]] void deliver_odd(source& s, inbox& in, const target& to, Frames frames, index_t count) noexcept {
    for (index_t k = 0; k < count; ++k) s.odd->frames[k] = static_cast<std::uint16_t>(frames.take());
    odd_delivery(s, in, to).run(count);
}

}  // namespace nm::vale::detail
