// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What a joint did with each frame.

#include <optional>
#include <string>

#include "common/account.hpp"
#include "common/metrics.hpp"
#include "common/open.hpp"
#include "common/rates.hpp"

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

/// One direction of an interface, as it is measured.
inline void add_passage(tool::metrics& m, tool::metrics::labels who, std::string_view direction, const passage& p) {
    who.emplace_back("direction", direction);
    m.counter("nm_joint_frames", "Frames that the stack has sent (from_stack), or that a port had for it (to_stack).", who, p.frames);
    m.counter("nm_joint_bytes", "Bytes of these frames.", who, p.bytes);
    m.counter("nm_joint_large_frames", "Of these, frames longer than a packet: TSO, LRO.", who, p.large);
    m.counter("nm_joint_completed_frames", "Frames whose checksum was finished here.", who, p.completed);
    m.counter("nm_joint_cut_frames", "Frames that were cut into segments here.", who, p.cut);
    m.counter("nm_joint_segments", "Segments that these became.", who, p.segments);
    for (std::size_t i = 0; i < nm::causes; ++i) {
        auto l = who;
        l.emplace_back("cause", tool::cause_label(i));
        m.counter("nm_joint_drops", "Frames that were not passed on between the stack and a port, by cause.", l, p.lost.drops[i]);
    }
}

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
    /// Not yet the last look: a frame may be on its way, and the sums are not held against each other.
    [[nodiscard]] tool::json to_json(bool last) const {
        const auto side = [](const nm::counters& c) {
            return tool::json().add("frames", c.frames).add("bytes", c.bytes).add("slots", c.slots).add("dropped", c.dropped()).add("drops", tool::drops_json(c));
        };
        auto j = tool::json().add("interface", interface).add("port", tool::to_json(port)).add("header", header);
        j.add("from_stack", from_stack.to_json()).add("tx", side(tx).add("unsent", unsent));
        j.add("rx", side(rx).add("left", left)).add("to_stack", to_stack.to_json());
        if (kernel)
            j.add("kernel", tool::json().add("sent", kernel->rx_packets).add("overrun", kernel->rx_dropped).add("received", kernel->tx_packets));
        else j.raw("kernel", "null");
        j.add("sleeps", sleeps);
        return last ? j.add("conserved", conserved()) : j;
    }
    void count(tool::metrics& m) const {
        auto who = tool::labels_of("ptnet-if", port.name);
        tool::add_mode(m, who, port.mode);
        tool::add_direction(m, who, "tx", tx);
        tool::add_direction(m, who, "rx", rx);
        who.emplace_back("interface", interface);
        add_passage(m, who, "from_stack", from_stack);
        add_passage(m, who, "to_stack", to_stack);
    }
    /// For --csv: in is what came from the stack.
    [[nodiscard]] tool::port_look look() const {
        tool::port_look l{interface, "interface", port.name, {}, from_stack.lost, to_stack.lost};
        l.in.frames = from_stack.frames, l.in.bytes = from_stack.bytes;
        l.out.frames = to_stack.frames, l.out.bytes = to_stack.bytes;
        for (std::size_t i = 0; i < nm::causes; ++i) {
            l.in.drops[i] += tx.drops[i];
            l.out.drops[i] += rx.drops[i];
        }
        return l;
    }
    [[nodiscard]] std::string lines(bool last) const {
        std::string text = fmt::format("{:<12} {:<20} {:>12} {:>15} {:>10} {:>12} {:>15} {:>10}\n", interface, port.name, from_stack.frames,
                                       from_stack.bytes, from_stack.large, to_stack.frames, to_stack.bytes, to_stack.large);
        const auto add = [&text](const char* where, const nm::counters& c) {
            if (c.dropped() != 0) text += fmt::format("  dropped {}: {}\n", where, tool::drops_text(c));
        };
        add("on the way to the port", from_stack.lost);
        add("by the port, sending", tx);
        add("by the port, receiving", rx);
        add("on the way to the stack", to_stack.lost);
        return text + (!last || conserved() ? "" : "  NOT CONSERVED\n");
    }
    [[nodiscard]] static std::string title() {
        return fmt::format("{:<12} {:<20} {:>12} {:>15} {:>10} {:>12} {:>15} {:>10}\n", "interface", "port", "frames out", "bytes out", "large",
                           "frames in", "bytes in", "large");
    }
};

}  // namespace ptnet_if
