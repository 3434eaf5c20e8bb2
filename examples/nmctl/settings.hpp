// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http.hpp"

namespace nmctl {

enum class order { rate, name, drops };

/// What all commands can be told; each has its part of it (main.cpp).
struct settings {
    std::vector<std::string> words;  ///< behind the command: devices, ports
    void operand(std::string_view word) { words.emplace_back(word); }

    bool json = false, csv = false;
    bool kernel = false, force = false;  // bind
    // top
    unsigned report_ms = 1000;
    std::uint64_t count = 0;
    order by = order::rate;
    std::vector<std::string> interfaces;
    bool no_interfaces = false, plain = false;
    // metrics
    std::optional<listen_address> listen;
    std::string file;
    double seconds = 0;
};

// Each returns the exit status.
int bind_command(settings& s);
int unbind_command(settings& s);
int doctor_command(settings& s);
int top_command(settings& s);
int metrics_command(settings& s);

}  // namespace nmctl
