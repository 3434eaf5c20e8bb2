// SPDX-License-Identifier: BSD-2-Clause

// The loops of who uses a port across a boundary, for callgrind: --mode guest (a port that a host passes through) or pipe (one end of
// a pipe between two processes), --packets N. Both sides run in this thread, by turns; only measured() is counted, so neither the host
// nor the other end. Works, each on 60-byte frames:
//   generate  fills and sends
//   drain     receives and reads
//   forward   from the port's receive ring to its own transmit ring: buffers swap

#include <nm/fuse.hpp>
#include <nm/ports/pipe.hpp>
#include <nm/ports/shared_pipe.hpp>
#include <nm/ptnet/host.hpp>
#include <nm/ptnet/port.hpp>
#include <nm/ptnet/sync_loop.hpp>

#include <filesystem>
#include <thread>

#include "sample.hpp"

namespace {

template <class T>
T need(nm::result<T> r) {
    if (!r) bench::die(r.error().text);
    return std::move(*r);
}

/// What a frame is filled from and added up to.
struct counts {
    std::uint64_t sent = 0, received = 0, sum = 0;
};

/// callgrind collects from here to its return (--toggle-collect); nothing above it on the stack may have such a name.
template <class Step>
[[gnu::noinline]] nm::index_t measured(Step& step) noexcept {
    return step();
}

template <class Port>
nm::index_t fill(Port& port, unsigned batch, counts& c) noexcept {
    return nm::generate(port.tx(), batch, [&c](nm::frame& f) noexcept {
        bench::fill_frame(f.data(), c.sent++);
        f.resize(bench::frame_bytes);
    });
}
template <class Port>
nm::index_t read(Port& port, unsigned batch, counts& c) noexcept {
    const auto n = nm::drain(port.rx(), batch, [&c](nm::frame& f) noexcept { c.sum += bench::read_frame(f.data()); });
    c.received += n;
    return n;
}

/// `port` is the one that the loops run on, `far` the other end; `pass()` is what happens between the two.
template <class Port, class Far, class Pass>
void run(const bench::options& o, Port& port, Far& far, Pass&& pass) {
    counts c;
    const auto generating = [&]() noexcept { return fill(port, o.batch, c); };
    const auto draining = [&]() noexcept { return read(port, o.batch, c); };
    const auto forwarding = [&]() noexcept { return nm::forward(port.rx(), port.tx(), o.batch); };
    for (std::uint64_t done = 0; done < o.packets; done += o.batch) {
        nm::index_t n = 0;
        if (o.work == "generate") {
            n = measured(generating);
            pass();
            (void)read(far, o.batch, c);
        } else {
            (void)fill(far, o.batch, c);
            pass();
            n = o.work == "drain" ? measured(draining) : measured(forwarding);
            pass();
            if (o.work == "forward") (void)read(far, o.batch, c);
        }
        if (n != o.batch) bench::die("only " + std::to_string(n) + " frames went through the loop");
    }
    if (c.received != c.sent || c.sum != bench::expected_sum(c.sent)) bench::die("frames were lost or repeated");
    bench::report_one(o, o.mode.c_str(), {static_cast<double>(c.received), false});
}

void run_guest(const bench::options& o) {
    nm::context host, guest;
    const std::string name = "netmap:bench{1";
    auto memory = need(nm::ptnet::host_memory::create(need(nm::ptnet::memory_for<nm::pipe>(host, name))));
    std::shared_ptr<nm::ptnet::service> served = need(nm::ptnet::serve<nm::pipe>(host, memory, name));
    auto far = need(nm::try_open<nm::pipe>(host, "netmap:bench}1"));
    nm::ptnet::link_to_host link;
    link.keep = memory;
    link.base = memory->base();
    link.size = memory->size();
    for (unsigned v = 0; v < served->vectors(); ++v) {
        link.bells.push_back({served->kick_fd(v)});
        link.wakes.emplace_back(::fcntl(served->irq_fd(v), F_DUPFD_CLOEXEC, 0));
    }
    auto port = [&] {
        // Somebody has to answer the handshake.
        std::jthread answers([&](const std::stop_token& stop) {
            while (!stop.stop_requested()) (void)served->visit();
        });
        return need(nm::ptnet_port::attach(guest, std::move(link), need(nm::parse_port("ptnet:bench")), {}));
    }();
    run(o, port, far, [&]() noexcept { (void)served->visit(); });
}

void run_pipe(const bench::options& o) {
    std::string dir = (std::filesystem::temp_directory_path() / "nm-bench-XXXXXX").string();
    if (::mkdtemp(dir.data()) == nullptr || ::setenv("NM_RUNTIME_DIR", (dir + "/run").c_str(), 1) != 0) bench::die("no place for a socket");
    {
        nm::context one, other;  // as two processes have them
        auto port = need(nm::try_open<nm::shared_pipe>(one, "netmap:bench{1"));
        auto far = need(nm::try_open<nm::shared_pipe>(other, "netmap:bench}1"));
        run(o, port, far, []() noexcept {});
    }
    bench::remove_folder(dir);
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.packets == 0) o.packets = 65536;
    if (o.work != "generate" && o.work != "drain" && o.work != "forward") bench::die("--work generate, drain or forward", 2);
    if (o.mode == "guest") run_guest(o);
    else if (o.mode == "pipe") run_pipe(o);
    else bench::die("--mode guest or pipe", 2);
}
