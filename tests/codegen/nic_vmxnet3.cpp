// SPDX-License-Identifier: BSD-2-Clause
// functions: ^unsigned int nm::(forward|generate|drain)<
// functions: ::rxsync\(\)
// functions: ::push\(unsigned int\)
// functions: ::take_back\(unsigned int\)
// vmxnet3's queues: no call in the per-packet loop.
#include "nm/fuse.hpp"
#include "nm/ports/vmxnet3.hpp"
#include "nm/ports/nic.hpp"

using vmxnet3 = nm::nic<nm::vmxnet3>;
using tx = vmxnet3::tx_ring_type;
using rx = vmxnet3::rx_ring_type;

nm::index_t nic_nic(rx& from, tx& to, nm::index_t n) { return nm::forward(from, to, n); }
nm::index_t generate_nic(tx& to, nm::index_t n) {
    return nm::generate(to, n, [](nm::frame& f) noexcept { f.resize(60); });
}
nm::index_t drain_nic(rx& from, nm::index_t n, unsigned& sum) {
    unsigned s = 0;
    const auto frames = nm::drain(from, n, [&](nm::frame& f) noexcept { s += f.data()[0]; });
    sum = s;
    return frames;
}
nm::index_t rxsync_nic(rx& r) { return r.rxsync(); }
nm::index_t txsync_nic(tx& r) { return r.txsync(); }
