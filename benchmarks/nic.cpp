// SPDX-License-Identifier: BSD-2-Clause

// nm on NICs of a guest, through VFIO, one thread. --mode is the kind: e1000 or virtio_net. Works:
//   tx    nm::generate on --a
//   loop  nm::generate on --a, nm::drain on --b; the rate is what arrived

#include <tuple>

#include <nm/nm.hpp>
#include <nm/ports/e1000.hpp>
#include <nm/ports/nic.hpp>
#include <nm/ports/virtio_net.hpp>

#include "nic.hpp"

namespace {

template <class Port>
Port open(nm::context& context, const std::string& address) {
    auto port = nm::try_open<Port>(context, "netmap:" + address);
    if (!port) bench::die(port.error().text);
    return std::move(*port);
}

template <class Device>
void run(const bench::options& o) {
    using port = nm::nic<Device>;
    nm::context context;
    auto a = open<port>(context, o.a);
    bench::flow flow;
    const auto send = [&](unsigned n) noexcept {
        return nm::generate(a, n, [&](nm::frame& f) noexcept {
            flow.fill(f.data());
            f.resize(bench::frame_bytes);
        });
    };
    bench::measured rate;
    std::uint64_t lost = 0;
    if (o.work == "tx") {
        rate.rate = bench::guest_rate(o, [&]() -> std::uint64_t { return send(o.batch); });
    } else {
        auto b = open<port>(context, o.b);
        const auto receive = [&](unsigned n) noexcept { return nm::drain(b, n, [&](nm::frame& f) noexcept { flow.read(f.data()); }); };
        std::tie(rate, lost) = bench::guest_loop(o, flow, send, receive, [] { bench::relax(); });
    }
    // Those in the ring may be under way still. Not every device counts.
    const std::uint64_t queued = a.tx_stats().frames, sent = a.device_counters().tx_frames;
    if (a.tx_stats().dropped() != 0 || lost != 0 || (sent != 0 && sent + a.tx().num_slots() < queued))
        bench::die(std::to_string(queued) + " frames were queued, " + std::to_string(sent) + " sent, " + std::to_string(lost) + " lost");
    bench::report_one(o, "nm", rate, a.mode());
}

}  // namespace

int main(int argc, char** argv) {
    const auto o = bench::parse(argc, argv);
    if (o.work != "loop" && o.work != "tx") bench::die("--work loop or tx", 2);
    if (o.mode == "e1000") run<nm::e1000>(o);
    else if (o.mode == "virtio_net") run<nm::virtio_net>(o);
    else bench::die("--mode e1000 or virtio_net", 2);
}
