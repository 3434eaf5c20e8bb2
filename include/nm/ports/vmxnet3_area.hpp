// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What a vmxnet3 is told of its driver: the area that both share, filled from how a port wants its device.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <string>

#include "nm/ports/nic_device.hpp"
#include "nm/ports/vmxnet3_regs.hpp"

namespace nm {

/// Everything but the rings. The device writes to it too: what it may have to say is read from here, nothing else.
struct vmxnet3_area {
    using abi = vmxnet3_abi;

    abi::shared shared;
    abi::rss_conf rss;
    alignas(abi::queue_alignment) std::array<std::byte, 2 * abi::max_queues * sizeof(abi::tx_queue)> queues;  // tx, then rx

    [[nodiscard]] abi::tx_queue& tx(unsigned q) noexcept { return reinterpret_cast<abi::tx_queue*>(queues.data())[q]; }
    [[nodiscard]] abi::rx_queue& rx(unsigned q, unsigned rings) noexcept {
        return reinterpret_cast<abi::rx_queue*>(queues.data())[rings + q];
    }

    /// Of a queue's two receive rings, the second of which has one unit: the device looks at it. As many completions.
    [[nodiscard]] static index_t rx_descriptors(const nic_setup& s) noexcept { return s.rx_slots + abi::ring_multiple; }
    [[nodiscard]] static std::uint32_t buffer_len(const nic_setup& s) noexcept { return std::min(s.buf_size, abi::max_buffer); }
    /// Buffers that the longest frame needs.
    [[nodiscard]] static index_t parts(const nic_setup& s) noexcept { return (s.mtu + 18 + buffer_len(s) - 1) / buffer_len(s); }
    [[nodiscard]] static unsigned vectors(const nic_setup& s) noexcept {
        return 1 + std::max({s.vectors.link, s.vectors.rx(s.rings - 1), s.vectors.tx(s.rings - 1)});
    }
    [[nodiscard]] static std::uint32_t rx_mode(const nic_setup& s) noexcept {
        return abi::rx_unicast | abi::rx_broadcast | abi::rx_all_multicast | (s.promiscuous ? abi::rx_promiscuous : 0);
    }

    /// EINVAL for what the device does not have; QEMU ends itself over some of it.
    [[nodiscard]] static result<void> check(const std::string& who, const nic_setup& s) {
        const auto fits = [](index_t n) { return n >= abi::ring_multiple && n <= abi::max_slots && n % abi::ring_multiple == 0; };
        if (s.rings == 0 || s.rings > abi::max_queues) return fail(EINVAL, who + ": a vmxnet3 has 1 to 8 pairs of rings");
        if (!fits(s.tx_slots) || !fits(s.rx_slots)) return fail(EINVAL, who + ": a ring has 32 to 4096 slots, in steps of 32");
        if (s.mtu < abi::min_mtu || s.mtu > abi::max_mtu) return fail(EINVAL, who + ": the MTU must be 60 to 9000 bytes");
        if (s.buf_size == 0 || parts(s) > abi::max_rx_parts || parts(s) >= s.rx_slots)
            return fail(EINVAL, who + ": a frame would need more than 16 buffers, or all slots; choose larger buffers, or a smaller MTU");
        if (vectors(s) > abi::max_vectors) return fail(EINVAL, who + ": a vmxnet3 has 25 interrupt vectors; open fewer rings");
        return {};
    }

    /// `iova`: of this.
    void describe(const nic_setup& s, std::uint64_t iova, bool masks_itself) noexcept {
        shared = {};
        shared.magic = abi::magic;
        general(s, iova);
        interrupts(s, masks_itself);
        shared.filter.mode = rx_mode(s);
        shared.filter.vlans.fill(~0U);  // tagged frames of all VLANs
        if (s.rings > 1) spread(s, iova);
    }

private:
    // MiscConf. No offloads: netmap's frames are what is on the wire.
    void general(const nic_setup& s, std::uint64_t iova) noexcept {
        abi::misc_conf& m = shared.misc;
        m.version = abi::driver_version;
        m.guest = abi::gos_linux_64;
        m.revisions = m.upt_versions = 1;
        m.queues = iova + offsetof(vmxnet3_area, queues);
        m.queues_len = static_cast<std::uint32_t>(s.rings * (sizeof(abi::tx_queue) + sizeof(abi::rx_queue)));
        m.mtu = s.mtu;
        m.max_rx_parts = static_cast<std::uint16_t>(parts(s));
        m.tx_queues = m.rx_queues = static_cast<std::uint8_t>(s.rings);
    }
    // IntrConf. Moderation has levels without a unit of time: it is off, or left to the device.
    void interrupts(const nic_setup& s, bool masks_itself) noexcept {
        abi::intr_conf& c = shared.intr;
        c.auto_mask = masks_itself ? 1 : 0;
        c.vectors = static_cast<std::uint8_t>(vectors(s));
        c.event_vector = static_cast<std::uint8_t>(s.vectors.link);
        c.moderation.fill(s.moderation_ns == 0 ? abi::moderation_none : abi::moderation_adaptive);
        c.control = abi::disable_all;
    }
    // RSSConf. The key makes both directions of a connection meet in one queue.
    void spread(const nic_setup& s, std::uint64_t iova) noexcept {
        rss = {};
        rss.hash_type = abi::rss_all_types;
        rss.hash_function = abi::rss_toeplitz;
        rss.key_len = static_cast<std::uint16_t>(rss.key.size());
        rss.table_len = static_cast<std::uint16_t>(rss.table.size());
        for (std::size_t i = 0; i < rss.key.size(); ++i) rss.key[i] = i % 2 == 0 ? 0x6d : 0x5a;
        for (std::size_t i = 0; i < rss.table.size(); ++i) rss.table[i] = static_cast<std::uint8_t>(i % s.rings);
        shared.misc.features = abi::feature_rss;
        shared.rss = {1, sizeof(abi::rss_conf), iova + offsetof(vmxnet3_area, rss)};
    }
};

}  // namespace nm
