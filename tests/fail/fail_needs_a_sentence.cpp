// EXPECT: too few arguments to function
// SPDX-License-Identifier: BSD-2-Clause
// An errno alone tells a user nothing: fail() takes no error without its sentence.
#include "nm/result.hpp"

nm::result<int> open_nothing() {
#ifdef NM_FAIL_CONTROL
    return nm::fail(ENODEV, "there is nothing to open; name a port");
#else
    return nm::fail(ENODEV);
#endif
}
