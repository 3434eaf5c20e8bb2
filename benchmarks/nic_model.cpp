// SPDX-License-Identifier: BSD-2-Clause

// nm::forward from NIC to NIC, for callgrind: what the driver costs when the device costs nothing. --work e1000 or ixgbe,
// --batch N, --packets N. The devices are models, which do their part outside measured(): what is written to a tail register in
// it is stored, as it would be on a mapped BAR, and shown to the model afterwards. --mode time reports packets per second of
// measured() instead, with everything in the nearest cache.

#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include <nm/nm.hpp>
#include <nm/ports/e1000.hpp>
#include <nm/ports/ixgbe.hpp>
#include <nm/ports/nic.hpp>
#include <nm/ports/sim_bus.hpp>
#include <nm/ports/sim_e1000.hpp>
#include <nm/ports/sim_ixgbe.hpp>

#include "sample.hpp"

namespace {

struct registers {
    nm::sim_device* device;
    std::vector<std::byte> stored;
    bool live = true;
};
class bench_bus;

/// A model's registers, or plain memory while the driver is measured.
class bench_bar {
public:
    using bus = bench_bus;
    bench_bar() = default;
    explicit bench_bar(registers& r) noexcept : registers_(&r), at_(r.stored.data()) {}
    template <class Word>
    [[nodiscard]] Word read(std::size_t at) const noexcept { return nm::sim_bar(*registers_->device).read<Word>(at); }
    template <class Word>
    [[gnu::always_inline]] void write(std::size_t at, Word value) const noexcept {
        if (registers_->live) [[unlikely]]
            return nm::sim_bar(*registers_->device).write<Word>(at, value);
        *reinterpret_cast<volatile Word*>(at_ + at) = value;
    }
    [[nodiscard]] std::size_t size() const noexcept { return registers_->stored.size(); }

private:
    registers* registers_ = nullptr;
    std::byte* at_ = nullptr;
};

class bench_bus : public nm::sim_bus {
public:
    using bar_type = bench_bar;
    explicit bench_bus(registers& r) noexcept : sim_bus(*r.device), registers_(&r) {}
    [[nodiscard]] nm::result<bench_bar> bar(unsigned) { return bench_bar(*registers_); }

private:
    registers* registers_;
};

/// What was stored in a tail register is the device's now.
void show(registers& r, std::size_t tail) {
    std::uint32_t value = 0;
    std::memcpy(&value, r.stored.data() + tail, sizeof value);
    r.device->write(tail, value);
}

/// callgrind collects from here to its return (--toggle-collect).
template <class Rx, class Tx>
[[gnu::noinline]] nm::index_t measured(Rx& rx, Tx& tx, nm::index_t batch) noexcept {
    return nm::forward(rx, tx, batch);
}

template <class Device, class Model>
void run(const bench::options& o, std::size_t rx_tail, std::size_t tx_tail) {
    using port = nm::nic<Device, bench_bar>;
    using clock = std::chrono::steady_clock;
    Model in, out;
    in.name = "0000:01:00.0", out.name = "0000:02:00.0";
    std::uint64_t sent = 0, passed = 0;
    out.out = [&sent](std::span<const std::byte>) { ++sent; };
    registers in_registers{&in, std::vector<std::byte>(in.bar_size)}, out_registers{&out, std::vector<std::byte>(out.bar_size)};
    const auto memory = nm::region::create({.bufs = 8192, .buf_size = 2048, .meta_bytes = 1 << 20});
    if (!memory) bench::die(memory.error().text);
    nm::open_options options;
    options.memory = *memory;  // one region: buffers swap
    options.timestamps = false;
    options.tx_slots = options.rx_slots = 512;
    nm::context context;
    auto a = port::open_on(context, bench_bus(in_registers), options);
    if (!a) bench::die(a.error().text);
    auto b = port::open_on(context, bench_bus(out_registers), options);
    if (!b) bench::die(b.error().text);

    std::array<std::byte, bench::frame_bytes> frame{};
    frame[0] = std::byte{2};
    clock::duration spent{};
    while (passed < o.packets) {
        for (unsigned i = 0; i < o.batch; ++i) in.receive(frame);
        in_registers.live = out_registers.live = false;
        const auto begin = clock::now();
        const nm::index_t n = measured(a->rx(0), b->tx(0), o.batch);
        spent += clock::now() - begin;
        in_registers.live = out_registers.live = true;
        if (n != o.batch) bench::die("only " + std::to_string(n) + " frames were forwarded");
        passed += n;
        show(in_registers, rx_tail);
        show(out_registers, tx_tail);
    }
    if (sent != passed || in.dma.faults + out.dma.faults != 0) bench::die("frames were lost");
    const double seconds = std::chrono::duration<double>(spent).count();
    bench::report_one(o, "nm", {o.mode == "time" ? static_cast<double>(passed) / seconds : static_cast<double>(passed), false});
}

}  // namespace

int main(int argc, char** argv) {
    auto o = bench::parse(argc, argv);
    if (o.packets == 0) o.packets = 65536;
    if (o.batch > 256) bench::die("--batch must be 1 to 256", 2);
    if (o.work == "e1000") run<nm::e1000, nm::sim_e1000>(o, 0x2818, 0x3818);
    else if (o.work == "ixgbe") run<nm::ixgbe, nm::sim_ixgbe>(o, 0x1018, 0x6018);
    else bench::die("--work e1000 or ixgbe", 2);
}
