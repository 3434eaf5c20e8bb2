// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// From memory that a host shows to a port's geometry: read once, checked, and from then on private (rules R1, R2, R5).

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "nm/clock.hpp"
#include "nm/interface.hpp"
#include "nm/ptnet/csb.hpp"
#include "nm/ptnet/guest.hpp"
#include "nm/ptnet/regs.hpp"
#include "nm/region.hpp"

namespace nm::ptnet {

/// What a transport has got hold of.
struct link_to_host {
    std::shared_ptr<void> keep;  ///< the mapping, and the device or socket behind it
    std::byte* base = nullptr;   ///< the shared memory
    std::size_t size = 0;
    unsigned port = 0;           ///< which of its directory
    std::vector<bell> bells;               ///< for each vector of that port, from its control vector on
    std::vector<base::unique_fd> wakes;    ///< likewise, signalled by the host; none: the port is polled by a timer
    base::unique_fd alive;                 ///< becomes readable when the host has gone; -1: that cannot be known
};

/// A port's geometry, checked.
struct guest_layout {
    region_ptr memory;
    port_registers* registers = nullptr;  ///< for link, status and the handshake only
    std::string name, mode;
    index_t tx_rings = 0, rx_rings = 0, tx_slots = 0, rx_slots = 0;
    std::vector<ring*> rings;  ///< tx, then rx
    csb_atok<>* to_host = nullptr;
    csb_ktoa<>* to_guest = nullptr;
    interface* nifp = nullptr;
    std::array<std::uint8_t, 6> mac{};
    std::uint32_t features = 0, first_vector = 0;
};

/// A copy of what somebody else may be writing, word by word.
[[nodiscard]] inline port_registers fetch(const port_registers& shared) noexcept {
    std::array<std::uint64_t, sizeof(port_registers) / 8> words;
    const auto* from = reinterpret_cast<const u64_alias*>(&shared);
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = __atomic_load_n(from + i, __ATOMIC_RELAXED);
    port_registers r;
    std::memcpy(&r, words.data(), sizeof r);
    return r;
}

/// EINVAL, with what was wrong, for memory that no host of nm's would show.
[[nodiscard]] inline result<guest_layout> read_layout(const link_to_host& link, const std::string& as) {
    const auto bad = [&as](const char* what) { return fail(EINVAL, as + ": what its host shows is no port: " + what); };
    if (link.size < directory_bytes) return bad("its memory is too small");
    auto& d = *reinterpret_cast<memory_directory*>(link.base);
    if (__atomic_load_n(&d.magic, __ATOMIC_ACQUIRE) != memory_magic) return bad("its memory is not nm's (is ptnet-host running?)");
    if (const auto v = load_once(d.version); v != memory_version)
        return fail(EPROTO, as + ": its host speaks version " + std::to_string(v) + " of the layout, this program version " + std::to_string(memory_version));
    const std::uint32_t ports = __atomic_load_n(&d.ports, __ATOMIC_ACQUIRE);
    if (link.port >= ports || link.port >= max_ports)
        return fail(ENODEV, as + ": there are " + std::to_string(ports) + " port(s), and no number " + std::to_string(link.port));
    const port_registers r = fetch(d.port[link.port]);  // once; only the copy is looked at
    const auto inside = [](std::uint64_t offset, std::uint64_t bytes, std::uint64_t size) { return bytes <= size && offset <= size - bytes; };
    if (r.region_offset % page != 0 || r.region_offset < directory_bytes || !inside(r.region_offset, r.region_size, link.size)) return bad("its region is not in the memory");
    if (r.num_tx_rings > max_rings || r.num_rx_rings > max_rings || r.num_tx_rings + r.num_rx_rings > max_rings || r.num_tx_rings + r.num_rx_rings == 0) return bad("too many rings, or none");
    guest_layout g;
    std::byte* const base = link.base + r.region_offset;
    auto m = region::within(link.keep, base, r.region_size, r.bufs_offset, r.num_bufs, r.buf_size, false);
    if (!m) return fail(EINVAL, as + ": what its host shows is no port: " + m.error().text);
    g.memory = std::move(*m);
    g.registers = &d.port[link.port];
    g.tx_rings = r.num_tx_rings;
    g.rx_rings = r.num_rx_rings;
    g.tx_slots = r.num_tx_slots;
    g.rx_slots = r.num_rx_slots;
    const index_t n = g.tx_rings + g.rx_rings;
    const auto slots_ok = [](index_t rings, index_t slots) { return rings == 0 || (slots >= 2 && slots <= 16384); };
    if (!slots_ok(g.tx_rings, g.tx_slots) || !slots_ok(g.rx_rings, g.rx_slots)) return bad("its rings have a size that no ring has");
    if (r.csb_gh_offset % 64 != 0 || r.csb_hg_offset % 64 != 0 || !inside(r.csb_gh_offset, n * sizeof(csb_atok<>), r.bufs_offset) ||
        !inside(r.csb_hg_offset, n * sizeof(csb_ktoa<>), r.bufs_offset))
        return bad("its status blocks are not in the region");
    for (index_t i = 0; i < n; ++i) {
        const std::uint64_t at = r.ring_offset[i];
        if (at % alignof(ring) != 0 || !inside(at, ring_bytes(i < g.tx_rings ? g.tx_slots : g.rx_slots), r.bufs_offset)) return bad("a ring is not in the region");
        g.rings.push_back(reinterpret_cast<ring*>(base + at));
    }
    if (r.nifp_offset % alignof(ring) != 0 || !inside(r.nifp_offset, interface_bytes(n), r.bufs_offset)) return bad("its netmap_if is not in the region");
    g.nifp = reinterpret_cast<interface*>(base + r.nifp_offset);
    g.to_host = reinterpret_cast<csb_atok<>*>(base + r.csb_gh_offset);
    g.to_guest = reinterpret_cast<csb_ktoa<>*>(base + r.csb_hg_offset);
    for (int i = 0; i < 6; ++i) g.mac[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i < 2 ? r.mac_hi >> (8 * (1 - i)) : r.mac_lo >> (8 * (5 - i)));
    g.name.assign(r.name.data(), ::strnlen(r.name.data(), r.name.size()));
    g.mode.assign(r.mode.data(), ::strnlen(r.mode.data(), r.mode.size()));
    g.features = r.features;
    g.first_vector = r.first_vector;
    if (const auto need = vectors_of(g.tx_rings, g.rx_rings); link.bells.size() < need || (!link.wakes.empty() && link.wakes.size() < need))
        return fail(EINVAL, as + ": it needs " + std::to_string(need) + " doorbells and interrupts, and its device has " + std::to_string(link.bells.size()) +
                                " (QEMU: vectors=)");
    return g;
}

/// Asks the host for something and waits for its answer, at most a second. The word that it answered: as long as nobody asks it for something
/// else, the answer stands.
[[nodiscard]] inline result<std::uint32_t> ask_host(port_registers& r, const bell& control, port_control what, const std::string& as) {
    const std::uint32_t before = __atomic_load_n(&r.control, __ATOMIC_RELAXED);
    const std::uint32_t word = ((before & ~0xffU) + 0x100U) | static_cast<std::uint32_t>(what);
    __atomic_store_n(&r.control, word, __ATOMIC_SEQ_CST);
    const std::uint64_t end = system_clock::now_ns() + 1'000'000'000;
    for (unsigned pause = 20; system_clock::now_ns() < end; pause = pause < 2000 ? pause * 2 : pause) {
        control.notify();
        if (__atomic_load_n(&r.answered, __ATOMIC_ACQUIRE) == word) return word;
        ::usleep(pause);
    }
    return fail(ETIMEDOUT, as + ": its host does not answer; is it running, and is nobody else using this port?");
}

}  // namespace nm::ptnet
