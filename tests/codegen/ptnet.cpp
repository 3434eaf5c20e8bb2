// SPDX-License-Identifier: BSD-2-Clause
// functions: ^unsigned int nm::(forward|generate|drain)<
// functions: ::rxsync\(\)
// functions: ::push\(unsigned int\)
// A guest's loops: none may hold a call, whatever is on the other side of the boundary.
#include "nm/fuse.hpp"
#include "nm/ports/pipe.hpp"
#include "nm/ptnet/port.hpp"

using guest_tx_ring = nm::ptnet_port::tx_ring_type;
using guest_rx_ring = nm::ptnet_port::rx_ring_type;

nm::index_t forward_guest_guest(guest_rx_ring& rx, guest_tx_ring& tx, nm::index_t n) { return nm::forward(rx, tx, n); }
nm::index_t forward_guest_pipe(guest_rx_ring& rx, nm::pipe::tx_ring_type& tx, nm::index_t n) { return nm::forward(rx, tx, n); }
nm::index_t forward_pipe_guest(nm::pipe::rx_ring_type& rx, guest_tx_ring& tx, nm::index_t n) { return nm::forward(rx, tx, n); }
nm::index_t generate_guest(guest_tx_ring& tx, nm::index_t n) {
    return nm::generate(tx, n, [](nm::frame& f) noexcept { f.resize(60); });
}
nm::index_t drain_guest(guest_rx_ring& rx, nm::index_t n, unsigned& sum) {
    unsigned s = 0;
    const auto frames = nm::drain(rx, n, [&](nm::frame& f) noexcept { s += f.data()[0]; });
    sum = s;
    return frames;
}
nm::index_t rxsync_guest(guest_rx_ring& rx) { return rx.rxsync(); }
nm::index_t txsync_guest(guest_tx_ring& tx) { return tx.txsync(); }
