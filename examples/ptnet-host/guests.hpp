// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "guest.hpp"
#include "nvdimm.hpp"

#include "nm/ptnet/host.hpp"
#include "nm/ptnet/process.hpp"
#include "nm/ptnet/sync_loop.hpp"

namespace ptnet_host {

using ports = nm::port_list<nm::netdev, nm::pipe, nm::vale_port, nm::null_port, nm::nic<nm::e1000>, nm::nic<nm::virtio_net>, nm::nic<nm::vmxnet3>,
                            nm::nic<nm::ixgbe>, nm::process_port>;
using service_ptr = std::shared_ptr<nm::ptnet::service>;

[[nodiscard]] inline bool is_switch_port(const std::string& name) { return nm::process_port::matches(tool::spec_of(name)); }

/// A port of a switch is served by the process that the switch lives in, out of a memory of its own.
[[nodiscard]] inline bool by_its_host(const guest_settings& g, const settings& s) {
    std::size_t hosted = 0;
    for (const auto& name : g.ports) hosted += !s.own_switches && is_switch_port(name) ? 1U : 0U;
    if (hosted != 0 && g.ports.size() != 1)
        throw tool::usage_error(g.socket + ": a port of a switch lives in a memory of its own; give it a socket of its own (-s PATH -i " + g.ports.front() +
                                "), or say --own-switches");
    if (hosted != 0 && g.nvdimm) throw tool::usage_error("--nvdimm is for ports that are this program's own; for one of a switch say --own-switches too");
    return hosted == 1;
}

/// Ports that are this program's, driven by its threads.
class serving_guest : public guest {
public:
    ~serving_guest() override {
        for (const auto& p : services_) loop_.remove(*p);
    }

    [[nodiscard]] std::string report() const override {
        std::string text;
        for (const auto& p : services_) {
            const auto s = p->stats();
            text += fmt::format("{:<16} {} {} frames from the guest, {} to it, {} dropped, {} kicks, {} wakes\n", p->name(), s.running ? "open" : "idle",
                                s.tx.frames, s.rx.frames, s.tx.dropped() + s.rx.dropped(), s.kicks, s.wakes);
        }
        return text;
    }
    void add_looks(std::vector<tool::port_look>& to) const override {
        for (const auto& p : services_) {
            const auto s = p->stats();
            to.push_back({p->name(), "guest", path(), {}, s.tx, s.rx});
        }
    }

protected:
    serving_guest(const guest_settings& g, nm::ptnet::sync_loop& loop) : guest(g), loop_(loop) {}

    /// Opens them in that memory.
    void open(nm::context& ctx, std::shared_ptr<nm::ptnet::host_memory> memory, const ptnet_host::settings& s) {
        memory_ = std::move(memory);
        for (const auto& name : settings().ports) {
            const auto& p = services_.emplace_back(need(nm::ptnet::serve<ports>(ctx, memory_, name, s.host)));
            for (unsigned v = 0; v < p->vectors(); ++v) {
                kicks_.push_back(p->kick_fd(v));
                irqs_.push_back(p->irq_fd(v));
            }
        }
    }
    void begin() {
        for (const auto& p : services_)
            if (auto ok = loop_.add(p); !ok) throw tool::run_error(ok.error().text);
    }
    [[nodiscard]] const nm::ptnet::host_memory& memory() const noexcept { return *memory_; }
    [[nodiscard]] const std::vector<int>& kicks() const noexcept { return kicks_; }  ///< of all ports, by vector
    [[nodiscard]] const std::vector<int>& irqs() const noexcept { return irqs_; }

private:
    /// What it said last does not count any more. Not while the loop visits it.
    void left() override {
        for (const auto& p : services_) {
            if (!loop_.remove(*p)) continue;
            p->stop();
            if (auto ok = loop_.add(p); !ok) throw tool::run_error(ok.error().text);
        }
    }
    [[nodiscard]] std::string describe(std::size_t port) const override { return services_[port]->name() + " (" + services_[port]->info().mode + ")"; }
    [[nodiscard]] std::string ports_json() const override {
        std::string list;
        for (const auto& p : services_) {
            const auto s = p->stats();
            const auto side = [](const nm::counters& c) {
                return tool::json().add("frames", c.frames).add("bytes", c.bytes).add("dropped", c.dropped()).add("drops", tool::drops_json(c));
            };
            tool::json j = tool::to_json(p->info());
            j.add("running", s.running).add("tx", side(s.tx)).add("rx", side(s.rx));
            j.add("kicks", s.kicks).add("wakes", s.wakes).add("bad_indexes", s.bad_indexes);
            list += (list.empty() ? "" : ", ") + j.text();
        }
        return list;
    }

    // As the guest says it: tx is what it sent.
    void count_ports(tool::metrics& m) const override {
        for (const auto& p : services_) {
            const auto s = p->stats();
            const auto who = tool::labels_of("ptnet-host", p->name());
            tool::add_mode(m, who, p->info().mode);
            tool::add_direction(m, who, "tx", s.tx);
            tool::add_direction(m, who, "rx", s.rx);
            tool::add_serving(m, who, s.kicks, s.wakes, s.bad_indexes);
            count_running(m, p->name(), s.running);
        }
    }

    nm::ptnet::sync_loop& loop_;
    std::shared_ptr<nm::ptnet::host_memory> memory_;
    std::vector<service_ptr> services_;
    std::vector<int> kicks_, irqs_;
};

/// A guest of this machine.
class served_guest final : public serving_guest {
public:
    served_guest(nm::context& ctx, const guest_settings& g, const ptnet_host::settings& s, nm::ptnet::sync_loop& loop) : serving_guest(g, loop) {
        std::size_t bytes = 0;
        for (const auto& name : g.ports) bytes += need(nm::ptnet::memory_for<ports>(ctx, name, s.host));
        open(ctx, need(nm::ptnet::host_memory::create(g.nvdimm ? std::max(bytes, nvdimm_lead_in) : bytes, g.nvdimm ? nvdimm_lead_in : 0)), s);
        if (g.nvdimm) {
            if (auto ok = label_nvdimm(memory()); !ok) throw tool::run_error(ok.error().text);
            signpost_ = need(signpost_to(memory()));
            link_.emplace(path() + ".mem", memory().fd());
            set_nvdimm_bytes(nvdimm_lead_in + memory().size());
        }
        if (auto ok = listen(g.nvdimm ? signpost_.get() : memory().fd(), memory().size(), kicks(), irqs()); !ok) throw tool::run_error(ok.error().text);
        begin();
    }

private:
    nm::base::unique_fd signpost_;
    std::optional<memory_link> link_;
};

/// This program is in a guest itself, and has a memory in common with another one: ports, such as a NIC that it drives, are served
/// there without a host of either in between. Doorbells of that guest come as interrupts; what it is to be woken by is a doorbell.
class neighbour final : public serving_guest {
public:
    neighbour(nm::context& ctx, const guest_settings& g, const ptnet_host::settings& s, nm::ptnet::sync_loop& loop) : serving_guest(g, loop) {
        nm::sys::ptnet_device_options how;
        how.way = nm::sys::ptnet_way::vfio;
        auto device = need(nm::sys::ptnet_device::open(g.device, how));
        auto memory = need(nm::ptnet::host_memory::within(device, device->base(), device->size()));
        memory->set_host_id(device->peer());
        open(ctx, memory, s);
        // The server numbers the two of them 1 and 2.
        link_ = need(nm::sys::ptnet_device::link(device, 3 - device->peer(), 0, static_cast<unsigned>(kicks().size())));
        begin();
    }

    void watch(std::vector<pollfd>& fds) const override {
        for (const auto& w : link_.wakes) fds.push_back({w.get(), POLLIN, 0});
        for (const int i : irqs()) fds.push_back({i, POLLIN, 0});
    }
    void tend() override {
        for (std::size_t v = 0; v < link_.wakes.size(); ++v) {
            if (nm::base::eventfd_clear(link_.wakes[v].get())) nm::base::eventfd_signal(kicks()[v]);
            if (nm::base::eventfd_clear(irqs()[v])) *link_.bells[v].door = link_.bells[v].value;
        }
    }
    [[nodiscard]] std::string instructions(std::size_t) const override {
        return fmt::format("{}: {} port(s) for the other guest of that memory\n", settings().device, settings().ports.size());
    }

private:
    nm::sys::ptnet_link link_;
};

/// A memory, and doorbells, for two guests among themselves.
class shared_memory final : public guest {
public:
    explicit shared_memory(const guest_settings& g) : guest(g) {
        const std::size_t bytes = std::size_t{g.shared_mib} << 20U;
        memory_ = need(nm::base::make_memfd("nm-ptnet-shared", bytes));
        std::vector<int> irqs;
        for (unsigned v = 0; v < vectors; ++v) irqs.push_back(irqs_.emplace_back(need(nm::base::make_eventfd())).get());
        if (auto ok = listen(memory_.get(), bytes, {}, std::move(irqs), 2); !ok) throw tool::run_error(ok.error().text);
    }
    [[nodiscard]] std::string report() const override { return path() + "\n"; }

private:
    static constexpr unsigned vectors = 33;  // of a port with as many rings as can be

    void left() override {}
    [[nodiscard]] std::string describe(std::size_t) const override { return {}; }
    [[nodiscard]] std::string ports_json() const override { return {}; }

    nm::base::unique_fd memory_;
    std::vector<nm::base::unique_fd> irqs_;
};

/// A guest with one port of a switch, which that switch's host drives: here only its memory and doorbells are passed on to QEMU, and
/// no frame goes through this program. Each guest that comes gets a new port in new memory.
class hosted_guest final : public guest {
public:
    explicit hosted_guest(const guest_settings& g) : guest(g) {
        if (auto ok = open(); !ok) throw tool::run_error(ok.error().text);
    }
    ~hosted_guest() override {
        if (grant_) farewell();
    }

    void watch(std::vector<pollfd>& fds) const override {
        guest::watch(fds);
        if (grant_) fds.push_back({grant_->channel.fd(), POLLIN, 0});
    }
    void tend() override {
        guest::tend();
        if (grant_ && !grant_->channel.alive()) {
            tool::print_err(fmt::format("{}: the host of {} has gone; the guest must be started anew\n", path(), name()));
            close();
        }
        if (grant_) return;
        // The name is free when the host has seen that the last one is gone.
        const auto now = std::chrono::steady_clock::now();
        if (now < next_try_) return;
        next_try_ = now + std::chrono::milliseconds(200);
        auto ok = open();
        if (!ok && said_ != ok.error().text) tool::print_err(fmt::format("{}: {}\n", path(), said_ = ok.error().text));
    }
    [[nodiscard]] std::string report() const override { return fmt::format("{:<16} {} (valectl has its counters)\n", name(), grant_ ? "open" : "gone"); }

private:
    [[nodiscard]] const std::string& name() const noexcept { return settings().ports.front(); }
    void left() override {
        close();
    }
    [[nodiscard]] nm::result<void> open() {
        const auto spec = tool::spec_of(name());
        nm::sys::port_wish wish;
        wish.tx_rings = spec.tx_rings.value_or(0);
        wish.rx_rings = spec.rx_rings.value_or(0);
        wish.tx_slots = spec.tx_slots.value_or(0);
        wish.rx_slots = spec.rx_slots.value_or(0);
        wish.exclusive = spec.exclusive;
        wish.eventfds = 1;  // QEMU's, and KVM's
        auto grant = nm::sys::open_at_host(spec.name.substr(0, spec.name.find(':')), spec.name, wish);
        if (!grant) return nm::forward_error(grant);
        if (grant->words.port != 0) return nm::fail(EPROTO, name() + ": its host serves it with others in one memory, which cannot be passed on");
        std::vector<int> kicks, irqs;
        for (const auto& k : grant->kicks) kicks.push_back(k.get());
        for (const auto& i : grant->irqs) irqs.push_back(i.get());
        if (auto ok = listen(grant->memory.get(), grant->words.size, std::move(kicks), std::move(irqs)); !ok) return ok;
        grant_.emplace(std::move(*grant));
        said_.clear();
        return {};
    }
    /// A guest cannot see that its host is gone; this program can, and tells it.
    void farewell() noexcept {
        auto map = nm::base::map_sealed(grant_->memory.get(), grant_->words.size);
        if (!map) return;
        auto& r = reinterpret_cast<nm::ptnet::memory_directory*>(map->data())->port[0];
        __atomic_store_n(&r.link, 0U, __ATOMIC_RELEASE);
        __atomic_store_n(&r.status, static_cast<std::uint32_t>(nm::ptnet::port_status::gone), __ATOMIC_RELEASE);
        for (const auto& i : grant_->irqs) nm::base::eventfd_signal(i.get());
    }
    void close() {
        if (grant_) farewell();
        hang_up();
        grant_.reset();
        next_try_ = {};
    }
    [[nodiscard]] std::string describe(std::size_t) const override { return name() + " (by the host of its switch)"; }
    [[nodiscard]] std::string ports_json() const override { return tool::json().add("name", name()).add("mode", "hosted").add("running", grant_.has_value()).text(); }

    // Its frames are counted by the switch's host, which nmctl metrics asks.
    void count_ports(tool::metrics& m) const override { count_running(m, name(), grant_.has_value()); }

    std::optional<nm::sys::port_grant> grant_;
    std::chrono::steady_clock::time_point next_try_{};
    std::string said_;
};

}  // namespace ptnet_host
