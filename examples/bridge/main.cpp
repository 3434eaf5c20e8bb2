// SPDX-License-Identifier: BSD-2-Clause
// needs: fmt
#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "books.hpp"
#include "common/closing.hpp"
#include "common/main.hpp"
#include "common/metrics_file.hpp"
#include "common/peer.hpp"
#include "common/watchable.hpp"
#include "forwarder.hpp"

namespace {

using namespace bridge;

/// A pipe's memory is another program's too.
[[nodiscard]] bool is_pipe(const std::string& name) { return tool::spec_of(name).kind == nm::port_kind::pipe; }
[[nodiscard]] nm::context_options memory_of(const settings& s) {
    nm::context_options o;
    if (std::any_of(s.ports.begin(), s.ports.end(), is_pipe)) o.where = nm::backing::memfd;
    return o;
}

/// The run comes last: it ends the forwarding thread before anything that it uses goes.
struct job {
    explicit job(settings settled) : s(std::move(settled)) {}

    settings s;
    nm::context ctx{memory_of(s)};
    std::vector<tool::any_port> ports;
    tool::watch_permits permits;
    std::vector<std::optional<nm::sys::link_counters>> kernel;  ///< as they were when the ports were opened
    std::unique_ptr<tool::peer> feeder, drain;
    pair sides{};
    shared work{run, s};
    tool::run run;
};

[[nodiscard]] tool::totals look(job& j) {
    tool::totals t;
    t.add(j.work.forth);
    t.add(j.work.back);
    return t;
}

// A kernel interface goes on receiving while the bridge is off its CPU for a while: twice the usual ring outlasts that.
[[nodiscard]] nm::open_options options_for(const nm::port_spec& spec) {
    nm::open_options o;
    o.offloads = true;  // what one side leaves undone the other can do, or leave undone too
    if (spec.kind == nm::port_kind::netdev) o.tx_slots = o.rx_slots = 2048;
    return o;
}

/// Driven by another process, or the host of this machine, in memory of theirs.
[[nodiscard]] bool is_served(const nm::port_spec& s) { return s.kind == nm::port_kind::vale || s.kind == nm::port_kind::ptnet || s.monitor(); }
[[nodiscard]] bool is_pci(const std::string& name) { return tool::spec_of(name).kind == nm::port_kind::pci; }

/// One memory for both ports, so that buffers are swapped; none when a name asks for memory itself, or for a NIC: what that
/// needs only its open knows. What is wrong with a port its open will say.
[[nodiscard]] nm::region_ptr common_memory(job& j) {
    nm::region_options r;
    r.bufs = 2;
    for (const auto& name : j.s.ports) {
        const auto spec = tool::spec_of(name);
        if (spec.mem_id || !spec.share.empty() || is_pci(name) || is_served(spec)) return nullptr;
        if (is_pipe(name)) r.where = nm::backing::memfd;
        const auto info = nm::query<tool::ports>(j.ctx, name, options_for(spec));
        if (!info) return nullptr;
        const std::uint32_t slots = info->tx_rings * info->tx_slots + info->rx_rings * info->rx_slots;
        r.bufs += slots;
        // A pipe has its other end's rings too.
        r.meta_bytes += 2 * (slots * sizeof(nm::slot) + (info->tx_rings + info->rx_rings) * std::size_t{2048});
        r.buf_size = std::max(r.buf_size, info->buf_size);
    }
    return nm::value_or_throw(nm::region::create(r));
}

/// A port that cannot send frames with headers gets complete ones.
void complete_frames_for(tool::any_port& to, tool::any_port& from) {
    const bool carries = std::visit([](auto& p) {
        if constexpr (requires { p.carries_headers(); }) return p.carries_headers();
        else return true;
    }, to);
    if (carries) return;
    std::visit([](auto& p) {
        if constexpr (requires { p.deliver_headers(false); }) p.deliver_headers(false);
    }, from);
}

void open_all(job& j) {
    // The two parts of one interface are in one memory by themselves.
    const bool apart = j.s.copy || j.s.with_host || j.s.ports.size() == 1;
    const nm::region_ptr memory = apart ? nullptr : common_memory(j);
    const auto open = [&](std::size_t i) {
        const std::string& name = j.s.ports[i];
        const auto spec = tool::spec_of(name);
        nm::open_options o = options_for(spec);
        o.memory = memory;
        if (!memory && !apart && !is_served(spec)) o.mem_id = 1;
        const bool host = j.s.with_host && i != 0;
        tool::any_port port = tool::open_port(j.ctx, name, o, host ? std::string_view{} : j.s.require_mode);
        j.kernel[i] = std::visit([](auto& p) { return tool::kernel_counters(p); }, port);  // at once: frames may be coming
        return port;
    };
    j.kernel.resize(j.s.ports.size());
    // A NIC first: the memory is made to suit it.
    std::optional<tool::any_port> second;
    if (j.s.ports.size() == 2 && !is_pci(j.s.ports[0]) && is_pci(j.s.ports[1])) second = open(1);
    j.ports.push_back(open(0));
    if (second) j.ports.push_back(std::move(*second));
    else if (j.s.ports.size() == 2) j.ports.push_back(open(1));
    if (j.ports.size() == 2) {
        complete_frames_for(j.ports[0], j.ports[1]);
        complete_frames_for(j.ports[1], j.ports[0]);
    }
    // An interface and its host rings are watched by one name.
    for (std::size_t i = 0; j.s.watchable && i < (j.s.with_host ? 1 : j.s.ports.size()); ++i) tool::let_watch(j.permits, j.ctx, j.s.ports[i]);
    if (j.s.copy && j.ports.size() == 2) {
        const auto base = [](auto& p) { return p.region().base(); };
        if (std::visit(base, j.ports[0]) == std::visit(base, j.ports[1]))
            tool::print_err(
                "bridge: note: -c: the names of both ports ask for one memory, so buffers are swapped all the same\n");
    }
    if (!j.s.feed.empty())
        j.feeder = std::make_unique<tool::peer>(tool::open_port(j.ctx, j.s.feed, {}, {}), tool::peer_role::feed, 60);
    if (!j.s.drain.empty())
        j.drain = std::make_unique<tool::peer>(tool::open_port(j.ctx, j.s.drain, {}, {}), tool::peer_role::drain, 60);
}

void start(job& j) {
    const auto wrap = [](tool::any_port& p) {
        return std::visit([](auto& port) -> std::unique_ptr<side> { return std::make_unique<side_of<std::remove_cvref_t<decltype(port)>>>(port); }, p);
    };
    const auto moves = [](tool::any_port& from, tool::any_port& to) {
        return std::visit([](auto& a, auto& b) { return mover_for<std::remove_cvref_t<decltype(a)>, std::remove_cvref_t<decltype(b)>>(); }, from, to);
    };
    tool::any_port& a = j.ports.front();
    tool::any_port& b = j.ports.back();
    j.sides = {wrap(a), j.ports.size() == 2 ? wrap(b) : nullptr, moves(a, b), moves(b, a)};
    j.run.start([&j] { forward_between(j.sides, j.work); });
}

void say_directions(job& j, std::array<std::uint64_t, 2>& last) {
    const std::array<std::uint64_t, 2> now{j.work.forth.packets, j.work.back.packets};
    for (std::size_t i = 0; i < j.ports.size(); ++i)
        tool::print_err(fmt::format("  {} -> {}: {} frames\n", j.s.ports[i], j.s.ports[(i + 1) % j.ports.size()],
                                    now[i] - last[i]));
    last = now;
}

/// While the other thread forwards, or when it has ended.
void count(job& j, tool::metrics& m, bool ended) {
    for (std::size_t i = 0; i < j.ports.size(); ++i)
        std::visit([&](auto& p) {
            if (ended) tool::add_port(m, "bridge", j.s.ports[i], p);
            else tool::add_live_port(m, "bridge", j.s.ports[i], p);
        }, j.ports[i]);
}

[[nodiscard]] int run(settings settled) {
    job j(std::move(settled));
    const settings& s = j.s;
    for (const auto& n : s.notes) tool::print_err("bridge: note: " + n + "\n");
    open_all(j);
    if (s.wait_link > 0) j.run.pause(s.wait_link);

    const std::uint64_t began = nm::system_clock::now_ns();
    tool::metrics_file metrics("bridge", s.metrics);
    const auto live = [&j](tool::metrics& m) { count(j, m, false); };
    metrics.interval(live);  // one that cannot be written is said at once
    tool::rate_report report(s.style);
    std::array<std::uint64_t, 2> shown{};
    start(j);
    j.run.watch(std::uint64_t{s.report_ms} * 1'000'000, static_cast<std::uint64_t>(s.seconds * 1e9), [&] {
        report.interval(look(j));
        metrics.interval(live);
        if (s.verbose > 0) say_directions(j, shown);
    });
    books b;
    b.seconds = static_cast<double>(nm::system_clock::now_ns() - began) / 1e9;
    const tool::totals done = look(j);
    b.packets = done.packets;
    b.bytes = done.bytes;
    for (std::size_t i = 0; i < j.ports.size(); ++i)
        b.ports.push_back(std::visit([&](auto& p) { return close_books(s.ports[i], p, j.kernel[i]); }, j.ports[i]));
    const auto rows = [&] { tool::csv_sum("summary", b.seconds, done); };
    return tool::close_run(j.run, s, b, metrics, false, rows, [&j](tool::metrics& m) { count(j, m, true); });
}

constexpr tool::about self{
    .name = "bridge",
    .usage = "bridge -i PORT [-i PORT] [OPTIONS]",
    .purpose = "Forwards frames between two ports of nm, both ways, or between an interface and the host's stack; the\n"
               "letters are those of netmap's bridge.\n",
    .example = "bridge -i 'netmap:a{1' -i 'netmap:b{1' --feed 'netmap:a}1' --drain 'netmap:b}1' --time 3",
    .built_in = [] { return fmt::format("ports: {}", tool::ports::kinds()); },
};

}  // namespace

int main(int argc, char** argv) {
    return tool::tool_main(self, option_table(), argc, argv, [](settings& s) {
        settle(s);
        return run(std::move(s));
    });
}
