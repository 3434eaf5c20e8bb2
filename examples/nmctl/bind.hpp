// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nmctl {

struct settings {
    std::string command;              // bind, unbind
    std::vector<std::string> devices;  // addresses, or names of interfaces
    bool kernel = false, force = false, json = false;

    void operand(std::string_view word) {
        if (command.empty()) command = word;
        else devices.emplace_back(word);
    }
};

/// nmctl bind: who has which device. Exit status 0.
int show(const settings& s);
/// Gives devices to vfio-pci, or back. All of them are tried; exit status 1 if one could not be.
int bind(const settings& s);

}  // namespace nmctl
