// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <chrono>
#include <poll.h>
#include <type_traits>
#include <utility>

#include "nm/fuse.hpp"
#include "nm/vale/port.hpp"

namespace nm::vale {

/// Any open port as a member of a switch (netmap's bwrap): what it receives is sent on the switch, what the switch has for
/// it goes out there. Its place on the switch lives in the port's own memory, so that between the two only buffers change
/// places: a frame is copied once on its way, into a buffer that the device then sends. Whoever owns it calls poll(), in
/// the thread that drives the device.
template <port_type P>
class bwrap {
public:
    /// Held by the member, so that no second one is made of the same rings.
    struct claim {
        std::string place;
    };
    bwrap(P port, vale_port here, base::unique_fd both, std::shared_ptr<claim> mine) noexcept
        : port_(std::move(port)), here_(std::move(here)), both_(std::move(both)), mine_(std::move(mine)) {}

    /// Moves up to `max` slots per ring in each direction; the frames moved.
    index_t poll(index_t max = 256) noexcept { return forward(port_, here_, max) + forward(here_, port_, max); }

    /// Readable when poll() has something to do, once armed.
    [[nodiscard]] int fd() const noexcept { return both_.get(); }
    [[gnu::cold]] void arm() noexcept {
        bool stuck = false;  // frames for the device, and no room there
        const index_t outputs = port_.num_tx_rings();
        for (index_t i = 0; i < here_.num_rx_rings() && outputs != 0; ++i) {
            (void)here_.rx(i).rxsync();
            stuck |= !here_.rx(i).empty() && port_.tx(i % outputs).empty();
        }
        port_.arm((stuck ? events::rx | events::tx : events::rx) | events::unsent);
        here_.arm(stuck || outputs == 0 ? events::none : events::rx);
    }
    /// Sleeps until poll() has something to do, at most `timeout`; negative: no limit. False on a timeout, a signal or when
    /// the port can do no more.
    [[nodiscard]] bool wait(std::chrono::milliseconds timeout) {
        arm();
        pollfd p{fd(), POLLIN, 0};
        return ::poll(&p, 1, timeout.count() < 0 ? -1 : static_cast<int>(std::min<std::int64_t>(timeout.count(), 1'000'000'000))) == 1 &&
               status();
    }
    /// An error when the port can do no more, or is on the switch no more.
    [[nodiscard]] result<void> status() {
        if (auto ok = port_.status(); !ok) return ok;
        return here_.status();
    }

    [[nodiscard]] P& port() noexcept { return port_; }
    [[nodiscard]] vale_port& on_switch() noexcept { return here_; }
    [[nodiscard]] const std::string& name() const noexcept { return here_.name(); }
    [[nodiscard]] port_number number() noexcept { return here_.number(); }

    /// `as` names its place: "vale0:eth0". Of the options, what is the switch's: the storm budget.
    [[nodiscard]] static result<bwrap> create(context& ctx, std::shared_ptr<switch_core> sw, P port, const std::string& as,
                                              const open_options& asked = {}) {
        // Handles of the same rings have the same descriptor; two members of them would take each other's frames.
        const std::string key = "member:" + std::to_string(port.fd()) + (port.num_tx_rings() == 0 ? "R" : port.num_rx_rings() == 0 ? "T" : "");
        if (const auto other = ctx.find<claim>(key))
            return fail(EBUSY, port.name() + " is a member already, as " + other->place + "; a port has one place on one switch");
        if constexpr (std::is_same_v<P, vale_port>)
            if (port.state().sw == sw) return fail(EINVAL, port.name() + " is a port of " + sw->name() + " itself");
        if constexpr (requires { port.memory(); port.carries_headers(); port.deliver_headers(true); })
            if (port.carries_headers()) port.deliver_headers(true);
        open_options o;
        o.tx_rings = std::max<index_t>(port.num_rx_rings(), 1);
        o.rx_rings = std::max<index_t>(port.num_tx_rings(), 1);
        if (*o.tx_rings > max_rings || *o.rx_rings > max_rings) o.tx_rings = o.rx_rings = max_rings;
        o.tx_slots = member_tx_slots;
        o.rx_slots = member_rx_slots;
        o.memory = port.memory();
        o.storm_copies = asked.storm_copies;
        port_spec spec;
        spec.kind = port_kind::vale;
        spec.name = as;
        header head = header::none;
        if constexpr (requires { port.carries_headers(); })
            if (port.carries_headers()) head = header::in_slot;
        auto here = vale_port::create(ctx, sw, spec, o, head);
        if (!here && here.error().code.value() == ENOMEM) {
            o.memory.reset();  // the port's memory has no room: one copy more
            here = vale_port::create(ctx, sw, spec, o, head);
        }
        if (!here) return forward_error(here);
        const int fds[] = {port.fd(), here->fd()};
        auto both = base::make_epoll(as, fds);
        if (!both) return forward_error(both);
        auto mine = std::make_shared<claim>(claim{as});
        ctx.keep(key, mine);
        return bwrap(std::move(port), std::move(*here), std::move(*both), std::move(mine));
    }

private:
    P port_;
    vale_port here_;
    base::unique_fd both_;
    std::shared_ptr<claim> mine_;
};

}  // namespace nm::vale
