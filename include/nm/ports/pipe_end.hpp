// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What an end of a pipe is, whether its other end is in this process (pipe.hpp) or in another (shared_pipe.hpp).

#include <algorithm>
#include <string>
#include <utility>

#include "nm/ports/pipe_backend.hpp"
#include "nm/wakes.hpp"

namespace nm {

/// One end of a pipe: its rings, and the descriptors that sleep on them.
template <class Tx, class Rx>
struct basic_pipe_end : port_state<Tx, Rx> {
    using port_state<Tx, Rx>::rx;
    using port_state<Tx, Rx>::tx;
    ring_wakes wakes;
    bool asymmetric = false;

    [[nodiscard]] int fd(const ring_view& v) const noexcept { return wakes.fd(v); }

    [[gnu::cold]] void arm(events e, const ring_view& v) noexcept {
        const index_t rx_end = any(e & events::rx) ? v.rx_first + v.rx_count : v.rx_first;
        const index_t tx_end = any(e & events::tx) ? v.tx_first + v.tx_count : v.tx_first;
        for (index_t i = v.rx_first; i != rx_end; ++i) {
            rx[i].backend().armed = true;
            rx[i].backend().link->rx_sleeps.arm();
        }
        for (index_t i = v.tx_first; i != tx_end; ++i) {
            tx[i].backend().armed = true;
            tx[i].backend().link->tx_sleeps.arm();
        }
        sleep_barrier(asymmetric);
        for (index_t i = v.rx_first; i != rx_end; ++i)
            if (!rx[i].empty() || rx[i].backend().ready(rx[i].truth().hwtail)) {
                rx[i].backend().link->rx_sleeps.found();
                base::eventfd_signal(wakes.fd(i));
            }
        for (index_t i = v.tx_first; i != tx_end; ++i)
            if (!tx[i].empty() || tx[i].backend().freed()) {
                tx[i].backend().link->tx_sleeps.found();
                base::eventfd_signal(wakes.fd(i));
            }
    }

protected:
    /// A sync of one ring must not take the wake-up of the other one with the same descriptor.
    void set_beside() noexcept {
        for (std::size_t i = 0; i < std::min(tx.size(), rx.size()); ++i) {
            tx[i].backend().beside = &rx[i].backend().link->rx_sleeps;
            rx[i].backend().beside = &tx[i].backend().link->tx_sleeps;
        }
    }
};

/// The shapes of a pipe's two ends, from what an open asks for.
struct pipe_shape {
    /// The master's. The options speak of the end being opened.
    [[nodiscard]] static port_shape of(const open_options& o, bool slave) {
        port_shape s = port_shape::asked(o);
        s.rx_bufs = false;  // an rx slot has the buffer of the tx slot it is paired with
        return slave ? swapped(s) : s;
    }
    /// The other end's.
    [[nodiscard]] static port_shape crossed(port_shape s) {
        s.extra_bufs = 0;
        return swapped(s);
    }
    [[nodiscard]] static std::string name(const port_spec& spec, bool slave) { return spec.name + (slave ? "}" : "{") + spec.pipe_id; }

    [[nodiscard]] static port_info named(const std::string& name, port_info i) {
        i.name = name;
        i.mode = "pipe";
        return i;
    }
    /// What a pipe would be that nobody has opened.
    [[nodiscard]] static result<port_info> query(const port_spec& spec, const open_options& o) {
        const port_shape master = of(o, spec.pipe_slave);
        if (auto ok = master.check(spec.identity()); !ok) return forward_error(ok);
        const port_shape s = spec.pipe_slave ? crossed(master) : master;
        return named(name(spec, spec.pipe_slave), s.info(preferred_stride, std::size_t{2 + s.bufs() + crossed(s).bufs()} * preferred_stride));
    }

private:
    [[nodiscard]] static port_shape swapped(port_shape s) {
        std::swap(s.tx_rings, s.rx_rings);
        std::swap(s.tx_slots, s.rx_slots);
        return s;
    }
};

}  // namespace nm
