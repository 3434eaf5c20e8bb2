// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Monitors across processes: a program that has a port open lets others of its user watch it.

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <unistd.h>
#include <utility>

#include "nm/ptnet/hand_over.hpp"
#include "nm/ptnet/host.hpp"
#include "nm/ptnet/process.hpp"
#include "nm/ptnet/sync_loop.hpp"
#include "nm/sys/control_server.hpp"
#include "nm/version.hpp"

namespace nm {

/// As long as it lives, `netmap:eth0/r`, `/t` and `/rt` can be opened by other programs of this user (process_port), when this one has
/// netmap:eth0 open; `netmap:p{1/rt` likewise. Without it they cannot: to be watched takes the permission of who has the port. Each of
/// them is a monitor here, in a memory that it shares with that program only: who watches sees copies, and costs the port what any
/// monitor costs it. `Monitor` is nm::monitor (ports/monitor.hpp). Has two threads, one that is asked and one that moves frames; ports are closed after it.
template <openable Monitor>
class watch_permit final : sys::control_server::handler {
public:
    static constexpr std::size_t most_watchers = 16;

    /// `name` is the port's, which need not be open yet. EBUSY: another program lets its port of that name be watched.
    [[nodiscard]] static result<std::unique_ptr<watch_permit>> create(context& ctx, std::string_view name) {
        auto spec = parse_port(name);
        if (!spec) return forward_error(spec);
        if (spec->monitor() || spec->kind == port_kind::vale)
            return fail(EINVAL, std::string(name) + ": a permit is for an interface, a device or a pipe; ports of a switch can be watched without");
        auto dir = sys::runtime_dir::open();
        if (!dir) return forward_error(dir);
        auto server = sys::control_server::create(std::move(*dir), process_port::watched_at(*spec));
        if (!server && server.error().code.value() == EBUSY)
            return fail(EBUSY, std::string(name) + ": another program lets it be watched already");
        if (!server) return forward_error(server);
        auto loop = ptnet::sync_loop::create();
        if (!loop) return forward_error(loop);
        return std::unique_ptr<watch_permit>(new watch_permit(ctx, *spec, std::move(*server), std::move(*loop)));
    }
    ~watch_permit() override {
        asked_ = {};
        mover_ = {};
    }

private:
    using client = sys::control_server::client;
    struct watcher {
        client who;
        std::shared_ptr<ptnet::service> what;
    };

    watch_permit(context& ctx, const port_spec& spec, std::unique_ptr<sys::control_server> server, std::unique_ptr<ptnet::sync_loop> loop)
        : ctx_(ctx), port_(spec), meets_at_(process_port::watched_at(spec)), loop_(std::move(loop)), server_(std::move(server)) {
        mover_ = std::jthread([this](const std::stop_token& stop) { loop_->run(stop); });
        asked_ = std::jthread([this](const std::stop_token& stop) {
            while (!stop.stop_requested()) server_->serve(*this, sys::milliseconds(100));
        });
    }

    void message(client from, sys::control_message m) override {
        auto h = m.type == sys::control_type::command ? tell(m.payload) : open(from, m);
        if (!h) {
            const error why = h.error();
            h.emplace();
            h->answer.type = sys::control_type::answer;
            h->answer.status = why.code.value();
            h->answer.payload = why.text.substr(0, sys::control_message::max_payload);
        }
        h->answer.sequence = m.sequence;
        server_->send(from, h->answer, h->fds);
    }
    void gone(client who) override {
        for (auto at = watchers_.begin(); at != watchers_.end();) {
            if (at->who == who) {
                loop_->remove(*at->what);
                at = watchers_.erase(at);
            } else {
                ++at;
            }
        }
    }

    /// Ports that are not the same may meet at one place: the pipe p{1 and an interface called p.m.1.
    [[nodiscard]] bool watched(const port_spec& s) const noexcept {
        return s.kind == port_.kind && s.name == port_.name && s.pipe_id == port_.pipe_id && s.pipe_slave == port_.pipe_slave;
    }
    [[nodiscard]] static tl::unexpected<error> only_watched() { return fail(EOPNOTSUPP, "this program only lets its port be watched"); }
    // What valectl asks of everybody who is met in that directory.
    [[nodiscard]] result<ptnet::handed_over> tell(const std::string& question) {
        ptnet::handed_over h;
        h.answer.type = sys::control_type::answer;
        const auto say = [&h](const char* name, const auto& value) {
            if constexpr (std::is_integral_v<std::decay_t<decltype(value)>>) h.answer.payload += std::string(name) + " " + std::to_string(value) + "\n";
            else h.answer.payload += std::string(name) + " " + value + "\n";
        };
        if (question == "host") {
            say("name", meets_at_);
            say("pid", ::getpid());
            say("version", NM_VERSION_STRING);
            say("num_ports", watchers_.size());
            say("clients", server_->clients());
            return h;
        }
        std::size_t wanted = 0;
        if (std::sscanf(question.c_str(), "item %zu", &wanted) != 1) return only_watched();
        if (wanted >= watchers_.size()) return fail(ENOENT, "there are no more that watch");
        const watcher& w = *std::next(watchers_.begin(), static_cast<std::ptrdiff_t>(wanted));
        const counters seen = w.what->stats().rx;
        say("name", w.what->name() + "#" + std::to_string(wanted));
        say("kind", "monitor");
        say("pid", server_->pid(w.who));
        say("from_port_frames", 0);
        say("from_port_dropped", 0);
        say("to_port_frames", seen.frames);
        say("to_port_bytes", seen.bytes);
        say("to_port_dropped", seen.dropped());
        return h;
    }
    [[nodiscard]] result<ptnet::handed_over> open(client from, const sys::control_message& m) {
        if (m.type != sys::control_type::open) return only_watched();
        const auto wish = m.words<sys::port_wish>();
        const auto spec = parse_port(m.name);
        if (!wish || !spec || !spec->monitor() || spec->zero_copy_monitor || spec->mem_id || !spec->share.empty() || !watched(*spec))
            return fail(EINVAL, "that is no monitor of this program's port");
        if (watchers_.size() == most_watchers) return fail(ENOSPC, m.name + ": up to " + std::to_string(most_watchers) + " can watch it at once");
        ptnet::host_options o;
        if (wish->rx_slots != 0) o.open.rx_slots = wish->rx_slots;
        o.open.extra_bufs = std::min(wish->extra_bufs, 4096U);
        auto bytes = ptnet::memory_for<Monitor>(ctx_, m.name, o);
        if (!bytes) return forward_error(bytes);
        auto memory = ptnet::host_memory::create(*bytes);
        if (!memory) return forward_error(memory);
        auto made = ptnet::serve<Monitor>(ctx_, *memory, m.name, o);
        if (!made) return forward_error(made);
        const std::shared_ptr<ptnet::service> s = std::move(*made);
        auto h = ptnet::hand_over(*s, **memory);
        if (!h) return forward_error(h);
        if (auto ok = loop_->add(s); !ok) return forward_error(ok);
        watchers_.push_back({from, s});
        server_->hold(from, true);
        return h;
    }

    context& ctx_;
    const port_spec port_;
    const std::string meets_at_;
    std::unique_ptr<ptnet::sync_loop> loop_;
    std::unique_ptr<sys::control_server> server_;
    std::list<watcher> watchers_;
    std::jthread mover_, asked_;
};

}  // namespace nm
