// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What a joint did with each frame.

#include <optional>
#include <string>

#include "common/account.hpp"
#include "common/open.hpp"

#include "nm/sys/link.hpp"

namespace ptnet_if {

/// One direction: each frame that came was passed on (whole, or cut into segments), or dropped.
struct passage {
    std::uint64_t frames = 0, bytes = 0;
    std::uint64_t large = 0;      ///< of these, frames longer than a packet: TSO, LRO
    std::uint64_t whole = 0;      ///< passed on as they were
    std::uint64_t completed = 0;  ///< of these, with a checksum finished here
    std::uint64_t cut = 0;        ///< passed on as segments made here
    std::uint64_t segments = 0;
    nm::counters lost;

    [[nodiscard]] bool conserved() const noexcept { return frames == whole + cut + lost.dropped(); }
    [[nodiscard]] tool::json to_json() const {
        return tool::json()
            .add("frames", frames)
            .add("bytes", bytes)
            .add("large", large)
            .add("whole", whole)
            .add("completed", completed)
            .add("cut", cut)
            .add("segments", segments)
            .add("dropped", lost.dropped())
            .add("drops", tool::drops_json(lost));
    }
};

struct account {
    std::string interface;
    nm::port_info port;
    unsigned header = 0;
    passage from_stack, to_stack;
    nm::counters tx, rx;                                 ///< the port's own
    std::uint64_t unsent = 0, left = 0;                  ///< accepted by the port and not gone yet; arrived and not taken
    std::optional<nm::sys::link_counters> kernel;        ///< of the interface
    std::uint64_t sleeps = 0;

    [[nodiscard]] bool conserved() const noexcept {
        const bool here = from_stack.conserved() && to_stack.conserved();
        const bool on_port = tx.frames == from_stack.whole + from_stack.segments && rx.frames == to_stack.frames + left;
        const bool in_kernel = !kernel || (kernel->rx_packets == from_stack.frames && kernel->tx_packets == to_stack.whole);
        return here && on_port && in_kernel;
    }
    [[nodiscard]] tool::json to_json() const {
        const auto side = [](const nm::counters& c) {
            return tool::json().add("frames", c.frames).add("bytes", c.bytes).add("slots", c.slots).add("dropped", c.dropped()).add("drops", tool::drops_json(c));
        };
        auto j = tool::json().add("interface", interface).add("port", tool::to_json(port)).add("header", header);
        j.add("from_stack", from_stack.to_json()).add("tx", side(tx).add("unsent", unsent));
        j.add("rx", side(rx).add("left", left)).add("to_stack", to_stack.to_json());
        if (kernel)
            j.add("kernel", tool::json().add("sent", kernel->rx_packets).add("overrun", kernel->rx_dropped).add("received", kernel->tx_packets));
        else j.raw("kernel", "null");
        return j.add("sleeps", sleeps).add("conserved", conserved());
    }
    [[nodiscard]] std::string lines() const {
        std::string text = fmt::format("{:<12} {:<20} {:>12} {:>15} {:>10} {:>12} {:>15} {:>10}\n", interface, port.name, from_stack.frames,
                                       from_stack.bytes, from_stack.large, to_stack.frames, to_stack.bytes, to_stack.large);
        const auto add = [&text](const char* where, const nm::counters& c) {
            if (c.dropped() != 0) text += fmt::format("  dropped {}: {}\n", where, tool::drops_text(c));
        };
        add("on the way to the port", from_stack.lost);
        add("by the port, sending", tx);
        add("by the port, receiving", rx);
        add("on the way to the stack", to_stack.lost);
        return text + (conserved() ? "" : "  NOT CONSERVED\n");
    }
    [[nodiscard]] static std::string title() {
        return fmt::format("{:<12} {:<20} {:>12} {:>15} {:>10} {:>12} {:>15} {:>10}\n", "interface", "port", "frames out", "bytes out", "large",
                           "frames in", "bytes in", "large");
    }
};

}  // namespace ptnet_if
