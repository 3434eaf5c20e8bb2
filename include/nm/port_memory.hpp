// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "nm/interface.hpp"
#include "nm/region.hpp"

namespace nm {

inline constexpr index_t min_slots = 2;
inline constexpr index_t max_slots = 16384;
inline constexpr index_t max_rings = 256;

/// A port's place on a switch (vale/bwrap.hpp) has rings of so many slots, in the port's own memory. A region that is made
/// for one port has room for it.
inline constexpr index_t member_tx_slots = 256, member_rx_slots = 1024;
inline constexpr std::uint32_t member_bufs = member_tx_slots + member_rx_slots;
inline constexpr std::size_t member_meta_bytes = (member_bufs * sizeof(slot) + 8192 + 4095) / 4096 * 4096;

/// How many rings and slots a port wants in a region.
struct port_shape {
    index_t tx_rings = 1, rx_rings = 1;
    index_t tx_slots = 1024, rx_slots = 1024;
    bool tx_bufs = true, rx_bufs = true;  ///< whether the rings' slots get buffers of their own
    std::uint32_t extra_bufs = 0;

    [[nodiscard]] std::uint32_t bufs() const noexcept {
        return (tx_bufs ? tx_rings * tx_slots : 0U) + (rx_bufs ? rx_rings * rx_slots : 0U) + extra_bufs;
    }
    [[nodiscard]] std::size_t meta_bytes() const noexcept {
        const auto up = object_pool::rounded;
        return up(interface_bytes(tx_rings + rx_rings)) + tx_rings * up(ring_bytes(tx_slots)) +
               rx_rings * up(ring_bytes(rx_slots));
    }
    [[nodiscard]] result<void> check(const std::string& name) const {
        const auto in = [](index_t v, index_t lo, index_t hi) { return v >= lo && v <= hi; };
        if (!in(tx_slots, min_slots, max_slots) || !in(rx_slots, min_slots, max_slots))
            return fail(EINVAL, name + ": a ring has " + std::to_string(min_slots) + " to " + std::to_string(max_slots) +
                                    " slots, not " + std::to_string(in(tx_slots, min_slots, max_slots) ? rx_slots : tx_slots));
        if (!in(tx_rings, 1, max_rings) || !in(rx_rings, 1, max_rings))
            return fail(EINVAL, name + ": a port has 1 to " + std::to_string(max_rings) + " rings in each direction");
        return {};
    }
};

/// A port's netmap_if and netmap_rings in a region, owned: given back, with the buffers that lie in their slots then,
/// on destruction.
class port_memory {
public:
    port_memory() = default;
    port_memory(port_memory&& o) noexcept
        : region_(std::move(o.region_)), nifp_(std::exchange(o.nifp_, nullptr)), shape_(o.shape_) {}
    port_memory& operator=(port_memory&& o) noexcept {
        if (this != &o) {
            release();
            region_ = std::move(o.region_);
            nifp_ = std::exchange(o.nifp_, nullptr);
            shape_ = o.shape_;
        }
        return *this;
    }
    port_memory(const port_memory&) = delete;
    port_memory& operator=(const port_memory&) = delete;
    ~port_memory() { release(); }

    [[nodiscard]] static result<port_memory> create(region_ptr where, const std::string& name, const port_shape& shape) {
        if (auto ok = shape.check(name); !ok) return forward_error(ok);
        const std::lock_guard guard(where->pools());
        if (where->bufs().available() < shape.bufs())
            return fail(ENOMEM, name + " needs " + std::to_string(shape.bufs()) + " buffers and its memory has " +
                                    std::to_string(where->bufs().available()) +
                                    " left; ask for fewer slots (@conf:slots=N) or make a larger region");
        if (where->objects().available() < shape.meta_bytes() + 4096)
            return fail(ENOMEM, name + ": no room left for rings in its memory; make a region with more meta_bytes");
        port_memory m;
        m.region_ = std::move(where);
        m.shape_ = shape;
        if (!m.build(name)) return fail(ENOMEM, name + ": no room left for rings in its memory");
        return m;
    }

    [[nodiscard]] interface* nifp() const noexcept { return nifp_; }
    /// Bytes from the region's base to the netmap_if (nr_offset).
    [[nodiscard]] std::size_t offset() const noexcept {
        return static_cast<std::size_t>(reinterpret_cast<std::byte*>(nifp_) - region_->base());
    }
    [[nodiscard]] const port_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] region& where() const noexcept { return *region_; }
    /// The geometry as it was made, not as it can be read in shared memory.
    [[nodiscard]] ring* tx(index_t i) const noexcept { return ring_at(i); }
    [[nodiscard]] ring* rx(index_t i) const noexcept { return ring_at(shape_.tx_rings + i); }

private:
    [[nodiscard]] std::size_t ring_offset(index_t entry) const noexcept {
        const auto up = object_pool::rounded;
        const index_t tx = entry < shape_.tx_rings ? entry : shape_.tx_rings;
        return up(interface_bytes(shape_.tx_rings + shape_.rx_rings)) + tx * up(ring_bytes(shape_.tx_slots)) +
               (entry - tx) * up(ring_bytes(shape_.rx_slots));
    }
    [[nodiscard]] ring* ring_at(index_t entry) const noexcept {
        return reinterpret_cast<ring*>(reinterpret_cast<std::byte*>(nifp_) + ring_offset(entry));
    }

    bool build(const std::string& name) {
        const auto at = region_->objects().take(shape_.meta_bytes());
        if (!at) return false;
        std::byte* p = region_->base() + *at;
        std::memset(p, 0, shape_.meta_bytes());
        nifp_ = new (p) interface{};
        std::memcpy(nifp_->ni_name, name.data(), std::min(name.size(), sizeof nifp_->ni_name - 1));
        nifp_->ni_version = api_version;
        nifp_->ni_flags = ni_priv_mem;
        nifp_->ni_tx_rings = shape_.tx_rings;
        nifp_->ni_rx_rings = shape_.rx_rings;
        for (index_t i = 0; i < shape_.tx_rings; ++i) init(tx(i), i, i, false);
        for (index_t i = 0; i < shape_.rx_rings; ++i) init(rx(i), shape_.tx_rings + i, i, true);
        for (std::uint32_t i = 0; i < shape_.extra_bufs; ++i) {
            const std::uint32_t b = *region_->bufs().take();
            std::memcpy(region_->buf(b), &nifp_->ni_bufs_head, sizeof b);
            nifp_->ni_bufs_head = b;
        }
        return true;
    }

    void init(ring* r, index_t entry, index_t id, bool receive) {
        const index_t n = receive ? shape_.rx_slots : shape_.tx_slots;
        nifp_->ring_ofs()[entry] = static_cast<std::int64_t>(ring_offset(entry));
        new (r) ring{};
        r->buf_ofs = region_->buf(0) - reinterpret_cast<std::byte*>(r);
        r->num_slots = n;
        r->nr_buf_size = region_->buf_size();
        r->ringid = static_cast<std::uint16_t>(id);
        r->dir = receive ? 1 : 0;
        r->offset_mask = 0;
        r->buf_align = 64;
        if (receive ? !shape_.rx_bufs : !shape_.tx_bufs) return;
        for (index_t i = 0; i < n; ++i) r->slots()[i].buf_idx = *region_->bufs().take();
    }

    // Whatever lies in the slots now goes back: buffers that were swapped in are this port's. The pool refuses what is
    // not a buffer in use, since slots are the user's to write. Rings without buffers of their own only borrow.
    void release() noexcept {
        if (nifp_ == nullptr) return;
        std::unique_lock guard(region_->pools());
        for (index_t i = 0; shape_.tx_bufs && i < shape_.tx_rings; ++i) release_slots(tx(i), shape_.tx_slots);
        for (index_t i = 0; shape_.rx_bufs && i < shape_.rx_rings; ++i) release_slots(rx(i), shape_.rx_slots);
        std::uint32_t b = nifp_->ni_bufs_head;
        for (std::uint32_t budget = region_->num_bufs(); b != 0 && budget != 0; --budget) {
            if (!region_->bufs().give_back(b)) break;
            std::memcpy(&b, region_->buf(b), sizeof b);
        }
        region_->objects().give_back(offset(), shape_.meta_bytes());
        nifp_ = nullptr;
        guard.unlock();
        region_.reset();
    }
    void release_slots(ring* r, index_t n) noexcept {
        for (index_t i = 0; i < n; ++i) region_->bufs().give_back(load_slot(r->slots()[i]).buf_idx);
    }

    region_ptr region_;
    interface* nifp_ = nullptr;
    port_shape shape_;
};

}  // namespace nm
