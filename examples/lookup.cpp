// SPDX-License-Identifier: BSD-2-Clause
// A switch that does what you say: port 0 is the uplink and reaches every customer, a customer reaches the uplink only.
#include <cstdio>
#include <cstring>
#include <string>

#include "nm/nm.hpp"

struct isolating {  // a lookup: inlined into the switch's loop over a batch
    nm::vale::destination operator()(const nm::vale::packet& p) const noexcept {
        using nm::vale::destination;
        if (p.from != 0) return destination::to(0);
        const bool group = (p.data[0] & 1) != 0;                                    // broadcast, multicast
        return group ? destination::to_all() : destination::to(p.data[5]);          // else: the address's last byte
    }
};

int main() try {
    nm::context ctx;
    nm::vale::vale_switch<isolating> sw(ctx, "vale0");
    auto uplink = sw.new_port("uplink"), a = sw.new_port("a"), b = sw.new_port("b");

    const auto send = [](nm::vale_port& p, const char* to) {
        return nm::generate(p, 1, [to](nm::frame& f) noexcept { std::memcpy(f.data(), to, 6), f.resize(60); });
    };
    send(uplink, "\x02\0\0\0\0\2");                  // for port 2
    send(uplink, "\xff\xff\xff\xff\xff\xff");        // for all
    send(a, "\x02\0\0\0\0\2");                       // a would like to reach b, and reaches the uplink
    for (auto* p : {&uplink, &a, &b}) std::printf("%s got %u\n", p->name().c_str(), nm::drain(*p, 64));
    return sw.stats().conserved() ? 0 : 1;
} catch (const std::system_error& e) {
    std::fprintf(stderr, "lookup: %s\n", e.what());
    return 1;
}
