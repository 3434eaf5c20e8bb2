// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// What is recorded of two e1000e wired to each other: initialization, frames of all sizes and of several buffers over some
// turns of small rings, filters, counters, interrupts asked for, the end. The same for a device and for a model of it.

#include "nm/ports/e1000.hpp"
#include "nm/ports/nic.hpp"
#include "nm/ports/recording_bar.hpp"
#include "nm/ports/sim_e1000.hpp"
#include "support/nic_replay.hpp"
#include "support/nic_rig.hpp"

namespace nm::test {

template <class Port>
void trace_send(Port& from, std::span<const std::byte> frame, std::size_t piece) {
    auto& t = from.tx(0);
    for (std::size_t at = 0; at < frame.size(); at += piece) {
        slot& s = t.slot(t.head());
        const std::size_t n = std::min(piece, frame.size() - at);
        std::memcpy(from.region().buf(s.buf_idx), frame.data() + at, n);
        s.len = static_cast<std::uint16_t>(n);
        s.flags = at + n < frame.size() ? ns_morefrag : std::uint16_t{0};
        t.advance(1);
    }
}
/// Frames that came, without a look at what is in them: the trace has it.
template <class Port>
unsigned trace_receive(Port& to) {
    auto& r = to.rx(0);
    unsigned n = 0;
    r.rxsync();
    for (; r.space() != 0; r.advance(1)) n += (r.slot(r.head()).flags & ns_morefrag) == 0;
    r.rxsync();
    return n;
}

/// Returns what went wrong with the traffic, or nothing.
template <class Bus>
std::string record_e1000e(Bus first, Bus second, recorder& record) {
    using port = nic<e1000, recording_bar<typename Bus::bar_type>>;
    using bus = recording_bus<Bus>;
    const auto shared = std::shared_ptr<recorder>(&record, [](recorder*) {});
    record.trace(true);
    region_options o;
    o.bufs = 160, o.buf_size = 2048, o.meta_bytes = 65536;
    open_options options;
    auto memory = region::create(o);
    if (!memory) return memory.error().text;
    options.memory = *memory;
    options.tx_slots = options.rx_slots = 16;
    options.mtu = 9000;
    options.timestamps = false;
    record.ignore((*memory)->base(), (*memory)->bufs_offset());
    context ctx;
    auto a = port::open_on(ctx, bus(std::move(first), shared), options);
    if (!a) return a.error().text;
    auto b = port::open_on(ctx, bus(std::move(second), shared), options);
    if (!b) return b.error().text;

    unsigned sent = 0, got = 0;
    const auto exchange = [&](auto& from, auto& to, std::size_t size, std::size_t piece, unsigned batch) {
        for (unsigned i = 0; i < batch; ++i) trace_send(from, numbered(sent++, size), piece);
        from.tx(0).txsync();
        got += trace_receive(to);
    };
    for (const std::size_t size : {60U, 64U, 65U, 512U, 1514U, 1518U}) exchange(*a, *b, size, 2048, 3);
    for (unsigned i = 0; i < 6; ++i) exchange(*b, *a, 60, 2048, i + 1);
    for (const std::size_t size : {2047U, 2048U, 2049U, 5000U}) exchange(*a, *b, size, 1500, 1);
    a->arm(events::rx | events::tx);
    b->arm(events::rx | events::tx);
    exchange(*a, *b, 60, 2048, 4);
    exchange(*b, *a, 60, 2048, 4);
    (void)a->device_counters();
    (void)b->device_counters();
    b->set_promiscuous(false);
    const unsigned before = got;
    exchange(*a, *b, 60, 2048, 2);  // to another address
    if (got != before) return "frames came through the filter";
    auto frame = numbered(sent, 60);
    std::fill(frame.begin(), frame.begin() + 6, std::byte{0xff});
    trace_send(*a, frame, 2048);
    const auto to = b->mac();
    std::memcpy(frame.data(), to.data(), to.size());
    trace_send(*a, frame, 2048);
    a->tx(0).txsync();
    sent += 2, got += trace_receive(*b);
    // More than there are buffers for: the rest comes when there are some again.
    b->set_promiscuous(true);
    for (unsigned i = 0; i < 2; ++i) {
        for (unsigned k = 0; k < 12; ++k) trace_send(*a, numbered(sent++, 60), 2048);
        a->tx(0).txsync();
    }
    for (unsigned i = 0; i < 3; ++i) got += trace_receive(*b);
    (void)a->device_counters();
    (void)b->device_counters();
    return got + 2 == sent ? "" : std::to_string(got) + " frames of " + std::to_string(sent) + " came, not all but two";
}

inline std::unique_ptr<sim_device> qemu_e1000e(std::uint16_t device, const std::array<std::uint8_t, 6>& mac) {
    auto m = std::make_unique<sim_e1000>(sim_e1000_options{.device = device, .mac = mac, .qemu = true});
    m->fifo_bytes = 1 << 20;  // QEMU's network keeps what a device has no buffer for
    return m;
}

}  // namespace nm::test
