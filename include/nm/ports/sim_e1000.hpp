// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A model of the 82574L, and of the 82540EM and 82545EM as far as these differ: what a driver that uses legacy descriptors and
// one queue can see of them. Sources: "Intel 82574 GbE Controller Family Datasheet" (sections are its), the manual of the
// 8254x, and for the order of things QEMU's e1000e, a trace of which it repeats (docs/nics.md).
// Left out: the second queue, offloads, VLANs, management, RDTR and RADV (held, without effect), wake-up.

#include <array>
#include <chrono>
#include <cstdint>

#include "nm/ports/sim_intel.hpp"

namespace nm {

struct sim_e1000_options {
    std::uint16_t device = 0x10d3;  ///< 82574L; 0x100e: 82540EM; 0x100f: 82545EM
    std::array<std::uint8_t, 6> mac{0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
    /// Where QEMU 7.2 departs from the datasheet, do as QEMU: CTRL.RST leaves registers alone, the link needs no SLU, sent bytes
    /// are counted without FCS, GPTC and GOTC are copies of TPT and TOT, nothing is missed, intervals are 128 us at least.
    bool qemu = false;
};

class sim_e1000 final : public sim_intel {
public:
    explicit sim_e1000(const sim_e1000_options& o = {})
        : sim_intel("sim:e1000", 0x20000, o.mac), options_(o) {
        ids = {0x8086, o.device, 0x8086, static_cast<std::uint16_t>(o.qemu ? 0 : 0xa01f), 0, 0x020000};
        is_82574_ = o.device == 0x10d3 || o.device == 0x10f6;
        msix_vectors = is_82574_ ? 5 : 0;
        msi_vectors = is_82574_ ? 1 : 0;
        resets = is_82574_;
        pads_ = !o.qemu;
        tx_counts_ = o.qemu ? 0 : fcs;
        reset();
    }

    [[gnu::noinline]] std::uint32_t read(std::size_t at) noexcept override {
        switch (at) {
            case status_at: return status();
            case icr_at: return read_icr();
            case ics_at: return options_.qemu ? reg(icr_at) : 0;
            case imc_at: return 0;
            case itr_at: return itr_[vectors];
            case eitr_at: case eitr_at + 4: case eitr_at + 8: case eitr_at + 12: case eitr_at + 16: return itr_[(at - eitr_at) / 4];
            default: break;
        }
        if (at >= 0x4000 && at <= 0x4124) return statistic(at);
        if (at + 4 > bar_size) {
            ++unknown_reads;
            return 0;
        }
        return reg(at);
    }

    [[gnu::noinline]] void write(std::size_t at, std::uint32_t v) noexcept override {
        switch (at) {
            case 0x0000: set_ctrl(v); break;
            case status_at: reg(at) &= v | ~status_phyra; break;
            case 0x0014: set_eerd(v); break;
            case 0x0020: set_mdic(v); break;
            case icr_at: clear_causes(v); break;
            case ics_at: cause(v); break;
            case ims_at: reg(ims_at) |= v & ims_valid; update(); break;
            case imc_at: reg(ims_at) &= ~v; update(); break;
            case itr_at: itr_[vectors] = v & 0xffff; break;
            case eitr_at: case eitr_at + 4: case eitr_at + 8: case eitr_at + 12: case eitr_at + 16:
                itr_[(at - eitr_at) / 4] = v & 0xffff;
                break;
            case rctl_at:
                reg(at) = v;
                refill();
                break;
            case 0x0400: case 0x3818:
                reg(at) = at == 0x3818 ? v & 0xffff : v;
                if ((reg(0x0400) & 2) != 0) start_transmit();
                break;
            case 0x2818:
                reg(at) = v & 0xffff;
                refill();
                break;
            case 0x2808: case 0x3808: reg(at) = v & 0xfff80; break;
            case 0x2800: case 0x3800: reg(at) = v & ~0xfU; break;
            case 0x2810: case 0x3810: case 0x2820: case 0x282c: case 0x3820: case 0x382c: reg(at) = v & 0xffff; break;
            case 0x0028: reg(at) = v; break;                                            // FCAL
            case 0x002c: case 0x0030: case 0x0038: case 0x0170: reg(at) = v & 0xffff; break;  // FCAH, FCT, VET, FCTTV
            case 0x3840: reg(at) = v; break;  // TARC0
            default:
                if (at < bar_size && !(at >= 0x4000 && at <= 0x4124)) reg(at) = v;
        }
    }

    void receive(std::span<const std::byte> frame) noexcept override {
        if (!rx_on()) return;
        std::array<std::byte, 60> filled{};
        if (frame.size() < filled.size()) {
            std::copy(frame.begin(), frame.end(), filled.begin());
            frame = filled;
            add(ruc);
        }
        const std::uint32_t rctl = reg(rctl_at);
        const std::size_t most = (rctl & rctl_lpe) != 0 ? 16384 - fcs : 1522 - fcs;
        if (frame.size() > most && (rctl & rctl_sbp) == 0) {
            add(roc);
            return;
        }
        if (!wanted(frame)) return;
        if (!waiting() && take_in(frame)) return;
        add(rnbc);
        if (!hold(frame) && !options_.qemu) add(mpc);
    }

    void step(std::chrono::nanoseconds elapsed = {}) noexcept override {
        now_ += elapsed;
        scribble(rx_ring);
        scribble(tx_ring);
        for (unsigned v = 0; v <= vectors; ++v) {
            if (quiet_until_[v] > now_ || !postponed_[v]) continue;
            postponed_[v] = false;
            if (v < vectors) notify(v);
            else {
                told_ = 0;
                update();
            }
        }
    }

    /// 4.6.1: what software and hardware resets leave. The wire stays as it is.
    void reset() noexcept override {
        clear_registers();
        clear_fifo();
        reg(0x0000) = options_.qemu ? ctrl_fd | ctrl_slu | 2U << 8 | 1U << 18 | 1U << 20 : ctrl_fd;
        reg(status_at) = options_.qemu ? 2U << 8 : 0;
        reg(0x0010) = 1U << 8 | 1U << 9;  // EECD: present, auto-read done
        reg(0x0014) = 2;
        reg(0x0410) = 0x8 | 0x8 << 10 | 0x6 << 20;
        reg(0x1000) = 0x0014'0014;
        reg(0x2828) = reg(0x2928) = 1U << 16;
        reg(0x3840) = reg(0x3940) = 3 | 1U << 10;
        reg(0x5000) = 3U << 8;  // RXCSUM
        reg(0x5b50) = 1;        // SWSM
        load_mac(ral_at);
        itr_ = {};
        quiet_until_ = {};
        postponed_ = {};
        told_ = 0;
        open_ = {};
        irqs.level(false);
    }

    void set_link(bool up) noexcept override {
        const std::uint32_t before = status();
        link_ = up;
        if (status() != before) cause(icr_lsc);
        if (up) refill();
    }

private:
    static constexpr unsigned vectors = 5;  // of MSI-X; the one after them stands for INTx and MSI
    static constexpr std::uint32_t status_at = 0x0008, icr_at = 0x00c0, itr_at = 0x00c4, ics_at = 0x00c8, ims_at = 0x00d0,
                                   imc_at = 0x00d8, eiac_at = 0x00dc, iam_at = 0x00e0, ivar_at = 0x00e4, eitr_at = 0x00e8,
                                   rctl_at = 0x0100, ral_at = 0x5400, mta_at = 0x5200, ctrl_ext_at = 0x0018;
    static constexpr std::uint32_t ctrl_fd = 1, ctrl_master_disable = 1U << 2, ctrl_slu = 1U << 6, ctrl_rst = 1U << 26, ctrl_phy_rst = 1U << 31,
                                   status_phyra = 1U << 10;
    static constexpr std::uint32_t icr_txdw = 1U << 0, icr_txqe = 1U << 1, icr_lsc = 1U << 2, icr_rxdmt0 = 1U << 4, icr_rxo = 1U << 6,
                                   icr_rxt0 = 1U << 7, icr_mdac = 1U << 9, icr_rxq0 = 1U << 20, icr_txq0 = 1U << 22,
                                   icr_other = 1U << 24, icr_asserted = 1U << 31;
    static constexpr std::uint32_t icr_others = icr_lsc | icr_rxo | icr_mdac | 1U << 16 | 1U << 17 | 1U << 18;
    static constexpr std::uint32_t ims_valid = icr_txdw | icr_txqe | icr_rxdmt0 | icr_rxt0 | icr_others | 1U << 15 | 0x01f0'0000;
    static constexpr std::uint32_t rctl_en = 1U << 1, rctl_sbp = 1U << 2, rctl_upe = 1U << 3, rctl_mpe = 1U << 4, rctl_lpe = 1U << 5,
                                   rctl_bam = 1U << 15, rctl_secrc = 1U << 26;
    static constexpr ring rx_ring{0x2800, 0x2804, 0x2808, 0x2810, 0x2818};
    static constexpr ring tx_ring{0x3800, 0x3804, 0x3808, 0x3810, 0x3818};

    [[nodiscard]] bool up() noexcept { return link_ && (options_.qemu || (reg(0x0000) & ctrl_slu) != 0); }
    [[nodiscard]] bool rx_on() noexcept { return up() && (reg(rctl_at) & rctl_en) != 0 && dma.enabled; }

    // 10.2.2.2
    [[nodiscard]] std::uint32_t status() noexcept {
        std::uint32_t s = reg(status_at) | 1U | 2U << 6;
        if (up()) s |= 2U;
        if (is_82574_ && (reg(0x0000) & ctrl_master_disable) == 0) s |= 1U << 19;
        return s;
    }
    void set_ctrl(std::uint32_t v) noexcept {
        const bool was_up = up();
        if ((v & ctrl_rst) != 0) {
            if (stuck) {
                reg(0x0000) = v;
                return;
            }
            if (!options_.qemu) {
                reset();
                return;
            }
            load_mac(ral_at);
        }
        reg(0x0000) = v & ~ctrl_rst;
        if ((v & ctrl_phy_rst) != 0) reg(status_at) |= status_phyra;
        if (!options_.qemu && up() != was_up) cause(icr_lsc);
    }
    // 10.2.2.8; the 8254x has other fields.
    void set_eerd(std::uint32_t v) noexcept {
        const unsigned shift = is_82574_ ? 2 : 8;
        const std::uint32_t word = v >> shift & (is_82574_ ? 0x3fff : 0xff), done = is_82574_ ? 2 : 0x10;
        const std::uint32_t data = word < 3 ? mac_word(word) : 0;
        reg(0x0014) = word << shift | ((v & 1) != 0 && word < 64 ? done | data << 16 : 0);
    }
    // 10.2.2.7: the PHY is number 1.
    void set_mdic(std::uint32_t v) noexcept {
        constexpr std::array<std::uint16_t, 4> phy{0x1140, 0x796d, 0x0141, 0x0cb1};
        const std::uint32_t which = v >> 16 & 31;
        if ((v >> 21 & 31) != 1 || which >= phy.size()) v |= 1U << 30;
        else if ((v >> 26 & 3) == 2) v = (v & ~0xffffU) | (which == 1 && !link_ ? phy[1] & ~0x24U : phy[which]);
        reg(0x0020) = v | 1U << 28;
        if ((v & 1U << 29) != 0) cause(icr_mdac);
    }

    // 10.2.5.1: promiscuous bits, then 10.2.5.14 to 16: the addresses.
    [[nodiscard]] bool wanted(std::span<const std::byte> f) noexcept {
        const std::uint32_t rctl = reg(rctl_at);
        if (broadcast(f) ? (rctl & rctl_bam) != 0 : (rctl & (group(f) ? rctl_mpe : rctl_upe)) != 0) return true;
        return matches(f, ral_at, 16, mta_at, rctl >> 12 & 3);
    }
    [[nodiscard]] std::uint32_t buffer_size() noexcept {
        const std::uint32_t rctl = reg(rctl_at), size = rctl >> 16 & 3;
        if ((rctl >> 25 & 1) != 0 && size != 0) return 32768U >> size;
        return 2048U >> size;
    }
    [[nodiscard]] bool take_in(std::span<const std::byte> frame) noexcept {
        const bool any = given(rx_ring) != 0;
        if (!deliver(rx_ring, frame, buffer_size(), (reg(rctl_at) & rctl_secrc) != 0 ? 0 : fcs)) {
            if (any || !options_.qemu) cause(icr_rxo);
            return false;
        }
        const unsigned shift = (reg(rctl_at) >> 8 & 3) + 1;
        const bool low = given(rx_ring) == count(rx_ring) >> shift;
        cause(msix() ? icr_rxq0 : icr_rxt0 | (low ? icr_rxdmt0 : 0));
        return true;
    }
    void refill() noexcept {
        if (!rx_on()) return;
        release([this](std::span<const std::byte> frame) { return take_in(frame); });
    }
    void start_transmit() noexcept {
        // 10.2.4.9: IVAR's bit 31 wants an interrupt with every status written back; QEMU then also writes all of them.
        const bool reported = transmit(tx_ring, open_, options_.qemu && reg(ivar_at) >> 31 != 0);
        cause(icr_txqe | (!reported ? 0 : msix() ? icr_txq0 : icr_txdw));
    }
    void sent() noexcept override {
        if (!options_.qemu) return;
        reg(gptc) = reg(tpt);
        reg(gotcl) = reg(totl);
        reg(gotcl + 4) = reg(totl + 4);
    }

    // 10.2.7: cleared by reading; of a counter in two halves, the high one clears both.
    [[nodiscard]] std::uint32_t statistic(std::size_t at) noexcept {
        switch (at) {
            case gorcl: case gotcl: case torl: case totl: return reg(at);
            case gorcl + 4: case gotcl + 4: case torl + 4: case totl + 4: reg(at - 4) = 0; return take(at);
            default: return take(at);
        }
    }

    [[nodiscard]] bool msix() const noexcept { return irqs.on(sys::irq_kind::msix); }
    void cause(std::uint32_t bits) noexcept {
        reg(icr_at) |= bits;
        update();
    }
    // 10.2.4.1
    [[nodiscard]] std::uint32_t read_icr() noexcept {
        const std::uint32_t v = reg(icr_at);
        if (!is_82574_ || reg(ims_at) == 0 || !msix()) reg(icr_at) = 0;
        if ((reg(icr_at) & icr_asserted) != 0 && (reg(ctrl_ext_at) & 1U << 27) != 0) {
            reg(icr_at) = 0;
            reg(ims_at) &= ~reg(iam_at);
        }
        update();
        return v;
    }
    void clear_causes(std::uint32_t v) noexcept {
        if ((reg(icr_at) & icr_asserted) != 0 && (reg(ctrl_ext_at) & 1U << 27) != 0) reg(ims_at) &= ~reg(iam_at);
        reg(icr_at) &= ~(v | ((v & icr_other) != 0 ? icr_others : 0));
        update();
    }
    void update() noexcept {
        std::uint32_t& icr = reg(icr_at);
        if (msix() && (icr & icr_others) != 0) icr |= icr_other;
        icr &= ~icr_asserted;
        if (is_82574_ && icr != 0) icr |= icr_asserted;
        const std::uint32_t pending = icr & reg(ims_at) & ~icr_asserted;
        if (msix() || irqs.on(sys::irq_kind::msi)) {
            told_ &= pending;
            const std::uint32_t fresh = pending & ~told_;
            told_ |= fresh;
            if (fresh == 0) return;
            if (msix()) tell_vectors(fresh);
            else if (!throttled(vectors)) irqs.raise(0);
        } else if (pending == 0) {
            irqs.level(false);
        } else if (!throttled(vectors)) {
            irqs.level(true);
        }
    }
    // 7.4.1, 10.2.4.9: a nibble of IVAR says which vector a cause has; EIAC then clears it.
    void tell_vectors(std::uint32_t fresh) noexcept {
        for (unsigned n = 0; n < 5; ++n) {
            const std::uint32_t bit = icr_rxq0 << n;
            if ((fresh & bit) == 0) continue;
            const std::uint32_t entry = reg(ivar_at) >> 4 * n & 0xf;
            if ((entry & 8) != 0 && (entry & 7) < vectors && !throttled(entry & 7)) notify(entry & 7);
            if ((reg(ctrl_ext_at) & 1U << 24) != 0) reg(iam_at) &= ~bit;
            const std::uint32_t clears = reg(eiac_at) & bit;
            reg(icr_at) &= ~clears;
            told_ &= ~clears;
            if ((reg(ctrl_ext_at) & 1U << 27) == 0) reg(ims_at) &= ~clears;
        }
    }
    void notify(unsigned v) noexcept {
        quiet(v);
        irqs.raise(v);
    }
    // 10.2.4.2, 10.2.4.10: units of 256 ns.
    void quiet(unsigned v) noexcept {
        const std::uint32_t interval = options_.qemu ? std::max(itr_[v], 500U) : itr_[v];
        quiet_until_[v] = now_ + std::chrono::nanoseconds(std::uint64_t{interval} * 256);
    }
    [[nodiscard]] bool throttled(unsigned v) noexcept {
        if (quiet_until_[v] > now_) return postponed_[v] = true;
        if (v == vectors) quiet(v);
        return false;
    }

    sim_e1000_options options_;
    bool is_82574_ = true;
    partial open_;
    std::uint32_t told_ = 0;  // causes that a message was sent for
    std::array<std::uint32_t, vectors + 1> itr_{};
    std::array<std::chrono::nanoseconds, vectors + 1> quiet_until_{};
    std::array<bool, vectors + 1> postponed_{};
    std::chrono::nanoseconds now_{0};
};

}  // namespace nm
