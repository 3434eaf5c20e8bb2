// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// A NIC's queues in every role; instantiate it for a device, and check.py looks at what comes of it.
#include "nm/fuse.hpp"
#include "nm/ports/nic.hpp"
#include "nm/ports/null.hpp"
#include "nm/ports/pipe.hpp"

template <class Device>
struct nic_roads {
    using tx = typename nm::nic<Device>::tx_ring_type;
    using rx = typename nm::nic<Device>::rx_ring_type;

    static nm::index_t nic_nic(rx& from, tx& to, nm::index_t n) { return nm::forward(from, to, n); }
    static nm::index_t nic_pipe(rx& from, nm::pipe::tx_ring_type& to, nm::index_t n) { return nm::forward(from, to, n); }
    static nm::index_t pipe_nic(nm::pipe::rx_ring_type& from, tx& to, nm::index_t n) { return nm::forward(from, to, n); }
    static nm::index_t nic_null(rx& from, nm::null_port::tx_ring_type& to, nm::index_t n) { return nm::forward(from, to, n); }
    static nm::index_t generate_nic(tx& to, nm::index_t n) {
        return nm::generate(to, n, [](nm::frame& f) noexcept { f.resize(60); });
    }
    static nm::index_t drain_nic(rx& from, nm::index_t n, unsigned& sum) {
        unsigned s = 0;
        const auto frames = nm::drain(from, n, [&](nm::frame& f) noexcept { s += f.data()[0]; });
        sum = s;
        return frames;
    }
    static nm::index_t rxsync_nic(rx& r) { return r.rxsync(); }
    static nm::index_t txsync_nic(tx& r) { return r.txsync(); }
};
