// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "summary.hpp"

#include "common/percentiles.hpp"

namespace nmreplay {

namespace {

[[nodiscard]] std::string clause(std::uint64_t n, const char* what) { return n != 0 ? fmt::format(", {} {}", n, what) : std::string(); }
[[nodiscard]] std::string causes(const nm::counters& c) { return c.dropped() != 0 ? " (" + tool::drops_text(c) + ")" : std::string(); }
[[nodiscard]] bool timed(const settings& s) { return s.pace().what != bandwidth::kind::unlimited; }

}  // namespace

std::vector<tool::outcome> summary::judge(const settings& s) const {
    if (s.records()) {
        const std::uint64_t lost = rx.dropped() + recorded.unended;
        return tool::judge(s.expect, recorded.packets + lost, lost, pps(s));
    }
    // Of what was to be sent: what the port cannot carry is lost as well as what it dropped.
    const std::uint64_t refused = from_file.too_long + from_file.too_short;
    const std::uint64_t passed = tx.completed - std::min(tx.completed, at_switch.dropped());
    const std::uint64_t there = has_peer ? std::min(peer_received.frames, passed) : passed;
    auto out = tool::judge(s.expect, tx.queued + refused, tx.queued - there + refused, pps(s));
    if (s.expect_lateness) {
        const std::uint64_t p99 = sent.lateness.percentile(99);
        out.push_back({fmt::format("99 % at most {:.3f} us late: {:.3f} us", static_cast<double>(*s.expect_lateness) / 1000, static_cast<double>(p99) / 1000),
                       p99 <= *s.expect_lateness});
    }
    return out;
}

std::string summary::replay_text(const settings& s) const {
    const load& l = from_file;
    std::string out = fmt::format("Read {} frames{}{}{}{}{}{}\n", l.read, l.passes > 1 ? fmt::format(" in {} passes", l.passes) : "", clause(l.lost, "lost by -L"),
                                  clause(l.too_long, "too long for the port"), clause(l.too_short, "too short for Ethernet"),
                                  clause(l.padded, "filled up with zeros"), clause(unsent(), "not sent"));
    out += fmt::format("Queued {}, completed {}, dropped {}{}", tx.queued, tx.completed, tx.counters.dropped(),
                       tx.pending != 0 ? fmt::format(", still waiting {}", tx.pending) : "");
    out += causes(tx.counters) + "\n" + tool::switch_drops_text(at_switch);
    if (has_peer) out += fmt::format("Peer received {} packets\n", peer_received.frames);
    if (timed(s) && sent.lateness.count() != 0) out += tool::percentiles_text("Late", sent.lateness);
    if (sent.dry != 0) out += fmt::format("Times that a frame was wanted and the file had none ready: {}\n", sent.dry);
    return out;
}

std::string summary::record_text() const {
    return fmt::format("Recorded {}, dropped {}{}{}{}{}\n", recorded.packets, rx.dropped(), causes(rx), clause(recorded.unended, "without an end"),
                       clause(recorded.cut, "cut off at 262144 bytes"), clause(recorded.waits, "waits for the file"));
}

void summary::print(const settings& s, const std::vector<tool::outcome>& outcomes, const nm::port_info& port) const {
    const bool n = s.style.normal_units;
    const double bits = tool::bits_of(packets(s), bytes(s), false);
    const double bps = seconds > 0 ? bits / seconds : 0;
    const double batch = done.events != 0 ? static_cast<double>(done.packets) / static_cast<double>(done.events) : 0;
    std::string text = fmt::format("{} {} packets {} bytes {} events in {:.2f} seconds.\nSpeed: {}pps Bandwidth: {}bps. Average batch: {:.2f} pkts\n",
                                   s.records() ? "Recorded" : "Sent", packets(s), bytes(s), done.events, seconds, tool::in_units(pps(s), n),
                                   tool::in_units(bps, n), batch);
    text += s.records() ? record_text() : replay_text(s);
    for (const auto& o : outcomes) text += fmt::format("Expected {}: {}\n", o.what, o.met ? "met" : "NOT MET");
    if (s.style.json || s.style.csv || s.to_stdout() || s.metrics == "-")
        tool::print_err(text);
    else
        tool::print_out(text);

    if (s.style.json) {
        tool::json j;
        j.add("type", "summary").add("function", s.records() ? "record" : "replay").add("port", tool::to_json(port));
        j.add("seconds", seconds).add("packets", packets(s)).add("bytes", bytes(s)).add("events", done.events);
        j.add("pps", pps(s)).add("bps", bps).add("avg_batch", batch);
        if (s.records()) add_record(j, s);
        else add_replay(j, s);
        j.raw("expectations", tool::to_json(outcomes));
        tool::print_out(j.text() + "\n");
    }
    if (s.style.csv) tool::csv_row("summary", seconds, packets(s), bytes(s), pps(s), bps, batch);
}

void summary::add_replay(tool::json& j, const settings& s) const {
    const load& l = from_file;
    j.add("file", s.file).add("read", l.read).add("passes", l.passes).add("lost", l.lost).add("too_long", l.too_long).add("too_short", l.too_short);
    j.add("padded", l.padded).add("unsent", unsent()).add("read_waits", sent.dry);
    j.add("queued", tx.queued).add("completed", tx.completed).add("pending", tx.pending);
    j.add("dropped", tx.counters.dropped()).add("drops", tool::drops_json(tx.counters));
    tool::add_switch_drops(j, at_switch);
    if (timed(s)) j.add("lateness_ns", tool::percentiles_json(sent.lateness));
    if (has_peer) j.add("peer_received", peer_received.frames);
    if (!l.trouble.empty()) j.add("trouble", l.trouble);
}

void summary::add_record(tool::json& j, const settings& s) const {
    j.add("file", s.record).add("cut", recorded.cut).add("unended", recorded.unended).add("write_waits", recorded.waits);
    j.add("dropped", rx.dropped() + recorded.unended).add("drops", tool::drops_json(rx));
}

}  // namespace nmreplay
