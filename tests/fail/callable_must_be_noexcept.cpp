// EXPECT: a callable in a packet loop must be noexcept
// SPDX-License-Identifier: BSD-2-Clause
#include "nm/nm.hpp"

nm::index_t take(nm::pipe& p) {
#ifdef NM_FAIL_CONTROL
    return nm::drain(p, 1, [](nm::frame&) noexcept {});
#else
    return nm::drain(p, 1, [](nm::frame&) {});
#endif
}
