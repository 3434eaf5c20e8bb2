// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What a NIC's driver is made of. nic.hpp is the port; a device is a struct with a table of ids, a control half (cold:
// registers, init steps, link, counters) and two queues (hot: a descriptor codec each). docs/nics.md has the checklist.

#include <array>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <time.h>
#include <type_traits>

#include "nm/counters.hpp"
#include "nm/ports/bar.hpp"
#include "nm/region.hpp"
#include "nm/result.hpp"
#include "nm/slot.hpp"
#include "nm/sys/vfio.hpp"

namespace nm {

using mac_address = std::array<std::uint8_t, 6>;

/// The way to a device: its BARs, its configuration space, its interrupts, the memory it may reach. vfio_bus is the real one;
/// a model of a device brings its own. It outlives everything that was got from it.
template <class B>
concept nic_bus = requires(B& b, const B& c, unsigned n, void* memory, std::size_t size, std::uint64_t iova,
                           std::span<const int> fds, sys::irq_kind kind, bool on) {
    requires bar_access<typename B::bar_type>;
    { c.name() } -> std::convertible_to<std::string>;
    { c.mode() } -> std::convertible_to<const char*>;
    { c.ids() } -> std::convertible_to<sys::pci_ids>;
    { b.bar(n) } -> std::same_as<result<typename B::bar_type>>;
    { b.config_read(n, n) } -> std::same_as<std::uint32_t>;  // offset; 1, 2 or 4 bytes
    { b.bus_master(on) } -> std::same_as<result<void>>;
    { b.reset() } -> std::same_as<result<void>>;
    { b.irq_count(kind) } -> std::same_as<unsigned>;
    { b.set_irqs(kind, fds) } -> std::same_as<result<void>>;
    { b.unmask_intx() } noexcept;
    { b.dma_map(memory, size) } -> std::same_as<result<std::uint64_t>>;
    { b.dma_unmap(iova) } -> std::same_as<result<void>>;
};

/// Registers that a port can come by: the BAR says on which bus.
template <class Bar>
concept reachable_bar = bar_access<Bar> && requires { typename Bar::bus; };

/// What a device can do, known once it is open.
struct nic_limits {
    memory_constraints memory{};
    unsigned max_rings = 1;  ///< pairs
    index_t min_slots = 8, max_slots = 4096;
    index_t slots_multiple = 8;  ///< a ring's size is a multiple of this ...
    bool power_of_two = false;   ///< ... or a power of two
    index_t default_slots = 1024;
    std::uint32_t min_frame = 14;    ///< bytes without FCS; a device that hangs on shorter ones is never given them
    std::uint32_t max_frame = 9018;  ///< bytes without FCS that it sends and receives at most
    unsigned max_mtu = 9000;
};

/// Which vector signals what. All 0 when there is only one, which is then to be acknowledged.
struct nic_vectors {
    sys::irq_kind kind = sys::irq_kind::intx;
    unsigned rx_first = 0, tx_first = 0, each = 0;  ///< of ring i: rx_first + i * each
    unsigned link = 0;
    [[nodiscard]] unsigned rx(unsigned ring) const noexcept { return rx_first + ring * each; }
    [[nodiscard]] unsigned tx(unsigned ring) const noexcept { return tx_first + ring * each; }
    [[nodiscard]] bool shared() const noexcept { return each == 0; }
};

/// The region's buffers as the device sees them, and as we do.
struct nic_buffers {
    std::uint64_t iova = 0;  ///< of buffer 0
    std::byte* base = nullptr;
    std::uint32_t stride = 0;
    [[nodiscard]] [[gnu::always_inline]] std::uint64_t at(std::uint32_t buf_idx) const noexcept {
        return iova + static_cast<std::uint64_t>(buf_idx) * stride;
    }
};

/// Memory of the driver's own that the device reaches: descriptor rings and the like. Taken piece by piece, never given back.
class dma_memory {
public:
    dma_memory() = default;
    dma_memory(std::byte* at, std::uint64_t iova, std::size_t size) noexcept : at_(at), iova_(iova), left_(size) {}
    struct piece {
        std::byte* at = nullptr;
        std::uint64_t iova = 0;
        template <class T>
        [[nodiscard]] T* as() const noexcept { return reinterpret_cast<T*>(at); }
    };
    [[nodiscard]] static constexpr std::size_t rounded(std::size_t bytes) noexcept { return (bytes + 4095) / 4096 * 4096; }
    /// Whole pages, zeroed. ring_memory() said that there is enough.
    [[nodiscard]] piece take(std::size_t bytes) noexcept {
        const std::size_t n = rounded(bytes);
        if (n > left_) return {};
        const piece p{at_, iova_};
        at_ += n, iova_ += n, left_ -= n;
        return p;
    }

private:
    std::byte* at_ = nullptr;
    std::uint64_t iova_ = 0;
    std::size_t left_ = 0;
};

/// How a port wants its device.
struct nic_setup {
    unsigned rings = 1;
    index_t tx_slots = 1024, rx_slots = 1024;
    nic_buffers buffers{};
    dma_memory memory{};
    nic_vectors vectors{};
    unsigned mtu = 1500;
    std::uint32_t buf_size = 2048;
    bool promiscuous = true;
    std::uint32_t moderation_ns = 0;  ///< at least this long between two interrupts of a vector
};

struct nic_link {
    bool up = false;
    unsigned mbps = 0;  ///< 0: the device does not say
};

/// What a device has counted itself since it was opened.
struct nic_counters {
    std::uint64_t rx_frames = 0, rx_bytes = 0, tx_frames = 0, tx_bytes = 0;
    std::uint64_t rx_missed = 0;  ///< no buffer or no room in its FIFO: lost
    std::uint64_t rx_errors = 0;
};

/// Frames go out of slots in order. Descriptors are the queue's own business: it may need several for a slot, or none.
///  - put(i, buf_idx, len, last): slot i, a fragment of a frame or all of it, goes out.
///  - report(i): ask the device to say when what was put last has been sent (NS_REPORT).
///  - rewind(k): the last k puts did not happen; they are the beginning of a frame that is not published.
///  - publish(i): all slots before i have been put, or left out: one doorbell, if anything is new.
///  - reclaim(): the first slot that has not been sent; all before it have. Never reads a register.
/// `stats` is the ring's, for what a lying device makes necessary.
template <class Q>
concept nic_tx_queue = std::is_trivially_copyable_v<Q> && requires(Q& q, index_t i, std::uint32_t buf, std::uint32_t len, bool last) {
    { q.put(i, buf, len, last) } noexcept;
    { q.report(i) } noexcept;
    { q.rewind(i) } noexcept;
    { q.publish(i) } noexcept;
    { q.reclaim() } noexcept -> std::same_as<index_t>;
    { q.stats } -> std::convertible_to<live_counters*>;
};

/// Frames arrive in slots in order; descriptor i is slot i's, unless the queue says otherwise.
///  - ready(i), then get(i, s): as rx_backend has it. What the device says of a frame is read once, by ready, and believed as
///    far as it can be true: a length is checked by the ring, anything else here, and counted.
///  - give(i, buf_idx): the device may fill that buffer when slot i's turn comes.
///  - begin(): once, when all slots were given: all but the one that stays empty are the device's.
///  - publish(i): all before slot i were given back: one doorbell, if anything is new.
/// Optionally available(i), and restore(slots, hwcur, hwtail): before a port closes, each slot from hwtail to hwcur gets a
/// buffer that is nobody else's.
template <class Q>
concept nic_rx_queue = std::is_trivially_copyable_v<Q> && requires(Q& q, index_t i, slot& s, std::uint32_t buf) {
    { q.ready(i) } noexcept -> std::same_as<bool>;
    { q.get(i, s) } noexcept;
    { q.give(i, buf) } noexcept;
    { q.begin() } noexcept;
    { q.publish(i) } noexcept;
    { q.stats } -> std::convertible_to<live_counters*>;
};

/// The cold half. open() maps, resets and asks; start() sets the device up, with receiving still off; then the queues are
/// made, rx buffers given, and run() lets frames through. stop() makes the device quiet (interrupts off, then queues, then
/// reset: it must not be written by DMA afterwards), and may come at any time after open().
template <class C, class Bus>
concept nic_control = requires(C& c, const C& k, Bus& bus, const nic_setup& setup, unsigned ring, bool on, nic_counters& sum) {
    { C::open(bus) } -> std::same_as<result<C>>;
    { k.limits() } -> std::same_as<nic_limits>;
    { k.mac() } -> std::same_as<mac_address>;
    { k.ring_memory(setup) } -> std::same_as<std::size_t>;  // bytes of setup.memory
    { c.start(setup) } -> std::same_as<result<void>>;
    requires nic_tx_queue<decltype(c.tx(ring))>;
    requires nic_rx_queue<decltype(c.rx(ring))>;
    { c.run() } -> std::same_as<result<void>>;
    { c.stop() } noexcept;
    // Interrupts of ring i and direction: on until the next one, or until off. A device whose vector is shared is told by ack()
    // that it was seen; true: it had something to say. These three, and link(), are called by any ring's thread.
    { c.interrupt_rx(ring, on) } noexcept;
    { c.interrupt_tx(ring, on) } noexcept;
    { c.ack() } noexcept -> std::same_as<bool>;
    { c.link() } noexcept -> std::same_as<nic_link>;
    { c.set_promiscuous(on) } noexcept;
    { c.set_mac(mac_address{}) } -> std::same_as<result<void>>;
    { c.add_counters(sum) } noexcept;  // adds what the device counted since the last call
};

/// A kind of NIC: its ids, and its control half over any bus.
template <class D, class Bus>
concept nic_device = nic_bus<Bus> && requires(const sys::pci_ids& ids) {
    { D::name } -> std::convertible_to<const char*>;
    { D::kind_name } -> std::convertible_to<const char*>;  // for who lists what a program can open
    { D::drives(ids) } -> std::same_as<bool>;
    requires nic_control<typename D::template control<Bus>, Bus>;
};

/// For init steps that must wait; never on a packet's road.
inline void nic_sleep(std::chrono::microseconds us) noexcept {
    const timespec t{static_cast<time_t>(us.count() / 1'000'000), static_cast<long>(us.count() % 1'000'000 * 1000)};
    (void)::nanosleep(&t, nullptr);
}
/// Whether `done` came true within `limit`, looking every so often.
template <class Done>
[[nodiscard]] bool nic_wait(std::chrono::microseconds limit, Done done) noexcept {
    constexpr std::chrono::microseconds step{100};
    for (auto waited = std::chrono::microseconds{0};; waited += step) {
        if (done()) return true;
        if (waited >= limit) return false;
        nic_sleep(step);
    }
}

}  // namespace nm
