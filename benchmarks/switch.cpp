// SPDX-License-Identifier: BSD-2-Clause

// nm's switch, nm::vale::vale_switch with the learning lookup. Works (support/switch.hpp says what a packet is):
//   copy   each port in a region of its own
//   swap   all ports in one region: buffers change places
//   stuck  copy; the last of the receiving ports is never read. The rate is that of the others
//   read   the same with the last port read, and not counted
//   storm  copy; one port more sends broadcasts as fast as it can, in a thread of its own. The rate is that of the others'
//          own frames, although they have to read the broadcasts too
//   calm   the same with nothing sent there

#include <nm/nm.hpp>
#include <optional>

#include "switch.hpp"

namespace {

struct network {
    network(const bench::options& o, bool one_region)
        : sw(context, "vale0", nm::vale::learning_options{.stations = std::max<std::size_t>(100'000, std::size_t{4} * o.stations)}) {
        options.tx_slots = options.rx_slots = o.slots;
        if (one_region) {
            const auto memory = nm::region::create({.bufs = (o.ports + 1) * 2 * o.slots + 2, .meta_bytes = (o.ports + 1) * (64 * o.slots + 4096)});
            if (!memory) bench::die(memory.error().text);
            options.memory = *memory;
        }
        sender.emplace(sw.new_port("sender", options));
        for (unsigned i = 0; i < o.ports; ++i) receivers.push_back(sw.new_port("receiver" + std::to_string(i), options));
    }

    /// Every receiving station says something to one behind the sender. What the first of these frames floods is read.
    void learn(const bench::traffic& t) {
        const bench::mac first = t.flows()[0].from;
        say(sender->tx(), t.flows()[0].to, first);
        for (const auto& f : t.flows()) {
            say(receivers[f.port].tx(), first, f.to);
            while (nm::drain(sender->rx(), 64) != 0) {}
        }
        for (auto& p : receivers)
            while (nm::drain(p.rx(), 64) != 0) {}
    }
    template <class Ring>
    static void say(Ring& ring, bench::mac to, bench::mac from) {
        nm::generate(ring, 1, [&](nm::frame& f) noexcept {
            std::memset(f.data(), 0, bench::frame_bytes);
            std::memcpy(f.data(), &to, 6);
            std::memcpy(f.data() + 6, &from, 6);
            f.resize(bench::frame_bytes);
        });
    }

    nm::context context;
    nm::open_options options;
    nm::vale::vale_switch<> sw;
    std::optional<nm::vale_port> sender;
    std::vector<nm::vale_port> receivers;
};

[[gnu::always_inline]] inline auto send_to(nm::vale_port& port, unsigned batch, bench::traffic& t) {
    return [&ring = port.tx(), batch, &t]() noexcept {
        auto frames = t.next();
        nm::generate(ring, batch, [&frames](nm::frame& f) noexcept {
            frames.fill(f.data());
            f.resize(bench::frame_bytes);
        });
        t.sent(frames);
    };
}

void every_packet(const bench::options& o, bool swap) {
    bench::traffic t(o);
    network n(o, swap);
    n.learn(t);
    bench::tally received;
    bench::run_switch(o, swap ? "nm, zero-copy" : "nm, copy", t, received, send_to(*n.sender, o.batch, t), [&](unsigned p) noexcept -> std::uint64_t {
        std::uint64_t sum = 0;
        const auto got = nm::drain(n.receivers[p].rx(), o.batch, [&](nm::frame& f) noexcept { sum += bench::read_frame(f.data()); });
        received.sum += sum;
        received.packets += got;
        return got;
    });
}

void one_stuck(const bench::options& o, bool stuck) {
    bench::traffic t(o);
    network n(o, false);
    n.learn(t);
    bench::tally others, last;
    const auto send = send_to(*n.sender, o.batch, t);
    const auto receive = [&](unsigned p) noexcept -> std::uint64_t {
        bench::tally& to = p + 1 == o.ports ? last : others;
        if (stuck && &to == &last) return 0;
        const auto got = nm::drain(n.receivers[p].rx(), o.batch, [&](nm::frame& f) noexcept { to.sum += bench::read_frame(f.data()); });
        to.packets += got;
        return got;
    };
    bench::pin(o.cpu_b);
    const bench::measured rate = bench::timed_rate(o, 1, [&]() noexcept {
        const std::uint64_t before = others.packets;
        bench::switch_round(o, send, receive);
        return others.packets - before;
    });
    if (others.packets != t.sent() - t.sent_to(o.ports - 1)) bench::die("packets of the ports that read were lost");
    bench::report_one(o, stuck ? "nm, one stuck" : "nm, all read", rate);
}

void broadcasts(const bench::options& o, bool storm) {
    bench::traffic t(o);
    network n(o, false);
    nm::vale_port noisy = n.sw.new_port("noisy", n.options);
    n.learn(t);
    const double pingpong = bench::pingpong_ns(o);
    std::uint64_t others = 0, copies = 0, sum = 0;
    const auto send = send_to(*n.sender, o.batch, t);
    const auto receive = [&](unsigned p) noexcept -> std::uint64_t {
        return nm::drain(n.receivers[p].rx(), o.batch, [&](nm::frame& f) noexcept {
            ++((f.data()[0] & 1) != 0 ? copies : others);
            sum += bench::read_frame(f.data());
        });
    };
    const bench::measured rate = bench::channel_rate(
        o,
        [&ring = noisy.tx(), storm, batch = o.batch]() noexcept -> std::uint64_t {
            if (!storm) return 0;
            return nm::generate(ring, batch, [](nm::frame& f) noexcept {
                std::memset(f.data(), 0xff, 6);
                std::memset(f.data() + 6, 0x02, bench::frame_bytes - 6);
                f.resize(bench::frame_bytes);
            });
        },
        [&]() noexcept -> std::uint64_t {
            const std::uint64_t before = others;
            bench::switch_round(o, send, receive);
            while (nm::drain(n.sender->rx(), o.batch) == o.batch) {}
            return others - before;
        });
    if (sum == 0 || storm != (copies != 0)) bench::die("no broadcasts, or some that nobody sent");
    bench::report_two(o, storm ? "nm, one broadcaster" : "nm, none", rate, pingpong,
                      std::to_string(t.sent() - others) + " of " + std::to_string(t.sent()) + " lost, " + std::to_string(copies) + " broadcasts read");
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.work.empty()) o.work = "copy";
    if (o.work == "copy" || o.work == "swap") every_packet(o, o.work == "swap");
    else if (o.work == "stuck" || o.work == "read") one_stuck(o, o.work == "stuck");
    else if (o.work == "storm" || o.work == "calm") broadcasts(o, o.work == "storm");
    else bench::die("--work copy, swap, stuck, read, storm or calm", 2);
}
