// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// One virtual machine as ptnet-host has it: a memory, the ports in it, and QEMU's way to both.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "common/open.hpp"
#include "settings.hpp"

#include "nm/ptnet/host.hpp"
#include "nm/ptnet/sync_loop.hpp"
#include "nm/sys/ivshmem.hpp"

namespace ptnet_host {

using ports = nm::all_ports;
using service_ptr = std::shared_ptr<nm::ptnet::service>;

template <class T>
[[nodiscard]] T need(nm::result<T> r) {
    if (!r) throw tool::run_error(r.error().text);
    return std::move(*r);
}

class guest {
public:
    guest(nm::context& ctx, const guest_settings& g, const settings& s, nm::ptnet::sync_loop& loop) : loop_(loop) {
        std::size_t bytes = 0;
        for (const auto& name : g.ports) bytes += need(nm::ptnet::memory_for<ports>(ctx, name, s.host));
        memory_ = need(nm::ptnet::host_memory::create(bytes));
        for (const auto& name : g.ports) services_.emplace_back(need(nm::ptnet::serve<ports>(ctx, memory_, name, s.host)));
        nm::sys::ivshmem_options o;
        o.path = std::filesystem::absolute(g.socket).string();
        o.memory = memory_->fd();
        for (const auto& p : services_)
            for (unsigned v = 0; v < p->vectors(); ++v) {
                o.kicks.push_back(p->kick_fd(v));
                o.irqs.push_back(p->irq_fd(v));
            }
        server_.emplace(need(nm::sys::ivshmem_server::listen(std::move(o))));
        for (const auto& p : services_)
            if (auto ok = loop_.add(p); !ok) throw tool::run_error(ok.error().text);
    }
    guest(const guest&) = delete;
    guest& operator=(const guest&) = delete;
    ~guest() {
        for (const auto& p : services_) loop_.remove(*p);
    }

    [[nodiscard]] int fd() const noexcept { return server_->fd(); }
    /// Whoever comes and goes.
    void tend() {
        while (const auto e = server_->poll()) {
            using kind = nm::sys::ivshmem_event::kind;
            tool::print_err(fmt::format("{}: process {} has {}\n", socket(), e->pid, e->what == kind::joined ? "connected" : "gone"));
            if (e->what == kind::left)
                for (const auto& p : services_) stop(p);
        }
    }

    /// What QEMU is to be started with, and what the ports are called in the guest.
    [[nodiscard]] std::string instructions(std::size_t number) const {
        const auto id = "nm" + std::to_string(number);
        std::string text = fmt::format("{}: {} KiB, {} vectors\n  -chardev socket,path={},id={} -device ivshmem-doorbell,chardev={},vectors={}\n", socket(),
                                       memory_->size() / 1024, memory_->vectors(), socket(), id, id, memory_->vectors());
        for (std::size_t i = 0; i < services_.size(); ++i)
            text += fmt::format("  ptnet:ADDRESS{}  is {} ({})\n", i == 0 ? "  " : ":" + std::to_string(i), services_[i]->name(), services_[i]->info().mode);
        return text;
    }
    [[nodiscard]] const std::string& socket() const noexcept { return server_->path(); }
    [[nodiscard]] const std::vector<service_ptr>& services() const noexcept { return services_; }
    [[nodiscard]] const nm::sys::ivshmem_counters& counters() const noexcept { return server_->counters(); }

    [[nodiscard]] tool::json to_json() const {
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
        const auto& c = counters();
        return tool::json().add("socket", socket()).add("bytes", memory_->size()).add("vectors", memory_->vectors()).add("joined", c.joined).add("left", c.left)
            .add("refused", c.full + c.strangers).add("dropped", c.dropped).raw("ports", "[" + list + "]");
    }

private:
    /// Its guest is gone: what it said last does not count any more. Not while the loop visits it.
    void stop(const service_ptr& p) {
        if (!loop_.remove(*p)) return;
        p->stop();
        if (auto ok = loop_.add(p); !ok) throw tool::run_error(ok.error().text);
    }

    nm::ptnet::sync_loop& loop_;
    std::shared_ptr<nm::ptnet::host_memory> memory_;
    std::vector<service_ptr> services_;
    std::optional<nm::sys::ivshmem_server> server_;
};

}  // namespace ptnet_host
