// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// VMware's vmxnet3, revision 1: registers, commands, and what driver and device share in memory. There is no datasheet: names
// and numbers are those of VMware's interface definition as Linux and QEMU 7.2 (hw/net/vmxnet3.h) publish it.

#include <array>
#include <cstddef>
#include <cstdint>

#include "nm/ports/bar.hpp"

namespace nm {

/// BAR 0 belongs to the data path, BAR 1 to control. All registers have 32 bits and lie 8 bytes apart.
struct vmxnet3_regs {
    using enum reg_mode;

    // BAR 0
    static constexpr reg_array<rw> imr{0x000, 8};      // a vector's mask: 1 keeps an interrupt pending
    static constexpr reg_array<wo> txprod{0x600, 8};   // of queue q: the descriptor after the last new one
    static constexpr reg_array<wo> rxprod{0x800, 8};   // ring 1
    static constexpr reg_array<wo> rxprod2{0xa00, 8};  // ring 2
    static constexpr std::uint32_t bar0_size = 0xa40;
    // BAR 1
    static constexpr reg<rw> vrrs{0x00};  // device revisions that there are, one bit each; the chosen one is written
    static constexpr reg<rw> uvrs{0x08};  // the same for UPT
    static constexpr reg<wo> dsal{0x10};  // address of `shared`
    static constexpr reg<wo> dsah{0x18};
    static constexpr reg<rw> cmd{0x20};  // a command is written; what it gives is read
    static constexpr reg<rw> macl{0x28};
    static constexpr reg<rw> mach{0x30};
    static constexpr reg<rc> icr{0x38};    // INTx: 1 if it was ours, which ends it
    static constexpr reg<wo> ecr{0x40};    // ones clear events of shared::ecr
    static constexpr std::uint32_t bar1_size = 0x48;
};

struct vmxnet3_abi {
    // Commands
    static constexpr std::uint32_t activate = 0xcafe0000;  // gives 0 when the device runs
    static constexpr std::uint32_t quiesce = 0xcafe0001;
    static constexpr std::uint32_t reset = 0xcafe0002;
    static constexpr std::uint32_t update_rx_mode = 0xcafe0003;
    static constexpr std::uint32_t get_queue_status = 0xf00d0000;  // fills the queues' `status`
    static constexpr std::uint32_t get_stats = 0xf00d0001;         // fills the queues' counters
    static constexpr std::uint32_t get_link = 0xf00d0002;          // gives Mb/s << 16 | up
    static constexpr std::uint32_t get_perm_mac_lo = 0xf00d0003;
    static constexpr std::uint32_t get_perm_mac_hi = 0xf00d0004;
    static constexpr std::uint32_t get_conf_intr = 0xf00d0008;  // gives kind | mask mode << 2

    // Descriptors
    static constexpr std::uint32_t len_bits = 0x3fff;  // bytes; of what is sent, 0 is 16384
    static constexpr std::uint32_t max_buffer = 0x3fff;
    static constexpr std::uint32_t tx_gen = 1U << 14;    // word 2
    static constexpr std::uint32_t tx_eop = 1U << 12;    // word 3
    static constexpr std::uint32_t tx_cq = 1U << 13;     // word 3: completion wanted
    static constexpr std::uint32_t rx_body = 1U << 14;   // word 2: not for a frame's first part
    static constexpr std::uint32_t rx_gen = 1U << 31;    // word 2
    static constexpr std::uint32_t comp_gen = 1U << 31;  // word 3 of a completion
    static constexpr std::uint32_t comp_index = 0xfff;   // word 0
    static constexpr std::uint32_t comp_eop = 1U << 14;  // word 0, receiving
    static constexpr std::uint32_t comp_sop = 1U << 15;
    static constexpr std::uint32_t comp_ring = 0x3ffU << 16;  // queue, or queue + number of queues for ring 2
    static constexpr std::uint32_t comp_err = 1U << 14;       // word 2, receiving: the frame is damaged or cut off
    static constexpr unsigned max_tx_parts = 16;              // descriptors of one frame
    static constexpr unsigned max_rx_parts = 16;

    // Limits. Ring sizes are multiples of 32.
    static constexpr unsigned max_queues = 8;
    static constexpr unsigned max_vectors = 25;
    static constexpr unsigned ring_multiple = 32, max_slots = 4096;
    static constexpr unsigned min_mtu = 60, max_mtu = 9000;  // QEMU aborts on others
    static constexpr std::uint32_t magic = 0xbabefee1;

    // misc_conf
    static constexpr std::uint32_t driver_version = 0x00010000;
    static constexpr std::uint32_t gos_linux_64 = 2 | 1 << 2;  // bits of the guest, kind of the guest
    static constexpr std::uint64_t feature_rss = 0x2;
    // intr_conf
    static constexpr std::uint32_t disable_all = 1;
    static constexpr std::uint8_t moderation_none = 0, moderation_adaptive = 8;
    static constexpr std::uint32_t mask_mode_auto = 0;
    // rx_filter
    static constexpr std::uint32_t rx_unicast = 0x01, rx_broadcast = 0x04, rx_all_multicast = 0x08, rx_promiscuous = 0x10;
    // shared::ecr
    static constexpr std::uint32_t event_rx_error = 1, event_tx_error = 2, event_link = 4;

    struct descriptor {
        std::uint64_t address;
        std::uint32_t word2, word3;
    };
    struct completion {
        std::uint32_t word0, word1, word2, word3;
    };

    struct misc_conf {
        std::uint32_t version, guest, revisions, upt_versions;
        std::uint64_t features;
        std::uint64_t driver_data, queues;
        std::uint32_t driver_data_len, queues_len;
        std::uint32_t mtu;
        std::uint16_t max_rx_parts;
        std::uint8_t tx_queues, rx_queues;
        std::array<std::uint32_t, 4> reserved;
    };
    struct intr_conf {
        std::uint8_t auto_mask;
        std::uint8_t vectors;
        std::uint8_t event_vector;
        std::array<std::uint8_t, max_vectors> moderation;
        std::uint32_t control;
        std::array<std::uint32_t, 2> reserved;
    };
    struct rx_filter {
        std::uint32_t mode;
        std::uint16_t multicast_len, pad;
        std::uint64_t multicast;
        std::array<std::uint32_t, 128> vlans;  // one bit each; not looked at in promiscuous mode
    };
    struct conf_piece {
        std::uint32_t version, len;
        std::uint64_t at;
    };
    struct shared {
        std::uint32_t magic, pad;
        misc_conf misc;
        intr_conf intr;
        rx_filter filter;
        conf_piece rss, power, plugin;
        std::uint32_t ecr;  // events, set by the device
        std::array<std::uint32_t, 5> reserved;
    };
    struct rss_conf {
        std::uint16_t hash_type, hash_function, key_len, table_len;
        std::array<std::uint8_t, 40> key;
        std::array<std::uint8_t, 128> table;
    };
    static constexpr std::uint16_t rss_all_types = 0x0f, rss_toeplitz = 1;

    struct queue_status {
        std::uint8_t stopped;
        std::array<std::uint8_t, 3> pad;
        std::uint32_t error;
    };
    struct tx_queue {
        std::uint32_t deferred, threshold;
        std::uint64_t reserved0;
        std::uint64_t ring, data_ring, completions, driver_data, reserved1;
        std::uint32_t ring_len, data_ring_len, completions_len, driver_data_len;
        std::uint8_t vector;
        std::array<std::uint8_t, 7> pad;
        queue_status status;
        std::uint64_t tso_frames, tso_bytes;  // these are in the next ones too
        std::uint64_t unicast_frames, unicast_bytes, multicast_frames, multicast_bytes, broadcast_frames, broadcast_bytes;
        std::uint64_t errors, discards;
        std::array<std::uint8_t, 88> pad2;
    };
    struct rx_queue {
        std::uint8_t wants_doorbell;  // set by a device that looks at rxprod
        std::array<std::uint8_t, 7> pad0;
        std::uint64_t reserved0;
        std::array<std::uint64_t, 2> rings;
        std::uint64_t completions, driver_data, reserved1;
        std::array<std::uint32_t, 2> rings_len;
        std::uint32_t completions_len, driver_data_len;
        std::uint8_t vector;
        std::array<std::uint8_t, 7> pad;
        queue_status status;
        std::uint64_t lro_frames, lro_bytes;
        std::uint64_t unicast_frames, unicast_bytes, multicast_frames, multicast_bytes, broadcast_frames, broadcast_bytes;
        std::uint64_t out_of_buffers, errors;
        std::array<std::uint8_t, 88> pad2;
    };
    static constexpr std::size_t queue_alignment = 128;
};
static_assert(sizeof(vmxnet3_abi::descriptor) == 16 && sizeof(vmxnet3_abi::completion) == 16);
static_assert(sizeof(vmxnet3_abi::misc_conf) == 72 && sizeof(vmxnet3_abi::intr_conf) == 40 && sizeof(vmxnet3_abi::rx_filter) == 528);
static_assert(offsetof(vmxnet3_abi::shared, ecr) == 696 && sizeof(vmxnet3_abi::shared) == 720);
static_assert(sizeof(vmxnet3_abi::rss_conf) == 176);
static_assert(offsetof(vmxnet3_abi::tx_queue, status) == 80 && sizeof(vmxnet3_abi::tx_queue) == 256);
static_assert(offsetof(vmxnet3_abi::rx_queue, status) == 80 && sizeof(vmxnet3_abi::rx_queue) == 256);

}  // namespace nm
