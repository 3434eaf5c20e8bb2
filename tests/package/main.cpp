// SPDX-License-Identifier: BSD-2-Clause
// A stranger's program that wants nothing but the headers.
#include <cstdio>
#include <nm/result.hpp>
#include <nm/version.hpp>

static nm::result<int> half(int n) {
    if (n % 2 != 0) return nm::fail(EINVAL, "the number is odd; give an even one");
    return n / 2;
}

int main() {
    std::printf("nm %s: half of 42 is %d\n", NM_VERSION_STRING, half(42).value_or(0));
    return half(42) && !half(43) ? 0 : 1;
}
