// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What every sample program shares, nm's and the peers' alike, so that a ratio compares two channels and not two ways of
// measuring: pinned threads, the placement probe, the frame that is filled and read, the timed loop, one JSON line.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <pthread.h>
#include <sched.h>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <sys/wait.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace bench {

inline constexpr std::size_t line_bytes = 64;
inline constexpr std::size_t frame_bytes = 60;
inline constexpr double sibling_limit_ns = 40, near_limit_ns = 120;

struct options {
    std::string work;         ///< which of the program's works to sample
    std::string mode;         ///< nm's kernel interfaces: the mode to require
    std::string a, b;         ///< interface names, where a work needs them
    unsigned batch = 64;
    unsigned slots = 1024;
    unsigned ports = 1;       ///< of a switch: those that receive
    unsigned stations = 1;    ///< behind them, and as many behind the port that sends
    double seconds = 0.2;
    double warm_up = 0.05;
    std::uint64_t packets = 0;  ///< instead of a time: for counting instructions
    int cpu_a = 0, cpu_b = 1;
};

[[noreturn]] inline void die(const std::string& text, int code = 1) {
    std::fprintf(stderr, "%s\n", text.c_str());
    std::exit(code);
}

/// Others may be removing from it too: a host that leaves takes its own files along.
inline void remove_folder(const std::string& folder) {
    std::error_code racing;
    for (int tries = 0; tries < 1000 && std::filesystem::exists(folder, racing); ++tries) {
        std::filesystem::remove_all(folder, racing);
        if (racing) ::usleep(1000);
    }
}

inline options parse(int argc, char** argv) {
    options o;
    for (int i = 1; i < argc; ++i) {
        const std::string_view name = argv[i];
        if (i + 1 == argc) die(std::string(name) + " wants a value", 2);
        const char* value = argv[++i];
        const auto number = [&] { return static_cast<unsigned>(std::strtoul(value, nullptr, 10)); };
        if (name == "--work") o.work = value;
        else if (name == "--mode") o.mode = value;
        else if (name == "--a") o.a = value;
        else if (name == "--b") o.b = value;
        else if (name == "--batch") o.batch = number();
        else if (name == "--slots") o.slots = number();
        else if (name == "--ports") o.ports = number();
        else if (name == "--stations") o.stations = number();
        else if (name == "--seconds") o.seconds = std::strtod(value, nullptr);
        else if (name == "--packets") o.packets = std::strtoull(value, nullptr, 10);
        else if (name == "--cpus") {
            if (std::sscanf(value, "%d,%d", &o.cpu_a, &o.cpu_b) != 2) die("--cpus wants two numbers: 0,1", 2);
        } else die("unknown option " + std::string(name), 2);
    }
    if (o.batch == 0 || o.batch > 1024) die("--batch must be 1 to 1024", 2);
    if (o.ports == 0 || o.ports > 253) die("--ports must be 1 to 253", 2);
    if (o.stations == 0 || o.stations > 1'000'000) die("--stations must be 1 to 1000000", 2);
    return o;
}

inline void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(cpu), &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0)
        die("cannot pin a thread to CPU " + std::to_string(cpu) + ": two CPUs are needed, name them with --cpus A,B");
}

inline double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline void relax() noexcept { __builtin_ia32_pause(); }

/// One-way cost of handing a cache line to the other CPU and the only honest way to say where the hypervisor has put the
/// two: median of blocks, since a block in which a thread was preempted says nothing.
inline double pingpong_ns(const options& o) {
    constexpr unsigned blocks = 21, rounds = 1000;
    struct alignas(128) cell {
        std::atomic<std::uint32_t> turn{0};
    } shared;
    std::thread peer([&] {
        pin(o.cpu_b);
        for (std::uint32_t i = 0; i < blocks * rounds; ++i) {
            while (shared.turn.load(std::memory_order_acquire) != 2 * i + 1) {}
            shared.turn.store(2 * i + 2, std::memory_order_release);
        }
    });
    pin(o.cpu_a);
    std::array<double, blocks> ns{};
    std::uint32_t i = 0;
    for (double& block : ns) {
        const double start = now();
        for (unsigned r = 0; r < rounds; ++r, ++i) {
            shared.turn.store(2 * i + 1, std::memory_order_release);
            while (shared.turn.load(std::memory_order_acquire) != 2 * i + 2) {}
        }
        block = (now() - start) * 1e9 / (2.0 * rounds);
    }
    peer.join();
    std::nth_element(ns.begin(), ns.begin() + blocks / 2, ns.end());
    return ns[blocks / 2];
}

/// All 60 bytes are written: a sequence number and a constant tail.
[[gnu::always_inline]] inline void fill_frame(void* data, std::uint64_t sequence) noexcept {
    static constexpr std::array<std::uint64_t, 8> tail{1, 2, 3, 4, 5, 6, 7, 8};
    std::memcpy(data, &sequence, 8);
    std::memcpy(static_cast<char*>(data) + 8, tail.data(), frame_bytes - 8);
}

/// All 60 bytes are read; returns their sum by words.
[[gnu::always_inline]] inline std::uint64_t read_frame(const void* data) noexcept {
    std::array<std::uint64_t, 7> words{};
    std::uint32_t last = 0;
    std::memcpy(words.data(), data, 56);
    std::memcpy(&last, static_cast<const char*>(data) + 56, 4);
    std::uint64_t sum = last;
    for (const auto w : words) sum += w;
    return sum;
}

/// What read_frame must have added up to over `frames` frames that arrived whole, each once: a channel that is fast
/// because it loses or repeats something is found out.
inline std::uint64_t expected_sum(std::uint64_t frames) noexcept {
    const std::uint64_t sequences = frames % 2 == 0 ? frames / 2 * (frames - 1) : (frames - 1) / 2 * frames;
    return sequences + frames * (1 + 2 + 3 + 4 + 5 + 6 + 7);
}

/// Lengths of the works that move slots only: in rings of 1024 each slot has another one every time round. With the same
/// length again, a channel that compares before it writes would have nothing to hand over but an index.
[[gnu::always_inline]] inline std::uint16_t slot_length(std::uint64_t sequence) noexcept {
    return static_cast<std::uint16_t>(frame_bytes + ((sequence + (sequence >> 10)) & 0xff));
}
inline std::uint64_t expected_lengths(std::uint64_t slots) noexcept {
    std::uint64_t sum = 0;
    for (std::uint64_t i = slots & ~std::uint64_t{0x3ffff}; i < slots; ++i) sum += slot_length(i);
    const std::uint64_t rounds = slots >> 18;  // after 2^18 slots the lengths repeat
    for (std::uint64_t i = 0; i < 0x40000; ++i) sum += rounds * slot_length(i);
    return sum;
}

/// What one of the two threads counts, on lines of its own: side by side on a stack the two would share one.
struct alignas(256) tally {
    std::uint64_t packets = 0, sum = 0;
};

inline double cpu_seconds() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

/// A rate, and whether the program had its CPUs to itself while it was taken.
struct measured {
    double rate = 0;
    bool disturbed = false;
};

/// The timed part of one thread: `step()` returns the packets it moved. The clock is read once in a few thousand packets.
/// The rate is the median of ten slices in which the program's `threads` threads, which never sleep, had all of their
/// CPUs' time; on a busy machine there may be too few of them, and the sample says so.
template <class Step, class Cpu = double (*)()>
measured timed_rate(const options& o, unsigned threads, Step&& step, Cpu cpu_seconds = bench::cpu_seconds) {
    constexpr std::size_t wanted = 10;
    const auto run_for = [&](double seconds) {
        const double start = now(), cpu = cpu_seconds();
        double t = start;
        std::uint64_t packets = 0;
        do {
            std::uint64_t chunk = 0;
            for (unsigned idle = 0; chunk < 4096 && idle < 4096;) {
                const std::uint64_t n = step();
                chunk += n;
                if (n == 0) ++idle, relax();
            }
            packets += chunk;
            t = now();
        } while (t - start < seconds);
        return std::pair{static_cast<double>(packets) / (t - start), (cpu_seconds() - cpu) / (t - start)};
    };
    run_for(o.warm_up);
    std::vector<double> clean, all;
    while (clean.size() < wanted && all.size() < 3 * wanted) {
        const auto [rate, cpus] = run_for(o.seconds / static_cast<double>(wanted));
        all.push_back(rate);
        if (cpus > 0.98 * threads) clean.push_back(rate);
    }
    const bool disturbed = clean.size() < wanted / 2;
    auto& rates = disturbed ? all : clean;
    std::sort(rates.begin(), rates.end());
    return {rates[rates.size() / 2], disturbed};
}

/// Producer and consumer on two pinned threads; the rate is the consumer's. `enter()` lets DPDK register the thread. The
/// producer works with a copy of its step on its own stack: beside the consumer's locals it would share a line with them.
template <class Produce, class Consume, class Enter>
measured channel_rate(const options& o, const Produce& produce, const Consume& consume, Enter enter) {
    alignas(128) std::atomic<bool> stop{false};
    std::thread producer([&stop, produce, enter, cpu = o.cpu_a] {
        pin(cpu);
        enter();
        const Produce step = produce;
        while (!stop.load(std::memory_order_relaxed))
            if (step() == 0) relax();
    });
    pin(o.cpu_b);
    enter();
    const measured rate = timed_rate(o, 2, consume);
    stop.store(true, std::memory_order_relaxed);
    producer.join();
    return rate;
}

template <class Produce, class Consume>
measured channel_rate(const options& o, const Produce& produce, const Consume& consume) {
    return channel_rate(o, produce, consume, [] {});
}

/// Producer and consumer in two processes. Each makes its own step, after the fork: `produce()` and `consume()` return one. The
/// consumer's process goes on.
template <class Produce, class Consume>
measured process_rate(const options& o, Produce&& produce, Consume&& consume) {
    struct shared_words {
        std::atomic<bool> stop{false};
    };
    auto* words = new (::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) shared_words;
    const pid_t child = ::fork();
    if (child < 0) die("cannot make a process");
    if (child == 0) {
        pin(o.cpu_a);
        auto step = produce();
        while (!words->stop.load(std::memory_order_relaxed))
            if (step() == 0) relax();
        std::_Exit(0);
    }
    pin(o.cpu_b);
    clockid_t clock{};
    if (clock_getcpuclockid(child, &clock) != 0) die("the producer has gone");
    measured rate;
    {
        auto step = consume();
        for (const double start = now(); step() == 0;)
            if (now() - start > 10) die("nothing comes from the producer");
        rate = timed_rate(o, 2, step, [clock] {
            timespec t{};
            clock_gettime(clock, &t);
            return cpu_seconds() + static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
        });
        words->stop.store(true, std::memory_order_relaxed);
        int status = 0;
        for (const double start = now(); ::waitpid(child, &status, WNOHANG) == 0;) {
            (void)step();  // who waits for room must not wait for ever
            if (now() - start > 2) ::kill(child, SIGKILL);
        }
    }
    ::munmap(words, 4096);
    return rate;
}

/// Where the hypervisor has the two CPUs. Siblings (two threads of one core) share their caches, and nothing measured
/// there may be mixed with the others.
inline const char* placement_name(double pingpong) {
    return pingpong <= sibling_limit_ns ? "sibling" : pingpong <= near_limit_ns ? "near" : "far";
}

/// One sample, one line. The placement is that of the ping-pong just before; if the one just after disagrees the CPUs
/// were moved under the sample, and it belongs to neither.
inline void report_two(const options& o, const char* peer, measured m, double before, const std::string& note = {}) {
    const double after = pingpong_ns(o);
    const std::string_view was = placement_name(before), is = placement_name(after);
    const char* placement = m.disturbed ? "disturbed" : was == is ? was.data() : "moved";
    std::printf(R"({"work":"%s","peer":"%s","batch":%u,"rate":%.6g,"placement":"%s","pingpong_ns":%.1f,"after_ns":%.1f,"note":"%s"})"
                "\n",
                o.work.c_str(), peer, o.batch, m.rate, placement, before, after, note.c_str());
}

/// The same for works of a single thread, which have no placement.
inline void report_one(const options& o, const char* peer, measured m, const std::string& note = {}) {
    std::printf(R"({"work":"%s","peer":"%s","batch":%u,"rate":%.6g,"placement":"%s","pingpong_ns":null,"note":"%s"})"
                "\n",
                o.work.c_str(), peer, o.batch, m.rate, m.disturbed ? "disturbed" : "one-cpu", note.c_str());
}

}  // namespace bench
