// EXPECT: deleted
// SPDX-License-Identifier: BSD-2-Clause
// A port is one owner's: two copies would close it twice.
#include "nm/nm.hpp"

nm::pipe take(nm::pipe& p) {
#ifdef NM_FAIL_CONTROL
    return std::move(p);
#else
    return p;
#endif
}
