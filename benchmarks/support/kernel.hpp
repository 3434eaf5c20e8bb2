// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What the programs on kernel interfaces share: the frame, a stop on SIGTERM, names to indexes.

#include <csignal>
#include <net/if.h>

#include "sample.hpp"

namespace bench {

/// A 60-byte Ethernet frame of an experimental type to a station that nobody is: the stack looks once and lets go.
[[gnu::always_inline]] inline void fill_ethernet(void* data, std::uint64_t sequence) noexcept {
    static constexpr std::array<std::uint8_t, frame_bytes> frame{0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5};
    std::memcpy(data, frame.data(), frame.size());
    std::memcpy(static_cast<char*>(data) + 16, &sequence, sizeof sequence);
}

inline unsigned interface_index(const std::string& name) {
    const unsigned index = if_nametoindex(name.c_str());
    if (index == 0) die("there is no interface \"" + name + "\"");
    return index;
}

inline volatile std::sig_atomic_t stop_requested = 0;

inline void stop_on_signals() {
    struct sigaction action {};
    action.sa_handler = [](int) { stop_requested = 1; };
    for (const int s : {SIGTERM, SIGINT}) sigaction(s, &action, nullptr);
}

}  // namespace bench
