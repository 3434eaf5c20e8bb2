// SPDX-License-Identifier: BSD-2-Clause
// functions: nm::vale::switch_state<isolating>::flush
// functions: nm::vale::switch_state<nm::vale::five_tuple>::flush
// functions: nm::vale::switch_state<nm::vale::vlan>::flush
// functions: nm::vale::switch_state<nm::vale::basic_learning<.*>::flush
// functions: nm::vale::detail::carry<true
// functions: nm::vale::detail::carry<false
// functions: ^unsigned int nm::(forward|generate|drain)<
// cold: nm::vale::basic_learning<.*>::learn\(
// cold: nm::vale::detail::look_at\(
// The switch: lookups inlined in the loop over a batch, and nothing called per frame on the way to a destination.
#include "nm/ports/pipe.hpp"
#include "nm/vale/five_tuple.hpp"
#include "nm/vale/switch.hpp"
#include "nm/vale/vlan.hpp"

struct isolating {
    nm::vale::destination operator()(const nm::vale::packet& p) const noexcept {
        using nm::vale::destination;
        if (p.from != 0) return destination::to(0);
        return (p.data[0] & 1) != 0 ? destination::to_all() : destination::to(p.data[5]);
    }
};
template class nm::vale::switch_state<isolating>;
template class nm::vale::switch_state<nm::vale::five_tuple>;
template class nm::vale::switch_state<nm::vale::vlan>;
template class nm::vale::switch_state<nm::vale::learning>;

using vale_tx_ring = nm::vale_port::tx_ring_type;
using vale_rx_ring = nm::vale_port::rx_ring_type;

nm::index_t forward_vale(vale_rx_ring& rx, nm::pipe::tx_ring_type& tx, nm::index_t n) { return nm::forward(rx, tx, n); }
nm::index_t forward_to_vale(nm::pipe::rx_ring_type& rx, vale_tx_ring& tx, nm::index_t n) { return nm::forward(rx, tx, n); }
nm::index_t generate_vale(vale_tx_ring& tx, nm::index_t n) {
    return nm::generate(tx, n, [](nm::frame& f) noexcept { f.resize(60); });
}
