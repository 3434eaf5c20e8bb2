// SPDX-License-Identifier: BSD-2-Clause
#include <cstdio>
#include <cstdlib>

#include "fuzz/connection_target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto wrong = nm::test::fuzz_connection({data, size});
    if (wrong.empty()) return 0;
    std::fprintf(stderr, "%s\n", wrong.c_str());
    std::abort();
}
