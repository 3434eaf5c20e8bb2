// SPDX-License-Identifier: BSD-2-Clause
// Whoever compiles has passed: each concept has an archetype (the least that satisfies it) and near misses that do not.
#include "nm/concepts.hpp"

#include "nm/clock.hpp"
#include "nm/notifier.hpp"
#include "nm/nm.hpp"

namespace {

using nm::index_t;
using nm::slot;
using nm::sync_flags;

struct least_tx {
    void put(index_t, slot&) noexcept;
    void publish(index_t) noexcept;
    index_t reclaim(index_t, sync_flags) noexcept;
    void hole(index_t, slot&) noexcept;
    void cancel(index_t, index_t) noexcept;
};
static_assert(nm::tx_backend<least_tx>);
struct throwing_tx : least_tx {
    void put(index_t, slot&);
};
static_assert(!nm::tx_backend<throwing_tx>);
struct mistyped_tx : least_tx {
    bool reclaim(index_t, sync_flags) noexcept;
};
static_assert(!nm::tx_backend<mistyped_tx>);
struct heavy_tx : least_tx {
    heavy_tx(const heavy_tx&);
};
static_assert(!nm::tx_backend<heavy_tx>, "a backend that is costly to copy does not fit a loop's registers");

struct least_rx {
    bool ready(index_t) noexcept;
    void get(index_t, slot&) noexcept;
    void give(index_t, slot&) noexcept;
    void publish(index_t) noexcept;
};
static_assert(nm::rx_backend<least_rx>);
struct loose_rx : least_rx {
    int ready(index_t) noexcept;
};
static_assert(!nm::rx_backend<loose_rx>);

struct other_slot {
    std::uint32_t buf_idx;
    std::uint16_t len, flags;
    std::uint64_t ptr;
};
struct thin_slot {
    std::uint32_t buf_idx;
};
static_assert(nm::slot_type<slot> && nm::slot_type<other_slot> && !nm::slot_type<thin_slot>);

static_assert(nm::tx_queue<nm::tx_ring<least_tx>> && !nm::rx_queue<nm::tx_ring<least_tx>>);
static_assert(nm::rx_queue<nm::rx_ring<least_rx>> && !nm::tx_queue<nm::rx_ring<least_rx>>);
static_assert(nm::port_type<nm::pipe> && nm::port_type<nm::null_port>);
static_assert(nm::openable<nm::pipe> && nm::openable<nm::null_port>);
static_assert(nm::list_of_ports<nm::port_list<nm::pipe, nm::null_port>>);
static_assert(nm::region_type<nm::region> && !nm::dma_region<nm::region>);
static_assert(nm::clock_type<nm::system_clock>);
static_assert(nm::notifier<nm::eventfd_notifier>);

struct hand_clock {
    static nm::time_stamp wall();
    static std::uint64_t now_ns();
};
static_assert(nm::clock_type<hand_clock>);

// Layout arithmetic at compile time.
static_assert(nm::ring_bytes(1024) == 256 + 1024 * 16);
static_assert(nm::interface_bytes(4) == 56 + 32);
static_assert(nm::ns_rfrags(slot{0, 0, 0x0320, 0}) == 3);

// A virtio-net header survives the fold into a slot's ptr, at the edges of each field.
constexpr bool folds(nm::vnet_hdr h) {
    const nm::vnet_hdr u = nm::unpack(nm::pack(h));
    return u.flags == h.flags && u.gso_type == h.gso_type && u.hdr_len == h.hdr_len && u.gso_size == h.gso_size &&
           u.csum_start == h.csum_start && u.csum_offset == h.csum_offset;
}
static_assert(folds({}));
static_assert(folds({3, nm::vnet_gso_tcpv6 | nm::vnet_gso_ecn, 0xffff, 0xffff, 0xffff, 0xff}));
static_assert(folds({1, nm::vnet_gso_udp_l4, 54, 1448, 34, 6}));
static_assert(nm::valid_vnet({0, 0, 0, 0, 0, 0}, 60));
static_assert(nm::valid_vnet({1, 0, 0, 0, 34, 16}, 54) && !nm::valid_vnet({1, 0, 0, 0, 34, 16}, 51));
static_assert(!nm::valid_vnet({1, 1, 0, 0, 34, 16}, 1000), "segments of no size");
static_assert(!nm::valid_vnet({0, 1, 0, 1448, 0, 0}, 1000), "segments need checksums");
static_assert(!nm::valid_vnet({0, 2, 0, 1, 0, 0}, 1000) && !nm::valid_vnet({4, 0, 0, 0, 0, 0}, 1000));

}  // namespace
