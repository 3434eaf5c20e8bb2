// EXPECT: no matching function for call to
// SPDX-License-Identifier: BSD-2-Clause
#include "nm/nm.hpp"

nm::index_t move(nm::pipe& p, nm::pipe& q) {
#ifdef NM_FAIL_CONTROL
    return nm::forward(p.rx(), q.tx(), 1);
#else
    return nm::forward(p.tx(), q.rx(), 1);
#endif
}
