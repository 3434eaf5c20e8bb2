// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Opens a port in memory that somebody else will see, and serves it there (served.hpp).

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "nm/any_port.hpp"
#include "nm/ptnet/host_memory.hpp"
#include "nm/ptnet/served.hpp"
#include "nm/ptnet/service.hpp"

namespace nm::ptnet {

namespace detail {

/// How much room a port and its two sides' blocks need.
struct service_size {
    std::uint32_t bufs = 0, buf_size = 0;
    std::size_t meta_bytes = 0;
};
[[nodiscard]] inline service_size size_of(const port_info& i, const open_options& o) {
    // A NIC does not say before it is open; its buffers are of a size that every one takes (docs/nics.md, Memory).
    const bool unknown = i.tx_slots == 0 && i.rx_slots == 0;
    const index_t tx_slots = unknown ? 1024 : i.tx_slots, rx_slots = unknown ? 1024 : i.rx_slots;
    const auto rings = [](index_t n, index_t slots) { return static_cast<std::size_t>(n) * object_pool::rounded(ring_bytes(slots)); };
    const std::uint32_t slots = i.tx_rings * tx_slots + i.rx_rings * rx_slots;
    service_size s;
    // Twice: a pipe has two ends in one memory, and a kernel interface its host rings. Then spare buffers for repairs.
    s.bufs = 2 + 2 * slots + slots / 8 + 64 + o.extra_bufs;
    s.buf_size = i.buf_size != 0 ? i.buf_size : i.mode == "vfio" ? 2048 : preferred_stride;
    s.meta_bytes = 2 * (rings(i.tx_rings, tx_slots) + rings(i.rx_rings, rx_slots)) + 65536;
    return s;
}

template <class Port>
[[nodiscard]] result<std::unique_ptr<service>> serve_port(const std::shared_ptr<host_memory>& memory, Port port, host_memory::place place, const host_options& o) {
    const index_t tx = port.num_tx_rings(), rx = port.num_rx_rings();
    if (tx + rx > max_rings || tx + rx == 0)
        return fail(EINVAL, port.name() + " has " + std::to_string(tx + rx) + " rings; 1 to " + std::to_string(max_rings) + " can be passed through");
    if (port.memory() != place.memory)
        return fail(EBUSY, port.name() + " is open in this program, in memory of its own; a port that is passed through lives in the memory that is shared");
    auto s = std::make_unique<served<Port>>(std::move(port), std::move(place));
    if (auto ok = s->begin(memory, o, tx, rx); !ok) return forward_error(ok);
    return std::unique_ptr<service>(std::move(s));
}

}  // namespace detail

/// Bytes that serving the port of that name takes in a host_memory.
template <class Ports>
[[nodiscard]] result<std::size_t> memory_for(context& ctx, std::string_view name, const host_options& o = {}) {
    auto info = nm::query<Ports>(ctx, name, o.open);
    if (!info) return forward_error(info);
    const auto s = detail::size_of(*info, o.open);
    return host_memory::bytes_for(s.bufs, s.buf_size, s.meta_bytes);
}

/// Opens the port of that name in `memory` and serves it there. `Ports` is a kind of port, or a list of them. The port must not be
/// open here already. Then a sync_loop visits it.
template <class Ports>
[[nodiscard]] result<std::unique_ptr<service>> serve(context& ctx, const std::shared_ptr<host_memory>& memory, std::string_view name, const host_options& o = {}) {
    auto info = nm::query<Ports>(ctx, name, o.open);
    if (!info) return forward_error(info);
    const auto size = detail::size_of(*info, o.open);
    const auto before = memory->mark();
    auto made = [&]() -> result<std::unique_ptr<service>> {
        auto place = memory->place_port(size.bufs, size.buf_size, size.meta_bytes);
        if (!place) return forward_error(place);
        open_options with = o.open;
        with.memory = place->memory;
        auto port = nm::try_open<Ports>(ctx, name, with);
        if (!port) return forward_error(port);
        if constexpr (list_of_ports<Ports>)
            return std::visit([&]<class P>(P& p) { return detail::serve_port(memory, std::move(p), std::move(*place), o); }, *port);
        else return detail::serve_port(memory, std::move(*port), std::move(*place), o);
    }();
    if (made) memory->publish_port();
    else memory->back_to(before);
    return made;
}

}  // namespace nm::ptnet
