// SPDX-License-Identifier: BSD-2-Clause

// nm's channel: a pipe between two pinned threads. Works:
//   frames  nm::generate fills 60 bytes, nm::drain reads 60 bytes
//   slots     nothing but slots, of 60-byte frames: what lies in a slot already is not written again
//   changing  slots of another length than the last time round, so that every slot is written

#include <nm/nm.hpp>
#include <optional>

#include "sample.hpp"

namespace {

struct ends {
    explicit ends(const bench::options& o) {
        nm::open_options options;
        options.tx_slots = options.rx_slots = o.slots;
        a = nm::open<nm::pipe>(context, "netmap:bench{1", options);
        b = nm::open<nm::pipe>(context, "netmap:bench}1", options);
    }
    nm::pipe& sender() { return *a; }
    nm::pipe& receiver() { return *b; }

    nm::context context;
    std::optional<nm::pipe> a, b;
};

bench::measured frames(const bench::options& o) {
    ends p(o);
    bench::tally sent, received;
    const bench::measured rate = bench::channel_rate(
        o,
        [&, &ring = p.sender().tx()]() noexcept -> std::uint64_t {
            return nm::generate(ring, o.batch, [&](nm::frame& f) noexcept {
                bench::fill_frame(f.data(), sent.packets++);
                f.resize(bench::frame_bytes);
            });
        },
        [&, &ring = p.receiver().rx()]() noexcept -> std::uint64_t {
            const auto n = nm::drain(ring, o.batch, [&](nm::frame& f) noexcept { received.sum += bench::read_frame(f.data()); });
            received.packets += n;
            return n;
        });
    if (received.sum != bench::expected_sum(received.packets)) bench::die("frames were lost or repeated");
    return rate;
}

template <bool Changing>
bench::measured slots(const bench::options& o) {
    ends p(o);
    bench::tally sent, received;
    const bench::measured rate = bench::channel_rate(
        o,
        [&, &ring = p.sender().tx()]() noexcept -> std::uint64_t {
            return nm::generate(ring, o.batch, [&](nm::slot& s) noexcept {
                if constexpr (Changing) s.len = bench::slot_length(sent.packets++);
                else s.len = bench::frame_bytes;
            });
        },
        [&, &ring = p.receiver().rx()]() noexcept -> std::uint64_t {
            const auto n = nm::drain(ring, o.batch, [&](nm::slot& s) noexcept { received.sum += s.len; });
            received.packets += n;
            return n;
        });
    const auto expected = Changing ? bench::expected_lengths(received.packets) : received.packets * bench::frame_bytes;
    if (received.sum != expected) bench::die("slots were lost or repeated");
    return rate;
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.work.empty()) o.work = "frames";
    const double pingpong = bench::pingpong_ns(o);
    const bench::measured rate = o.work == "slots" ? slots<false>(o) : o.work == "changing" ? slots<true>(o) : frames(o);
    bench::report_two(o, "nm", rate, pingpong);
}
