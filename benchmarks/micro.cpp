// SPDX-License-Identifier: BSD-2-Clause

// One thread, no peers: what each operation costs alone, for finding out why a figure of compare changed.

#include <benchmark/benchmark.h>
#include <nm/nm.hpp>

#include "sample.hpp"

namespace {

struct two_pipes {
    explicit two_pipes(bool one_region) {
        nm::open_options first, second;
        if (one_region) {
            auto made = nm::region::create({.bufs = 16384, .meta_bytes = 1 << 20});
            if (!made) bench::die(made.error().text);
            first.memory = second.memory = *made;
        }
        ports.reserve(4);
        ports.push_back(nm::open<nm::pipe>(context, "netmap:bench{1", first));
        ports.push_back(nm::open<nm::pipe>(context, "netmap:bench}1", first));
        ports.push_back(nm::open<nm::pipe>(context, "netmap:other{2", second));
        ports.push_back(nm::open<nm::pipe>(context, "netmap:other}2", second));
    }
    nm::context context;
    std::vector<nm::pipe> ports;
};

const auto fill = [](nm::frame& f) noexcept {
    bench::fill_frame(f.data(), 1);
    f.resize(bench::frame_bytes);
};

void packets(benchmark::State& state, std::uint64_t n) { state.SetItemsProcessed(static_cast<std::int64_t>(n)); }

/// generate and drain, the same thread at both ends.
void pipe_frames(benchmark::State& state) {
    two_pipes p(false);
    const auto batch = static_cast<nm::index_t>(state.range(0));
    std::uint64_t n = 0, sum = 0;
    for (auto _ : state) {
        nm::generate(p.ports[0].tx(), batch, fill);
        n += nm::drain(p.ports[1].rx(), batch, [&](nm::frame& f) noexcept { sum += bench::read_frame(f.data()); });
    }
    benchmark::DoNotOptimize(sum);
    packets(state, n);
}
BENCHMARK(pipe_frames)->Arg(1)->Arg(8)->Arg(64)->Arg(256);

/// The same in netmap's own words: a loop of the user's between two syncs.
void pipe_frames_by_sync(benchmark::State& state) {
    two_pipes p(false);
    const auto batch = static_cast<nm::index_t>(state.range(0));
    auto& tx = p.ports[0].tx();
    auto& rx = p.ports[1].rx();
    std::uint64_t n = 0, sum = 0;
    for (auto _ : state) {
        for (nm::index_t i = 0; i < batch && !tx.empty(); ++i) {
            bench::fill_frame(tx.buf(), 1);
            tx.slot().len = bench::frame_bytes;
            tx.advance();
        }
        tx.txsync();
        rx.rxsync();
        for (; !rx.empty(); rx.advance(), ++n) sum += bench::read_frame(rx.buf());
    }
    benchmark::DoNotOptimize(sum);
    packets(state, n);
}
BENCHMARK(pipe_frames_by_sync)->Arg(1)->Arg(8)->Arg(64)->Arg(256);

/// forward between two pipes: swapped within a region, copied between two.
void forward_pipes(benchmark::State& state) {
    two_pipes p(state.range(1) != 0);
    const auto batch = static_cast<nm::index_t>(state.range(0));
    std::uint64_t n = 0;
    for (auto _ : state) {
        nm::generate(p.ports[0].tx(), batch, [](nm::slot& s) noexcept { s.len = bench::frame_bytes; });
        n += nm::forward(p.ports[1].rx(), p.ports[2].tx(), batch);
        nm::drain(p.ports[3].rx(), batch);
    }
    packets(state, n);
}
BENCHMARK(forward_pipes)->ArgNames({"batch", "swap"})->ArgsProduct({{1, 64, 256}, {0, 1}});

void copy_frame(benchmark::State& state) {
    alignas(64) static std::array<std::byte, 2112> from{}, to{};
    const auto len = static_cast<std::uint16_t>(state.range(0));
    for (auto _ : state) {
        nm::copy_frame(to.data(), from.data(), len);
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * len);
}
BENCHMARK(copy_frame)->Arg(60)->Arg(128)->Arg(512)->Arg(1514)->Arg(2048);

void ring_sync_idle(benchmark::State& state) {
    two_pipes p(false);
    for (auto _ : state) {
        p.ports[0].tx().txsync();
        p.ports[1].rx().rxsync();
    }
}
BENCHMARK(ring_sync_idle);

}  // namespace
