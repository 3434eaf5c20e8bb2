// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// One virtual machine as ptnet-host has it: a memory with ports in it, and QEMU's way to both.

#include <filesystem>
#include <memory>
#include <optional>
#include <poll.h>
#include <string>
#include <utility>
#include <vector>

#include "common/metrics.hpp"
#include "common/open.hpp"
#include "common/rates.hpp"
#include "settings.hpp"

#include "nm/sys/ivshmem.hpp"

namespace ptnet_host {

template <class T>
[[nodiscard]] T need(nm::result<T> r) {
    if (!r) throw tool::run_error(r.error().text);
    return std::move(*r);
}

class guest {
public:
    explicit guest(const guest_settings& g) : settings_(g), path_(g.device.empty() ? std::filesystem::absolute(g.socket).string() : g.device) {}
    guest(const guest&) = delete;
    guest& operator=(const guest&) = delete;
    virtual ~guest() = default;

    /// What tend() is to be called for.
    virtual void watch(std::vector<pollfd>& fds) const {
        if (server_) fds.push_back({server_->fd(), POLLIN, 0});
    }
    /// Whoever comes and goes.
    virtual void tend() {
        while (server_) {
            const auto e = server_->poll();
            if (!e) break;
            using kind = nm::sys::ivshmem_event::kind;
            if (may_say_more()) tool::print_err(fmt::format("{}: process {} has {}\n", path_, e->pid, e->what == kind::joined ? "connected" : "gone"));
            if (e->what == kind::left) left();
        }
    }

    /// What QEMU is to be started with, and what the ports are called in the guest.
    [[nodiscard]] virtual std::string instructions(std::size_t number) const {
        const auto id = "nm" + std::to_string(number);
        std::string text = fmt::format("{}: {} KiB, {} vectors\n  -chardev socket,path={},id={} -device ivshmem-doorbell,chardev={},vectors={}\n", path_,
                                       bytes_ / 1024, vectors_, path_, id, id, vectors_);
        if (settings_.nvdimm)
            text += fmt::format("  -machine nvdimm=on -m SIZE,slots=2,maxmem=MORE -object memory-backend-file,id={}m,share=on,mem-path={}.mem,size={}K "
                                "-device nvdimm,memdev={}m\n", id, path_, nvdimm_bytes_ / 1024, id);
        for (std::size_t i = 0; i < settings_.ports.size(); ++i)
            text += fmt::format("  ptnet:ADDRESS{}  is {}\n", i == 0 ? "  " : ":" + std::to_string(i), describe(i));
        return text;
    }
    /// A line per port.
    [[nodiscard]] virtual std::string report() const = 0;
    [[nodiscard]] tool::json to_json() const {
        const auto c = comings_and_goings();
        return tool::json().add("socket", path_).add("bytes", bytes_).add("vectors", vectors_).add("joined", c.joined).add("left", c.left)
            .add("refused", c.full + c.strangers).add("dropped", c.dropped).raw("ports", "[" + ports_json() + "]");
    }

    void count(tool::metrics& m) const {
        const tool::metrics::labels who{{"tool", "ptnet-host"}, {"socket", path_}};
        const auto c = comings_and_goings();
        m.counter("nm_guest_joined", "Times that a guest has connected.", who, c.joined);
        m.counter("nm_guest_left", "Times that a guest has gone.", who, c.left);
        m.counter("nm_guest_refused", "Those who connected and were turned away: there was a guest already, or they are another user's.", who, c.full + c.strangers);
        m.counter("nm_guest_dropped", "Guests that were sent away for what they said, or for not taking what they were sent.", who, c.dropped);
        m.gauge("nm_guest_memory_bytes", "Memory that a guest has with its host.", who, bytes_);
        count_ports(m);
    }
    /// For --csv: in is what came from the guest.
    virtual void add_looks(std::vector<tool::port_look>&) const {}

protected:
    [[nodiscard]] const guest_settings& settings() const noexcept { return settings_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    virtual void left() = 0;
    [[nodiscard]] virtual std::string describe(std::size_t port) const = 0;
    [[nodiscard]] virtual std::string ports_json() const = 0;
    virtual void count_ports(tool::metrics&) const {}
    static void count_running(tool::metrics& m, const std::string& port, bool running) {
        m.gauge("nm_port_running", "1: a guest uses the port.", tool::labels_of("ptnet-host", port), running ? 1 : 0);
    }

    [[nodiscard]] nm::result<void> listen(int memory, std::size_t bytes, std::vector<int> kicks, std::vector<int> irqs, unsigned guests = 1) {
        bytes_ = bytes;
        vectors_ = irqs.size();
        nm::sys::ivshmem_options o;
        o.path = settings_.socket;
        o.memory = memory;
        o.kicks = std::move(kicks);
        o.irqs = std::move(irqs);
        o.guests = guests;
        auto s = nm::sys::ivshmem_server::listen(std::move(o));
        if (!s) return nm::forward_error(s);
        server_.emplace(std::move(*s));
        return {};
    }
    void hang_up() {
        if (server_) add(before_, server_->counters());
        server_.reset();
    }
    void set_nvdimm_bytes(std::size_t n) noexcept { nvdimm_bytes_ = n; }

private:
    [[nodiscard]] nm::sys::ivshmem_counters comings_and_goings() const noexcept {
        auto c = before_;
        if (server_) add(c, server_->counters());
        return c;
    }
    /// Ten lines a second, whatever those who connect do.
    [[nodiscard]] bool may_say_more() noexcept {
        const auto second = nm::system_clock::now_ns() / 1'000'000'000;
        if (std::exchange(second_, second) != second) lines_ = 0;
        return ++lines_ <= 10;
    }
    static void add(nm::sys::ivshmem_counters& to, const nm::sys::ivshmem_counters& c) noexcept {
        to.joined += c.joined;
        to.left += c.left;
        to.full += c.full;
        to.strangers += c.strangers;
        to.dropped += c.dropped;
    }

    guest_settings settings_;
    std::string path_;
    std::size_t bytes_ = 0, vectors_ = 0, nvdimm_bytes_ = 0;
    std::uint64_t second_ = 0;
    unsigned lines_ = 0;
    std::optional<nm::sys::ivshmem_server> server_;
    nm::sys::ivshmem_counters before_;
};

}  // namespace ptnet_host
