// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// AF_PACKET as a backend, and the TAP of host rings, here for sending (packet_rx.hpp receives): frames are read into the region's
// buffers and sent from there, by one system call per batch (a TAP: per frame). The loops see private queues of slots; the system
// calls and what they need (iovecs, virtio-net headers, VLAN tags held outside the frame, frames of 64 KB) are in the states
// behind them.

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <span>
#include <vector>

#include "nm/concepts.hpp"
#include "nm/counters.hpp"
#include "nm/offload.hpp"
#include "nm/region.hpp"
#include "nm/ring.hpp"
#include "nm/sys/packet.hpp"

namespace nm {

struct packet_side {
    int socket = -1;  // an AF_PACKET socket, or the TAP to the host's stack
    region* memory = nullptr;
    slot* slots = nullptr;
    index_t num_slots = 0;
    live_counters* stats = nullptr;
    std::atomic<bool>* armed = nullptr;  // the port's, for this direction: somebody sleeps, or is about to
    void (*disarm)(void*) noexcept = nullptr;
    void* port = nullptr;

    void after_publish() noexcept {
        if (armed->load(std::memory_order_relaxed)) [[unlikely]]
            disarm(port);
    }
};

/// One tx ring's cold half. What put was given is in `queue`, by slot; [sent, published) waits for the kernel.
struct packet_tx_state : packet_side {
    static constexpr unsigned batch_frames = 256;
    std::vector<slot> queue;
    sys::packet_batch batch{sys::packet_batch::direction::send, batch_frames, max_frags};
    std::array<index_t, batch_frames> starts{};  // first slot of each staged frame
    index_t sent = 0;
    index_t published = 0;
    std::uint32_t max_len = 0;  // of a frame without a tag that the kernel need not cut

    [[gnu::noinline]] void publish(index_t head) noexcept {
        published = head;
        flush();
        after_publish();
    }
    [[gnu::noinline]] index_t reclaim() noexcept {
        if (sent != published) flush();
        return ring_prev(sent, num_slots);
    }

private:
    void flush() noexcept {
        while (sent != published) {
            index_t to = sent;
            const unsigned n = stage(to);
            if (n == 0) {
                sent = to;  // only holes and drops, or the beginning of a frame
                return;
            }
            if (!send_staged(n)) return;
            sent = to;
        }
    }

    /// Lists the frames from slot `at` on; `at` becomes where the list ends.
    unsigned stage(index_t& at) noexcept {
        unsigned n = 0;
        index_t begin = at;
        while (at != published && n < batch_frames) {
            unsigned pieces = 0;
            std::size_t len = 0;
            slot first{};
            bool more = true;
            index_t i = begin;
            for (; more && i != published; i = ring_next(i, num_slots)) {
                const slot& s = queue[i];
                more = (s.flags & ns_morefrag) != 0;
                if (s.len == 0 || pieces == max_frags) continue;
                if (pieces == 0) first = s;
                batch.pieces(n)[pieces++] = {memory->buf(s.buf_idx), s.len};
                len += s.len;
            }
            if (more) break;  // its end has not been put yet
            starts[n] = begin;
            at = begin = i;
            if (pieces != 0 && accept(n, first, len)) batch.set_pieces(n++, pieces);
            else
                for (auto k = starts[n]; k != i; k = ring_next(k, num_slots)) queue[k].len = 0;  // counted; not once more
        }
        at = begin;
        return n;
    }

    [[nodiscard]] std::span<const std::uint8_t> bytes_of(const slot& s) const noexcept {
        return {reinterpret_cast<const std::uint8_t*>(memory->buf(s.buf_idx)), s.len};
    }

    bool accept(unsigned n, const slot& first, std::size_t len) noexcept {
        vnet_hdr h{};
        if ((first.flags & ns_vnet) != 0) h = unpack(first.ptr);
        if (!valid_vnet(h, len)) {
            stats->drop(cause::bad_hdr);
            return false;
        }
        if (len < 14 || (h.gso_type == vnet_gso_none && !fits_link(bytes_of(first), len, max_len))) {
            stats->drop(cause::bad_len);
            return false;
        }
        std::array<std::byte, sys::vnet_header_bytes> raw;
        std::memcpy(raw.data(), &h, raw.size());
        batch.set_header(n, raw);
        return true;
    }

    /// False when the kernel takes no more now; then `sent` says how far it came.
    bool send_staged(unsigned n) noexcept {
        for (unsigned i = 0; i < n;) {
            const int r = batch.send(socket, i, n - i);
            if (r > 0) {
                i += static_cast<unsigned>(r);
            } else if (r == -EINTR) {
                continue;
            } else if (r == -EAGAIN || r == -EWOULDBLOCK || r == 0) {
                sent = starts[i];
                return false;
            } else {
                // This one frame: refused, or dropped by the driver's queue. The others may fare better.
                stats->drop(r == -EMSGSIZE ? cause::bad_len : r == -EINVAL ? cause::bad_hdr
                                                            : r == -ENETDOWN || r == -ENXIO || r == -ENODEV || r == -EIO
                                                                ? cause::no_dst
                                                                : cause::full);
                ++i;
            }
        }
        return true;
    }
};

struct packet_tx {
    packet_tx_state* state = nullptr;
    slot* queue = nullptr;

    [[gnu::always_inline]] void put(index_t i, const slot& s) noexcept { queue[i] = s; }
    [[gnu::cold]] void cancel(index_t i, index_t k) noexcept {
        for (; k != 0; --k) {
            i = ring_prev(i, state->num_slots);
            queue[i].len = queue[i].flags = 0;
        }
    }
};

}  // namespace nm
