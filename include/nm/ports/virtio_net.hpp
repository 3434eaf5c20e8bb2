// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// virtio-net over PCI, modern: what virtual machines are given, and some cards are. Source of every step: "Virtual I/O Device
// (VIRTIO) Version 1.2" (section numbers are its).

#include <bit>
#include <memory>
#include <vector>

#include "nm/ports/virtio_net_ctrl.hpp"
#include "nm/ports/virtio_net_pci.hpp"
#include "nm/ports/virtio_net_queue.hpp"

namespace nm {

struct virtio_net {
    static constexpr const char* name = "virtio-net";
    static constexpr const char* kind_name = "virtio-net";

    /// 4.1.2: 0x1041; 0x1000 is a transitional device, which has the modern structures too unless they were switched off.
    [[nodiscard]] static constexpr bool drives(const sys::pci_ids& ids) noexcept {
        return ids.vendor == 0x1af4 && (ids.device == 0x1041 || ids.device == 0x1000);
    }

    template <nic_bus Bus>
    class control;
};

template <nic_bus Bus>
class virtio_net::control {
public:
    using bar_type = typename Bus::bar_type;

    [[nodiscard]] static result<control> open(Bus& bus) {
        auto layout = virtio::pci_layout<Bus>::read(bus);
        if (!layout) return forward_error(layout);
        control c(bus, *layout);
        if (auto ok = c.reset(); !ok) return forward_error(ok);
        if (auto ok = c.ask(); !ok) return forward_error(ok);
        return c;
    }

    [[nodiscard]] nic_limits limits() const {
        nic_limits l;
        l.memory.min_buf_size = 128;
        l.max_rings = max_pairs_;
        l.min_slots = 8;
        l.max_slots = max_slots_;
        l.power_of_two = true;
        l.default_slots = std::min(max_slots_, 1024U);
        l.max_mtu = max_mtu_;
        l.max_frame = max_mtu_ + frame_overhead;
        return l;
    }
    [[nodiscard]] mac_address mac() const noexcept { return mac_; }

    [[nodiscard]] std::size_t ring_memory(const nic_setup& s) const noexcept {
        using virtio::split_rings;
        const auto areas = [](std::uint32_t size) {
            return dma_memory::rounded(16 * std::size_t{size}) + dma_memory::rounded(split_rings::driver_bytes(size)) +
                   dma_memory::rounded(split_rings::device_bytes(size));
        };
        const std::size_t each = areas(2 * s.tx_slots) + areas(2 * s.rx_slots) + dma_memory::rounded(s.rx_slots * virtio::header_stride);
        return s.rings * each + areas(control_size) + 2 * page;
    }

    [[nodiscard]] result<void> start(const nic_setup& setup) {
        setup_ = setup;
        if (setup_.tx_slots > max_slots_ || setup_.rx_slots > max_slots_ || !std::has_single_bit(setup_.tx_slots) ||
            !std::has_single_bit(setup_.rx_slots) || setup_.rings == 0 || setup_.rings > max_pairs_)
            return fail(EINVAL, bus_->name() + ": a virtio queue of this device has a power of two of slots, " +
                                    std::to_string(max_slots_) + " at most, and there are " + std::to_string(max_pairs_) + " pairs");
        if (auto ok = reset(); !ok) return ok;
        if (auto ok = negotiate(); !ok) return ok;
        header_ = setup_.memory.take(page);
        if (header_.at == nullptr) return too_little();
        pairs_.clear();
        pairs_.resize(setup_.rings);
        if (setup_.vectors.kind == sys::irq_kind::msix) {
            common().write(virtio::common::config_msix_vector, static_cast<std::uint16_t>(setup_.vectors.link));
            if (common().read(virtio::common::config_msix_vector) == virtio::common::no_vector) return no_vector();
        }
        for (unsigned i = 0; i < setup_.rings; ++i)
            if (auto ok = make_pair(i); !ok) return ok;
        if (has(virtio::feature::ctrl_vq))
            if (auto ok = make_control(); !ok) return ok;
        for (unsigned i = 0; i < setup_.rings; ++i) interrupt_rx(i, false), interrupt_tx(i, false);
        return {};
    }

    [[nodiscard]] virtio_tx<bar_type> tx(unsigned i) noexcept {
        const pair& p = pairs_[i];
        return {p.tx.memory, p.flights.get(), header_.iova, p.tx.bell, setup_.buffers, packed()};
    }
    [[nodiscard]] virtio_rx<bar_type> rx(unsigned i) noexcept {
        const pair& p = pairs_[i];
        virtio::postings s;
        s.of = p.entries.get();
        s.held = p.held.get();
        s.headers = p.headers.at;
        s.slots = setup_.rx_slots;
        s.merges = has(virtio::feature::mrg_rxbuf);
        s.capacity = capacity();
        return {p.rx.memory, s, p.headers.iova, p.rx.bell, setup_.buffers, packed()};
    }

    /// 3.1.1 step 8; then what is to be said through queues.
    [[nodiscard]] result<void> run() noexcept {
        add_status(virtio::status::driver_ok);
        running_ = true;
        if (has(virtio::feature::mq) && setup_.rings > 1) {
            const auto n = static_cast<std::uint16_t>(setup_.rings);
            const std::uint8_t data[2] = {static_cast<std::uint8_t>(n), static_cast<std::uint8_t>(n >> 8)};
            if (const int e = control_.send(virtio::ctrl::queue_pairs, data); e != 0)
                return fail(e, bus_->name() + " does not use " + std::to_string(n) + " pairs of queues; open it with 1");
        }
        set_promiscuous(setup_.promiscuous);
        for (const pair& p : pairs_) p.rx.bell.ring();
        if ((common().read(virtio::common::device_status) & (virtio::status::needs_reset | virtio::status::failed)) != 0)
            return fail(EIO, bus_->name() + " asks for a reset as soon as it runs; open it again");
        return {};
    }

    /// 2.1.2: a device that was reset uses no queue any more, and reads 0 when that is so.
    void stop() noexcept {
        running_ = false;
        (void)settle();
    }

    void interrupt_rx(unsigned i, bool on) noexcept { interrupt(pairs_[i].rx, on); }
    void interrupt_tx(unsigned i, bool on) noexcept { interrupt(pairs_[i].tx, on); }
    /// 4.1.4.5: reading it clears it. Vectors need none of that.
    bool ack() noexcept { return setup_.vectors.kind == sys::irq_kind::intx && layout_.isr.read(virtio::isr_status) != 0; }

    [[nodiscard]] nic_link link() const noexcept {
        using namespace virtio;
        // 4.1.4.3: a device that is gone, or that asks for a reset, carries nothing.
        const std::uint8_t s = common().read(common::device_status);
        if ((s & (status::needs_reset | status::failed)) != 0) return {};
        nic_link l;
        l.up = !offers(feature::status) || (layout_.device.read(config::status) & config::link_up) != 0;
        // A device that threw away what was queued meanwhile may not have asked for doorbells again (QEMU 7.2, packed queues): it would wait.
        if (__atomic_exchange_n(&lost_link_, !l.up, __ATOMIC_RELAXED) && l.up && running_)
            for (const pair& p : pairs_) p.tx.bell.ring();
        if (offers(feature::speed_duplex) && layout_.device.length >= config::speed.at + 4) {
            const std::uint32_t mbps = layout_.device.read(config::speed);
            l.mbps = mbps > 0x7fffffff ? 0 : mbps;
        }
        return l;
    }
    /// A device without a filter that can be set lets everything through, or decides itself.
    void set_promiscuous(bool on) noexcept {
        setup_.promiscuous = on;
        const std::uint8_t data[1] = {on ? std::uint8_t{1} : std::uint8_t{0}};
        if (running_ && has(virtio::feature::ctrl_rx)) (void)control_.send(virtio::ctrl::promiscuous, data);
    }
    /// EOPNOTSUPP where the device does not let its address be set.
    [[nodiscard]] result<void> set_mac(const mac_address& m) {
        if (!has(virtio::feature::ctrl_mac_addr))
            return fail(EOPNOTSUPP, bus_->name() + ": this virtio device's MAC address is set where the machine is defined (QEMU: mac=)");
        const int e = control_.send(virtio::ctrl::mac_address, m);
        if (e != 0) return fail(e, bus_->name() + " does not take the MAC address");
        mac_ = m;
        return {};
    }
    void add_counters(nic_counters&) const noexcept {}

private:
    static constexpr std::size_t page = 4096;
    static constexpr std::uint32_t frame_overhead = 18;  // Ethernet header and a tag
    static constexpr std::uint32_t control_size = 8;     // descriptors

    struct queue {
        virtio::queue_memory memory;
        virtio::doorbell<bar_type> bell;
    };
    struct pair {
        queue rx, tx;
        dma_memory::piece headers;
        std::unique_ptr<std::uint32_t[]> flights;
        std::unique_ptr<virtio::postings::entry[]> entries;
        std::unique_ptr<std::uint16_t[]> held;
    };

    control(Bus& bus, const virtio::pci_layout<Bus>& l) noexcept : bus_(&bus), layout_(l) {}

    [[nodiscard]] const virtio::structure<bar_type>& common() const noexcept { return layout_.common; }
    [[nodiscard]] bool offers(std::uint64_t f) const noexcept { return (offered_ & f) == f; }
    [[nodiscard]] bool has(std::uint64_t f) const noexcept { return (features_ & f) == f; }
    [[nodiscard]] bool packed() const noexcept { return has(virtio::feature::ring_packed); }
    // A buffer that continues a frame is filled from the header's place on: its bytes must fit behind each other.
    [[nodiscard]] std::uint32_t capacity() const noexcept {
        return std::min(setup_.buf_size, 65535U) - (has(virtio::feature::mrg_rxbuf) ? virtio::header_bytes : 0);
    }
    void add_status(std::uint8_t bits) noexcept {
        status_ |= bits;
        common().write(virtio::common::device_status, status_);
    }

    // 2.4.2 Device reset
    [[nodiscard]] bool settle() noexcept {
        status_ = 0;
        features_ = 0;
        common().write(virtio::common::device_status, std::uint8_t{0});
        return nic_wait(patience, [this] { return common().read(virtio::common::device_status) == 0; });
    }
    [[nodiscard]] result<void> reset() {
        if (settle()) return {};
        return fail(EIO, bus_->name() + " does not come out of its reset; `echo 1 > /sys/bus/pci/devices/" + bus_->name() +
                             "/reset` may help");
    }

    // 3.1.1 steps 2 to 4, as far as reading goes
    [[nodiscard]] result<void> ask() {
        using namespace virtio;
        add_status(status::acknowledge);
        add_status(status::driver);
        offered_ = 0;
        for (std::uint32_t half = 0; half < 2; ++half) {
            common().write(common::device_feature_select, half);
            offered_ |= std::uint64_t{common().read(common::device_feature)} << 32 * half;
        }
        if (!offers(feature::version_1)) return fail(ENODEV, bus_->name() + " is a legacy virtio device; with QEMU give it disable-modern=off");
        // 6.1: without it the device takes our addresses for the machine's own, past any IOMMU.
        if (!offers(feature::access_platform) && !unguarded())
            return fail(ENODEV, bus_->name() + " does not go through the IOMMU, and would write over this machine's memory; with QEMU give it "
                                "disable-legacy=on,iommu_platform=on");
        const structure<bar_type>& d = layout_.device;
        // 2.5: what spans words is read again until nothing changed meanwhile.
        for (unsigned tries = 0; tries < 16; ++tries) {
            const std::uint8_t before = common().read(common::config_generation);
            for (std::uint32_t i = 0; i < 6; ++i) mac_[i] = d.read(field<std::uint8_t, reg_mode::ro>{config::mac.at + i});
            max_pairs_ = 1;
            if (offers(feature::mq | feature::ctrl_vq) && d.length >= config::max_virtqueue_pairs.at + 2)
                max_pairs_ = d.read(config::max_virtqueue_pairs);
            max_mtu_ = 9000;
            if (offers(feature::mtu) && d.length >= config::mtu.at + 2) max_mtu_ = d.read(config::mtu);
            if (common().read(common::config_generation) == before) break;
        }
        if (!offers(feature::mac)) mac_ = made_up();
        control_index_ = static_cast<std::uint16_t>(2 * max_pairs_);
        if (max_pairs_ == 0 || max_pairs_ > 0x8000 - 1)  // 5.1.4.2
            return fail(EIO, bus_->name() + " says that it has " + std::to_string(max_pairs_) + " pairs of queues: it is broken");
        max_pairs_ = std::min(max_pairs_, most_pairs);
        if (max_mtu_ < 68 || max_mtu_ > 65535 - frame_overhead) max_mtu_ = max_mtu_ < 68 ? 1500 : 65535 - frame_overhead;
        // Of further pairs a device need not know before MQ is accepted (QEMU does not).
        max_slots_ = 32768 / 2;
        for (std::uint16_t q = 0; q < 2; ++q) {
            common().write(common::queue_select, q);
            max_slots_ = std::min(max_slots_, std::bit_floor(std::uint32_t{common().read(common::queue_size)}) / 2);
        }
        if (max_slots_ < 8)
            return fail(EIO, bus_->name() + ": its queues have " + std::to_string(2 * max_slots_) + " descriptors, of which a frame takes "
                                 "two; make them larger (QEMU: rx_queue_size=, tx_queue_size=)");
        return {};
    }
    [[nodiscard]] bool unguarded() const noexcept {
        if constexpr (requires { bus_->no_iommu(); }) return bus_->no_iommu();
        else return false;
    }
    // A locally administered address from the device's name, so that it is the same next time.
    [[nodiscard]] mac_address made_up() const {
        std::uint64_t h = 0xcbf29ce484222325U;  // FNV-1a
        for (const char ch : std::string(bus_->name())) h = (h ^ static_cast<std::uint8_t>(ch)) * 0x100000001b3U;
        mac_address m{0x02};
        for (unsigned i = 1; i < 6; ++i) m[i] = static_cast<std::uint8_t>(h >> 8 * i);
        return m;
    }

    // 3.1.1 steps 4 to 6
    [[nodiscard]] result<void> negotiate() {
        using namespace virtio;
        add_status(status::acknowledge);
        add_status(status::driver);
        std::uint64_t want = feature::version_1 | feature::access_platform | feature::mac | feature::status | feature::ctrl_vq |
                             feature::ctrl_rx | feature::ctrl_mac_addr | feature::event_idx | feature::ring_packed | feature::speed_duplex;
#if defined(__x86_64__)
        want |= feature::order_platform;  // all stores keep their order there
#endif
        if (setup_.rings > 1) want |= feature::mq;
        const bool larger = setup_.mtu + frame_overhead > setup_.buf_size;
        if (larger && !offers(feature::mrg_rxbuf))
            return fail(EINVAL, bus_->name() + ": an MTU of " + std::to_string(setup_.mtu) + " needs buffers of " +
                                    std::to_string(setup_.mtu + frame_overhead) + " bytes, as this device does not spread a frame over several");
        if (larger) want |= feature::mrg_rxbuf;
        // Who accepts the device's MTU must take frames of it (5.1.4.2).
        if (larger || max_mtu_ + frame_overhead <= setup_.buf_size) want |= feature::mtu;
        want &= offered_;
        // QEMU (7.2) does not move a packed queue's event along with what it takes: after an asynchronous transmission it
        // names a place of long ago, and the queue stands still. With flags alone it works, and suppresses as much.
        if ((want & feature::ring_packed) != 0) want &= ~feature::event_idx;
        if ((want & feature::ctrl_vq) == 0) want &= ~(feature::ctrl_rx | feature::ctrl_mac_addr | feature::mq);
        for (std::uint32_t half = 0; half < 2; ++half) {
            common().write(common::driver_feature_select, half);
            common().write(common::driver_feature, static_cast<std::uint32_t>(want >> 32 * half));
        }
        add_status(status::features_ok);
        if ((common().read(common::device_status) & status::features_ok) == 0)
            return fail(ENODEV, bus_->name() + " does not work with the features that this driver has; with QEMU leave out the options "
                                "that are not in docs/nics.md");
        features_ = want;
        const unsigned queues = common().read(common::num_queues);
        const unsigned needed = has(feature::ctrl_vq) ? control_queue_index() + 1U : 2 * setup_.rings;
        if (queues < needed)
            return fail(EIO, bus_->name() + " says that it has " + std::to_string(control_index_ / 2) + " pairs of queues, and " +
                                 std::to_string(queues) + " queues: it is broken");
        return {};
    }
    // 5.1.2: behind all pairs that the device has, or behind the first where there is no MQ.
    [[nodiscard]] std::uint16_t control_queue_index() const noexcept { return has(virtio::feature::mq) ? control_index_ : 2; }

    // 4.1.5.1.3 Virtqueue configuration
    [[nodiscard]] result<queue> make_queue(std::uint16_t index, std::uint32_t size, std::uint16_t vector) {
        using namespace virtio;
        common().write(common::queue_select, index);
        if (common().read(common::queue_size) < size || common().read(common::queue_enable) != 0)
            return fail(EIO, bus_->name() + ": its queue " + std::to_string(index) + " is not what it was when the device was opened");
        common().write(common::queue_size, static_cast<std::uint16_t>(size));
        queue q;
        q.memory.size = size;
        q.memory.descriptors = setup_.memory.take(16 * std::size_t{size});
        q.memory.driver = setup_.memory.take(packed() ? packed_ring::event_bytes() : split_rings::driver_bytes(size));
        q.memory.device = setup_.memory.take(packed() ? packed_ring::event_bytes() : split_rings::device_bytes(size));
        if (q.memory.descriptors.at == nullptr || q.memory.driver.at == nullptr || q.memory.device.at == nullptr) return too_little();
        common().write(common::queue_desc, q.memory.descriptors.iova);
        common().write(common::queue_driver, q.memory.driver.iova);
        common().write(common::queue_device, q.memory.device.iova);
        if (setup_.vectors.kind == sys::irq_kind::msix) {
            common().write(common::queue_msix_vector, vector);
            if (vector != common::no_vector && common().read(common::queue_msix_vector) == common::no_vector) return no_vector();
        }
        auto at = layout_.doorbell_of(*bus_, common().read(common::queue_notify_off));
        if (!at) return forward_error(at);
        q.bell = {layout_.notify.bar, *at, index, has(feature::event_idx)};
        common().write(common::queue_enable, std::uint16_t{1});
        return q;
    }
    [[nodiscard]] result<void> make_pair(unsigned i) {
        pair& p = pairs_[i];
        auto rx = make_queue(static_cast<std::uint16_t>(2 * i), 2 * setup_.rx_slots, static_cast<std::uint16_t>(setup_.vectors.rx(i)));
        if (!rx) return forward_error(rx);
        auto tx = make_queue(static_cast<std::uint16_t>(2 * i + 1), 2 * setup_.tx_slots, static_cast<std::uint16_t>(setup_.vectors.tx(i)));
        if (!tx) return forward_error(tx);
        p.rx = *rx;
        p.tx = *tx;
        p.headers = setup_.memory.take(setup_.rx_slots * virtio::header_stride);
        if (p.headers.at == nullptr) return too_little();
        p.flights = std::make_unique<std::uint32_t[]>(setup_.tx_slots);
        p.entries = std::make_unique<virtio::postings::entry[]>(setup_.rx_slots);
        p.held = std::make_unique<std::uint16_t[]>(setup_.rx_slots);
        if (!packed()) {
            virtio::split_rings(p.rx.memory).prepare_rx(p.headers.iova, capacity());
            virtio::split_rings(p.tx.memory).prepare_tx(header_.iova);
        }
        for (std::uint32_t k = 0; k < setup_.rx_slots; ++k) p.held[k] = static_cast<std::uint16_t>(k);
        return {};
    }
    [[nodiscard]] result<void> make_control() {
        auto q = make_queue(control_queue_index(), control_size, virtio::common::no_vector);
        if (!q) return forward_error(q);
        const auto buffer = setup_.memory.take(page);
        if (buffer.at == nullptr) return too_little();
        control_ = {q->memory, buffer, q->bell, packed(), patience};
        return {};
    }
    [[nodiscard]] tl::unexpected<error> too_little() const { return fail(ENOMEM, bus_->name() + ": too little memory for its queues"); }
    [[nodiscard]] tl::unexpected<error> no_vector() const {
        return fail(EIO, bus_->name() + " has no interrupt vector for a queue; give it more (QEMU: vectors=), or use fewer rings");
    }

    void interrupt(const queue& q, bool on) noexcept {
        if (packed()) virtio::packed_ring::interrupt(q.memory.driver.template as<std::uint16_t>(), on);
        else virtio::split_rings(q.memory).interrupt(q.bell.event_idx, on);
    }

    static constexpr unsigned most_pairs = 64;
    /// For a device to answer; a model may want less.
    static constexpr std::chrono::microseconds patience = [] {
        if constexpr (requires { Bus::patience; }) return std::chrono::microseconds{Bus::patience};
        else return std::chrono::microseconds{2'000'000};
    }();

    Bus* bus_;
    virtio::pci_layout<Bus> layout_;
    std::uint64_t offered_ = 0, features_ = 0;
    std::uint8_t status_ = 0;
    mutable bool lost_link_ = false;  // by any ring's thread
    bool running_ = false;
    mac_address mac_{};
    unsigned max_pairs_ = 1, max_mtu_ = 9000, max_slots_ = 0;
    std::uint16_t control_index_ = 2;
    nic_setup setup_{};
    dma_memory::piece header_;
    std::vector<pair> pairs_;
    virtio::control_queue<bar_type> control_;
};

}  // namespace nm
