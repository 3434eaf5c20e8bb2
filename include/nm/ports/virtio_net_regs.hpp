// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What "Virtual I/O Device (VIRTIO) Version 1.2" lays down for a network device on PCI: section numbers here and in the
// other virtio headers are its.

#include <cstdint>

#include "nm/ports/bar.hpp"

namespace nm::virtio {

/// A register of 8, 16 or 32 bits: offset in its structure, whose own offset in a BAR the device tells.
template <class Word, reg_mode Mode>
struct field {
    std::uint32_t at;
};
template <bar_access B>
struct structure {
    B bar{};
    std::uint32_t offset = 0;
    std::uint32_t length = 0;

    template <class Word, reg_mode Mode>
        requires(Mode != reg_mode::wo)
    [[nodiscard]] Word read(field<Word, Mode> f) const noexcept { return bar.template read<Word>(offset + f.at); }
    template <class Word, reg_mode Mode>
        requires(Mode != reg_mode::ro && Mode != reg_mode::rc)
    void write(field<Word, Mode> f, Word value) const noexcept { bar.template write<Word>(offset + f.at, value); }
    /// 4.1.3.1: 64 bits as two words.
    void write(field<std::uint64_t, reg_mode::rw> f, std::uint64_t value) const noexcept {
        bar.template write<std::uint32_t>(offset + f.at, static_cast<std::uint32_t>(value));
        bar.template write<std::uint32_t>(offset + f.at + 4, static_cast<std::uint32_t>(value >> 32));
    }
};

// 4.1.4 Virtio Structure PCI Capabilities: in the configuration space, each of 16 bytes.
inline constexpr unsigned pci_status = 0x06, pci_status_capabilities = 0x10, pci_capability_pointer = 0x34;
inline constexpr std::uint8_t pci_cap_vendor = 0x09;
namespace cap {
inline constexpr unsigned next = 1, len = 2, type = 3, bar = 4, offset = 8, length = 12, notify_multiplier = 16;
inline constexpr std::uint8_t common = 1, notify = 2, isr = 3, device = 4;
}  // namespace cap

// 4.1.4.3 Common configuration structure layout
namespace common {
using enum reg_mode;
inline constexpr field<std::uint32_t, rw> device_feature_select{0};
inline constexpr field<std::uint32_t, ro> device_feature{4};
inline constexpr field<std::uint32_t, rw> driver_feature_select{8};
inline constexpr field<std::uint32_t, rw> driver_feature{12};
inline constexpr field<std::uint16_t, rw> config_msix_vector{16};
inline constexpr field<std::uint16_t, ro> num_queues{18};
inline constexpr field<std::uint8_t, rw> device_status{20};
inline constexpr field<std::uint8_t, ro> config_generation{21};
inline constexpr field<std::uint16_t, rw> queue_select{22};
inline constexpr field<std::uint16_t, rw> queue_size{24};
inline constexpr field<std::uint16_t, rw> queue_msix_vector{26};
inline constexpr field<std::uint16_t, rw> queue_enable{28};
inline constexpr field<std::uint16_t, ro> queue_notify_off{30};
inline constexpr field<std::uint64_t, rw> queue_desc{32};
inline constexpr field<std::uint64_t, rw> queue_driver{40};
inline constexpr field<std::uint64_t, rw> queue_device{48};
inline constexpr std::uint32_t size = 56;  // what is behind it came with 1.2, and is not needed
inline constexpr std::uint16_t no_vector = 0xffff;
}  // namespace common

// 4.1.4.5 ISR status capability: cleared by reading, which also takes back INTx.
inline constexpr field<std::uint8_t, reg_mode::rc> isr_status{0};

// 5.1.4 Device configuration layout
namespace config {
using enum reg_mode;
inline constexpr field<std::uint8_t, ro> mac{0};  // the first of six
inline constexpr field<std::uint16_t, ro> status{6};
inline constexpr field<std::uint16_t, ro> max_virtqueue_pairs{8};
inline constexpr field<std::uint16_t, ro> mtu{10};
inline constexpr field<std::uint32_t, ro> speed{12};
inline constexpr std::uint16_t link_up = 1;
}  // namespace config

// 2.1 Device Status Field
namespace status {
inline constexpr std::uint8_t acknowledge = 1, driver = 2, driver_ok = 4, features_ok = 8, needs_reset = 64, failed = 128;
}

// 5.1.3, 6 Feature bits
namespace feature {
[[nodiscard]] constexpr std::uint64_t bit(unsigned n) noexcept { return std::uint64_t{1} << n; }
inline constexpr std::uint64_t mtu = bit(3), mac = bit(5), mrg_rxbuf = bit(15), status = bit(16), ctrl_vq = bit(17),
                               ctrl_rx = bit(18), mq = bit(22), ctrl_mac_addr = bit(23), event_idx = bit(29),
                               version_1 = bit(32), access_platform = bit(33), ring_packed = bit(34),
                               order_platform = bit(36), speed_duplex = bit(63);
}  // namespace feature

// 5.1.6 The header before each frame. Of what it can ask for nothing is negotiated, so on its way out it is all zeros; on
// its way in only num_buffers counts, where buffers are merged.
struct net_header {
    std::uint8_t flags, gso_type;
    std::uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
static_assert(sizeof(net_header) == 12);
inline constexpr std::uint32_t header_bytes = 12;
inline constexpr std::size_t header_stride = 16;

// 5.1.6.5 Control Virtqueue
namespace ctrl {
struct command {
    std::uint8_t group, what;
};
inline constexpr command promiscuous{0, 0}, mac_address{1, 1}, queue_pairs{4, 0};
inline constexpr std::uint8_t ok = 0;
}  // namespace ctrl

// 2.7.5 The Virtqueue Descriptor Table
struct descriptor {
    std::uint64_t address;
    std::uint32_t len;
    std::uint16_t flags, next;
};
static_assert(sizeof(descriptor) == 16);
namespace desc {
inline constexpr std::uint16_t next = 1, write = 2;
}
// 2.7.6, 2.7.8 The available and the used ring: a header of two words, as many entries as descriptors, an event word.
struct used_element {
    std::uint32_t id, len;
};
inline constexpr std::uint16_t no_interrupt = 1, no_notify = 1;

// 2.8.13 Packed descriptors, 2.8.14 event suppression
struct packed_descriptor {
    std::uint64_t address;
    std::uint32_t len;
    std::uint16_t id, flags;
};
static_assert(sizeof(packed_descriptor) == 16);
namespace packed {
inline constexpr std::uint16_t avail = 1U << 7, used = 1U << 15;
inline constexpr std::uint16_t event_enable = 0, event_disable = 1;
}  // namespace packed

}  // namespace nm::virtio
