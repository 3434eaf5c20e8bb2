// SPDX-License-Identifier: BSD-2-Clause
#include "nm/nm.hpp"

#include <gtest/gtest.h>

// The least that a NIC of one's own is made of: copy it, and fill it in (docs/nics.md). This one sends into nothing.
namespace skeleton {

/// How registers are reached. A real device takes nm::mmio_bar, and needs neither this nor the bus.
struct no_bar {
    using bus = class no_bus;
    template <class Word>
    [[nodiscard]] Word read(std::size_t) const noexcept { return {}; }
    template <class Word>
    void write(std::size_t, Word) const noexcept {}
    [[nodiscard]] std::size_t size() const noexcept { return 4096; }
};
static_assert(nm::bar_access<no_bar>);

class no_bus {
public:
    using bar_type = no_bar;
    [[nodiscard]] std::string name() const { return "0000:77:00.0"; }
    [[nodiscard]] const char* mode() const { return "none"; }
    [[nodiscard]] nm::sys::pci_ids ids() const { return {}; }
    nm::result<no_bar> bar(unsigned) { return no_bar{}; }
    std::uint32_t config_read(unsigned, unsigned) { return 0; }
    nm::result<void> bus_master(bool) { return {}; }
    nm::result<void> reset() { return {}; }
    unsigned irq_count(nm::sys::irq_kind k) { return k == nm::sys::irq_kind::msix ? 3 : 0; }
    nm::result<void> set_irqs(nm::sys::irq_kind, std::span<const int>) { return {}; }
    void unmask_intx() noexcept {}
    nm::result<std::uint64_t> dma_map(void* p, std::size_t) { return reinterpret_cast<std::uintptr_t>(p); }
    nm::result<void> dma_unmap(std::uint64_t) { return {}; }
};
static_assert(nm::nic_bus<no_bus>);

struct tx_queue {
    nm::live_counters* stats = nullptr;
    nm::index_t sent = 0;
    void put(nm::index_t, std::uint32_t, std::uint32_t, bool) noexcept {}
    void report(nm::index_t) noexcept {}
    void rewind(nm::index_t) noexcept {}
    void publish(nm::index_t i) noexcept { sent = i; }
    nm::index_t reclaim() noexcept { return sent; }
};
static_assert(nm::nic_tx_queue<tx_queue>);

struct rx_queue {
    nm::live_counters* stats = nullptr;
    bool ready(nm::index_t) noexcept { return false; }
    void get(nm::index_t, nm::slot&) noexcept {}
    void give(nm::index_t, std::uint32_t) noexcept {}
    void begin() noexcept {}
    void publish(nm::index_t) noexcept {}
};
static_assert(nm::nic_rx_queue<rx_queue>);

struct device {
    static constexpr const char* name = "skeleton";
    static constexpr const char* kind_name = "skeleton";
    static constexpr bool drives(const nm::sys::pci_ids&) noexcept { return false; }

    template <nm::nic_bus Bus>
    class control {
    public:
        static nm::result<control> open(Bus&) { return control{}; }
        [[nodiscard]] nm::nic_limits limits() const { return {}; }
        [[nodiscard]] nm::mac_address mac() const { return {2}; }
        [[nodiscard]] std::size_t ring_memory(const nm::nic_setup&) const { return 4096; }
        nm::result<void> start(const nm::nic_setup&) { return {}; }
        tx_queue tx(unsigned) { return {}; }
        rx_queue rx(unsigned) { return {}; }
        nm::result<void> run() { return {}; }
        void stop() noexcept {}
        void interrupt_rx(unsigned, bool) noexcept {}
        void interrupt_tx(unsigned, bool) noexcept {}
        bool ack() noexcept { return false; }
        nm::nic_link link() noexcept { return {true, 1000}; }
        void set_promiscuous(bool) noexcept {}
        nm::result<void> set_mac(const nm::mac_address&) { return {}; }
        void add_counters(nm::nic_counters&) noexcept {}
    };
};
static_assert(nm::nic_control<device::control<no_bus>, no_bus>);
static_assert(nm::nic_device<device, no_bus> && nm::nic_device<device, nm::vfio_bus>);

TEST(nic_skeleton, is_a_port) {
    nm::context ctx;
    auto port = nm::nic<device, no_bar>::open_on(ctx, no_bus{});
    ASSERT_TRUE(port) << port.error().text;
    EXPECT_EQ(port->name(), "0000:77:00.0");
    EXPECT_EQ(port->mode(), "none");
    EXPECT_EQ(nm::generate(*port, 64, [](nm::frame& f) noexcept { f.resize(60); }), 64U);
    EXPECT_EQ(nm::drain(*port, 64), 0U);
    EXPECT_EQ(port->tx_stats().frames, 64U);
    EXPECT_TRUE(port->status());
}

}  // namespace skeleton
