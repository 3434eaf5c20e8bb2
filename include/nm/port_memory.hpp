// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "nm/interface.hpp"
#include "nm/port_options.hpp"
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

/// A port's own rings, and those to the host's stack (netmap's NR_REG_NIC and NR_REG_SW).
enum class ring_part { none, own, host };

/// How many rings and slots a port wants in a region.
struct port_shape {
    index_t tx_rings = 1, rx_rings = 1;
    index_t tx_slots = 1024, rx_slots = 1024;
    bool tx_bufs = true, rx_bufs = true;  ///< whether the rings' slots get buffers of their own
    std::uint32_t extra_bufs = 0;
    index_t host_tx_rings = 0, host_rx_rings = 0;  ///< with as many slots as the others

    /// What an open asks for. Of two directions one of which is said, the other is like it.
    [[nodiscard]] static port_shape asked(const open_options& o) {
        port_shape s;
        s.tx_rings = o.tx_rings.value_or(o.rx_rings.value_or(s.tx_rings));
        s.rx_rings = o.rx_rings.value_or(s.tx_rings);
        s.ask_slots(o, s.tx_slots);
        s.extra_bufs = o.extra_bufs;
        return s;
    }
    void ask_slots(const open_options& o, index_t otherwise) noexcept {
        tx_slots = o.tx_slots.value_or(o.rx_slots.value_or(otherwise));
        rx_slots = o.rx_slots.value_or(tx_slots);
    }
    /// The numbers of a port of this shape, in `memory` bytes or in a region of its own. What it is called, and why, the port says.
    [[nodiscard]] port_info info(std::uint32_t buf_size = preferred_stride, std::size_t memory = 0) const {
        port_info i;
        i.tx_rings = tx_rings;
        i.rx_rings = rx_rings;
        i.tx_slots = tx_slots;
        i.rx_slots = rx_slots;
        i.memory = memory != 0 ? memory : std::size_t{2 + bufs()} * buf_size;
        i.buf_size = buf_size;
        return i;
    }
    [[nodiscard]] port_info info(const region& where) const { return info(where.buf_size(), where.size()); }

    [[nodiscard]] std::uint32_t bufs() const noexcept {
        return bufs_of(tx_rings, rx_rings) + bufs_of(host_tx_rings, host_rx_rings) + extra_bufs;
    }
    /// Of so many rings.
    [[nodiscard]] std::uint32_t bufs_of(index_t tx, index_t rx) const noexcept {
        return (tx_bufs ? tx * tx_slots : 0U) + (rx_bufs ? rx * rx_slots : 0U);
    }
    [[nodiscard]] std::size_t meta_bytes() const noexcept {
        const auto up = object_pool::rounded;
        return up(interface_bytes(entries())) + (tx_rings + host_tx_rings) * up(ring_bytes(tx_slots)) +
               (rx_rings + host_rx_rings) * up(ring_bytes(rx_slots));
    }
    [[nodiscard]] std::size_t entries() const noexcept {
        return std::size_t{tx_rings} + host_tx_rings + rx_rings + host_rx_rings;
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
        : region_(std::move(o.region_)), nifp_(std::exchange(o.nifp_, nullptr)), shape_(o.shape_), made_(o.made_), owned_(o.owned_) {}
    port_memory& operator=(port_memory&& o) noexcept {
        if (this != &o) {
            release();
            region_ = std::move(o.region_);
            nifp_ = std::exchange(o.nifp_, nullptr);
            shape_ = o.shape_;
            made_ = o.made_;
            owned_ = o.owned_;
        }
        return *this;
    }
    port_memory(const port_memory&) = delete;
    port_memory& operator=(const port_memory&) = delete;
    ~port_memory() { release(); }

    /// The netmap_if, and the rings of the first part; those of a later part are there when they are made.
    [[nodiscard]] static result<port_memory> create(region_ptr where, const std::string& name, const port_shape& shape,
                                                    ring_part first = ring_part::own) {
        if (auto ok = shape.check(name); !ok) return forward_error(ok);
        port_memory m;
        {
            const std::lock_guard guard(where->pools());
            if (where->bufs().available() < shape.extra_bufs) return too_few(*where, name, shape.extra_bufs);
            const auto at = where->objects().available() < shape.meta_bytes() + 4096
                                ? std::nullopt
                                : where->objects().take(shape.meta_bytes());
            if (!at) return fail(ENOMEM, name + ": no room left for rings in its memory; make a region with more meta_bytes");
            m.region_ = std::move(where);
            m.shape_ = shape;
            m.build(name, m.region_->base() + *at);
        }
        if (first == ring_part::none) m.list_rings();
        else if (auto ok = m.make(name, first, shape.tx_rings, shape.rx_rings); !ok) return forward_error(ok);
        return m;
    }

    /// Rings that another process made, in a region of his: looked at, never given back. `offset` is the netmap_if's. EINVAL when they
    /// would not lie in the region's front part.
    [[nodiscard]] static result<port_memory> view(region_ptr where, const std::string& name, const port_shape& shape, std::size_t offset) {
        if (auto ok = shape.check(name); !ok) return forward_error(ok);
        if (offset % object_pool::align != 0 || offset > where->bufs_offset() || shape.meta_bytes() > where->bufs_offset() - offset)
            return fail(EINVAL, name + ": its rings do not lie where its memory says");
        port_memory m;
        m.nifp_ = reinterpret_cast<interface*>(where->base() + offset);
        m.region_ = std::move(where);
        m.shape_ = shape;
        m.owned_ = false;
        return m;
    }

    /// A netmap_if that another process made and who calls has checked, to be walked by the user; its rings are not known here.
    [[nodiscard]] static port_memory shown(region_ptr where, interface* nifp) noexcept {
        port_memory m;
        m.region_ = std::move(where);
        m.nifp_ = nifp;
        m.owned_ = false;
        return m;
    }

    /// Gives a part its rings, each slot with a buffer; of the port's own rings there may be fewer than were planned.
    [[nodiscard]] result<void> make(const std::string& name, ring_part part, index_t tx_rings, index_t rx_rings) {
        const bool host = part == ring_part::host;
        const std::lock_guard guard(region_->pools());
        const index_t txs = host ? shape_.host_tx_rings : std::min(tx_rings, shape_.tx_rings);
        const index_t rxs = host ? shape_.host_rx_rings : std::min(rx_rings, shape_.rx_rings);
        const auto need = shape_.bufs_of(txs, rxs);
        if (region_->bufs().available() < need) return too_few(*region_, name, need);
        made_[host ? 1 : 0] = {txs, rxs};
        for (index_t i = 0; i < txs; ++i) init(host ? host_tx(i) : tx(i), i, false);
        for (index_t i = 0; i < rxs; ++i) init(host ? host_rx(i) : rx(i), i, true);
        list_rings();
        return {};
    }
    /// Takes a part's rings away again, with the buffers that lie in their slots now.
    void unmake(ring_part part) noexcept {
        if (nifp_ == nullptr) return;
        const std::lock_guard guard(region_->pools());
        release_part(part == ring_part::host);
        list_rings();
    }

    /// Whether the buffers that lie in the slots of the port's own rings when it goes are given back: they may have come into slots that
    /// had none, and they may be in another process's hands.
    void own_buffers(bool yes) noexcept { shape_.tx_bufs = shape_.rx_bufs = yes; }

    [[nodiscard]] interface* nifp() const noexcept { return nifp_; }
    /// Bytes from the region's base to the netmap_if (nr_offset).
    [[nodiscard]] std::size_t offset() const noexcept {
        return static_cast<std::size_t>(reinterpret_cast<std::byte*>(nifp_) - region_->base());
    }
    [[nodiscard]] const port_shape& shape() const noexcept { return shape_; }
    [[nodiscard]] region& where() const noexcept { return *region_; }
    /// The geometry as it was made, not as it can be read in shared memory.
    [[nodiscard]] ring* tx(index_t i) const noexcept { return tx_at(i); }
    [[nodiscard]] ring* rx(index_t i) const noexcept { return rx_at(i); }
    [[nodiscard]] ring* host_tx(index_t i) const noexcept { return tx_at(shape_.tx_rings + i); }
    [[nodiscard]] ring* host_rx(index_t i) const noexcept { return rx_at(shape_.rx_rings + i); }

private:
    struct ring_count {
        index_t tx = 0, rx = 0;
    };

    // In memory: the netmap_if, tx, host tx, rx, host rx, as many of each as were planned.
    [[nodiscard]] ring* ring_at(index_t txs, index_t rxs) const noexcept {
        const auto up = object_pool::rounded;
        return reinterpret_cast<ring*>(reinterpret_cast<std::byte*>(nifp_) + up(interface_bytes(shape_.entries())) +
                                       txs * up(ring_bytes(shape_.tx_slots)) + rxs * up(ring_bytes(shape_.rx_slots)));
    }
    [[nodiscard]] ring* tx_at(index_t i) const noexcept { return ring_at(i, 0); }
    [[nodiscard]] ring* rx_at(index_t i) const noexcept { return ring_at(shape_.tx_rings + shape_.host_tx_rings, i); }

    [[nodiscard]] static tl::unexpected<error> too_few(region& where, const std::string& name, std::uint32_t need) {
        return fail(ENOMEM, name + " needs " + std::to_string(need) + " buffers and its memory has " +
                                std::to_string(where.bufs().available()) +
                                " left; ask for fewer slots (@conf:slots=N) or make a larger region");
    }

    void build(const std::string& name, std::byte* p) {
        std::memset(p, 0, shape_.meta_bytes());
        nifp_ = new (p) interface{};
        std::memcpy(nifp_->ni_name, name.data(), std::min(name.size(), sizeof nifp_->ni_name - 1));
        nifp_->ni_version = api_version;
        nifp_->ni_flags = ni_priv_mem;
        for (std::uint32_t i = 0; i < shape_.extra_bufs; ++i) {
            const std::uint32_t b = *region_->bufs().take();
            std::memcpy(region_->buf(b), &nifp_->ni_bufs_head, sizeof b);
            nifp_->ni_bufs_head = b;
        }
    }

    // netmap's order: tx, host tx, rx, host rx; 0 for a ring that is not there.
    void list_rings() noexcept {
        const index_t txs = made_[0].tx != 0 ? made_[0].tx : shape_.tx_rings;
        const index_t rxs = made_[0].rx != 0 ? made_[0].rx : shape_.rx_rings;
        nifp_->ni_tx_rings = txs;
        nifp_->ni_rx_rings = rxs;
        nifp_->ni_host_tx_rings = shape_.host_tx_rings;
        nifp_->ni_host_rx_rings = shape_.host_rx_rings;
        std::int64_t* entry = nifp_->ring_ofs();
        const auto list = [&](index_t planned, index_t made, auto at) {
            for (index_t i = 0; i < planned; ++i)
                *entry++ = i < made ? reinterpret_cast<std::byte*>(at(i)) - reinterpret_cast<std::byte*>(nifp_) : 0;
        };
        list(txs, made_[0].tx, [this](index_t i) { return tx(i); });
        list(shape_.host_tx_rings, made_[1].tx, [this](index_t i) { return host_tx(i); });
        list(rxs, made_[0].rx, [this](index_t i) { return rx(i); });
        list(shape_.host_rx_rings, made_[1].rx, [this](index_t i) { return host_rx(i); });
    }

    void init(ring* r, index_t id, bool receive) {
        const index_t n = receive ? shape_.rx_slots : shape_.tx_slots;
        new (r) ring{};
        r->buf_ofs = region_->buf(0) - reinterpret_cast<std::byte*>(r);
        r->num_slots = n;
        r->nr_buf_size = region_->buf_size();
        r->ringid = static_cast<std::uint16_t>(id);
        r->dir = receive ? 1 : 0;
        r->offset_mask = 0;
        r->buf_align = 64;
        if (receive ? !shape_.rx_bufs : !shape_.tx_bufs) return;
        for (index_t i = 0; i < n; ++i) r->slots()[i] = {*region_->bufs().take(), 0, 0, 0};
    }

    // Whatever lies in the slots now goes back: buffers that were swapped in are this port's. The pool refuses what is
    // not a buffer in use, since slots are the user's to write. Rings without buffers of their own only borrow.
    void release() noexcept {
        if (nifp_ == nullptr || !owned_) return;
        std::unique_lock guard(region_->pools());
        release_part(false);
        release_part(true);
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
    void release_part(bool host) noexcept {
        const ring_count n = std::exchange(made_[host ? 1 : 0], {});
        for (index_t i = 0; shape_.tx_bufs && i < n.tx; ++i) release_slots(host ? host_tx(i) : tx(i), shape_.tx_slots);
        for (index_t i = 0; shape_.rx_bufs && i < n.rx; ++i) release_slots(host ? host_rx(i) : rx(i), shape_.rx_slots);
    }
    void release_slots(ring* r, index_t n) noexcept {
        for (index_t i = 0; i < n; ++i) region_->bufs().give_back(load_slot(r->slots()[i]).buf_idx);
    }

    region_ptr region_;
    interface* nifp_ = nullptr;
    port_shape shape_;
    std::array<ring_count, 2> made_{};  // own, host
    bool owned_ = true;
};

}  // namespace nm
