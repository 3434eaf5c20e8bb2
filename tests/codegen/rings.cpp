// SPDX-License-Identifier: BSD-2-Clause
// functions: ^unsigned int nm::(forward|generate|drain)<
// functions: ::rxsync\(\)
// functions: ::push\(unsigned int\)
// functions: ::take_back\(unsigned int\)
// One function per pair of ends that a frame can move between: none of their per-packet loops may hold a call.
#include "nm/fuse.hpp"
#include "nm/ports/null.hpp"
#include "nm/ports/pipe.hpp"

using pipe_tx_ring = nm::pipe::tx_ring_type;
using pipe_rx_ring = nm::pipe::rx_ring_type;
using null_tx_ring = nm::null_port::tx_ring_type;

nm::index_t forward_pipe_pipe(pipe_rx_ring& rx, pipe_tx_ring& tx, nm::index_t n) {
    return nm::forward(rx, tx, n);
}
nm::index_t forward_pipe_null(pipe_rx_ring& rx, null_tx_ring& tx, nm::index_t n) {
    return nm::forward(rx, tx, n);
}
nm::index_t forward_callable(pipe_rx_ring& rx, pipe_tx_ring& tx, nm::index_t n) {
    return nm::forward(rx, tx, n, [](nm::frame& f) noexcept {
        for (int i = 0; i < 6; ++i) std::swap(f.data()[i], f.data()[6 + i]);
        return f.size() < 64 ? nm::verdict::drop : nm::verdict::pass;
    });
}
nm::index_t generate_pipe(pipe_tx_ring& tx, nm::index_t n) {
    return nm::generate(tx, n, [](nm::frame& f) noexcept { f.resize(60); });
}
nm::index_t generate_null(null_tx_ring& tx, nm::index_t n) {
    return nm::generate(tx, n, [](nm::frame& f) noexcept { f.resize(60); });
}
nm::index_t drain_pipe(pipe_rx_ring& rx, nm::index_t n, unsigned& sum) {
    unsigned s = 0;
    const auto frames = nm::drain(rx, n, [&](nm::frame& f) noexcept { s += f.data()[0]; });
    sum = s;
    return frames;
}
nm::index_t rxsync_pipe(pipe_rx_ring& rx) { return rx.rxsync(); }
nm::index_t txsync_pipe(pipe_tx_ring& tx) { return tx.txsync(); }
