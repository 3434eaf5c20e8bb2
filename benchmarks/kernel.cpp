// SPDX-License-Identifier: BSD-2-Clause

// nm on kernel interfaces, one thread. Works:
//   loop  nm::generate on --a, nm::drain on --b, two veth ends; the rate is what arrived
//   tx    nm::generate on --a
// --mode af_xdp or af_packet requires that mode; without it nm chooses, and the sample says what.

#include <nm/nm.hpp>
#include <nm/ports/netdev.hpp>

#include "kernel.hpp"

namespace {

nm::netdev open(nm::context& context, const bench::options& o, const std::string& name) {
    nm::open_options options;
    options.require_mode = !o.mode.empty();
    if (o.mode == "af_xdp") options.mode = nm::netdev_mode::af_xdp_copy;
    else if (o.mode == "af_packet") options.mode = nm::netdev_mode::af_packet;
    else if (!o.mode.empty()) bench::die("--mode af_xdp or af_packet", 2);
    auto port = nm::try_open<nm::netdev>(context, "netmap:" + name, options);
    if (!port) bench::die(port.error().text);
    return std::move(*port);
}

}  // namespace

int main(int argc, char** argv) {
    const auto o = bench::parse(argc, argv);
    if (o.work != "loop" && o.work != "tx") bench::die("--work loop or tx", 2);
    bench::pin(o.cpu_b);
    nm::context context;
    auto a = open(context, o, o.a);
    std::uint64_t sequence = 0, sum = 0;
    const auto send = [&]() noexcept {
        return nm::generate(a, o.batch, [&](nm::frame& f) noexcept {
            bench::fill_ethernet(f.data(), sequence++);
            f.resize(bench::frame_bytes);
        });
    };
    bench::measured rate;
    std::string mode = a.mode();
    if (o.work == "tx") {
        rate = bench::timed_rate(o, 1, [&]() -> std::uint64_t { return send(); });
    } else {
        auto b = open(context, o, o.b);
        mode += ", " + b.mode();
        rate = bench::timed_rate(o, 1, [&]() -> std::uint64_t {
            send();
            return nm::drain(b, o.batch, [&](nm::frame& f) noexcept { sum += bench::read_frame(f.data()); });
        });
        if (sum == 0) bench::die("nothing arrived");
    }
    bench::report_one(o, "nm", rate, mode);
}
