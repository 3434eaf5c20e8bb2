// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nm/ptnet/host.hpp"

namespace ptnet_host {

/// One virtual machine: its socket, and the ports that are in its memory.
struct guest_settings {
    std::string socket;
    std::vector<std::string> ports;
    bool nvdimm = false;  ///< its memory is in an nvdimm, and the device is for doorbells only
    unsigned shared_mib = 0;  ///< not 0: no port, but a memory for two guests among themselves
    std::string device;       ///< this program is in such a guest: its ports are in that PCI device's memory
};

struct settings {
    std::vector<guest_settings> guests;
    std::vector<std::string> echoes;
    nm::ptnet::host_options host;
    unsigned threads = 1;
    unsigned spin_us = 50;
    unsigned report_ms = 0;
    double seconds = 0;
    bool own_switches = false;  ///< a switch of that name is this program's, and nobody else's
    bool json = false, csv = false;
    std::string metrics;

    /// The one that what follows on the command line is about.
    guest_settings& guest() {
        if (guests.empty()) guests.push_back({"ptnet.sock", {}, false, 0, {}});
        return guests.back();
    }
};

}  // namespace ptnet_host
