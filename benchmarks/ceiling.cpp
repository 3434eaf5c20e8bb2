// SPDX-License-Identifier: BSD-2-Clause

// The line-transfer ceiling: what two CPUs can hand over at all when nothing is left but the lines. The producer dirties
// one 64-byte line a packet, the consumer reads it, indexes are published once a batch and cached; no slots, no lengths,
// no buffers that change places. Works: `chase` (both at once, as a channel runs) and `blocks` (in turns: the producer
// dirties a block, then the consumer pulls it, so that neither disturbs the other).
//
// --mode STRIDE[,PREFETCH] lays the lines out as a channel of that buffer stride would.

#include <memory>
#include <sys/mman.h>

#include "sample.hpp"

namespace {

struct alignas(128) index_line {
    std::atomic<std::uint64_t> value{0};
};

struct lines {
    explicit lines(const bench::options& o) : count(o.slots) {
        if (!o.mode.empty() && std::sscanf(o.mode.c_str(), "%zu,%zu", &stride, &prefetch) < 1)
            bench::die("--mode wants STRIDE[,PREFETCH]", 2);
        void* p = mmap(nullptr, count * stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (p == MAP_FAILED) bench::die("no memory for the lines");
        base = static_cast<std::byte*>(p);
    }
    std::byte* at(std::uint64_t i) const noexcept { return base + (i & (count - 1)) * stride; }

    std::size_t count, stride = 2112, prefetch = 8;
    std::byte* base = nullptr;
    index_line produced, consumed;
};

bench::measured chase(const bench::options& o, lines& l) {
    const std::uint64_t batch = o.batch;
    struct alignas(256) side {
        std::uint64_t at = 0, seen = 0, sum = 0;
    } producer, consumer;
    const auto produce = [&]() noexcept -> std::uint64_t {
        if (producer.at + batch - producer.seen > l.count) {
            producer.seen = l.consumed.value.load(std::memory_order_acquire);
            if (producer.at + batch - producer.seen > l.count) return 0;
        }
        for (std::uint64_t i = producer.at; i < producer.at + batch; ++i) {
            __builtin_prefetch(l.at(i + l.prefetch), 1);
            bench::fill_frame(l.at(i), i);
        }
        producer.at += batch;
        l.produced.value.store(producer.at, std::memory_order_release);
        return batch;
    };
    const auto consume = [&]() noexcept -> std::uint64_t {
        if (consumer.seen - consumer.at < batch) {
            consumer.seen = l.produced.value.load(std::memory_order_acquire);
            if (consumer.seen - consumer.at < batch) return 0;
        }
        for (std::uint64_t i = consumer.at; i < consumer.at + batch; ++i) {
            __builtin_prefetch(l.at(i + l.prefetch), 0);
            consumer.sum += bench::read_frame(l.at(i));
        }
        consumer.at += batch;
        l.consumed.value.store(consumer.at, std::memory_order_release);
        return batch;
    };
    const bench::measured rate = bench::channel_rate(o, produce, consume);
    if (consumer.sum != bench::expected_sum(consumer.at)) bench::die("the lines that arrived are not the lines that left");
    return rate;
}

/// Lines a second while the consumer pulls, the producer's own time left out.
bench::measured blocks(const bench::options& o, lines& l) {
    std::atomic<bool> stop{false};
    std::uint64_t sum = 0, packets = 0;
    double busy = 0;
    std::thread producer([&] {
        bench::pin(o.cpu_a);
        for (std::uint64_t round = 0; !stop.load(std::memory_order_relaxed);) {
            if (l.consumed.value.load(std::memory_order_acquire) != round) continue;
            for (std::uint64_t i = 0; i < l.count; ++i) bench::fill_frame(l.at(i), i);
            l.produced.value.store(++round, std::memory_order_release);
        }
    });
    bench::pin(o.cpu_b);
    const double end = bench::now() + o.warm_up + o.seconds;
    for (std::uint64_t round = 1; bench::now() < end; ++round) {
        while (l.produced.value.load(std::memory_order_acquire) != round) {}
        const double start = bench::now();
        for (std::uint64_t i = 0; i < l.count; ++i) {
            __builtin_prefetch(l.at(i + l.prefetch), 0);
            sum += bench::read_frame(l.at(i));
        }
        busy += bench::now() - start;
        packets += l.count;
        l.consumed.value.store(round, std::memory_order_release);
    }
    stop = true;
    producer.join();
    if (sum == 0) bench::die("no line arrived");
    return {static_cast<double>(packets) / busy, false};
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.work.empty()) o.work = "chase";
    const double pingpong = bench::pingpong_ns(o);
    lines l(o);
    const bench::measured rate = o.work == "blocks" ? blocks(o, l) : chase(o, l);
    bench::report_two(o, "ceiling", rate, pingpong, "stride " + std::to_string(l.stride));
}
