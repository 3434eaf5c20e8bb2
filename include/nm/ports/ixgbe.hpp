// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Intel's 82599 (X520) and X540. Source of every step: "Intel 82599 10 GbE Controller Datasheet"; section numbers are its.
// Model-tested, never run on hardware: what is known of it is that a model made from the same datasheet (sim_ixgbe.hpp) works
// with it.

#include <algorithm>
#include <bit>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "nm/ports/intel_address.hpp"
#include "nm/ports/intel_ring.hpp"
#include "nm/ports/ixgbe_regs.hpp"
#include "nm/ports/nic_device.hpp"
#include "nm/spin_lock.hpp"

namespace nm {

struct ixgbe {
    static constexpr const char* name = "ixgbe";
    static constexpr const char* kind_name = "ixgbe";
    /// Said aloud by every port of this kind.
    static constexpr const char* caution = "model-tested, never run on hardware";

    [[nodiscard]] static constexpr bool drives(const sys::pci_ids& ids) noexcept {
        if (ids.vendor != 0x8086) return false;
        switch (ids.device) {
            case 0x10f7: case 0x10f8: case 0x10f9: case 0x10fb: case 0x10fc:  // 82599: KX4, backplane, CX4, SFP+, XAUI
            case 0x1507: case 0x1514: case 0x151c: case 0x154a: case 0x154d:  // X520 and 82599 on boards
            case 0x1557: case 0x1558: return true;
            default: return is_x540(ids);
        }
    }
    [[nodiscard]] static constexpr bool is_x540(const sys::pci_ids& ids) noexcept { return ids.device == 0x1528 || ids.device == 0x1560; }

    template <nic_bus Bus>
    class control;
};

template <nic_bus Bus>
class ixgbe::control {
public:
    using bar_type = typename Bus::bar_type;

    [[nodiscard]] static result<control> open(Bus& bus) {
        auto bar = bus.bar(0);
        if (!bar) return forward_error(bar);
        if (bar->size() < 0x20000) return fail(EIO, bus.name() + ": its BAR 0 is smaller than an 82599's");
        control c(bus, *bar);
        if (auto ok = c.reset(); !ok) return forward_error(ok);
        return c;
    }

    /// 7.1.2.8: 16 queues by RSS. 7.2.1: frames of less than 17 bytes hang the transmitter, although it pads others.
    [[nodiscard]] nic_limits limits() const noexcept {
        nic_limits l;
        l.memory.min_buf_size = 1024;
        l.max_rings = 16;
        l.max_slots = 4096;
        l.slots_multiple = 8;  // RDLEN and TDLEN count in 128 bytes
        l.min_frame = 17;
        l.max_frame = 9018;
        l.max_mtu = 9000;
        return l;
    }
    [[nodiscard]] mac_address mac() const noexcept { return mac_; }
    [[nodiscard]] std::size_t ring_memory(const nic_setup& s) const noexcept { return s.rings * (tx_bytes(s) + rx_bytes(s)); }

    [[nodiscard]] result<void> start(const nic_setup& setup) {
        setup_ = setup;
        queues_.clear();
        for (unsigned i = 0; i < setup_.rings; ++i) {
            queue& q = queues_.emplace_back();
            q.tx = setup_.memory.take(tx_bytes(setup_));
            q.rx = setup_.memory.take(rx_bytes(setup_));
            if (q.tx.at == nullptr || q.rx.at == nullptr) return fail(ENOMEM, bus_->name() + ": too little memory for its rings");
            q.marks = std::make_unique<typename intel_tx<bar_type>::mark[]>(tx_descriptors(setup_));
        }
        wanted_->by.assign(2 * setup_.rings, false);
        general();
        clear_statistics();
        interrupts();
        if (auto ok = receive(); !ok) return ok;
        return transmit();
    }
    [[nodiscard]] intel_tx<bar_type> tx(unsigned i) noexcept {
        return {{queues_[i].tx.template as<intel_descriptor>(), queues_[i].marks.get(), tx_descriptors(setup_), setup_.tx_slots, regs::tdt[i].at},
                bar_, setup_.buffers};
    }
    [[nodiscard]] intel_rx<bar_type> rx(unsigned i) noexcept {
        return {queues_[i].rx.template as<intel_descriptor>(), setup_.rx_slots, regs::rdt[i].at, bar_, setup_.buffers};
    }

    /// 4.6.7: the receiver is switched on while nothing comes past the security block.
    [[nodiscard]] result<void> run() noexcept {
        set_bits(bar_, regs::secrxctrl, b::secrxctrl_rx_dis);
        (void)nic_wait(std::chrono::milliseconds(10), [this] { return (read(bar_, regs::secrxstat) & b::secrxstat_ready) != 0; });
        set_bits(bar_, regs::rxctrl, b::rxctrl_rxen);
        clear_bits(bar_, regs::secrxctrl, b::secrxctrl_rx_dis);
        ask_for_link();
        return {};
    }
    void stop() noexcept {
        quiet();
        const std::lock_guard guard(wanted_->lock);
        wanted_->by.assign(wanted_->by.size(), false);
    }

    void interrupt_rx(unsigned ring, bool on) noexcept { want(2 * ring, on); }
    void interrupt_tx(unsigned ring, bool on) noexcept { want(2 * ring + 1, on); }
    /// 8.2.3.5.1: reading clears the causes; with a vector each, only those of the link and the like (OCD).
    bool ack() noexcept {
        const bool some = read(bar_, regs::eicr) != 0;
        ask_for_link();
        return some;
    }

    [[nodiscard]] nic_link link() const noexcept {
        const std::uint32_t l = read(bar_, regs::links);
        if (l == ~0U) return {};  // nobody answers
        constexpr std::array<unsigned, 4> speeds{0, 100, 1000, 10000};
        return {(l & b::links_up) != 0, speeds[l >> b::links_speed & 3]};
    }
    void set_promiscuous(bool on) noexcept {
        setup_.promiscuous = on;
        write(bar_, regs::fctrl, b::fctrl_bam | (on ? b::fctrl_mpe | b::fctrl_upe : 0));
    }
    [[nodiscard]] result<void> set_mac(const mac_address& m) noexcept {
        mac_ = m;
        write_mac();
        return {};
    }

    void add_counters(nic_counters& sum) noexcept {
        const auto bytes = [this](auto low, auto high) {
            const std::uint64_t l = read(bar_, low);
            return l | static_cast<std::uint64_t>(read(bar_, high) & 0xf) << 32;
        };
        sum.rx_frames += read(bar_, regs::gprc);
        sum.tx_frames += read(bar_, regs::gptc);
        sum.rx_bytes += bytes(regs::gorcl, regs::gorch);
        sum.tx_bytes += bytes(regs::gotcl, regs::gotch);
        for (unsigned i = 0; i < 8; ++i) sum.rx_missed += read(bar_, regs::mpc[i]);
        for (unsigned i = 0; i < 16; ++i) sum.rx_missed += read(bar_, regs::qprdc[i]);
        sum.rx_errors += std::uint64_t{read(bar_, regs::crcerrs)} + read(bar_, regs::illerrc) + read(bar_, regs::errbc) + read(bar_, regs::rlec);
    }

private:
    using regs = ixgbe_regs;
    using b = ixgbe_bits;
    struct queue {
        dma_memory::piece tx, rx;
        std::unique_ptr<typename intel_tx<bar_type>::mark[]> marks;
    };

    explicit control(Bus& bus, bar_type bar) noexcept : bus_(&bus), bar_(bar), x540_(is_x540(bus.ids())) {}

    [[nodiscard]] static std::uint32_t tx_descriptors(const nic_setup& s) noexcept { return std::bit_ceil(std::max(s.tx_slots, 8U)); }
    [[nodiscard]] static std::size_t tx_bytes(const nic_setup& s) noexcept { return dma_memory::rounded(tx_descriptors(s) * sizeof(intel_descriptor)); }
    [[nodiscard]] static std::size_t rx_bytes(const nic_setup& s) noexcept { return dma_memory::rounded(s.rx_slots * sizeof(intel_descriptor)); }

    // 5.2.5.3.2, 4.6.3: queues off, requests on the bus ended, then the reset. Interrupts are off before and after (4.6.3.1).
    void quiet() noexcept {
        mask_all();
        clear_bits(bar_, regs::rxctrl, b::rxctrl_rxen);
        for (unsigned i = 0; i < queues_.size(); ++i) {
            clear_bits(bar_, regs::rxdctl[i], b::queue_enable);
            clear_bits(bar_, regs::txdctl[i], b::queue_enable);
        }
        for (unsigned i = 0; i < queues_.size(); ++i)
            (void)nic_wait(std::chrono::milliseconds(10), [this, i] {
                return ((read(bar_, regs::rxdctl[i]) | read(bar_, regs::txdctl[i])) & b::queue_enable) == 0;
            });
        set_bits(bar_, regs::ctrl, b::ctrl_master_disable);
        (void)nic_wait(std::chrono::milliseconds(80), [this] { return (read(bar_, regs::status) & b::status_master) == 0; });
        write(bar_, regs::ctrl, read(bar_, regs::ctrl) | b::ctrl_rst | b::ctrl_lrst);
        nic_sleep(std::chrono::milliseconds(10));
        mask_all();
        (void)read(bar_, regs::eicr);
    }
    void mask_all() noexcept {
        write(bar_, regs::eimc, 0x7fff'ffff);
        for (unsigned i = 0; i < 2; ++i) write(bar_, regs::eimc_ex[i], ~0U);
    }

    // 4.6.3.2 Global reset and general configuration
    [[nodiscard]] result<void> reset() {
        quiet();
        const auto came = [this](auto r, std::uint32_t mask, std::uint32_t value) {
            return nic_wait(std::chrono::milliseconds(100), [this, r, mask, value] { return (read(bar_, r) & mask) == value; });
        };
        if (!came(regs::ctrl, b::ctrl_rst, 0) || !came(regs::eec, b::eec_auto_rd, b::eec_auto_rd) ||
            !came(regs::rdrxctl, b::rdrxctl_dmaidone, b::rdrxctl_dmaidone))
            return fail(EIO, bus_->name() + " does not come out of its reset; `echo 1 > /sys/bus/pci/devices/" + bus_->name() + "/reset` may help");
        // 8.2.3.7.9: the first pair holds what the EEPROM says.
        mac_ = intel::address_registers(read(bar_, regs::ral[0]), read(bar_, regs::rah[0])).mac();
        return {};
    }
    void general() noexcept {
        clear_bits(bar_, regs::ctrl, b::ctrl_master_disable);
        set_bits(bar_, regs::ctrl_ext, b::ctrl_ext_ns_dis | b::ctrl_ext_drv_load);
        // No flow control: who does not read loses his own frames, and stops nobody.
        write(bar_, regs::fccfg, 0);
        write(bar_, regs::mflcn, 0);
        // 4.6.4: the link as the EEPROM wants it. The X540's PHY sees to itself.
        if (!x540_) set_bits(bar_, regs::autoc, b::autoc_restart);
    }

    // 4.6.5 Initialization of statistics
    void clear_statistics() noexcept {
        for (std::uint32_t at = regs::crcerrs.at; at <= regs::last_statistic; at += 4) (void)bar_.template read<std::uint32_t>(at);
        nic_counters none;
        add_counters(none);
    }

    // 4.6.6 Interrupt initialization
    void interrupts() noexcept {
        const nic_vectors& v = setup_.vectors;
        const bool msix = v.kind == sys::irq_kind::msix;
        for (unsigned i = 0; i < setup_.rings; i += 2) {
            std::uint32_t entries = 0;
            for (unsigned k = 0; k < 2 && i + k < setup_.rings; ++k)
                entries |= (cause(2 * (i + k)) | b::ivar_valid | (cause(2 * (i + k) + 1) | b::ivar_valid) << 8) << 16 * k;
            write(bar_, regs::ivar[i / 2], entries);
        }
        write(bar_, regs::ivar_misc, (v.link | b::ivar_valid) << 8);
        const std::uint32_t gap = std::min(setup_.moderation_ns / 2048 << 3, b::eitr_interval);
        for (unsigned i = 0; i <= (v.shared() ? 0 : 2 * setup_.rings); ++i) write(bar_, regs::eitr(i), gap);
        if (!msix) {
            write(bar_, regs::gpie, 0);
            write(bar_, regs::eiam, 0);
            return;
        }
        // 7.3.1.4: a message clears its cause, and masks it until it is asked for again.
        write(bar_, regs::gpie, b::gpie_msix | b::gpie_ocd | b::gpie_eiame | b::gpie_pba);
        write(bar_, regs::eiac, 0xffff);
        for (unsigned i = 0; i < 2; ++i) write(bar_, regs::eiam_ex[i], ~0U);
    }
    // What a queue's direction (2 * ring, and 1 for tx) is told by: a vector of MSI-X, or one of 16 bits of EICR.
    [[nodiscard]] std::uint32_t cause(unsigned which) const noexcept {
        const nic_vectors& v = setup_.vectors;
        if (v.kind != sys::irq_kind::msix) return which & 15;
        return which % 2 == 0 ? v.rx(which / 2) : v.tx(which / 2);
    }
    /// Interrupts, by directions of queues. Several threads switch them.
    struct wishes {
        spin_lock lock;
        std::vector<bool> by;
    };
    // Causes may share a bit: it is off when nobody wants it.
    void want(unsigned which, bool on) noexcept {
        const std::lock_guard guard(wanted_->lock);
        auto& by = wanted_->by;
        by[which] = on;
        const std::uint32_t c = cause(which), bit = 1U << c % 32;
        const bool many = setup_.vectors.kind == sys::irq_kind::msix;
        if (on) return write(bar_, many ? regs::eims_ex[c / 32] : regs::eims, bit);
        for (unsigned i = 0; i < by.size(); ++i)
            if (by[i] && cause(i) == c) return;
        write(bar_, many ? regs::eimc_ex[c / 32] : regs::eimc, bit);
    }
    void ask_for_link() noexcept {
        write(bar_, regs::eims, b::irq_lsc);
        if (const unsigned v = setup_.vectors.link; !setup_.vectors.shared()) write(bar_, regs::eims_ex[v / 32], 1U << v % 32);
    }

    // 4.6.7 Receive initialization
    [[nodiscard]] result<void> receive() {
        write_mac();
        for (unsigned i = 1; i < 128; ++i) write(bar_, regs::rah[i], 0);
        for (unsigned i = 0; i < 128; ++i) write(bar_, regs::mta[i], 0);
        write(bar_, regs::mcstctrl, 0);
        write(bar_, regs::vlnctrl, 0x8100);  // no filter
        set_promiscuous(setup_.promiscuous);
        spread();
        write(bar_, regs::rxpbsize[0], 512U << 10);  // all of it for the one traffic class
        for (unsigned i = 1; i < 8; ++i) write(bar_, regs::rxpbsize[i], 0);
        std::uint32_t h = read(bar_, regs::hlreg0) | b::hlreg0_txcrcen | b::hlreg0_rxcrcstrp | b::hlreg0_txpaden;
        h = setup_.mtu > 1500 ? h | b::hlreg0_jumboen : h & ~b::hlreg0_jumboen;
        write(bar_, regs::hlreg0, h);
        write(bar_, regs::maxfrs, (setup_.mtu + 14 + 4 + 4) << 16);  // with FCS; one VLAN tag more is let through
        const std::uint32_t dma = read(bar_, regs::rdrxctl) & ~b::rdrxctl_rscfrstsize;
        write(bar_, regs::rdrxctl, dma | b::rdrxctl_crcstrip | b::rdrxctl_ones);
        for (unsigned i = 0; i < setup_.rings; ++i)
            if (!enable_receive(i)) return no_queue("receive", i);
        return {};
    }
    // 4.6.7.1.1 Dynamic enabling of a queue
    [[nodiscard]] bool enable_receive(unsigned i) noexcept {
        const std::uint64_t at = queues_[i].rx.iova;
        write(bar_, regs::rdbal[i], static_cast<std::uint32_t>(at));
        write(bar_, regs::rdbah[i], static_cast<std::uint32_t>(at >> 32));
        write(bar_, regs::rdlen[i], setup_.rx_slots * static_cast<std::uint32_t>(sizeof(intel_descriptor)));
        // 8.2.3.8.7: legacy descriptors, buffers in KiB. A queue that is full does not hold up the others.
        const std::uint32_t kib = std::min(setup_.buf_size / 1024, 15U);
        write(bar_, regs::srrctl[i], kib | b::srrctl_header | (setup_.rings > 1 ? b::srrctl_drop : 0));
        write(bar_, regs::rscctl[i], 0);
        clear_bits(bar_, regs::dca_rxctrl[i], b::dca_rxctrl_reserved);
        write(bar_, regs::rdh[i], 0);
        write(bar_, regs::rdt[i], 0);
        set_bits(bar_, regs::rxdctl[i], b::queue_enable);
        return nic_wait(std::chrono::milliseconds(10), [this, i] { return (read(bar_, regs::rxdctl[i]) & b::queue_enable) != 0; });
    }
    // 7.1.2.8: by addresses and ports. The key repeats after 16 bits, so that both directions of a flow meet in one ring.
    void spread() noexcept {
        set_bits(bar_, regs::rxcsum, b::rxcsum_pcsd);
        for (unsigned i = 0; i < 10; ++i) write(bar_, regs::rssrk[i], 0x6d5a'6d5a);
        for (unsigned i = 0; i < 32; ++i) {
            std::uint32_t four = 0;
            for (unsigned k = 0; k < 4; ++k) four |= (4 * i + k) % setup_.rings << 8 * k;
            write(bar_, regs::reta[i], four);
        }
        write(bar_, regs::mrqc, setup_.rings > 1 ? b::mrqc_rss | b::mrqc_fields : 0);
    }
    void write_mac() noexcept {
        const intel::address_registers a(mac_);
        write(bar_, regs::ral[0], a.low);
        write(bar_, regs::rah[0], a.high);
    }

    // 4.6.8 Transmit initialization
    [[nodiscard]] result<void> transmit() {
        set_bits(bar_, regs::rttdcs, b::rttdcs_arbdis);  // 7.2.1.2.1: while the buffers are divided
        write(bar_, regs::mtqc, 0);
        write(bar_, regs::txpbsize[0], 160U << 10);
        write(bar_, regs::txpbthresh[0], 160 - 10);
        for (unsigned i = 1; i < 8; ++i) write(bar_, regs::txpbsize[i], 0), write(bar_, regs::txpbthresh[i], 0);
        write(bar_, regs::dtxmxszrq, 0xfff);
        clear_bits(bar_, regs::rttdcs, b::rttdcs_arbdis);
        set_bits(bar_, regs::dmatxctl, b::dmatxctl_te);
        for (unsigned i = 0; i < setup_.rings; ++i)
            if (!enable_transmit(i)) return no_queue("transmit", i);
        return {};
    }
    // 4.6.8.1 Dynamic enabling of a queue
    [[nodiscard]] bool enable_transmit(unsigned i) noexcept {
        const std::uint64_t at = queues_[i].tx.iova;
        write(bar_, regs::tdbal[i], static_cast<std::uint32_t>(at));
        write(bar_, regs::tdbah[i], static_cast<std::uint32_t>(at >> 32));
        write(bar_, regs::tdlen[i], tx_descriptors(setup_) * static_cast<std::uint32_t>(sizeof(intel_descriptor)));
        write(bar_, regs::tdh[i], 0);
        write(bar_, regs::tdt[i], 0);
        write(bar_, regs::txdctl[i], b::txdctl_thresholds | b::queue_enable);
        return nic_wait(std::chrono::milliseconds(10), [this, i] { return (read(bar_, regs::txdctl[i]) & b::queue_enable) != 0; });
    }
    [[nodiscard]] result<void> no_queue(const char* which, unsigned i) const {
        return fail(EIO, bus_->name() + " does not enable its " + which + " queue " + std::to_string(i) + "; reset the device and try again");
    }

    Bus* bus_;
    bar_type bar_;
    bool x540_;
    mac_address mac_{};
    nic_setup setup_;
    std::vector<queue> queues_;
    std::unique_ptr<wishes> wanted_ = std::make_unique<wishes>();
};

}  // namespace nm
