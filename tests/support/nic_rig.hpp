// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A device's control and queues, driven by hand: for tests of drivers and models without a port.

#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

#include "nm/base/os.hpp"
#include "nm/ports/nic_device.hpp"

namespace nm::test {

struct nic_rig_options {
    unsigned rings = 1;
    nm::index_t tx_slots = 32, rx_slots = 32;
    std::uint32_t buf_size = 2048;
    unsigned mtu = 1500;
    bool promiscuous = true;
    std::uint32_t moderation_ns = 0;
    nm::sys::irq_kind kind = nm::sys::irq_kind::msix;
};

template <class T>
T must(nm::result<T> r) {
    if (!r) throw std::runtime_error(r.error().text);
    if constexpr (!std::is_void_v<T>) return std::move(*r);
}

/// Buffers of ring r, tx: tx_buf(r, i), rx: rx_buf(r, i); what arrives is looked at where it lies.
template <class Device, nm::nic_bus Bus>
class nic_rig {
public:
    using control = typename Device::template control<Bus>;
    using tx_queue = decltype(std::declval<control&>().tx(0U));
    using rx_queue = decltype(std::declval<control&>().rx(0U));

    explicit nic_rig(Bus b, const nic_rig_options& o = {}) : bus(std::move(b)), options(o) {
        must(bus.bus_master(true));
        device = std::make_unique<control>(must(control::open(bus)));
        const std::size_t bufs = std::size_t{o.rings} * (o.tx_slots + o.rx_slots);
        memory = must(nm::base::map((bufs * o.buf_size + 4095) / 4096 * 4096, MAP_PRIVATE | MAP_ANONYMOUS));
        setup.rings = o.rings;
        setup.tx_slots = o.tx_slots, setup.rx_slots = o.rx_slots;
        setup.buf_size = o.buf_size;
        setup.mtu = o.mtu;
        setup.promiscuous = o.promiscuous;
        setup.moderation_ns = o.moderation_ns;
        setup.buffers = {must(bus.dma_map(memory.data(), memory.size())), memory.data(), o.buf_size};
        setup.vectors.kind = o.kind;
        if (o.kind == nm::sys::irq_kind::msix) {
            setup.vectors.rx_first = 0, setup.vectors.tx_first = 1, setup.vectors.each = 2;
            setup.vectors.link = 2 * o.rings;
        }
        const unsigned vectors = o.kind == nm::sys::irq_kind::msix ? 2 * o.rings + 1 : 1;
        for (unsigned i = 0; i < vectors; ++i) {
            events.push_back(must(nm::base::make_eventfd()));
            fds.push_back(events.back().get());
        }
        must(bus.set_irqs(o.kind, fds));
        const std::size_t size = device->ring_memory(setup);
        rings = must(nm::base::map(size, MAP_PRIVATE | MAP_ANONYMOUS));
        setup.memory = nm::dma_memory(rings.data(), must(bus.dma_map(rings.data(), size)), size);
        must(device->start(setup));
        stats = std::make_unique<nm::live_counters[]>(2 * o.rings);
        for (unsigned r = 0; r < o.rings; ++r) {
            tx.push_back(device->tx(r));
            rx.push_back(device->rx(r));
            tx[r].stats = &stats[2 * r];
            rx[r].stats = &stats[2 * r + 1];
            for (nm::index_t i = 0; i < o.rx_slots; ++i) rx[r].give(i, rx_buf(r, i));
            rx[r].begin();
        }
        tx_at.resize(o.rings), rx_at.resize(o.rings), rx_back.resize(o.rings);
        must(device->run());
    }
    nic_rig(const nic_rig&) = delete;
    nic_rig& operator=(const nic_rig&) = delete;
    ~nic_rig() { close(); }
    void close() {
        if (!device) return;
        device->stop();
        device.reset();
        (void)bus.set_irqs(options.kind, {});
        (void)bus.bus_master(false);
    }

    [[nodiscard]] std::uint32_t tx_buf(unsigned r, nm::index_t i) const { return r * (options.tx_slots + options.rx_slots) + i; }
    [[nodiscard]] std::uint32_t rx_buf(unsigned r, nm::index_t i) const { return tx_buf(r, options.tx_slots + i); }
    [[nodiscard]] std::byte* data(std::uint32_t buf) const { return memory.data() + std::size_t{buf} * options.buf_size; }

    /// Room for one slot more; one stays empty.
    [[nodiscard]] nm::index_t tx_room(unsigned r = 0) {
        const nm::index_t sent = tx[r].reclaim();
        return options.tx_slots - 1 - (tx_at[r] + options.tx_slots - sent) % options.tx_slots;
    }
    void put(std::span<const std::byte> part, bool last = true, unsigned r = 0) {
        const nm::index_t i = tx_at[r];
        std::memcpy(data(tx_buf(r, i)), part.data(), part.size());
        tx[r].put(i, tx_buf(r, i), static_cast<std::uint32_t>(part.size()), last);
        tx_at[r] = (i + 1) % options.tx_slots;
    }
    void publish(unsigned r = 0) { tx[r].publish(tx_at[r]); }

    /// The next slot that has arrived, or false. It goes back at the next release().
    [[nodiscard]] bool take(nm::slot& s, unsigned r = 0) {
        const nm::index_t i = rx_at[r];
        if ((i + 1) % options.rx_slots == rx_back[r] || !rx[r].ready(i)) return false;
        s = {rx_buf(r, i), 0, 0, 0};
        rx[r].get(i, s);
        rx_at[r] = (i + 1) % options.rx_slots;
        return true;
    }
    void release(unsigned r = 0) {
        for (; rx_back[r] != rx_at[r]; rx_back[r] = (rx_back[r] + 1) % options.rx_slots) rx[r].give(rx_back[r], rx_buf(r, rx_back[r]));
        rx[r].publish(rx_back[r]);
    }
    /// Whole frames that have arrived.
    [[nodiscard]] std::vector<std::vector<std::byte>> frames(unsigned r = 0) {
        std::vector<std::vector<std::byte>> all;
        nm::slot s{};
        for (;;) {
            bool any = false;
            while (take(s, r)) {
                any = true;
                open_.insert(open_.end(), data(s.buf_idx), data(s.buf_idx) + s.len);
                if ((s.flags & nm::ns_morefrag) == 0) all.push_back(std::exchange(open_, {}));
            }
            release(r);
            if (!any) return all;
        }
    }
    /// How often vector v was signalled since the last look.
    [[nodiscard]] std::uint64_t interrupts(unsigned v) const {
        std::uint64_t n = 0;
        return ::read(fds[v], &n, sizeof n) == sizeof n ? n : 0;
    }

    Bus bus;
    nic_rig_options options;
    nm::base::mapping memory, rings;
    nm::nic_setup setup;
    std::vector<nm::base::unique_fd> events;
    std::vector<int> fds;
    std::unique_ptr<control> device;
    std::unique_ptr<nm::live_counters[]> stats;
    std::vector<tx_queue> tx;
    std::vector<rx_queue> rx;
    std::vector<nm::index_t> tx_at, rx_at, rx_back;

private:
    std::vector<std::byte> open_;
};

/// A frame with a number in it, of an EtherType that no device looks into.
inline std::vector<std::byte> numbered(std::uint32_t number, std::size_t size = 60) {
    std::vector<std::byte> f(std::max<std::size_t>(size, 20));
    for (std::size_t i = 0; i < f.size(); ++i) f[i] = static_cast<std::byte>(number * 7 + i);
    const std::array<std::uint8_t, 14> header{0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5};
    std::memcpy(f.data(), header.data(), header.size());
    std::memcpy(f.data() + 14, &number, sizeof number);
    return f;
}
inline std::uint32_t number_of(std::span<const std::byte> f) {
    std::uint32_t n = ~0U;
    if (f.size() >= 18) std::memcpy(&n, f.data() + 14, sizeof n);
    return n;
}

}  // namespace nm::test
