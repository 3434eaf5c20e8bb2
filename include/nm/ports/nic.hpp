// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A NIC as a port, driven by this program: its queues' DMA goes to the region's buffers, its interrupts are the port's
// descriptor. No kernel driver, no module.

#include "nm/ports/bar.hpp"
#include "nm/ports/nic_state.hpp"
#include "nm/ports/vfio_bus.hpp"

namespace nm {

/// `netmap:0000:03:00.0`: a PCI device that was given to vfio-pci (`nmctl bind`), with one pair of rings, or as many as
/// `@conf:rings=N` asks for. `netmap:0000:03:00.0^`: the host rings, an interface for the stack (a TAP with the device's MAC
/// address, `host_interface()`); `netmap:0000:03:00.0*`: both. Device is one of e1000, virtio_net, vmxnet3, ixgbe, or your own
/// (nic_device.hpp); Bar is the way to its registers, mmio_bar or a test's.
template <class Device, reachable_bar Bar = mmio_bar>
class nic : public port_handle<nic_state<Device, typename Bar::bus>> {
    using state_type = nic_state<Device, typename Bar::bus>;
    using handle = port_handle<state_type>;

public:
    using device_type = Device;
    using bus_type = typename Bar::bus;
    static constexpr const char* kind_name = Device::kind_name;

    /// Whether that is a PCI device which Device drives. One that cannot be found is everybody's, to say so.
    [[nodiscard]] static bool matches(const port_spec& s) {
        if (s.kind != port_kind::pci || s.monitor()) return false;
        if constexpr (requires { bus_type::ids_of(s.name); }) {
            const auto ids = bus_type::ids_of(s.name);
            return !ids || Device::drives(*ids);
        } else return true;
    }

    [[nodiscard]] static result<nic> open(context& ctx, const port_spec& spec, const open_options& o)
        requires requires(const std::string& n, sys::vfio_options v) { bus_type::open(n, v); }
    {
        auto state = open_already(ctx, spec, o);
        if (!state) return forward_error(state);
        if (*state) return shared(ctx, std::move(*state), spec, o);
        auto bus = bus_type::open(spec.name, {o.allow_no_iommu});
        if (!bus) return forward_error(bus);
        return fresh(ctx, spec, o, std::move(*bus));
    }
    /// On a bus that the caller made: a model of a device. The port is then known in `ctx` by bus.name().
    [[nodiscard]] static result<nic> open_on(context& ctx, bus_type bus, const open_options& o = {}, std::string_view rings = {}) {
        auto spec = parse_port("netmap:" + std::string(bus.name()) + std::string(rings));
        if (!spec) return forward_error(spec);
        const auto guard = ctx.opening();
        return fresh(ctx, *spec, detail::merged(*spec, o), std::move(bus));
    }

    [[nodiscard]] static result<port_info> query(context& ctx, const port_spec& spec, const open_options& o) {
        auto state = open_already(ctx, spec, o);
        if (state && *state) return (*state)->info_of((*state)->view(spec));
        // Whatever there is to ask, only the device knows; it is not disturbed for it.
        port_info i;
        i.name = spec.name;
        i.mode = bus_type::mode();
        i.reason = std::string(Device::name) + "; how long its rings are is known when it is open";
        i.tx_rings = i.rx_rings = o.tx_rings.value_or(o.rx_rings.value_or(1));
        i.tx_slots = o.tx_slots.value_or(0);
        i.rx_slots = o.rx_slots.value_or(i.tx_slots);
        return i;
    }

    [[nodiscard]] mac_address mac() { return this->state().control->mac(); }
    [[nodiscard]] unsigned mtu() { return this->state().setup().mtu; }
    [[nodiscard]] nic_link link() noexcept { return this->state().control->link(); }
    void set_promiscuous(bool on) noexcept { this->state().control->set_promiscuous(on); }
    /// Until the port is closed.
    [[nodiscard]] result<void> set_mac(const mac_address& m) { return this->state().control->set_mac(m); }
    /// What the device itself has counted since it was opened, all rings together.
    [[nodiscard]] nic_counters device_counters() noexcept { return this->state().count(); }
    /// Whether a frame whose slot carries a virtio-net header (ns_vnet) can be sent as it is: only by the host rings. The
    /// device's finish a checksum and count what would have to be cut.
    [[nodiscard]] bool carries_headers() noexcept { return this->view().ring_range::empty(); }
    void deliver_headers(bool on) noexcept {
        if (!this->view().host.empty()) this->state().deliver_headers(on);
    }
    /// The stack's interface of a port with host rings; empty without.
    [[nodiscard]] const std::string& host_interface() noexcept { return this->state().host_interface(); }

    /// With what the device had no buffer for.
    [[nodiscard]] counters rx_stats() noexcept {
        this->state().read_missed();
        return handle::rx_stats();
    }
    /// The same numbers as a kernel interface's, of a device that counts; of `^`, what the stack sent there (in) and heard.
    [[nodiscard]] std::optional<sys::link_counters> kernel_counters() {
        if (this->view().ring_range::empty()) return this->state().host_counters();
        if constexpr (!counts<Device>) return std::nullopt;
        const nic_counters c = device_counters();
        return sys::link_counters{c.rx_frames, c.tx_frames, c.rx_bytes, c.tx_bytes, c.rx_missed, 0};
    }

private:
    // A device without counters says so: `static constexpr bool counts = false`.
    template <class D>
    static constexpr bool counts = [] {
        if constexpr (requires { D::counts; }) return D::counts;
        else return true;
    }();

    using handle::handle;
    using state_ptr = std::shared_ptr<state_type>;

    [[nodiscard]] static std::string key(const std::string& name) { return std::string("nic:") + Device::name + ":" + name; }

    // Null when the device is not open in this program.
    [[nodiscard]] static result<state_ptr> open_already(context& ctx, const port_spec& spec, const open_options& o) {
        auto state = ctx.find<state_type>(key(spec.name));
        if (!state) return state_ptr{};
        if (o.memory && o.memory != state->memory)
            return fail(EINVAL, spec.name + " is open already, in other memory than the one asked for");
        const auto& s = state->setup();
        if ((spec.tx_rings && *spec.tx_rings != s.rings) || (spec.rx_rings && *spec.rx_rings != s.rings) || (spec.tx_slots && *spec.tx_slots != s.tx_slots) ||
            (spec.rx_slots && *spec.rx_slots != s.rx_slots) || (spec.mtu && *spec.mtu != s.mtu))
            return fail(EBUSY, spec.name + " is open already, with " + std::to_string(s.rings) + " ring(s) of " + std::to_string(s.tx_slots) +
                                   " and " + std::to_string(s.rx_slots) + " slots; close it to open it otherwise");
        if (auto ok = handle::may_share(*state, spec, o); !ok) return forward_error(ok);
        return state;
    }
    [[nodiscard]] static result<nic> fresh(context& ctx, const port_spec& spec, const open_options& o, bus_type bus) {
        auto made = state_type::create(ctx, spec, o, std::move(bus));
        if (!made) return forward_error(made);
        ctx.keep(key(spec.name), *made);
        ctx.set_region_of(spec.identity(), (*made)->memory);
        return shared(ctx, std::move(*made), spec, o);
    }
    [[nodiscard]] static result<nic> shared(context& ctx, state_ptr state, const port_spec& spec, const open_options& o) {
        if (spec.host_rings.value_or(1) != 1 || (spec.mode == ring_mode::one_host && spec.ring != 0))
            return fail(EINVAL, spec.name + " has one pair of host rings; write " + spec.name + "^ or " + spec.name + "*");
        if (auto ok = handle::has_ring(*state, spec); !ok) return forward_error(ok);
        if (wants_host(spec)) {
            const bool first = !state->has_host();
            if (auto ok = state->open_host(o); !ok) return forward_error(ok);
            if (wants_own(spec)) {
                if (first) state->deliver_headers(false);  // the device takes none
                state->set_transparent(o.transparent);
            }
        }
        state->offer_taps(ctx, state->host_info);
        return nic(std::move(state), spec, o);
    }
};

}  // namespace nm
