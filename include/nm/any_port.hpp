// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "nm/port.hpp"

namespace nm {

/// The kinds of port that a program is ready to open by a name known only at run time.
template <openable... Ports>
struct port_list {
    using variant = std::variant<Ports...>;
    [[nodiscard]] static std::string kinds() {
        std::string all;
        ((all += (all.empty() ? "" : ", ") + std::string(Ports::kind_name)), ...);
        return all;
    }
};

template <class... Ports>
using any_port = std::variant<Ports...>;

namespace detail {

template <class List>
struct list_access;

template <class... Ports>
struct list_access<port_list<Ports...>> {
    using list = port_list<Ports...>;
    using variant = typename list::variant;

    template <class R, class Use>
    [[nodiscard]] static result<R> first_match(std::string_view name, const open_options& o, Use&& use) {
        auto spec = parse_port(name);
        if (!spec) return forward_error(spec);
        const open_options merged_options = merged(*spec, o);
        std::optional<result<R>> r;  // emplaced: without exceptions, assigning a tl::expected copies
        const bool found = ((Ports::matches(*spec) && (r.emplace(use.template operator()<Ports>(*spec, merged_options)), true)) || ...);
        if (found) return std::move(*r);
        auto e = no_backend(name, *spec, list::kinds());
        return forward_error(e);
    }
};

}  // namespace detail

template <class List>
concept list_of_ports = requires { typename detail::list_access<List>::variant; };

/// Opens whatever the name says, as a variant: visit it once, outside the loop, and the loop is as fused as any.
template <list_of_ports List>
[[nodiscard]] auto try_open(context& ctx, std::string_view name, const open_options& o = {})
    -> result<typename detail::list_access<List>::variant> {
    using variant = typename detail::list_access<List>::variant;
    const auto guard = ctx.opening();
    return detail::list_access<List>::template first_match<variant>(
        name, o, [&ctx]<class P>(const port_spec& spec, const open_options& merged_options) -> result<variant> {
            auto p = P::open(ctx, spec, merged_options);
            if (!p) return forward_error(p);
            return variant(std::in_place_type<P>, std::move(*p));
        });
}

template <list_of_ports List>
[[nodiscard]] result<port_info> query(context& ctx, std::string_view name, const open_options& o = {}) {
    return detail::list_access<List>::template first_match<port_info>(
        name, o, [&ctx]<class P>(const port_spec& spec, const open_options& merged_options) {
            return P::query(ctx, spec, merged_options);
        });
}

}  // namespace nm
