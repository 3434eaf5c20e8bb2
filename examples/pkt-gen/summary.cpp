// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "summary.hpp"

#include "common/percentiles.hpp"

namespace pkt_gen {

void summary::print(const settings& s, const std::vector<tool::outcome>& outcomes, const nm::port_info& port) const {
    const bool n = s.style.normal_units;
    const double bits = tool::bits_of(done.packets, done.bytes, s.style.framing);
    const double raw = tool::bits_of(done.packets, done.bytes, true);
    const double bps = seconds > 0 ? bits / seconds : 0;
    const double batch = done.events != 0 ? static_cast<double>(done.packets) / static_cast<double>(done.events) : 0;
    const bool sends = s.what == function::tx || s.what == function::pong;

    constexpr const char* verbs[] = {"Sent", "Received", "Answered", "Ponged"};
    std::string text = fmt::format(
        "{} {} packets {} bytes {} events {} bytes each in {:.2f} seconds.\n"
        "Speed: {}pps Bandwidth: {}bps (raw {}bps). Average batch: {:.2f} pkts\n",
        verbs[static_cast<int>(s.what)], done.packets, done.bytes, done.events,
        done.packets != 0 ? done.bytes / done.packets : 0, seconds, tool::in_units(pps(), n), tool::in_units(bps, n),
        tool::in_units(seconds > 0 ? raw / seconds : 0, n), batch);
    const nm::counters& c = sends ? tx.counters : rx;
    if (sends) {
        text += fmt::format("Queued {}, completed {}, dropped {}", tx.queued, tx.completed, c.dropped());
        if (tx.pending != 0) text += fmt::format(", still waiting {}", tx.pending);
    } else if (s.what == function::ping) {
        text += fmt::format("Pings {}, answered {}, lost {}", pings, times.count(), pings - times.count());
    } else {
        text += fmt::format("Received {}, dropped {}", rx.frames, rx.dropped());
    }
    text += (c.dropped() != 0 ? " (" + tool::drops_text(c) + ")" : "") + "\n";
    if (sends) text += tool::switch_drops_text(at_switch);
    if (has_peer) text += fmt::format("Peer received {} packets, sent {}\n", peer_received.frames, peer_sent.frames);
    if (s.what == function::ping && times.count() != 0) text += tool::percentiles_text("Round trip", times);
    text += tool::to_text(outcomes);
    if (s.style.json || s.style.csv || s.metrics == "-")
        tool::print_err(text);
    else
        tool::print_out(text);

    if (s.style.json) {
        tool::json j;
        j.add("type", "summary").add("function", name_of(s.what)).add("port", tool::to_json(port));
        j.add("seconds", seconds).add("packets", done.packets).add("bytes", done.bytes).add("events", done.events);
        j.add("pps", pps()).add("bps", bps).add("avg_batch", batch);
        if (sends)
            j.add("queued", tx.queued).add("completed", tx.completed).add("pending", tx.pending);
        else if (s.what == function::ping)
            j.add("pings", pings).add("answered", times.count()).add("lost", pings - times.count());
        j.add("dropped", c.dropped()).add("drops", tool::drops_json(c));
        if (sends) tool::add_switch_drops(j, at_switch);
        if (s.what == function::ping) j.add("latency_ns", tool::percentiles_json(times));
        if (has_peer) j.add("peer_received", peer_received.frames).add("peer_sent", peer_sent.frames);
        j.raw("expectations", tool::to_json(outcomes));
        tool::print_out(j.text() + "\n");
    }
    if (s.style.csv) tool::csv_row("summary", seconds, done.packets, done.bytes, pps(), bps, batch);
}

}  // namespace pkt_gen
