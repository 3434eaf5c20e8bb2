// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// VMware's vmxnet3, as ESXi and QEMU have it. Source: vmxnet3_regs.hpp's, and for what a device does QEMU 7.2's hw/net/vmxnet3.c.

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "nm/ports/nic_device.hpp"
#include "nm/ports/vmxnet3_area.hpp"
#include "nm/ports/vmxnet3_queue.hpp"
#include "nm/ports/vmxnet3_regs.hpp"
#include "nm/spin_lock.hpp"

namespace nm {

struct vmxnet3 {
    static constexpr const char* name = "vmxnet3";
    static constexpr const char* kind_name = "vmxnet3";
    [[nodiscard]] static constexpr bool drives(const sys::pci_ids& ids) noexcept {
        return ids.vendor == 0x15ad && ids.device == 0x07b0;
    }

    template <nic_bus Bus>
    class control;
};

/// One thread at a time, except for interrupt_rx, interrupt_tx, ack and link, which any may call.
template <nic_bus Bus>
class vmxnet3::control {
public:
    using bar_type = typename Bus::bar_type;

    [[nodiscard]] static result<control> open(Bus& bus) {
        auto data = bus.bar(0);
        if (!data) return forward_error(data);
        auto registers = bus.bar(1);
        if (!registers) return forward_error(registers);
        if (data->size() < regs::bar0_size || registers->size() < regs::bar1_size)
            return fail(EIO, bus.name() + ": its BARs are smaller than a vmxnet3's; is it one?");
        control c(bus, *data, *registers);
        if (auto ok = c.agree_on_revision(); !ok) return forward_error(ok);
        c.command(abi::reset);
        // The address that it was made with: ACTIVATE goes back to it.
        const std::uint32_t low = c.ask(abi::get_perm_mac_lo), high = c.ask(abi::get_perm_mac_hi);
        for (unsigned i = 0; i < 6; ++i) c.mac_[i] = static_cast<std::uint8_t>(i < 4 ? low >> 8 * i : high >> 8 * (i - 4));
        return c;
    }

    [[nodiscard]] nic_limits limits() const {
        nic_limits l;
        l.memory.min_buf_size = 128;
        // QEMU loses a frame out of a buffer that crosses a page, unless the two happen to be neighbours: it maps each fragment
        // in one piece (hw/net/net_tx_pkt.c). Its device cannot be told from VMware's, which could.
        l.memory.no_cross = 4096;
        l.max_rings = abi::max_queues;
        l.min_slots = abi::ring_multiple;
        l.max_slots = abi::max_slots;
        l.slots_multiple = abi::ring_multiple;
        l.default_slots = 1024;
        l.max_frame = abi::max_mtu + 18;
        l.max_mtu = abi::max_mtu;
        return l;
    }
    [[nodiscard]] mac_address mac() const noexcept { return mac_; }

    [[nodiscard]] std::size_t ring_memory(const nic_setup& s) const noexcept {
        const std::size_t one = dma_memory::rounded(s.tx_slots * sizeof(abi::descriptor)) +
                                dma_memory::rounded(s.tx_slots * sizeof(abi::completion)) +
                                dma_memory::rounded(area::rx_descriptors(s) * sizeof(abi::descriptor)) +
                                dma_memory::rounded(area::rx_descriptors(s) * sizeof(abi::completion));
        return dma_memory::rounded(sizeof(vmxnet3_area)) + s.rings * one;
    }

    [[nodiscard]] result<void> start(const nic_setup& setup) {
        if (auto ok = area::check(bus_->name(), setup); !ok) return ok;
        auto& s = *state_;
        s.setup = setup;
        const auto piece = s.setup.memory.take(sizeof(vmxnet3_area));
        if (piece.at == nullptr) return no_memory();
        s.area = piece.template as<vmxnet3_area>();
        s.queues.clear();
        s.queues.resize(setup.rings);
        for (unsigned q = 0; q < setup.rings; ++q)
            if (auto ok = queue_pair(q); !ok) return ok;
        s.area->describe(setup, piece.iova, (ask(abi::get_conf_intr) >> 2 & 3) == abi::mask_mode_auto);
        doorbell_barrier();  // P2: all of it before its address
        write(control_, regs::dsal, static_cast<std::uint32_t>(piece.iova));
        write(control_, regs::dsah, static_cast<std::uint32_t>(piece.iova >> 32));
        return bus_->bus_master(true);
    }
    [[nodiscard]] vmxnet3_tx<bar_type> tx(unsigned ring) noexcept {
        auto& q = state_->queues[ring];
        return {{q.tx, q.tx_done, q.slot_of.get(), state_->setup.tx_slots, ring}, data_, state_->setup.buffers};
    }
    [[nodiscard]] vmxnet3_rx<bar_type> rx(unsigned ring) noexcept {
        const nic_setup& s = state_->setup;
        auto& q = state_->queues[ring];
        return {{q.rx, q.rx_done, &state_->area->rx(ring, s.rings), s.rx_slots, area::rx_descriptors(s), ring, area::parts(s),
                 area::buffer_len(s)},
                data_,
                s.buffers};
    }

    [[nodiscard]] result<void> run() {
        auto& s = *state_;
        doorbell_barrier();  // P2: rx descriptors before the device looks at them
        if (ask(abi::activate) != 0)
            return fail(EIO, bus_->name() + " does not accept its configuration; give it fewer or smaller rings, or report this");
        // Masks, address and mode are lost on the way (QEMU), or not known (others).
        for (unsigned v = 0; v < area::vectors(s.setup); ++v) write(data_, regs::imr[v], 1);
        s.area->shared.intr.control = 0;
        for (unsigned q = 0; q < s.setup.rings; ++q) {
            write(data_, regs::rxprod[q], s.setup.rx_slots - 1);
            write(data_, regs::rxprod2[q], 0);
        }
        write_mac();
        command(abi::update_rx_mode);
        s.counted = {};
        s.stopped = false;
        const std::lock_guard guard(s.lock);
        s.running = true;
        for (unsigned q = 0; q < s.setup.rings; ++q) {
            if ((s.wanted & 1U << q) != 0) write(data_, regs::imr[s.setup.vectors.rx(q)], 0);
            if ((s.wanted & tx_bit << q) != 0) write(data_, regs::imr[s.setup.vectors.tx(q)], 0);
        }
        if (!s.setup.vectors.shared()) write(data_, regs::imr[s.setup.vectors.link], 0);
        return {};
    }

    /// After RESET the device forgets where `shared` is; one that sees its link change nevertheless writes events at address 0
    /// (QEMU), so it may not write at all any more.
    void stop() noexcept {
        {
            const std::lock_guard guard(state_->lock);
            state_->running = false;
            state_->wanted = 0;
        }
        for (unsigned v = 0; v < abi::max_vectors; ++v) write(data_, regs::imr[v], 1);
        (void)read(control_, regs::icr);  // or the line of INTx stays up for ever (QEMU)
        command(abi::quiesce);
        command(abi::reset);
        (void)bus_->bus_master(false);
        write(control_, regs::dsal, 0);
        write(control_, regs::dsah, 0);
    }

    void interrupt_rx(unsigned ring, bool on) noexcept { interrupt(state_->setup.vectors.rx(ring), 1U << ring, on); }
    void interrupt_tx(unsigned ring, bool on) noexcept { interrupt(state_->setup.vectors.tx(ring), tx_bit << ring, on); }
    /// Of INTx, the cause ends by reading it.
    bool ack() noexcept { return state_->setup.vectors.kind == sys::irq_kind::intx && read(control_, regs::icr) != 0; }

    /// Down, too, when the device has stopped one of its queues because of what it found there.
    [[nodiscard]] nic_link link() noexcept {
        notice();
        const std::uint32_t status = ask(abi::get_link);
        if (status == ~0U) return {};  // nobody answers
        return {(status & 1) != 0 && !state_->stopped, status >> 16};
    }
    void set_promiscuous(bool on) noexcept {
        auto& s = *state_;
        s.setup.promiscuous = on;
        if (s.area == nullptr) return;
        s.area->shared.filter.mode = area::rx_mode(s.setup);
        if (s.running) command(abi::update_rx_mode);
    }
    [[nodiscard]] result<void> set_mac(const mac_address& m) {
        if ((m[0] & 1) != 0) return fail(EINVAL, bus_->name() + ": a group's address cannot be an interface's; its first byte must be even");
        mac_ = m;
        write_mac();
        return {};
    }

    void add_counters(nic_counters& sum) noexcept {
        auto& s = *state_;
        if (!s.running) return;
        command(abi::get_stats);
        nic_counters now;
        for (unsigned q = 0; q < s.setup.rings; ++q) {
            const abi::tx_queue& t = state_->area->tx(q);
            const abi::rx_queue& r = state_->area->rx(q, state_->setup.rings);
            now.tx_frames += load_once(t.unicast_frames) + load_once(t.multicast_frames) + load_once(t.broadcast_frames);
            now.tx_bytes += load_once(t.unicast_bytes) + load_once(t.multicast_bytes) + load_once(t.broadcast_bytes);
            now.rx_frames += load_once(r.unicast_frames) + load_once(r.multicast_frames) + load_once(r.broadcast_frames);
            now.rx_bytes += load_once(r.unicast_bytes) + load_once(r.multicast_bytes) + load_once(r.broadcast_bytes);
            now.rx_missed += load_once(r.out_of_buffers);
            now.rx_errors += load_once(r.errors);
        }
        for (const auto field : {&nic_counters::tx_frames, &nic_counters::tx_bytes, &nic_counters::rx_frames, &nic_counters::rx_bytes,
                                 &nic_counters::rx_missed, &nic_counters::rx_errors})
            if (now.*field > s.counted.*field) {
                sum.*field += now.*field - s.counted.*field;
                s.counted.*field = now.*field;
            }
    }

private:
    using regs = vmxnet3_regs;
    using abi = vmxnet3_abi;
    using area = vmxnet3_area;

    struct queue_memory {
        abi::descriptor *tx = nullptr, *rx = nullptr;
        const abi::completion *tx_done = nullptr, *rx_done = nullptr;
        std::unique_ptr<std::uint32_t[]> slot_of;
    };
    struct state {
        spin_lock lock;  // commands are written and then read; interrupts are switched by several threads
        nic_setup setup{};
        vmxnet3_area* area = nullptr;
        std::vector<queue_memory> queues;
        std::uint32_t wanted = 0;  // interrupts, rx of ring i and tx_bit << i
        std::atomic<bool> running = false;
        std::atomic<bool> stopped = false;  // a queue, by the device
        nic_counters counted{};
    };
    static constexpr std::uint32_t tx_bit = 1U << abi::max_queues;

    control(Bus& bus, bar_type data, bar_type registers) : bus_(&bus), data_(data), control_(registers), state_(std::make_unique<state>()) {}

    [[nodiscard]] result<void> no_memory() const { return fail(ENOMEM, bus_->name() + ": too little memory for its rings"); }
    void command(std::uint32_t c) noexcept {
        const std::lock_guard guard(state_->lock);
        doorbell_barrier();  // P2: what it is about, before it
        write(control_, regs::cmd, c);
    }
    [[nodiscard]] std::uint32_t ask(std::uint32_t c) noexcept {
        const std::lock_guard guard(state_->lock);
        write(control_, regs::cmd, c);
        return read(control_, regs::cmd);
    }

    [[nodiscard]] result<void> agree_on_revision() {
        for (const auto which : {regs::vrrs, regs::uvrs}) {
            const std::uint32_t offered = read(control_, which);
            if (offered == ~0U || (offered & 1) == 0)
                return fail(ENOTSUP, bus_->name() + ": a vmxnet3 without revision 1; choose an older virtual hardware version for the machine");
            write(control_, which, 1);
        }
        return {};
    }

    // TxQueueDesc, RxQueueDesc
    [[nodiscard]] result<void> queue_pair(unsigned q) {
        nic_setup& s = state_->setup;
        const index_t rx_count = area::rx_descriptors(s);
        const auto tx_ring = s.memory.take(s.tx_slots * sizeof(abi::descriptor));
        const auto tx_done = s.memory.take(s.tx_slots * sizeof(abi::completion));
        const auto rx_rings = s.memory.take(rx_count * sizeof(abi::descriptor));
        const auto rx_done = s.memory.take(rx_count * sizeof(abi::completion));
        if (tx_ring.at == nullptr || tx_done.at == nullptr || rx_rings.at == nullptr || rx_done.at == nullptr) return no_memory();
        queue_memory& p = state_->queues[q];
        p.tx = tx_ring.template as<abi::descriptor>();
        p.tx_done = tx_done.template as<const abi::completion>();
        p.rx = rx_rings.template as<abi::descriptor>();
        p.rx_done = rx_done.template as<const abi::completion>();
        p.slot_of = std::make_unique<std::uint32_t[]>(s.tx_slots);
        abi::tx_queue& t = state_->area->tx(q);
        t = {};
        t.ring = tx_ring.iova;
        t.ring_len = s.tx_slots;
        t.completions = tx_done.iova;
        t.completions_len = s.tx_slots;
        t.vector = static_cast<std::uint8_t>(s.vectors.tx(q));
        abi::rx_queue& r = state_->area->rx(q, state_->setup.rings);
        r = {};
        r.rings = {rx_rings.iova, rx_rings.iova + s.rx_slots * sizeof(abi::descriptor)};
        r.rings_len = {s.rx_slots, abi::ring_multiple};
        r.completions = rx_done.iova;
        r.completions_len = rx_count;
        r.vector = static_cast<std::uint8_t>(s.vectors.rx(q));
        return {};
    }
    void interrupt(unsigned vector, std::uint32_t bit, bool on) noexcept {
        auto& s = *state_;
        const std::lock_guard guard(s.lock);
        s.wanted = on ? s.wanted | bit : s.wanted & ~bit;
        if (!s.running) return;
        if (on) write(data_, regs::imr[vector], 0);
        else if (!s.setup.vectors.shared() || s.wanted == 0) write(data_, regs::imr[vector], 1);
    }
    // Events are taken notice of, and their vector, which they have masked, is opened again.
    void notice() noexcept {
        auto& s = *state_;
        const std::uint32_t events = s.running ? load_once(s.area->shared.ecr) : 0;
        if (events == 0) return;
        write(control_, regs::ecr, events);
        if (!s.setup.vectors.shared()) write(data_, regs::imr[s.setup.vectors.link], 0);
        if ((events & (abi::event_rx_error | abi::event_tx_error)) == 0) return;
        command(abi::get_queue_status);
        for (unsigned q = 0; q < s.setup.rings; ++q)
            if (load_once(state_->area->tx(q).status.stopped) != 0 || load_once(state_->area->rx(q, state_->setup.rings).status.stopped) != 0) s.stopped = true;
    }
    void write_mac() noexcept {
        std::uint32_t low = 0, high = 0;
        for (unsigned i = 0; i < 4; ++i) low |= std::uint32_t{mac_[i]} << 8 * i;
        for (unsigned i = 4; i < 6; ++i) high |= std::uint32_t{mac_[i]} << 8 * (i - 4);
        write(control_, regs::macl, low);
        write(control_, regs::mach, high);
    }

    Bus* bus_;
    bar_type data_, control_;
    mac_address mac_{};
    std::unique_ptr<state> state_;
};

}  // namespace nm
