// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What every model of a device has: the memory that it may reach, its interrupts, a wire, a clock. A model is for tests, and
// for counting what a driver costs. It has no thread: it works inside register writes, in receive() and in step(), and
// belongs to one thread together with whatever it is wired to.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "nm/base/os.hpp"
#include "nm/sys/vfio.hpp"

namespace nm {

/// The addresses that a device may use. What is not mapped is not reached: the attempt is counted.
class sim_dma {
public:
    /// Above 4 GiB, so that a driver which forgets the high half of an address is found out; in steps of 2 MiB, with a
    /// hole between any two, so that one which runs over the end is too.
    [[nodiscard]] std::uint64_t map(void* memory, std::size_t size) {
        constexpr std::uint64_t step = 0x20'0000;
        const std::uint64_t at = next_;
        next_ += (size + step - 1) / step * step + step;
        maps_.push_back({at, static_cast<std::byte*>(memory), size});
        return at;
    }
    void map_at(std::uint64_t at, void* memory, std::size_t size) { maps_.push_back({at, static_cast<std::byte*>(memory), size}); }
    [[nodiscard]] bool unmap(std::uint64_t at) noexcept {
        return std::erase_if(maps_, [at](const window& w) { return w.at == at; }) != 0;
    }
    /// Null, and counted, unless all of it is mapped in one piece and the bus lets the device through.
    [[nodiscard]] std::byte* reach(std::uint64_t at, std::size_t size) noexcept {
        for (const window& w : maps_)
            if (enabled && at >= w.at && at - w.at < w.size && size <= w.size - (at - w.at)) return w.memory + (at - w.at);
        ++faults;
        return nullptr;
    }
    bool read(std::uint64_t at, void* to, std::size_t size) noexcept {
        const std::byte* from = reach(at, size);
        if (from == nullptr) return false;
        std::memcpy(to, from, size);
        return true;
    }
    bool write(std::uint64_t at, const void* from, std::size_t size) noexcept {
        std::byte* to = reach(at, size);
        if (to == nullptr) return false;
        std::memcpy(to, from, size);
        return true;
    }
    [[nodiscard]] std::size_t mappings() const noexcept { return maps_.size(); }

    bool enabled = false;      ///< bus master
    std::uint64_t faults = 0;  ///< accesses refused

private:
    struct window {
        std::uint64_t at;
        std::byte* memory;
        std::size_t size;
    };
    std::vector<window> maps_;
    std::uint64_t next_ = 0x1'4000'0000;
};

/// Interrupts, as VFIO gives them: an eventfd for each vector; INTx is a level, and masks itself when it is told.
class sim_irqs {
public:
    void set(sys::irq_kind kind, std::span<const int> fds) {
        kind_ = kind;
        fds_.assign(fds.begin(), fds.end());
        masked_ = false;
        tell_level();
    }
    [[nodiscard]] bool on(sys::irq_kind kind) const noexcept { return !fds_.empty() && kind_ == kind; }
    /// A message: vector v.
    void raise(unsigned v) noexcept {
        ++raised;
        if (kind_ != sys::irq_kind::intx && v < fds_.size() && fds_[v] >= 0) base::eventfd_signal(fds_[v]);
    }
    void level(bool asserted) noexcept {
        asserted_ = asserted;
        tell_level();
    }
    void unmask() noexcept {
        masked_ = false;
        tell_level();
    }
    std::uint64_t raised = 0;

private:
    void tell_level() noexcept {
        if (!on(sys::irq_kind::intx) || !asserted_ || masked_) return;
        masked_ = true;
        ++raised;
        if (fds_[0] >= 0) base::eventfd_signal(fds_[0]);
    }
    sys::irq_kind kind_ = sys::irq_kind::intx;
    std::vector<int> fds_;
    bool asserted_ = false, masked_ = false;
};

/// How a device lies in what it writes back.
enum class sim_lie {
    none,
    long_lengths,  ///< of received fragments: more than any buffer has
    no_lengths,    ///< 0
    no_end,        ///< no fragment is the last of its frame
    scribble,      ///< step() fills the descriptor rings with noise that says "done"
};

class sim_device {
public:
    sim_device() = default;
    sim_device(const sim_device&) = delete;
    sim_device& operator=(const sim_device&) = delete;
    virtual ~sim_device() = default;

    [[nodiscard]] virtual std::uint32_t read(std::size_t at) noexcept = 0;
    virtual void write(std::size_t at, std::uint32_t value) noexcept = 0;
    /// A frame, without FCS, comes in from the wire.
    virtual void receive(std::span<const std::byte> frame) noexcept = 0;
    /// So much time has gone by.
    virtual void step(std::chrono::nanoseconds elapsed = {}) noexcept = 0;
    /// As after power-on, but for what is on the other side of the bus.
    virtual void reset() noexcept = 0;
    virtual void set_link(bool up) noexcept = 0;

    /// Back to back: what one sends the other receives.
    void connect(sim_device& peer) {
        out = [&peer](std::span<const std::byte> frame) { peer.receive(frame); };
        peer.out = [this](std::span<const std::byte> frame) { receive(frame); };
    }

    std::string name = "sim";
    sys::pci_ids ids{};
    std::size_t bar_size = 0;
    unsigned msi_vectors = 1, msix_vectors = 0;
    bool resets = true;   ///< by the bus (PCI function level reset)
    sim_dma dma;
    sim_irqs irqs;
    std::function<void(std::span<const std::byte>)> out;  ///< the wire: gets what is sent, without FCS
    sim_lie lie = sim_lie::none;
    bool stuck = false;  ///< a reset by register never ends
};

}  // namespace nm
