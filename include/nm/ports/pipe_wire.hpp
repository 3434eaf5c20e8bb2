// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A pipe between two processes: what lies in the memory that both map, and the receiving half over it. Rings are each process's own,
// also as the user sees them; shared are the buffers and, per ring, a wire: the link, the slots that the sender writes, and
// the buffers that the receiver gave back. Each word has one writer, and what a writer who dies leaves half done is never looked at.

#include <array>
#include <cstring>
#include <new>
#include <optional>
#include <string>
#include <string_view>

#include "nm/ports/pipe_backend.hpp"
#include "nm/port_memory.hpp"

namespace nm {

/// Receives from another process: a slot is copied into the ring, once, and what is checked and used is the copy.
template <notifier N = eventfd_notifier>
struct wire_rx : link_rx<N, checked_peer> {
    static constexpr bool keeps_slots = false;
    const slot* wire = nullptr;  ///< the sender's to write
    using link_rx<N, checked_peer>::doubt;
    using link_rx<N, checked_peer>::swapped;

    /// A hole that somebody who opened the receiver's end made of a frame: in the place of its buffer, which the sender takes for the one
    /// that will come back unless he is told, goes the one in `ptr`.
    static constexpr std::uint16_t replaced = 0x8000;

    [[gnu::always_inline]] void get(index_t i, slot& s) const noexcept {
        s = load_slot(wire[i]);
        if (s.len == 0 && (s.flags & replaced) != 0) [[unlikely]]
            s = {static_cast<std::uint32_t>(s.ptr), 0, ns_buf_changed, 0};
    }
    /// The buffer of every slot that goes back is said, also if it is the one that came: whoever opens the other end next has no
    /// other place to know it from.
    [[gnu::always_inline]] void give(index_t i, slot& s) noexcept {
        std::uint32_t back = s.buf_idx;
        if ((s.flags & ns_buf_changed) != 0 || s.len == 0) {  // else it is the one that came
            const std::uint32_t came = load_once(wire[i].buf_idx);
            if (back < 2) back = came;
            swapped |= back != came;
        }
        if (load_once(doubt.given[i]) != back) store_once(doubt.given[i], back);
    }
};
static_assert(rx_backend<wire_rx<>> && doubts_peer<wire_rx<>> && doubts_peer<pipe_tx<eventfd_notifier, checked_peer>>);

/// What a pipe between processes looks like: kept by the host, latched and checked by who opens an end. Rings and slots are the
/// master's. Direction 0 is from master to slave.
struct pipe_geometry {
    static constexpr std::uint64_t right_magic = 0x3165706970706d6eULL;  // "nmppipe1"
    static constexpr index_t most_rings = 16;

    std::uint64_t magic = right_magic;
    std::uint32_t tx_rings = 1, rx_rings = 1, tx_slots = 0, rx_slots = 0;
    std::uint32_t num_bufs = 0, buf_size = preferred_stride;
    std::uint64_t bufs_offset = 0;   ///< of buffer 0 in the memory that holds the buffers
    std::uint32_t lent = 0;          ///< 1: the buffers are some of a port's, which lends them
    std::uint32_t spare = 0;         ///< buffers of each end beside those of the slots
    std::uint32_t first_spare[2]{};  ///< the master's, the slave's

    /// The end's own view of it.
    [[nodiscard]] port_shape shape(bool slave) const noexcept {
        port_shape s;
        s.tx_rings = slave ? rx_rings : tx_rings;
        s.rx_rings = slave ? tx_rings : rx_rings;
        s.tx_slots = slave ? rx_slots : tx_slots;
        s.rx_slots = slave ? tx_slots : rx_slots;
        s.tx_bufs = s.rx_bufs = false;
        return s;
    }
    [[nodiscard]] index_t rings(unsigned direction) const noexcept { return direction == 0 ? tx_rings : rx_rings; }
    [[nodiscard]] index_t slots(unsigned direction) const noexcept { return direction == 0 ? tx_slots : rx_slots; }
    [[nodiscard]] index_t wakes() const noexcept { return std::max(tx_rings, rx_rings); }
    [[nodiscard]] std::size_t buffer_bytes() const noexcept { return rounded(std::size_t{num_bufs} * buf_size, 4096); }

    /// EPROTO unless everything is in bounds: then no sum of it overflows.
    [[nodiscard]] result<void> check(const std::string& name) const {
        if (magic != right_magic) return fail(EPROTO, name + ": what is kept there is no pipe of this version of nm");
        if (auto ok = shape(false).check(name); !ok) return ok;
        const bool fits = num_bufs >= 4 && num_bufs <= region::max_bufs && buf_size >= 64 && buf_size <= 65536 && buf_size % 64 == 0 &&
                          bufs_offset % 4096 == 0 && bufs_offset < std::uint64_t{1} << 40 && tx_rings <= most_rings && rx_rings <= most_rings;
        const auto in = [this](std::uint32_t first) { return first <= num_bufs && spare <= num_bufs - first; };
        if (!fits || !in(first_spare[0]) || !in(first_spare[1])) return fail(EPROTO, name + ": a pipe cannot be what is kept there says");
        return {};
    }

    [[nodiscard]] std::string bytes() const { return {reinterpret_cast<const char*>(this), sizeof *this}; }
    [[nodiscard]] static std::optional<pipe_geometry> from(std::string_view bytes) noexcept {
        pipe_geometry g;
        if (bytes.size() != sizeof g) return std::nullopt;
        std::memcpy(&g, bytes.data(), sizeof g);
        return g;
    }
    [[nodiscard]] static constexpr std::size_t rounded(std::size_t n, std::size_t to) noexcept { return (n + to - 1) / to * to; }
};

/// Where things are in the memory that both ends map beside the buffers.
class pipe_wires {
public:
    /// One ring's way from one end to the other.
    struct wire {
        ring_link* link;
        slot* slots;           ///< the sender writes them
        std::uint32_t* given;  ///< per slot: the receiver writes them
    };
    /// Whether an end was closed as it should be. Its own word, and its own fault if it lies.
    struct alignas(128) farewell {
        std::atomic<std::uint32_t> said[2];
    };

    pipe_wires() = default;
    pipe_wires(std::byte* base, const pipe_geometry& g) noexcept : base_(base), g_(g) {}

    [[nodiscard]] const pipe_geometry& geometry() const noexcept { return g_; }
    [[nodiscard]] farewell& closed() const noexcept { return *reinterpret_cast<farewell*>(base_); }
    [[nodiscard]] wire at(unsigned direction, index_t ring) const noexcept {
        std::byte* p = base_ + sizeof(farewell) + ring * wire_bytes(g_.slots(direction));
        if (direction == 1) p += g_.tx_rings * wire_bytes(g_.tx_slots);
        const std::size_t n = g_.slots(direction);
        return {reinterpret_cast<ring_link*>(p), reinterpret_cast<slot*>(p + sizeof(ring_link)),
                reinterpret_cast<std::uint32_t*>(p + sizeof(ring_link) + slot_bytes(n))};
    }
    [[nodiscard]] static std::size_t bytes(const pipe_geometry& g) noexcept {
        return pipe_geometry::rounded(sizeof(farewell) + g.tx_rings * wire_bytes(g.tx_slots) + g.rx_rings * wire_bytes(g.rx_slots), 4096);
    }
    /// Of memory that is all zero. `buffer()` has a buffer for each slot.
    template <class F>
    void fill(F&& buffer) const {
        new (base_) farewell{};
        for (unsigned d = 0; d < 2; ++d)
            for (index_t r = 0; r < g_.rings(d); ++r) {
                const wire w = at(d, r);
                new (w.link) ring_link{};
                for (index_t i = 0; i < g_.slots(d); ++i) {
                    w.given[i] = buffer();
                    w.slots[i] = {w.given[i], 0, 0, 0};
                }
            }
    }

private:
    [[nodiscard]] static constexpr std::size_t slot_bytes(std::size_t n) noexcept { return pipe_geometry::rounded(n * sizeof(slot), 128); }
    [[nodiscard]] static constexpr std::size_t wire_bytes(std::size_t n) noexcept {
        return sizeof(ring_link) + slot_bytes(n) + pipe_geometry::rounded(n * sizeof(std::uint32_t), 128);
    }

    std::byte* base_ = nullptr;
    pipe_geometry g_;
};
static_assert(sizeof(ring_link) == 512 && std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace nm
