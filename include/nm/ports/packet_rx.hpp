// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// How frames read from an AF_PACKET socket (or a TAP) become slots. Most lie in their buffers already; those that are longer than
// was foreseen, tagged when they were not expected to be, or that must be cut, go through one linear copy.

#include <algorithm>

#include "nm/ports/packet.hpp"

namespace nm {

/// One rx ring's cold half. Frames are read into free buffers, as many as the last frames needed, with room behind for
/// the longest there is: none is ever cut short. `ready` is the private queue of slots that the loops take from.
struct packet_rx_state : packet_side {
    static constexpr unsigned batch_frames = 64;
    static constexpr unsigned most_pieces = 34;
    static constexpr std::size_t front = 64;  // room for a tag before the spill
    static constexpr std::size_t spill_bytes = front + sys::packet_max_frame;

    bool offloads = false;       // slots may carry a virtio-net header
    std::vector<slot> ready;
    std::vector<std::uint32_t> free;
    sys::packet_batch batch{sys::packet_batch::direction::receive, batch_frames, most_pieces + 2};
    std::vector<std::uint8_t> spill = std::vector<std::uint8_t>(batch_frames * spill_bytes);
    std::vector<std::uint8_t> linear = std::vector<std::uint8_t>(front + sys::packet_max_frame);
    std::vector<std::uint8_t> segment = std::vector<std::uint8_t>(sys::packet_max_frame);
    std::vector<std::uint32_t> lent;  // buffers that frames of the batch were read into: `pieces` for each
    unsigned frames = 0;              // in the batch
    unsigned next = 0;                // first of them that is not in `ready` yet
    unsigned pieces = 1;              // buffers per frame in this batch
    unsigned foreseen = 1;            // and in the next
    bool tagged = false;              // this batch was laid out for tagged frames
    bool foresee_tag = false;
    bool dry = false;                 // the socket had no more: no need to ask again in this visit
    segmenter cut;
    std::uint32_t made = 0;           // slots in `ready`
    std::uint32_t free_count = 0;

    /// Reads and lays out frames; `free_now` buffers are free. Returns how many slots are ready, and leaves the number of
    /// free buffers in the upper half.
    [[gnu::noinline, gnu::cold]] std::uint64_t refill(std::uint32_t free_now) noexcept {
        free_count = free_now;
        made = 0;
        for (int budget = 8;;) {
            while (has_frames() && place_next()) {}
            if (made != 0 || has_frames() || dry || budget-- == 0 || !read()) break;
        }
        return made | static_cast<std::uint64_t>(free_count) << 32;
    }
    [[gnu::noinline]] void publish() noexcept {
        dry = false;
        after_publish();
    }
    [[nodiscard]] bool has_frames() const noexcept { return next != frames || !cut.done(); }
    void restore(index_t at, std::uint32_t taken, std::uint32_t count, std::uint32_t free_now) noexcept;

private:
    [[nodiscard]] std::uint8_t* buf(std::uint32_t b) const noexcept { return reinterpret_cast<std::uint8_t*>(memory->buf(b)); }
    bool read() noexcept;
    bool place_next() noexcept;
    bool place_direct(const sys::packet_info& info, const vnet_hdr& h, std::size_t len) noexcept;
    bool place_linear(std::span<const std::uint8_t> frame, const vnet_hdr* h) noexcept;
    bool place_segments() noexcept;
    [[nodiscard]] std::span<std::uint8_t> gather(const sys::packet_info& info) noexcept;
    void give_back_lent(unsigned from) noexcept {
        for (unsigned k = from; k < pieces; ++k) free[free_count++] = lent[next * pieces + k];
    }
};

struct packet_rx {
    packet_rx_state* state = nullptr;
    const slot* filled = nullptr;
    std::uint32_t* free = nullptr;
    std::uint32_t at = 0;
    std::uint32_t end = 0;
    std::uint32_t free_count = 0;

    [[nodiscard]] [[gnu::always_inline]] bool ready() noexcept {
        if (at == end) [[unlikely]] {
            const std::uint64_t r = state->refill(free_count);
            at = 0;
            end = static_cast<std::uint32_t>(r);
            free_count = static_cast<std::uint32_t>(r >> 32);
            if (end == 0) return false;
        }
        return true;
    }
    [[nodiscard]] [[gnu::always_inline]] index_t available() noexcept { return ready() ? end - at : 0; }
    [[gnu::always_inline]] void get(slot& s) noexcept { s = filled[at++]; }
    [[gnu::always_inline]] void give(const slot& s) noexcept {
        if (s.buf_idx >= 2) [[likely]]  // 0: the user lost the buffer
            free[free_count++] = s.buf_idx;
    }
};

inline bool packet_rx_state::read() noexcept {
    // One buffer stays in hand, since one slot of a ring always does. A batch leaves enough for the longest frame to
    // find its buffers, or is a batch of one: what is here can always be laid out once the user has given all back.
    const std::uint32_t usable = free_count > 0 ? free_count - 1 : 0;
    if (usable == 0) return false;
    pieces = foreseen;
    tagged = foresee_tag;
    if (pieces > usable) pieces = 1;
    const std::size_t size = memory->buf_size();
    const auto longest = static_cast<std::uint32_t>(std::min<std::size_t>(sys::packet_max_frame / size + 1, max_frags));
    std::uint32_t n = usable > longest + pieces ? (usable - longest) / pieces : 1;
    n = std::min(n, batch_frames);
    for (unsigned m = 0; m < n; ++m) {
        iovec* v = batch.pieces(m);
        unsigned count = 0;
        for (unsigned k = 0; k < pieces; ++k) {
            const std::uint32_t b = free[--free_count];
            lent[m * pieces + k] = b;
            // A gap for the tag that will be put back between the addresses and the type.
            if (k == 0 && tagged) {
                v[count++] = {buf(b), 12};
                v[count++] = {buf(b) + 16, size - 16};
            } else {
                v[count++] = {buf(b), size};
            }
        }
        v[count++] = {spill.data() + m * spill_bytes + front, sys::packet_max_frame};
        batch.set_pieces(m, count);
    }
    const int got = batch.receive(socket, n);
    frames = got > 0 ? static_cast<unsigned>(got) : 0;
    dry = frames < n;
    for (unsigned m = frames; m < n; ++m)
        for (unsigned k = 0; k < pieces; ++k) free[free_count++] = lent[m * pieces + k];
    next = 0;
    return frames != 0;
}

/// Lays out the next frame of the batch; false when it must wait for buffers.
inline bool packet_rx_state::place_next() noexcept {
    if (!cut.done()) return place_segments();
    const auto info = batch.info(next);
    const std::size_t size = memory->buf_size();
    vnet_hdr h;
    std::memcpy(&h, info.header.data(), sizeof h);
    h.flags = static_cast<std::uint8_t>(h.flags & vnet_needs_csum);
    const std::size_t tag = info.tagged ? 4 : 0;
    if (tag != 0) {
        if ((h.flags & vnet_needs_csum) != 0) h.csum_start = static_cast<std::uint16_t>(h.csum_start + tag);
        if (h.gso_type != vnet_gso_none) h.hdr_len = static_cast<std::uint16_t>(h.hdr_len + tag);
    }
    const std::size_t len = info.len + tag;
    foresee_tag = info.tagged;
    const auto drop = [&](cause why) {
        stats->drop(why);
        give_back_lent(0);
        ++next;
        return true;
    };
    // What the pieces and the spill hold together is more than the longest frame that nm carries (big TCP makes such).
    if (info.truncated || info.len < 14 || info.len > sys::packet_max_frame) return drop(cause::bad_len);
    if (!valid_vnet(h, len)) return drop(cause::bad_hdr);
    const bool gso = h.gso_type != vnet_gso_none;
    const std::size_t need = (len + size - 1) / size;
    if (offloads || !gso) {
        if (need >= num_slots || need > max_frags) return drop(cause::bad_chain);
        const std::size_t wanted = std::min<std::size_t>(need, most_pieces);
        // Grow at once, shrink when a whole batch was shorter: large frames come in runs.
        if (wanted > foreseen || next == 0) foreseen = static_cast<unsigned>(wanted);
        const bool partial = !offloads && (h.flags & vnet_needs_csum) != 0;
        if (need <= pieces && info.tagged == tagged && !(partial && need > 1)) return place_direct(info, h, len);
        if (need > pieces + free_count - std::min<std::uint32_t>(free_count, 1)) return false;
        const auto frame = gather(info);
        if (partial && !finish_checksum(frame, h)) return drop(cause::bad_hdr);
        give_back_lent(0);
        ++next;
        return place_linear(frame, offloads ? &h : nullptr);
    }
    foreseen = 1;
    const auto frame = gather(info);
    cut = segmenter(frame, h);
    give_back_lent(0);
    ++next;
    if (!cut.valid()) {
        stats->drop(cause::bad_hdr);
        cut = {};
        return true;
    }
    return place_segments();
}

/// The frame lies where it should: its slots are written, the buffers it did not need go back.
inline bool packet_rx_state::place_direct(const sys::packet_info& info, const vnet_hdr& h, std::size_t len) noexcept {
    const std::size_t size = memory->buf_size();
    const std::uint32_t* mine = lent.data() + static_cast<std::size_t>(next) * pieces;
    if (info.tagged) {
        detail::store16(buf(mine[0]) + 12, info.tpid);
        detail::store16(buf(mine[0]) + 14, info.tci);
    }
    if (!offloads && !finish_checksum({buf(mine[0]), len}, h)) {
        stats->drop(cause::bad_hdr);
        give_back_lent(0);
        ++next;
        return true;
    }
    unsigned k = 0;
    for (std::size_t at = 0; at < len; at += size, ++k) {
        const std::size_t n = std::min(size, len - at);
        const bool more = at + n < len;
        slot s{mine[k], static_cast<std::uint16_t>(n),
               static_cast<std::uint16_t>(ns_buf_changed | (more ? ns_morefrag : 0U)), 0};
        if (k == 0 && offloads && (h.flags != 0 || h.gso_type != vnet_gso_none)) {
            s.flags |= ns_vnet;
            s.ptr = pack(h);
        }
        ready[made++] = s;
    }
    give_back_lent(k);
    ++next;
    return true;
}

/// The frame in one piece, with its tag, in private memory.
inline std::span<std::uint8_t> packet_rx_state::gather(const sys::packet_info& info) noexcept {
    const std::size_t size = memory->buf_size();
    std::uint8_t* const begin = linear.data() + front;
    std::size_t at = 0;
    const auto take = [&](const std::uint8_t* from, std::size_t room) {
        const std::size_t n = std::min<std::size_t>(room, info.len - at);
        std::memcpy(begin + at, from, n);
        at += n;
    };
    for (unsigned k = 0; k < pieces; ++k) {
        const std::uint8_t* b = buf(lent[next * pieces + k]);
        if (k == 0 && tagged) {
            take(b, 12);
            take(b + 16, size - 16);
        } else {
            take(b, size);
        }
    }
    take(spill.data() + next * spill_bytes + front, sys::packet_max_frame);
    if (!info.tagged) return {begin, info.len};
    std::memmove(begin - 4, begin, 12);
    detail::store16(begin + 8, info.tpid);
    detail::store16(begin + 10, info.tci);
    return {begin - 4, info.len + std::size_t{4}};
}

inline bool packet_rx_state::place_linear(std::span<const std::uint8_t> frame, const vnet_hdr* h) noexcept {
    const std::size_t size = memory->buf_size();
    for (std::size_t at = 0; at < frame.size(); at += size) {
        const std::size_t n = std::min(size, frame.size() - at);
        const std::uint32_t b = free[--free_count];
        std::memcpy(buf(b), frame.data() + at, n);
        slot s{b, static_cast<std::uint16_t>(n),
               static_cast<std::uint16_t>(ns_buf_changed | (at + n < frame.size() ? ns_morefrag : 0U)), 0};
        if (at == 0 && h != nullptr && (h->flags != 0 || h->gso_type != vnet_gso_none)) {
            s.flags |= ns_vnet;
            s.ptr = pack(*h);
        }
        ready[made++] = s;
    }
    return true;
}

/// Segments of the frame in `linear`, as far as there are buffers.
inline bool packet_rx_state::place_segments() noexcept {
    const std::size_t size = memory->buf_size();
    while (!cut.done()) {
        const std::size_t n = cut.next_size();
        const std::size_t need = (n + size - 1) / size;
        if (need >= num_slots || need > max_frags) {
            stats->drop(cause::bad_chain);
            cut = {};
            return true;
        }
        if (need + 1 > free_count) return false;
        if (need == 1) {
            const std::uint32_t b = free[--free_count];
            (void)cut.next({buf(b), size});
            ready[made++] = {b, static_cast<std::uint16_t>(n), ns_buf_changed, 0};
        } else {
            // Segments longer than a buffer (jumbo frames): by way of private memory.
            std::uint8_t* const whole = segment.data();
            (void)cut.next({whole, segment.size()});
            (void)place_linear({whole, n}, nullptr);
        }
    }
    return true;
}

/// When the socket is gone: the kernel side's slots, from `at` on, get its buffers back.
inline void packet_rx_state::restore(index_t at, std::uint32_t taken, std::uint32_t count, std::uint32_t free_now) noexcept {
    std::vector<std::uint32_t> all(free.begin(), free.begin() + free_now);
    for (auto i = taken; i != count; ++i) all.push_back(ready[i].buf_idx);
    for (; next != frames; ++next)
        for (unsigned k = 0; k < pieces; ++k) all.push_back(lent[next * pieces + k]);
    if (all.size() > num_slots) all.resize(num_slots);
    for (const auto b : all) {
        slots[at].buf_idx = b;
        at = ring_next(at, num_slots);
    }
}

}  // namespace nm
