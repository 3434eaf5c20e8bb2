// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Intel's 82540EM, 82545EM, 82546EB and 82574L. Source of every step: "Intel 82574 GbE Controller Family Datasheet" (section
// numbers are its), and "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual" for the 8254x.

#include <algorithm>
#include <bit>
#include <memory>
#include <vector>

#include "nm/ports/e1000_regs.hpp"
#include "nm/ports/intel_address.hpp"
#include "nm/ports/intel_ring.hpp"
#include "nm/ports/nic_device.hpp"

namespace nm {

struct e1000 {
    static constexpr const char* name = "e1000";
    static constexpr const char* kind_name = "NICs: e1000, e1000e (netmap:0000:03:00.0)";

    [[nodiscard]] static constexpr bool drives(const sys::pci_ids& ids) noexcept {
        if (ids.vendor != 0x8086) return false;
        switch (ids.device) {
            case 0x100e: case 0x1015:                            // 82540EM
            case 0x100f: case 0x1011:                            // 82545EM
            case 0x1010: case 0x1012: case 0x101d:               // 82546EB
            case 0x10d3: case 0x10f6: return true;               // 82574L
            default: return false;
        }
    }
    /// PCI Express, MSI-X, 64-bit DMA in one piece.
    [[nodiscard]] static constexpr bool is_82574(const sys::pci_ids& ids) noexcept {
        return ids.device == 0x10d3 || ids.device == 0x10f6;
    }
    /// The first revision of the 82545 and 82546 cannot cross 64 KiB with a buffer (8254x manual, specification update).
    [[nodiscard]] static constexpr bool stops_at_64k(const sys::pci_ids& ids) noexcept {
        return ids.device == 0x100f || ids.device == 0x1011 || ids.device == 0x1010 || ids.device == 0x1012 || ids.device == 0x101d;
    }

    /// QEMU's 82574 (whose subsystem is 0; no real one's is) loses a frame out of a buffer that crosses a page, unless the two
    /// happen to be neighbours: it maps each fragment in one piece (hw/net/net_tx_pkt.c).
    [[nodiscard]] static constexpr bool stops_at_a_page(const sys::pci_ids& ids) noexcept { return is_82574(ids) && ids.subsystem_device == 0; }

    template <nic_bus Bus>
    class control;
};

template <nic_bus Bus>
class e1000::control {
public:
    using bar_type = typename Bus::bar_type;

    [[nodiscard]] static result<control> open(Bus& bus) {
        auto bar = bus.bar(0);
        if (!bar) return forward_error(bar);
        if (bar->size() < regs::rah.at + 8 * 16) return fail(EIO, bus.name() + ": its BAR 0 is smaller than an e1000's");
        control c(bus, *bar);
        if (auto ok = c.reset(); !ok) return forward_error(ok);
        return c;
    }

    [[nodiscard]] nic_limits limits() const {
        nic_limits l;
        l.memory.min_buf_size = 256;
        l.memory.no_cross = stops_at_64k(ids_) ? 65536 : stops_at_a_page(ids_) ? 4096 : 0;
        l.max_slots = 4096;
        l.slots_multiple = 8;  // RDLEN counts in 128 bytes
        l.default_slots = 1024;
        l.max_frame = 9018;
        l.max_mtu = 9000;
        return l;
    }
    /// 10.2.5.15: after a reset the first pair holds what the EEPROM says.
    [[nodiscard]] mac_address mac() const noexcept { return mac_; }

    [[nodiscard]] std::size_t ring_memory(const nic_setup& s) const noexcept {
        return dma_memory::rounded(tx_descriptors(s) * sizeof(intel_descriptor)) +
               dma_memory::rounded(s.rx_slots * sizeof(intel_descriptor));
    }

    [[nodiscard]] result<void> start(const nic_setup& setup) {
        setup_ = setup;
        const std::uint32_t txs = tx_descriptors(setup_);
        const auto tx_ring = setup_.memory.take(txs * sizeof(intel_descriptor));
        const auto rx_ring = setup_.memory.take(setup_.rx_slots * sizeof(intel_descriptor));
        if (tx_ring.at == nullptr || rx_ring.at == nullptr) return fail(ENOMEM, bus_->name() + ": too little memory for its rings");
        tx_ring_ = tx_ring.template as<intel_descriptor>();
        rx_ring_ = rx_ring.template as<intel_descriptor>();
        marks_ = std::make_unique<typename intel_tx<bar_type>::mark[]>(txs);
        general();
        interrupts();
        receive(rx_ring.iova);
        transmit(tx_ring.iova, txs);
        clear_statistics();
        return {};
    }
    [[nodiscard]] intel_tx<bar_type> tx(unsigned) noexcept {
        return {{tx_ring_, marks_.get(), tx_descriptors(setup_), setup_.tx_slots, regs::tdt.at}, bar_, setup_.buffers};
    }
    [[nodiscard]] intel_rx<bar_type> rx(unsigned) noexcept { return {rx_ring_, setup_.rx_slots, regs::rdt.at, bar_, setup_.buffers}; }

    [[nodiscard]] result<void> run() noexcept {
        write(bar_, regs::rctl, rctl_ | b::rctl_en);
        write(bar_, regs::ims, link_cause());
        running_ = true;
        return {};
    }

    /// 4.6.1, 4.5: no interrupts, no more requests on the bus, then the reset that ends all.
    void stop() noexcept {
        running_ = false;
        quiet();
    }

    void interrupt_rx(unsigned, bool on) noexcept {
        change_mask(setup_.vectors.shared() ? b::irq_rxt0 | b::irq_rxo | b::irq_rxdmt0 : b::irq_rxq0, on);
    }
    void interrupt_tx(unsigned, bool on) noexcept { change_mask(setup_.vectors.shared() ? b::irq_txdw : b::irq_txq0, on); }
    /// 10.2.4.1: reading clears all causes.
    bool ack() noexcept {
        if (setup_.vectors.kind != sys::irq_kind::msix || setup_.vectors.shared()) return read(bar_, regs::icr) != 0;
        // Each message has masked its cause (10.2.4.9); queues' are asked for again one by one.
        write(bar_, regs::icr, b::irq_lsc | b::irq_other);
        write(bar_, regs::ims, link_cause());
        return false;
    }

    [[nodiscard]] nic_link link() const noexcept {
        const std::uint32_t s = read(bar_, regs::status);
        if (s == ~0U) return {};  // nobody answers
        constexpr std::array<unsigned, 4> speeds{10, 100, 1000, 1000};
        return {(s & b::status_lu) != 0, speeds[s >> b::status_speed & 3]};
    }
    void set_promiscuous(bool on) noexcept {
        setup_.promiscuous = on;
        rctl_ = receive_control();
        write(bar_, regs::rctl, rctl_ | (running_ ? b::rctl_en : 0));
    }
    [[nodiscard]] result<void> set_mac(const mac_address& m) noexcept {
        mac_ = m;
        write_mac();
        return {};
    }

    /// 10.2.7: each is cleared by reading it; of the bytes, the high half last.
    void add_counters(nic_counters& sum) noexcept {
        const auto bytes = [this](auto low, auto high) {
            const std::uint64_t l = read(bar_, low);
            return l | static_cast<std::uint64_t>(read(bar_, high)) << 32;
        };
        sum.rx_frames += read(bar_, regs::gprc);
        sum.tx_frames += read(bar_, regs::tpt);  // of good ones the count is a copy of this in QEMU, where it comes back
        sum.rx_bytes += bytes(regs::gorcl, regs::gorch);
        sum.tx_bytes += bytes(regs::totl, regs::toth);
        sum.rx_missed += read(bar_, regs::mpc);
        sum.rx_errors += std::uint64_t{read(bar_, regs::crcerrs)} + read(bar_, regs::algnerrc) + read(bar_, regs::rxerrc) +
                         read(bar_, regs::rlec);
    }

private:
    explicit control(Bus& bus, bar_type bar) noexcept : bus_(&bus), bar_(bar), ids_(bus.ids()), pcie_(is_82574(ids_)) {}

    [[nodiscard]] static std::uint32_t tx_descriptors(const nic_setup& s) noexcept { return std::bit_ceil(std::max(s.tx_slots, 8U)); }
    [[nodiscard]] std::uint32_t link_cause() const noexcept { return setup_.vectors.shared() ? b::irq_lsc : b::irq_lsc | b::irq_other; }
    void change_mask(std::uint32_t which, bool on) noexcept {
        if (on) write(bar_, regs::ims, which);
        else write(bar_, regs::imc, which);
    }

    void quiet() noexcept {
        write(bar_, regs::imc, ~0U);
        write(bar_, regs::rctl, 0);
        write(bar_, regs::tctl, 0);
        if (pcie_) {
            // 3.1.3.10: requests under way are waited for, so that the reset does not cut one off.
            set_bits(bar_, regs::ctrl, b::ctrl_master_disable);
            (void)nic_wait(std::chrono::milliseconds(80), [this] { return (read(bar_, regs::status) & b::status_master) == 0; });
        }
        write(bar_, regs::ctrl, read(bar_, regs::ctrl) | b::ctrl_rst);
        nic_sleep(std::chrono::milliseconds(3));
        write(bar_, regs::imc, ~0U);
        (void)read(bar_, regs::icr);
    }

    // 4.6.2 Global reset and general configuration
    [[nodiscard]] result<void> reset() {
        quiet();
        if (!nic_wait(std::chrono::milliseconds(100), [this] { return (read(bar_, regs::ctrl) & b::ctrl_rst) == 0; }))
            return fail(EIO, bus_->name() + " does not come out of its reset; `echo 1 > /sys/bus/pci/devices/" + bus_->name() + "/reset` may help");
        mac_ = intel::address_registers(read(bar_, regs::ral[0]), read(bar_, regs::rah[0])).mac();
        return {};
    }
    void general() noexcept {
        std::uint32_t c = read(bar_, regs::ctrl);
        c |= b::ctrl_fd | b::ctrl_asde | b::ctrl_slu;
        c &= ~(b::ctrl_phy_rst | b::ctrl_flow_control | b::ctrl_vme | b::ctrl_master_disable);
        write(bar_, regs::ctrl, c);
        // No flow control: who does not read loses his own frames, and stops nobody.
        write(bar_, regs::fcal, 0);
        write(bar_, regs::fcah, 0);
        write(bar_, regs::fct, 0);
        write(bar_, regs::fcttv, 0);
    }

    // 7.4.2 MSI-X: vectors, causes that clear themselves when their message is sent; 7.4.4 throttling.
    void interrupts() noexcept {
        const std::uint32_t gap = std::min<std::uint32_t>(setup_.moderation_ns / 256, 0xffff);
        write(bar_, regs::itr, gap);
        if (setup_.vectors.kind != sys::irq_kind::msix) return;
        const nic_vectors& v = setup_.vectors;
        constexpr std::uint32_t valid = 8;
        // Bit 31, an interrupt with every write-back, stays off: QEMU then writes back each descriptor sent, a quarter of the rate.
        write(bar_, regs::ivar, (v.rx(0) | valid) | (v.tx(0) | valid) << 8 | (v.link | valid) << 16);
        set_bits(bar_, regs::ctrl_ext, b::ctrl_ext_pba);
        if (!v.shared()) write(bar_, regs::eiac, b::irq_rxq0 | b::irq_txq0 | b::irq_other);
        for (const unsigned vector : {v.rx(0), v.tx(0)}) write(bar_, regs::eitr[vector], gap);
    }

    // 4.6.5 Receive initialization
    void receive(std::uint64_t iova) noexcept {
        write_mac();
        for (unsigned i = 0; i < 128; ++i) write(bar_, regs::mta[i], 0);
        write(bar_, regs::rxcsum, 0);
        if (pcie_) {
            write(bar_, regs::rfctl, 0);  // legacy descriptors
            write(bar_, regs::mrqc, 0);   // one queue
        }
        write(bar_, regs::rdtr, 0);
        write(bar_, regs::radv, 0);
        write(bar_, regs::rxdctl, b::xdctl_gran | b::xdctl_wthresh_1);
        write(bar_, regs::rdbal, static_cast<std::uint32_t>(iova));
        write(bar_, regs::rdbah, static_cast<std::uint32_t>(iova >> 32));
        write(bar_, regs::rdlen, setup_.rx_slots * static_cast<std::uint32_t>(sizeof(intel_descriptor)));
        write(bar_, regs::rdh, 0);
        write(bar_, regs::rdt, 0);
        rctl_ = receive_control();
        write(bar_, regs::rctl, rctl_);
    }
    // 10.2.5.1: buffers of a power of two; a frame goes on in the next one.
    [[nodiscard]] std::uint32_t receive_control() const noexcept {
        std::uint32_t r = b::rctl_bam | b::rctl_secrc;
        if (setup_.promiscuous) r |= b::rctl_upe | b::rctl_mpe;
        if (setup_.mtu > 1500) r |= b::rctl_lpe;
        const std::uint32_t size = std::min(std::bit_floor(setup_.buf_size), 16384U);
        const auto log = static_cast<std::uint32_t>(std::countr_zero(size));
        if (size >= 4096) return r | b::rctl_bsex | (15 - log) << b::rctl_bsize;  // 16384, 8192, 4096: 1, 2, 3
        return r | (11 - log) << b::rctl_bsize;                                   // 2048, 1024, 512, 256: 0, 1, 2, 3
    }
    void write_mac() noexcept {
        const intel::address_registers a(mac_);
        write(bar_, regs::ral[0], a.low);
        write(bar_, regs::rah[0], a.high);
    }

    // 4.6.6 Transmit initialization
    void transmit(std::uint64_t iova, std::uint32_t count) noexcept {
        write(bar_, regs::tdbal, static_cast<std::uint32_t>(iova));
        write(bar_, regs::tdbah, static_cast<std::uint32_t>(iova >> 32));
        write(bar_, regs::tdlen, count * static_cast<std::uint32_t>(sizeof(intel_descriptor)));
        write(bar_, regs::tdh, 0);
        write(bar_, regs::tdt, 0);
        write(bar_, regs::tidv, 0);
        write(bar_, regs::txdctl, b::xdctl_gran | b::xdctl_wthresh_1);
        // 10.2.6.2: the gaps of a copper link, full duplex.
        write(bar_, regs::tipg, pcie_ ? 8U | 8U << 10 | 6U << 20 : 10U | 8U << 10 | 6U << 20);
        write(bar_, regs::tctl, b::tctl_en | b::tctl_psp | b::tctl_ct | b::tctl_cold | (pcie_ ? b::tctl_mulr : 0));
    }

    // 4.6.4 Initialization of statistics
    void clear_statistics() noexcept {
        for (std::uint32_t at = regs::crcerrs.at; at <= regs::last_statistic; at += 4) (void)bar_.template read<std::uint32_t>(at);
    }

    using regs = e1000_regs;
    using b = e1000_bits;

    Bus* bus_;
    bar_type bar_;
    sys::pci_ids ids_;
    bool pcie_;
    bool running_ = false;
    mac_address mac_{};
    nic_setup setup_;
    std::uint32_t rctl_ = 0;
    intel_descriptor* tx_ring_ = nullptr;
    intel_descriptor* rx_ring_ = nullptr;
    std::unique_ptr<typename intel_tx<bar_type>::mark[]> marks_;
};

}  // namespace nm
