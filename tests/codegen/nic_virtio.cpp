// SPDX-License-Identifier: BSD-2-Clause
// functions: ^unsigned int nm::(forward|generate|drain)<
// functions: ::rxsync\(\)
// functions: ::push\(unsigned int\)
// functions: ::take_back\(unsigned int\)
// virtio queues in every role: no call in the per-packet loop, but for frames that are merged, or completions that cannot be.
// cold: nm::virtio::(lied|skip|postings::part|flights::overtake)\(
#include "nm/fuse.hpp"
#include "nm/ports/nic.hpp"
#include "nm/ports/null.hpp"
#include "nm/ports/pipe.hpp"
#include "nm/ports/virtio_net.hpp"

using virtio = nm::nic<nm::virtio_net>;
using tx = virtio::tx_ring_type;
using rx = virtio::rx_ring_type;

nm::index_t virtio_virtio(rx& from, tx& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t virtio_pipe(rx& from, nm::pipe::tx_ring_type& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t pipe_virtio(nm::pipe::rx_ring_type& from, tx& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t virtio_null(rx& from, nm::null_port::tx_ring_type& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t generate_virtio(tx& to, nm::index_t n) {
    return nm::generate(to, n, [](nm::frame& f) noexcept { f.resize(60); });
}
nm::index_t drain_virtio(rx& from, nm::index_t n, unsigned& sum) {
    unsigned s = 0;
    const auto frames = nm::drain(from, n, [&](nm::frame& f) noexcept { s += f.data()[0]; });
    sum = s;
    return frames;
}
nm::index_t rxsync_virtio(rx& r) { return r.rxsync(); }
nm::index_t txsync_virtio(tx& r) { return r.txsync(); }
