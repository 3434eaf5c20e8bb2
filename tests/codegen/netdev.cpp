// SPDX-License-Identifier: BSD-2-Clause
// The kernel interface in every role: no call in the per-packet loop. (flatten: see rings.cpp. The batch's own calls,
// one publish or refill for many packets, are not inlined by their attributes.)
#include "nm/fuse.hpp"
#include "nm/ports/netdev_backend.hpp"
#include "nm/ports/null.hpp"
#include "nm/ports/pipe.hpp"

using tx = nm::tx_ring<nm::netdev_tx>;
using rx = nm::rx_ring<nm::netdev_rx>;

nm::index_t codegen_forward_netdev_netdev(rx& from, tx& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t codegen_forward_netdev_pipe(rx& from, nm::pipe::tx_ring_type& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t codegen_forward_pipe_netdev(nm::pipe::rx_ring_type& from, tx& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t codegen_forward_netdev_null(rx& from, nm::null_port::tx_ring_type& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t codegen_generate_netdev(tx& to, nm::index_t n) {
    return nm::generate(to, n, [](nm::frame& f) noexcept { f.resize(60); });
}
nm::index_t codegen_drain_netdev(rx& from, nm::index_t n, unsigned& sum) {
    unsigned s = 0;
    const auto frames = nm::drain(from, n, [&](nm::frame& f) noexcept { s += f.data()[0]; });
    sum = s;
    return frames;
}
nm::index_t codegen_rxsync_netdev(rx& r) { return r.rxsync(); }
nm::index_t codegen_txsync_netdev(tx& t) { return t.txsync(); }
