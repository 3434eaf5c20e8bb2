// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "nm/vale/bwrap.hpp"
#include "nm/vale/port.hpp"

namespace nm::vale {

/// A VALE switch in this process: up to 254 ports, each a pair of rings (or up to 16). A frame is forwarded in the
/// context of whoever calls txsync; senders may be on several threads at once, ports may come and go meanwhile. The lookup
/// is the template argument: `learning`, or any callable that says where a frame goes (lookup.hpp). Lives as long as it or
/// one of its ports. Source: Rizzo, Lettieri: "VALE, a switched ethernet for virtual machines", CoNEXT 2012.
template <vale_lookup L = learning>
class vale_switch {
public:
    /// `args` make the lookup. EEXIST if the context has a switch of that name.
    template <class... Args>
    [[nodiscard]] static result<vale_switch> create(context& ctx, std::string_view name, Args&&... args) {
        auto spec = parse_port(std::string(name) + ":x");
        if (!spec || spec->kind != port_kind::vale || spec->name != std::string(name) + ":x")
            return fail(EINVAL, "\"" + std::string(name) + "\" is no name for a switch: it is \"vale\" and letters, digits, '_'");
        const auto guard = ctx.opening();
        const std::string key = "vale:" + std::string(name);
        if (ctx.find<switch_core>(key)) return fail(EEXIST, std::string(name) + " exists already in this program; make the vale_switch once, and before a port of it is opened by name");
        auto state = std::make_shared<switch_state<L>>(std::string(name), std::forward<Args>(args)...);
        ctx.keep<switch_core>(key, state);
        return vale_switch(ctx, std::move(state));
    }
#if defined(__cpp_exceptions)
    template <class... Args>
    explicit vale_switch(context& ctx, std::string_view name, Args&&... args)
        : vale_switch(value_or_throw(create(ctx, name, std::forward<Args>(args)...))) {}
#endif

    [[nodiscard]] const std::string& name() const noexcept { return state_->name(); }
    [[nodiscard]] L& lookup() noexcept { return state_->lookup(); }

    /// A new port; EEXIST if there is one of that name. (open<vale_port>(ctx, "vale0:a") would share it.)
    [[nodiscard]] result<vale_port> try_new_port(std::string_view port, const open_options& o = {}) {
        const std::string full = name() + ":" + std::string(port);
        auto spec = parse_port(full);
        if (!spec) return forward_error(spec);
        if (!vale_port::matches(*spec)) return fail(EINVAL, "\"" + full + "\" is no name for a port of a switch");
        const auto guard = ctx_->opening();
        return vale_port::create(*ctx_, state_, *spec, nm::detail::merged(*spec, o));
    }
#if defined(__cpp_exceptions)
    [[nodiscard]] vale_port new_port(std::string_view port, const open_options& o = {}) {
        return value_or_throw(try_new_port(port, o));
    }
#endif

    /// Makes an open port a member, as "NAME:as"; its own name when `as` is empty. The bwrap is its owner then: poll() it.
    template <port_type P>
    [[nodiscard]] result<bwrap<P>> try_attach(P port, std::string_view as = {}, const open_options& o = {}) {
        const std::string full = name() + ":" + (as.empty() ? port.name() : std::string(as));
        return bwrap<P>::create(*ctx_, state_, std::move(port), full, o);
    }
    /// The interface of that name (valectl -a), and with_host also its host rings as a second member "eth0^" (valectl -h):
    /// `attach<netdev>("eth0")`. One bwrap, or two; poll() each.
    template <openable P>
    [[nodiscard]] result<std::vector<bwrap<P>>> try_attach(std::string_view interface, bool with_host = false, open_options o = {}) {
        o.offloads = true;
        std::vector<bwrap<P>> members;
        for (const char* part : {"", "^"}) {
            if (*part != 0 && !with_host) break;
            const std::string as = std::string(interface) + part;
            auto port = nm::try_open<P>(*ctx_, "netmap:" + as, o);
            if (!port) return forward_error(port);
            auto made = try_attach(std::move(*port), as, o);
            if (!made) return forward_error(made);
            members.push_back(std::move(*made));
        }
        return members;
    }
#if defined(__cpp_exceptions)
    template <port_type P>
    [[nodiscard]] bwrap<P> attach(P port, std::string_view as = {}, const open_options& o = {}) {
        return value_or_throw(try_attach(std::move(port), as, o));
    }
    template <openable P>
    [[nodiscard]] std::vector<bwrap<P>> attach(std::string_view interface, bool with_host = false, const open_options& o = {}) {
        return value_or_throw(try_attach<P>(interface, with_host, o));
    }
#endif

    /// Takes the port of that name off the switch, during traffic or not; whoever has it open sends into nothing then.
    [[nodiscard]] result<void> detach(std::string_view port) { return state_->detach(std::string(port)); }

    [[nodiscard]] std::vector<port_stats> ports() const { return state_->ports(); }
    [[nodiscard]] switch_stats stats() const { return state_->stats(); }

private:
    vale_switch(context& ctx, std::shared_ptr<switch_state<L>> s) noexcept : ctx_(&ctx), state_(std::move(s)) {}

    context* ctx_;
    std::shared_ptr<switch_state<L>> state_;
};

}  // namespace nm::vale
