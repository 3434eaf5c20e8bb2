// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include "books.hpp"

namespace lb {

namespace {

constexpr std::array<const char*, nm::vale::told_bys> told_names{"ports", "first fragment", "addresses", "MAC addresses", "nothing"};

void add(flow_count& to, const flow_count& c) noexcept {
    to.forwarded += c.forwarded;
    to.forwarded_bytes += c.forwarded_bytes;
    to.dropped += c.dropped;
    to.dropped_bytes += c.dropped_bytes;
    to.queued += c.queued;
}

}  // namespace

flow_count books::sum(const group& g) const noexcept {
    flow_count all;
    for (std::size_t q = g.first; q < g.first + g.count; ++q) add(all, pipes[q].count);
    return all;
}

bool books::conserved(const group& g) const noexcept {
    const flow_count c = sum(g);
    return received == c.forwarded + c.dropped + c.queued + broken;
}

bool books::conserved() const noexcept {
    for (const auto& g : groups)
        if (!conserved(g)) return false;
    return true;
}

std::vector<tool::outcome> books::judge(const tool::expectations& e) const {
    std::uint64_t sent = rx.dropped() + groups.size() * received;
    std::uint64_t lost = rx.dropped() + groups.size() * broken;
    for (const auto& p : pipes) lost += p.count.dropped + p.count.queued;  // what is in a pipe is its consumer's, or the next one's
    return tool::judge(e, sent, lost, pps());
}

std::string books::table(const settings& s, const std::vector<tool::outcome>& outcomes) const {
    const bool n = s.style.normal_units;
    std::string out = fmt::format("{:<24} {:<8} {:<8} {:>14} {:>16} {:>12} {:>10} {:>10}\n", "pipe", "frames", "consumer", "forwarded",
                                  "bytes", "dropped", "queued", "in pipe");
    for (const auto& p : pipes)
        out += fmt::format("{:<24} {:<8} {:<8} {:>14} {:>16} {:>12} {:>10} {:>10}\n", p.name, p.swaps ? "swapped" : "copied", p.consumer ? "yes" : "no",
                           p.count.forwarded, p.count.forwarded_bytes, p.count.dropped, p.count.queued, p.waiting);
    out += fmt::format("{}: {} frames, {} bytes; {} dropped on the way in{}, {} left there\n", input, received, bytes, rx.dropped(),
                       rx.dropped() != 0 ? " (" + tool::drops_text(rx) + ")" : "", left);
    if (kernel)
        out += fmt::format("  the {} counted {} in, {} dropped\n", info.mode == "vfio" ? "device" : "kernel", kernel->rx_packets, kernel->rx_dropped);
    out += "told by:";
    for (std::size_t i = 0; i < told.size(); ++i) out += fmt::format("{} {} {}", i == 0 ? "" : ",", told_names[i], told[i]);
    out += broken != 0 ? fmt::format("; {} frames without an end\n", broken) : "\n";
    for (const auto& g : groups) {
        const flow_count c = sum(g);
        out += fmt::format("{} x {}: {} received = {} forwarded + {} dropped + {} queued{}: {}\n", g.prefix, g.count, received, c.forwarded,
                           c.dropped, c.queued, broken != 0 ? fmt::format(" + {} broken", broken) : "", conserved(g) ? "conserved" : "NOT CONSERVED");
    }
    if (extra != 0) out += fmt::format("extra buffers: {}, {} free\n", extra, extra_free);
    out += fmt::format("{} frames in {:.2f} seconds, {}pps, {}bps\n", received, seconds, tool::in_units(pps(), n),
                       tool::in_units(seconds > 0 ? tool::bits_of(received, bytes, s.style.framing) / seconds : 0, n));
    return out + tool::to_text(outcomes);
}

std::string books::to_json(const std::vector<tool::outcome>& outcomes) const {
    const auto counts = [](tool::json j, const flow_count& c) {
        return j.add("forwarded", c.forwarded).add("bytes", c.forwarded_bytes).add("dropped", c.dropped).add("dropped_bytes", c.dropped_bytes).add("queued", c.queued);
    };
    std::string list;
    for (const auto& p : pipes)
        list += (list.empty() ? "" : ", ") + counts(tool::json().add("name", p.name).add("swaps", p.swaps).add("consumer", p.consumer), p.count)
                                                 .add("waiting", p.waiting)
                                                 .text();
    std::string sums;
    for (const auto& g : groups)
        sums += (sums.empty() ? "" : ", ") + counts(tool::json().add("prefix", g.prefix).add("pipes", g.count), sum(g)).add("conserved", conserved(g)).text();
    tool::json in = tool::to_json(info).add("frames", rx.frames).add("left", left).add("dropped", rx.dropped()).add("drops", tool::drops_json(rx));
    if (kernel) in.add("kernel", tool::json().add("rx_packets", kernel->rx_packets).add("rx_dropped", kernel->rx_dropped));
    tool::json by;
    for (std::size_t i = 0; i < told.size(); ++i) by.add(told_names[i], told[i]);
    return tool::json()
        .add("type", "summary")
        .add("seconds", seconds)
        .add("packets", received)
        .add("bytes", bytes)
        .add("pps", pps())
        .add("input", in)
        .add("told_by", by)
        .add("broken", broken)
        .raw("groups", "[" + sums + "]")
        .raw("pipes", "[" + list + "]")
        .add("extra_buffers", extra)
        .add("extra_buffers_free", extra_free)
        .add("conserved", conserved())
        .raw("expectations", tool::to_json(outcomes))
        .text();
}

books close_books(const settings& s, tool::any_port& input, const std::optional<nm::sys::link_counters>& then,
                  std::deque<pipe_outlet>& outlets, pipe_spreader& spread, double seconds) {
    books b;
    b.input = s.input;
    b.seconds = seconds;
    const void* memory = std::visit([&](auto& p) -> const void* {
        b.info = p.info();
        b.info.name = s.input;
        b.rx = p.rx_stats();
        for (nm::index_t i = 0; i < p.num_rx_rings(); ++i) b.left += tool::left_frames(p.rx(i));
        if (const auto now = tool::kernel_counters(p); now && then) {
            b.kernel.emplace();
            b.kernel->rx_packets = now->rx_packets - then->rx_packets;
            b.kernel->rx_dropped = now->rx_dropped - then->rx_dropped;
        }
        return p.region().base();
    }, input);
    b.received = b.rx.frames - b.left;
    b.bytes = spread.bytes();
    b.broken = spread.broken();
    b.told = spread.told();
    b.groups = spread.groups();
    b.extra = spread.waiting().size();
    b.extra_free = spread.waiting().free();
    for (std::size_t q = 0; q < outlets.size(); ++q) {
        auto& o = outlets[q];
        b.pipes.push_back({o.name, o.port.region().base() == memory, o.port.peer_open(), spread.count(q), tool::pending_frames(o.port.tx(0))});
    }
    return b;
}

std::vector<flow_count> live_counts::since() {
    std::vector<flow_count> out;
    for (std::size_t q = 0; q < outlets_.size(); ++q) {
        const flow_count now = outlets_[q].shown.look();
        const flow_count then = std::exchange(then_[q], now);
        out.push_back({now.forwarded - then.forwarded, now.forwarded_bytes - then.forwarded_bytes, now.dropped - then.dropped,
                       now.dropped_bytes - then.dropped_bytes, now.queued});
    }
    return out;
}

std::string live_counts::line(const std::vector<flow_count>& pipes) {
    std::string out = "  forwarded/dropped/queued:";
    for (std::size_t q = 0; q < pipes.size(); ++q)
        out += fmt::format("{} {}/{}/{}", q == 0 ? "" : " |", pipes[q].forwarded, pipes[q].dropped, pipes[q].queued);
    return out + "\n";
}

tool::json live_counts::json(const std::vector<flow_count>& pipes) const {
    std::string list;
    for (std::size_t q = 0; q < pipes.size(); ++q)
        list += (list.empty() ? "" : ", ") + tool::json()
                                                 .add("name", outlets_[q].name)
                                                 .add("forwarded", pipes[q].forwarded)
                                                 .add("dropped", pipes[q].dropped)
                                                 .add("queued", pipes[q].queued)
                                                 .text();
    return tool::json().raw("pipes", "[" + list + "]");
}

std::vector<std::string> netmap_statistics::lines(std::uint64_t received, std::uint64_t without_ip, std::uint64_t free) {
    const std::uint64_t now = nm::system_clock::now_ns();
    const double seconds = std::max(1e-6, static_cast<double>(now - std::exchange(then_, now)) / 1e9);
    const auto wall = nm::system_clock::wall();
    const std::string ts = fmt::format("{}.{:06}", wall.sec, wall.usec);
    const auto rates = [&](tool::json& j, const flow_count& c) {
        const auto rate = [&](std::uint64_t n, double unit) { return static_cast<double>(n) / seconds / unit; };
        j.add("data_forward_rate_Mbps", rate(c.forwarded_bytes * 8, 1024 * 1024))
            .add("data_drop_rate_Mbps", rate(c.dropped_bytes * 8, 1024 * 1024))
            .add("packet_forward_rate_kpps", rate(c.forwarded, 1000))
            .add("packet_drop_rate_kpps", rate(c.dropped, 1000));
    };
    std::vector<std::string> out;
    const auto pipes = live_.since();
    flow_count all, sum;
    for (std::size_t q = 0; q < pipes.size(); ++q) {
        const flow_count so_far = outlets_[q].shown.look();
        add(all, so_far);
        add(sum, pipes[q]);
        tool::json j;
        j.raw("ts", ts).add("interface", outlets_[q].name).add("output_ring", q).add("packets_forwarded", so_far.forwarded).add("packets_dropped", so_far.dropped);
        rates(j, pipes[q]);
        out.push_back(j.add("overflow_queue_size", so_far.queued).text());
    }
    tool::json j;
    j.raw("ts", ts).add("interface", input_).raw("output_ring", "null").add("packets_received", received).add("packets_forwarded", all.forwarded);
    j.add("packets_dropped", all.dropped).add("non_ip_packets", without_ip);
    rates(j, sum);
    out.push_back(j.add("free_buffer_slots", free).text());
    return out;
}

}  // namespace lb
