// SPDX-License-Identifier: BSD-2-Clause
// A stranger's program that wants nothing but the headers: frames from one end of a pipe to the other.
#include <cstdio>
#include <nm/nm.hpp>

int main() {
    nm::context context;
    auto a = nm::try_open<nm::pipe>(context, "netmap:stranger{1");
    auto b = nm::try_open<nm::pipe>(context, "netmap:stranger}1");
    if (!a || !b) {
        std::printf("%s\n", (!a ? a : b).error().text.c_str());
        return 1;
    }
    const auto made = nm::generate(*a, 10, [](nm::frame& f) noexcept { f.resize(60); });
    std::size_t octets = 0;
    const auto taken = nm::drain(*b, 10, [&](nm::frame& f) noexcept { octets += f.size(); });
    std::printf("nm %s: %u frames made, %u taken\n", NM_VERSION_STRING, static_cast<unsigned>(made), static_cast<unsigned>(taken));
    return made == 10 && taken == 10 && octets == 600 ? 0 : 1;
}
