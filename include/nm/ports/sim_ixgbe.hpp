// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A model of the 82599: what a driver that uses legacy descriptors can see of it, with 16 queues and RSS. Source: "Intel 82599
// 10 GbE Controller Datasheet"; sections are its. Nothing but the datasheet was there to hold it against; a model of the same
// make of the 82574 repeats what QEMU's device does (sim_e1000.hpp).
// Left out: advanced descriptors, offloads, VLANs, virtualization, several traffic classes, flow control, wake-up.

#include <array>
#include <chrono>
#include <cstdint>

#include "nm/ports/sim_intel.hpp"

namespace nm {

struct sim_ixgbe_options {
    std::uint16_t device = 0x10fb;  ///< 82599 with SFP+ (X520); 0x1528: X540
    std::array<std::uint8_t, 6> mac{0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
};

class sim_ixgbe final : public sim_intel {
public:
    explicit sim_ixgbe(const sim_ixgbe_options& o = {}) : sim_intel("sim:ixgbe", 0x20000, o.mac) {
        ids = {0x8086, o.device, 0x8086, 3, 1, 0x020000};
        msix_vectors = vectors;
        hangs_below_ = 17;
        reset();
    }

    [[gnu::noinline]] std::uint32_t read(std::size_t at) noexcept override {
        at = alias(at);
        switch (at) {
            case 0x0008: return (reg(0x0000) & master_disable) != 0 ? 0 : 1U << 19;
            case 0x0800: return read_causes();
            case 0x0880: return low16(mask_) | other_mask_;
            case 0x0808: case 0x0888: case 0x0a90: case 0x0a94: case 0x0ab0: case 0x0ab4: return 0;  // write only
            case 0x0aa0: return static_cast<std::uint32_t>(mask_);
            case 0x0aa4: return static_cast<std::uint32_t>(mask_ >> 32);
            case 0x42a4: return link_ ? 1U << 30 | 3U << 28 | 1U << 7 : 0;
            case 0x8d04: return reg(0x8d00) >> 1 & 1;
            default: break;
        }
        if (at >= 0x4000 && at <= 0x40f4) return statistic(at);
        if ((at >= mpc0 && at < mpc0 + 32) || (at >= qprdc0 && at < qprdc0 + 16 * stride && (at - qprdc0) % stride == 0)) return take(at);
        if (at + 4 > bar_size) {
            ++unknown_reads;
            return 0;
        }
        return reg(at);
    }

    [[gnu::noinline]] void write(std::size_t at, std::uint32_t v) noexcept override {
        at = alias(at);
        if (at + 4 > bar_size || (at >= 0x4000 && at <= 0x40f4) || (at >= mpc0 && at < mpc0 + 32)) return;
        if (at >= rx0 && at < rx0 + queues * stride) return write_rx(static_cast<unsigned>((at - rx0) / stride), (at - rx0) % stride, v);
        if (at >= tx0 && at < tx0 + queues * stride) return write_tx(static_cast<unsigned>((at - tx0) / stride), (at - tx0) % stride, v);
        switch (at) {
            case 0x0000:
                if ((v & (ctrl_rst | ctrl_lrst)) == 0 || stuck) reg(at) = v;
                else reset();
                break;
            case 0x0008: case 0x42a4: case 0x8d04: break;  // read only
            case 0x0800: causes_ &= ~std::uint64_t{v & 0xffff}, other_ &= ~v; update(); break;
            case 0x0808: causes_ |= v & 0xffff, other_ |= v & others; update(); break;
            case 0x0880: mask_ |= v & 0xffff, other_mask_ |= v & others; update(); break;
            case 0x0888: mask_ &= ~std::uint64_t{v & 0xffff}, other_mask_ &= ~v; update(); break;
            case 0x0a90: causes_ |= v; update(); break;
            case 0x0a94: causes_ |= std::uint64_t{v} << 32; update(); break;
            case 0x0aa0: mask_ |= v; update(); break;
            case 0x0aa4: mask_ |= std::uint64_t{v} << 32; update(); break;
            case 0x0ab0: mask_ &= ~std::uint64_t{v}; update(); break;
            case 0x0ab4: mask_ &= ~(std::uint64_t{v} << 32); update(); break;
            case 0x2f00: reg(at) = v | dmaidone; break;
            case 0x42a0: reg(at) = v & ~(1U << 12); break;  // AUTOC: restart clears itself
            case 0x4240:
                reg(at) = v;
                pads_ = (v & 1U << 10) != 0;
                break;
            default: reg(at) = v; break;
        }
    }

    void receive(std::span<const std::byte> frame) noexcept override {
        if (!rx_on()) return;
        if (frame.size() < 60) {
            add(ruc);
            return;
        }
        const bool tagged = frame[12] == std::byte{0x81} && frame[13] == std::byte{0};
        const std::size_t most = (reg(0x4240) & 1U << 2) != 0 ? reg(0x4268) >> 16 : 1518;
        if (frame.size() + fcs > most + (tagged ? 4 : 0)) {
            add(roc);
            return;
        }
        if (!wanted(frame)) return;
        if (!waiting() && take_in(frame)) return;
        const unsigned q = queue_of(frame);
        if ((srrctl(q) & 1U << 28) != 0) add(static_cast<std::uint32_t>(qprdc0 + q * stride));
        else if (!hold(frame)) add(mpc0);
    }

    void step(std::chrono::nanoseconds elapsed = {}) noexcept override {
        now_ += elapsed;
        for (unsigned q = 0; q < queues; ++q) scribble(rx_ring(q)), scribble(tx_ring(q));
        bool any = false;
        for (unsigned v = 0; v < vectors; ++v)
            if (postponed_[v] && quiet_until_[v] <= now_) postponed_[v] = false, any = true;
        if (any) update();
    }

    /// 4.2: what a software or function level reset leaves. The wire stays as it is.
    void reset() noexcept override {
        clear_registers();
        clear_fifo();
        reg(0x10010) = 1U << 8 | 1U << 9;                // EEC: present, auto-read done
        reg(0x2f00) = dmaidone;
        reg(0x4240) = 1U << 0 | 1U << 1 | 1U << 10;      // HLREG0
        reg(0x4268) = 1518U << 16;
        for (unsigned q = 0; q < queues; ++q) reg(rx0 + q * stride + 0x0c) = 1U << 12;  // DCA_RXCTRL: to be cleared
        pads_ = true;
        load_mac(ral0);
        causes_ = mask_ = 0;
        other_ = other_mask_ = 0;
        quiet_until_ = {};
        postponed_ = {};
        told_ = false;
        open_ = {};
        hung = false;
        irqs.level(false);
    }

    void set_link(bool up) noexcept override {
        if (link_ == up) return;
        link_ = up;
        other_ |= lsc;
        update();
        if (up) refill();
    }

private:
    static constexpr unsigned queues = 16, vectors = 64;
    static constexpr std::uint32_t rx0 = 0x1000, tx0 = 0x6000, stride = 0x40, ral0 = 0xa200, mpc0 = 0x3fa0, qprdc0 = 0x1430;
    static constexpr std::uint32_t master_disable = 1U << 2, ctrl_lrst = 1U << 3, ctrl_rst = 1U << 26, dmaidone = 1U << 3, enable = 1U << 25;
    static constexpr std::uint32_t lsc = 1U << 20, others = 0x3fff'0000;

    [[nodiscard]] static std::size_t alias(std::size_t at) noexcept { return at >= 0x5400 && at < 0x5480 ? at - 0x5400 + ral0 : at; }
    [[nodiscard]] static constexpr ring ring_at(std::uint32_t at) noexcept { return {at, at + 4, at + 8, at + 0x10, at + 0x18}; }
    [[nodiscard]] static constexpr ring rx_ring(unsigned q) noexcept { return ring_at(rx0 + q * stride); }
    [[nodiscard]] static constexpr ring tx_ring(unsigned q) noexcept { return ring_at(tx0 + q * stride); }
    [[nodiscard]] std::uint32_t srrctl(unsigned q) noexcept { return reg(rx0 + q * stride + 0x14); }

    void write_rx(unsigned q, std::size_t what, std::uint32_t v) noexcept {
        std::uint32_t& r = reg(rx0 + q * stride + what);
        switch (what) {
            case 0x00: r = v & ~0x7fU; break;
            case 0x08: r = v & 0xfff80; break;
            case 0x10: r = v & 0xffff; break;
            case 0x18:
                r = v & 0xffff;
                refill();
                break;
            case 0x30: break;  // statistics
            default: r = v; break;
        }
    }
    void write_tx(unsigned q, std::size_t what, std::uint32_t v) noexcept {
        std::uint32_t& r = reg(tx0 + q * stride + what);
        switch (what) {
            case 0x00: r = v & ~0x7fU; break;
            case 0x08: r = v & 0xfff80; break;
            case 0x10: r = v & 0xffff; break;
            case 0x18:
                r = v & 0xffff;
                start_transmit(q);
                break;
            case 0x28: r = (reg(0x4a80) & 1) != 0 ? v : v & ~enable; break;  // 4.6.8: DMATXCTL.TE comes first
            default: r = v; break;
        }
    }
    void start_transmit(unsigned q) noexcept {
        const bool on = (reg(0x4a80) & 1) != 0 && (reg(tx0 + q * stride + 0x28) & enable) != 0 && (reg(0x4900) & 1U << 6) == 0;
        if (!on || hung || !dma.enabled) return;
        if (transmit(tx_ring(q), open_[q])) cause(q, 8);
    }

    [[nodiscard]] bool rx_on() noexcept { return link_ && (reg(0x3000) & 1) != 0 && (reg(0x8d00) & 2) == 0 && dma.enabled; }
    // 7.1.1
    [[nodiscard]] bool wanted(std::span<const std::byte> f) noexcept {
        const std::uint32_t fctrl = reg(0x5080);
        if (broadcast(f)) return (fctrl & 1U << 10) != 0;
        if ((fctrl & 1U << (group(f) ? 8 : 9)) != 0) return true;
        const std::uint32_t mcst = reg(0x5090);
        return (!group(f) || (mcst & 4) != 0) && matches(f, ral0, 128, 0x5200, mcst & 3);
    }
    [[nodiscard]] bool take_in(std::span<const std::byte> frame) noexcept {
        const unsigned q = queue_of(frame);
        const std::uint32_t s = srrctl(q);
        if ((reg(rx0 + q * stride + 0x28) & enable) == 0) return false;
        if ((s >> 25 & 7) != 0) {
            ++unsupported;
            return false;
        }
        if (!deliver(rx_ring(q), frame, (s & 0x1f) * 1024, (reg(0x4240) & 2) != 0 ? 0 : fcs)) return false;
        cause(q, 0);
        return true;
    }
    void refill() noexcept {
        if (!rx_on()) return;
        release([this](std::span<const std::byte> frame) { return take_in(frame); });
    }

    // 7.1.2.8.1: Toeplitz over the addresses, and the ports where a protocol with ports is enabled.
    [[nodiscard]] unsigned queue_of(std::span<const std::byte> f) noexcept {
        const std::uint32_t mrqc = reg(0xec80);
        if ((mrqc & 0xf) != 1) return 0;
        const auto byte = [f](std::size_t i) { return i < f.size() ? std::to_integer<std::uint32_t>(f[i]) : 0U; };
        const bool v4 = byte(12) == 8 && byte(13) == 0, v6 = byte(12) == 0x86 && byte(13) == 0xdd;
        if (!v4 && !v6) return 0;
        const bool piece = v4 && ((byte(20) & 0x3f) | byte(21)) != 0;
        const std::uint32_t protocol = byte(v4 ? 23 : 20);
        const std::size_t addresses = v4 ? 26 : 22, bytes = v4 ? 8 : 32, ports = v4 ? 14 + 4 * (byte(14) & 0xf) : 54;
        const unsigned with_ports = protocol == 6 ? (v4 ? 16 : 21) : protocol == 17 ? (v4 ? 22 : 23) : 31;
        const bool hashes_ports = !piece && with_ports != 31 && (mrqc >> with_ports & 1) != 0;
        if (!hashes_ports && (mrqc >> (v4 ? 17 : 20) & 1) == 0) return 0;
        std::uint32_t hash = 0;
        for (std::size_t i = 0; i < bytes + (hashes_ports ? 4 : 0); ++i) {
            const std::uint32_t b = byte(i < bytes ? addresses + i : ports + i - bytes);
            for (std::size_t k = 0; k < 8; ++k)
                if ((b >> (7 - k) & 1) != 0) hash ^= key(8 * i + k);
        }
        return reg(0xeb00 + (hash & 0x7c)) >> 8 * (hash & 3) & 0xf;
    }
    // 32 bits of the key from bit n on, the first bit of its first byte being the highest.
    [[nodiscard]] std::uint32_t key(std::size_t n) noexcept {
        std::uint32_t bits = 0;
        for (std::size_t i = n; i < n + 32; ++i) bits = bits << 1 | (reg(0xeb80 + i / 32 * 4) >> (i / 8 % 4 * 8) >> (7 - i % 8) & 1);
        return bits;
    }

    // 8.2.3.23: cleared by reading; of a counter in two halves, the high one clears both.
    [[nodiscard]] std::uint32_t statistic(std::size_t at) noexcept {
        switch (at) {
            case gorcl: case gotcl: case torl: return reg(at);
            case gorcl + 4: case gotcl + 4: case torl + 4: reg(at - 4) = 0; return take(at);
            default: return take(at);
        }
    }

    [[nodiscard]] static std::uint32_t low16(std::uint64_t v) noexcept { return static_cast<std::uint32_t>(v & 0xffff); }
    [[nodiscard]] bool msix() noexcept { return irqs.on(sys::irq_kind::msix) && (reg(0x0898) & 1U << 4) != 0; }
    // 7.3.4: the entry of a queue, rx at `shift` 0 and tx at 8, names a vector, or one of 16 bits of EICR.
    void cause(unsigned q, unsigned shift) noexcept {
        const std::uint32_t entry = reg(0x0900 + q / 2 * 4) >> (q % 2 * 16 + shift) & 0xff;
        if ((entry & 0x80) == 0) return;
        causes_ |= std::uint64_t{1} << (entry & (msix() ? 0x3f : 0xf));
        update();
    }
    // 8.2.3.5.1: all, or only those that are not queues' (GPIE.OCD).
    [[nodiscard]] std::uint32_t read_causes() noexcept {
        const std::uint32_t v = low16(causes_) | other_;
        other_ = 0;
        if ((reg(0x0898) & 1U << 5) == 0) causes_ = 0;
        update();
        return v;
    }
    void update() noexcept {
        const std::uint32_t other = other_ & other_mask_;
        if (!msix()) {
            const bool pending = (causes_ & mask_) != 0 || other != 0;
            if (!pending) {
                irqs.level(told_ = false);
            } else if (!told_ && !throttled(0)) {
                told_ = true;
                quiet(0);
                if (irqs.on(sys::irq_kind::intx)) irqs.level(true);
                else irqs.raise(0);
            }
            return;
        }
        const std::uint32_t misc = reg(0x0a00) >> 8 & 0xff;
        const unsigned other_vector = misc & 0x3f;
        const bool tell_other = other != 0 && (misc & 0x80) != 0 && !other_told_;
        other_told_ = other != 0;
        std::uint64_t fresh = causes_ & mask_;
        if (tell_other) fresh |= std::uint64_t{1} << other_vector;
        for (unsigned v = 0; fresh != 0 && v < vectors; ++v) {
            const std::uint64_t bit = std::uint64_t{1} << v;
            if ((fresh & bit) == 0) continue;
            fresh &= ~bit;
            if (throttled(v)) {
                if (v == other_vector) other_told_ = false;
                continue;
            }
            quiet(v);
            irqs.raise(v);
            if (v >= 16 || (reg(0x0810) >> v & 1) != 0) causes_ &= ~bit;  // EIAC
            if ((reg(0x0898) >> 30 & 1) != 0 && (reg(0x0ad0 + v / 32 * 4) >> v % 32 & 1) != 0) mask_ &= ~bit;
        }
    }
    // 8.2.3.5.12: units of 2.048 us, from bit 3 on.
    void quiet(unsigned v) noexcept {
        const std::uint32_t interval = reg(v < 24 ? 0x0820 + 4 * v : 0x12300 + 4 * (v - 24)) >> 3 & 0x1ff;
        quiet_until_[v] = now_ + std::chrono::nanoseconds(interval * 2048);
    }
    [[nodiscard]] bool throttled(unsigned v) noexcept { return quiet_until_[v] > now_ && (postponed_[v] = true); }

    std::array<partial, queues> open_;
    std::uint64_t causes_ = 0, mask_ = 0;
    std::uint32_t other_ = 0, other_mask_ = 0;
    bool told_ = false, other_told_ = false;
    std::array<std::chrono::nanoseconds, vectors> quiet_until_{};
    std::array<bool, vectors> postponed_{};
    std::chrono::nanoseconds now_{0};
};

}  // namespace nm
