// SPDX-License-Identifier: BSD-2-Clause
// The lookups of a switch, over a batch: no call per frame but the cold one that learns a source. (vlan has learning in it.)
// cold: nm::vale::basic_learning<.*>::learn\(
#include "nm/vale/five_tuple.hpp"
#include "nm/vale/vlan.hpp"

template <class L>
[[gnu::always_inline]] inline void classify(L& l, nm::vale::lane_of<L>& lane, const nm::vale::packet* p,
                                            nm::vale::destination* d, unsigned n) {
    for (unsigned i = 0; i < n; ++i) {
        if constexpr (nm::vale::has_lane<L>)
            d[i] = l(p[i], lane);
        else
            d[i] = l(p[i]);
    }
}

void codegen_all_vlan(nm::vale::vlan& l, nm::vale::vlan::lane& lane, const nm::vale::packet* p,
                      nm::vale::destination* d, unsigned n) {
    classify(l, lane, p, d, n);
}
void codegen_all_five_tuple(nm::vale::five_tuple& l, nm::vale::no_lane& lane, const nm::vale::packet* p,
                            nm::vale::destination* d, unsigned n) {
    classify(l, lane, p, d, n);
}
