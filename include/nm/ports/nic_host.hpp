// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Host rings of a NIC that the kernel does not see: a TAP with its address stands in the place of the interface that has
// vanished. It goes with the port.

#include <optional>
#include <string>
#include <vector>

#include "nm/ports/nic_device.hpp"
#include "nm/ports/packet_rings.hpp"
#include "nm/port.hpp"
#include "nm/sys/tap.hpp"

namespace nm {

/// "0000:03:00.0" -> "nmp3s0", as systemd would name it: domain (if any), bus, slot, function (if any).
[[nodiscard]] inline std::string stand_in_name(const std::string& address) {
    const auto part = [&](std::size_t at, std::size_t digits) { return std::stoul(address.substr(at, digits), nullptr, 16); };
    if (address.size() != 12) return "nm" + address.substr(0, 13);
    const auto domain = part(0, 4), bus = part(5, 2), slot = part(8, 2), function = part(11, 1);
    return "nm" + (domain != 0 ? "P" + std::to_string(domain) : "") + "p" + std::to_string(bus) + "s" + std::to_string(slot) +
           (function != 0 ? "f" + std::to_string(function) : "");
}

class nic_host {
public:
    struct wishes {
        const std::string& device;
        mac_address mac;
        unsigned mtu;
        const open_options& options;
        region* memory;
        port_memory* rings;
    };
    [[nodiscard]] result<void> open(const wishes& w) {
        name_ = w.device + "^";
        rings_ = w.rings;
        if (auto ok = rings_->make(name_, ring_part::host, 0, 0); !ok) return ok;
        auto tap = sys::host_tap::stand_in(stand_in_name(w.device), w.mac, w.mtu);
        if (!tap) return forward_error(tap);
        tap_ = std::move(*tap);
        auto link = sys::query_link(tap_->name());
        if (!link) return forward_error(link);
        link_ = std::move(*link);
        if (auto ok = sleeper_.open(link_, w.options.mitigation_ns); !ok) return ok;
        memory_ = w.memory;
        packets_.emplace();
        packets_->tx.batch.one_by_one();
        packets_->rx.batch.one_by_one();
        const auto& shape = rings_->shape();
        packets_->set_up({tap_->fd(), memory_, &sleeper_, rings_->host_tx(0)->slots(), rings_->host_rx(0)->slots(), shape.tx_slots,
                          shape.rx_slots, w.mtu + 14, w.options.offloads});
        return {};
    }
    /// The two rings, with a NIC's kind of backend.
    template <class TxSteps, class RxSteps>
    void add(std::vector<tx_ring<TxSteps>>& tx, std::vector<rx_ring<RxSteps>>& rx, TxSteps tb, RxSteps rb) {
        tb.host = packets_->tx_steps();
        rb.host = packets_->rx_steps();
        tx.reserve(1);
        rx.reserve(1);
        packets_->tx.stats = &tx.emplace_back(rings_->host_tx(0), rings_->shape().tx_slots, *memory_, tb).live();
        packets_->rx.stats = &rx.emplace_back(rings_->host_rx(0), rings_->shape().rx_slots, *memory_, rb).live();
    }
    /// Who waits on all rings sleeps on both.
    [[nodiscard]] result<void> join(int own) {
        const int fds[] = {own, sleeper_.fd()};
        auto both = base::make_epoll(name_, fds);
        if (!both) return forward_error(both);
        both_ = std::move(*both);
        return {};
    }
    template <class TxRing, class RxRing>
    void arm(events e, TxRing& tx, RxRing& rx) noexcept {
        const bool unsent = packets_->waits(e);
        sleeper_.arm(unsent ? e | events::tx : e, [&]() noexcept {
            return packets_->look(e, rx, unsent) || (any(e & events::rx) && !rx.empty()) || (any(e & events::tx) && !tx.empty());
        });
    }
    [[nodiscard]] result<void> status() { return sleeper_.status(link_); }
    [[nodiscard]] int fd() const noexcept { return sleeper_.fd(); }
    [[nodiscard]] int both() const noexcept { return both_.get(); }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const std::string& interface() const noexcept { return link_.name; }
    [[nodiscard]] std::optional<sys::link_counters> counters() const noexcept {
        if (!tap_) return std::nullopt;
        return tap_->counters();
    }
    void deliver_headers(bool on) noexcept { packets_->rx.offloads = on; }
    template <class RxRing>
    void restore(RxRing& rx) noexcept { packets_->restore(rx.truth().hwtail, rx.backend().host); }
    void close() noexcept {
        tap_.reset();
        packets_.reset();
        if (rings_ != nullptr) rings_->unmake(ring_part::host);
        sleeper_.close();
        both_.reset();
    }

private:
    std::string name_;
    port_memory* rings_ = nullptr;
    region* memory_ = nullptr;
    std::optional<sys::host_tap> tap_;
    sys::link_info link_;
    netdev_sleeper sleeper_;
    std::optional<packet_rings> packets_;
    base::unique_fd both_;
};

}  // namespace nm
