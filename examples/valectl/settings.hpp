// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace valectl {

struct action {
    char letter;
    std::string name;
};

struct settings {
    std::vector<action> actions;
    std::vector<unsigned> numbers;  // -C
    unsigned memory = 0, mtu = 1500;
    unsigned report_ms = 0;   ///< 0: once
    std::uint64_t count = 0;  ///< of reports; 0: no end
    std::string metrics;
    bool json = false, csv = false;
};

}  // namespace valectl
