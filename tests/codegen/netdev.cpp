// SPDX-License-Identifier: BSD-2-Clause
// functions: ^unsigned int nm::(forward|generate|drain)<
// functions: ::rxsync\(\)
// functions: ::push\(unsigned int\)
// functions: ::take_back\(unsigned int\)
// The kernel interface in every role: no call in the per-packet loop. What is done once per run or batch (a publish, a
// refill, a look for chains) stays out of it.
#include "nm/fuse.hpp"
#include "nm/ports/netdev_backend.hpp"
#include "nm/ports/null.hpp"
#include "nm/ports/pipe.hpp"

using tx = nm::tx_ring<nm::netdev_tx>;
using rx = nm::rx_ring<nm::netdev_rx>;

nm::index_t netdev_netdev(rx& from, tx& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t netdev_pipe(rx& from, nm::pipe::tx_ring_type& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t pipe_netdev(nm::pipe::rx_ring_type& from, tx& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t netdev_null(rx& from, nm::null_port::tx_ring_type& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t generate_netdev(tx& to, nm::index_t n) {
    return nm::generate(to, n, [](nm::frame& f) noexcept { f.resize(60); });
}
nm::index_t drain_netdev(rx& from, nm::index_t n, unsigned& sum) {
    unsigned s = 0;
    const auto frames = nm::drain(from, n, [&](nm::frame& f) noexcept { s += f.data()[0]; });
    sum = s;
    return frames;
}
nm::index_t rxsync_netdev(rx& r) { return r.rxsync(); }
nm::index_t txsync_netdev(tx& r) { return r.txsync(); }
