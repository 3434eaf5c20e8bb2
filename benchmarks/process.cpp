// SPDX-License-Identifier: BSD-2-Clause

// nm between two processes: a pipe whose ends they open by name. Works:
//   frames  nm::generate fills 60 bytes in one process, nm::drain reads 60 bytes in the other
//   slots   nothing but slots

#include <nm/fuse.hpp>
#include <nm/ports/shared_pipe.hpp>

#include <filesystem>
#include <memory>

#include "sample.hpp"

namespace {

/// One end, opened in the process that uses it.
struct end {
    end(const char* name, const bench::options& o) {
        nm::open_options options;
        options.tx_slots = options.rx_slots = o.slots;
        auto opened = nm::try_open<nm::shared_pipe>(context, name, options);
        if (!opened) bench::die(opened.error().text);
        port = std::make_unique<nm::shared_pipe>(std::move(*opened));
    }
    nm::context context;
    std::unique_ptr<nm::shared_pipe> port;
};

bench::measured frames(const bench::options& o, bool looks) {
    bench::tally received;
    const auto produce = [&] {
        return [&, looks, e = std::make_shared<end>("netmap:bench{1", o), sent = std::uint64_t{0}]() mutable noexcept -> std::uint64_t {
            if (!looks) return nm::generate(e->port->tx(), o.batch, [](nm::slot& s) noexcept { s.len = bench::frame_bytes; });
            return nm::generate(e->port->tx(), o.batch, [&](nm::frame& f) noexcept {
                bench::fill_frame(f.data(), sent++);
                f.resize(bench::frame_bytes);
            });
        };
    };
    const auto consume = [&] {
        return [&, looks, e = std::make_shared<end>("netmap:bench}1", o)]() noexcept -> std::uint64_t {
            const auto n = looks ? nm::drain(e->port->rx(), o.batch, [&](nm::frame& f) noexcept { received.sum += bench::read_frame(f.data()); })
                                 : nm::drain(e->port->rx(), o.batch, [&](nm::slot& s) noexcept { received.sum += s.len; });
            received.packets += n;
            return n;
        };
    };
    const bench::measured rate = bench::process_rate(o, produce, consume);
    if (received.sum != (looks ? bench::expected_sum(received.packets) : received.packets * bench::frame_bytes)) bench::die("frames were lost or repeated");
    return rate;
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.work.empty()) o.work = "frames";
    std::string dir = (std::filesystem::temp_directory_path() / "nm-bench-XXXXXX").string();
    if (::mkdtemp(dir.data()) == nullptr || ::setenv("NM_RUNTIME_DIR", (dir + "/run").c_str(), 1) != 0) bench::die("no place for a socket");
    const double pingpong = bench::pingpong_ns(o);
    const bench::measured rate = frames(o, o.work == "frames");
    bench::remove_folder(dir);
    bench::report_two(o, "nm", rate, pingpong);
}
