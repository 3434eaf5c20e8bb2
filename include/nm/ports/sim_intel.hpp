// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What the models of Intel's controllers share: a file of registers, rings of legacy descriptors, a receive FIFO, statistics.
// The offsets are written down here once more, from the datasheets, and not taken from the drivers' tables: a model that
// had them from there would agree with every mistake in them.

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <random>
#include <vector>

#include "nm/ports/sim_device.hpp"

namespace nm {

class sim_intel : public sim_device {
public:
    std::size_t fifo_bytes = 0;       ///< room for frames that wait for a buffer; 0: missed at once
    bool hung = false;                ///< the transmitter, on a frame that is too short for it
    std::uint64_t unsupported = 0;    ///< descriptors that are not of the legacy kind
    std::uint64_t unknown_reads = 0;  ///< of registers that the model does not have

    /// Registers without what reading them does.
    [[nodiscard]] std::uint32_t peek(std::size_t offset) const noexcept { return regs_[offset / 4]; }

protected:
    /// Where a ring's registers are.
    struct ring {
        std::uint32_t bal, bah, len, head, tail;
    };
    /// Of a frame whose last descriptor has not come yet.
    struct partial {
        std::vector<std::byte> bytes;
        bool bad = false;
    };
    enum stat : std::uint32_t {
        mpc = 0x4010, prc64 = 0x405c, gprc = 0x4074, bprc = 0x4078, mprc = 0x407c, gptc = 0x4080, gorcl = 0x4088,
        gotcl = 0x4090, rnbc = 0x40a0, ruc = 0x40a4, roc = 0x40ac, torl = 0x40c0, totl = 0x40c8, tpr = 0x40d0, tpt = 0x40d4,
        ptc64 = 0x40d8, mptc = 0x40f0, bptc = 0x40f4,
    };
    static constexpr std::uint32_t descriptor = 16;
    static constexpr std::uint32_t fcs = 4;

    sim_intel(std::string device_name, std::size_t bytes, const std::array<std::uint8_t, 6>& mac) : mac_(mac), regs_(bytes / 4) {
        name = std::move(device_name);
        bar_size = bytes;
    }

    [[nodiscard]] std::uint32_t& reg(std::size_t offset) noexcept { return regs_[offset / 4]; }
    [[nodiscard]] std::uint64_t base(const ring& r) noexcept { return std::uint64_t{reg(r.bah)} << 32 | reg(r.bal); }
    [[nodiscard]] std::uint32_t count(const ring& r) noexcept { return reg(r.len) / descriptor; }
    [[nodiscard]] bool empty(const ring& r) noexcept { return reg(r.head) == reg(r.tail) || reg(r.tail) >= count(r); }
    [[nodiscard]] std::uint32_t given(const ring& r) noexcept {
        const std::uint32_t n = count(r), head = reg(r.head), tail = reg(r.tail);
        return tail >= n ? 0 : tail >= head ? tail - head : tail + n - head;
    }
    void advance(const ring& r) noexcept {
        if (++reg(r.head) >= count(r)) reg(r.head) = 0;
    }

    void add(std::uint32_t stat_offset, std::uint64_t n = 1) noexcept {
        std::uint32_t& v = reg(stat_offset);
        v = n > ~0U - v ? ~0U : v + static_cast<std::uint32_t>(n);
    }
    void add64(std::uint32_t low, std::uint64_t n) noexcept {
        const std::uint64_t sum = (reg(low) | std::uint64_t{reg(low + 4)} << 32) + n;
        reg(low) = static_cast<std::uint32_t>(sum);
        reg(low + 4) = static_cast<std::uint32_t>(sum >> 32);
    }
    [[nodiscard]] std::uint32_t take(std::size_t offset) noexcept { return std::exchange(reg(offset), 0); }

    /// Legacy transmit descriptors from the head to the tail (82574 7.2.10, 82599 7.2.3.2.2). Says whether the device reported a
    /// status of any; `all`: of those too that did not ask for it.
    [[nodiscard]] bool transmit(const ring& r, partial& open, bool all = false) {
        bool reported = false;
        for (std::uint32_t budget = count(r); budget != 0 && !empty(r); --budget) {
            const std::uint64_t at = base(r) + std::uint64_t{reg(r.head)} * descriptor;
            std::array<std::uint64_t, 2> d;
            if (!dma.read(at, d.data(), sizeof d)) break;  // a real one would hang here too
            const auto length = static_cast<std::uint32_t>(d[1] & 0xffff);
            const auto command = static_cast<std::uint32_t>(d[1] >> 24 & 0xff);
            constexpr std::uint32_t eop = 1, rs = 8, dext = 0x20;
            if ((command & dext) != 0) {
                ++unsupported;
                open.bad = true;
            } else if (const std::byte* from = dma.reach(d[0], length); from != nullptr) {
                open.bytes.insert(open.bytes.end(), from, from + length);
            } else {
                open.bad = true;
            }
            if ((command & eop) != 0) {
                if (open.bytes.size() < hangs_below_) hung = true;
                if (hung) break;
                if (!open.bad && open.bytes.size() >= 14) send(open.bytes);
                open.bytes.clear();
                open.bad = false;
            }
            if ((command & rs) != 0 || all) {
                const auto upper = static_cast<std::uint32_t>(d[1] >> 32) | 1U;
                dma.write(at + 12, &upper, sizeof upper);
                reported = true;
            }
            advance(r);
        }
        return reported;
    }

    /// Legacy receive descriptors (82574 7.1.4, 82599 7.1.5). `tail_bytes` of FCS go with the frame when the device does not
    /// strip it. False, and nothing is done, unless there are buffers for all of it.
    [[nodiscard]] bool deliver(const ring& r, std::span<const std::byte> frame, std::uint32_t buffer, std::uint32_t tail_bytes) {
        const std::size_t total = frame.size() + tail_bytes;
        if (total > std::size_t{given(r)} * buffer || buffer == 0) return false;
        for (std::size_t done = 0; done < total;) {
            const std::uint64_t at = base(r) + std::uint64_t{reg(r.head)} * descriptor;
            std::array<std::uint64_t, 2> d;
            if (empty(r) || !dma.read(at, d.data(), sizeof d)) return true;
            const std::size_t n = std::min<std::size_t>(total - done, buffer);
            if (std::byte* to = dma.reach(d[0], n); to != nullptr) {
                const std::size_t data = done < frame.size() ? std::min(n, frame.size() - done) : 0;
                std::memcpy(to, frame.data() + done, data);
                std::memset(to + data, 0, n - data);
            }
            done += n;
            d[1] = written_back(static_cast<std::uint16_t>(n), done >= total);
            dma.write(at, d.data(), sizeof d);
            advance(r);
        }
        add(tpr), add(gprc);
        add64(torl, frame.size() + fcs), add64(gorcl, frame.size() + fcs);
        sizes(prc64, frame.size() + tail_bytes);
        if (broadcast(frame)) add(bprc);
        else if (group(frame)) add(mprc);
        return true;
    }

    [[nodiscard]] bool waiting() const noexcept { return !fifo_.empty(); }
    /// Frames that found no buffer wait as long as there is room; others get in line behind them.
    [[nodiscard]] bool hold(std::span<const std::byte> frame) {
        if (held_ + frame.size() > fifo_bytes) return false;
        fifo_.emplace_back(frame.begin(), frame.end());
        held_ += frame.size();
        return true;
    }
    template <class TryAgain>
    void release(TryAgain again) {
        while (!fifo_.empty() && again(std::span<const std::byte>(fifo_.front()))) {
            held_ -= fifo_.front().size();
            fifo_.pop_front();
        }
    }
    void clear_fifo() noexcept {
        fifo_.clear();
        held_ = 0;
    }

    void scribble(const ring& r) {
        if (lie != sim_lie::scribble) return;
        for (std::uint32_t i = 0; i < count(r); ++i) {
            const std::uint64_t noise = noise_() | std::uint64_t{1} << 32;
            dma.write(base(r) + std::uint64_t{i} * descriptor + 8, &noise, sizeof noise);
        }
    }

    [[nodiscard]] static bool group(std::span<const std::byte> f) noexcept { return (f[0] & std::byte{1}) != std::byte{0}; }
    [[nodiscard]] static bool broadcast(std::span<const std::byte> f) noexcept {
        return std::all_of(f.begin(), f.begin() + 6, [](std::byte b) { return b == std::byte{0xff}; });
    }
    /// The exact and the hashed filter: pairs of registers with an address each, and a table of 4096 bits.
    [[nodiscard]] bool matches(std::span<const std::byte> f, std::uint32_t ral, unsigned pairs, std::uint32_t mta, unsigned offset) noexcept {
        std::uint64_t to = 0;
        for (unsigned i = 0; i < 6; ++i) to |= std::uint64_t{std::to_integer<std::uint8_t>(f[i])} << 8 * i;
        for (unsigned i = 0; i < pairs; ++i) {
            const std::uint32_t high = reg(ral + 8 * i + 4);
            if ((high >> 31) != 0 && (reg(ral + 8 * i) | std::uint64_t{high & 0xffff} << 32) == to) return true;
        }
        constexpr std::array<unsigned, 4> shifts{4, 3, 2, 0};
        const auto hash = static_cast<std::uint32_t>(to >> 32 >> shifts[offset & 3] & 0xfff);
        return group(f) && (reg(mta + 4 * (hash >> 5)) >> (hash & 31) & 1) != 0;
    }
    [[nodiscard]] std::uint32_t mac_word(unsigned i) const noexcept { return mac_[2 * i] | std::uint32_t{mac_[2 * i + 1]} << 8; }
    void load_mac(std::uint32_t ral) noexcept {
        reg(ral) = mac_word(0) | mac_word(1) << 16;
        reg(ral + 4) = mac_word(2) | 1U << 31;
    }
    void clear_registers() noexcept { std::fill(regs_.begin(), regs_.end(), 0U); }

    std::array<std::uint8_t, 6> mac_;
    bool link_ = true;
    std::size_t hangs_below_ = 0;   ///< bytes of a frame that the transmitter does not survive
    bool pads_ = true;              ///< short frames are filled up to 60 bytes on the way out
    std::uint32_t tx_counts_ = fcs;  ///< bytes of FCS that the statistics of sent frames include

private:
    void send(std::vector<std::byte>& frame) {
        if (pads_ && frame.size() < 60) frame.resize(60);
        const std::size_t size = frame.size() + tx_counts_;
        add(tpt), add(gptc);
        add64(totl, size), add64(gotcl, size);
        sizes(ptc64, size);
        if (broadcast(frame)) add(bptc);
        else if (group(frame)) add(mptc);
        sent();
        if (link_ && out) out(frame);
    }
    virtual void sent() noexcept {}

    void sizes(std::uint32_t first, std::size_t size) noexcept {
        if (size < 64) return;
        constexpr std::array<std::size_t, 5> upto{64, 127, 255, 511, 1023};
        const auto* bin = std::find_if(upto.begin(), upto.end(), [size](std::size_t most) { return size <= most; });
        add(first + 4 * static_cast<std::uint32_t>(bin - upto.begin()));
    }
    [[nodiscard]] std::uint64_t written_back(std::uint16_t length, bool last) noexcept {
        constexpr std::uint64_t dd = std::uint64_t{1} << 32, eop = std::uint64_t{2} << 32;
        if (lie == sim_lie::long_lengths) length = static_cast<std::uint16_t>(0xf000 | noise_());
        if (lie == sim_lie::no_lengths) length = 0;
        if (lie == sim_lie::no_end) last = false;
        return length | dd | (last ? eop : 0);
    }

    std::vector<std::uint32_t> regs_;
    std::deque<std::vector<std::byte>> fifo_;
    std::size_t held_ = 0;
    std::mt19937_64 noise_{4};
};

}  // namespace nm
