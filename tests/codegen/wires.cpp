// SPDX-License-Identifier: BSD-2-Clause
// functions: ^unsigned int nm::(forward|generate|drain)<
// functions: ::rxsync\(\)
// functions: ::push\(unsigned int\)
// functions: ::take_back\(unsigned int\)
// cold: ::take_chain\(
// The same as rings.cpp, with a pipe whose other end is in another process: what is checked costs no call.
#include "nm/fuse.hpp"
#include "nm/ports/pipe.hpp"
#include "nm/ports/pipe_wire.hpp"

using wire_tx_ring = nm::tx_ring<nm::pipe_tx<nm::eventfd_notifier, nm::checked_peer>>;
using wire_rx_ring = nm::rx_ring<nm::wire_rx<>>;

nm::index_t forward_wire_wire(wire_rx_ring& rx, wire_tx_ring& tx, nm::index_t n) { return nm::forward(rx, tx, n); }
nm::index_t forward_pipe_wire(nm::pipe::rx_ring_type& rx, wire_tx_ring& tx, nm::index_t n) { return nm::forward(rx, tx, n); }
nm::index_t forward_wire_pipe(wire_rx_ring& rx, nm::pipe::tx_ring_type& tx, nm::index_t n) { return nm::forward(rx, tx, n); }
nm::index_t generate_wire(wire_tx_ring& tx, nm::index_t n) {
    return nm::generate(tx, n, [](nm::frame& f) noexcept { f.resize(60); });
}
nm::index_t drain_wire(wire_rx_ring& rx, nm::index_t n, unsigned& sum) {
    unsigned s = 0;
    const auto frames = nm::drain(rx, n, [&](nm::frame& f) noexcept { s += f.data()[0]; });
    sum = s;
    return frames;
}
nm::index_t rxsync_wire(wire_rx_ring& rx) { return rx.rxsync(); }
nm::index_t txsync_wire(wire_tx_ring& tx) { return tx.txsync(); }
