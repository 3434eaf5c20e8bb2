// SPDX-License-Identifier: BSD-2-Clause
// A stranger's program that wants kernel interfaces, too.
#include <cstdio>
#include <nm/sys/link.hpp>

int main() {
    const auto lo = nm::sys::query_link("lo");
    std::printf("%s\n", lo ? lo->name.c_str() : lo.error().text.c_str());
    return lo && lo->loopback ? 0 : 1;
}
