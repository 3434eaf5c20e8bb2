// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "books.hpp"

namespace bridge {

std::vector<tool::outcome> books::judge(const tool::expectations& e) const {
    std::uint64_t sent = 0;
    std::uint64_t lost = 0;
    for (const auto& p : ports) {
        sent += p.rx.frames + p.rx.dropped();
        lost += p.rx.dropped() + p.tx.counters.dropped() + p.tx.pending;
    }
    return tool::judge(e, sent, lost, pps());
}

std::string books::table(const settings& s, const std::vector<tool::outcome>& outcomes) const {
    const bool n = s.style.normal_units;
    std::string out = fmt::format("{:<20} {:<16} {:>14} {:>16} {:>14} {:>16} {:>10}\n", "port", "mode", "frames in",
                                  "bytes in", "frames out", "bytes out", "dropped");
    for (const auto& p : ports) {
        out += fmt::format("{:<20} {:<16} {:>14} {:>16} {:>14} {:>16} {:>10}\n", p.name, p.info.mode, p.rx.frames,
                           p.rx.bytes, p.tx.completed, p.tx.counters.bytes, p.rx.dropped() + p.tx.counters.dropped());
        if (p.rx.dropped() != 0) out += "  dropped on the way in: " + tool::drops_text(p.rx) + "\n";
        if (p.tx.counters.dropped() != 0) out += "  dropped on the way out: " + tool::drops_text(p.tx.counters) + "\n";
        if (p.kernel)
            out += fmt::format("  the {} counted {} in, {} out, {} and {} dropped\n", p.info.mode == "vfio" ? "device" : "kernel",
                               p.kernel->rx_packets, p.kernel->tx_packets, p.kernel->rx_dropped, p.kernel->tx_dropped);
    }
    for (const auto& d : directions())
        out += fmt::format("{} -> {}: {} in = {} out + {} dropped + {} waiting + {} left: {}\n", d.from.name, d.to.name,
                           d.from.rx.frames, d.to.tx.completed, d.dropped(), d.to.tx.pending, d.from.left,
                           d.conserved() ? "conserved" : "NOT CONSERVED");
    out += fmt::format("{} frames in {:.2f} seconds, {}pps, {}bps\n", packets, seconds, tool::in_units(pps(), n),
                       tool::in_units(seconds > 0 ? tool::bits_of(packets, bytes, s.style.framing) / seconds : 0, n));
    return out + tool::to_text(outcomes);
}

std::string books::to_json(const std::vector<tool::outcome>& outcomes) const {
    std::string list;
    for (const auto& p : ports) {
        tool::json j = tool::to_json(p.info);
        j.add("rx", tool::json()
                        .add("frames", p.rx.frames)
                        .add("bytes", p.rx.bytes)
                        .add("left", p.left)
                        .add("dropped", p.rx.dropped())
                        .add("drops", tool::drops_json(p.rx)));
        const auto& t = p.tx.counters;
        j.add("tx", tool::json()
                        .add("frames", p.tx.completed)
                        .add("queued", p.tx.queued)
                        .add("pending", p.tx.pending)
                        .add("bytes", t.bytes)
                        .add("dropped", t.dropped())
                        .add("drops", tool::drops_json(t)));
        if (p.kernel)
            j.add("kernel", tool::json()
                                .add("rx_packets", p.kernel->rx_packets)
                                .add("tx_packets", p.kernel->tx_packets)
                                .add("rx_bytes", p.kernel->rx_bytes)
                                .add("tx_bytes", p.kernel->tx_bytes)
                                .add("rx_dropped", p.kernel->rx_dropped)
                                .add("tx_dropped", p.kernel->tx_dropped));
        list += (list.empty() ? "" : ", ") + j.text();
    }
    std::string ways;
    for (const auto& d : directions())
        ways += (ways.empty() ? "" : ", ") + tool::json()
                                                 .add("from", d.from.name)
                                                 .add("to", d.to.name)
                                                 .add("in", d.from.rx.frames)
                                                 .add("out", d.to.tx.completed)
                                                 .add("dropped", d.dropped())
                                                 .add("pending", d.to.tx.pending)
                                                 .add("left", d.from.left)
                                                 .add("conserved", d.conserved())
                                                 .text();
    return tool::json()
        .add("type", "summary")
        .add("seconds", seconds)
        .add("packets", packets)
        .add("bytes", bytes)
        .add("pps", pps())
        .raw("ports", "[" + list + "]")
        .raw("directions", "[" + ways + "]")
        .add("conserved", conserved())
        .raw("expectations", tool::to_json(outcomes))
        .text();
}

}  // namespace bridge
