// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <deque>
#include <memory>
#include <optional>
#include <syslog.h>

#include "books.hpp"
#include "common/closing.hpp"
#include "common/main.hpp"
#include "common/metrics_file.hpp"
#include "common/peer.hpp"

namespace {

using namespace lb;

/// Driven by another process, or the host of this machine, in memory of theirs.
[[nodiscard]] bool is_served(const nm::port_spec& s) { return s.kind == nm::port_kind::vale || s.kind == nm::port_kind::ptnet; }

[[nodiscard]] nm::open_options input_options(const settings& s) {
    const auto spec = tool::spec_of(s.input);
    nm::open_options o;
    // A kernel interface goes on receiving while lb is off its CPU for a while: twice the usual ring outlasts that.
    if (spec.kind == nm::port_kind::netdev) o.tx_slots = o.rx_slots = 2048;
    if (!is_served(spec) && !spec.mem_id && spec.share.empty()) o.mem_id = 1;
    return o;
}
[[nodiscard]] unsigned memory_id(const settings& s) { return tool::spec_of(s.input).mem_id.value_or(1); }

constexpr unsigned reverse_slots = 64;  // nobody reads what consumers send; a pipe has that direction all the same

/// One memory for the input, the pipes and what waits, which consumers can map: so frames move by swapping buffers.
[[nodiscard]] nm::context_options memory_for(const settings& s) {
    nm::context_options c;
    c.where = nm::backing::memfd;
    std::uint64_t bufs = 4096 + std::uint64_t{s.extra_bufs};  // a NIC may want some beside its rings', and who dies may take some along
    if (!s.copy) bufs += s.pipes() * (std::uint64_t{s.slots} + reverse_slots);
    nm::context asking;
    if (const auto info = nm::query<tool::ports>(asking, s.input, input_options(s))) {  // else its open will say what is wrong
        bufs += std::uint64_t{info->tx_rings} * info->tx_slots + std::uint64_t{info->rx_rings} * info->rx_slots;
        c.buf_size = std::max(c.buf_size, info->buf_size);
    }
    c.shared_bufs = static_cast<std::uint32_t>(std::min<std::uint64_t>(bufs, nm::region::max_bufs));
    return c;
}

/// The run comes last: it ends the working thread before anything that it uses goes.
struct job {
    explicit job(settings settled) : s(std::move(settled)) {}

    settings s;
    nm::context ctx{memory_for(s)};
    nm::context others;  ///< what is not to share that memory
    nm::region_ptr memory;
    std::unique_ptr<tool::any_port> input;
    std::optional<nm::sys::link_counters> kernel;  ///< as they were when it was opened
    std::deque<pipe_outlet> outlets;
    std::unique_ptr<pipe_spreader> spread;
    std::unique_ptr<tool::peer> feeder;
    std::vector<std::unique_ptr<tool::peer>> drains;
    std::unique_ptr<balancer> work;
    tool::run run;
};

[[nodiscard]] std::vector<std::uint32_t> take_buffers(nm::region& m, std::uint32_t n) {
    const std::lock_guard guard(m.pools());
    if (m.bufs().available() < n)
        throw tool::run_error(fmt::format("-B {}: the memory has {} buffers left; name no memory in -i, or ask for fewer", n, m.bufs().available()));
    std::vector<std::uint32_t> all;
    for (; n != 0; --n) all.push_back(*m.bufs().take());
    return all;
}

[[nodiscard]] std::vector<group> open_pipes(job& j) {
    const settings& s = j.s;
    std::vector<group> groups;
    for (const auto& g : s.groups) {
        groups.push_back({g.prefix, j.outlets.size(), g.count});
        for (unsigned i = g.first; i < g.first + g.count; ++i) {
            nm::open_options o;
            o.tx_slots = s.slots;
            o.rx_slots = reverse_slots;
            if (!s.copy) o.mem_id = memory_id(s);
            const std::string name = pipe_name(g.prefix, i);
            const auto& pipe = j.outlets.emplace_back(name, nm::open<nm::shared_pipe>(s.copy ? j.others : j.ctx, name, o)).port;
            tool::print_err(fmt::format("{}: pipe ({}); {} slots\n", name, pipe.info().reason, pipe.info().tx_slots));
        }
    }
    return groups;
}

void open_all(job& j) {
    const settings& s = j.s;
    j.input = std::make_unique<tool::any_port>(tool::open_port(j.ctx, s.input, input_options(s), s.require_mode));
    j.kernel = std::visit([](auto& p) { return tool::kernel_counters(p); }, *j.input);  // at once: frames may be coming
    if (std::visit([](auto& p) { return p.num_rx_rings(); }, *j.input) == 0) throw tool::run_error(s.input + " has no rx ring here; leave /T out of its name");
    j.memory = nm::value_or_throw(j.ctx.shared_region(memory_id(s)));
    auto groups = open_pipes(j);
    const auto key = s.hash_key ? nm::vale::keyed_hash::from(*s.hash_key, *s.hash_key * 0xd6e8feb86659fd93U) : nm::vale::keyed_hash::random();
    j.spread = std::make_unique<pipe_spreader>(j.outlets, std::move(groups), nm::vale::connection_reader(key),
                                               overflow(j.outlets.size(), take_buffers(*j.memory, s.extra_bufs)), nm::buffer_space(*j.memory));
    for (const auto& name : s.drains)
        j.drains.push_back(std::make_unique<tool::peer>(tool::open_port(j.others, name, {}, {}), tool::peer_role::drain, 60));
    if (!s.feed.empty()) j.feeder = std::make_unique<tool::peer>(tool::open_port(j.others, s.feed, {}, {}), tool::peer_role::feed, 60);
}

/// Says when so many seconds have passed again.
class every {
public:
    explicit every(unsigned seconds) : period_(std::uint64_t{seconds} * 1'000'000'000U), next_(nm::system_clock::now_ns() + period_) {}
    [[nodiscard]] bool due() {
        const std::uint64_t now = nm::system_clock::now_ns();
        if (period_ == 0 || now + 1'000'000 < next_) return false;
        next_ += period_ * ((now + 1'000'000 - next_) / period_ + 1);
        return true;
    }

private:
    std::uint64_t period_, next_;
};

/// While the other thread works, or when it has ended. What went to a consumer is counted by connection's share, not by its pipe's rings.
void count(job& j, tool::metrics& m, bool ended) {
    std::visit([&](auto& p) {
        if (ended) tool::add_port(m, "lb", j.s.input, p);
        else tool::add_live_port(m, "lb", j.s.input, p);
    }, *j.input);
    for (const auto& o : j.outlets) {
        const flow_count c = o.shown.look();
        const auto who = tool::labels_of("lb", o.name);
        m.counter("nm_lb_forwarded_frames", "Frames that went into a consumer's pipe.", who, c.forwarded);
        m.counter("nm_lb_dropped_frames", "Frames for a consumer that there was no room for.", who, c.dropped);
        m.gauge("nm_lb_queued_frames", "Frames that wait for a consumer.", who, c.queued);
    }
}

void watch(job& j, tool::metrics_file& metrics) {
    const settings& s = j.s;
    const auto now = [&j](tool::metrics& m) { count(j, m, false); };
    metrics.interval(now);  // one that cannot be written is said at once
    tool::rate_report report(s.style);
    live_counts live(j.outlets);
    netmap_statistics to_stdout(s.input, j.outlets), to_syslog(s.input, j.outlets);
    every stdout_time(s.stdout_s), syslog_time(s.syslog_s);
    const unsigned tick_ms = s.stdout_s + s.syslog_s != 0 ? std::min(s.report_ms, 1000U) : s.report_ms;
    unsigned passed = 0;
    if (s.syslog_s != 0) ::openlog("lb", LOG_PID, LOG_LOCAL1);
    j.run.watch(std::uint64_t{tick_ms} * 1'000'000, static_cast<std::uint64_t>(s.seconds * 1e9), [&] {
        const auto lines = [&](netmap_statistics& of) {
            return of.lines(j.work->done.packets.load(std::memory_order_relaxed), j.work->without_ip.load(std::memory_order_relaxed),
                            j.work->free.load(std::memory_order_relaxed));
        };
        if (stdout_time.due())
            for (const auto& line : lines(to_stdout)) tool::print_out(line + "\n");
        if (syslog_time.due())
            for (const auto& line : lines(to_syslog)) ::syslog(LOG_INFO, "%s", line.c_str());
        if ((passed += tick_ms) < s.report_ms) return;
        passed = 0;
        tool::totals t;
        t.add(j.work->done);
        const auto pipes = live.since();
        report.interval(t, live.json(pipes));
        tool::print_err(live_counts::line(pipes));
        metrics.interval(now);
    });
}

void print_csv(const books& b, const tool::totals& t) {
    for (const auto& p : b.pipes) {
        tool::csv_sum("forwarded " + p.name, b.seconds, {.packets = p.count.forwarded, .bytes = p.count.forwarded_bytes});
        tool::csv_sum("dropped " + p.name, b.seconds, {.packets = p.count.dropped, .bytes = p.count.dropped_bytes});
    }
    tool::csv_sum("summary", b.seconds, {.packets = b.received, .bytes = b.bytes, .events = t.events});
}

[[nodiscard]] int run(settings settled) {
    job j(std::move(settled));
    const settings& s = j.s;
    open_all(j);
    if (s.wait_link > 0) j.run.pause(s.wait_link);

    const std::uint64_t began = nm::system_clock::now_ns();
    j.work = std::make_unique<balancer>(j.run, s, *j.input, j.outlets, *j.spread);
    j.run.start([&j] { j.work->work(); });
    tool::metrics_file metrics("lb", s.metrics);
    watch(j, metrics);
    const books b = close_books(s, *j.input, j.kernel, j.outlets, *j.spread, static_cast<double>(nm::system_clock::now_ns() - began) / 1e9);
    tool::totals t;
    t.add(j.work->done);
    return tool::close_run(j.run, s, b, metrics, s.stdout_s != 0, [&] { print_csv(b, t); }, [&j](tool::metrics& m) { count(j, m, true); });
}

constexpr tool::about self{
    .name = "lb",
    .usage = "lb -i PORT [-p PREFIX:COUNT]... [OPTIONS]",
    .purpose = "Spreads the frames of one port over pipes that other programs read, all of a connection to the same one; the\n"
               "letters are those of netmap's lb.\n",
    .example = "lb -i 'netmap:in{1' -p out:2 --feed 'netmap:in}1' --drain 'netmap:out}0' --drain 'netmap:out}1' --time 3",
    .built_in = [] { return fmt::format("ports: {}", tool::ports::kinds()); },
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main(self, option_table(), argc, argv, [](settings& s) {
        settle(s);
        return run(std::move(s));
    });
}
