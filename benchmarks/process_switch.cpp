// SPDX-License-Identifier: BSD-2-Clause

// nm's VALE between three processes: one fills 60 bytes and sends, nm-host switches, one reads 60 bytes. The two sleep when they
// have nothing to do, as the host does: three of them need not have three CPUs. The rate is the receiver's; what the switch drops
// because the receiver is full does not count, and is said.

#include <nm/fuse.hpp>
#include <nm/ptnet/process.hpp>
#include <nm/wait.hpp>

#include <filesystem>
#include <sys/wait.h>

#include "boundary.hpp"

namespace {

using namespace std::chrono_literals;

nm::process_port open(nm::context& c, const char* name) {
    auto port = nm::try_open<nm::process_port>(c, name);
    if (!port) bench::die(port.error().text);
    return std::move(*port);
}

[[noreturn]] void send_for_ever(const bench::options& o) {
    nm::context context;
    auto port = open(context, "vale9:a");
    std::uint64_t sent = 0;
    for (;;)
        if (nm::generate(port.tx(), o.batch, [&](nm::frame& f) noexcept {
                bench::fill_ethernet(f.data(), sent++);
                f.resize(bench::frame_bytes);
            }) == 0)
            (void)nm::wait(port, nm::events::tx, 100ms);
}

}  // namespace

int main(int argc, char** argv) {
    const auto o = bench::parse(argc, argv);
    std::string dir = (std::filesystem::temp_directory_path() / "nm-bench-XXXXXX").string();
    if (::mkdtemp(dir.data()) == nullptr || ::setenv("NM_RUNTIME_DIR", (dir + "/run").c_str(), 1) != 0) bench::die("no place for a socket");
    bench::flow flow;
    bool repeated = false;
    {
        nm::context context;
        auto port = open(context, "vale9:b");
        const pid_t child = ::fork();
        if (child < 0) bench::die("cannot make a process");
        if (child == 0) send_for_ever(o);
        const double rate = bench::guest_rate(o, [&]() noexcept -> std::uint64_t {
            const auto n = nm::drain(port.rx(), o.batch, [&](nm::frame& f) noexcept {
                repeated |= bench::argument_of(f.data()) < flow.awaited;
                flow.read(f.data());
            });
            if (n == 0) (void)nm::wait(port, nm::events::rx, 100ms);
            return n;
        });
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        if (flow.received == 0 || repeated) bench::die(repeated ? "frames were repeated or changed places" : "nothing arrived");
        const double lost = 1 - static_cast<double>(flow.received) / static_cast<double>(flow.awaited);
        std::array<char, 64> note{};
        std::snprintf(note.data(), note.size(), "%.0f %% did not fit into the receiver's ring", 100 * lost);
        bench::report_one(o, "nm", {rate, false}, note.data());
    }
    bench::remove_folder(dir);
}
